"""Give the attempt up: replication and everything of ours goes, on both sides, and the catalogs prove it."""

from __future__ import annotations

from typing import Literal

from psycopg import sql

from scripts.database import catalog, helper_schema
from scripts.database.connections import domain_errors
from scripts.database.sides import open_side
from scripts.finish import removal
from scripts.finish.documents import Abandonment, StartOver
from scripts.replication import fence
from scripts.support.errors import DatabaseError, Refused, TimedOut, UsageError
from scripts.support.events import AbandonEvent, FinalizeEvent, RollbackEvent, Step
from scripts.support.progress import SILENT, Progress
from scripts.support.settings import Settings
from scripts.verify import run as verify
from scripts.writes import record

Scenario = Literal["copy", "data"]


def run(
    settings: Settings,
    dry_run: bool = False,
    truncate_target: bool = False,
    force: bool = False,
    timeout: float = 30.0,
    progress: Progress = SILENT,
) -> Abandonment:
    """Stop replication and remove slots, publications, subscriptions, triggers, origins and the helper schema.

    While replication runs, what the Task Service wrote is brought back to the monolith first.

    Args:
        truncate_target: empty the target's tables as well, so that step 1 can start again (docs/plan.md, 'Rollback', 1).
        force: go on though the way back cannot be drained.

    Raises:
        Refused: writes on the target could not be brought back, and ``force`` was not given.
        DatabaseError: something of ours is still there afterwards; the text names it.
    """
    before = removal.leftovers(settings)
    if dry_run:
        return Abandonment(status="dry-run", drained=False, removed=before, leftovers=before, truncated=[])
    if truncate_target:
        _check_leading(_source_leads(settings), settings.config.source_role)
    with progress.work("bring back what the Task Service wrote", timeout, "s"):
        drained = _drain(settings, timeout, force)
    removal.remove(settings)
    truncated = _empty(settings) if truncate_target else []
    left = removal.prove(settings)
    done = Abandonment(
        status="abandoned" if before else "nothing-there",
        drained=drained,
        removed=before,
        leftovers=left,
        truncated=truncated,
    )
    settings.journal.record(
        Step.ABANDON, AbandonEvent(done.status), removed=before, truncated=truncated, drained=drained
    )
    return done


def _source_leads(settings: Settings) -> bool:
    """Not so after `finalize`, when the target holds the only current rows: emptying it would lose them."""
    config = settings.config
    with domain_errors("looking at the source's rights"), open_side(settings, "source", "abandon") as source:
        writable = source.execute(
            removal.QUERIES["writable"], (config.source_role, config.db_schema, list(config.tables))
        ).fetchone()
    return not (settings.journal.last(Step.FINALIZE, FinalizeEvent.REVOKING) or (writable and writable[0] is False))


def _check_leading(leads: bool, role: str) -> None:
    if not leads:
        raise Refused(
            f"{role} can no longer write on the source, so the target holds the current rows and is not emptied; leave the option out"
        )


def may_empty(
    scenario: Scenario, weight: int, leads: bool, role: str, only_there: dict[str, int], forced: bool
) -> None:
    """Whether the target may be emptied. Pure.

    Args:
        weight: percent of the requests that the Task Service gets.
        leads: whether the monolith can still write, so that the source holds the current rows.
        only_there: rows by table of which nothing proves that the source has them.
        forced: they are given up, with a reason.

    Raises:
        Refused: it may not; the text says what to do first.
    """
    if weight > 0:
        raise Refused(
            f"{weight} % of the requests are on the Task Service, the limit is 0 %: its rows are in use and the target is not "
            "emptied; run `task-migration rollback` first"
        )
    _check_leading(leads, role)
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
    timeout: float = 30.0,
    progress: Progress = SILENT,
) -> StartOver:
    """Stop replication, empty the target's tables, so that step 1 can start again (docs/plan.md, 'Rollback', 1 and 3).

    While replication runs, what the Task Service wrote is brought back first and both sides are compared; where it does not,
    rows that the target's own sessions wrote since the copy count as not proven (rows that they deleted leave no trace).

    Args:
        weight: percent of the requests that the Task Service gets; the caller has asked the load balancer.
        reason: why; kept in the journal. ``force`` needs one.
        force: give up rows of the target that the source is not proven to have.

    Raises:
        Refused: the weight is not 0, the monolith no longer writes, or the target has rows of its own and no ``force``.
        DatabaseError: something of ours is still there afterwards.
    """
    if force and not reason:
        raise UsageError("--force and --reason go together: say why those rows are given up, it is kept in the journal")
    leads = _source_leads(settings)
    role = settings.config.source_role
    # What needs no look at rows is said first, whatever state replication is in.
    may_empty(scenario, weight, leads, role, {}, force)
    drained, only_there = _only_on_target(settings, timeout, progress)
    may_empty(scenario, weight, leads, role, only_there, force)
    before = removal.leftovers(settings)
    if not dry_run:
        settings.journal.record(
            Step.ROLLBACK, RollbackEvent.EMPTYING, scenario=scenario, reason=reason, only_on_target=only_there
        )
        removal.remove(settings)
    document = StartOver(
        scenario=scenario,
        status="dry-run" if dry_run else "emptied",
        drained=drained,
        only_on_target=only_there,
        removed=before,
        truncated=[] if dry_run else _empty(settings),
        leftovers=before if dry_run else removal.prove(settings),
        next="mend the cause, then `task-migration copy` and `task-migration replicate start`",
    )
    if not dry_run:
        settings.journal.record(Step.ROLLBACK, RollbackEvent.EMPTIED, **document.plain())
    return document


def _only_on_target(settings: Settings, timeout: float, progress: Progress) -> tuple[bool, dict[str, int]]:
    """Whether the way back was drained, and the rows by table that the source is not proven to have."""
    try:
        if fence.available(settings):
            with progress.work("bring back what the Task Service wrote", timeout, "s"):
                fence.both(settings, timeout)
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
    """Rows of the target, by table, that its own sessions wrote since the copy; all rows where no copy of ours is known.

    A copy that did not end has no such rows: nothing writes to the target before replication runs.
    """
    config = settings.config
    found = {}
    with domain_errors("looking for rows of the target's own"), open_side(settings, "target", "abandon") as target:
        state = helper_schema.get(target, helper_schema.COPY)
        for name in catalog.existing(target, config.db_schema, config.tables):
            table = sql.Identifier(config.db_schema, name)
            if state is None:
                query = sql.SQL("SELECT count(*) FROM {}").format(table)
            elif state.get("status") != "complete":
                continue
            else:
                query = sql.SQL("SELECT count(DISTINCT key) FROM {} WHERE table_name = {} AND cause IS NULL").format(
                    record.table("target"), sql.Literal(name)
                )
            row = target.execute(query).fetchone()
            found[name] = int(row[0]) if row else 0
    return {name: rows for name, rows in found.items() if rows}


def _empty(settings: Settings) -> list[str]:
    with domain_errors("emptying the target"), open_side(settings, "target", "abandon") as target:
        names = catalog.existing(target, settings.config.db_schema, settings.config.tables)
        if names:
            tables = sql.SQL(", ").join(sql.Identifier(settings.config.db_schema, name) for name in names)
            target.execute(sql.SQL("TRUNCATE {}").format(tables))
    return names


def _drain(settings: Settings, timeout: float, force: bool) -> bool:
    try:
        if not fence.available(settings):
            return False
        fence.both(settings, timeout)
    except (TimedOut, DatabaseError) as late:
        if not force:
            raise Refused(
                f"writes of the target could not be brought back, nothing was removed: {late}; mend the way back, or give up those "
                "writes with --force"
            ) from None
        return False
    return True
