"""The catalogs read: tables by name, and the types that they need."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from psycopg import sql
from psycopg.rows import TupleRow

from scripts.database import queries
from scripts.database.catalog.objects import (
    Column,
    Constraint,
    Element,
    Index,
    Policy,
    Sequence,
    Statistics,
    Table,
    TableName,
    Trigger,
    Type,
)
from scripts.database.connections import Connection, domain_errors, scalar
from scripts.support.errors import Refused
from scripts.support.order import in_order

_QUERIES = queries.load("scripts.database.catalog")
_T = TypeVar("_T")


def identifiers(names: abc.Sequence[str]) -> sql.Composed:
    """``names`` quoted and joined with commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def quoted(*names: str) -> str:
    """A name with its qualifiers, quoted for SQL that people are shown."""
    return sql.Identifier(*names).as_string(None)


def last_value(connection: Connection, sequence: Sequence) -> int:
    """Where a sequence stands."""
    return int(scalar(connection, sql.SQL("SELECT last_value FROM {}").format(sequence.identifier)) or 0)


def existing(connection: Connection, schema: str, names: abc.Sequence[str]) -> list[str]:
    """Which of ``names`` are tables of ``schema``, in the given order."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = ANY(%s) AND c.relkind IN ('r', 'p')",
        (schema, list(names)),
    ).fetchall()
    found = {str(row[0]) for row in rows}
    return [name for name in names if name in found]


def read(connection: Connection, schema: str, names: abc.Sequence[str], side: str) -> dict[str, Table]:
    """The tables ``names`` of ``schema``, in that order.

    Args:
        side: "source" or "target", for the error's text.

    Raises:
        Refused: one of them does not exist there.
        DatabaseError: the catalog cannot be read.
    """
    with domain_errors(f"reading the {side}'s catalog"):
        found = existing(connection, schema, names)
        missing = [name for name in names if name not in found]
        if missing:
            raise Refused(
                f"the {side} has no table {', '.join(missing)} in schema {schema}; correct `tables` of the stack's configuration"
                + (" or run `task-migration schema apply`" if side == "target" else "")
            )
        rows = connection.execute(_QUERIES["tables"], (schema, list(names)))
        heads = [Table(*map(_frozen, row)) for row in rows]
        oids = [head.oid for head in heads]

        def look(query: str) -> list[TupleRow]:
            return connection.execute(_QUERIES[query], {"oids": oids}).fetchall()

        keys = look("constraints")
        constraints = _by_table((row[1:] for row in keys), Constraint)
        children = _by_table(((row[0], *row[2:]) for row in keys), Constraint)
        columns = _by_table(look("columns"), Column)
        indexes = _by_table(look("indexes"), _index)
        sequences = _by_table(look("sequences"), _sequence)
        policies = _by_table(look("policies"), Policy)
        triggers = _by_table(look("triggers"), Trigger)
        statistics = _by_table(look("statistics"), Statistics)
    tables = {
        head.name: replace(
            head,
            columns=columns.get(head.oid, ()),
            constraints=constraints.get(head.oid, ()),
            children=children.get(head.oid, ()),
            indexes=indexes.get(head.oid, ()),
            sequences=sequences.get(head.oid, ()),
            policies=policies.get(head.oid, ()),
            triggers=triggers.get(head.oid, ()),
            statistics=statistics.get(head.oid, ()),
        )
        for head in heads
    }
    return {name: tables[name] for name in names}


def _by_table(rows: abc.Iterable[abc.Sequence[Any]], make: Callable[..., _T]) -> dict[int, tuple[_T, ...]]:
    found: dict[int, tuple[_T, ...]] = {}
    for oid, *values in rows:
        found[oid] = (*found.get(oid, ()), make(*_frozen(values)))
    return found


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _index(*values: Any) -> Index:
    index = Index(*values)
    return replace(index, elements=tuple(Element(*one) for one in values[6]))


def _sequence(*values: Any) -> Sequence:
    *options, owner, shared = values
    return replace(
        Sequence(*options), owner=owner and _column(owner), shared=tuple(_column(names) for names in shared or ())
    )


def _column(names: tuple[str, str, str]) -> tuple[TableName, str]:
    schema, table, column = names
    return (schema, table), column


def types(connection: Connection, tables: abc.Iterable[Table]) -> tuple[Type, ...]:
    """Every type outside pg_catalog that the tables need, in an order in which they can be made; not those that come with another
    one, as arrays and multiranges do. Rows of a table have no ``definition``."""
    rows = connection.execute(_QUERIES["types"], {"oids": [table.oid for table in tables]}).fetchall()
    return types_of(connection, [row[0] for row in rows])


def types_of(connection: Connection, oids: abc.Iterable[int]) -> tuple[Type, ...]:
    """As :func:`types`, of types by their oids."""
    parts: dict[int, list[int]] = {}
    found: dict[int, Type] = {}
    look = [*oids]
    while look:
        rows = connection.execute(_QUERIES["type"], {"oids": look}).fetchall()
        parts |= {row[0]: row[1] for row in rows}
        found |= {oid: Type(*_frozen(values)) for oid, _, own, *values in rows if own}
        look = [part for row in rows for part in row[1] if part not in parts]
    return tuple(found[oid] for oid in in_order(parts) if oid in found)


def crossing(tables: abc.Mapping[str, Table]) -> list[tuple[Table, Constraint]]:
    """The foreign keys that lead out of the moved tables: they cannot exist on the target."""
    moved = {table.full_name for table in tables.values()}
    return [(table, key) for table in tables.values() for key in table.foreign_keys if key.references not in moved]
