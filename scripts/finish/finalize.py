"""Step 4: the source's tables become read-only, replication ends, nothing of ours is left behind."""

from __future__ import annotations

from typing import Any, Literal

from psycopg import sql

from scripts.database import catalog
from scripts.database import helper_schema as catalog_state
from scripts.database.connections import Connection, connect, domain_errors
from scripts.finish import abandon
from scripts.finish import rights as finalize_rights
from scripts.finish.documents import Finalization, Privileges, TableRows
from scripts.replication import engine as replicate_engine
from scripts.replication import fence
from scripts.support.errors import DataDiffer, Refused
from scripts.support.events import FinalizeEvent, Step
from scripts.support.settings import Settings
from scripts.verify import run as verify

#: Kept on the target once both sides were equal with the source read-only: from there only removal is left.
STATE = "finalize"


def run(settings: Settings, dry_run: bool = False, timeout: float = 60.0) -> Finalization:
    """Verify, revoke writes on the source, bring the last ones over, verify, stop, confirm, remove replication.

    The plan stops replication first and revokes then; a write of the monolith in between would be in no database but the
    old one, so the order is turned round: after the revoke nothing of the monolith can come any more, a fence brings over
    what had, and only then replication stops. That nothing came later, from whomever, is confirmed by reading the rest of the
    slot before it is dropped. Past the revoke a failure never gives the rights back: run it again, it goes on from where
    it was.

    Raises:
        Refused: replication does not run both ways, the role cannot be made read-only, or another role wrote at the end.
        DataDiffer: the sides differ; nothing was removed.
        TimedOut: a fence did not come through, or a writer did not end.
    """
    config = settings.config
    engine = replicate_engine.of(settings)
    with domain_errors("finalize"), connect(settings.source(), step="finalize", lock_timeout_ms=1000) as source:
        tables = catalog.read(source, config.db_schema, config.tables, "source")
        warnings = finalize_rights.check_role(source, config, tables)
        statements = _statements(tables, config.source_role)
        before = finalize_rights.privileges(source, config.source_role, tables)
        read_only = not any(entry.writes for entry in before)
        if read_only and _verified(settings):
            return _end(settings, engine, statements, before, warnings, dry_run)
        if not fence.available(settings):
            left = abandon.leftovers(settings)
            if read_only and not left:
                return _document("already-finalized", statements, before, [], [], warnings)
            raise Refused(
                "replication does not run both ways, so nothing proves that the target has every write; "
                "run `task-migration replicate start`, then finalize again"
            )
        finalize_rights.try_revoke(source, config.source_role, tables, statements)
        _equal(settings, "before the revoke; nothing was changed")
        if dry_run:
            return _document("dry-run", statements, before, [], abandon.leftovers(settings), warnings)
        settings.journal.record(Step.FINALIZE, FinalizeEvent.REVOKING, role=config.source_role)
        with source.transaction():
            for statement in statements:
                source.execute(statement)
        after = finalize_rights.privileges(source, config.source_role, tables)
        # A statement that had begun before the revoke goes on; a lock that waits for writers shows when the last has ended.
        catalog_state.with_lock_retries(
            lambda: _wait_for_writers(source, tables), "the monolith's last writes", timeout
        )
    fence.both(settings, timeout)
    rows = _equal(settings, "after the revoke; writes stay revoked and replication goes on")
    kept = [entry.plain() for entry in rows]
    _mark(settings, {"status": "verified", "rows": kept})
    settings.journal.record(Step.FINALIZE, FinalizeEvent.VERIFIED, rows=kept)
    return _end(settings, engine, statements, after, warnings, dry_run)


def _end(
    settings: Settings,
    engine: replicate_engine.Engine,
    statements: list[sql.Composed],
    rights: list[Privileges],
    warnings: list[str],
    dry_run: bool,
) -> Finalization:
    """Stop, confirm, remove, prove; begun anew after a kill anywhere in it."""
    mark = _verified(settings) or {}
    rows = [TableRows.model_validate(entry) for entry in mark.get("rows", [])]
    removed = abandon.leftovers(settings)
    if dry_run:
        return _document("dry-run", statements, rights, rows, removed, warnings)
    engine.stop(settings, timeout=30.0)
    late = engine.unapplied(settings, "forward")
    if late:
        # Nothing is lost: the slot has those writes. The monolith stays without its rights.
        _mark(settings, None)
        engine.start(settings)
        raise Refused(
            f"{', '.join(late)}: written on the source after the last comparison, by another role than {settings.config.source_role}; "
            "replication goes on and nothing was removed. Find who writes (SELECT usename, query FROM pg_stat_activity), revoke "
            "that, then finalize again"
        )
    abandon.remove(settings)
    abandon.prove(settings)
    settings.journal.record(Step.FINALIZE, FinalizeEvent.FINALIZED, removed=removed)
    return _document("finalized", statements, rights, rows, removed, warnings)


def _mark(settings: Settings, value: dict[str, Any] | None) -> None:
    with domain_errors("finalize"), connect(settings.target(), step="finalize", name="TARGET_DATABASE_URL") as target:
        catalog_state.put(target, STATE, value)


def _verified(settings: Settings) -> dict[str, Any] | None:
    with domain_errors("finalize"), connect(settings.target(), step="finalize", name="TARGET_DATABASE_URL") as target:
        mark = catalog_state.get(target, STATE)
    return dict(mark) if mark else None


def _document(
    status: Literal["finalized", "already-finalized", "dry-run"],
    statements: list[sql.Composed],
    privileges: list[Privileges],
    rows: list[TableRows],
    removed: list[str],
    warnings: list[str],
) -> Finalization:
    return Finalization(
        status=status,
        statements=[statement.as_string(None) for statement in statements],
        privileges=privileges,
        rows=rows,
        removed=removed,
        leftovers=[],
        warnings=warnings,
    )


def _statements(tables: dict[str, catalog.Table], role: str) -> list[sql.Composed]:
    names = sql.SQL(", ").join(table.identifier for table in tables.values())
    identifier = sql.Identifier(role)
    return [
        # TRUNCATE would write as well, and be seen by nobody.
        sql.SQL("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {} FROM {}").format(names, identifier),
        sql.SQL("GRANT SELECT ON {} TO {}").format(names, identifier),
    ]


def _wait_for_writers(source: Connection, tables: dict[str, catalog.Table]) -> None:
    with source.transaction():
        names = sql.SQL(", ").join(table.identifier for table in tables.values())
        source.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(names))


def _equal(settings: Settings, when: str) -> list[TableRows]:
    found = verify.run(settings)
    if not found.match:
        differing = {t.table: t.differences_total + t.unsettled for t in found.tables if not t.match}
        raise DataDiffer(
            f"the sides differ {when}: rows by table {differing or 'none'}, orphans {len(found.orphans)}, schema "
            f"{'the same' if found.schema_match else sorted(item.table + '.' + item.name for item in found.schema_differences)}; look at "
            "`task-migration verify`, mend with `verify --repair newest`, then finalize again"
        )
    return [TableRows(table=entry.table, rows=entry.source_rows) for entry in found.tables]
