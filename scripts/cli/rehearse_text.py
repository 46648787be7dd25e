"""What people read of a rehearsal's report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from scripts.cli.view import Column, State, View, finding, table
from scripts.rehearsal.waits import described
from scripts.support import commands

if TYPE_CHECKING:
    from scripts.rehearsal.documents import Drill, MachineUse, Reads, Report, ScenarioOutcome, Scenarios
    from scripts.rehearsal.documents import Step as CanaryStep
    from scripts.report.documents import Run


def report(document: Report) -> View:
    """A rehearsal's report: the criteria with their evidence, the moves of the weight, the drills."""
    from scripts.rehearsal.report import verdict

    state: State = "good" if document.passed else "bad" if document.judged else "warning"
    judged = (
        finding("good" if one.passed else "bad" if one.judged else "warning", f"{one.name}: {one.evidence}")
        for one in document.criteria
    )
    parts: list[RenderableType] = [Group(*judged)]
    if document.scenario is not None:
        parts.append(_scenario(document.scenario))
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
    if document.machine is not None:
        parts.append(_machine(document.machine))
    following = {
        "good": commands.PREFLIGHT,
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
    return View(f"{document.verdict} ({where})", state, [Group(*judged)], commands.STATUS)


def _scenario(found: ScenarioOutcome) -> RenderableType:
    """The moments of a fault, in seconds since it."""
    moments = (
        (0.0 if found.at is not None else None, "fault", found.what),
        (found.detected, "detected", found.by),
        (found.decided, "decided", found.decision),
        (found.routed, "routed", "all routes on the monolith"),
        (found.over, "over", found.outcome),
    )
    rows = [(seconds, name, text) for seconds, name, text in moments if seconds is not None]
    return Group(Text(), table([Column("seconds", number=True), f"scenario {found.name}", ""], rows))


def scenarios(document: Scenarios) -> View:
    """What can be rehearsed, a fault each."""
    rows = [(one.name, one.what, one.must) for one in document.scenarios]
    shown = table(["name", "what happens", "what has to be seen"], rows)
    return View(f"{len(rows)} scenarios", "plain", [shown], "task-migration rehearse --scenario NAME")


def _steps(steps: Sequence[CanaryStep]) -> RenderableType:
    titles = ("weight %", "new %", "all %", "stale", "no cookies", "seconds")
    rows = [
        (one.weight, one.new_share, one.share, _part(one.cookies), _part(one.no_cookies), one.seconds, one.decision)
        for one in steps
    ]
    return table([*(Column(title, number=True) for title in titles), "decision"], rows)


def _part(found: Reads | None) -> str | None:
    return None if found is None else f"{found.stale:,} of {found.reads:,}"


def _drills(drills: Sequence[Drill]) -> RenderableType:
    titles = ("from %", "last request s", "proof s", "rows compared", "writes", "lost", "told")
    rows = [
        (one.from_, one.last_request_seconds, one.proof_seconds, one.rows_compared, one.total, one.lost, one.told)
        for one in drills
    ]
    return table([Column(title, number=True) for title in titles], rows)
