"""The rehearsal's report: put together from the evidence, written and read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from scripts.rehearsal import criteria
from scripts.rehearsal.criteria import Evidence, Wanted
from scripts.rehearsal.documents import AcknowledgedWrites, MachineUse, Report, Requests, Rollback
from scripts.report.documents import Story
from scripts.support import private
from scripts.support.errors import UsageError


def make(
    seen: Evidence,
    wanted: Wanted,
    *,
    seconds: float,
    engine: str,
    rows: Mapping[str, int],
    story: Story,
    drill: bool = False,
    machine: MachineUse | None = None,
) -> Report:
    """The report of a rehearsal that took so many ``seconds``; ``drill``: of a rollback drill."""
    found = criteria.of_drill(seen, wanted) if drill else criteria.of_plan(seen, wanted)
    passed, judged = criteria.verdict(found, seen.machine)
    load, ledger = seen.load, seen.ledger
    return Report(
        passed=passed,
        judged=judged,
        criteria=found,
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
    )


def save(path: Path, report: Report) -> None:
    """Write the report whole or not at all."""
    private.directory(path.parent, narrow=True)
    private.write(path, json.dumps(report.plain(), ensure_ascii=False, indent=2) + "\n")


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
