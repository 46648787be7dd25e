"""The story of one run, rehearsed or real, in figures: what the report's page shows, and nothing that it makes up."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scripts.support.document import Document

#: A moment in seconds since the epoch, and the value then; None where it could not be had.
Point = tuple[float, float | None]


class Series(Document):
    """One curve over the time of the run.

    `what` and `of` name it: weight (percent) asked or measured; requests, errors (both per second) and p50, p95 (milliseconds) of
    monolith, task-service or users (what the API answered, whichever side did, or none); lag (seconds) forward, reverse or of the slower
    way; copied (rows) of a table; told (writes lost, in all) of both sides. What is counted of a second or a period stands at its begin.
    """

    what: Literal["weight", "requests", "errors", "p50", "p95", "lag", "copied", "told"]
    of: str
    points: list[Point]


class Criterion(Document):
    """Something that had to be true, with what was found."""

    name: str
    passed: bool
    evidence: str
    #: False where it failed by nothing but time while others kept the machine busy, or was not come to because of that.
    judged: bool = True


class Limit(Document):
    """A line of the gate in the picture of `what`."""

    what: Literal["p50", "p95", "errors", "lag"]
    name: str
    value: float


MarkKind = Literal[
    "copied", "replicating", "step", "promoted", "hold", "breach", "rollback", "fault", "finalized", "other"
]


class Mark(Document):
    """Something that happened at `at` (seconds since the epoch)."""

    at: float
    kind: MarkKind
    text: str


class TableRow(Document):
    """One of the moved tables: what was copied, and what the last verification compared; None where that did not happen."""

    table: str
    rows: int | None
    bytes: int | None
    seconds: float | None
    source_rows: int | None
    target_rows: int | None
    equal: bool | None


class ConflictRow(Document):
    """Writes of both sides that did not know of each other, and how they were decided; without values."""

    table: str
    kind: str
    #: What the rule kept.
    decided: str
    count: int


class DecisionRow(Document):
    """One decision of the canary, with what it rests on in one line."""

    at: float
    from_: int = Field(alias="from")
    to: int
    decision: str
    reasons: list[str]
    seconds: float
    evidence: str


class RollbackRow(Document):
    """One way back: seconds by phase, in the order in which they ran."""

    at: float
    from_: int = Field(alias="from")
    seconds: float
    limit_seconds: float
    phases: dict[str, float]
    rows_compared: int
    proven: bool


class ShadowRow(Document):
    """Answers of both sides to the same request, compared at weight 0."""

    endpoint: str
    answers: int
    different: int


class Part(Document):
    """What stood in for what: `real` is the thing itself."""

    part: str
    how: Literal["real", "emulated", "stand-in", "not there"]
    what: str


class Story(Document):
    """One run from `began` to `ended` (seconds since the epoch); lists are empty where nothing of the kind happened."""

    began: float
    ended: float
    series: list[Series]
    limits: list[Limit]
    marks: list[Mark]
    tables: list[TableRow]
    conflicts: list[ConflictRow]
    decisions: list[DecisionRow]
    rollbacks: list[RollbackRow]
    shadow: list[ShadowRow]
    parts: list[Part]


class Run(Document):
    """A real run as its journal tells it: what can be judged by that alone, and its story.

    `passed` is None while nothing failed and the end is not reached.
    """

    stack: str | None
    state_dir: str
    passed: bool | None
    verdict: str
    criteria: list[Criterion]
    story: Story
