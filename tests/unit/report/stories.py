"""A run of four minutes that never was, with all that a page shows: eight steps, a breach, a rollback, two writers of one row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from scripts.report.documents import (
    ConflictRow,
    Criterion,
    DecisionRow,
    Limit,
    Mark,
    Part,
    Point,
    RollbackRow,
    Series,
    ShadowRow,
    Story,
    TableRow,
)
from scripts.report.page import Facts

#: 2026-11-26 20:15:30 UTC.
BEGAN = 1_795_724_130.25
#: Seconds since the begin, and the weight from then on.
WEIGHTS = ((20, 0), (64, 5), (86, 25), (108, 50), (131, 0), (147, 5), (167, 25), (188, 50), (210, 100))
ENDED = BEGAN + 240
TABLES = {
    "tasks": (2_415, 1_048_576), "task_images": (1_400, 212_992), "task_tag": (3_677, 180_224),
    "scheduled_group_tasks": (129, 65_536), "scheduled_task_executions": (882, 114_688), "scheduled_task_tags": (224, 32_768),
}  # fmt: skip


def criterion(name: str, passed: bool, evidence: str, *, judged: bool = True) -> Criterion:
    """One criterion."""
    return Criterion(name=name, passed=passed, evidence=evidence, judged=judged)


@dataclass(frozen=True)
class Stale:
    """Stale reads of users who keep cookies, or do not."""

    side: str
    weight: int | None
    cookies: bool
    reads: int
    stale: int


CRITERIA = (
    criterion("row counts equal", True, "tasks 2415=2415; task_images 1400=1400; task_tag 3677=3677"),
    criterion("checksums equal", True, "6 of 6 tables"),
    criterion("load test passed", True, "100 users, 49.9 requests/s of 50, P95 22 ms, errors 0.00 %"),
    criterion("zero downtime", False, "7 of 10,557 requests failed, over every step and the rollback"),
    criterion(
        "no acknowledged write lost unsaid",
        True,
        "0 of 7,667 acknowledged writes lost unsaid, 2 told in the conflict log",
    ),
)
FACTS = Facts(
    source="build/rehearsal/report.json",
    summary={"requests": "10,557, of them 7 failed", "acknowledged writes": "7,667", "lost unsaid": "0", "told as lost": "2", "rollback": "4.815 s"},
    stale=(Stale("monolith", 5, True, 154, 0), Stale("task-service", 50, True, 181, 1), Stale("task-service", 50, False, 17, 0)),
)  # fmt: skip


def weight(second: float) -> int:
    """Percent asked for at this second."""
    return next((percent for since, percent in reversed(WEIGHTS) if second >= since), 0)


def waved(second: float, low: float, high: float, length: float) -> float:
    """Something that goes up and down, the same each time."""
    return round(low + (high - low) * (0.5 + 0.5 * math.sin(second / length)), 3)


def story(**changes: Any) -> Story:
    """The run; ``changes`` replace its parts."""
    seconds = range(22, 240)
    at = {second: BEGAN + second for second in seconds}
    share = {
        second: weight(second) * (1 + waved(second, -0.08, 0.08, 3)) if weight(second) < 100 else 100.0
        for second in seconds
    }

    def points(value: Any) -> list[Point]:
        return [(at[second], value(second)) for second in seconds]

    def task_service(second: int, value: float) -> float | None:
        return value if weight(second) else None

    series = [
        Series(what="weight", of="asked", points=[(BEGAN + second, percent) for second, percent in WEIGHTS]),
        Series(what="weight", of="measured", points=points(lambda s: round(share[s], 2))),
        Series(what="requests", of="monolith", points=points(lambda s: round((50 - share[s] / 2) * waved(s, 0.9, 1.1, 2), 2))),
        Series(what="requests", of="task-service", points=points(lambda s: round(share[s] / 2 * waved(s, 0.9, 1.1, 2.3), 2))),
        Series(what="requests", of="users", points=points(lambda s: round(50 * waved(s, 0.9, 1.1, 2), 2))),
        Series(what="errors", of="monolith", points=points(lambda s: 0.0)),
        Series(what="errors", of="task-service", points=points(lambda s: 3.5 if 124 <= s < 126 else 0.0)),
        Series(what="p50", of="monolith", points=points(lambda s: waved(s, 5, 9, 4))),
        Series(what="p50", of="task-service", points=points(lambda s: task_service(s, waved(s, 4, 8, 5)))),
        Series(what="p95", of="monolith", points=points(lambda s: waved(s, 14, 28, 7))),
        Series(what="p95", of="task-service", points=points(lambda s: task_service(s, 640.5 if 120 <= s < 127 else waved(s, 12, 24, 6)))),
        Series(what="lag", of="forward", points=[(at[s], waved(s, 0.004, 0.09, 5)) for s in seconds if s > 34 and s % 2]),
        Series(what="lag", of="reverse", points=[(at[s], waved(s, 0.003, 0.05, 4)) for s in seconds if s > 34 and s % 2]),
        Series(what="told", of="both sides", points=points(lambda s: float((s > 118) + (s > 203)))),
        *(
            Series(what="copied", of=name, points=[(BEGAN + 30.5, 0.0), (BEGAN + 31 + n / 7, rows / 2), (BEGAN + 32.4, float(rows))])
            for n, (name, (rows, _)) in enumerate(TABLES.items())
        ),
    ]  # fmt: skip
    marks = [
        Mark(at=BEGAN + 32.4, kind="copied", text="8,727 rows of 6 tables"),
        Mark(at=BEGAN + 33.9, kind="replicating", text="replication runs: both directions run, a fence returned each way"),
        *(
            Mark(at=BEGAN + since, kind="step", text=f"to {percent} %")
            for since, percent in WEIGHTS
            if percent and since != 131
        ),
        *(Mark(at=BEGAN + since - 0.4, kind="promoted", text="measured share as asked for") for since in (86, 108, 167, 188, 210, 233)),
        Mark(at=BEGAN + 126.1, kind="breach", text="P95 640.5 ms on the Task Service (limit below 500 ms)"),
        Mark(at=BEGAN + 126.2, kind="rollback", text="rollback from 50 % in 4.815 s"),
        Mark(at=BEGAN + 120, kind="fault", text="the Task Service's database answers late"),
        Mark(at=BEGAN + 237.1, kind="finalized", text="replication gone from both catalogs, the old tables are read-only"),
    ]  # fmt: skip
    values: dict[str, Any] = {
        "began": BEGAN,
        "ended": ENDED,
        "series": series,
        "limits": [
            Limit(what="p50", name="P50 of the Task Service", value=200.0),
            Limit(what="p95", name="P95 of the Task Service", value=500.0),
            Limit(what="errors", name="errors of the Task Service, percent", value=1.0),
            Limit(what="lag", name="lag", value=10.0),
        ],
        "marks": marks,
        "tables": [
            TableRow(table=name, rows=rows, bytes=size, seconds=0.04 + n / 100, source_rows=rows + 7, target_rows=rows + 7, equal=True)
            for n, (name, (rows, size)) in enumerate(TABLES.items())
        ],
        "conflicts": [ConflictRow(table="tasks", kind="two values of one column", decided="the later number", count=2)],
        "decisions": [
            DecisionRow(**{"at": BEGAN + since + 20, "from": before, "to": percent, "decision": "promote" if since != 108 else "rollback",
                           "reasons": ["every figure within its limits"] if since != 108 else ["P95 640.5 ms (below 500 ms)", "2 of 3 periods breached"],
                           "seconds": 20.82, "evidence": "4 periods, 318 requests, 0 errors, P95 21 ms"})
            for (_, before), (since, percent) in pairwise(WEIGHTS) if percent
        ],
        "rollbacks": [
            RollbackRow(**{"at": BEGAN + 126.2, "from": 50, "seconds": 4.815, "limit_seconds": 300.0,
                           "phases": {"routed": 1.203, "drained": 2.0, "fenced": 0.412, "compared": 1.2}, "rows_compared": 1_204, "proven": True})
        ],
        "shadow": [ShadowRow(endpoint="GET /api/tasks", answers=20, different=0), ShadowRow(endpoint="GET /api/tasks/{id}", answers=40, different=0)],
        "parts": [
            Part(part="rows, slots, replication, rights", how="real", what="PostgreSQL 16 servers, the same commands as at night"),
            Part(part="AWS", how="emulated", what="moto, judged by botocore's models; arn:aws:elasticloadbalancing:ap-northeast-1:123456789012:listener-rule/app/myteacher-alb/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"),
            Part(part="users", how="stand-in", what="100 users by Locust"),
            Part(part="AWS DMS", how="not there", what="native replication in this run"),
        ],
    }  # fmt: skip
    return Story(**{**values, **changes})


def hostile(value: Any, words: str) -> Any:
    """The same documents with other words in each of their texts that is free."""
    if isinstance(value, dict):
        fixed = {"points": {"what"}, "value": {"what"}, "how": {"how"}, "kind": {"kind"} if "at" in value else set()}
        keep = {name for key, names in fixed.items() if key in value for name in names}
        return {name: one if name in keep else hostile(one, words) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [hostile(one, words) for one in value]
    return words if isinstance(value, str) else value
