"""Give the attempt up: replication and everything of ours goes, on both sides, and the catalogs prove it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import sql

from scripts import catalog, catalog_state, conflicts, fence, replicate_engine, verify_repair
from scripts.support.errors import DatabaseError, Refused, TimedOut
from scripts.support.postgres import Connection, connect, domain_errors
from scripts.support.settings import Settings


def run(
    settings: Settings, dry_run: bool = False, truncate_target: bool = False, force: bool = False, timeout: float = 30.0
) -> dict[str, Any]:
    """Stop replication and remove slots, publications, subscriptions, triggers, origins and the helper schema.

    While replication runs, what the Task Service wrote is brought back to the monolith first.

    Args:
        truncate_target: empty the target's tables as well, so that step 1 can start again (plan.md, rollback 1).
        force: go on though the way back cannot be drained.

    Returns:
        ``{"status": "abandoned"|"nothing-there"|"dry-run", "drained", "removed": [what], "leftovers": [], "truncated": [tables]}``.

    Raises:
        Refused: writes on the target could not be brought back, and ``force`` was not given.
        DatabaseError: something of ours is still there afterwards; the text names it.
    """
    before = leftovers(settings)
    if dry_run:
        return {"status": "dry-run", "drained": False, "removed": before, "leftovers": before, "truncated": []}
    if truncate_target:
        _source_still_leads(settings)
    drained = _drain(settings, timeout, force)
    remove(settings)
    truncated: list[str] = []
    if truncate_target:
        with domain_errors("emptying the target"), connect(settings.target(), step="abandon") as target:
            truncated = catalog.existing(target, settings.config.db_schema, settings.config.tables)
            if truncated:
                names = sql.SQL(", ").join(sql.Identifier(settings.config.db_schema, name) for name in truncated)
                target.execute(sql.SQL("TRUNCATE {}").format(names))
    left = prove(settings)
    status = "abandoned" if before else "nothing-there"
    settings.journal.record("abandon", status, removed=before, truncated=truncated, drained=drained)
    return {"status": status, "drained": drained, "removed": before, "leftovers": left, "truncated": truncated}


def _source_still_leads(settings: Settings) -> None:
    """After `finalize` the target holds the only current rows; emptying it would lose them."""
    config = settings.config
    with domain_errors("looking at the source's rights"), connect(settings.source(), step="abandon") as source:
        writable = source.execute(
            "SELECT bool_or(has_table_privilege(r.oid, c.oid, 'INSERT')) FROM pg_roles r, pg_class c "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE rolname = %s AND nspname = %s AND relname = ANY(%s)",
            (config.source_role, config.db_schema, list(config.tables)),
        ).fetchone()
    if settings.journal.last("finalize", "revoking") or (writable and writable[0] is False):
        raise Refused(
            f"{config.source_role} can no longer write on the source, so the target holds the current rows and is not emptied; "
            "leave the option out"
        )


def _drain(settings: Settings, timeout: float, force: bool) -> bool:
    try:
        if not fence.available(settings):
            return False
        fence.both(settings, timeout)
    except (TimedOut, DatabaseError) as late:
        if not force:
            raise Refused(
                f"writes of the target could not be brought back, nothing was removed: {late}; mend the way back, or give up those "
                "writes with --force"
            ) from None
        return False
    return True


def remove(settings: Settings) -> None:
    """Remove all of ours on both sides. Safe to run again after it was killed anywhere: it removes what is there."""
    config = settings.config
    replicate_engine.of(settings).drop(settings)
    with (
        domain_errors("removing what is ours"),
        connect(settings.source(), step="remove", name="SOURCE_DATABASE_URL", lock_timeout_ms=1000) as source,
        connect(settings.target(), step="remove", name="TARGET_DATABASE_URL", lock_timeout_ms=1000) as target,
    ):
        for side in (source, target):
            conflicts.uninstall(side, config.db_schema, list(config.tables))
            _retry(side, sql.SQL("DROP SCHEMA IF EXISTS task_migration CASCADE"), "dropping the schema task_migration")
            side.execute(
                "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname = %s",
                (verify_repair.origin_name(settings),),
            )


def _retry(connection: Connection, statement: sql.Composed | sql.SQL, what: str) -> None:
    work: Callable[[], object] = lambda: connection.execute(statement)  # noqa: E731
    catalog_state.with_lock_retries(work, what)


def leftovers(settings: Settings) -> list[str]:
    """Everything of ours that the catalogs of both sides still show, in words; empty when all is gone."""
    found = replicate_engine.of(settings).leftovers(settings)
    for side, url in (("source", settings.source()), ("target", settings.target())):
        with domain_errors(f"looking for leftovers on the {side}"), connect(url, step="leftovers") as connection:
            rows = connection.execute(
                """
                SELECT 'trigger on ' || tgrelid::regclass::text FROM pg_trigger WHERE tgname = %(trigger)s
                UNION ALL SELECT 'schema task_migration' FROM pg_namespace WHERE nspname = 'task_migration'
                UNION ALL SELECT 'origin ' || roname FROM pg_replication_origin WHERE roname = %(origin)s
                """,
                {"trigger": conflicts.TRIGGER, "origin": verify_repair.origin_name(settings)},
            ).fetchall()
            found += [f"{side}: {row[0]}" for row in rows]
    return found


def prove(settings: Settings) -> list[str]:
    """The empty list of leftovers. Raises DatabaseError when something is left, naming it."""
    left = leftovers(settings)
    if left:
        raise DatabaseError(
            f"still there after the removal: {'; '.join(left)}; run the command again, or drop it by hand"
        )
    return left
