"""What the values of the tables are made of: what stands in arrays, domains, composites and ranges, by the catalog alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from scripts.database import queries
from scripts.database.catalog.objects import Table
from scripts.database.connections import Connection

_QUERIES = queries.load("scripts.database.catalog")


@dataclass(frozen=True)
class Part:
    """A type in a column. ``steps``: the way to it, `each`, `ends`, or `field` with its name; none is the column itself."""

    table: Table
    column: str
    steps: tuple[str, ...]
    type: str
    #: By CREATE TYPE: it has another oid on another server, which the binary form of an array or a composite carries.
    made: bool
    #: Whether it has a binary form at all.
    binary: bool
    #: Whether it is an oid that is written as the name of what has it there: regclass and its kin.
    named: bool

    @property
    def by_text(self) -> bool:
        """Whether it comes over as itself as text alone."""
        return self.made or self.named or not self.binary

    @property
    def is_oid(self) -> bool:
        """Whether it is the bare number of something in this database."""
        return self.type == "oid"

    @property
    def shown(self) -> str:
        """Table and column, as people are told."""
        return f"{self.table.name}.{self.column}"

    def values(self) -> sql.Composed:
        """A query of one column `v`: each value of this type that the rows hold, but NULL."""
        at: sql.Composable = sql.SQL("t.{}").format(sql.Identifier(self.column))
        rows: list[sql.Composable] = [sql.SQL("{} t").format(self.table.identifier)]
        steps = iter(self.steps)
        for step in steps:
            if step == "field":
                at = sql.SQL("({}).{}").format(at, sql.Identifier(next(steps)))
                continue
            inner = "SELECT unnest({0})" if step == "each" else "VALUES (lower({0})), (upper({0}))"
            alias = sql.Identifier(f"e{len(rows)}")
            rows.append(sql.SQL("LATERAL (" + inner + ") {1}(v)").format(at, alias))
            at = sql.SQL("{}.v").format(alias)
        return sql.SQL("SELECT {0} AS v FROM {1} WHERE {0} IS NOT NULL").format(at, sql.SQL(", ").join(rows))


def read(connection: Connection, tables: Iterable[Table]) -> list[Part]:
    """Every type in the stored columns of ``tables``, by table and column in their order."""
    by_oid = {table.oid: table for table in tables}
    rows = connection.execute(_QUERIES["parts"], (list(by_oid),)).fetchall()
    return [Part(by_oid[oid], name, tuple(steps), *rest) for oid, name, steps, *rest in rows]
