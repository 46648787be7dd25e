"""Step 1.2: both directions of replication, by whatever engine, with the conflict rules; ready when fences come through."""

from __future__ import annotations

from typing import Any

from scripts import catalog_state, conflicts, fence, replicate_engine, replicate_status
from scripts.support.errors import Refused
from scripts.support.postgres import connect, domain_errors
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
    settings.journal.record("replicate", "starting", slot=settings.config.subscription)
    conflicts.install(settings, "source")
    conflicts.install(settings, "target")
    found = engine.start(settings)
    lag = fence.both(settings, timeout)
    status = "already-running" if len(found) == 4 else "started"
    settings.journal.record("replicate", status, found=found, **lag)
    return {"status": status, "found": found, **lag}


def status(settings: Settings, fence_timeout: float = 5.0) -> dict[str, Any]:
    """How both directions stand; see :func:`scripts.replicate_status.read`."""
    return replicate_status.read(settings, fence_timeout)


def wait(settings: Settings, timeout: float = 60.0, max_lag_seconds: float | None = None) -> dict[str, float]:
    """Wait until a fence comes through both ways, quicker than ``max_lag_seconds`` when given.

    Returns:
        ``{"forward_seconds", "reverse_seconds"}`` of the last fences.

    Raises:
        TimedOut: not within ``timeout`` seconds; with the last observation.
    """
    limit = max_lag_seconds if max_lag_seconds is not None else timeout
    return wait_until(
        lambda: fence.both(settings, timeout),
        lambda lag: max(lag.values()) <= limit,
        what=f"replication lag of at most {limit:g} s both ways",
        timeout=timeout,
    )


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
    settings.journal.record("replicate", "stopped", stopped=stopped, drained=drained)
    return {"status": "stopped" if stopped else "not-running", "drained": drained, "stopped": stopped}
