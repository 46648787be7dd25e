"""Fills the monolith's database with seeded rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import psycopg
from psycopg import sql

from scripts.rehearsal.data.rows import GENERATORS, Plan, spread
from scripts.support.errors import UsageError

LINES_PER_WRITE = 2000


def _copy(connection: psycopg.Connection[Any], table: str, lines: Iterator[str]) -> int:
    count = 0
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        while chunk := list(islice(lines, LINES_PER_WRITE)):
            copy.write("\n".join(chunk) + "\n")
            count += len(chunk)
    return count


def populate(connection: psycopg.Connection[Any], rows: int = 1000, seed: int = 1) -> dict[str, int]:
    """Fill the ten empty tables by COPY in one transaction; sequences end ahead of max(id).

    Args:
        rows: number of tasks, 1 or more; the other tables keep the plan's proportions, users are at least 100.
        seed: same rows and seed, same data, byte for byte.

    Returns:
        The number of rows per table.

    Raises:
        UsageError: ``rows`` is below 1.
        psycopg.errors.UniqueViolation: a table is not empty.
    """
    if rows < 1:
        raise UsageError(f"rows is {rows}, the limit is 1 or more; raise it")
    plan = Plan(rows, seed)
    counts = {}
    with connection.transaction():
        # The rows satisfy the foreign keys by construction, so a superuser saves the checks (a test makes them).
        superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        if superuser and superuser[0]:
            connection.execute("SET LOCAL session_replication_role = replica")
        for table, generate in GENERATORS.items():
            counts[table] = _copy(connection, table, generate(plan))
            if table != "task_tag":
                last = spread(counts[table] - 1)
                connection.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", (table, last + 17))
    connection.execute("ANALYZE")
    return counts
