"""What the catalogs say of the configured tables. Nothing about columns, keys or sequences is listed anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from psycopg import sql

from scripts.database import queries
from scripts.database.connections import Connection, domain_errors, scalar
from scripts.support.errors import Refused

QUERIES = queries.load("scripts.database")


@dataclass(frozen=True)
class Column:
    """One column; ``type`` as format_type writes it, ``default`` as pg_get_expr writes it."""

    name: str
    type: str
    base_type: str
    not_null: bool
    default: str | None
    generated: bool
    identity: Literal["", "a", "d"]
    builtin: bool
    collation: str | None

    @property
    def is_integer(self) -> bool:
        """Whether it is a smallint, integer or bigint."""
        return self.base_type in ("int2", "int4", "int8")


@dataclass(frozen=True)
class Constraint:
    """A key, check or foreign key; ``kind`` is pg_constraint.contype (p, u, c, f, x). ``operators`` compare the referenced columns
    with the referring ones, with their schemas: those of an extension's types stand outside pg_catalog."""

    name: str
    kind: str
    definition: str
    columns: tuple[str, ...]
    references: str | None = None
    references_columns: tuple[str, ...] = ()
    on_delete: str = ""
    operators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Index:
    """An index that no constraint owns; unique ones matter for conflicts."""

    name: str
    definition: str
    unique: bool
    columns: tuple[str, ...]
    #: Every column it depends on, those of its expressions and its predicate as well.
    uses: tuple[str, ...] = ()


@dataclass(frozen=True)
class OwnedSequence:
    """A sequence that a column owns (serial or identity), with its options."""

    name: str
    schema: str
    column: str
    type: str
    start: int
    increment: int
    minimum: int
    maximum: int
    cache: int
    cycle: bool
    identity: bool

    @property
    def identifier(self) -> sql.Composable:
        """Quoted, with its schema."""
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class Table:
    """One table as its catalog describes it."""

    schema: str
    name: str
    oid: int
    kind: str
    persistence: str
    rows_estimate: int
    pages: int
    columns: tuple[Column, ...]
    constraints: tuple[Constraint, ...] = ()
    indexes: tuple[Index, ...] = ()
    sequences: tuple[OwnedSequence, ...] = ()
    key: tuple[str, ...] = field(default=())

    @property
    def identifier(self) -> sql.Composable:
        """Quoted, with its schema."""
        return sql.Identifier(self.schema, self.name)

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the columns that hold values of their own, in order (generated ones are computed again)."""
        return tuple(column.name for column in self.columns if not column.generated)

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def numeric_key(self) -> str | None:
        """The key column when the key is one integer: the table can then be cut into ranges by value."""
        if len(self.key) == 1 and self.column(self.key[0]).is_integer:
            return self.key[0]
        return None


def identifiers(names: Sequence[str]) -> sql.Composed:
    """``names`` quoted and joined with commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def quoted(*names: str) -> str:
    """A name with its qualifiers, quoted for SQL that people are shown."""
    return sql.Identifier(*names).as_string(None)


def last_value(connection: Connection, sequence: OwnedSequence) -> int:
    """Where a sequence stands."""
    return int(scalar(connection, sql.SQL("SELECT last_value FROM {}").format(sequence.identifier)) or 0)


def existing(connection: Connection, schema: str, names: Sequence[str]) -> list[str]:
    """Which of ``names`` are tables of ``schema``, in the given order."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = ANY(%s) AND c.relkind IN ('r', 'p')",
        (schema, list(names)),
    ).fetchall()
    found = {str(row[0]) for row in rows}
    return [name for name in names if name in found]


def read(connection: Connection, schema: str, names: Sequence[str], side: str) -> dict[str, Table]:
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
        heads = connection.execute(QUERIES["tables"], (schema, list(names))).fetchall()
        oids = [row[0] for row in heads]
        columns = connection.execute(QUERIES["columns"], (oids,)).fetchall()
        constraints = connection.execute(QUERIES["constraints"], (oids,)).fetchall()
        indexes = connection.execute(QUERIES["indexes"], (oids,)).fetchall()
        sequences = connection.execute(QUERIES["sequences"], (oids,)).fetchall()
    tables = {}
    for oid, name, kind, persistence, estimate, pages in heads:
        own = tuple(
            Constraint(r[1], r[2], r[3], tuple(r[4]), r[5], tuple(r[6] or ()), r[7].strip(), tuple(r[8]))
            for r in constraints
            if r[0] == oid
        )
        tables[name] = Table(
            schema=schema,
            name=name,
            oid=oid,
            kind=kind,
            persistence=persistence,
            rows_estimate=estimate,
            pages=pages,
            columns=tuple(Column(*row[1:]) for row in columns if row[0] == oid),
            constraints=own,
            indexes=tuple(Index(r[1], r[2], r[3], tuple(r[4]), tuple(r[5])) for r in indexes if r[0] == oid),
            sequences=tuple(OwnedSequence(*row[1:]) for row in sequences if row[0] == oid),
            key=next((constraint.columns for constraint in own if constraint.kind == "p"), ()),
        )
    return {name: tables[name] for name in names}


def crossing(tables: dict[str, Table]) -> list[tuple[Table, Constraint]]:
    """The foreign keys that lead out of the moved tables: they cannot exist on the target."""
    return [
        (table, constraint)
        for table in tables.values()
        for constraint in table.constraints
        if constraint.kind == "f" and constraint.references not in tables
    ]
