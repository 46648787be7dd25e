"""What a period is held against: each figure with its limit, and what must be there to judge by it. No I/O here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from components.config_gates import GateLimits
from scripts.canary.figures import Period, Traffic

GB = 1e9
MEND = "look into the Task Service before the next try"
EITHER = "see by the figures of both sides whose they are before the next try"
TARGET, CARRIED = "look at the target database before the next try", "task-migration replicate status says why"
BLIND = (
    "either no task takes them (aws ecs describe-services says why), or CloudWatch has nothing of the load balancer (then the "
    "monolith's figures are missing too); mend that before the next try"
)
Of = Callable[[Traffic], float | None]


@dataclass(frozen=True)
class Figure:
    """One figure of a period. ``of`` gives None where it is missing or rests on too few requests."""

    name: str
    unit: str
    limit: float
    of: Callable[[Period], float | None]
    #: What must be there for the period to count as seen; by default the figure itself.
    seen: Callable[[Period], bool]
    above: bool = False  # the figure must stay above its limit, not below it
    at_most: bool = False  # the limit itself is still good
    #: So many breaches in a window roll back; None: ``breachPeriods``.
    needed: int | None = None
    #: Where whoever is woken by a breach looks first.
    mend: str = MEND

    def breaches(self, value: float) -> bool:
        if self.above:
            return value <= self.limit
        return value > self.limit if self.at_most else value >= self.limit

    @property
    def wanted(self) -> str:
        word = "above" if self.above else "at most" if self.at_most else "below"
        return f"{word} {self.limit:g}{self.unit}"


@dataclass(frozen=True)
class Side:
    """Whose traffic is held against limits; ``whose`` begins the names of its figures."""

    whose: str
    where: str
    of: Callable[[Period], Traffic | None]
    #: Name, unit, limit, and the figure; the first one is a share that can be had of sums.
    figures: tuple[tuple[str, str, float, Of], ...]
    mend: str = MEND


def sides(limits: GateLimits) -> tuple[Side, ...]:
    """The Task Service's traffic and everybody's, each with its limits."""

    def rate(traffic: Traffic) -> float:
        return traffic.error_rate_percent

    return (
        Side("", "on the Task Service", lambda p: p.task_service, (
            ("error rate", " %", limits.error_rate_percent, rate),
            ("P50", " ms", limits.p50_ms, lambda t: t.p50_ms),
            ("P95", " ms", limits.p95_ms, lambda t: t.p95_ms),
        )),
        Side("users' ", "of users at the API", lambda p: p.users, (
            ("error rate", " %", limits.users_error_rate_percent, rate),
            ("P95", " ms", limits.users_p95_ms, lambda t: t.p95_ms),
        ), EITHER),
    )  # fmt: skip


def figures(limits: GateLimits, weight: int) -> Iterator[Figure]:
    """All that a period is judged by, of a step that gives the Task Service ``weight`` percent of the requests."""

    def enough(traffic: Traffic | None) -> Traffic | None:
        return traffic if traffic is not None and traffic.requests >= limits.minimum_period_requests else None

    def judged(side: Side, of: Of) -> Callable[[Period], float | None]:
        def value(period: Period) -> float | None:
            traffic = enough(side.of(period))
            return None if traffic is None else of(traffic)

        return value

    def there(side: Side, of: Of) -> Callable[[Period], bool]:
        def seen(period: Period) -> bool:
            # A period without a request has no latency, and none is missing.
            traffic = side.of(period)
            return traffic is not None and (traffic.requests == 0 or of(traffic) is not None)

        return seen

    def by_balancer(period: Period) -> float | None:
        if period.balancer_errors is None or (users := enough(period.users)) is None:
            return None
        return 100.0 * period.balancer_errors / users.requests

    def untold(period: Period) -> float | None:
        # A group that empties has no healthy target first, then no figures at all: to users both are the same. None counted says
        # something only beside a count of targets.
        task, healthy = period.task_service, period.healthy_hosts
        if task is not None and (healthy or (healthy is None and task.requests)):
            return 0.0
        if period.users is None:
            return None
        # What was refused (401) need not have reached the load balancer.
        return weight / 100.0 * max(0, period.users.requests - period.users.refusals)

    def plain(name: str, unit: str, limit: float, of: Callable[[Period], float | None], **how: Any) -> Figure:
        return Figure(name, unit, limit, of, lambda period: of(period) is not None, **how)

    def scaled(value: float | None) -> float | None:
        return None if value is None else value / GB

    def tail(period: Period) -> float | None:
        task = period.task_service
        return task.p99_ms if task is not None and task.requests >= limits.tail_requests else None

    for side in sides(limits):
        for name, unit, limit, of in side.figures:
            yield Figure(f"{side.whose}{name}", unit, limit, judged(side, of), there(side, of), mend=side.mend)
    yield Figure("P99", " ms", limits.p99_ms, tail, lambda _: True)
    yield Figure(
        "load balancer's own errors", " %", limits.balancer_error_percent, by_balancer, lambda p: p.balancer_errors is not None,
        mend="502, 503 and 504 that no target gave, on both sides: see its metrics HTTPCode_ELB_50x_Count and each group's targets",
    )  # fmt: skip
    blind = limits.blind_periods
    yield Figure(
        "requests without a healthy target or figures of the Task Service", "", limits.minimum_period_requests, untold, lambda _: True,
        needed=blind, mend=BLIND,
    )  # fmt: skip
    yield plain("healthy targets", "", 0.0, lambda p: p.healthy_hosts, above=True, needed=blind)
    yield plain("CPU", " %", limits.cpu_percent, lambda p: p.cpu_percent)
    yield plain("memory", " %", limits.memory_percent, lambda p: p.memory_percent)
    yield plain("database CPU", " %", limits.database_cpu_percent, lambda p: p.database_cpu_percent, mend=TARGET)
    yield plain(
        "database connections", "", limits.database_connections, lambda p: p.database_connections, at_most=True, mend=TARGET
    )  # fmt: skip
    yield plain(
        "free storage", " GB", limits.database_free_storage_gb, lambda p: scaled(p.database_free_bytes), above=True, mend=TARGET
    )  # fmt: skip
    yield plain("WAL held by slots", " GB", limits.slot_disk_gb, lambda p: scaled(p.slot_bytes), mend=CARRIED)
    yield plain("replication", " s", limits.replication_lag_seconds, lambda p: p.replication_seconds, mend=CARRIED)
