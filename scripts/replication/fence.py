"""Fences: proof that everything committed on one side before a moment has been applied on the other.

A heartbeat row is written on one side and waited for on the other. One apply worker applies transactions in the order in
which they were committed (PostgreSQL, 'Logical Replication'), so the row's arrival proves all that went before it.
"""

from __future__ import annotations

import time
from typing import Any

from scripts.database import helper_schema as catalog_state
from scripts.database.connections import Connection, connect, domain_errors
from scripts.database.helper_schema import Side
from scripts.replication import engine as replicate_engine
from scripts.replication.dms import settle as dms_settle
from scripts.support.errors import Refused, TimedOut
from scripts.support.settings import Settings


def forward(settings: Settings, timeout: float = 30.0) -> float:
    """Fence source -> target; returns the seconds it took: the lag. Raises TimedOut, Refused."""
    return _between(settings, "source", timeout)


def reverse(settings: Settings, timeout: float = 30.0) -> float:
    """Fence target -> source; returns the seconds it took: the lag. Raises TimedOut, Refused."""
    return _between(settings, "target", timeout)


def both(settings: Settings, timeout: float = 30.0) -> dict[str, float]:
    """Fence both ways: ``{"forward_seconds", "reverse_seconds"}``."""
    return {"forward_seconds": forward(settings, timeout), "reverse_seconds": reverse(settings, timeout)}


def available(settings: Settings) -> bool:
    """Whether replication is set up both ways and switched on, so that fences have a meaning."""
    return replicate_engine.of(settings).enabled(settings)


def beat(connection: Connection, side: Side) -> int:
    """Write a heartbeat on ``side`` and return its number, one above the last: several fences may run at once."""
    peer = "target" if side == "source" else "source"
    row = connection.execute(
        "UPDATE task_migration.heartbeat SET beat = beat + 1, beat_at = clock_timestamp(), "
        "peer_beat_at = greatest(peer_beat_at, (SELECT beat_at FROM task_migration.heartbeat WHERE side = %s)) "
        "WHERE side = %s RETURNING beat",
        (peer, side),
    ).fetchone()
    if row is None:
        raise Refused(
            f"the heartbeat row of the {side} is missing; run `task-migration rollback --abandon`, then start anew"
        )
    return int(row[0])


def _between(settings: Settings, side: Side, timeout: float) -> float:
    here, there = (settings.source, settings.target) if side == "source" else (settings.target, settings.source)
    slot = settings.config.subscription if side == "source" else settings.config.reverse_subscription
    with (
        domain_errors(f"fence from the {side}"),
        connect(here(), step="fence", name=f"the {side}'s URL") as first,
        connect(there(), step="fence", name="the peer's URL") as second,
    ):
        if not catalog_state.installed(first) or not catalog_state.installed(second):
            raise Refused(
                "no fence without replication: the schema task_migration is missing; run `task-migration copy` first"
            )
        started = time.monotonic()
        number = beat(first, side)
        pause = 0.002
        while True:
            row = second.execute("SELECT beat FROM task_migration.heartbeat WHERE side = %s", (side,)).fetchone()
            if row and row[0] >= number:
                seconds = round(time.monotonic() - started, 4)
                if settings.config.replication_engine == "dms":
                    # Where PostgreSQL replicates, the beat's arrival itself does that.
                    dms_settle.settle(settings)
                return seconds
            if time.monotonic() - started > timeout:
                raise TimedOut(
                    f"fence from the {side}: not through after {timeout:g} s (the limit); last seen: {_observe(first, slot)}; "
                    "see `task-migration replicate status` for why the worker is behind"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)


def _observe(publisher: Connection, slot: str) -> dict[str, Any]:
    row = publisher.execute(
        "SELECT active, wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint "
        "FROM pg_replication_slots WHERE slot_name = %s",
        (slot,),
    ).fetchone()
    if row is None:
        return {"slot": slot, "exists": False}
    return {"slot": slot, "active": row[0], "wal_status": row[1], "lag_bytes": row[2]}
