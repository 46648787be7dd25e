"""What the commands of `replicate` print."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scripts.support.document import Document

#: The remedy of a finding whose detail says it already.
REMEDY_IN_DETAIL = "as the detail says"
Grade = Literal["ok", "warn", "fail"]


class Started(Document):
    """`replicate start`: both directions run and a fence has come through each way."""

    status: Literal["started", "already-running"]
    #: What was there already, in words.
    found: list[str]
    forward_seconds: float
    reverse_seconds: float


class Stopped(Document):
    """`replicate stop`: the slots stay, so that `replicate start` goes on without a hole."""

    status: Literal["stopped", "not-running"]
    #: Whether fences proved, before the stop, that everything written so far is on the other side.
    drained: bool
    #: Subscriptions or DMS tasks.
    stopped: list[str]


class SequenceBand(Document):
    """A sequence of both sides against the target's band: warn when the source is near it, fail when it has reached it or
    the target's stands below it."""

    table: str
    column: str
    sequence: str
    source_last: int
    target_last: int | None
    band_start: int
    #: How far the source has come towards the band.
    used_percent: float
    status: Grade


class Waited(Document):
    """`replicate wait`: seconds that the last fence took each way, and each sequence's place in its band."""

    forward_seconds: float
    reverse_seconds: float
    sequences: list[SequenceBand]


class Slot(Document):
    """A replication slot as its server shows it (PostgreSQL, 'pg_replication_slots')."""

    active: bool
    active_pid: int | None
    wal_status: str | None
    confirmed_lsn: str | None
    retained_bytes: int | None
    lag_bytes: int | None


class FailingRow(Document):
    """A row that cannot be applied. ``key`` are its key's values; ``message`` holds no other value of the row."""

    table: str
    operation: str
    key: dict[str, str | None]
    sqlstate: str
    condition: str
    message: str
    constraint: str | None
    column: str | None
    #: Where its transaction's commit stands in the publisher's log.
    lsn: str

    def __str__(self) -> str:
        key = ", ".join(f"{name}={value}" for name, value in self.key.items())
        return f"{self.operation} of {self.table} ({key}): {self.message} (SQLSTATE {self.sqlstate}, {self.condition})"


class Runway(Document):
    """How long the slot could stand still until its log fills what it may use, at the present rate of writing.

    ``hours`` is None when nothing is written, ``measured_over_seconds`` when the rate is the server's average. ``limit`` names
    what ``limit_bytes`` comes from.
    """

    hours: float | None
    rate_bytes_per_second: float | None
    measured_over_seconds: float | None
    retained_bytes: int
    limit_bytes: int
    limit: Literal["walAllowanceGb", "max_slot_wal_keep_size"]


class DirectionState(Document):
    """How one direction stands."""

    running: bool
    #: Bytes of the publisher's log that the slot's reader has not confirmed.
    lag_bytes: int | None
    #: The time that a fence took; None when none was tried or it did not come through.
    lag_seconds: float | None = None
    #: Why it does not run, or is late.
    reason: str | None
    apply_errors: int
    error: FailingRow | None = None
    #: Server processes whose locks the applying session waits for.
    blocked_by: list[int] = Field(default_factory=list)
    slot: Slot | None
    #: How long the slot has not advanced while the log grew.
    stalled_seconds: float = 0.0
    runway: Runway | None = None


class DmsLatency(Document):
    """How far capture and apply are behind (AWS DMS, CDCLatencySource and CDCLatencyTarget); None without figures."""

    source_seconds: float | None
    target_seconds: float | None


class DmsTable(Document):
    """What DMS applied to a table."""

    table: str
    state: str | None
    inserts: int
    updates: int
    deletes: int


class DmsValidation(Document):
    """DMS's own comparison. A watch only: `verify` decides, as rows that both sides write differ for a while."""

    state: Literal["mismatched", "pending", "validated", "not enabled"]
    #: Records.
    pending: int
    failed: int
    suspended: int
    tables: dict[str, str]


class DmsExceptions(Document):
    """Changes that DMS did not apply: ``expected`` where a rule or a deletion explains it."""

    expected: int
    unexpected: int


class DmsDirectionState(DirectionState):
    """How a direction stands that AWS DMS carries."""

    #: The task's status; None when there is no task, and then nothing of the next three either.
    task: str | None
    latency: DmsLatency | None
    tables: list[DmsTable] | None
    validation: DmsValidation | None
    exceptions: DmsExceptions


class Finding(Document):
    """What is wrong (fail) or will be (warn), with the value, the limit and the remedy."""

    status: Literal["warn", "fail"]
    what: str
    detail: str
    remedy: str


class OpenConflicts(Document):
    """Conflicts in each side's log that are not closed."""

    source: int
    target: int


class Status(Document):
    """`replicate status`."""

    status: Grade
    findings: list[Finding]
    forward: DmsDirectionState | DirectionState
    reverse: DmsDirectionState | DirectionState
    sequences: list[SequenceBand]
    schema_match: bool
    #: What differs between the two catalogs, a few words each.
    drift: list[str]
    conflicts: OpenConflicts
