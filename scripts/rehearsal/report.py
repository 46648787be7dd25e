"""The rehearsal's report: put together from the evidence, written and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from scripts.rehearsal import criteria
from scripts.rehearsal.criteria import Evidence
from scripts.rehearsal.documents import (
    AcknowledgedWrites,
    Criterion,
    MachineUse,
    Report,
    Requests,
    Rollback,
    ScenarioOutcome,
)
from scripts.rehearsal.waits import described
from scripts.report import page
from scripts.report.documents import Story
from scripts.support import private
from scripts.support.errors import UsageError


def make(
    seen: Evidence,
    found: Sequence[Criterion],
    *,
    seconds: float,
    engine: str,
    rows: Mapping[str, int],
    story: Story,
    machine: MachineUse | None = None,
    scenario: ScenarioOutcome | None = None,
) -> Report:
    """The report of a rehearsal that took so many ``seconds``, by the criteria ``found``."""
    passed, judged = criteria.verdict(found, seen.machine)
    load, ledger = seen.load, seen.ledger
    return Report(
        passed=passed,
        judged=judged,
        criteria=list(found),
        requests=Requests(
            total=load.requests if load else 0,
            failed=load.failed if load else 0,
            p50_ms=load.p50_ms if load else None,
            p95_ms=load.p95_ms if load else None,
        ),
        acknowledged_writes=AcknowledgedWrites(
            total=ledger.total if ledger else 0,
            lost=ledger.lost if ledger else None,
            told=ledger.told if ledger else None,
        ),
        rollback=Rollback(
            seconds=seen.rollback.seconds if seen.rollback else None,
            acknowledged_writes_lost=seen.rollback_ledger.lost if seen.rollback_ledger else None,
            acknowledged_writes_told=seen.rollback_ledger.told if seen.rollback_ledger else None,
        ),
        steps=seen.steps,
        drills=seen.drills,
        seconds=seconds,
        engine=engine,
        rows=dict(rows),
        load=load,
        story=story,
        machine=machine,
        scenario=scenario,
    )


def save(path: Path, report: Report) -> None:
    """Write the report, and beside it the page that shows it, each whole or not at all."""
    private.directory(path.parent, narrow=True)
    private.write(path, json.dumps(report.plain(), ensure_ascii=False, indent=2) + "\n")
    private.write(path.with_suffix(".html"), page_of(report))


def verdict(report: Report) -> str:
    """How it came out, in a sentence that says what the machine did where that is why."""
    failed, total = sum(not one.passed for one in report.criteria), len(report.criteria)
    counted = f"{report.requests.total:,} requests, {report.requests.failed:,} failed; {report.seconds:,.0f} s"
    if report.passed:
        return f"Passed: all {total} criteria; {counted}"
    if report.judged:
        return f"NOT PASSED: {failed} of {total} criteria failed; {counted}"
    machine = report.machine.under_load if report.machine else None
    had = f" ({described(machine)})" if machine else ""
    return f"Not judged: the machine was busy{had}; {total - failed} of {total} criteria passed; {counted}"


def page_of(report: Report) -> str:
    """The whole of it as a page with pictures."""
    load, writes = report.load, report.acknowledged_writes
    summary = {
        "requests": f"{report.requests.total:,}, {report.requests.failed:,} failed",
        "writes acknowledged": f"{writes.total:,}"
        + ("" if writes.lost is None else f", {writes.lost:,} lost unsaid, {writes.told or 0:,} told"),
        "rows at the begin": f"{sum(report.rows.values()):,}",
        "engine": report.engine,
    }
    if load is not None:
        summary["load"] = (
            f"{load.users:,} users, {load.rate:,.1f} requests/s, P50 {load.p50_ms} ms, P95 {load.p95_ms} ms"
        )
    if report.machine and report.machine.under_load:
        summary["machine under load"] = described(report.machine.under_load)
    title = "Rehearsal of the migration"
    if report.scenario is not None:
        title = f"Rehearsal of a fault: {report.scenario.name}"
    elif any(one.name.startswith(criteria.DRILLED) for one in report.criteria):
        title = "Rollback drill"
    return page.render(
        title,
        verdict(report),
        report.passed if report.judged else None,
        report.criteria,
        report.story,
        page.Facts(source="report.json", summary=summary, stale=load.stale_reads if load else ()),
    )


def load(path: Path) -> Report:
    """Read a report. Raises UsageError when there is none."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; run first: make rehearsal, or name another with --path") from None
    except ValidationError as error:
        what = error.errors(include_url=False)[0]
        where = ".".join(map(str, what["loc"])) or "the whole"
        raise UsageError(f"{path} is no report: {where}: {what['msg']}; run again: make rehearsal") from None
