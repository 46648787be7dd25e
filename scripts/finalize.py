"""Step 4: the source's tables become read-only, replication ends, nothing of ours is left behind."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from scripts import abandon, catalog, catalog_state, fence, verify
from scripts.support.errors import DatabaseError, DataDiffer, Refused
from scripts.support.postgres import Connection, connect, domain_errors
from scripts.support.settings import Settings

WRITES = ("INSERT", "UPDATE", "DELETE")


def run(settings: Settings, dry_run: bool = False, timeout: float = 60.0) -> dict[str, Any]:
    """Verify, revoke writes on the source, wait for the last ones and bring them over, verify, remove replication.

    The plan stops replication first and revokes then; a write of the monolith in between would be lost, so the order is
    turned round. Past the revoke a failure never gives the rights back: run it again, it goes on from where it was.

    Returns:
        ``{"status": "finalized"|"already-finalized"|"dry-run", "statements": [sql], "privileges": [{"table", "select",
        "insert", "update", "delete"}], "rows": [{"table", "rows"}], "removed": [what], "leftovers": [], "warnings": []}``.

    Raises:
        Refused: replication does not run both ways, or the role cannot be made read-only.
        DataDiffer: the sides differ; nothing was removed.
        TimedOut: a fence did not come through, or a writer did not end.
    """
    config = settings.config
    with domain_errors("finalize"), connect(settings.source(), step="finalize", lock_timeout_ms=1000) as source:
        tables = catalog.read(source, config.db_schema, config.tables, "source")
        warnings = _check_role(source, config.source_role, tables)
        statements = _statements(tables, config.source_role)
        before = privileges(source, config.source_role, tables)
        if not fence.available(settings):
            left = abandon.leftovers(settings)
            done = settings.journal.last("finalize", "verified")
            if all(not _writes(entry) for entry in before) and (not left or done):
                if left and not dry_run:
                    abandon.remove(settings)
                return _document("already-finalized", statements, before, [], left, warnings)
            raise Refused(
                "replication does not run both ways, so nothing proves that the target has every write; "
                "run `task-migration replicate start`, then finalize again"
            )
        _equal(settings, "before the revoke; nothing was changed")
        if dry_run:
            return _document("dry-run", statements, before, [], abandon.leftovers(settings), warnings)
        settings.journal.record("finalize", "revoking", role=config.source_role)
        with source.transaction():
            for statement in statements:
                source.execute(statement)
        after = privileges(source, config.source_role, tables)
        still = [entry["table"] for entry in after if _writes(entry) or not entry["select"]]
        if still:
            raise Refused(
                f"{config.source_role} can still write to, or not read, {', '.join(still)}: rights of PUBLIC or of a role it is in; "
                "revoke those, then finalize again"
            )
        # A statement that had begun before the revoke goes on; a lock that waits for writers shows when the last has ended.
        catalog_state.with_lock_retries(
            lambda: _wait_for_writers(source, tables), "the monolith's last writes", timeout
        )
    fence.both(settings, timeout)
    rows = _equal(settings, "after the revoke; writes stay revoked and replication goes on")
    settings.journal.record("finalize", "verified", rows=rows)
    removed = abandon.leftovers(settings)
    abandon.remove(settings)
    abandon.prove(settings)
    settings.journal.record("finalize", "finalized", removed=removed)
    return _document("finalized", statements, after, rows, removed, warnings)


def _document(
    status: str,
    statements: list[sql.Composed],
    rights: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    removed: list[str],
    warnings: list[str],
) -> dict[str, Any]:
    return {
        "status": status,
        "statements": [statement.as_string(None) for statement in statements],
        "privileges": rights,
        "rows": rows,
        "removed": removed,
        "leftovers": [],
        "warnings": warnings,
    }


def _statements(tables: dict[str, catalog.Table], role: str) -> list[sql.Composed]:
    names = sql.SQL(", ").join(table.identifier for table in tables.values())
    identifier = sql.Identifier(role)
    return [
        # TRUNCATE would write as well, and be seen by nobody.
        sql.SQL("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {} FROM {}").format(names, identifier),
        sql.SQL("GRANT SELECT ON {} TO {}").format(names, identifier),
    ]


def _check_role(source: Connection, role: str, tables: dict[str, catalog.Table]) -> list[str]:
    row = source.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    if row is None:
        raise Refused(f"the role {role} does not exist on the source; set sourceRole to the monolith's role")
    if row[0]:
        raise Refused(
            f"{role} is a superuser, whose writes no REVOKE stops; take that from it: ALTER ROLE ... NOSUPERUSER"
        )
    owned = source.execute(
        "SELECT array_agg(relname ORDER BY relname) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner "
        "WHERE r.rolname = %s AND c.oid = ANY(%s)",
        (role, [table.oid for table in tables.values()]),
    ).fetchone()
    if not owned or not owned[0]:
        return []
    warnings = [
        f"{role} owns {', '.join(owned[0])}: it could grant itself the rights again; a role of its own as owner prevents that"
    ]
    # Referential actions run with the rights of the referencing table's owner (PostgreSQL, ri_triggers.c).
    acting = sorted({str(key.references) for _, key in catalog.crossing(tables) if key.on_delete in ("c", "n", "d")})
    if acting:
        warnings.append(
            f"a DELETE from {', '.join(acting)} on the source that would cascade to these tables is refused from now on, as "
            f"cascades run with the owner's rights; ALTER TABLE ... OWNER TO another role keeps it working"
        )
    return warnings


def privileges(source: Connection, role: str, tables: dict[str, catalog.Table]) -> list[dict[str, Any]]:
    """What the role can do in effect, by whatever grant (own, PUBLIC, roles it is in, single columns)."""
    found = []
    for table in tables.values():
        row = source.execute(
            "SELECT has_table_privilege(%(role)s, %(oid)s::oid, 'SELECT'), has_any_column_privilege(%(role)s, %(oid)s::oid, 'INSERT'), "
            "has_any_column_privilege(%(role)s, %(oid)s::oid, 'UPDATE'), has_table_privilege(%(role)s, %(oid)s::oid, 'DELETE')",
            {"role": role, "oid": table.oid},
        ).fetchone()
        if row is None:
            raise DatabaseError(f"{table.name}: the source answered nothing about the rights of {role}")
        found.append({"table": table.name, "select": row[0], "insert": row[1], "update": row[2], "delete": row[3]})
    return found


def _writes(entry: dict[str, Any]) -> bool:
    return any(entry[right.lower()] for right in WRITES)


def _wait_for_writers(source: Connection, tables: dict[str, catalog.Table]) -> None:
    with source.transaction():
        names = sql.SQL(", ").join(table.identifier for table in tables.values())
        source.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(names))


def _equal(settings: Settings, when: str) -> list[dict[str, Any]]:
    found = verify.run(settings)
    if not found["match"]:
        differing = {t["table"]: t["differences_total"] + t["unsettled"] for t in found["tables"] if not t["match"]}
        raise DataDiffer(
            f"the sides differ {when}: rows by table {differing or 'none'}, orphans {len(found['orphans'])}; look at "
            "`task-migration verify`, mend with `verify --repair newest`, then finalize again"
        )
    return [{"table": entry["table"], "rows": entry["source_rows"]} for entry in found["tables"]]
