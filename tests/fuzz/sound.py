"""What PostgreSQL itself says of rows that came past its keys and checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql


def broken(connection: psycopg.Connection[Any], schema: str, tables: list[str]) -> Iterator[str]:
    """Validates each key and check that is valid and builds each index once more, and takes it back; what PostgreSQL refuses."""
    where = "c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relname = ANY(%s)"
    constraints = connection.execute(
        "SELECT k.oid, c.relname, k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid "
        f"WHERE {where} AND k.contype IN ('f', 'c') AND k.convalidated".encode(),
        (schema, tables),
    ).fetchall()
    for oid, table, name in constraints:
        yield from _refused(
            connection,
            sql.SQL("UPDATE pg_constraint SET convalidated = false WHERE oid = {}").format(sql.Literal(oid)),
            sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
                sql.Identifier(schema, table), sql.Identifier(name)
            ),
        )
    for table in tables:
        yield from _refused(connection, sql.SQL("REINDEX TABLE {}").format(sql.Identifier(schema, table)))


def _refused(connection: psycopg.Connection[Any], *statements: sql.Composed) -> Iterator[str]:
    try:
        with connection.transaction(force_rollback=True):
            for statement in statements:
                connection.execute(statement)
    except psycopg.Error as error:
        yield str(error).splitlines()[0]
