"""What people read of a rehearsal's report and of the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from scripts.cli.view import Column, State, View, finding, table
from scripts.rehearsal.waits import described
from scripts.support.events import (
    AbandonEvent,
    BackupEvent,
    CopyEvent,
    FinalizeEvent,
    PreflightEvent,
    SchemaEvent,
    Step,
)

if TYPE_CHECKING:
    from scripts.rehearsal.documents import Drill, MachineUse, Reads, Report, UserReads
    from scripts.rehearsal.documents import Step as CanaryStep
    from scripts.report.documents import Run
    from scripts.support.status import Event, History

#: What to type after a step's last event.
AFTER: Mapping[tuple[str, str], str] = {
    (Step.PREFLIGHT, PreflightEvent.CHECKED): "task-migration backup --output s3://BUCKET/PREFIX",
    (Step.BACKUP, BackupEvent.VERIFIED): "task-migration schema apply",
    (Step.SCHEMA, SchemaEvent.APPLIED): "task-migration copy",
    (Step.COPY, CopyEvent.COMPLETE): "task-migration replicate start",
    (Step.FINALIZE, FinalizeEvent.FINALIZED): "nothing to type: the plan is at its end",
    (Step.ABANDON, AbandonEvent.ABANDONED): "task-migration preflight",
}
#: What to type after any other event of a step: look, or run the step again, as each is safe to.
ELSE: Mapping[str, str] = {
    Step.BACKUP: "task-migration backup --output s3://BUCKET/PREFIX",
    Step.COPY: "task-migration copy",
    Step.ROLLBACK: "task-migration rollback",
    Step.FINALIZE: "task-migration finalize",
    Step.ABANDON: "task-migration rollback --abandon",
    Step.CANARY: "task-migration canary status",
}


def report(document: Report) -> View:
    """A rehearsal's report: the criteria with their evidence, the moves of the weight, the drills."""
    from scripts.rehearsal.report import verdict

    state: State = "good" if document.passed else "bad" if document.judged else "warning"
    judged = (
        finding("good" if one.passed else "bad" if one.judged else "warning", f"{one.name}: {one.evidence}")
        for one in document.criteria
    )
    parts: list[RenderableType] = [Group(*judged)]
    if document.steps:
        parts.append(
            Text(
                "\nWhat the Task Service got of new users' requests, and of all; users with cookies and without, who read stale:"
            )
        )
        parts.append(_steps(document.steps))
    if document.drills:
        parts.append(_drills(document.drills))
    if document.load is not None:
        load = document.load
        parts.append(
            Text(
                f"\nLoad: {load.users} users, {load.rate:,.1f} requests/s, P50 {load.p50_ms} ms, P95 {load.p95_ms} ms; "
                f"{load.acknowledged_writes:,} writes acknowledged, {load.cut_off:,} cut off before their answer, "
                f"{load.lag_misses:,} answers 404 or 409 as somebody else was first."
            )
        )
        if load.stale_reads:
            parts.append(Text("\nUsers who did not see their own acknowledged write yet:"))
            parts.append(_stale(load.stale_reads))
    if document.machine is not None:
        parts.append(_machine(document.machine))
    following = {
        "good": "task-migration preflight",
        "warning": "end what else runs on this machine, or lower --users and --rate, then: make rehearsal",
    }.get(state, "look into logs/ beside the report, mend the cause, then: make rehearsal")
    return View(verdict(document), state, parts, following)


def _machine(found: MachineUse) -> RenderableType:
    used = ", ".join(f"{name} {spent:g}" for name, spent in sorted(found.cpu_seconds.items(), key=lambda one: -one[1]))
    lines = [f"\nCPU seconds of the rehearsal itself, {sum(found.cpu_seconds.values()):,.0f} in all: {used}."]
    lines += [f"Under load: {described(found.under_load)}."] if found.under_load else []
    return Text("\n".join(lines))


def run(document: Run) -> View:
    """A real run by its journal: what can be judged by that, and how far it came."""
    judged = (finding("good" if one.passed else "bad", f"{one.name}: {one.evidence}") for one in document.criteria)
    state: State = "bad" if document.passed is False else "good" if document.passed else "plain"
    where = f"stack {document.stack}, {document.state_dir}" if document.stack else document.state_dir
    return View(f"{document.verdict} ({where})", state, [Group(*judged)], "task-migration status")


def _steps(steps: Sequence[CanaryStep]) -> RenderableType:
    titles = ("weight %", "new %", "all %", "stale", "no cookies", "seconds")
    rows = [
        (one.weight, one.new_share, one.share, _part(one.cookies), _part(one.no_cookies), one.seconds, one.decision)
        for one in steps
    ]
    return table([*(Column(title, number=True) for title in titles), "decision"], rows)


def _part(found: Reads | None) -> str | None:
    return None if found is None else f"{found.stale:,} of {found.reads:,}"


def _stale(found: Sequence[UserReads]) -> RenderableType:
    columns: list[Column | str] = [Column("weight %", number=True), "answered by", "cookies"]
    columns += [Column("reads", number=True), Column("stale", number=True)]
    rows = [(one.weight, one.side, "kept" if one.cookies else "none", one.reads, one.stale) for one in found]
    return table(columns, rows)


def _drills(drills: Sequence[Drill]) -> RenderableType:
    titles = ("from %", "last request s", "proof s", "rows compared", "writes", "lost", "told")
    rows = [
        (one.from_, one.last_request_seconds, one.proof_seconds, one.rows_compared, one.total, one.lost, one.told)
        for one in drills
    ]
    return table([Column(title, number=True) for title in titles], rows)


def status(document: History) -> View:
    """The journal: a line for each run of a step, with its events."""
    if not document.events:
        verdict = f"Nothing was done yet: the journal in {document.state_dir} is empty."
        return View(verdict, "plain", (), "task-migration preflight")
    last = document.events[-1]
    following = AFTER.get((last.step, last.event)) or ELSE.get(last.step, "task-migration replicate status")
    where = f"stack {document.stack}, {document.state_dir}" if document.stack else document.state_dir
    rows = [(_moment(run[0]), _moment(run[-1])[11:], run[0].step, _named(run)) for run in _runs(document.events)]
    return View(
        f"Last done: {last.step}: {last.event}, {_moment(last)} UTC ({where})",
        "plain",
        [table(["from (UTC)", "to", "step", "events"], rows)],
        following,
    )


def _runs(events: Sequence[Event]) -> list[list[Event]]:
    """The events parted into runs of a step: until another step's event comes, or the run's first one again."""
    runs: list[list[Event]] = []
    for event in events:
        if runs and runs[-1][0].step == event.step and event.event != runs[-1][0].event:
            runs[-1].append(event)
        else:
            runs.append([event])
    return runs


def _named(run: Sequence[Event]) -> str:
    """The events' names in the order in which they came first, with how often."""
    counted = Counter(event.event for event in run)
    return ", ".join(name if times == 1 else f"{name} ({times} times)" for name, times in counted.items())


def _moment(event: Event) -> str:
    return event.at[:19].replace("T", " ")
