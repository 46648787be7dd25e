"""What `canary` and `rollback` answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scripts.canary.figures import Observed
from scripts.canary.gates import Finding, Verdict
from scripts.support.document import Document
from scripts.verify.documents import WritesProof


class Moved(Document):
    """How a rollback moved the routes."""

    by: Literal["pulumi up", "load balancer API"]
    #: What the deployment took, where there was one.
    seconds_of_up: float | None = None
    #: Whether weight 0 could be kept in the configuration without a deployment.
    config_set: bool | None = None
    #: What Pulumi and the load balancer do not agree about yet, and what to do.
    drift: str | None = None
    #: Why Pulumi did not do it.
    pulumi: str | None = None


class Phases(Document):
    """What each part of a rollback took, seconds."""

    routed: float
    drained: float
    fenced: float
    compared: float


class Rollback(Document):
    """All routes on the monolith (`to` is 0), and the proof that it has every write of the Task Service."""

    from_: int = Field(alias="from")
    to: int
    decision: Literal["rollback"]
    reasons: list[str]
    seconds: float
    limit_seconds: float
    within_limit: bool
    #: These five as in :class:`Moved`.
    by: Literal["pulumi up", "load balancer API"]
    seconds_of_up: float | None = None
    config_set: bool | None = None
    drift: str | None = None
    pulumi: str | None = None
    #: Whether the rule had to be moved once more, as a deployment that ran meanwhile had raised the weight again.
    moved_again: bool
    #: Whether `finalize` had taken the monolith's rights and they were given back first.
    rights_given_back: bool = False
    rows: WritesProof
    service_stopped: bool
    phases: Phases


class RollbackPlan(Document):
    """What a rollback would change (`--dry-run`); weights in percent."""

    from_: int = Field(alias="from")
    to: int
    would: list[str]


class CanaryStep(Document):
    """One step: weights in percent, the decision and what it rests on."""

    from_: int = Field(alias="from")
    to: int
    decision: Verdict
    reasons: list[str]
    seconds: float
    #: The figures that a watch rests on, period by period; None where nothing was watched.
    evidence: Observed | None = None
    #: Each rule of the gate.
    findings: list[Finding]
    #: Each thing that a rollback from there needs; None where the step did not come so far.
    readiness: list[Finding] | None = None
    #: Resources that the deployment changed.
    changed: list[str] = Field(default_factory=list)
    #: What the decision led to.
    rollback: Rollback | None = None
    #: Where the decision is kept; None for a dry run.
    document: str | None = None


class CanaryRun(CanaryStep):
    """The last step of a ladder, with the first one's `from`, and all of them."""

    steps: list[CanaryStep | Rollback]


class RollbackRun(Rollback):
    """A ladder that ended a rollback which was owed, and stopped there."""

    steps: list[CanaryStep | Rollback]


class Unfinished(Document):
    """A step that was begun and neither promoted nor rolled back; weights in percent."""

    from_: int = Field(alias="from")
    to: int


class Decided(Document):
    """The newest decision as the journal has it; ``at`` is ISO 8601, UTC."""

    at: str
    step: str
    event: str
    from_: int = Field(alias="from")
    to: int
    decision: Verdict
    reasons: list[str]
    seconds: float
    document: str | None = None


class CanaryStatus(Document):
    """Where the canary stands; weights in percent."""

    #: What the stack's configuration says.
    declared: int
    #: What the load balancer's rule says.
    live: int
    drift: bool
    #: The ladder's next; None at its end.
    next: int | None
    ladder: list[int]
    unfinished: Unfinished | None
    #: Why a rollback has to be ended first.
    rollback_owed: list[str] | None
    last: Decided | None


class Explanation(Document):
    """The newest decision, and the verdict of judging its kept evidence now (None where there was no watch)."""

    at: str
    from_: int = Field(alias="from")
    to: int
    decision: Verdict
    reasons: list[str]
    findings: list[Finding]
    location: str
    again: Verdict | None
    same: bool | None


class ServiceStarted(Document):
    """`tasks` of the Task Service run; of so many the load balancer says that they are healthy."""

    status: Literal["started"]
    tasks: int
    healthy: int
