"""The SQL that makes a table again from its catalog description."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import psycopg
from psycopg import sql

from scripts.database import catalog, queries
from scripts.database.catalog import Column, Index, Table, TableName, quoted
from scripts.database.connections import Connection

QUERIES = queries.load("scripts.schema")
Enums = Mapping[tuple[str, str], tuple[str, ...]]


def _raw(text: str) -> sql.SQL:
    # Text of the catalog's own functions (format_type, pg_get_expr, pg_get_indexdef), which is SQL already.
    return sql.SQL(text)


def literal(text: str) -> str:
    """``text`` as an SQL literal."""
    return sql.Literal(text).as_string(None)


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


def option_parts(sequence: catalog.Sequence) -> list[str]:
    """Its options as ALTER SEQUENCE takes them; where it starts and stands is not among them, as that is the band's."""
    return [
        f"INCREMENT BY {sequence.increment}",
        f"MINVALUE {sequence.minimum}",
        f"MAXVALUE {sequence.maximum}",
        f"CACHE {sequence.cache}",
        "CYCLE" if sequence.cycle else "NO CYCLE",
    ]


def sequence_options(sequence: catalog.Sequence) -> str:
    """The options in one text."""
    return " ".join(option_parts(sequence))


def same_options(one: catalog.Sequence, other: catalog.Sequence) -> bool:
    """Whether both hand out the same numbers from the same place."""
    return option_parts(one) == option_parts(other)


_LARGEST = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}


def identity_text(column: Column, sequence: catalog.Sequence | None) -> str:
    """GENERATED .. AS IDENTITY, with the options of its sequence where they are not the defaults."""
    text = f"GENERATED {'ALWAYS' if column.identity == 'a' else 'BY DEFAULT'} AS IDENTITY"
    if sequence is None:
        return text
    plain = replace(sequence, increment=1, minimum=1, maximum=_LARGEST.get(column.type, 0), cache=1, cycle=False)
    return text if same_options(sequence, plain) else f"{text} ({sequence_options(sequence)})"


def owned_by(sequence: catalog.Sequence, table: Table) -> str:
    """The ALTER SEQUENCE that binds it to its column."""
    return (
        f"ALTER SEQUENCE {sequence.identifier.as_string(None)} OWNED BY "
        f"{table.identifier.as_string(None)}.{quoted(sequence.column)}"
    )


def into_band(sequence: catalog.Sequence, table: Table, band: int | None) -> list[str]:
    """The statement that sets a sequence made by a mend into the target's band, above every id there is."""
    if band is None or not sequence.minimum <= band < sequence.maximum:
        return []
    name, column = table.identifier.as_string(None), quoted(sequence.column)
    return [
        f"SELECT setval(pg_get_serial_sequence({literal(name)}, {literal(sequence.column)}), "
        f"greatest({band}, (SELECT coalesce(max({column}), 0) + 1 FROM {name})), false)"
    ]


def column_text(column: Column, sequence: catalog.Sequence | None = None) -> str:
    """A column's definition as it stands in CREATE TABLE; an identity's options only when ``sequence`` is given."""
    parts = [quoted(column.name), column.type]
    if column.collation:
        parts.append(f"COLLATE {column.collation}")
    if column.generated:
        parts.append(f"GENERATED ALWAYS AS ({column.default}) STORED")
    elif column.identity:
        parts.append(identity_text(column, sequence))
    elif column.default is not None:
        parts.append(f"DEFAULT {column.default}")
    if column.not_null:
        parts.append("NOT NULL")
    return " ".join(parts)


def index_shape(index: Index) -> str:
    """An index's definition without its name, in one form."""
    return normal(re.sub(r"^(CREATE (?:UNIQUE )?INDEX )(?:\"(?:[^\"]|\"\")+\"|\S+)( ON )", r"\1\2", index.definition))


def read_enums(connection: Connection, tables: Mapping[str, Table]) -> Enums:
    """Enum types that the columns use, with their labels in order."""
    oids = [table.oid for table in tables.values()]
    rows = connection.execute(QUERIES["enums"], (oids,)).fetchall()
    return {(row[0], row[1]): tuple(row[2]) for row in rows}


def enums_there(connection: Connection, wanted: Enums) -> Enums:
    """Those of ``wanted`` that this side has, with its own labels in order."""
    names = ([space for space, _ in wanted], [name for _, name in wanted])
    rows = connection.execute(QUERIES["enums_named"], names).fetchall()
    return {(row[0], row[1]): tuple(row[2]) for row in rows}


def create_sequence(sequence: catalog.Sequence) -> sql.Composed:
    """CREATE SEQUENCE IF NOT EXISTS."""
    return sql.SQL("CREATE SEQUENCE IF NOT EXISTS {} AS {} START WITH {} {}").format(
        sequence.identifier,
        _raw(sequence.type),
        sql.Literal(sequence.start),
        _raw(sequence_options(sequence)),
    )


def pre_data(tables: Sequence[Table], schema: str, enums: Enums, there: Enums) -> list[sql.Composed | sql.SQL]:
    """Schema, enum types that are not ``there``, sequences and bare tables with their defaults and checks, in order."""
    statements: list[sql.Composed | sql.SQL] = [
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema))
    ]
    for (space, name), labels in enums.items():
        if (space, name) not in there:
            members = sql.SQL(", ").join(map(sql.Literal, labels))
            statements.append(sql.SQL("CREATE TYPE {} AS ENUM ({})").format(sql.Identifier(space, name), members))
    return statements + tables_sql(tables)


def tables_sql(tables: Sequence[Table]) -> list[sql.Composed | sql.SQL]:
    """Sequences and bare tables with their defaults and checks, in order."""
    statements: list[sql.Composed | sql.SQL] = []
    for table in tables:
        serials = [sequence for sequence in table.sequences if not sequence.identity]
        identities = {sequence.column: sequence for sequence in table.sequences if sequence.identity}
        statements += [create_sequence(sequence) for sequence in serials]
        checks = [
            f"CONSTRAINT {quoted(constraint.name)} {constraint.definition}"
            for constraint in table.constraints
            if constraint.kind == "c"
        ]
        columns = [column_text(column, identities.get(column.name)) for column in table.columns]
        body = ",\n  ".join(columns + checks)
        unlogged = "UNLOGGED " if table.persistence == "u" else ""
        statements.append(sql.SQL("CREATE {}TABLE {} (\n  {}\n)").format(_raw(unlogged), table.identifier, _raw(body)))
        statements += [_raw(owned_by(sequence, table)) for sequence in serials]
    return statements


def after_rows(
    wanted: Table, found: Table, moved: Iterable[TableName]
) -> list[tuple[int, str, sql.Composed | sql.SQL]]:
    """Keys (stage 0), indexes (stage 1) and foreign keys (stage 2) that the target's table still lacks."""
    moved = set(moved)
    have = {(constraint.kind, normal(constraint.definition)) for constraint in found.constraints}
    shapes = {index_shape(index) for index in found.plain_indexes}
    todo: list[tuple[int, str, sql.Composed | sql.SQL]] = []
    for constraint in wanted.constraints:
        if (constraint.kind, normal(constraint.definition)) in have or constraint.kind == "c":
            continue
        if constraint.kind == "f" and constraint.references not in moved:
            continue
        statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            wanted.identifier, sql.Identifier(constraint.name), _raw(constraint.definition)
        )
        todo.append((2 if constraint.kind == "f" else 0, constraint.name, statement))
    todo += [
        (1, index.name, _raw(index.definition)) for index in wanted.plain_indexes if index_shape(index) not in shapes
    ]
    return todo


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
