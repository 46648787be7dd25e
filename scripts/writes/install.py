"""The record of writes put on a side, and taken away: its tables, the clock, the triggers and functions of each configured table.

Safe to run again and on a live database: a trigger's lock is asked for with a short `lock_timeout`, table by table, again and again,
so that nothing waits behind it for longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import catalog, helper_schema, locks, queries
from scripts.database.connections import NO_VIEWS, Connection, keeps_views_out
from scripts.support.sides import Side
from scripts.writes import apply, capture, record, relations
from scripts.writes.relations import Relations

QUERIES = queries.load("scripts.writes")
#: Where the helper schema keeps, by table, what its functions were made for; see :func:`fingerprint`.
SHAPES = "shapes"
#: Where it keeps what runs in it, as it was made; see :func:`code`.
CODE = "code"
#: Longest wait for a table's lock per try, with the live application's statements queued behind it.
LOCK_MS = 300


def capture_on(connection: Connection, config: MigrationConfig, side: Side, clock_start: int | None = None) -> None:
    """Record every write of the configured tables on ``side`` from now on. ``connection`` has a short `lock_timeout`.

    Args:
        clock_start: least number of a clock that is not there yet; both sides' numbers stay apart by being even and odd.

    Raises:
        TimedOut: a table's lock was not to be had.
        Refused: a configured table is not there.
    """
    helper_schema.install(connection)
    found = relations.of(catalog.read(connection, config.db_schema, config.tables, side), config.column_groups)
    _make(connection, recording(found, side, clock_start), f"capture on the {side}")
    before = helper_schema.get(connection, SHAPES)
    now = fingerprint(connection, found, before)
    for name, one in found.items():
        # Not for its name alone: it must be the very one that was put there.
        if not _captured(now[name], (before or {}).get(name)):
            _put(connection, capture.trigger(one), f"capture of {one.table.name} on the {side}")
    helper_schema.put(connection, SHAPES, fingerprint(connection, found, before))
    helper_schema.put(connection, CODE, code(connection))


def recording(
    found: Mapping[str, Relations], side: Side, clock_start: int | None = None
) -> list[sql.Composed | sql.SQL]:
    """The side's clock, and the functions that record writes; the tables' triggers call them. Arguments as :func:`capture_on`."""
    even = side == "source"
    start = (clock_start or 1) // 2 * 2 + (2 if even else 1)
    return [
        sql.SQL(QUERIES["clock"]).format(start=sql.Literal(start)),
        sql.SQL(capture.TEMPLATES["shared"]),
        *(capture.function(one, side) for one in found.values()),
    ]


def rules_on(connection: Connection, config: MigrationConfig, side: Side) -> None:
    """Apply what arrives on ``side`` by the rules of each table, which are made for the tables as they are now.

    Raises:
        TimedOut: the lock of the table that records arrive in was not to be had.
        Refused: a configured table is not there.
    """
    found = relations.of(catalog.read(connection, config.db_schema, config.tables, side), config.column_groups)
    former = {name: _former(one) for name, one in (helper_schema.get(connection, SHAPES) or {}).items()}
    rules = {
        name: apply.Rules(one, found, side, config.bookkeeping_columns, former.get(name, {}))
        for name, one in found.items()
    }
    deadlock = _may_set(connection, "deadlock_timeout")
    statements: list[sql.Composed | sql.SQL] = [
        sql.SQL(apply.TEMPLATES["shared"]),
        *(statement for one in rules.values() for statement in one.functions()),
        *apply.shared(rules, found, side, deadlock, NO_VIEWS if keeps_views_out(connection) else ""),
    ]
    _make(connection, statements, f"rules on the {side}")
    helper_schema.put(connection, CODE, code(connection))


def uninstall(connection: Connection, schema: str, tables: Sequence[str]) -> None:
    """Take the triggers off; functions and tables go with the helper schema."""
    for name in catalog.existing(connection, schema, tables):
        identifier = sql.Identifier(schema, name)
        for trigger in (record.CAPTURE, record.NO_TRUNCATE):
            drop = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(trigger), identifier)
            _put(connection, drop, f"removing the trigger {trigger} of {name}")


def fingerprint(
    connection: Connection, tables: Mapping[str, Relations], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What the tables are now, as far as the functions depend on it, by table name.

    Returns:
        ``columns``: by attribute number, the names it had, the present one last (None: dropped); ``types``; ``triggers``:
        by name, state and the transaction that changed it last: one that was switched off and on again shows.
    """
    rows = connection.execute(
        QUERIES["triggers"], ([one.table.oid for one in tables.values()], [record.CAPTURE, record.NO_TRUNCATE])
    ).fetchall()
    numbers = connection.execute(
        "SELECT attrelid, attnum, CASE WHEN attisdropped THEN NULL ELSE attname END FROM pg_attribute "
        "WHERE attrelid = ANY(%s) AND attnum > 0 ORDER BY attrelid, attnum",
        ([one.table.oid for one in tables.values()],),
    ).fetchall()
    found = {}
    for name, one in tables.items():
        columns: dict[str, list[str | None]] = dict(((before or {}).get(name) or {}).get("columns") or {})
        for oid, number, column in numbers:
            names = columns.get(str(number), [])
            if oid == one.table.oid and names[-1:] != [column]:
                columns[str(number)] = [*names, column]
        found[name] = {
            "columns": columns,
            "types": {column.name: column.cast for column in one.table.columns},
            "triggers": {row[1]: [row[2], row[3]] for row in rows if row[0] == one.table.oid},
        }
    return found


def code(connection: Connection) -> dict[str, list[str]]:
    """What runs in the helper schema now, by name: a trigger's state, and a digest of its definition."""
    return {str(name): [str(state), str(digest)] for name, state, digest in connection.execute(QUERIES["code"])}


def _former(shape: Mapping[str, Any]) -> dict[str, str | None]:
    """Former names of columns, with the present ones."""
    columns = list(shape["columns"].values())
    present = {names[-1] for names in columns}
    return {old: names[-1] for names in columns for old in names[:-1] if old is not None and old not in present}


def _captured(now: Mapping[str, Any], made: Mapping[str, Any] | None) -> bool:
    triggers = now["triggers"]
    return [state for state, _ in triggers.values()] == ["A", "A"] and triggers == (made or {}).get("triggers")


def _make(connection: Connection, statements: Sequence[sql.Composed | sql.SQL], what: str) -> None:
    """Functions, and what goes with them, in one transaction, in which nobody else may call them from the first moment on."""

    def work() -> None:
        with connection.transaction():
            # Two commands at once would replace the same functions.
            locks.hold(connection, locks.INSTALL)
            for statement in statements:
                connection.execute(statement)
            helper_schema.close(connection)

    helper_schema.with_lock_retries(work, what)


def _put(connection: Connection, statement: sql.Composed, what: str) -> None:
    def work() -> None:
        # In one transaction, so that a trigger never is there without its state.
        with connection.transaction():
            connection.execute(statement)

    helper_schema.with_lock_retries(work, what)


def _may_set(connection: Connection, name: str) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SET LOCAL {} = DEFAULT").format(sql.Identifier(name)))
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
