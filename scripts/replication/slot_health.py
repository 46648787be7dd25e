"""A slot watched over time: is it stalled, and how long does the disk bear it. Pure decisions; the marks are kept by the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from scripts.replication.documents import Runway
from scripts.support.figure import figure

#: A rate is measured over at least so long, and anew after so long (seconds): the present rate, not that of last week.
SHORTEST_WINDOW, LONGEST_WINDOW = 10.0, 3600.0


@dataclass(frozen=True)
class Observation:
    """One look at a publisher. Seconds since the epoch by its clock; positions in bytes from the log's beginning.

    ``average_rate`` is the server's own (pg_stat_wal), bytes per second, None when it has none. ``keep_bytes`` is
    `max_slot_wal_keep_size`, None when unlimited.
    """

    at: float
    wal: int
    confirmed: int
    retained: int
    average_rate: float | None
    keep_bytes: int | None


@dataclass(frozen=True)
class Mark:
    """What is remembered of earlier looks: since when the confirmed position stands, and where a rate's window began."""

    confirmed: int
    confirmed_since: float
    wal_then: int
    window_at: float
    window_wal: int

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return dict(vars(self))


def mark_of(document: Any) -> Mark | None:
    """The mark that :meth:`Mark.document` wrote; None for anything else, such as the first look's nothing."""
    try:
        return Mark(**document)
    except TypeError:
        return None


def advance(mark: Mark | None, seen: Observation) -> Mark:
    """The mark after this look."""
    if mark is None or seen.wal < mark.window_wal:
        return Mark(seen.confirmed, seen.at, seen.wal, seen.at, seen.wal)
    stands = seen.confirmed == mark.confirmed
    anew = seen.at - mark.window_at > LONGEST_WINDOW
    return Mark(
        confirmed=seen.confirmed,
        confirmed_since=mark.confirmed_since if stands else seen.at,
        wal_then=mark.wal_then if stands else seen.wal,
        window_at=seen.at if anew else mark.window_at,
        window_wal=seen.wal if anew else mark.window_wal,
    )


def stalled_seconds(mark: Mark | None, seen: Observation) -> float:
    """How long the slot has not advanced while the log grew; 0 when it advanced, or nothing was written since."""
    if mark is None or seen.confirmed != mark.confirmed or seen.wal <= mark.wal_then:
        return 0.0
    return max(0.0, round(seen.at - mark.confirmed_since, 1))


def runway(mark: Mark | None, seen: Observation, allowance_bytes: int) -> Runway:
    """How many hours the slot could stand still until its log fills what it may use, at the present rate of writing.

    The limit is the smaller of `max_slot_wal_keep_size`, after which the server gives the slot up (PostgreSQL,
    'Replication'), and the configured allowance of disk.
    """
    limit = allowance_bytes
    name: Literal["walAllowanceGb", "max_slot_wal_keep_size"] = "walAllowanceGb"
    if seen.keep_bytes is not None and seen.keep_bytes < limit:
        limit, name = seen.keep_bytes, "max_slot_wal_keep_size"
    over: float | None = None
    rate = figure(seen.average_rate)
    if mark is not None and seen.at - mark.window_at >= SHORTEST_WINDOW and seen.wal >= mark.window_wal:
        over = seen.at - mark.window_at
        rate = (seen.wal - mark.window_wal) / over
    left = max(0, limit - seen.retained)
    return Runway(
        hours=round(left / rate / 3600, 2) if rate else None,
        rate_bytes_per_second=round(rate, 1) if rate is not None else None,
        measured_over_seconds=round(over, 1) if over is not None else None,
        retained_bytes=seen.retained,
        limit_bytes=limit,
        limit=name,
    )
