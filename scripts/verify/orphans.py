"""The orphan audit: what foreign keys would have refused. Those that cross the border are asked of the source; those between
the moved tables hold for whoever writes there, but do not fire for what replication applies, so they are looked at as well.

Asked row by row it would cost a second pass over every table. So the ids that exist on the source are put into a bitmap,
and the pass that hashes the target's rows looks each reference up in it (``get_bit``, a few nanoseconds). Only where that
finds something, or a key is no plain integer, the exact audit runs, and runs again after a fence.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from psycopg import sql

from scripts.database import catalog
from scripts.database.catalog import Constraint, Table
from scripts.database.connections import Connection
from scripts.verify.documents import Orphans

BATCH = 10_000
SAMPLES = 10
#: Lost references that are held to be looked at again; beyond it they are counted as they are.
KEPT = 100_000
#: Highest id for which a bitmap is made: 512 kB, which each parallel worker gets its copy of.
HIGHEST = 1 << 22
_numbers = count(1)
Value = tuple[str, ...]
Reference = tuple[Table, Constraint]


@dataclass
class Parents:
    """The ids of the referenced tables as bitmaps, each read from the source once. For several threads."""

    schema: str
    _bitmaps: dict[tuple[str, str], tuple[int, bytes] | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def condition(
        self, source: Connection, table: Table, keys: list[Constraint]
    ) -> tuple[sql.Composable | None, list[Constraint]]:
        """A condition on a row ``t`` of the target, true when one of ``keys`` leads to no row of the source, and the keys
        that it covers; the others need the exact audit. A reference made after the bitmap was read makes it true too."""
        parts: list[sql.Composable] = []
        covered = []
        for key in keys:
            if len(key.columns) != 1 or not table.column(key.columns[0]).is_integer:
                continue
            bitmap = self._bitmap(source, str(key.references), key.references_columns[0])
            if bitmap is None:
                continue
            covered.append(key)
            parts.append(
                sql.SQL(
                    "CASE WHEN t.{0} BETWEEN 0 AND {1} THEN get_bit({2}, t.{0}) = 0 ELSE t.{0} IS NOT NULL END"
                ).format(sql.Identifier(key.columns[0]), sql.Literal(bitmap[0]), sql.Literal(bitmap[1]))
            )
        return (sql.SQL(" OR ").join(parts) if parts else None), covered

    def _bitmap(self, source: Connection, name: str, column: str) -> tuple[int, bytes] | None:
        with self._lock:
            if (name, column) not in self._bitmaps:
                self._bitmaps[name, column] = self._read(
                    source, sql.Identifier(self.schema, name), sql.Identifier(column)
                )
            return self._bitmaps[name, column]

    def _read(self, source: Connection, table: sql.Identifier, column: sql.Identifier) -> tuple[int, bytes] | None:
        ends = source.execute(
            sql.SQL(
                "SELECT coalesce(max(p.{0}), 0), coalesce(min(p.{0}), 0), pg_typeof(max(p.{0}))::text FROM {1} p"
            ).format(column, table)
        ).fetchone()
        if ends is None or ends[2] not in ("smallint", "integer", "bigint") or ends[0] > HIGHEST or ends[1] < 0:
            return None
        flags = bytearray(b"0" * (ends[0] + 1))
        query = sql.SQL(
            "SELECT array_agg(i.id) FROM (SELECT p.{0} AS id FROM {1} p WHERE p.{0} > {2} AND p.{0} <= {3} ORDER BY 1 LIMIT 50000) i"
        )
        last = -1
        while row := source.execute(
            query.format(column, table, sql.Literal(last), sql.Literal(ends[0])), binary=True
        ).fetchone():
            if not row[0]:
                break
            for number in row[0]:
                flags[number] = 49
            last = row[0][-1]
        flags.reverse()
        return ends[0], int(flags, 2).to_bytes(len(flags) // 8 + 1, "little")


def audit(
    source: Connection, target: Connection, references: list[Reference], catch_up: Callable[[], object]
) -> list[Orphans]:
    """References on the target that lead to no row on the source, by foreign key; empty when all are good.

    What is missing is looked at again after a fence, as a parent deleted on the source takes its children on the target
    along a moment later. ``count`` counts values that are referred to, not rows.
    """
    found = []
    for table, key in references:
        lost: list[Value] = []
        more = 0
        for batch in _references(target, table, key, None):
            gone = _without_parent(source, table, key, batch)
            more += max(0, len(lost) + len(gone) - KEPT)
            lost += gone[: KEPT - len(lost)]
        if lost:
            catch_up()
            lost = [
                value
                for start in range(0, len(lost), BATCH)
                for batch in _references(target, table, key, lost[start : start + BATCH])
                for value in _without_parent(source, table, key, batch)
            ]
        if lost:
            found.append(_told(table, key, len(lost) + more, sorted(lost)[:SAMPLES]))
    return found


def inside(theirs: dict[str, Table]) -> list[Reference]:
    """The target's foreign keys between the moved tables."""
    return [(table, key) for table in theirs.values() for key in table.constraints if key.kind == "f"]


def dangling(target: Connection, table: Table, key: Constraint) -> Orphans | None:
    """References between the moved tables that lead to no row, by one foreign key; None when all are good."""
    row = target.execute(
        sql.SQL(
            "SELECT count(*), (array_agg(d.v ORDER BY d.v))[:{samples}] FROM (SELECT DISTINCT ARRAY[{texts}] AS v FROM {child} t "
            "WHERE {given} AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {match})) d"
        ).format(
            samples=sql.Literal(SAMPLES),
            texts=sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in key.columns),
            child=table.identifier,
            given=sql.SQL(" AND ").join(
                sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in key.columns
            ),
            parent=sql.Identifier(table.schema, str(key.references)),
            match=sql.SQL(" AND ").join(
                sql.SQL("p.{} {} t.{}").format(sql.Identifier(theirs), sql.SQL(operator), sql.Identifier(own))
                for theirs, operator, own in zip(key.references_columns, key.operators, key.columns, strict=True)
            ),
        )
    ).fetchone()
    return _told(table, key, row[0], [tuple(value) for value in row[1]]) if row and row[0] else None


def _told(table: Table, key: Constraint, lost: int, samples: list[Value]) -> Orphans:
    return Orphans(
        constraint=key.name,
        table=table.name,
        columns=list(key.columns),
        references=f"{key.references}({', '.join(key.references_columns)})",
        count=lost,
        samples=[dict(zip(key.columns, value, strict=True)) for value in samples],
    )


def crossing(tables: dict[str, Table], theirs: dict[str, Table]) -> dict[str, list[Constraint]]:
    """The source's foreign keys that leave the moved tables, by table; without those whose columns the target lacks."""
    found: dict[str, list[Constraint]] = {name: [] for name in tables}
    for table, key in catalog.crossing(tables):
        if set(key.columns) <= {column.name for column in theirs[table.name].columns}:
            found[table.name].append(key)
    return found


def _references(target: Connection, table: Table, key: Constraint, among: list[Value] | None) -> Iterator[list[Value]]:
    """The different values of a foreign key's columns on the target, in batches; of ``among`` alone when given."""
    names = [sql.SQL("t.{}").format(sql.Identifier(name)) for name in key.columns]
    parts: list[sql.Composable] = [sql.SQL("{} IS NOT NULL").format(name) for name in names]
    if among is not None:
        parts.append(
            sql.SQL("({}) IN (SELECT {} FROM {})").format(
                sql.SQL(", ").join(names), _casts(table, key), _values(among, len(names))
            )
        )
    query = sql.SQL("SELECT DISTINCT {} FROM {} t WHERE {}").format(
        sql.SQL(", ").join(names), table.identifier, sql.SQL(" AND ").join(parts)
    )
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(f"v{i}")) for i in range(len(names)))
    query = sql.SQL("SELECT {} FROM ({}) AS d({})").format(
        texts, query, catalog.identifiers([f"v{i}" for i in range(len(names))])
    )
    with target.transaction(), target.cursor(name=f"orphans_{next(_numbers)}") as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(BATCH):
            yield [tuple(row) for row in rows]


def _casts(table: Table, key: Constraint) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("v.{}::{}").format(sql.Identifier(f"v{i}"), sql.SQL(table.column(name).type))
        for i, name in enumerate(key.columns)
    )


def _values(values: list[Value], width: int) -> sql.Composed:
    columns = [sql.Literal([value[i] for value in values]) + sql.SQL("::text[]") for i in range(width)]
    return sql.SQL("unnest({}) v({})").format(
        sql.SQL(", ").join(columns), catalog.identifiers([f"v{i}" for i in range(width)])
    )


def _without_parent(source: Connection, table: Table, key: Constraint, values: list[Value]) -> list[Value]:
    names = [f"v{i}" for i in range(len(key.columns))]
    match = sql.SQL(" AND ").join(
        sql.SQL("p.{} {} v.{}::{}").format(
            sql.Identifier(column), sql.SQL(operator), sql.Identifier(name), sql.SQL(table.column(own).type)
        )
        for column, operator, name, own in zip(key.references_columns, key.operators, names, key.columns, strict=True)
    )
    query = sql.SQL("SELECT {} FROM {} WHERE NOT EXISTS (SELECT 1 FROM {} p WHERE {})").format(
        sql.SQL(", ").join(sql.SQL("v.{}").format(sql.Identifier(name)) for name in names),
        _values(values, len(names)),
        sql.Identifier(table.schema, str(key.references)),
        match,
    )
    return [tuple(row) for row in source.execute(query).fetchall()]
