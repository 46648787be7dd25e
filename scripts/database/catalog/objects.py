"""What is read of the catalogs: tables and what hangs on them. Fields are in the order of `queries.sql`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from psycopg import sql

#: Schema and name.
TableName = tuple[str, str]
Category = Literal["base", "composite", "domain", "enum", "multirange", "pseudo", "range"]


@dataclass(frozen=True)
class Column:
    """One column; ``type`` as format_type writes it, ``default`` as pg_get_expr writes it; ``base_type`` is pg_type.typname, with its
    schema where that is not pg_catalog, so that another's `int4` is none."""

    name: str
    type: str
    base_type: str
    not_null: bool
    default: str | None
    generated: bool
    identity: Literal["", "a", "d"]
    builtin: bool
    collation: str | None
    #: The type without length, as casts of text need it: with it, a cast would cut.
    cast: str = ""
    #: Whether `=` says equal only of what is the same to the last byte.
    exact: bool = False
    #: Of the type itself, where an array is a base type; and what it is made of in the end, below domains and arrays: ``root`` as ``base_type``.
    category: Category = "base"
    root: str = ""
    root_builtin: bool = True
    root_category: Category = "base"
    #: Whether there is an array on the way to that.
    many: bool = False
    #: The table whose rows that is.
    rows_of: TableName | None = None
    #: Where they are not the type's own, or the default.
    storage: Literal["plain", "external", "extended", "main"] | None = None
    compression: Literal["pglz", "lz4"] | None = None
    statistics: int | None = None
    comment: str | None = None

    @property
    def is_integer(self) -> bool:
        """Whether it is a smallint, integer or bigint."""
        return self.base_type in ("int2", "int4", "int8")


@dataclass(frozen=True)
class Constraint:
    """A key, check or foreign key; ``kind`` is pg_constraint.contype (p, u, c, f, x). Of a foreign key: ``operators`` compare the
    referenced columns with the referring ones, with their schemas, as those of an extension's types stand outside pg_catalog;
    ``on_delete`` is pg_constraint.confdeltype; ``sets`` are the columns that SET NULL or SET DEFAULT sets."""

    table: TableName
    name: str
    kind: str
    definition: str
    columns: tuple[str, ...]
    references: TableName | None = None
    references_columns: tuple[str, ...] = ()
    on_delete: str = ""
    operators: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    match_full: bool = False
    valid: bool = True
    deferrable: bool = False
    deferred: bool = False
    #: Of a check.
    expression: str | None = None
    comment: str | None = None

    @property
    def parent(self) -> str:
        """The table that a foreign key refers to, as `referencedTables` names it."""
        schema, name = self.references or ("", "")
        return name if schema == self.table[0] and "." not in name else f"{schema}.{name}"


@dataclass(frozen=True)
class Element:
    """One key of an index. ``operator``: by which two rows clash, with its schema; None where rows never do."""

    expression: str
    operator: str | None
    collation: str | None

    @property
    def compared(self) -> str:
        """The SQL whose values the operator compares."""
        return f"({self.expression})" + (f" COLLATE {self.collation}" if self.collation else "")


@dataclass(frozen=True)
class Index:
    """An index, those under constraints too."""

    name: str
    definition: str
    unique: bool
    #: Keys that are columns.
    columns: tuple[str, ...]
    #: Every column it depends on, those of its expressions, its condition and INCLUDE as well.
    uses: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    elements: tuple[Element, ...] = ()
    condition: str | None = None
    nulls_equal: bool = False
    #: False: CREATE INDEX CONCURRENTLY failed, and nothing uses it.
    valid: bool = True
    #: Whether it may be checked at the end of a transaction only.
    late: bool = False
    primary: bool = False
    exclusion: bool = False
    #: The constraint that it carries.
    constraint: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Policy:
    """A row security policy; ``roles`` has `public` for everybody."""

    name: str
    permissive: bool
    command: str
    roles: tuple[str, ...]
    using: str | None
    check: str | None
    comment: str | None = None


@dataclass(frozen=True)
class Trigger:
    """A trigger, neither PostgreSQL's own nor ours; ``enabled`` is pg_trigger.tgenabled, ``function`` has its schema, quoted."""

    name: str
    definition: str
    enabled: Literal["O", "D", "R", "A"]
    function: str
    comment: str | None = None


@dataclass(frozen=True)
class Statistics:
    """Extended statistics; ``target`` as ALTER STATISTICS sets it."""

    name: str
    schema: str
    definition: str
    target: int | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Sequence:
    """A sequence that a column takes ids from, or owns, with its options. A table has one entry for each such column."""

    name: str
    schema: str
    #: The column of this table that takes ids from it; of one that nothing here takes from, the one that owns it.
    column: str
    type: str
    start: int
    increment: int
    minimum: int
    maximum: int
    cache: int
    cycle: bool
    #: Whether it is the identity of ``column``.
    identity: bool
    #: Table and column that own it; None: nobody does.
    owner: tuple[TableName, str] | None = None
    #: Other columns of the database whose default takes from it.
    shared: tuple[tuple[TableName, str], ...] = ()

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
    #: How many columns it ever had, dropped ones included.
    shape: int = 0
    #: pg_class.relreplident, and the index when that is `i`.
    replica_identity: Literal["d", "n", "f", "i"] = "d"
    identity_index: str | None = None
    row_security: bool = False
    force_row_security: bool = False
    #: Storage parameters, those of its TOAST table with `toast.` before them.
    options: tuple[str, ...] = ()
    comment: str | None = None
    columns: tuple[Column, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    #: Foreign keys of any table that refer to it, its own as well.
    children: tuple[Constraint, ...] = ()
    indexes: tuple[Index, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    policies: tuple[Policy, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    statistics: tuple[Statistics, ...] = ()

    @property
    def full_name(self) -> TableName:
        """Schema and name."""
        return self.schema, self.name

    @property
    def identifier(self) -> sql.Composable:
        """Quoted, with its schema."""
        return sql.Identifier(self.schema, self.name)

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns; none without one."""
        return next((one.columns for one in self.constraints if one.kind == "p"), ())

    @property
    def stored(self) -> tuple[str, ...]:
        """Names of the columns that hold values of their own, in order (generated ones are computed again)."""
        return tuple(column.name for column in self.columns if not column.generated)

    def column(self, name: str) -> Column:
        """The column of that name. Raises KeyError."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @property
    def numeric_key(self) -> str | None:
        """The key column when the key is one integer: the table can then be cut into ranges by value."""
        if len(self.key) == 1 and self.column(self.key[0]).is_integer:
            return self.key[0]
        return None

    @property
    def foreign_keys(self) -> tuple[Constraint, ...]:
        """Its own foreign keys."""
        return tuple(one for one in self.constraints if one.kind == "f")

    @property
    def primary(self) -> Index | None:
        """The index under the primary key."""
        return next((one for one in self.indexes if one.primary), None)

    @property
    def plain_indexes(self) -> tuple[Index, ...]:
        """Those that no constraint makes."""
        return tuple(one for one in self.indexes if one.constraint is None)

    @property
    def claims(self) -> tuple[Index, ...]:
        """What no two rows may both hold: valid unique and exclusion indexes, but for the primary key."""
        return tuple(one for one in self.indexes if one.valid and (one.unique or one.exclusion) and not one.primary)


@dataclass(frozen=True)
class Type:
    """A type outside pg_catalog."""

    schema: str
    name: str
    kind: Category
    #: The extension that brings it.
    extension: str | None
    #: The SQL that makes it; None where an extension does, or code of somebody's.
    definition: str | None
    #: Of an enum, in order.
    labels: tuple[str, ...] = ()
    comment: str | None = None
