"""Step 1.2: both directions of replication, by whatever engine, with the conflict rules; ready when fences come through."""

from __future__ import annotations

import time
from typing import Any

from scripts.database import helper_schema as catalog_state
from scripts.database.connections import connect, domain_errors
from scripts.replication import engine as replicate_engine
from scripts.replication import fence
from scripts.replication import status as replicate_status
from scripts.replication.conflicts import install as conflicts
from scripts.support.errors import Refused
from scripts.support.events import ReplicateEvent, Step
from scripts.support.settings import Settings
from scripts.support.wait import wait_until


def start(settings: Settings, timeout: float = 60.0) -> dict[str, Any]:
    """Start both directions; safe to run again, it completes what is missing.

    Order: rules on both sides; the way back with its slot, before the target can take a first write; then forward, from
    the copy's slot; ready when a fence has come through both ways.

    Returns:
        ``{"status": "started"|"already-running", "found": [what was there], "forward_seconds", "reverse_seconds"}``.

    Raises:
        Refused: no complete copy, or its slot is lost.
        TimedOut: a fence did not come through in ``timeout`` seconds, or a table's lock was not to be had.
    """
    engine = replicate_engine.of(settings)
    with (
        domain_errors("replicate start"),
        connect(settings.target(), step="replicate", name="TARGET_DATABASE_URL") as target,
    ):
        state = catalog_state.get(target, "copy")
    if not state or state.get("status") != "complete":
        raise Refused("no complete copy on the target, so nothing to go on from; run `task-migration copy` first")
    engine.check(settings)
    settings.journal.record(Step.REPLICATE, ReplicateEvent.STARTING, slot=settings.config.subscription)
    conflicts.install(settings, "source")
    conflicts.install(settings, "target")
    found = engine.start(settings)
    lag = fence.both(settings, timeout)
    status = "already-running" if len(found) == 4 else "started"
    settings.journal.record(Step.REPLICATE, ReplicateEvent(status), found=found, **lag)
    return {"status": status, "found": found, **lag}


def status(settings: Settings, fence_timeout: float = 5.0) -> dict[str, Any]:
    """How both directions stand; see :func:`scripts.replication.status.read`."""
    return replicate_status.read(settings, fence_timeout)


def wait(settings: Settings, timeout: float = 60.0, max_lag_seconds: float | None = None) -> dict[str, Any]:
    """Wait until a fence comes through both ways, quicker than ``max_lag_seconds`` when given; then look at the bands.

    Returns:
        ``{"forward_seconds", "reverse_seconds", "sequences"}``: the last fences, and each sequence's place in its band.

    Raises:
        TimedOut: not within ``timeout`` seconds; with the last observation.
        Refused: a sequence of the source has reached the target's band, so that both sides would hand out the same ids.
    """
    limit = max_lag_seconds if max_lag_seconds is not None else timeout
    deadline = time.monotonic() + timeout
    lag = wait_until(
        # Each fence has what is left, so that the whole wait ends at its deadline.
        lambda: fence.both(settings, max(0.1, deadline - time.monotonic())),
        lambda lag: max(lag.values()) <= limit,
        what=f"replication lag of at most {limit:g} s both ways",
        timeout=timeout,
    )
    bands = replicate_status.bands(settings)
    reached = [band for band in bands if band["status"] == "fail"]
    if reached:
        raise Refused(
            "; ".join(
                f"sequence {band['sequence']}: the source stands at {band['source_last']}, the target at {band['target_last']}, the band "
                f"begins at {band['band_start']}"
                for band in reached
            )
            + ": both sides may hand out the same ids; route all writes to one side (`task-migration rollback`), raise "
            "sequenceBandStart and copy again"
        )
    return {**lag, "sequences": bands}


def stop(settings: Settings, timeout: float = 60.0, drain: bool = True) -> dict[str, Any]:
    """Drain both directions by a fence, then stop their workers; slots stay, so that ``start`` can go on without a hole.

    Returns:
        ``{"status": "stopped"|"not-running", "drained": bool, "stopped": [subscriptions]}``.

    Raises:
        TimedOut: what was committed before the call did not come through in ``timeout`` seconds; nothing was stopped.
    """
    drained = False
    if drain and fence.available(settings):
        fence.both(settings, timeout)
        drained = True
    stopped = replicate_engine.of(settings).stop(settings, timeout)
    settings.journal.record(Step.REPLICATE, ReplicateEvent.STOPPED, stopped=stopped, drained=drained)
    return {"status": "stopped" if stopped else "not-running", "drained": drained, "stopped": stopped}
