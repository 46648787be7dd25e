"""Repair of rows that differ, without it travelling back: it carries an origin, which ``origin = none`` leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from scripts.database import helper_schema
from scripts.database.catalog import Table, identifiers
from scripts.database.connections import Connection
from scripts.database.helper_schema import Side
from scripts.database.repair_session import repair_origin, repair_session
from scripts.support.events import Step, VerifyEvent
from scripts.support.settings import Settings
from scripts.verify.hash import as_text, shared
from scripts.verify.rows import Difference, Key, Values


def repair(
    settings: Settings,
    tables: dict[str, Table],
    theirs: dict[str, Table],
    differences: dict[str, list[Difference]],
    rule: str,
) -> dict[str, int]:
    """Write the winner's row over the loser's, row by row; returns rows repaired by table.

    ``tables`` are as the source's catalog describes them, ``theirs`` as the target's; columns that one lacks stay as they are.

    A loser's row that was written since it was compared is left alone: its write travels by itself. Parents come before
    their children, and deletions go the other way.
    """
    counts = dict.fromkeys(differences, 0)
    # AWS DMS leaves out what has its own mark instead, which the conflict rules set for a repair (scripts/replication/conflicts/dms.sql).
    origin = repair_origin(settings.config) if settings.config.replication_engine == "native" else None
    with repair_session(settings.source(), origin) as source, repair_session(settings.target(), origin) as target:
        sides: dict[Side, Connection] = {"source": source, "target": target}
        plan: list[tuple[Table, Difference, Side]] = [
            (table, difference, winner(sides, table, difference, rule))
            for table in parents_first(tables.values())
            for difference in differences.get(table.name, [])
        ]
        writes = [item for item in plan if not _deletes(item[1], item[2])]
        deletions = [item for item in reversed(plan) if _deletes(item[1], item[2])]
        for table, difference, best in writes + deletions:
            worst: Side = "target" if best == "source" else "source"
            names = shared(table, theirs[table.name])
            # An applying session that meets the repair in the other order may make it a deadlock's victim.
            done = helper_schema.with_lock_retries(
                partial(_write, sides[best], sides[worst], table, names, difference, worst), f"repairing {table.name}"
            )
            if done:
                counts[table.name] += 1
                _close_conflicts(sides, table, difference.key, f"{rule}: {best}")
    settings.journal.record(Step.VERIFY, VerifyEvent.REPAIRED, rule=rule, rows=counts)
    return counts


def parents_first(tables: Iterable[Table]) -> list[Table]:
    """The tables ordered so that a referenced one comes before those that refer to it; cycles in the given order."""
    rest = list(tables)
    names = {table.name for table in rest}
    done: list[Table] = []
    while rest:
        placed = {table.name for table in done}
        ready = [
            table
            for table in rest
            if all(
                c.references in placed or c.references == table.name
                for c in table.constraints
                if c.kind == "f" and c.references in names
            )
        ] or rest[:1]
        done += ready
        rest = [table for table in rest if table not in ready]
    return done


def _deletes(difference: Difference, best: Side) -> bool:
    return difference.kind == ("missing_on_source" if best == "source" else "missing_on_target")


def winner(sides: dict[Side, Connection], table: Table, difference: Difference, rule: str) -> Side:
    """Which side's row stays. ``newest``: updated_at, then the commit's time; a row that is there beats one that is not,
    as it may be an acknowledged write and a deletion leaves no time behind."""
    if rule in ("source", "target"):
        return "source" if rule == "source" else "target"
    if difference.kind == "missing_on_target":
        return "source"
    if difference.kind == "missing_on_source":
        return "target"
    if (newer := _newer(sides, table, difference.key)) is not None:
        return newer
    times = {side: _committed(connection, table, difference.key) for side, connection in sides.items()}
    if times["source"] is None or times["target"] is None:
        return "target" if times["source"] is None and times["target"] is not None else "source"
    return "source" if times["source"] >= times["target"] else "target"


def _newer(sides: dict[Side, Connection], table: Table, key: Key) -> Side | None:
    """The side whose updated_at is later; None when that does not tell."""
    if "updated_at" not in table.stored:
        return None
    seen = [_values(connection, table, ("updated_at",), key, lock=False) for connection in sides.values()]
    ours, theirs = (values["updated_at"] if values else None for values in seen)
    if ours is None or theirs is None or ours == theirs:
        return None
    # The server compares: it knows infinity, years before Christ and whatever type the column has.
    kind = sql.SQL(table.column("updated_at").type)
    row = (
        sides["source"]
        .execute(sql.SQL("SELECT {0}::{2} > {1}::{2}").format(sql.Literal(ours), sql.Literal(theirs), kind))
        .fetchone()
    )
    return "source" if row and row[0] else "target"


def _is(table: Table, name: str, value: str | None) -> sql.Composed:
    # A literal, not a parameter: with parameters a percent sign in a name would count as one.
    return sql.SQL("{}::text::{}").format(sql.Literal(value), sql.SQL(table.column(name).type))


def _where(table: Table, key: Key) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("t.{} = {}").format(sql.Identifier(name), _is(table, name, value))
        for name, value in zip(table.key, key, strict=True)
    )


def _committed(connection: Connection, table: Table, key: Key) -> datetime | None:
    row = connection.execute(
        sql.SQL("SELECT pg_xact_commit_timestamp(t.xmin) FROM {} t WHERE {}").format(
            table.identifier, _where(table, key)
        )
    ).fetchone()
    return row[0] if row else None


def _values(connection: Connection, table: Table, names: Sequence[str], key: Key, lock: bool) -> Values | None:
    row = connection.execute(
        sql.SQL("SELECT ARRAY[{}] FROM {} t WHERE {} {}").format(
            sql.SQL(", ").join(as_text(table.column(name)) for name in names),
            table.identifier,
            _where(table, key),
            sql.SQL("FOR UPDATE" if lock else ""),
        )
    ).fetchone()
    return dict(zip(names, row[0], strict=True)) if row else None


def _version(connection: Connection, table: Table, key: Key) -> str | None:
    """The row's version, locked until the transaction's end; None when it is not there."""
    row = connection.execute(
        sql.SQL("SELECT t.xmin::text FROM {} t WHERE {} FOR UPDATE").format(table.identifier, _where(table, key))
    ).fetchone()
    return str(row[0]) if row else None


def _write(
    best: Connection, worst: Connection, table: Table, names: Sequence[str], difference: Difference, side: Side
) -> bool:
    compared = difference.source_seen if side == "source" else difference.target_seen
    with worst.transaction():
        if _version(worst, table, difference.key) != (compared[0] if compared else None):
            return False
        wanted = _values(best, table, names, difference.key, lock=False)
        if wanted is None:
            worst.execute(sql.SQL("DELETE FROM {} t WHERE {}").format(table.identifier, _where(table, difference.key)))
            return True
        _clear_clashes(worst, table, difference.key, wanted)
        others = [name for name in names if name not in table.key and table.column(name).identity != "a"]
        action: sql.Composable = sql.SQL("NOTHING")
        if others:
            action = sql.SQL("UPDATE SET {}").format(
                sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others)
            )
        worst.execute(
            sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT ({}) DO {}").format(
                table.identifier,
                identifiers(names),
                sql.SQL(", ").join(_is(table, name, wanted[name]) for name in names),
                identifiers(table.key),
                action,
            )
        )
    return True


def _clear_clashes(worst: Connection, table: Table, key: Key, wanted: Values) -> None:
    """Rows of other keys that hold a unique value of the row to be written give way; they differ themselves."""
    for constraint in table.constraints:
        if constraint.kind != "u" or any(wanted.get(name) is None for name in constraint.columns):
            continue
        match = sql.SQL(" AND ").join(
            sql.SQL("t.{} = {}").format(sql.Identifier(name), _is(table, name, wanted[name]))
            for name in constraint.columns
        )
        worst.execute(
            sql.SQL("DELETE FROM {} t WHERE {} AND NOT ({})").format(table.identifier, match, _where(table, key))
        )


def _close_conflicts(sides: dict[Side, Any], table: Table, key: Key, how: str) -> None:
    values = dict(zip(table.key, key, strict=True))
    for connection in sides.values():
        connection.execute(
            "UPDATE task_migration.conflicts SET settled = %s WHERE settled IS NULL AND table_name = %s AND "
            "(SELECT jsonb_object_agg(k, v) FROM jsonb_each_text(key) e(k, v)) = %s",
            (how, table.name, Jsonb(values)),
        )
