"""What people read of a rehearsal's report and of the journal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from scripts.cli.view import Column, View, finding, table

if TYPE_CHECKING:
    from scripts.rehearsal.documents import Drill, Report, Step
    from scripts.support.history import Event, History

#: What to type after a step's last event; after any other event the step is run again, as each is safe to.
AFTER = {
    ("preflight", "checked"): "task-migration backup --output s3://BUCKET/PREFIX",
    ("backup", "verified"): "task-migration schema apply",
    ("schema", "applied"): "task-migration copy",
    ("copy", "complete"): "task-migration replicate start",
    ("replicate", "started"): "task-migration replicate status",
    ("replicate", "stopped"): "task-migration replicate status",
    ("canary", "decided"): "task-migration canary status",
    ("rollback", "done"): "task-migration canary status",
    ("finalize", "finalized"): "nothing; the plan is at its end",
}


def report(document: Report) -> View:
    """A rehearsal's report: the criteria with their evidence, the moves of the weight, the drills."""
    failed = [one for one in document.criteria if not one.passed]
    counted = f"{document.requests.total:,} requests, {document.requests.failed:,} failed; {document.seconds:,.0f} s"
    verdict = (
        f"NOT PASSED: {len(failed)} of {len(document.criteria)} criteria failed; {counted}"
        if failed
        else f"Passed: all {len(document.criteria)} criteria; {counted}"
    )
    parts: list[RenderableType] = [
        finding("good" if one.passed else "bad", f"{one.name}: {one.evidence}") for one in document.criteria
    ]
    if document.steps:
        parts.append(_steps(document.steps))
    if document.drills:
        parts.append(_drills(document.drills))
    if document.load is not None:
        load = document.load
        parts.append(
            Text(
                f"Load: {load.users} users, {load.rate:,.1f} requests/s, P50 {load.p50_ms} ms, P95 {load.p95_ms} ms; "
                f"{load.acknowledged_writes:,} writes acknowledged, {load.lag_misses:,} reads came before replication, "
                f"{load.stale_reads:,} saw an older state."
            )
        )
    following = "look into logs/ beside the report, mend the cause, then: make rehearsal" if failed else None
    return View(verdict, "bad" if failed else "good", parts, following or "task-migration preflight")


def _steps(steps: Sequence[Step]) -> RenderableType:
    columns = [Column("weight %", number=True), Column("measured %", number=True), Column("seconds", number=True)]
    rows = [(one.weight, one.share, one.seconds, one.decision) for one in steps]
    return table([*columns, "decision"], rows)


def _drills(drills: Sequence[Drill]) -> RenderableType:
    titles = ("from %", "last request s", "proof s", "rows compared", "writes", "lost")
    rows = [
        (one.from_, one.last_request_seconds, one.proof_seconds, one.rows_compared, one.total, one.lost)
        for one in drills
    ]
    return table([Column(title, number=True) for title in titles], rows)


def status(document: History) -> View:
    """The journal: each event, those that follow each other in a row as one line."""
    if not document.events:
        return View(
            f"Nothing was done yet: {document.state_dir} has no journal.", "plain", (), "task-migration preflight"
        )
    last = document.events[-1]
    following = AFTER.get((last.step, last.event), f"task-migration {last.step}")
    where = f"stack {document.stack}, " if document.stack else ""
    return View(
        f"Last: {last.step}: {last.event}, {_moment(last)} UTC ({where}{document.state_dir})",
        "plain",
        [table(["at (UTC)", "step", "event"], _rows(document.events))],
        following,
    )


def _rows(events: Sequence[Event]) -> list[tuple[str, str, str]]:
    rows = []
    for (step, name), several in groupby(events, key=lambda event: (event.step, event.event)):
        same = list(several)
        rows.append((_moment(same[-1]), step, name if len(same) == 1 else f"{name} ({len(same)} times)"))
    return rows


def _moment(event: Event) -> str:
    return event.at[:19].replace("T", " ")
