"""`rollback`: by Pulumi, or without it in an emergency."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from scripts.canary import operator_lock, stage
from scripts.canary.documents import Moved, Rollback, RollbackPlan
from scripts.canary.guard import LIVE_RULE
from scripts.canary.operator_lock import Lock, Operation
from scripts.canary.stage import Emergency, Stage
from scripts.canary.traffic import LoadBalancer
from scripts.canary.way_back import ZERO, WayBack, at_once
from scripts.deployment.errors import NoPulumi
from scripts.finish import rights
from scripts.support.console import say
from scripts.support.errors import MigrationError, Refused, UsageError
from scripts.support.progress import SILENT, Progress
from scripts.support.settings import Settings
from scripts.support.wait import bounded

#: Share of the budget that a deployment may take before it counts as hanging.
UP_SHARE = 0.5


def roll_back(
    settings: Settings,
    *,
    reason: str | None = None,
    stop_service: bool = False,
    without_pulumi: bool = False,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Rollback | RollbackPlan:
    """The command: the selected stack's routes back to the monolith, by Pulumi or ``without_pulumi``.

    Raises:
        UsageError: no stack is selected.
        MigrationError: as :func:`execute`; where Pulumi cannot run the text names the way that needs none.
    """
    reasons = (reason,) if reason else ()
    if without_pulumi:
        at = stage.build_emergency(settings)
        if dry_run:
            would = [*rights.give_back(settings, dry_run=True), "change the live rule by the API"]
            return RollbackPlan(from_=at.load_balancer.weight(), to=0, would=would)
        return emergency(at, reasons=reasons, stop_service=stop_service, progress=progress)
    leaving = _stage_to_leave(settings)
    if dry_run:
        would = rights.give_back(settings, dry_run=True)
        would += [f"{one.op} {one.name}" for one in leaving.deployer.preview(ZERO, only=LIVE_RULE)]
        return RollbackPlan(from_=leaving.declared_weight(), to=0, would=would)
    return run(leaving, reasons=reasons, stop_service=stop_service, progress=progress)


def _stage_to_leave(settings: Settings) -> Stage:
    """The stage; when Pulumi cannot even be asked, the error names the way that needs none."""
    try:
        return stage.build(settings)
    except (UsageError, NoPulumi):
        raise
    except MigrationError as error:
        raise error.reworded(
            f"{error}; Pulumi cannot run: to move the routes at once and without it, task-migration rollback --emergency"
        ) from None


def run(
    at: Stage, *, reasons: tuple[str, ...] = (), stop_service: bool = False, progress: Progress = SILENT
) -> Rollback:
    """Roll back by an operator's wish; see :func:`execute`. Whoever else moves the weight is stopped: going back wins."""
    with _lock(at.settings, Operation.ROLLBACK) as lock:
        return execute(at, lock, reasons=reasons, stop_service=stop_service, progress=progress)


def execute(
    at: Stage,
    _lock: Lock,
    *,
    reasons: tuple[str, ...] = (),
    stop_service: bool = False,
    unattended: bool = False,
    decision: str | None = None,
    progress: Progress = SILENT,
) -> Rollback:
    """Move every request to the monolith and prove that it has every write the Task Service acknowledged.

    Args:
        _lock: held by the caller. It is not asked again: nothing that happens to its session may stop a rollback.
        reasons: why; kept in the journal.
        stop_service: ask ECS for no task at the end (the plan's scenario 2).
        unattended: when Pulumi cannot run, change the rule by the load balancer's API instead of asking a person to.
        decision: where the one that led to it is kept, for the notice.

    Raises:
        MigrationError: the deployment failed; the weight is unchanged.
        Refused: the monolith cannot write and cannot be given its rights back; the weight is unchanged.
        TimedOut, Refused, DatabaseError: the routes moved, and the proof failed: requests go on, or the fence did not return
            within the budget; something does not allow it; a database is away. Each keeps its kind.
        DataDiffer: the routes moved, and rows of the Task Service are not as such on the monolith.
    """
    return _ByPulumi(at, unattended, progress).go(reasons, stop_service, decision)


def emergency(
    at: Emergency, *, reasons: tuple[str, ...] = (), stop_service: bool = False, progress: Progress = SILENT
) -> Rollback:
    """Roll back without Pulumi: the rule by the load balancer's API at once, the weight 0 into the stack's configuration,
    so that the next ``up`` agrees; then drain and proof as :func:`execute`. Raises as that."""
    with ExitStack() as held:
        return _ByLoadBalancer(at, held, progress).go(reasons, stop_service)


class _ByPulumi(WayBack):
    """A deployment moves the routes."""

    def __init__(self, at: Stage, unattended: bool, progress: Progress) -> None:
        super().__init__(at, progress)
        self._deployer, self._unattended = at.deployer, unattended

    def move(self) -> Moved:
        started = time.monotonic()
        try:
            with self.progress.work("deployment of weight 0", UP_SHARE * self.limit, "s"):
                bounded(
                    lambda: self._deployer.up(ZERO, only=LIVE_RULE),
                    UP_SHARE * self.limit,
                    what="the deployment of weight 0",
                    remedy="look at its backend",
                )
        except MigrationError as error:
            if self._unattended:
                moved = at_once(self.at)
                return moved.model_copy(update={"pulumi": str(error)})
            if isinstance(error, NoPulumi):
                raise
            raise error.reworded(
                f"Pulumi cannot move the routes: {error}; at once and without it: task-migration rollback --emergency"
            ) from None
        seconds = round(time.monotonic() - started, 3)
        if not _elsewhere(self.load_balancer):
            return Moved(by="pulumi up", seconds_of_up=seconds)
        # `up` compares with Pulumi's state: a rule that somebody changed beside it is no difference to it.
        self.load_balancer.to_monolith()
        drift = "the live rule had been changed beside Pulumi; it is at 0 % again. Let the state agree: pulumi refresh"
        return Moved(by="load balancer API", seconds_of_up=seconds, config_set=True, drift=drift)


class _ByLoadBalancer(WayBack):
    """The load balancer's API moves the routes; ``held`` keeps the lock until the end."""

    def __init__(self, at: Emergency, held: ExitStack, progress: Progress) -> None:
        super().__init__(at, progress)
        self._held = held

    def move(self) -> Moved:
        # Routes before anything else, the database's lock included: it may be the database that is down.
        moved = at_once(self.at)
        self._held.enter_context(_lock(self.settings, Operation.EMERGENCY))
        return moved


def _elsewhere(balancer: LoadBalancer) -> bool:
    """Whether the live rule surely gives anything but all to the monolith."""
    try:
        return balancer.weight() != 0
    except Refused:  # it forwards to a target group that is neither of the two
        return True
    except MigrationError:  # unreadable: the confirmation says so
        return False


@contextmanager
def _lock(settings: Settings, operation: Operation) -> Iterator[Lock]:
    with ExitStack() as held:
        lock = Lock()
        try:
            lock = held.enter_context(operator_lock.locked(settings, operation, take_over=True))
        except MigrationError as error:
            say(f"the lock on the canary cannot be had, the routes go back without it: {error}", "yellow")
        yield lock
