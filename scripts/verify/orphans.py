"""The orphan audit: what foreign keys would have refused, had replication not gone past them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from scripts.database import catalog
from scripts.database.catalog import Constraint, Table
from scripts.database.connections import Connection
from scripts.database.pace import Pace
from scripts.support.sides import BOTH, Side
from scripts.verify.documents import Orphans
from scripts.verify.sessions import Pair
from scripts.verify.slices import slices
from scripts.writes import record
from scripts.writes.relations import filled, refers

BATCH = 10_000
SAMPLES = 10
#: Lost references that are held to be looked at again; beyond it they are counted as they come.
KEPT = 100_000
Value = tuple[str | None, ...]


@dataclass(frozen=True)
class Audit:
    """One foreign key, and where its parents are. What is missing is looked at again after a fence, as a
    parent deleted on one side takes its children on the other along a moment later."""

    #: As the target has it.
    table: Table
    #: As the source has it.
    key: Constraint
    #: Whether the parents are on the source alone.
    crossing: bool
    catch_up: Callable[[], object]
    pace: Pace

    def run(self, pair: Pair) -> list[Orphans]:
        """Of each side, the values that lead to no row; those of both sides are told once. ``count`` counts values, not rows.

        A key between the moved tables is asked of both sides, each of its own rows, as it does not fire for what replication applies. What
        crosses the border refers on the target to rows of the source.
        """
        # What a key that is NOT VALID let pass is known where the source's own rows have it.
        sides: tuple[Side, ...] = ("target",) if self.crossing and self.key.valid else BOTH
        found = {side: self._first(pair, side) for side in sides}
        if not any(lost for lost, _ in found.values()):
            return []
        self.catch_up()
        still = {side: self._again(pair, side, lost) for side, (lost, _) in found.items()}
        more = {side: many for side, (_, many) in found.items()}
        return self._told(still.get("source", set()), still["target"], more.get("source", 0), more["target"])

    def _first(self, pair: Pair, side: Side) -> tuple[set[Value], int]:
        lost: set[Value] = set()
        more = 0
        for piece in slices([(_on(pair, side), self.table)], self.pace.rows):
            self.pace.gate()
            for batch in self._lost(pair, side, piece):
                gone = [value for value in batch if value not in lost]
                room = KEPT - len(lost)
                more += len(gone[room:])
                lost.update(gone[:room])
        return lost, more

    def _again(self, pair: Pair, side: Side, lost: set[Value]) -> set[Value]:
        held = list(lost)
        return {
            value
            for start in range(0, len(held), BATCH)
            for batch in self._lost(pair, side, _among(self.table, self.key, held[start : start + BATCH]))
            for value in batch
        }

    def _lost(self, pair: Pair, side: Side, given: sql.Composable) -> Iterator[list[Value]]:
        """Of the side's rows ``t`` that are ``given`` the different values that lead to no row, in batches."""
        if self.crossing and side == "target":
            for batch in _references(pair.target, self.table, self.key, given):
                yield _without_parent(pair.source, self.table, self.key, batch)
            return
        none = sql.SQL("{} AND NOT EXISTS (SELECT 1 FROM {} p WHERE {})").format(
            given,
            _parent(self.key),
            refers(self.key, "p", [sql.SQL("t.{}").format(sql.Identifier(n)) for n in self.key.columns]),
        )
        yield from _references(_on(pair, side), self.table, self.key, none)

    def _told(self, source: set[Value], target: set[Value], ours: int, theirs: int) -> list[Orphans]:
        """``ours`` and ``theirs`` count what was not kept."""
        sets: list[tuple[Literal["source", "target", "both"], set[Value], int]] = [
            ("both", source & target, min(ours, theirs)),
            ("source", source - target, max(0, ours - theirs)),
            ("target", target - source, max(0, theirs - ours)),
        ]
        return [
            Orphans(
                constraint=self.key.name,
                table=self.table.name,
                columns=list(self.key.columns),
                references=f"{self.key.parent}({', '.join(self.key.references_columns)})",
                side=side,
                known=side == "both" and not self.key.valid,
                count=len(values) + extra,
                samples=[
                    dict(zip(self.key.columns, value, strict=True)) for value in sorted(values, key=_order)[:SAMPLES]
                ],
            )
            for side, values, extra in sets
            if values or extra
        ]


def audits(
    tables: dict[str, Table], theirs: dict[str, Table], catch_up: Callable[[], object], pace: Pace
) -> list[Audit]:
    """One for each foreign key of the source's tables; without those whose columns the target lacks."""
    leading_out = {id(key) for _, key in catalog.crossing(tables)}
    return [
        Audit(theirs[name], key, id(key) in leading_out, catch_up, pace)
        for name, table in tables.items()
        for key in table.foreign_keys
        if set(key.columns) <= {column.name for column in theirs[name].columns}
    ]


def _order(value: Value) -> tuple[str, ...]:
    return tuple(part or "" for part in value)


def _on(pair: Pair, side: Side) -> Connection:
    return pair.source if side == "source" else pair.target


def _parent(key: Constraint) -> sql.Identifier:
    return sql.Identifier(*(key.references or ()))


def _references(side: Connection, table: Table, key: Constraint, given: sql.Composable) -> Iterator[list[Value]]:
    """The different values of a foreign key's columns in a side's rows ``t`` that are ``given``, in batches."""
    names = [sql.SQL("t.{}").format(sql.Identifier(name)) for name in key.columns]
    places = [f"v{i}" for i in range(len(names))]
    texts = sql.SQL(", ").join(
        record.text_of(table.column(name), sql.Identifier(place))
        for name, place in zip(key.columns, places, strict=True)
    )
    query = sql.SQL("SELECT {} FROM (SELECT DISTINCT {} FROM {} t WHERE {} AND {}) AS d({})").format(
        texts, sql.SQL(", ").join(names), table.identifier, filled(key, names), given, catalog.identifiers(places)
    )
    with side.transaction(), side.cursor(name="orphans") as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(BATCH):
            yield [tuple(row) for row in rows]


def _among(table: Table, key: Constraint, values: list[Value]) -> sql.Composed:
    """Whether a row ``t`` has one of these values. Those of a type that is not PostgreSQL's go by their text: its `=` may stand anywhere."""
    same = sql.SQL("IS NOT DISTINCT FROM" if key.match_full else "=")
    parts = []
    for place, name in enumerate(key.columns):
        column, own, value = table.column(name), sql.Identifier("t", name), sql.Identifier("v", f"v{place}")
        pair = (own, record.value_of(column, value)) if column.root_builtin else (record.text_of(column, own), value)
        parts.append(sql.SQL("{} {} {}").format(pair[0], same, pair[1]))
    return sql.SQL("EXISTS (SELECT 1 FROM {} WHERE {})").format(
        _values(values, len(key.columns)), sql.SQL(" AND ").join(parts)
    )


def _values(values: list[Value], width: int) -> sql.Composed:
    columns = [sql.Literal([value[i] for value in values]) + sql.SQL("::text[]") for i in range(width)]
    return sql.SQL("unnest({}) v({})").format(
        sql.SQL(", ").join(columns), catalog.identifiers([f"v{i}" for i in range(width)])
    )


def _without_parent(source: Connection, table: Table, key: Constraint, values: list[Value]) -> list[Value]:
    names = [sql.Identifier("v", f"v{place}") for place in range(len(key.columns))]
    casts = [
        sql.SQL("{}::{}").format(name, sql.SQL(table.column(own).type))
        for name, own in zip(names, key.columns, strict=True)
    ]
    query = sql.SQL("SELECT {} FROM {} WHERE NOT EXISTS (SELECT 1 FROM {} p WHERE {})").format(
        sql.SQL(", ").join(names), _values(values, len(names)), _parent(key), refers(key, "p", casts)
    )
    return [tuple(row) for row in source.execute(query).fetchall()]
