"""The SQL that makes a table again from its catalog description."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar, get_args

import psycopg
from psycopg import sql

from scripts.database import queries
from scripts.database.catalog import Column, Constraint, Index, Table, TableName, Type, quoted
from scripts.database.catalog import Sequence as Catalogued
from scripts.database.connections import Connection
from scripts.schema import sequences
from scripts.schema.parts import parts
from scripts.schema.sequences import literal
from scripts.support.order import in_order

QUERIES = queries.load("scripts.schema")
Statement = sql.Composed | sql.SQL
Named = TypeVar("Named", Constraint, Index)


def _raw(text: str) -> sql.SQL:
    # Text of the catalog's own functions (format_type, pg_get_expr, pg_get_indexdef), which is SQL already.
    return sql.SQL(text)


_ELEMENT = r"'(?:[^']|'')*'::[a-z_][a-z_ ]*(?:\(\d+\))?"
_CAST_ARRAY = re.compile(rf"\(ARRAY\[({_ELEMENT}(?:, {_ELEMENT})*)\]\)::([a-z_][a-z_ ]*)\[\]")


def normal(text: str) -> str:
    """An expression of the catalog in one form.

    PostgreSQL does not print an IN list as it prints it once it was read back: `ANY ((ARRAY['a'::character varying])::text[])`
    comes back as `ANY (ARRAY[('a'::character varying)::text])`. A check or an index made from the other side's text would
    otherwise differ for ever.
    """

    def inside(found: re.Match[str]) -> str:
        elements = re.findall(_ELEMENT, found.group(1))
        return "ARRAY[" + ", ".join(f"({element})::{found.group(2)}" for element in elements) + "]"

    return _CAST_ARRAY.sub(inside, text)


_FAMILIES = (
    {"int2", "int4", "int8", "numeric", "float4", "float8"},
    {"date", "timestamp", "timestamptz"},
    {"json", "jsonb"},
)


def using(column: Column, other: Column) -> str:
    """The USING of a change of type, where PostgreSQL has no assignment cast of its own.

    Its own refuses a value that does not fit, while a cast written out would cut `varchar(255)` to `varchar(40)` in silence.
    """
    if column.base_type in ("text", "varchar", "bpchar") or column.base_type == other.base_type:
        return ""
    if any({column.base_type, other.base_type} <= family for family in _FAMILIES):
        return ""
    return f" USING {quoted(column.name)}::text::{column.type}"


def column_text(column: Column, sequence: Catalogued | None = None) -> str:
    """A column's definition as it stands in CREATE TABLE; an identity's options only when ``sequence`` is given."""
    parts = [quoted(column.name), column.type]
    if column.collation:
        parts.append(f"COLLATE {column.collation}")
    if column.generated:
        parts.append(f"GENERATED ALWAYS AS ({column.default}) STORED")
    elif column.identity:
        parts.append(sequences.identity_text(column, sequence))
    elif column.default is not None:
        parts.append(f"DEFAULT {column.default}")
    if column.not_null:
        parts.append("NOT NULL")
    return " ".join(parts)


def index_shape(index: Index) -> str:
    """An index's definition without its name, in one form."""
    return normal(re.sub(r"^(CREATE (?:UNIQUE )?INDEX )(?:\"(?:[^\"]|\"\")+\"|\S+)( ON )", r"\1\2", index.definition))


def schemas(tables: Iterable[Table], types: Iterable[Type]) -> list[str]:
    """The schemas in which something of ``tables`` is made, or a type that they need."""
    made = {one.schema for one in types if one.definition}
    for table in tables:
        made |= {table.schema, *(one.schema for one in table.statistics)}
        made |= {one.schema for one in table.sequences if not one.identity}
    return sorted(made)


def pre_data(tables: Sequence[Table], types: Sequence[Type], there: Collection[TableName]) -> list[Statement]:
    """Schemas, types that are not ``there``, sequences, bare tables with their defaults and checks, and what hangs on them that does not
    come after the rows, in order. ``tables`` are :func:`scripts.schema.choice.chosen`."""
    return before_tables(tables, types, there) + tables_sql(tables)


def before_tables(tables: Iterable[Table], types: Iterable[Type], there: Collection[TableName]) -> list[Statement]:
    """Schemas and types that are not ``there``."""
    missing = [one for one in types if (one.schema, one.name) not in there]
    made: list[Statement] = [
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name)) for name in schemas(tables, missing)
    ]
    return made + [_raw(text) for one in missing for text in type_texts(one)]


def type_texts(one: Type) -> list[str]:
    """What makes a type; nothing where an extension does."""
    if one.definition is None:
        return []
    kind = "DOMAIN" if one.kind == "domain" else "TYPE"
    comment = [f"COMMENT ON {kind} {quoted(one.schema, one.name)} IS {literal(one.comment)}"] if one.comment else []
    return [one.definition, *comment]


def tables_sql(tables: Sequence[Table]) -> list[Statement]:
    """As :func:`pre_data`, without schemas and types."""
    taken = sequences.taken(tables)
    plain = [one.sequence for one in taken if not one.sequence.identity]
    made: list[Statement] = [sequences.create(sequence) for sequence in plain]
    defaults: list[Statement] = []
    named = {table.full_name: table for table in tables}
    rows = {name: [c.rows_of for c in table.columns if c.rows_of] for name, table in named.items()}
    for table in (named[name] for name in in_order(rows)):
        identities = {sequence.column: sequence for sequence in table.sequences if sequence.identity}
        checks = [
            f"CONSTRAINT {quoted(constraint.name)} {constraint.definition}"
            for constraint in table.constraints
            if constraint.kind == "c" and constraint.valid
        ]
        late = sequences.from_identities(table, taken)
        alter = f"ALTER TABLE {table.identifier.as_string(None)} ALTER COLUMN"
        defaults += [_raw(f"{alter} {quoted(c.name)} SET DEFAULT {c.default}") for c in table.columns if c.name in late]
        columns = [
            column_text(replace(c, default=None) if c.name in late else c, identities.get(c.name))
            for c in table.columns
        ]
        body = ",\n  ".join(columns + checks)
        unlogged = "UNLOGGED " if table.persistence == "u" else ""
        made.append(sql.SQL("CREATE {}TABLE {} (\n  {}\n)").format(_raw(unlogged), table.identifier, _raw(body)))
        made += [_raw(t) for c in table.columns for t in sequences.retyped(c, identities.get(c.name))]
        made += [_raw(part.make) for part in parts(table) if not part.late]
    return [*made, *defaults, *(_raw(sequences.owned_by(sequence)) for sequence in plain if sequence.owner)]


def bare(table: Table) -> Table:
    """What :func:`tables_sql` makes of it."""
    checks = tuple(c for c in table.constraints if c.kind == "c" and c.valid)
    return replace(table, constraints=checks, indexes=(), triggers=(), replica_identity="d", identity_index=None)


def naked(table: Table) -> Table:
    """Its columns alone, with identities and what is computed: what can be added one by one is not there."""
    columns = (replace(c, storage=None, compression=None, statistics=None, comment=None) for c in table.columns)
    return replace(
        bare(table),
        columns=tuple(c if c.generated else replace(c, default=None) for c in columns),
        constraints=(),
        sequences=tuple(sequence for sequence in table.sequences if sequence.identity),
        row_security=False,
        force_row_security=False,
        policies=(),
        statistics=(),
        options=(),
        comment=None,
    )


#: What comes after the rows, in the order in which it can be made: keys, indexes, foreign keys and comments on these, checks that the
#: source has NOT VALID, triggers, all else.
Stage = Literal["key", "index", "link", "remark", "check", "trigger", "part"]


STAGES = get_args(Stage)


def after_rows(wanted: Table, found: Table) -> list[tuple[Stage, str, Statement]]:
    """What the target's table (``found``) still lacks of the chosen one of the source: stage, name, statement."""
    wanted = aligned(wanted, found)
    have = {(constraint.kind, normal(constraint.definition)) for constraint in found.constraints}
    shapes = {index_shape(index) for index in found.plain_indexes if index.valid}
    todo: list[tuple[Stage, str, Statement]] = []
    for constraint in wanted.constraints:
        if (constraint.kind, normal(constraint.definition)) not in have and (
            constraint.kind != "c" or not constraint.valid
        ):
            stage: Stage = "link" if constraint.kind == "f" else "check" if constraint.kind == "c" else "key"
            todo.append((stage, constraint.name, _raw(add_constraint(wanted, constraint))))
    todo += [
        ("index", index.name, _raw(index.definition))
        for index in wanted.plain_indexes
        if index_shape(index) not in shapes
    ]
    there = {(part.kind, part.name): normal(part.shown) for part in parts(found)}
    links = {f"constraint {key.name}" for key in wanted.foreign_keys}
    for part in parts(wanted):
        if part.late and there.get((part.kind, part.name)) != normal(part.shown):
            stage = "remark" if part.of in links else "trigger" if part.kind == "trigger" else "part"
            name = part.of.removeprefix("constraint ") if stage == "remark" else part.name
            todo.append((stage, name, _raw(part.make)))
    return sorted(todo, key=lambda item: STAGES.index(item[0]))


def add_constraint(table: Table, constraint: Constraint) -> str:
    """The ALTER TABLE that adds it."""
    return f"ALTER TABLE {table.identifier.as_string(None)} ADD CONSTRAINT {quoted(constraint.name)} {constraint.definition}"


def aligned(wanted: Table, found: Table) -> Table:
    """``wanted`` with the names that the other side has for the same constraints and indexes: another migration tool names them otherwise."""
    constraints = _renamed(wanted.constraints, found.constraints, lambda one: (one.kind, normal(one.definition)))
    indexes = _renamed(wanted.indexes, found.indexes, lambda one: (one.constraint is None, index_shape(one)))
    names = {old.name: new.name for old, new in zip(wanted.indexes, indexes, strict=True)}
    identity = names.get(wanted.identity_index or "", wanted.identity_index)
    return replace(wanted, constraints=constraints, indexes=indexes, identity_index=identity)


def _renamed(ours: Sequence[Named], theirs: Sequence[Named], says: Callable[[Named], object]) -> tuple[Named, ...]:
    there = {(says(one), one.name) for one in theirs}
    names = dict(reversed([(says(one), one.name) for one in theirs]))
    return tuple(
        one if (says(one), one.name) in there else replace(one, name=names.get(says(one), one.name)) for one in ours
    )


def types_there(connection: Connection, types: Sequence[Type]) -> set[TableName]:
    """Schema and name of those of ``types`` that this side has, used or not."""
    if not types:
        return set()
    names = [one.schema for one in types], [one.name for one in types]
    return {(str(space), str(name)) for space, name in connection.execute(QUERIES["types_there"], names)}


def with_canonical_checks(connection: Connection, table: Table, like: Table) -> Table:
    """``table`` with its checks as the server writes them after reading them back once.

    PostgreSQL does not print a check as it would print it again (`(a)::text = ANY ((ARRAY[..])::text[])` comes back with
    the cast inside), so a check made from the other side's text would differ for ever. A temporary table like the
    target's, rolled back, does the reading.
    """
    checks = [constraint for constraint in table.constraints if constraint.kind == "c"]
    canonical: dict[str, str] = {}
    for check in checks:
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(
                    sql.SQL("CREATE TABLE pg_temp.task_migration_check (LIKE {})").format(like.identifier)
                )
                connection.execute(
                    sql.SQL("ALTER TABLE pg_temp.task_migration_check ADD CONSTRAINT c {}").format(
                        _raw(check.definition)
                    )
                )
                row = connection.execute(
                    "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'c' AND conrelid = 'pg_temp.task_migration_check'::regclass"
                ).fetchone()
                canonical[check.definition] = str(row[0]) if row else check.definition
        except psycopg.Error:
            # It names a column or function that is missing here: the comparison then reports it as it is.
            canonical[check.definition] = check.definition
    return replace(
        table,
        constraints=tuple(replace(c, definition=canonical.get(c.definition, c.definition)) for c in table.constraints),
    )
