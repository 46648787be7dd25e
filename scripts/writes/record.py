"""The names of the record of writes: its two tables, its triggers, and how a row's key is written in it."""

from __future__ import annotations

import hashlib

from psycopg import sql

from scripts.database.catalog import Table
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
    digest = hashlib.sha256(f"{table.schema}.{table.name}".encode()).hexdigest()[:12]
    return sql.Identifier(HELPER_SCHEMA, f"{what}_{digest}")


def key_of(table: Table, row: str) -> sql.Composed:
    """SQL for the key of a row variable as the record has it: a JSON array of texts in key order, `["5"]`."""
    values = [sql.SQL(f"{row}.{{}}").format(sql.Identifier(name)) for name in table.key]
    if all(table.column(name).is_integer for name in table.key):
        # As jsonb writes it, for less.
        parts = sql.SQL(" || '\", \"' || ").join(sql.SQL("{}::text").format(value) for value in values)
        return sql.SQL("'[\"' || {} || '\"]'").format(parts)
    return sql.SQL("jsonb_build_array({})::text").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(v) for v in values)
    )
