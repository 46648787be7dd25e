"""The names of the record of writes: its two tables, its triggers, and how a row's key is written in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from psycopg import sql

from scripts.database.catalog import Column, Table
from scripts.database.helper_schema import HELPER_SCHEMA
from scripts.support.sides import Side

CAPTURE = "00_task_migration_capture"
NO_TRUNCATE = "00_task_migration_truncate"
#: The `cause` of a record that `verify --repair` sends; the rules' own are 'parent gone', 'unique claim' and 'cascade' (apply.sql),
#: somebody's own write has none.
REPAIR = "repair"


def table_name(side: Side) -> str:
    """The table that holds what was written on ``side``; it is there on both sides."""
    return f"{side}_writes"


def table(side: Side) -> sql.Identifier:
    """:func:`table_name`, quoted, with its schema."""
    return sql.Identifier(HELPER_SCHEMA, table_name(side))


def function(table: Table, what: str) -> sql.Identifier:
    """A function of ours for a table; hashed, as a name of 63 bytes leaves no room for a prefix."""
    return sql.Identifier(HELPER_SCHEMA, f"{what}_{digest(table.schema, table.name)}")


def digest(schema: str, name: str) -> str:
    """What the names of our functions for a table end with."""
    return hashlib.sha256(f"{schema}.{name}".encode()).hexdigest()[:12]


def text_of(column: Column, value: sql.Composable) -> sql.Composable:
    """SQL for the text of a column's ``value``, by which the other side gets the same value; NULL stays NULL."""
    if column.root == "bpchar" and column.root_builtin and (column.type == "bpchar" or column.category == "domain"):
        # Without a length, blanks at the end are kept, and a cast to text would drop them.
        return sql.SQL("CASE WHEN {0} IS NOT NULL THEN concat({0}) END").format(value)
    return sql.SQL("{}::text").format(value)


def value_of(column: Column, text: sql.Composable) -> sql.Composable:
    """SQL for a column's value whose text the SQL ``text`` gives."""
    if column.root == "regclass" and column.root_builtin:
        # A cast of text looks for a table of that name, also when it is `-`, which stands for none.
        return sql.SQL("(SELECT r.v FROM json_to_record(json_build_object('v', {})) r(v {}))").format(
            text, sql.SQL(column.cast)
        )
    return sql.SQL("({})::{}").format(text, sql.SQL(column.cast))


def texts(table: Table, names: Iterable[str], row: str) -> sql.Composed:
    """The texts of columns of a row variable, joined with commas."""
    return sql.SQL(", ").join(
        text_of(table.column(name), sql.SQL(f"{row}.{{}}").format(sql.Identifier(name))) for name in names
    )


def at(table: Table, key: Sequence[sql.Composable]) -> sql.Composed:
    """The condition of the row ``t`` whose key is written as the SQL of ``key`` gives it, a text for each column: 1.0 and 1.00 are equal
    and two keys. Compared as the key's index does, and to the last byte: an extension's `=` may stand where no session of ours looks."""
    parts: list[sql.Composable] = []
    for name, element, text in zip(table.key, table.primary.elements if table.primary else (), key, strict=True):
        column, here = table.column(name), sql.SQL("t.{}").format(sql.Identifier(name))
        parts.append(sql.SQL("{} {} {}").format(here, sql.SQL(str(element.operator)), value_of(column, text)))
        if not column.exact:
            parts.append(sql.SQL("{} = {}").format(text_of(column, here), text))
    return sql.SQL(" AND ").join(parts)


def key_of(table: Table, row: str) -> sql.Composed:
    """SQL for the key of a row variable as the record has it: a JSON array of texts in key order, `["5"]`."""
    if all(table.column(name).is_integer for name in table.key):
        # As jsonb writes it, for less.
        values = (sql.SQL(f"{row}.{{}}::text").format(sql.Identifier(name)) for name in table.key)
        parts = sql.SQL(" || '\", \"' || ").join(values)
        return sql.SQL("'[\"' || {} || '\"]'").format(parts)
    return sql.SQL("jsonb_build_array({})::text").format(texts(table, table.key, row))
