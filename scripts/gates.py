"""The gate of a canary step: a pure function from what was observed to a decision. No I/O here.

Limits and their defaults are plan.md's, step 2.3; they come in by config.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from components.config import GateLimits

Verdict = Literal["promote", "hold", "rollback", "refused"]


@dataclass(frozen=True)
class Traffic:
    """What one target group answered during the watch. A latency is None when no request was seen."""

    requests: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None

    @property
    def error_rate_percent(self) -> float:
        """Server errors, percent of all requests; 0 without requests."""
        return 100.0 * self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Observed:
    """Everything a decision rests on. None means that the figure could not be had."""

    watched_seconds: float
    task_service: Traffic | None
    cpu_percent: float | None
    memory_percent: float | None


@dataclass(frozen=True)
class Readiness:
    """Whether a rollback would keep every write, as seen before a weight goes up. None: could not be had."""

    forward_running: bool
    reverse_running: bool
    forward_fence_seconds: float | None
    reverse_fence_seconds: float | None


@dataclass(frozen=True)
class Decision:
    """What to do, and why; ``reasons`` name value, limit and remedy."""

    verdict: Verdict
    reasons: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The decision as JSON."""
        return {"decision": self.verdict, "reasons": list(self.reasons)}


def decide(observed: Observed, limits: GateLimits, watch_seconds: float) -> Decision:
    """Decide on a canary step from one watch.

    A breach rolls back, however short the watch was. Without a breach, missing data, too few requests or a watch that is
    not over holds: there is no promotion on no data. Only a whole watch under every limit promotes.

    Args:
        observed: the figures of the watch.
        limits: each figure must stay below its limit.
        watch_seconds: the length of a whole watch, in seconds.
    """
    seen = observed.task_service
    figures: list[tuple[str, float | None, float, str]] = [
        ("CPU", observed.cpu_percent, limits.cpu_percent, "%"),
        ("memory", observed.memory_percent, limits.memory_percent, "%"),
    ]
    enough = seen is not None and seen.requests >= limits.minimum_requests
    if seen is not None and enough:
        # With too few requests one error or one slow answer is no rate and no percentile yet.
        figures += [
            ("error rate", seen.error_rate_percent, limits.error_rate_percent, "%"),
            ("P50", seen.p50_ms, limits.p50_ms, "ms"),
            ("P95", seen.p95_ms, limits.p95_ms, "ms"),
        ]
    breaches = tuple(
        f"{name} is {value:.4g} {unit}, the limit is below {limit:g} {unit}; look into the Task Service before the next try"
        for name, value, limit, unit in figures
        if value is not None and value >= limit
    )
    if breaches:
        return Decision("rollback", breaches)
    holds = [
        f"{name} could not be read; the limit is below {limit:g} {unit}; mend the metric, then watch again"
        for name, value, limit, unit in figures
        if value is None
    ]
    if not enough:
        count = "no figure for" if seen is None else f"{seen.requests}"
        holds.append(
            f"{count} requests on the Task Service, at least {limits.minimum_requests} are needed; watch longer"
        )
    if observed.watched_seconds < watch_seconds:
        holds.append(
            f"watched for {observed.watched_seconds:.0f} s, the limit is at least {watch_seconds:g} s; watch on"
        )
    if holds:
        return Decision("hold", tuple(holds))
    return Decision(
        "promote", tuple(f"{n} {v:.4g} {u}, below {lim:g} {u}" for n, v, lim, u in figures if v is not None)
    )


def ready(readiness: Readiness, limits: GateLimits) -> Decision:
    """Whether a weight may go up: ``promote`` when a rollback would keep every write, else ``refused``."""
    reasons = [
        f"the {name} direction of replication does not run; remedy: task-migration replicate status, then replicate start"
        for name, running in (("forward", readiness.forward_running), ("reverse", readiness.reverse_running))
        if not running
    ]
    for name, seconds in (("forward", readiness.forward_fence_seconds), ("reverse", readiness.reverse_fence_seconds)):
        if seconds is None or seconds >= limits.replication_lag_seconds:
            value = "did not return" if seconds is None else f"took {seconds:.2f} s"
            reasons.append(
                f"the {name} fence {value}, the limit is below {limits.replication_lag_seconds:g} s; wait until the lag is gone"
            )
    if reasons:
        return Decision("refused", tuple(reasons))
    return Decision("promote", ("both directions run and both fences returned",))


def next_weight(current: int, ladder: tuple[int, ...]) -> int | None:
    """The ladder's next weight above ``current`` (percent), or None at its end."""
    return next((weight for weight in ladder if weight > current), None)


def check_step(current: int, wanted: int, ladder: tuple[int, ...], *, forced: bool) -> Decision:
    """Whether a step from ``current`` to ``wanted`` (percent) is one of the ladder's. A way down is a rollback, not a step."""
    if wanted <= current:
        return Decision(
            "refused",
            (f"the weight is {current} %, {wanted} % is not above it; the way down is: task-migration rollback",),
        )
    following = next_weight(current, ladder)
    if wanted != following and not forced:
        return Decision(
            "refused",
            (
                f"from {current} % the ladder's next weight is {following} %, not {wanted} %; use it, or --force with --reason",
            ),
        )
    return Decision("promote", ())


def as_json(observed: Observed) -> dict[str, Any]:
    """The evidence of a decision as JSON."""
    return asdict(observed)
