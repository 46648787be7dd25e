"""Ties decided a second time with AWS DMS, by the true order of the commits, after each fence.

With PostgreSQL's own replication a trigger does that (scripts/replication/conflicts/ties.py), as an applied transaction has the commit
time of where it was made. DMS does not hand that on. But each side knows when its own writes were committed, and its log
has them for the rows that a rule overwrote or kept; so what no side can decide alone, this program decides with both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from scripts.database import catalog
from scripts.database.catalog import Table
from scripts.database.connections import Connection, domain_errors
from scripts.database.repair_session import repair_session
from scripts.database.sides import open_side
from scripts.support.events import ConflictsEvent, Step
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side

#: Keys that one call resolves at most; the next fence goes on.
MOST = 500
_OPEN = (
    "SELECT table_name, key, id, local_row, local_committed_at FROM task_migration.conflicts "
    "WHERE settled IS NULL AND kind = 'tie' ORDER BY id LIMIT %s"
)
#: What leaves a tie open, for the next fence or for `verify --repair`: a fence must not fail for it. The last is a side
#: on which DMS has not marked anything yet.
_LATER = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.IntegrityConstraintViolation,
    psycopg.errors.RaiseException,
)
Sides = Mapping[Side, Connection]


@dataclass(frozen=True)
class Version:
    """A row as it stands on one side; ``written_at`` is None when it was not written there."""

    text: str
    written_at: datetime | None


def choose(known: Mapping[str, datetime], now: Mapping[Side, Version | None]) -> tuple[str | None, bool]:
    """Which version both sides should have, and whether the tie is over with it.

    Args:
        known: versions that were written on one side, with the time of their commit there, from both logs.
        now: the row on each side; None when it is not there.

    Returns:
        ``(version to write where it is not, over)``; ``(None, True)`` when both sides are as they should be, and
        ``(None, False)`` while something newer may be under way, or a deletion: the tie stays open.
    """
    here, there = now["source"], now["target"]
    if here is None or there is None:
        return None, False
    times = dict(known)
    for version in (here, there):
        if version.written_at is not None:
            times[version.text] = max(version.written_at, times.get(version.text, version.written_at))
    if here.text not in times or there.text not in times:
        return None, here.text == there.text
    best = max(times, key=lambda text: (times[text], text))
    return (None, True) if here.text == there.text == best else (best, True)


def resolve(settings: Settings) -> int:
    """Resolve the open ties of both logs; returns how many keys were decided. What it writes does not travel back."""
    logs: dict[tuple[str, str], dict[Side, list[Any]]] = {}
    for side in BOTH:
        with domain_errors("reading open ties"), open_side(settings, side, "ties") as connection:
            for row in connection.execute(_OPEN, (MOST,)).fetchall():
                logs.setdefault((row[0], repr(sorted(row[1].items()))), {}).setdefault(side, []).append(row)
    if not logs:
        return 0
    done = 0
    config = settings.config
    with (
        domain_errors("resolving ties"),
        repair_session(settings.source(), None) as source,
        repair_session(settings.target(), None) as target,
    ):
        sides: Sides = {"source": source, "target": target}
        tables = catalog.read(source, config.db_schema, config.tables, "source")
        for (name, _), entries in logs.items():
            if name in tables:
                done += _resolve_one(sides, tables[name], entries)
    settings.journal.record(Step.CONFLICTS, ConflictsEvent.SETTLED, ties=done, open=len(logs) - done)
    return done


def _resolve_one(sides: Sides, table: Table, entries: Mapping[Side, list[Any]]) -> bool:
    key_values = next(iter(entries.values()))[0][1]
    key = [str(key_values[name]) for name in table.key]
    known: dict[str, datetime] = {}
    for rows in entries.values():
        for _, _, _, text, at in rows:
            if text is not None and at is not None:
                known[text] = max(at, known.get(text, at))
    now: dict[Side, Version | None] = {side: _row(connection, table, key) for side, connection in sides.items()}
    best, over = choose(known, now)
    if not over:
        return False
    if best is not None:
        for side, connection in sides.items():
            seen = now[side]
            if seen is None or seen.text == best:
                continue
            try:
                if not _write(connection, table, key, seen.text, best):
                    return False
            except _LATER:
                return False
    for side, rows in entries.items():
        sides[side].execute(
            "UPDATE task_migration.conflicts SET settled = %s WHERE id = ANY(%s)",
            ("stands" if best is None else "by commit time", [row[2] for row in rows]),
        )
    return True


def _where(table: Table) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("t.{} = %s::text::{}").format(sql.Identifier(name), sql.SQL(table.column(name).type))
        for name in table.key
    )


def _row(connection: Connection, table: Table, key: list[str], lock: bool = False) -> Version | None:
    row = connection.execute(
        sql.SQL(
            "SELECT t::text, w.timestamp, w.roident FROM {} t, LATERAL task_migration.local_write(t.xmin) w WHERE {} {}"
        ).format(table.identifier, _where(table), sql.SQL("FOR UPDATE OF t" if lock else "")),
        key,
    ).fetchone()
    return None if row is None else Version(str(row[0]), row[1] if row[2] == 0 else None)


def _write(connection: Connection, table: Table, key: list[str], seen: str, best: str) -> bool:
    fields = [name for name in table.stored if name not in table.key and table.column(name).identity != "a"]
    with connection.transaction():
        now = _row(connection, table, key, lock=True)
        if now is None or now.text != seen:
            return False
        connection.execute(
            sql.SQL("UPDATE {table} t SET {sets} FROM (SELECT (%s::text::{table}).*) c WHERE {where}").format(
                table=table.identifier,
                sets=sql.SQL(", ").join(sql.SQL("{0} = c.{0}").format(sql.Identifier(name)) for name in fields),
                where=_where(table),
            ),
            [best, *key],
        )
    return True
