"""Back to the monolith: weight 0, drain, a fence, and the rows themselves: proof that every write arrived.

The routes go first, whatever state the data are in: a fence that does not return must not keep traffic on the side that
is being left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from scripts.canary import operator_lock, readiness, ready
from scripts.canary.notices import Notices
from scripts.canary.operator_lock import Held, NoLock, Operation
from scripts.canary.service_control import ServiceControl
from scripts.canary.stage import Emergency, Stage
from scripts.canary.traffic import LoadBalancer
from scripts.deployment.pulumi_cli import NoPulumi
from scripts.replication import fence
from scripts.replication.conflicts import install as conflicts
from scripts.support.console import say
from scripts.support.errors import DatabaseError, DataDiffer, MigrationError, Refused, TimedOut
from scripts.support.events import RollbackEvent, Step
from scripts.support.settings import Settings
from scripts.support.wait import bounded, wait_until
from scripts.verify import rollback_proof

#: The Task Service must have had no request for so long, in seconds, where that can be seen.
QUIET_SECONDS = 1.0
#: Longest that the journal may keep a rollback waiting, in seconds.
JOURNAL_SECONDS = 10.0
#: Share of the budget that a deployment may take before it counts as hanging.
UP_SHARE = 0.5
ZERO = {"canaryWeight": 0}


@dataclass(frozen=True)
class _Way:
    """How this rollback moves the routes, and what it ends with."""

    settings: Settings
    load_balancer: LoadBalancer
    #: Moves the routes; gives facts for the report. Raises MigrationError.
    move: Callable[[], dict[str, Any]]
    idle: Callable[[], float | None]
    service: ServiceControl | None
    notices: Notices
    declared: Callable[[], int]
    #: Keeps the weight without deploying.
    configuration: Any


def run(stage: Stage, *, reasons: tuple[str, ...] = (), stop_service: bool = False) -> dict[str, Any]:
    """Roll back by an operator's wish; see :func:`execute`. Whoever else moves the weight is stopped: going back wins."""
    with _lock(stage.settings, Operation.ROLLBACK) as lock:
        return execute(stage, lock, reasons=reasons, stop_service=stop_service)


def execute(
    stage: Stage,
    _lock: Held,
    *,
    reasons: tuple[str, ...] = (),
    stop_service: bool = False,
    unattended: bool = False,
) -> dict[str, Any]:
    """Move every request to the monolith and prove that it has every write the Task Service acknowledged.

    Args:
        _lock: held by the caller. It is not asked again: nothing that happens to its session may stop a rollback.
        reasons: why; kept in the journal.
        stop_service: ask ECS for no task at the end (the plan's scenario 2).
        unattended: when Pulumi cannot run, change the rule by the load balancer's API instead of asking a person to.

    Returns:
        ``from``, ``to`` (0), ``decision``, ``reasons``, ``seconds``, ``limit_seconds``, ``within_limit``, ``by``, ``rows`` (what
        was compared), ``service_stopped`` and, in ``phases``, the seconds each part took.

    Raises:
        MigrationError: the deployment failed; the weight is unchanged.
        TimedOut, Refused, DatabaseError: the routes moved, and the proof failed: requests go on, or the fence did not return within
            the budget; something does not allow it; a database is away. Each keeps its kind.
        DataDiffer: the routes moved, and rows of the Task Service are not as such on the monolith.
    """
    limit = stage.settings.config.rollback_limit_seconds

    def move() -> dict[str, Any]:
        started = time.monotonic()
        try:
            bounded(
                lambda: stage.deployer.up(ZERO),
                UP_SHARE * limit,
                what="the deployment of weight 0",
                remedy="look at its backend",
            )
        except MigrationError as error:
            if not unattended:
                if isinstance(error, NoPulumi):
                    raise
                raise error.reworded(
                    f"Pulumi cannot move the routes: {error}; at once and without it: task-migration rollback --emergency"
                ) from None
            return {**at_once(stage.load_balancer, stage.deployer), "pulumi": str(error)}
        facts = {"by": "pulumi up", "seconds_of_up": round(time.monotonic() - started, 3)}
        if _elsewhere(stage.load_balancer):
            # `up` compares with Pulumi's state: a rule that somebody changed beside it is no difference to it.
            stage.load_balancer.to_monolith()
            drift = (
                "the live rule had been changed beside Pulumi; it is at 0 % again. Let the state agree: pulumi refresh"
            )
            facts |= {"by": "load balancer API", "config_set": True, "drift": drift}
        return facts

    way = _Way(
        stage.settings,
        stage.load_balancer,
        move,
        stage.metrics.idle_seconds,
        stage.service,
        stage.notices,
        stage.declared_weight,
        stage.deployer,
    )
    return _back(way, reasons, stop_service)


def emergency(at: Emergency, *, reasons: tuple[str, ...] = (), stop_service: bool = False) -> dict[str, Any]:
    """Roll back without Pulumi: the rule by the load balancer's API at once, the weight 0 into the stack's configuration,
    so that the next ``up`` agrees; then drain and proof as :func:`execute`. Returns and raises as that."""

    def weight() -> int:
        return int(at.file.config().get("canaryWeight", 0))

    with ExitStack() as held:

        def move() -> dict[str, Any]:
            # Routes before anything else, the database's lock included: it may be the database that is down.
            facts = at_once(at.load_balancer, at.file)
            held.enter_context(_lock(at.settings, Operation.EMERGENCY))
            return facts

        way = _Way(at.settings, at.load_balancer, move, at.idle, at.service, at.notices, weight, at.file)
        return _back(way, reasons, stop_service)


def _elsewhere(balancer: LoadBalancer) -> bool:
    """Whether the live rule surely gives anything but all to the monolith."""
    try:
        return balancer.weight() != 0
    except Refused:  # it forwards to a target group that is neither of the two
        return True
    except MigrationError:  # unreadable: the confirmation says so
        return False


def at_once(balancer: LoadBalancer, configuration: Any) -> dict[str, Any]:
    """Change the rule by the API and keep weight 0 in the configuration, whichever of the two works."""
    balancer.to_monolith()
    return {"by": "load balancer API", **_kept(configuration)}


def _kept(configuration: Any) -> dict[str, Any]:
    try:
        configuration.keep(ZERO)
    except MigrationError as error:
        drift = (
            f"canaryWeight could NOT be set to 0 in the configuration ({error}): set it before the next `up`, or that raises the "
            "weight again"
        )
        return {"config_set": False, "drift": drift}
    drift = (
        "Pulumi's state still has the old weight: the next `up` will show an update of the live rule to 0 % and change nothing "
        "at the load balancer; commit the stack's file, so that no other copy of it raises the weight again"
    )
    return {"config_set": True, "drift": drift}


@contextmanager
def _lock(settings: Settings, operation: Operation) -> Iterator[Held]:
    try:
        held = operator_lock.locked(settings, operation, take_over=True)
        lock = held.__enter__()
    except (DatabaseError, TimedOut) as error:
        say(f"the lock on the canary cannot be had, the routes go back without it: {error}", "yellow")
        yield NoLock()
        return
    try:
        yield lock
    finally:
        held.__exit__(None, None, None)


def _note(settings: Settings, event: RollbackEvent, **facts: Any) -> None:
    """Journal an event of the rollback; a journal that cannot be written, or not now, stops no rollback."""
    try:
        bounded(
            lambda: settings.journal.record(Step.ROLLBACK, event, **facts),
            JOURNAL_SECONDS,
            what="writing the journal",
            remedy="look at TASK_MIGRATION_STATE_DIR",
        )
    except (MigrationError, OSError) as error:
        say(f"not journaled, the rollback goes on: {error}", "yellow")


def _weight(way: _Way) -> int:
    """The weight that is left; that it is not known is no reason to wait."""
    weights = []
    for look in (way.declared, way.load_balancer.weight):
        try:
            weights.append(look())
        except MigrationError as error:
            say(f"the weight is not known for sure, the rollback goes on: {error}", "yellow")
    return max(weights, default=0)


def _since(settings: Settings) -> str | None:
    """Since when the Task Service had live writes; None when the journal cannot tell."""
    try:
        return bounded(
            lambda: ready.past(readiness.events(settings)).since,
            JOURNAL_SECONDS,
            what="reading the journal",
            remedy="look at TASK_MIGRATION_STATE_DIR",
        )
    except (MigrationError, OSError):
        return None


def _back(way: _Way, reasons: tuple[str, ...], stop_service: bool) -> dict[str, Any]:
    settings, started = way.settings, time.monotonic()
    limit = settings.config.rollback_limit_seconds
    begun = _weight(way)
    _note(settings, RollbackEvent.BEGUN, **{"from": begun, "reasons": list(reasons)})
    moved = way.move()
    way.load_balancer.confirm(0)
    routed = time.monotonic() - started
    _note(settings, RollbackEvent.ROUTED, seconds=round(routed, 3), **moved)
    say(f"all routes are on the monolith after {routed:.1f} s, by {moved['by']}", "green")

    def left() -> float:
        return max(1.0, limit - (time.monotonic() - started))

    try:
        _drain(way, left())
        drained = time.monotonic() - started
        conflicts.set_tie_winner(settings, "source")
        fence.reverse(settings, timeout=left())
        fenced = time.monotonic() - started
        rows = rollback_proof.prove(settings, _since(settings), left())
    except MigrationError as error:
        _note(settings, RollbackEvent.UNPROVEN, reason=str(error))
        way.notices.send(settings, f"rollback from {begun} %: routes moved, NOT proven", {"reason": str(error)})
        raise error.reworded(
            f"all routes are on the monolith since {routed:.1f} s, but it is not proven that every write arrived: {error}; keep both "
            "databases, mend replication, then run rollback again"
        ) from None
    if moved.get("config_set") is False:
        # The lock that kept the configuration from being written may be gone by now.
        moved |= _kept(way.configuration)
    again = _held_there(way)
    stopped = _stop(way) if stop_service else False
    seconds = time.monotonic() - started
    document = {
        "from": begun,
        "to": 0,
        "decision": "rollback",
        "reasons": list(reasons) or ["asked for"],
        "seconds": round(seconds, 3),
        "limit_seconds": limit,
        "within_limit": seconds <= limit,
        **moved,
        "moved_again": again,
        "rows": rows.plain(),
        "service_stopped": stopped,
        "phases": {
            "routed": round(routed, 3),
            "drained": round(drained - routed, 3),
            "fenced": round(fenced - drained, 3),
            "compared": round(seconds - fenced, 3),
        },
    }
    if rows.different:
        _note(settings, RollbackEvent.UNPROVEN, **document)
        way.notices.send(settings, f"rollback from {begun} %: rows differ", document)
        first = "; ".join(f"{one.table} {one.key} {one.kind}" for one in rows.different[:5])
        raise DataDiffer(
            f"all routes are on the monolith since {routed:.1f} s, but {len(rows.different)} rows that the Task Service wrote are not "
            f"the same there, none may differ: {first}; mend them: task-migration verify --repair newest, then rollback again"
        )
    _note(settings, RollbackEvent.DONE, **document)
    way.notices.send(settings, f"rollback from {begun} % done in {seconds:.0f} s", document)
    return document


def _drain(way: _Way, budget: float) -> None:
    """Wait until no request is under way on the Task Service: seen where it can be seen, else the longest that one may take.

    Raises:
        TimedOut: requests are still seen when the budget is over.
    """
    wait, begun = way.settings.config.drain_seconds, time.monotonic()

    def look() -> tuple[float | None, float]:
        try:
            return way.idle(), time.monotonic() - begun
        except MigrationError:
            return None, time.monotonic() - begun

    wait_until(
        look,
        lambda seen: seen[0] >= QUIET_SECONDS if seen[0] is not None else seen[1] >= wait,
        what=f"no request on the Task Service for {QUIET_SECONDS:g} s",
        timeout=max(budget, wait + 1.0),
        remedy="the routes are on the monolith; look who still calls the Task Service directly",
    )


def _held_there(way: _Way) -> bool:
    """Whether the rule had to be moved once more: a deployment that ran meanwhile may have raised the weight again."""
    if way.load_balancer.weight() == 0:
        return False
    way.load_balancer.to_monolith()
    wait_until(
        way.load_balancer.weight,
        lambda weight: weight == 0,
        what="the live rule at 0 %, for the second time",
        timeout=30.0,
        remedy="a deployment raises the weight: stop it (pulumi cancel), then roll back again",
    )
    return True


def _stop(way: _Way) -> bool:
    if way.service is None:
        raise MigrationError("there is no ECS service here to stop; leave --stop-service out")
    way.service.stop()
    return True
