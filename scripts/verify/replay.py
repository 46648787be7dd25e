"""Rows that are written again and again on the side that stays: they are never the same on both sides at one look.

What the side that is left has in such a row, with the other side's records on top that it had not received yet, must be what stands
there on the other side. That needs no quiet moment: each side is read in one statement, the one that is left first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from psycopg import sql

from scripts.database import queries
from scripts.database.catalog import Table
from scripts.database.connections import Connection
from scripts.support.sides import Side, other
from scripts.verify.rows import Key
from scripts.writes import record
from scripts.writes.relations import Relations, literals

_HISTORY = queries.load("scripts.verify")["history"]
Row = dict[str, str | None]
#: Number, kind, values; in the order of the numbers.
Records = list[tuple[int, str, Row | None]]


def unexplained(left: Connection, stays: Connection, side: Side, table: Table, keys: Sequence[Key]) -> list[Key]:
    """Those of ``keys`` whose row on the side that stays is not ``side``'s with the newer records of the other one on top.

    All records of ``side``, which is left and writes no more, must be on the other side already.
    """
    if not keys:
        return []
    before = _history(left, side, table, keys)
    after = _history(stays, other(side), table, keys)
    wrong = []
    for key in keys:
        row, own, received = before[_text(key)]
        there, newer, _ = after[_text(key)]
        if replayed(row, own, [one for one in newer if one[0] not in received]) != there:
            wrong.append(key)
    return wrong


def replayed(row: Row | None, own: Records, missing: Records) -> Row | None:
    """A row (None: there is none) after the records that it lacks: of each column the record with the highest number decides,
    also against the side's ``own`` ones."""
    later = [one for one in own if missing and one[0] > missing[0][0]]
    for _, kind, values in sorted([*missing, *later], key=lambda one: one[0]):
        if kind == "insert":
            row = dict(values or {})
        elif kind == "delete":
            row = None
        elif row is not None:
            row = {**row, **(values or {})}
    return row


def _text(key: Key) -> str:
    return json.dumps(list(key), ensure_ascii=False)


def _history(
    connection: Connection, side: Side, table: Table, keys: Sequence[Key]
) -> dict[str, tuple[Row | None, Records, set[int]]]:
    query = sql.SQL(_HISTORY).format(
        names=literals(table.stored),
        values=record.texts(table, table.stored, "t"),
        table=table.identifier,
        match=Relations(table).at("k.key"),
        own=record.table(side),
        peer=record.table(other(side)),
        name=sql.Literal(table.name),
        # No parameters: with them a percent sign in a column's name would count as one.
        keys=literals(map(_text, keys)),
    )
    found: list[tuple[Any, ...]] = connection.execute(query).fetchall()
    return {
        key: (row, [(int(v), str(kind), values) for v, kind, values in own or ()], set(received or ()))
        for key, row, own, received in found
    }
