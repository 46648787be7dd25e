"""What `status` answers."""

from __future__ import annotations

from typing import Literal

from scripts.replication.documents import Finding, Runway, ToldConflicts, Writer
from scripts.support.document import Document
from scripts.support.sides import Side

#: The steps of the plan; `canary`: between 0 and 100 %.
Where = Literal[
    "nothing", "preflight", "backup", "schema", "copy", "replicate", "verify", "shadow", "canary", "at 100 %",
    "rollback", "finalize", "abandon", "unknown",
]  # fmt: skip


class Event(Document):
    """One line of the journal; ``at`` is ISO 8601, UTC."""

    at: str
    step: str
    event: str


class Place(Document):
    """How far the plan is: the last step that is done and still holds, or, where ``ended`` is false, the one that was begun."""

    step: Where
    ended: bool
    #: In words.
    text: str


class Weight(Document):
    """The share of requests that the Task Service is to get, and what the last watch measured."""

    #: What the source has kept, else the journal; percent. None: not known.
    declared: int | None
    #: Of the new requests that the two sides answered in the last watch; None where none is kept here.
    measured: float | None = None
    #: What was counted for that, on both sides.
    requests: int | None = None
    #: The weight that was watched.
    watched: int | None = None
    minutes_ago: float | None = None


class Looked(Document):
    """The newest `verify` or `shadow`."""

    match: bool | None
    hours_ago: float | None
    #: Whether it counts for the next step; None where that is not known, or nobody asks.
    counts: bool | None
    #: In words, with the limit.
    text: str


class WayBack(Document):
    """Whether a rollback from here would keep every write, and in time."""

    ready: bool
    #: About what it would take: the slowest deployment so far, the drain, two fences; None: not known.
    seconds: float | None
    limit_seconds: float
    #: What keeps it from that.
    reasons: list[str]


class LogKept(Document):
    """The log that a slot holds on its server; ``wal_status`` as PostgreSQL has it ('pg_replication_slots')."""

    side: Side
    wal_status: str | None
    active: bool
    runway: Runway | None


class AtWork(Document):
    """Who works on a side: the holder of a lock, or a command's session."""

    side: Side
    what: str
    who: str
    since: str | None


class Unseen(Document):
    """What could not be looked at, and why."""

    what: str
    why: str
    remedy: str


class MigrationStatus(Document):
    """Where the migration is, whether that is safe, what comes next. What stands in a database alone is null or empty where that was
    not reached; ``unseen`` says so."""

    stack: str | None
    state_dir: str
    #: When it was looked, ISO 8601, UTC.
    at: str
    place: Place
    #: Nothing fails, and everything was seen.
    safe: bool
    findings: list[Finding]
    #: What to type.
    next: str
    weight: Weight
    #: What a fence took each way; null when it did not return, or nothing runs.
    forward_seconds: float | None
    reverse_seconds: float | None
    verification: Looked | None
    shadow: Looked | None
    conflicts: ToldConflicts | None
    way_back: WayBack | None
    log: list[LogKept]
    #: In the last day.
    writers: list[Writer]
    at_work: list[AtWork]
    unseen: list[Unseen]
    #: The journal's, the newest last.
    events: list[Event]
