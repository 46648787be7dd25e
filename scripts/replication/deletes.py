"""How many rows the Task Service deletes a minute: what it deletes is deleted on the monolith too, a moment later.

Counted are its own deletions, by the record of writes: those that a rule or a repair made have a cause. Records that both
sides have are pruned, so what goes is added to a count by minute first, in the transaction that prunes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from components.config import MigrationConfig
from components.config_gates import GateLimits
from scripts.database import helper_schema, queries
from scripts.database.connections import Connection
from scripts.replication.documents import DeletedRows

_QUERIES = queries.load("scripts.replication", "writes.sql")
#: Where the target's settings keep what was pruned of the last hour, by table and minute.
DELETES = "deletes"
#: Minutes that are looked at: a burst is told of, and keeps a canary from moving, for so long.
MINUTES = 60


def read(target: Connection, config: MigrationConfig) -> tuple[DeletedRows, ...]:
    """The target's own deletions of the last hour; nothing where no record of writes is."""
    if not helper_schema.installed(target):
        return ()
    rows = target.execute(_QUERIES["deleted"], {"schema": config.db_schema, "minutes": MINUTES}).fetchall()
    return tuple(DeletedRows(table=row[0], at=row[1], deleted=row[2], rows=max(row[2], row[3])) for row in rows)


def unusual(found: Iterable[DeletedRows], limits: GateLimits) -> list[str]:
    """The minutes in which more went than is usual, with value and limit. Pure."""
    return [
        f"the Task Service deleted {one.deleted:,} of {one.rows:,} rows of {one.table} ({one.percent:.3g} %) in the minute of {one.at}; "
        f"the limit is below {limits.delete_share_limit_percent:g} % a minute, from {limits.delete_minimum_rows:,} rows on"
        for one in found
        if one.deleted >= limits.delete_minimum_rows and one.percent >= limits.delete_share_limit_percent
    ]


def keep(target: Connection, gone: Mapping[tuple[str, str], int]) -> None:
    """Add deletions that are pruned (number by table and minute) to the count; in the transaction that prunes them."""
    kept: list[dict[str, Any]] = helper_schema.get(target, DELETES) or []
    counts = {(one["table_name"], one["minute"]): one["deleted"] for one in kept}
    for place, number in gone.items():
        counts[place] = counts.get(place, 0) + number
    # By their text, which orders as time does; each minute once a table, of at most as many as an hour has.
    newest = sorted({minute for _, minute in counts})[-MINUTES:]
    rows = [{"table_name": t, "minute": m, "deleted": n} for (t, m), n in sorted(counts.items()) if m in newest]
    helper_schema.put(target, DELETES, rows)
