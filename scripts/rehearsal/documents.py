"""What a rehearsal gives out: its report, and what was found of the acknowledged writes."""

from __future__ import annotations

from pydantic import Field

from scripts.api.documents import StaleReads
from scripts.report.documents import Criterion as Criterion
from scripts.report.documents import Story
from scripts.support.document import Document

#: As it was measured: Locust gives whole milliseconds, the gateway hundredths.
Milliseconds = int | float


class LostWrite(Document):
    """A value of an acknowledged write that is neither there, nor was replaced by a write that had read it, nor is told."""

    table: str
    #: JSON array of the key's values.
    key: str
    #: `(row)` for the row's existence.
    column: str
    op: str
    #: Who acknowledged it.
    side: str | None
    #: Seconds since the epoch.
    at: float
    expected: str | None
    found: str | None


class LedgerCheck(Document):
    """Acknowledged writes, and what became of them: ``lost`` without a word, or ``told`` as lost in the conflict log."""

    total: int
    lost: int
    told: int
    #: Writes without an answer: there or not, both are right.
    unknown: int
    #: Of a write, each value that is lost by itself.
    lost_items: list[LostWrite]


class MachineShare(Document):
    """What the machine gave the rehearsal in so many `seconds`: percent of its `cores`, and waits."""

    seconds: float
    cores: int
    #: What the rehearsal's processes used, what all others did (a hypervisor included), and what nobody did.
    ours_percent: float
    others_percent: float
    idle_percent: float
    #: Percent of the time: in which a container's quota held it back; in which some process waited for a CPU (None without PSI).
    throttled_percent: float
    pressure_percent: float | None
    #: P95: how late a timer woke up, milliseconds; at worst: how late the load's users came to their turn (None without a load).
    timer_late_ms: float
    users_late_ms: float | None
    #: Percent of the time in which others had a real part of the cores and somebody had to wait.
    busy_percent: float
    #: Of the seconds that were not busy the typical P95 of the load's newest requests; None where there were none.
    quiet_p95_ms: float | None


class MachineUse(Document):
    """The machine over the whole time under load, and the CPU seconds that the rehearsal took, by process and by command."""

    under_load: MachineShare | None
    cpu_seconds: dict[str, float]
    commands: dict[str, float]


class Requests(Document):
    """All requests of all loads; of the percentiles the worst load's."""

    total: int
    failed: int
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None


class AcknowledgedWrites(Document):
    """Looked up on the target at the end; ``lost`` (without a word) and ``told`` (in the conflict log) are None where that did
    not happen."""

    total: int
    lost: int | None
    told: int | None


class Rollback(Document):
    """The way back from half; None where it did not happen."""

    seconds: float | None
    acknowledged_writes_lost: int | None
    acknowledged_writes_told: int | None


class UserReads(StaleReads):
    """Answers of one side at one weight in which users did not see an own acknowledged write; of those who keep cookies, or who do not."""

    cookies: bool


class Reads(Document):
    """Answers about a task that the user had written, and those of them that did not show it."""

    reads: int
    stale: int


class Step(Document):
    """One move of the weight, watched: ``weight`` is the percentage asked for; None what nobody watched."""

    weight: int
    #: Percentage of the requests that the Task Service was seen to get.
    share: float | None = None
    #: The same of the requests that no cookie bound to a side, so that the weights chose.
    new_share: float | None = None
    #: Of users who keep cookies, and of those who do not.
    cookies: Reads | None = None
    no_cookies: Reads | None = None
    seconds: float
    decision: str
    #: What the machine gave meanwhile.
    machine: MachineShare | None = None


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
    told: int


class LoadFigures(Document):
    """All loads together: sums, the rate (requests/s) over their time; of percentiles the worse, of users the fewest."""

    requests: int
    failed: int
    acknowledged_writes: int
    #: Answers 404 and 409 to a request whose task somebody else wrote within the lag window: allowed, and counted.
    lag_misses: int
    #: Requests cut off on purpose before their answer came.
    cut_off: int
    stale_reads: list[UserReads]
    p50_ms: Milliseconds | None
    p95_ms: Milliseconds | None
    users: int
    rate: float
    seconds: float


class Users(Document):
    """What users got since a fault: requests, those that failed by code, and both once it was over."""

    requests: int
    failed: int
    #: Server errors by code.
    codes: dict[str, int]
    p95_ms: Milliseconds | None
    requests_after: int
    failed_after: int


class ScenarioOutcome(Document):
    """What became of one fault; times are seconds since it, None what did not happen."""

    name: str
    #: What happens, and what has to be seen.
    what: str
    must: str
    #: Of the fault, seconds since the epoch; None: it could not be brought about.
    at: float | None
    detected: float | None
    #: What it was seen by, in the product's words.
    by: str
    decided: float | None
    decision: str
    #: When all routes were on the monolith, where they were moved.
    routed: float | None
    over: float | None
    #: How it ended.
    outcome: str
    users: Users
    #: What this scenario alone has to show.
    shown: list[Criterion]


class ScenarioLine(Document):
    """A scenario that can be rehearsed: what happens, and what has to be seen."""

    name: str
    what: str
    must: str


class Scenarios(Document):
    """What `rehearse --list` answers."""

    scenarios: list[ScenarioLine]


class Report(Document):
    """`report.json`: passed only if every criterion did, and the machine was not too busy for a verdict."""

    passed: bool
    #: False: neither passed nor failed, as others kept the machine busy.
    judged: bool = True
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
    story: Story
    machine: MachineUse | None = None
    #: The fault that was rehearsed instead of the whole plan.
    scenario: ScenarioOutcome | None = None
