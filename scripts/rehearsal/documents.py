"""What a rehearsal gives out: its report, and what was found of the acknowledged writes."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from scripts.support.document import Document

#: As it was measured: Locust gives whole milliseconds, the gateway hundredths.
Milliseconds = int | float


class LostWrite(Document):
    """An acknowledged write that the database does not have: which field of the task holds what instead."""

    id: int
    #: Place among the writes to this task, from 1.
    sequence: int
    op: str
    field: str
    expected: list[Any]
    found: Any


class LedgerCheck(Document):
    """Acknowledged writes, how many of them the database does not have, and which."""

    total: int
    lost: int
    lost_items: list[LostWrite]


class Criterion(Document):
    """One of the plan's success criteria, with what was measured."""

    name: str
    passed: bool
    evidence: str


class Requests(Document):
    """All requests of all loads; of the percentiles the worst load's."""

    total: int
    failed: int
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None


class AcknowledgedWrites(Document):
    """Looked up on the target at the end; ``lost`` is None where that did not happen."""

    total: int
    lost: int | None


class Rollback(Document):
    """The way back from half; None where it did not happen."""

    seconds: float | None
    acknowledged_writes_lost: int | None


class Step(Document):
    """One move of the weight. ``share`` is the percentage of requests that the Task Service was seen to get."""

    weight: int
    share: float | None
    seconds: float
    decision: str


class Drill(Document):
    """A rollback from one weight, under load: seconds until the last request, until the proof, and the ledger's verdict."""

    weight: int
    from_: int = Field(alias="from")
    seconds: float
    #: Seconds by part of the rollback.
    phases: dict[str, float]
    last_request_seconds: float | None
    proof_seconds: float
    rows_compared: int
    total: int
    lost: int


class LoadFigures(Document):
    """All loads together: sums, the rate (requests/s) over their time; of percentiles the worse, of users the fewest."""

    requests: int
    failed: int
    acknowledged_writes: int
    #: Reads within the lag window that did not find the user's last write yet: allowed, and counted by themselves.
    lag_misses: int
    stale_reads: int
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    users: int
    rate: float
    seconds: float


class Report(Document):
    """`report.json`: passed only if every criterion did."""

    passed: bool
    criteria: list[Criterion]
    requests: Requests
    acknowledged_writes: AcknowledgedWrites
    rollback: Rollback
    steps: list[Step]
    drills: list[Drill]
    seconds: float
    #: What turned the program into resources.
    engine: str
    #: Rows made in the monolith's database, by table.
    rows: dict[str, int]
    load: LoadFigures | None
