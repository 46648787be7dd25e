"""What became of each acknowledged write of the ledger: kept, replaced by one that had read it, told as lost, or lost unsaid.

Each value of each column of each row is followed by itself. A write's transaction holds its row's lock while it reads and
writes, so `read` is exactly what the write knew of that row on the side that took it, and what it replaced: no clock and no
guess about replication has a part in the verdict, and a value that disappears otherwise than by a write that had read it has
to stand in the conflict log. An unknown outcome (a cut connection, a 504) is one more value that may be there.
What a write left as it was is no write of that column, as in the database's own record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any

import psycopg
from psycopg import sql

from scripts.database import catalog, queries
from scripts.rehearsal.documents import LedgerCheck, LostWrite
from scripts.rehearsal.ledger import Entry, Row, Values, key_of, text_of
from scripts.writes import record

SQL = queries.load("scripts.rehearsal")
Cell = tuple[str, str, str]
"""Table, key, column."""

#: The row itself, as a column: there or gone. A column of a row that is gone has the value GONE too.
EXISTENCE, THERE, GONE = "(row)", "(there)", "(gone)"
#: What an unknown outcome read, or a value that only the database knew, such as a time.
ANY = "(any)"
#: Decided alike on both sides and never told by itself (config `bookkeepingColumns`), so not judged either.
BOOKKEEPING = frozenset({"updated_at"})
#: Conflicts in which a whole row lost its existence; of the others, columns.
ROW_LOST = frozenset({"insert of deleted", "unique claim", "parent gone", "cascade"})
DELETE_LOST = "delete of inserted"
#: A time as JSON has it, where PostgreSQL's text has a space.
JSON_TIME = re.compile(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)")


@dataclass(frozen=True)
class _Write:
    entry: int
    sent: float
    #: Infinite without an answer.
    ended: float
    value: str | None
    read: str | None
    judged: bool


Told = Mapping[Cell, set[str | None]]
"""Cell -> the values that the conflict logs of both sides tell as lost."""


def told_losses(*connections: psycopg.Connection[Any]) -> Told:
    """What the conflict logs of these databases tell as lost. A database without our schema has none."""
    told: dict[Cell, set[str | None]] = {}
    for connection in connections:
        there = connection.execute("SELECT to_regclass('task_migration.conflicts') IS NOT NULL").fetchone()
        if not there or not there[0]:
            continue
        for table, key, kind, lost in connection.execute(SQL["conflicts_told"].encode()):
            if kind in ROW_LOST or kind == DELETE_LOST:
                told.setdefault((table, key, EXISTENCE), set()).add(GONE if kind == DELETE_LOST else THERE)
            for column, value in json.loads(lost or "{}").items():
                told.setdefault((table, key, column), set()).add(_told_text(value))
    return told


def _told_text(value: Any) -> str | None:
    """A value of the conflict log, which has texts of values or whole rows as JSON, as the ledger has it."""
    if isinstance(value, str):
        if value[:1] in ("[", "{"):
            with suppress(ValueError):
                return text_of(json.loads(value))
        return text_of({"t": "true", "f": "false"}.get(value, JSON_TIME.sub(r"\1 \2", value)))
    return text_of(value)


def check_ledger(
    entries: Iterable[Entry], connection: psycopg.Connection[Any], told: Told, *, until: float | None = None
) -> LedgerCheck:
    """Follow every acknowledged write of the ledger to what the database holds now.

    Replication must have caught up (a fence) when the database is not the one that took the writes. Under live load, give
    ``until`` (seconds since the epoch): what was acknowledged later may be in the database or not. The connection's
    snapshot must be taken after ``until``, and the ledger be read some seconds later, so that no write is in the snapshot
    but not yet in the ledger.

    Args:
        told: what both sides' conflict logs say, read after the snapshot.

    Returns:
        what was acknowledged, how much of it was told as lost, and what is lost unsaid.
    """
    writes = list(entries)
    keys: dict[str, set[str]] = {}
    for entry in writes:
        for row in rows_of(entry):
            keys.setdefault(row.table, set()).add(row.key)
    final = {table: _rows(connection, table, sorted(wanted)) for table, wanted in keys.items()}
    return judge(writes, final, told, until=until)


def _rows(connection: psycopg.Connection[Any], table: str, keys: list[str]) -> dict[str, Values]:
    """The rows of a table with these keys, by key."""
    described = catalog.read(connection, "public", [table], "rehearsal's database")[table]
    query = sql.SQL("SELECT {key} AS {name}, t.* FROM {table} t WHERE {key} = ANY(%s)").format(
        key=record.key_of(described, "t"), name=sql.Identifier(EXISTENCE), table=described.identifier
    )
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        found = cursor.execute(query, (keys,)).fetchall()
    return {row.pop(EXISTENCE): {name: text_of(value) for name, value in row.items()} for row in found}


def rows_of(entry: Entry) -> tuple[Row, ...]:
    """The rows that a write wrote: as its answer says, or else what can be said of a request from outside."""
    if entry.rows is not None:
        return entry.rows
    if entry.id is None:
        return ()
    wrote: dict[str, str | None] = {name: text_of(value) for name, value in entry.fields.items() if name != "tags"}
    if entry.op == "complete":
        wrote = {"is_completed": "true", "completed_at": ANY}
    elif entry.op == "reject":
        wrote = {"is_completed": "false", "completed_at": None}
    elif entry.op == "approve":
        wrote = {"approved_at": ANY, "approved_by_user_id": ANY}
    elif entry.op == "delete":
        wrote = {"deleted_at": ANY}
    return (Row("tasks", key_of(entry.id), dict.fromkeys(wrote, ANY), wrote),)


def _cells(row: Row) -> Iterator[tuple[Cell, str | None, str | None, bool]]:
    """Each cell that the row's write touched, with what it read and wrote, and whether it is judged."""
    read, wrote = row.read, row.wrote
    if read is None or wrote is None:
        before, after = (GONE if read is None else THERE), (GONE if wrote is None else THERE)
        if before != after:
            yield (row.table, row.key, EXISTENCE), before, after, True
    for column in {**(read or {}), **(wrote or {})}:
        old = GONE if read is None else read.get(column, ANY)
        new = GONE if wrote is None else wrote.get(column, old)
        if column not in BOOKKEEPING and (old != new or old == ANY):
            # Of a deleted row the existence alone is judged.
            yield (row.table, row.key, column), old, new, wrote is not None


def _by_cell(entries: Sequence[Entry]) -> dict[Cell, list[_Write]]:
    cells: dict[Cell, list[_Write]] = {}
    for number, entry in enumerate(entries):
        ended = inf if entry.ended is None else entry.ended
        for row in rows_of(entry):
            for cell, read, value, judged in _cells(row):
                cells.setdefault(cell, []).append(_Write(number, entry.at, ended, value, read, judged))
    # A change of tags without an answer: any tag row of that task may have come or gone by it.
    unsure: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        if entry.rows is None and "tags" in entry.fields and entry.id is not None:
            unsure.setdefault(str(entry.id), []).append(number)
    for (table, key, column), writes in cells.items():
        if table == "task_tag" and unsure:
            task, tag = json.loads(key)
            for number in unsure.get(task, ()):
                entry = entries[number]
                if int(tag) not in entry.fields["tags"]:
                    writes.append(_Write(number, entry.at, inf, GONE, ANY, judged=False))
                elif column == EXISTENCE:
                    writes.append(_Write(number, entry.at, inf, THERE, ANY, judged=False))
    return cells


def _is(value: str | None, seen: str | None) -> bool:
    """Whether what was written is what was seen; ANY is some value, but neither NULL nor a row that is gone."""
    return value == seen or (value == ANY and seen not in (None, GONE))


def _knew(other: _Write, value: str | None) -> bool:
    return other.read == ANY or _is(value, other.read)


def judge(
    entries: Sequence[Entry], final: Mapping[str, Mapping[str, Values]], told: Told, *, until: float | None = None
) -> LedgerCheck:
    """As :func:`check_ledger`, on what was read: ``final`` is table -> key -> the row at the end."""

    sure = {
        number
        for number, entry in enumerate(entries)
        if entry.acknowledged and (until is None or (entry.ended or entry.at) <= until)
    }
    lost: dict[int, list[LostWrite]] = {}
    said: set[int] = set()
    for cell, writes in _by_cell(entries).items():
        table, key, column = cell
        row = final.get(table, {}).get(key)
        if column == EXISTENCE:
            now: str | None = GONE if row is None else THERE
        elif row is None:
            now = GONE
        elif column in row:
            now = row[column]
        else:
            continue  # a field of the request that is no column of the table
        for write in writes:
            if not write.judged or write.entry not in sure:
                continue
            fate = _fate(write, writes, sure, now, told.get(cell, set()))
            if fate == "told":
                said.add(write.entry)
            elif fate == "lost":
                entry = entries[write.entry]
                lost.setdefault(write.entry, []).append(
                    LostWrite(
                        table=table, key=key, column=column, op=entry.op, side=entry.target, at=entry.at,
                        expected=write.value, found=now,
                    )
                )  # fmt: skip
    return LedgerCheck(
        total=len(sure),
        lost=len(lost),
        told=len(said - lost.keys()),
        unknown=sum(not entry.acknowledged for entry in entries),
        lost_items=[item for number in sorted(lost) for item in lost[number]],
    )


def _fate(
    write: _Write, writes: Sequence[_Write], sure: AbstractSet[int], now: str | None, told: AbstractSet[str | None]
) -> str:
    if _is(write.value, now):
        return "there"
    for other in writes:
        # Who had his answer before this one was sent cannot have read it, whatever the values are.
        later = other is not write and other.ended >= write.sent
        if later and _knew(other, write.value) and (other.entry in sure or _seen(other, writes, now, told)):
            return "replaced"
    return "told" if write.value in told else "lost"


def _seen(unknown: _Write, writes: Sequence[_Write], now: str | None, told: AbstractSet[str | None]) -> bool:
    """Whether a write without an answer shows that it was made: its value is there, was read later, or is told as lost."""
    if _is(unknown.value, now) or unknown.value in told:
        return True
    readers = (other for other in writes if other is not unknown and other.ended >= unknown.sent and other.read != ANY)
    return any(_is(unknown.value, other.read) for other in readers)
