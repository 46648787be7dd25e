"""Give the attempt up: replication and everything of ours goes, on both sides, and the catalogs prove it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from psycopg import sql

from scripts.database import catalog, helper_schema, strangers
from scripts.database.connections import Connection, scalar
from scripts.database.sides import session
from scripts.finish import removal, rights
from scripts.finish.documents import Abandonment, StartOver
from scripts.replication import fence, writes
from scripts.schema import role as service_role
from scripts.support import commands, safety
from scripts.support.errors import DatabaseError, MigrationError, Refused, TimedOut, UsageError
from scripts.support.events import AbandonEvent, RollbackEvent, Step
from scripts.support.progress import SILENT, Progress
from scripts.support.safety import State, Transition
from scripts.support.settings import Settings
from scripts.verify import run as verify
from scripts.writes import watch

Scenario = Literal["copy", "data"]
#: How long what the Task Service wrote may take back to the monolith, seconds.
BACK_SECONDS = 30.0


def run(
    settings: Settings,
    dry_run: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
    reason: str | None = None,
    look: Callable[[], State] = State,
) -> Abandonment:
    """Stop replication and remove slots, publications, subscriptions, triggers and the helper schema.

    The Task Service's role loses its rights to write, and what it wrote is brought back to the monolith first: each record of
    its writes is looked up on the source.

    Args:
        force: go on though writes of the target are lost by it; ``reason`` says why and is kept in the journal.
        look: at the weight, under the operator's lock; called before the rights are taken and before the removal.

    Raises:
        Refused: code of others would run, the Task Service gets requests or writes, the source lacks writes of the target, or `finalize` has begun.
        DatabaseError: something of ours is still there afterwards; the text names it.
    """
    check_reason(force, reason)
    before = removal.leftovers(settings)
    if dry_run:
        return Abandonment(status="dry-run", drained=False, lost={}, removed=before, leftovers=before)
    strangers.refuse_both(settings, "abandon")
    leads = rights.source_leads(settings)
    drained, lost = False, dict[str, int]()
    if before:
        seen = look()
        if not force:
            safety.require(Transition.GIVE_UP, replace(seen, monolith_writes=leads))
        drained, lost, newest = _bring_back(settings, leads, force, progress)
        settings.journal.record(Step.ABANDON, AbandonEvent.ABANDONING, drained=drained, lost=lost, reason=reason)
        _still_given_up(settings, look)
        with session(settings, "target", "abandon", "keeping how far it is") as target:
            if helper_schema.installed(target):
                helper_schema.put(target, helper_schema.DRAINED, {"v": newest})
    removal.remove(settings)
    left = removal.prove(settings)
    done = Abandonment(
        status="abandoned" if before else "nothing-there",
        drained=drained,
        lost=lost,
        removed=before,
        leftovers=left,
    )
    settings.journal.record(Step.ABANDON, AbandonEvent(done.status), removed=before, drained=drained, lost=lost)
    return done


def check_reason(force: bool, reason: str | None) -> None:
    """Raises UsageError when ``force`` comes without a reason."""
    if force and not reason:
        raise UsageError("--force and --reason go together: say why those rows are given up, it is kept in the journal")


def _still_given_up(settings: Settings, look: Callable[[], State]) -> None:
    """Raises Refused when the Task Service gets requests, or another operator acts, by now: it has its rights back then."""
    try:
        safety.require(Transition.GIVE_UP, look())
    except MigrationError:
        service_role.grant_writes(settings)
        raise


def _bring_back(
    settings: Settings, leads: bool, force: bool, progress: Progress
) -> tuple[bool, dict[str, int], int | None]:
    """Close the target to its role and bring back what it wrote: whether fences came through, the writes by table that
    the source lacks, and the number of the target's newest write. Raises Refused when it lacks some, or writes go on, and they are not given up."""
    with session(settings, "target", "abandon", "looking for writes of the Task Service") as target:
        if helper_schema.get(target, helper_schema.COPY) is None:
            return False, {}, None
        newest = _newest_write(target)
        if helper_schema.get(target, helper_schema.DRAINED) == {"v": newest}:
            # Killed in the removal: the source's part may be gone already, and nothing was written since.
            return True, {}, newest
        problem, drained = None, False
        try:
            if leads:
                service_role.withhold_writes(target, settings.config)
            with progress.work("bring back what the Task Service wrote", BACK_SECONDS, "s"):
                if fence.available(settings):
                    fence.both(settings, BACK_SECONDS)
                    drained = True
        except MigrationError as late:
            problem = f"the way back is not drained: {late}"
        lost = dict(Counter(writes.lacking(settings, "target").values()))
        # Less than before when it was pruned meanwhile.
        if (_newest_write(target) or 0) > (newest or 0):
            problem = "the Task Service, or somebody else, writes to the target"
        elif lost:
            problem = problem or "replication does not run both ways"
        elif seen := watch.unrecorded(target, settings.config, "target"):
            problem = f"more may have left no record: {'; '.join(seen)}; `task-migration verify` finds them"
        if (lost or problem) and not force:
            service_role.grant_writes(settings)
            raise Refused(
                f"writes of the target that the source lacks: {sum(lost.values())} ({lost or 'none known'}), the limit is none: {problem}. "
                "Nothing was removed; mend the way back (`task-migration replicate status`) and run it again, or give those writes up "
                "with --force --reason TEXT"
            )
    return drained, lost, newest


def _newest_write(target: Connection) -> int | None:
    """The number of the newest write that somebody made on the target; None where there is none."""
    if target.execute("SELECT to_regclass('task_migration.target_writes')").fetchone() == (None,):
        return None
    newest: int | None = scalar(target, removal.QUERIES["newest_write"])
    return newest


def may_empty(scenario: Scenario, weight: int, leads: bool, only_there: dict[str, int], forced: bool) -> None:
    """Whether the target may be emptied. Pure.

    Args:
        weight: percent of the requests that the Task Service gets.
        leads: whether the monolith can still write, so that the source holds the current rows.
        only_there: rows by table of which nothing proves that the source has them.
        forced: they are given up, with a reason.

    Raises:
        Refused: it may not; the text says what to do first.
    """
    safety.require(Transition.GIVE_UP, State(live=weight, monolith_writes=leads))
    rows = {table: number for table, number in only_there.items() if number}
    if rows and not forced:
        first = (
            "repair them with `task-migration verify --repair newest`" if scenario == "data" else "mend the way back"
        )
        raise Refused(
            f"the target has rows of its own that the source is not proven to have: {rows}; the limit is none. Nothing was "
            f"changed. {first.capitalize()}, or give them up with --force --reason TEXT"
        )


def start_over(
    settings: Settings,
    scenario: Scenario,
    weight: int,
    reason: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress = SILENT,
    look: Callable[[], State] = State,
) -> StartOver:
    """Stop replication, empty the target's tables, so that step 1 can start again (docs/plan.md, 'Rollback', 1 and 3).

    While replication runs, what the Task Service wrote is brought back first and both sides are compared; where it does not,
    each write of the target whose record the source lacks counts as not proven.

    Args:
        weight: percent of the requests that the Task Service gets; the caller has asked the load balancer.
        reason: why; kept in the journal. ``force`` needs one.
        force: give up rows of the target that the source is not proven to have.
        look: as in :func:`run`.

    Raises:
        Refused: the weight is not 0, code of others would run, the monolith no longer writes, or the target has rows of its own and no ``force``.
        DatabaseError: something of ours is still there afterwards.
    """
    check_reason(force, reason)
    leads = rights.source_leads(settings)
    # What needs no look at rows is said first, whatever state replication is in.
    may_empty(scenario, weight, leads, {}, force)
    drained, only_there = _only_on_target(settings, progress)
    may_empty(scenario, weight, leads, only_there, force)
    before = removal.leftovers(settings)
    if not dry_run:
        strangers.refuse_both(settings, "abandon")
        settings.journal.record(
            Step.ROLLBACK, RollbackEvent.EMPTYING, scenario=scenario, reason=reason, only_on_target=only_there
        )
        with session(settings, "target", "abandon", "taking the Task Service's rights") as target:
            service_role.withhold_writes(target, settings.config)
        _still_given_up(settings, look)
        removal.remove(settings)
    document = StartOver(
        scenario=scenario,
        status="dry-run" if dry_run else "emptied",
        drained=drained,
        only_on_target=only_there,
        removed=before,
        truncated=[] if dry_run else _empty(settings),
        leftovers=before if dry_run else removal.prove(settings),
        next=commands.AGAIN,
    )
    if not dry_run:
        settings.journal.record(Step.ROLLBACK, RollbackEvent.EMPTIED, **document.plain())
    return document


def _only_on_target(settings: Settings, progress: Progress) -> tuple[bool, dict[str, int]]:
    """Whether the way back was drained, and the rows by table that the source is not proven to have."""
    try:
        if fence.available(settings):
            with progress.work("bring back what the Task Service wrote", BACK_SECONDS, "s"):
                fence.both(settings, BACK_SECONDS)
            found = verify.run(settings, progress=progress)
            # More differences than are listed: any of them may be of either kind.
            return True, {
                entry.table: sum(d.kind != "missing_on_target" for d in entry.differences)
                + entry.unsettled
                + max(0, entry.differences_total - len(entry.differences))
                for entry in found.tables
            }
    except (TimedOut, DatabaseError) as broken:
        settings.journal.record(Step.ROLLBACK, RollbackEvent.NOT_DRAINED, reason=str(broken))
    return False, own_writes(settings)


def own_writes(settings: Settings) -> dict[str, int]:
    """Writes of the target's own, by table, that the source lacks; all rows where no copy of ours is known.

    A copy that did not end has none: nothing writes to the target before replication runs.
    """
    config = settings.config
    with session(settings, "target", "abandon", "looking for rows of the target's own") as target:
        state = helper_schema.get(target, helper_schema.COPY)
        if state is not None:
            return (
                dict(Counter(writes.lacking(settings, "target").values())) if state.get("status") == "complete" else {}
            )
        found = {}
        for name in catalog.existing(target, config.db_schema, config.tables):
            row = target.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(config.db_schema, name))
            ).fetchone()
            found[name] = int(row[0]) if row else 0
    return {name: rows for name, rows in found.items() if rows}


def _empty(settings: Settings) -> list[str]:
    with session(settings, "target", "abandon", "emptying the target") as target:
        names = catalog.existing(target, settings.config.db_schema, settings.config.tables)
        if names:
            tables = sql.SQL(", ").join(sql.Identifier(settings.config.db_schema, name) for name in names)
            with target.transaction():
                target.execute("SET LOCAL session_replication_role = replica")
                target.execute(sql.SQL("TRUNCATE {}").format(tables))
    return names
