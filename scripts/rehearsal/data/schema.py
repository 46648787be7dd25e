"""The monolith's tables with Laravel's constraint names: six that move, four that stay (docs/plan.md, 'The data')."""

from __future__ import annotations

from typing import Any

import psycopg

from scripts.database import queries

#: Table -> its statements, in the order in which they can be carried out.
TABLES = queries.load("scripts.rehearsal.data", "schema.sql")


def create_source_schema(connection: psycopg.Connection[Any]) -> None:
    """Make the ten tables, empty, in the first schema of the connection's search path, in one transaction.

    Roles and grants are not made here. Raises psycopg.errors.DuplicateTable when one of the tables is there already.
    """
    with connection.transaction():
        for statements in TABLES.values():
            connection.execute(statements.encode())
