"""A session that repairs rows on one side without the repair travelling back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from components.config import MigrationConfig
from scripts.database import helper_schema
from scripts.database.connections import Connection, connect


def repair_origin(config: MigrationConfig) -> str:
    """The repair's replication origin; origins are the server's, so the name is this migration's own."""
    return f"{config.subscription}_mend"


@contextmanager
def repair_session(url: str, origin: str | None) -> Iterator[Connection]:
    """A session whose writes fire no triggers or foreign keys, pass the conflict rules by and do not travel back."""
    with connect(url, step="repair", lock_timeout_ms=5000) as connection:
        helper_schema.install(connection)
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET task_migration.applying = 'on'")
        if origin is not None:
            connection.execute(
                "SELECT pg_replication_origin_create(%s) WHERE pg_replication_origin_oid(%s) IS NULL", (origin, origin)
            )
            connection.execute("SELECT pg_replication_origin_session_setup(%s)", (origin,))
        yield connection
