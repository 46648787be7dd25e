"""How many rows the Task Service deletes a minute: what it deletes is deleted on the monolith too, a moment later.

Counted are its own deletions, by the record of writes: those that a rule or a repair made have a cause.
"""

from __future__ import annotations

from collections.abc import Iterable

from components.config import MigrationConfig
from components.config_gates import GateLimits
from scripts.database import helper_schema
from scripts.database.connections import Connection
from scripts.replication import writes
from scripts.replication.documents import DeletedRows

#: Minutes that are looked at: a burst is told of, and keeps a canary from moving, for so long.
MINUTES = 60


def read(target: Connection, config: MigrationConfig) -> tuple[DeletedRows, ...]:
    """The target's own deletions of the last hour; nothing where no record of writes is."""
    if not helper_schema.whole(target):
        return ()
    given = {"schema": config.db_schema, "minutes": MINUTES, "since": None}
    rows = target.execute(writes.somebody("deleted", "target"), given).fetchall()
    return tuple(DeletedRows(table=row[0], at=row[1], deleted=row[2], rows=max(row[2], row[3])) for row in rows)


def unusual(found: Iterable[DeletedRows], limits: GateLimits) -> list[str]:
    """The minutes in which more went than is usual, with value and limit. Pure."""
    return [
        f"the Task Service deleted {one.deleted:,} of {one.rows:,} rows of {one.table} ({one.percent:.3g} %) in the minute of {one.at}; "
        f"the limit is below {limits.delete_share_limit_percent:g} % a minute, from {limits.delete_minimum_rows:,} rows on"
        for one in found
        if one.deleted >= limits.delete_minimum_rows and one.percent >= limits.delete_share_limit_percent
    ]
