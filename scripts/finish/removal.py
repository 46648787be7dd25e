"""Everything of ours goes from both databases, and the catalogs prove it. Safe to run again after it was killed anywhere."""

from __future__ import annotations

from functools import partial

from components.config import MigrationConfig
from scripts.database import helper_schema, queries
from scripts.database.connections import Connection
from scripts.database.sides import both, session
from scripts.replication import roles
from scripts.replication.engine import engine_of
from scripts.support.errors import DatabaseError
from scripts.support.settings import Settings
from scripts.support.sides import BOTH
from scripts.writes import install as writes
from scripts.writes import record

QUERIES = queries.load("scripts.finish")


def remove(settings: Settings) -> None:
    """Remove replication, triggers and the helper schema on both sides, whatever of it is there."""
    config = settings.config
    engine_of(settings).drop(settings)
    with both(settings, "remove", "removing what is ours", writes.LOCK_MS) as (source, target):
        for side in (source, target):
            writes.uninstall(side, config.db_schema, config.tables)
            # The target's schema is the very last: it holds what a killed `finalize` goes on from.
            helper_schema.with_lock_retries(partial(_drop, side, config), "dropping the schema task_migration")


def _drop(connection: Connection, config: MigrationConfig) -> None:
    """The helper schema, and with it the rights of the role of replication, which goes in the same moment."""
    with connection.transaction():
        connection.execute("DROP SCHEMA IF EXISTS task_migration CASCADE")
        roles.drop(connection, config)


def leftovers(settings: Settings) -> list[str]:
    """Everything of ours that the catalogs of both sides still show, ``side: what`` in words; empty when all is gone."""
    found = engine_of(settings).leftovers(settings)
    for side in BOTH:
        with session(settings, side, "leftovers", f"looking for leftovers on the {side}") as connection:
            ours = {"triggers": [record.CAPTURE, record.NO_TRUNCATE]}
            found += [f"{side}: {row[0]}" for row in connection.execute(QUERIES["leftovers"], ours)]
            found += [f"{side}: {role}" for role in roles.leftovers(connection, settings.config)]
    return found


def prove(settings: Settings) -> list[str]:
    """The empty list of leftovers. Raises DatabaseError when something is left, naming it."""
    left = leftovers(settings)
    if left:
        raise DatabaseError(
            f"still there after the removal: {'; '.join(left)}; run the command again, or drop it by hand"
        )
    return left
