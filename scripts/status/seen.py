"""What one look at journal and databases shows; what follows from it is decided in `judge` and `place`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.canary.ready import Readiness
from scripts.copy.documents import SlotState
from scripts.database.locks import Holder
from scripts.replication.documents import Runway, Status
from scripts.status.documents import Unseen
from scripts.support.sides import Side


@dataclass(frozen=True)
class SideSeen:
    """What one side shows by itself."""

    #: Whether the helper schema is there, and what its settings hold of what is asked for, by name.
    installed: bool
    kept: Mapping[str, Any] = field(default_factory=dict)
    #: Its clock minus this machine's, seconds.
    ahead: float = 0.0
    #: The slot that the other side reads from here.
    slot: SlotState | None = None
    runway: Runway | None = None
    #: Whether the subscription here is on; None: there is none.
    subscribed: bool | None = None
    #: Who has the lock: on the source of who moves the weight, on the target of `copy`.
    holder: Holder | None = None
    #: Commands whose sessions are here.
    at_work: tuple[str, ...] = ()
    #: Since when a table's comment says that `finalize` has ended; of the source.
    finalized: str | None = None


@dataclass(frozen=True)
class Running:
    """Replication as `replicate status` and a step's readiness gate see it."""

    status: Status
    readiness: Readiness


@dataclass(frozen=True)
class Watched:
    """The newest watch whose figures are kept: when it was decided (seconds since the epoch), the weight, its share of the requests."""

    at: float
    weight: int
    measured: float | None
    requests: int


@dataclass(frozen=True)
class Seen:
    """One look at ``now`` (seconds since the epoch). A side that is not in ``sides`` was not reached; ``unseen`` says why."""

    now: float
    #: The journal's, oldest first; None: it could not be read.
    events: tuple[Mapping[str, Any], ...] | None = ()
    sides: Mapping[Side, SideSeen] = field(default_factory=dict)
    running: Running | None = None
    watched: Watched | None = None
    unseen: tuple[Unseen, ...] = ()
