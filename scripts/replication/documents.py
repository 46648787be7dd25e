"""What the commands of `replicate` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from scripts.copy.documents import SlotState
from scripts.support.document import Document
from scripts.support.figure import Figure
from scripts.support.sides import Side

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
    #: With --force: what may show a password of the role of replication to others.
    warnings: list[str] = Field(default_factory=list)


class ReplicationRole(Document):
    """The role that replication logs in with, on one side."""

    side: Side
    role: str
    #: ``password``: it was there, and did not log in with the one of its secret (AWS DMS), which it has now.
    status: Literal["created", "there", "password"]


class ReplicationRoles(Document):
    """`schema role --replication`."""

    roles: list[ReplicationRole]
    #: With --force: what may show a password to others.
    warnings: list[str]


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


class FailingRow(Document):
    """A write that cannot be applied. ``key`` are its key's values; ``message`` holds no other value of the row."""

    table: str
    operation: str
    key: dict[str, str | None]
    sqlstate: str
    condition: str
    message: str
    constraint: str | None
    column: str | None
    #: The number of its record.
    v: int
    #: What failed was a check at the end of the write's transaction; of several writes it is the last one of the table at fault.
    at_end: bool = False

    def __str__(self) -> str:
        key = ", ".join(f"{name}={value}" for name, value in self.key.items())
        end = "at its transaction's end: " if self.at_end else ""
        return f"{self.operation} of {self.table} ({key}): {end}{self.message} (SQLSTATE {self.sqlstate}, {self.condition})"


class Runway(Document):
    """How long the slot could stand still until its log fills what it may use, at the present rate of writing.

    ``hours`` is None when nothing is written, ``measured_over_seconds`` when the rate is the server's average. ``limit`` names
    what ``limit_bytes`` comes from.
    """

    hours: Figure
    rate_bytes_per_second: Figure
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
    lag_seconds: Figure = None
    #: Why it does not run, or is late.
    reason: str | None
    apply_errors: int
    error: FailingRow | None = None
    #: Server processes whose locks the applying session waits for.
    blocked_by: list[int] = Field(default_factory=list)
    slot: SlotState | None
    #: How long the slot has not advanced while the log grew.
    stalled_seconds: float = 0.0
    runway: Runway | None = None


class DmsLatency(Document):
    """How far capture and apply are behind (AWS DMS, CDCLatencySource and CDCLatencyTarget); None without figures."""

    source_seconds: Figure
    target_seconds: Figure


class DmsTable(Document):
    """What DMS applied to a table, which is a record of writes. Its deletes are those of writes that both sides know."""

    table: str
    state: str | None
    inserts: int
    updates: int
    deletes: int


class DmsDirectionState(DirectionState):
    """How a direction stands that AWS DMS carries; ``apply_errors`` are the entries of `awsdms_apply_exceptions` since it started."""

    #: The task's status; None when there is no task, and then nothing of the next two either.
    task: str | None
    latency: DmsLatency | None
    tables: list[DmsTable] | None


class DeletedRows(Document):
    """What the Task Service deleted of a table in one minute (`at`, UTC), and the rows that the table has by its statistics."""

    table: str
    at: str
    deleted: int
    rows: int

    @property
    def percent(self) -> float:
        """The share of the rows that went."""
        return 100.0 * self.deleted / self.rows if self.rows else 0.0


class Finding(Document):
    """What is wrong (fail) or will be (warn), with the value, the limit and the remedy."""

    status: Literal["warn", "fail"]
    what: str
    detail: str
    remedy: str


class Writer(Document):
    """Who wrote on a side, by the record of writes: the role that logged in, and what its sessions call themselves. ``first`` and
    ``last`` are UTC."""

    side: Side
    role: str
    application: str
    #: Writes by table.
    tables: dict[str, int]
    first: str
    last: str
    #: How long the last one is ago.
    seconds_ago: float

    @property
    def name(self) -> str:
        """Of the two, for people."""
        return f"{self.role} as {self.application!r}" if self.application else f"{self.role} without a name"

    def __str__(self) -> str:
        counts = ", ".join(f"{table} {count:,}" for table, count in self.tables.items())
        return f"{sum(self.tables.values()):,} writes by {self.name} ({counts}; the last at {self.last} UTC)"


class WriteCounts(Document):
    """Records of writes by what each did to its row."""

    insert: int = 0
    update: int = 0
    delete: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.insert + self.update + self.delete

    def plus(self, kinds: Mapping[str, int]) -> WriteCounts:
        """With some more by kind; fences are no writes."""
        return WriteCounts(**{name: count + kinds.get(name, 0) for name, count in self.plain().items()})


class LostWrite(Document):
    """A write, or some columns of it, that another one took the place of, as the conflict log tells; no values."""

    at: str
    table: str
    #: The key's values as text, in the key's order.
    key: list[str]
    kind: str
    #: The side whose write was lost; None when the row was there before the record of writes.
    writer: Side | None
    #: The columns that were lost; empty where the whole row was.
    columns: list[str]


class ToldKind(Document):
    """Lost writes of one kind, as `docs/architecture.md`, 'Two writers of one row', has them."""

    table: str
    kind: str
    count: int


class ToldConflicts(Document):
    """How many lost writes each side's conflict log tells of: one stands in the log of the side where it arrived."""

    source: int
    target: int


class HeldWrites(Document):
    """What a side keeps of the record of writes: of both sides' ones, and how many of its own were proven and pruned."""

    records: int
    bytes: int
    pruned: int


class RecordOfWrites(Document):
    """The record of writes on both sides."""

    source: HeldWrites
    target: HeldWrites


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
    conflicts: ToldConflicts
    writes: RecordOfWrites
    #: Who wrote on either side in the last day.
    writers: list[Writer] = Field(default_factory=list)
