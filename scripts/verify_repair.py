"""Mending rows that differ, without the mend travelling back: it carries an origin, which ``origin = none`` leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from scripts import catalog_state
from scripts.catalog import Table, identifiers
from scripts.catalog_state import Side
from scripts.support.postgres import Connection, connect
from scripts.support.settings import Settings
from scripts.verify_compare import Difference, Key


def origin_name(settings: Settings) -> str:
    """The mend's replication origin; origins are the server's, so the name is this migration's own."""
    return f"{settings.config.subscription}_mend"


def mend(
    settings: Settings, tables: dict[str, Table], differences: dict[str, list[Difference]], rule: str
) -> dict[str, int]:
    """Write the winner's row over the loser's, row by row; returns rows mended by table.

    A loser's row that was written since it was compared is left alone: its write travels by itself. Parents come before
    their children, and deletions go the other way.
    """
    counts = dict.fromkeys(differences, 0)
    # AWS DMS leaves out what has its own mark instead, which the conflict rules set for a mend (scripts/conflicts_dms.py).
    origin = origin_name(settings) if settings.config.replication_engine == "native" else None
    with mender(settings.source(), origin) as source, mender(settings.target(), origin) as target:
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

            def work(
                best: Side = best, worst: Side = worst, table: Table = table, difference: Difference = difference
            ) -> bool:
                return _write(sides[best], sides[worst], table, difference, worst)

            # An applying session that meets the mend in the other order may make it a deadlock's victim.
            done = catalog_state.with_lock_retries(work, f"mending {table.name}")
            if done:
                counts[table.name] += 1
                _settled(sides, table, difference.key, f"{rule}: {best}")
    settings.journal.record("verify", "repaired", rule=rule, rows=counts)
    return counts


@contextmanager
def mender(url: str, origin: str | None) -> Iterator[Connection]:
    """A session whose writes fire no triggers or foreign keys, pass the conflict rules by and do not travel back."""
    with connect(url, step="repair", lock_timeout_ms=5000) as connection:
        catalog_state.install(connection)
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET task_migration.mend = 'on'")
        if origin is not None:
            connection.execute(
                "SELECT pg_replication_origin_create(%s) WHERE pg_replication_origin_oid(%s) IS NULL", (origin, origin)
            )
            connection.execute("SELECT pg_replication_origin_session_setup(%s)", (origin,))
        yield connection


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
    ours, theirs = (
        (difference.source_values or {}).get("updated_at"),
        (difference.target_values or {}).get("updated_at"),
    )
    if ours and theirs and ours != theirs:
        return "source" if datetime.fromisoformat(ours) > datetime.fromisoformat(theirs) else "target"
    times = {side: _committed(connection, table, difference.key) for side, connection in sides.items()}
    if times["source"] is None or times["target"] is None:
        return "target" if times["source"] is None and times["target"] is not None else "source"
    return "source" if times["source"] >= times["target"] else "target"


def _where(table: Table) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("t.{} = %s::text::{}").format(sql.Identifier(name), sql.SQL(table.column(name).type))
        for name in table.key
    )


def _committed(connection: Connection, table: Table, key: Key) -> datetime | None:
    row = connection.execute(
        sql.SQL("SELECT pg_xact_commit_timestamp(t.xmin) FROM {} t WHERE {}").format(table.identifier, _where(table)),
        key,
    ).fetchone()
    return row[0] if row else None


def _values(connection: Connection, table: Table, key: Key, lock: bool) -> dict[str, str | None] | None:
    row = connection.execute(
        sql.SQL("SELECT ARRAY[{}] FROM {} t WHERE {} {}").format(
            sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in table.stored),
            table.identifier,
            _where(table),
            sql.SQL("FOR UPDATE" if lock else ""),
        ),
        key,
    ).fetchone()
    return dict(zip(table.stored, row[0], strict=True)) if row else None


def _write(best: Connection, worst: Connection, table: Table, difference: Difference, side: Side) -> bool:
    compared = difference.source_values if side == "source" else difference.target_values
    with worst.transaction():
        now = _values(worst, table, difference.key, lock=True)
        if now != compared:
            return False
        wanted = _values(best, table, difference.key, lock=False)
        if wanted is None:
            worst.execute(sql.SQL("DELETE FROM {} t WHERE {}").format(table.identifier, _where(table)), difference.key)
            return True
        _clear_clashes(worst, table, wanted)
        casts = sql.SQL(", ").join(
            sql.SQL("%s::text::{}").format(sql.SQL(table.column(name).type)) for name in table.stored
        )
        others = [name for name in table.stored if name not in table.key and table.column(name).identity != "a"]
        action: sql.Composable = sql.SQL("NOTHING")
        if others:
            action = sql.SQL("UPDATE SET {}").format(
                sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others)
            )
        worst.execute(
            sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT ({}) DO {}").format(
                table.identifier, identifiers(table.stored), casts, identifiers(table.key), action
            ),
            [wanted[name] for name in table.stored],
        )
    return True


def _clear_clashes(worst: Connection, table: Table, wanted: dict[str, str | None]) -> None:
    """Rows of other keys that hold a unique value of the row to be written give way; they differ themselves."""
    for constraint in table.constraints:
        if constraint.kind != "u" or any(wanted[name] is None for name in constraint.columns):
            continue
        match = sql.SQL(" AND ").join(
            sql.SQL("t.{} = %s::text::{}").format(sql.Identifier(name), sql.SQL(table.column(name).type))
            for name in constraint.columns
        )
        worst.execute(
            sql.SQL("DELETE FROM {} t WHERE {} AND NOT ({})").format(table.identifier, match, _where(table)),
            [*(wanted[name] for name in constraint.columns), *(wanted[name] for name in table.key)],
        )


def _settled(sides: dict[Side, Any], table: Table, key: Key, how: str) -> None:
    values = dict(zip(table.key, key, strict=True))
    for connection in sides.values():
        connection.execute(
            "UPDATE task_migration.conflicts SET settled = %s WHERE settled IS NULL AND table_name = %s AND "
            "(SELECT jsonb_object_agg(k, v) FROM jsonb_each_text(key) e(k, v)) = %s",
            (how, table.name, Jsonb(values)),
        )
