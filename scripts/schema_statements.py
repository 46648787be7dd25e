"""The SQL that makes a table again from its catalog description."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import psycopg
from psycopg import sql

from scripts.catalog import Column, Index, Sequence_, Table
from scripts.support.postgres import Connection

Enums = Mapping[tuple[str, str], tuple[str, ...]]


def quote(name: str) -> str:
    """``name`` as a quoted identifier."""
    return sql.Identifier(name).as_string(None)


def _raw(text: str) -> sql.SQL:
    # Text of the catalog's own functions (format_type, pg_get_expr, pg_get_indexdef), which is SQL already.
    return sql.SQL(text)


def column_text(column: Column) -> str:
    """A column's definition as it stands in CREATE TABLE."""
    parts = [quote(column.name), column.type]
    if column.collation:
        parts.append(f"COLLATE {column.collation}")
    if column.generated:
        parts.append(f"GENERATED ALWAYS AS ({column.default}) STORED")
    elif column.identity:
        parts.append(f"GENERATED {'ALWAYS' if column.identity == 'a' else 'BY DEFAULT'} AS IDENTITY")
    elif column.default is not None:
        parts.append(f"DEFAULT {column.default}")
    if column.not_null:
        parts.append("NOT NULL")
    return " ".join(parts)


def column_mend(table: str, wanted: Column, found: Column) -> str:
    """The ALTER TABLE that turns ``found`` into ``wanted``."""
    name = quote(wanted.name)
    actions = []
    if wanted.type != found.type or wanted.collation != found.collation:
        collation = f" COLLATE {wanted.collation}" if wanted.collation else ""
        actions.append(f"ALTER COLUMN {name} TYPE {wanted.type}{collation} USING {name}::{wanted.type}")
    if wanted.default != found.default and not wanted.generated:
        actions.append(
            f"ALTER COLUMN {name} " + (f"SET DEFAULT {wanted.default}" if wanted.default else "DROP DEFAULT")
        )
    if wanted.not_null != found.not_null:
        actions.append(f"ALTER COLUMN {name} {'SET' if wanted.not_null else 'DROP'} NOT NULL")
    if not actions:
        return f"recreate column {name} of {table} as {column_text(wanted)}"
    return f"ALTER TABLE {table} {', '.join(actions)}"


def index_shape(index: Index) -> str:
    """An index's definition without its name."""
    return re.sub(r"^(CREATE (?:UNIQUE )?INDEX )(?:\"(?:[^\"]|\"\")+\"|\S+)( ON )", r"\1\2", index.definition)


def read_enums(connection: Connection, tables: Mapping[str, Table]) -> Enums:
    """Enum types that the columns use, with their labels in order."""
    rows = connection.execute(
        "SELECT DISTINCT n.nspname, t.typname, ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid "
        "ORDER BY e.enumsortorder) FROM pg_attribute a JOIN pg_type c ON c.oid = a.atttypid "
        "JOIN pg_type t ON t.oid = CASE WHEN c.typelem <> 0 AND c.typcategory = 'A' THEN c.typelem ELSE c.oid END "
        "JOIN pg_namespace n ON n.oid = t.typnamespace WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND t.typtype = 'e'",
        ([table.oid for table in tables.values()],),
    ).fetchall()
    return {(row[0], row[1]): tuple(row[2]) for row in rows}


def _sequence(sequence: Sequence_) -> sql.Composed:
    return sql.SQL(
        "CREATE SEQUENCE IF NOT EXISTS {} AS {} INCREMENT BY {} MINVALUE {} MAXVALUE {} START WITH {} CACHE {} {}"
    ).format(
        sequence.identifier,
        _raw(sequence.type),
        sql.Literal(sequence.increment),
        sql.Literal(sequence.minimum),
        sql.Literal(sequence.maximum),
        sql.Literal(sequence.start),
        sql.Literal(sequence.cache),
        sql.SQL("CYCLE" if sequence.cycle else "NO CYCLE"),
    )


def pre_data(tables: Sequence[Table], schema: str, enums: Enums, target: Connection) -> list[sql.Composed | sql.SQL]:
    """Schema, enum types, sequences and bare tables with their defaults and checks, in order."""
    statements: list[sql.Composed | sql.SQL] = [
        sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema))
    ]
    for (space, name), labels in enums.items():
        if not target.execute(
            "SELECT 1 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE nspname = %s AND typname = %s",
            (space, name),
        ).fetchone():
            members = sql.SQL(", ").join(map(sql.Literal, labels))
            statements.append(sql.SQL("CREATE TYPE {} AS ENUM ({})").format(sql.Identifier(space, name), members))
    for table in tables:
        serials = [sequence for sequence in table.sequences if not sequence.identity]
        statements += [_sequence(sequence) for sequence in serials]
        checks = [
            f"CONSTRAINT {quote(constraint.name)} {constraint.definition}"
            for constraint in table.constraints
            if constraint.kind == "c"
        ]
        body = ",\n  ".join([column_text(column) for column in table.columns] + checks)
        unlogged = "UNLOGGED " if table.persistence == "u" else ""
        statements.append(sql.SQL("CREATE {}TABLE {} (\n  {}\n)").format(_raw(unlogged), table.identifier, _raw(body)))
        statements += [
            sql.SQL("ALTER SEQUENCE {} OWNED BY {}").format(
                sequence.identifier, sql.Identifier(table.schema, table.name, sequence.column)
            )
            for sequence in serials
        ]
    return statements


def owners(tables: Iterable[Table], role: str) -> list[sql.Composed | sql.SQL]:
    """Tables made here belong to the target role; its sequences follow their tables."""
    tables = list(tables)
    first: list[sql.Composed | sql.SQL] = [
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(role))
        for schema in sorted({table.schema for table in tables})
    ]
    return first + [
        sql.SQL("ALTER TABLE {} OWNER TO {}").format(table.identifier, sql.Identifier(role)) for table in tables
    ]


def grants(tables: Iterable[Table], role: str, schema: str) -> list[sql.Composed | sql.SQL]:
    """What the target role needs on tables that another tool made."""
    statements: list[sql.Composed | sql.SQL] = []
    for table in tables:
        statements.append(
            sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}").format(table.identifier, sql.Identifier(role))
        )
        statements += [
            sql.SQL("GRANT USAGE, SELECT ON SEQUENCE {} TO {}").format(
                sql.SQL("{}").format(sequence.identifier), sql.Identifier(role)
            )
            for sequence in table.sequences
        ]
    if statements:
        statements.insert(
            0, sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(role))
        )
    return statements


def after_rows(wanted: Table, found: Table, moved: Iterable[str]) -> list[tuple[int, str, sql.Composed | sql.SQL]]:
    """Keys (stage 0), indexes (stage 1) and foreign keys (stage 2) that the target's table still lacks."""
    moved = set(moved)
    have = {(constraint.kind, constraint.definition) for constraint in found.constraints}
    shapes = {index_shape(index) for index in found.indexes}
    todo: list[tuple[int, str, sql.Composed | sql.SQL]] = []
    for constraint in wanted.constraints:
        if (constraint.kind, constraint.definition) in have or constraint.kind == "c":
            continue
        if constraint.kind == "f" and constraint.references not in moved:
            continue
        statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
            wanted.identifier, sql.Identifier(constraint.name), _raw(constraint.definition)
        )
        todo.append((2 if constraint.kind == "f" else 0, constraint.name, statement))
    todo += [(1, index.name, _raw(index.definition)) for index in wanted.indexes if index_shape(index) not in shapes]
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
                connection.execute(sql.SQL("CREATE TEMP TABLE task_migration_check (LIKE {})").format(like.identifier))
                connection.execute(
                    sql.SQL("ALTER TABLE task_migration_check ADD CONSTRAINT c {}").format(_raw(check.definition))
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
