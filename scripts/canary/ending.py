"""The ends, by who holds the operator's lock: `finalize`, `rollback --abandon`, `rollback --scenario copy|data`."""

from __future__ import annotations

from collections.abc import Callable

from scripts.canary import history, operator_lock, rollback, stage
from scripts.canary.operator_lock import Lock, Operation
from scripts.finish import abandon
from scripts.finish import finalize as step_4
from scripts.finish.documents import Abandonment, Finalization, StartOver
from scripts.support.console import say
from scripts.support.errors import MigrationError, Refused
from scripts.support.progress import SILENT, Progress
from scripts.support.safety import State
from scripts.support.settings import Settings


def finalize(settings: Settings, *, dry_run: bool = False, progress: Progress = SILENT) -> Finalization:
    """The command `finalize`, at 100 % of the requests where there is a load balancer of this migration.

    Raises:
        Refused: another operator moves the weight, it is not 100 %, or a rollback is owed; as :func:`scripts.finish.finalize.run`.
    """
    if dry_run:
        return step_4.run(settings, dry_run, progress=progress)
    at = stage.build(settings) if settings.has_load_balancer else None

    def see() -> State:
        weights = (None, None) if at is None else (at.declared_weight(), at.load_balancer.weight())
        return history.read(settings).state(*weights)

    with operator_lock.locked(settings, Operation.FINALIZE) as lock:
        return step_4.run(settings, progress=progress, look=_under(lock, see))


def _under(lock: Lock, see: Callable[[], State]) -> Callable[[], State]:
    """What a transition of an end is judged by. Raises TakenOver when another operator acts now."""

    def look() -> State:
        lock.check()
        return see()

    return look


def give_up(
    settings: Settings,
    *,
    reason: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Abandonment:
    """The command `rollback --abandon`: everything of the migration goes, when no request is on the Task Service.

    Raises:
        Refused: another operator moves the weight, it is not 0, or cannot be read though the source has it above 0; as
            :func:`scripts.finish.abandon.run`.
    """
    abandon.check_reason(force, reason)
    if dry_run:
        return abandon.run(settings, dry_run, reason=reason)
    with operator_lock.locked(settings, Operation.ABANDON) as lock:
        look = _under(lock, lambda: State() if force else State(live=_weight(settings)))
        return abandon.run(settings, force=force, reason=reason, progress=progress, look=look)


def _weight(settings: Settings) -> int:
    """The highest that the declared weight and the load balancer's may be; without a load balancer of ours 0."""
    if not settings.has_load_balancer:
        return 0
    try:
        return stage.build_emergency(settings).highest_weight()
    except MigrationError as error:
        since = history.read(settings).since
        if since is not None:
            raise Refused(
                f"the weight cannot be read ({error}), and the Task Service has had requests since {since} without a "
                "rollback that ended: nothing was changed. Run `task-migration rollback` first, or give its writes up with --force --reason TEXT"
            ) from None
        say(f"the weight cannot be read, by what the source has kept it never left 0 %: {error}", "yellow")
        return 0


def start_over(
    settings: Settings,
    scenario: abandon.Scenario,
    *,
    reason: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> StartOver:
    """The plan's scenarios 1 and 3: the target is emptied, for `data` after the routes went back.

    Raises:
        MigrationError: as :func:`scripts.canary.rollback.run` and :func:`scripts.finish.abandon.start_over`.
        Refused: another operator moves the weight.
    """
    # Without a stack there is no load balancer of ours, and nothing that could have moved a request.
    leaving = stage.build(settings) if settings.has_load_balancer else None

    def weight() -> int:
        return leaving.highest_weight() if leaving else 0

    if leaving and scenario == "data" and not dry_run and weight():
        rollback.run(leaving, reasons=(reason or "the data disagree",), progress=progress)
    if dry_run:
        return abandon.start_over(settings, scenario, weight(), reason, force, dry_run, progress=progress)
    with operator_lock.locked(settings, Operation.START_OVER) as lock:
        look = _under(lock, lambda: State(live=weight()))
        return abandon.start_over(settings, scenario, weight(), reason, force, progress=progress, look=look)
