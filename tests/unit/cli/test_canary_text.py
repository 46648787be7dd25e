"""What people read of canary, rollback and api-check, word for word at 80 columns."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from components.config_gates import GateLimits
from scripts.api.documents import ApiCheck, Check, StaleReads
from scripts.canary.documents import (
    CanaryRun,
    CanaryStatus,
    CanaryStep,
    Decided,
    Explanation,
    Phases,
    Rollback,
    RollbackPlan,
    RollbackRun,
    ServiceStarted,
    Unfinished,
)
from scripts.canary.figures import Observed, Period, Traffic
from scripts.canary.gates import decide
from scripts.cli import canary_text
from scripts.cli.view import View, render
from scripts.replication.documents import LostWrite, WriteCounts
from scripts.verify.documents import WritesProof

LIMITS = GateLimits()


def observed(errors: int = 0, periods: int = 30) -> Observed:
    task, monolith = Traffic(150, errors, 2, 31.4, 88.0, 210.0), Traffic(2850, 3, 40, 28.0, 79.5)
    users = Traffic(3010, errors + 3, 52, 35.2, 95.1)
    made = [
        Period(60.0 * n, task, monolith, 21.0, 44.0, 12.0, 30.0, 80e9, 1e8, 0.4, 2.0, users, 1) for n in range(periods)
    ]
    return Observed(60.0, tuple(made), weight=5)


def step(seen: Observed, **facts: object) -> CanaryStep:
    decision = decide(seen, LIMITS, 1800.0)
    values = {
        "from_": 0,
        "to": 5,
        "decision": decision.verdict,
        "reasons": list(decision.reasons),
        "seconds": 1931.25,
        "evidence": seen,
        "findings": list(decision.findings),
        "document": "decisions/1.json",
        **facts,
    }
    return CanaryStep.model_validate(values)


BACK = Rollback(
    from_=25,
    to=0,
    decision="rollback",
    reasons=["asked for"],
    seconds=64.218,
    limit_seconds=300.0,
    within_limit=True,
    by="pulumi up",
    seconds_of_up=21.5,
    moved_again=False,
    rows=WritesProof(
        side="target",
        writes=WriteCounts(insert=1300, update=400, delete=12),
        pruned=1000,
        missing=0,
        missing_writes=[],
        checked=1312,
        equal=1312,
        unsettled=0,
        different_total=0,
        different=[],
        told=2,
        losses=[
            LostWrite(at="now", table="tasks", key=["7"], kind="update", writer="target", columns=["title", "span"]),
            LostWrite(at="now", table="task_tag", key=["7", "3"], kind="parent gone", writer="target", columns=[]),
        ],
    ),
    service_stopped=False,
    phases=Phases(routed=22.104, drained=30.0, fenced=0.714, compared=11.4),
)
EMERGENCY = BACK.model_copy(
    update={
        "by": "load balancer API",
        "seconds_of_up": None,
        "config_set": True,
        "drift": "Pulumi's state still has the old weight: commit the stack's file",
        "service_stopped": True,
        "within_limit": False,
        "seconds": 340.0,
    }
)
STATUS = CanaryStatus(
    declared=25,
    live=25,
    drift=False,
    next=50,
    ladder=[5, 25, 50, 100],
    unfinished=None,
    rollback_owed=None,
    last=Decided(
        at="2026-11-26T01:02:03.000001+00:00",
        step="canary",
        event="decided",
        from_=5,
        to=25,
        decision="promote",
        reasons=["error rate 0 % at worst, below 1 %", "P50 31 ms at worst, below 200 ms"],
        seconds=1931.25,
        document="decisions/1.json",
    ),
)
CHECK = Check(
    endpoint="GET /health",
    passed=True,
    detail="GET /health answered 200, the contract says 200",
    served_by="task-service",
)
WRONG = Check(
    endpoint="GET /api/tasks",
    passed=False,
    detail="GET /api/tasks answered 500, the contract says 401",
    served_by=None,
)
API = ApiCheck(
    healthy=True,
    endpoints={"GET /health": True},
    served_by=["task-service"],
    checks=[CHECK],
    not_checked=["an assignee of the same group: --member-id"],
    stale_reads=[
        StaleReads(side="monolith", weight=25, reads=31, stale=2),
        StaleReads(side="task-service", weight=None, reads=9, stale=0),
    ],
)

VIEWS: dict[str, Callable[[], View]] = {
    "status": lambda: canary_text.status(STATUS),
    "status, drift": lambda: canary_text.status(STATUS.model_copy(update={"live": 50, "drift": True, "last": None})),
    "status, owed": lambda: canary_text.status(
        STATUS.model_copy(update={"rollback_owed": ["error rate is 10 %"], "last": None})
    ),
    "status, unfinished": lambda: canary_text.status(
        STATUS.model_copy(update={"unfinished": Unfinished(from_=5, to=25), "last": None})
    ),
    "step, promoted": lambda: canary_text.step(step(observed())),
    "step, hold": lambda: canary_text.step(step(observed(periods=12))),
    "step, breach": lambda: canary_text.step(step(observed(errors=9, periods=6), rollback=BACK)),
    "step, refused": lambda: canary_text.step(
        CanaryStep(
            from_=5,
            to=25,
            decision="refused",
            reasons=["the stack declares 5 %, the load balancer has 50 %: see which one is meant"],
            seconds=0.4,
            findings=[],
            document="decisions/1.json",
        )
    ),
    "step, dry run": lambda: canary_text.step(
        CanaryStep(from_=5, to=25, decision="hold", reasons=["would update routes-live-rule"], seconds=0.4, findings=[])
    ),
    "run": lambda: canary_text.step(
        CanaryRun(
            **{**dict(step(observed(), from_=0, to=100)), "steps": [step(observed()), step(observed(), from_=5, to=25)]}
        )
    ),
    "run, owed": lambda: canary_text.step(RollbackRun(**{**dict(BACK), "steps": [BACK]})),
    "explanation": lambda: canary_text.explanation(
        Explanation(
            at="2026-11-26T01:02:03.000001+00:00",
            from_=0,
            to=5,
            decision="promote",
            reasons=[],
            findings=list(decide(observed(), LIMITS, 1800.0).findings),
            location=".task-migration/decisions/2026-11-26T010203.000001Z-0-5-promote.json",
            again="promote",
            same=True,
        )
    ),
    "service": lambda: canary_text.service_started(ServiceStarted(status="started", tasks=2, healthy=2)),
    "rollback": lambda: canary_text.rollback(BACK),
    "rollback, emergency": lambda: canary_text.rollback(EMERGENCY),
    "rollback, dry run": lambda: canary_text.rollback(RollbackPlan(from_=25, to=0, would=["update routes-live-rule"])),
    "rollback, nothing to do": lambda: canary_text.rollback(RollbackPlan(from_=0, to=0, would=[])),
    "api-check": lambda: canary_text.api_check(API),
    "api-check, wrong": lambda: canary_text.api_check(
        API.model_copy(
            update={
                "healthy": False,
                "endpoints": {"GET /health": True, "GET /api/tasks": False},
                "checks": [CHECK, WRONG],
                "not_checked": [],
                "stale_reads": [],
            }
        )
    ),
}

GOLDEN = Path(__file__).with_suffix(".txt")


def shown(width: int) -> str:
    """Every view under its name."""
    out = StringIO()
    for name, made in VIEWS.items():
        out.write(f"--- {name}\n")
        render(made(), Console(file=out, width=width, highlight=False))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def test_every_view_says_what_it_said() -> None:
    """Fails when a text changes unseen; after a look, write it anew: PYTHONPATH=. python -m tests.unit.cli.test_canary_text."""
    assert shown(80) == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 140])
def test_every_view_begins_with_its_verdict_and_ends_with_what_to_type(width: int) -> None:
    for name, made in VIEWS.items():
        out = StringIO()
        render(made(), Console(file=out, width=width, highlight=False))
        lines = out.getvalue().rstrip().splitlines()
        assert max(map(len, lines)) <= width, name
        assert lines[0].rstrip(), name
        assert any(line.startswith("Next: ") for line in lines[-2:]), name


if __name__ == "__main__":
    GOLDEN.write_text(shown(80), encoding="utf-8")
