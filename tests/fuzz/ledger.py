"""The last acknowledged value of each cell, and where it is afterwards: as rows of text that each side shows, whatever wrote them.

Between two fences nothing travels while an island's transactions run, so what a side shows after a transaction and did not before is what it wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from scripts.support.sides import BOTH, Side

Key = tuple[str, ...]
Row = dict[str, str | None]
#: By table (without its schema) and key.
Rows = dict[str, dict[Key, Row]]
#: How the record of writes has values, so that they can be compared with the conflict log's.
SETTINGS = (
    "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 3; SET lc_monetary = 'C'"
)


class Shown(NamedTuple):
    """A table that moves: its key, and all its columns that are stored."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]


def shown(source: psycopg.Connection[Any], schema: str) -> dict[str, Shown]:
    """The tables of ``schema``, by name."""
    rows = source.execute(
        "SELECT c.relname, array(SELECT a.attname::text FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(n, at) "
        "JOIN pg_attribute a ON a.attnum = k.n WHERE i.indrelid = c.oid AND a.attrelid = c.oid AND i.indisprimary "
        "AND k.at <= i.indnkeyatts ORDER BY k.at), array(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND "
        "a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum) "
        "FROM pg_class c WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relkind = 'r'",
        (schema,),
    )
    return {name: Shown(name, tuple(key), tuple(columns)) for name, key, columns in rows}


def read(connection: psycopg.Connection[Any], schema: str, tables: Mapping[str, Shown]) -> Rows:
    """All rows of ``tables``."""
    found: Rows = {}
    for name, table in tables.items():
        columns = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(column)) for column in table.columns)
        query = sql.SQL("SELECT {} FROM {} t").format(columns, sql.Identifier(schema, name))
        rows = (dict(zip(table.columns, row, strict=True)) for row in connection.execute(query))
        found[name] = {tuple(str(row[column]) for column in table.key): row for row in rows}
    return found


@dataclass
class Ledger:
    """What each side acknowledged since the last fence: a row's cells, or None for a row that it deleted."""

    written: dict[Side, dict[tuple[str, Key], Row | None]] = field(default_factory=lambda: {side: {} for side in BOTH})

    #: Who wrote, be it what the same transaction took back.
    writers: set[Side] = field(default_factory=set)

    def note(self, side: Side, before: Rows, after: Rows) -> None:
        """A transaction of ``side`` was acknowledged."""
        self.writers.add(side)
        mine = self.written[side]
        for table in after:
            for key in before[table].keys() | after[table].keys():
                old, new = before[table].get(key), after[table].get(key)
                if new is None:
                    mine[table, key] = None
                elif new != old:
                    cells = {name: value for name, value in new.items() if old is None or old[name] != value}
                    mine[table, key] = {**(mine.get((table, key)) or {}), **cells}

    def lost(self, rows: Rows, told: list[tuple[str, Key, Row]]) -> Iterator[str]:
        """What is not there though its writer was told that it is, and that the conflict log does not have either.

        Args:
            rows: as both sides show them after a fence.
            told: the conflict log's rows since the last one: table, key, values.
        """
        said: dict[tuple[str, Key], list[Row]] = {}
        for table, key, values in told:
            said.setdefault((table, key), []).append(values)
        for side, mine in self.written.items():
            for (table, key), cells in mine.items():
                row, logged = rows[table].get(key), said.get((table, key), [])
                what = f"the {side}'s write of {table} {key} is neither there nor told"
                if cells is None:
                    if row is not None and not logged:
                        yield f"{what}: deleted"
                elif row is None:
                    if not logged:
                        yield f"{what}: {cells}"
                else:
                    for name, value in cells.items():
                        if row[name] != value and not any(name in values for values in logged):
                            yield f"{what}: {name} = {value!r:.60}, there is {row[name]!r:.60}"


def conflicts(connection: psycopg.Connection[Any], after: int) -> list[tuple[int, str, Key, str, Row]]:
    """The conflict log of one side beyond a number: number, table, key, kind, values."""
    return [
        (number, table, tuple(map(str, json.loads(key))), kind, json.loads(lost or "{}"))
        for number, table, key, kind, lost in connection.execute(
            "SELECT id, table_name, key, kind, lost FROM task_migration.conflicts WHERE id > %s ORDER BY id", (after,)
        )
    ]
