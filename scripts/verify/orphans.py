"""The orphan audit: what foreign keys would have refused. Those that cross the border are asked of the source; those between
the moved tables hold for whoever writes there, but do not fire for what replication applies, so they are looked at as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from psycopg import sql

from scripts.database import catalog
from scripts.database.catalog import Constraint, Table
from scripts.database.connections import Connection
from scripts.database.pace import Pace
from scripts.verify.documents import Orphans
from scripts.verify.sessions import Pair
from scripts.verify.slices import slices

BATCH = 10_000
SAMPLES = 10
#: Lost references that are held to be looked at again; beyond it they are counted as they come.
KEPT = 100_000
Value = tuple[str, ...]


def audit(pair: Pair, table: Table, key: Constraint, catch_up: Callable[[], object], pace: Pace) -> Orphans | None:
    """References on the target by one foreign key that lead to no row on the source; None when all are good.

    What is missing is looked at again after a fence, as a parent deleted on the source takes its children on the target
    along a moment later. ``count`` counts values that are referred to, not rows.
    """
    lost: set[Value] = set()
    more = 0
    for piece in slices([(pair.target, table)], pace.rows):
        pace.gate()
        for batch in _references(pair.target, table, key, piece):
            gone = [value for value in _without_parent(pair.source, table, key, batch) if value not in lost]
            room = KEPT - len(lost)
            more += len(gone[room:])
            lost.update(gone[:room])
    if not lost:
        return None
    catch_up()
    held = list(lost)
    still = [
        value
        for start in range(0, len(held), BATCH)
        for batch in _references(pair.target, table, key, _among(table, key, held[start : start + BATCH]))
        for value in _without_parent(pair.source, table, key, batch)
    ]
    return _told(table, key, len(still) + more, sorted(still)[:SAMPLES]) if still else None


def dangling(pair: Pair, table: Table, key: Constraint) -> Orphans | None:
    """References between the moved tables that lead to no row, by one foreign key; None when all are good."""
    row = pair.target.execute(
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
            parent=sql.Identifier(*(key.references or ())),
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
        references=f"{key.parent}({', '.join(key.references_columns)})",
        count=lost,
        samples=[dict(zip(key.columns, value, strict=True)) for value in samples],
    )


def crossing(tables: dict[str, Table], theirs: dict[str, Table]) -> list[tuple[Table, Constraint]]:
    """The source's foreign keys that leave the moved tables, each with the target's table; without those whose columns it lacks."""
    return [
        (theirs[table.name], key)
        for table, key in catalog.crossing(tables)
        if set(key.columns) <= {column.name for column in theirs[table.name].columns}
    ]


def _references(target: Connection, table: Table, key: Constraint, given: sql.Composable) -> Iterator[list[Value]]:
    """The different values of a foreign key's columns in the target's rows ``t`` that are ``given``, in batches."""
    names = [sql.SQL("t.{}").format(sql.Identifier(name)) for name in key.columns]
    there = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(name) for name in names)
    places = [f"v{i}" for i in range(len(names))]
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(place)) for place in places)
    query = sql.SQL("SELECT {} FROM (SELECT DISTINCT {} FROM {} t WHERE {} AND {}) AS d({})").format(
        texts, sql.SQL(", ").join(names), table.identifier, there, given, catalog.identifiers(places)
    )
    with target.transaction(), target.cursor(name="orphans") as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(BATCH):
            yield [tuple(row) for row in rows]


def _among(table: Table, key: Constraint, values: list[Value]) -> sql.Composed:
    names = sql.SQL(", ").join(sql.SQL("t.{}").format(sql.Identifier(name)) for name in key.columns)
    casts = sql.SQL(", ").join(
        sql.SQL("v.{}::{}").format(sql.Identifier(f"v{i}"), sql.SQL(table.column(name).type))
        for i, name in enumerate(key.columns)
    )
    return sql.SQL("({}) IN (SELECT {} FROM {})").format(names, casts, _values(values, len(key.columns)))


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
        sql.Identifier(*(key.references or ())),
        match,
    )
    return [tuple(row) for row in source.execute(query).fetchall()]
