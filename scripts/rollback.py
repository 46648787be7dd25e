"""Back to the monolith: weight 0 by config and a deployment, drain, then a fence that proves every write arrived."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from scripts import conflicts, fence
from scripts.support.errors import MigrationError, TimedOut
from scripts.support.wait import wait_until

if TYPE_CHECKING:
    from scripts.canary import Stage


def run(stage: Stage, *, reasons: tuple[str, ...] = (), drain_seconds: float = 1.0) -> dict[str, Any]:
    """Move every request to the monolith and prove that it has every write the Task Service acknowledged.

    The routes go first, whatever state the data are in: a fence that does not return must not keep traffic on the side
    that is being left. It is reported, with exit 12, after the routes moved.

    Args:
        reasons: why; kept in the journal.
        drain_seconds: the Task Service must have had no request for so long.

    Returns:
        ``from``, ``to`` (0), ``decision``, ``reasons``, ``seconds`` and, in ``phases``, the seconds each part took.

    Raises:
        MigrationError: the deployment failed; the weight is unchanged.
        TimedOut: the routes moved, but requests go on or the fence did not return within the budget.
    """
    limit = stage.settings.config.rollback_limit_seconds
    journal, started = stage.settings.journal, time.monotonic()
    begun = max(stage.declared_weight(), stage.load_balancer.weight())
    journal.record("rollback", "begun", **{"from": begun, "reasons": list(reasons)})

    stage.deployer.up({"canaryWeight": 0})
    stage.load_balancer.confirm(0)
    routed = time.monotonic() - started
    journal.record("rollback", "routed", seconds=routed)

    wait_until(
        lambda: _idle(stage),
        lambda idle: idle is not None and idle >= drain_seconds,
        what=f"no request on the Task Service for {drain_seconds:g} s",
        timeout=max(1.0, limit - routed),
        remedy="the routes are on the monolith; look who still calls the Task Service directly",
    )
    drained = time.monotonic() - started
    try:
        conflicts.set_tie_winner(stage.settings, "source")
        fence.reverse(stage.settings, timeout=max(1.0, limit - drained))
    except (MigrationError, TimedOut) as error:
        journal.record("rollback", "unproven", reason=str(error))
        raise TimedOut(
            f"all routes are on the monolith since {routed:.1f} s, but the reverse fence did not return: {error}; writes of the "
            "Task Service may be missing on the monolith: keep both databases, mend replication, then run rollback again"
        ) from None
    seconds = time.monotonic() - started
    document = {
        "from": begun,
        "to": 0,
        "decision": "rollback",
        "reasons": list(reasons) or ["asked for"],
        "seconds": round(seconds, 3),
        "limit_seconds": limit,
        "within_limit": seconds <= limit,
        "phases": {
            "routed": round(routed, 3),
            "drained": round(drained - routed, 3),
            "fenced": round(seconds - drained, 3),
        },
    }
    journal.record("rollback", "done", **document)
    return document


def _idle(stage: Stage) -> float | None:
    try:
        return stage.metrics.idle_seconds()
    except MigrationError:
        return None
