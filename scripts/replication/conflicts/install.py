"""Two writers per row: the rules, as triggers that fire for replicated changes only, their log, and who wins a tie.

The rules (docs/decisions.md, 'Conflict rules are triggers') are decided on each side alone and come out the same on both.
Whatever was decided between two writes that did not know of each other is logged with its key, so that `verify --repair`
can mend it.
"""

from __future__ import annotations

from typing import Any

from psycopg import sql

from scripts.database import catalog, helper_schema, queries
from scripts.database.connections import Connection, domain_errors
from scripts.database.sides import open_side
from scripts.replication.conflicts import rules, ties
from scripts.support.errors import Refused
from scripts.support.events import ConflictsEvent, Step
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side

TRIGGER = "task_migration_apply"
_SHARED = {name: queries.load(__name__.rpartition(".")[0], f"{name}.sql")[name] for name in ("common", "ties", "dms")}


def install(settings: Settings, side: Side, tie_winner: Side = "source") -> list[str]:
    """Put the functions and triggers on one side; returns the tables. Safe to run again, and on a live database.

    A trigger needs a lock that waits for writers and makes others wait, so it is asked for with a short ``lock_timeout``,
    table by table, again and again.

    Raises:
        TimedOut: a table's lock was not to be had.
    """
    config = settings.config
    # What AWS DMS applies carries no replication origin, and no commit time of the other side to resolve ties by.
    origins = config.replication_engine == "native"
    with (
        domain_errors(f"conflict triggers on the {side}"),
        open_side(settings, side, "conflicts", lock_timeout_ms=500) as connection,
    ):
        helper_schema.install(connection)
        if helper_schema.get(connection, helper_schema.TIE_WINNER) is None:
            helper_schema.put(connection, helper_schema.TIE_WINNER, tie_winner)
        tables = catalog.read(connection, config.db_schema, config.tables, side)
        with connection.transaction():
            # Two commands at once would replace the same functions.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('task_migration install'))")
            connection.execute(_SHARED["common"])
            connection.execute(_SHARED["ties" if origins else "dms"])
            if origins:
                for table in tables.values():
                    _keep_tie_statement(connection, table)
        for table in tables.values():
            connection.execute(rules.function(table, tables, side, origins=origins))

            def work(table: catalog.Table = table) -> None:
                _put_trigger(connection, table)

            helper_schema.with_lock_retries(work, f"conflict trigger on {table.name} of the {side}")
    return list(tables)


def _put_trigger(connection: Connection, table: catalog.Table) -> None:
    with connection.transaction():
        if not _installed(connection, table):
            connection.execute(rules.trigger(table))
            # In the same transaction, so that it never fires for a local write.
            enable = sql.SQL("ALTER TABLE {} ENABLE REPLICA TRIGGER {}")
            connection.execute(enable.format(table.identifier, sql.Identifier(TRIGGER)))


def _keep_tie_statement(connection: Connection, table: catalog.Table) -> None:
    statement = ties.statement(table)
    if statement is not None:
        connection.execute(
            "INSERT INTO task_migration.rules VALUES (%s, %s) ON CONFLICT (table_name) DO UPDATE SET settle = excluded.settle",
            (table.name, statement.as_string(connection)),
        )


def _installed(connection: Connection, table: catalog.Table) -> bool:
    query = "SELECT 1 FROM pg_trigger WHERE tgrelid = %s AND tgname = %s AND tgenabled = 'R'"
    return connection.execute(query, (table.oid, TRIGGER)).fetchone() is not None


def uninstall(connection: Connection, schema: str, tables: list[str]) -> None:
    """Take the triggers off; the functions go with the helper schema."""
    for name in catalog.existing(connection, schema, tables):
        drop = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(TRIGGER), sql.Identifier(schema, name))

        def work(statement: sql.Composed = drop) -> None:
            connection.execute(statement)

        helper_schema.with_lock_retries(work, f"removing the conflict trigger of {name}")


def set_tie_winner(settings: Settings, winner: Side) -> None:
    """Say on both sides who wins a tie: ``source`` (the monolith) until 100 %, then ``target``.

    The loser-to-be hears of it first: for the moment in between both sides give way, which the log shows and
    ``verify --repair`` mends, and neither insists.
    """
    if winner not in ("source", "target"):
        raise Refused(f"tie winner {winner!r}: it must be source or target")
    sides: tuple[Side, Side] = ("target", "source") if winner == "source" else ("source", "target")
    for side in sides:
        with domain_errors("setting the tie winner"), open_side(settings, side, "conflicts") as connection:
            helper_schema.install(connection)
            helper_schema.put(connection, helper_schema.TIE_WINNER, winner)
    settings.journal.record(Step.CONFLICTS, ConflictsEvent.TIE_WINNER, winner=winner)


def logged(settings: Settings, open_only: bool = True) -> list[dict[str, Any]]:
    """The conflict log of both sides, oldest first: side, id, at, table, key, kind, decision; no values."""
    found = []
    for side in BOTH:
        with domain_errors("reading the conflict log"), open_side(settings, side, "conflicts") as connection:
            if not helper_schema.installed(connection):
                continue
            rows = connection.execute(
                "SELECT id, at, table_name, key, kind, decision, settled FROM task_migration.conflicts "
                "WHERE settled IS NULL OR NOT %s ORDER BY id",
                (open_only,),
            ).fetchall()
            keys = ("id", "at", "table", "key", "kind", "decision", "settled")
            found += [{"side": side, **dict(zip(keys, row, strict=True))} for row in rows]
    return sorted(found, key=lambda entry: (entry["at"], entry["id"]))
