"""What a watch saw: figures per period, of both target groups side by side and of what they rest on. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter

from scripts.replication.documents import DeletedRows
from scripts.support.figure import Figure, figure, short

LATENCIES = ("p50_ms", "p95_ms", "p99_ms")
_Count = Annotated[int, Field(strict=True, ge=0)]


@dataclass(frozen=True)
class Traffic:
    """What one target group, or the API as a whole, answered in one period. A latency is None when it could not be had.

    ``errors`` are 5xx, and requests that a target was chosen for and that it did not answer; ``refusals`` are 4xx.
    """

    requests: _Count
    errors: _Count = 0
    refusals: _Count = 0
    p50_ms: Figure = None
    p95_ms: Figure = None
    p99_ms: Figure = None

    def __post_init__(self) -> None:
        for name in LATENCIES:
            object.__setattr__(self, name, figure(getattr(self, name)))

    @property
    def told(self) -> bool:
        """Whether each count is one."""
        return None not in (figure(self.requests), figure(self.errors), figure(self.refusals))

    @property
    def counted(self) -> str:
        """``1 request``, ``2 requests``."""
        return f"{self.requests} request{'' if self.requests == 1 else 's'}"

    @property
    def error_rate_percent(self) -> float:
        """Server errors, percent of all requests; 0 without requests."""
        return 100.0 * self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Period:
    """One whole period, begun at ``at`` (seconds since the epoch). None means that the figure is missing, and so is one that is not
    finite or below 0, and traffic of which a count is.
    """

    at: float
    task_service: Traffic | None = None
    monolith: Traffic | None = None
    cpu_percent: Figure = None
    memory_percent: Figure = None
    database_cpu_percent: Figure = None
    database_connections: Figure = None
    database_free_bytes: Figure = None
    slot_bytes: Figure = None
    replication_seconds: Figure = None
    healthy_hosts: Figure = None
    #: What the API was asked and answered, whichever side and whatever in between did.
    users: Traffic | None = None
    #: 5xx that the load balancer answered in its own name, to everybody whom it serves.
    balancer_errors: Annotated[int | None, BeforeValidator(figure)] = None

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self) if one.name != "at"):
            value = getattr(self, name)
            told = (value if value.told else None) if isinstance(value, Traffic) else figure(value)
            object.__setattr__(self, name, told)


@dataclass(frozen=True)
class Observed:
    """Everything a decision rests on: the whole periods of a watch whose figures are complete, oldest first."""

    period_seconds: float
    periods: tuple[Period, ...] = ()
    #: Writes that had not arrived on the other side when a fence after them had, at the last look.
    missing: int = 0
    #: Lost writes that both sides' conflict logs tell of, at the last look; None where nobody looked.
    told: int | None = None
    #: What the Task Service deleted in the last hour, by table and minute, at the last look.
    deletes: tuple[DeletedRows, ...] = ()
    #: What a rollback needs and was not there any more when the watch ended.
    failing: tuple[str, ...] = ()
    #: Why nothing comes through in a direction until somebody acts, at the last look.
    halted: str | None = None
    #: Share of the requests that the step gives the Task Service, percent.
    weight: int = 0
    #: For how long the load balancer has said itself, until the last look, that no target of the Task Service is healthy.
    unserved_seconds: float = 0.0

    @property
    def watched_seconds(self) -> float:
        """How long the periods are together."""
        return len(self.periods) * self.period_seconds

    def total(self, side: Callable[[Period], Traffic | None]) -> Traffic:
        """One side's sums over all its periods, without latencies."""
        seen = [traffic for period in self.periods if (traffic := side(period)) is not None]
        return Traffic(*(sum(getattr(one, name) for one in seen) for name in ("requests", "errors", "refusals")))

    def sides(self) -> list[tuple[str, Traffic]]:
        """Both sides over the whole watch, and what the API's users got."""
        return [
            ("Task Service", typical(one.task_service for one in self.periods)),
            ("monolith", typical(one.monolith for one in self.periods)),
            ("users (API)", typical(one.users for one in self.periods)),
        ]

    def newest(self) -> str:
        """The newest period for people, short enough for a line; missing figures are left out."""
        if not self.periods:
            return "no complete period yet"
        period = self.periods[-1]
        parts = []
        if (seen := period.task_service) is not None:
            parts += [
                seen.counted,
                f"{short(seen.error_rate_percent, 2)} % errors",
            ]
            parts += [] if seen.p95_ms is None else [f"P95 {seen.p95_ms:.0f} ms"]
        parts += [] if period.users is None else [f"users {short(period.users.error_rate_percent, 2)} % errors"]
        parts += [] if period.cpu_percent is None else [f"CPU {period.cpu_percent:.0f} %"]
        return ", ".join(parts) or "no figure yet"


_OBSERVED: TypeAdapter[Observed] = TypeAdapter(Observed)


def observed(kept: Mapping[str, Any]) -> Observed | None:
    """What a kept decision rests on; None where nothing was watched. Raises ValueError when that is not to be read."""
    if kept.get("evidence") is None:
        return None
    found = _OBSERVED.validate_python(kept["evidence"])
    if not figure(found.period_seconds):
        raise ValueError(f"periods of {found.period_seconds!r} s")
    return found


def complete(since: float, now: float, period_seconds: float, delay_seconds: float) -> list[float]:
    """Begins of the whole periods from ``since`` on whose figures are complete by ``now`` (seconds since the epoch).

    Periods stand on multiples of their length, as CloudWatch's do (CloudWatch API reference, 'GetMetricData', StartTime).
    What is younger than ``delay_seconds`` may still be missing or partial, so it counts neither as good nor as bad.
    """
    first = -(-since // period_seconds)
    last = (now - delay_seconds) // period_seconds
    return [number * period_seconds for number in range(int(first), int(last))]


def with_replication(observed: Observed, samples: Sequence[tuple[float, float]]) -> Observed:
    """``observed`` with the worst fence of each period: ``samples`` are (seconds since the epoch, seconds it took).

    A period between two looks takes the fences of the periods beside it.
    """
    length = observed.period_seconds

    def within(begin: float, end: float) -> list[float]:
        return [took for at, took in samples if begin <= at < end and figure(took) is not None]

    def worst(period: Period) -> float | None:
        found = within(period.at, period.at + length) or within(period.at - length, period.at + 2 * length)
        found += [] if period.replication_seconds is None else [period.replication_seconds]
        return max(found, default=None)

    return replace(
        observed, periods=tuple(replace(period, replication_seconds=worst(period)) for period in observed.periods)
    )


def typical(seen: Iterable[Traffic | None]) -> Traffic:
    """The sums of several periods, with their typical P50 and P95."""
    there = [one for one in seen if one is not None]
    counts = (sum(getattr(one, name) for one in there) for name in ("requests", "errors", "refusals"))
    latencies = (
        weighted_median((ms, one.requests) for one in there if (ms := getattr(one, name)) is not None)
        for name in ("p50_ms", "p95_ms")
    )
    return Traffic(*counts, *latencies)


def weighted_median(values: Iterable[tuple[float, int]]) -> float | None:
    """The median of (value, weight), the lower one of two; None without weight. It never falls when a value rises."""
    ordered = sorted((value, weight) for value, weight in values if weight > 0)
    half = sum(weight for _, weight in ordered) / 2
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= half:
            return value
    return None
