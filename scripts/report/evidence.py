"""What a kept decision of the canary tells of its watch: curves, limits, and the decision in one line. No I/O here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from components.config_gates import GateLimits
from scripts.canary.figures import Observed, Period, Traffic
from scripts.report.documents import DecisionRow, Limit
from scripts.support.figure import counted, figure, short

#: A series' `what` and `of`, and one of its points: seconds since the epoch, and the value.
Sample = tuple[str, str, float, float | None]


def moment(text: Any) -> float:
    """Seconds since the epoch of a time in ISO 8601 with its zone. Raises ValueError or TypeError for anything else."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    return at.timestamp()


def number(value: Any) -> float:
    """A figure of somebody's JSON. Raises ValueError for what is none, NaN, the infinite ones and those below 0 included."""
    if (found := figure(value)) is None:
        raise ValueError(f"{value!r} is no figure")
    return found


def row(
    facts: Mapping[str, Any], at: float, seen: Observed | None, unknown: str = "nothing was watched"
) -> DecisionRow:
    """One decision; ``unknown`` stands for what was seen where there is nothing. Raises ValueError, KeyError for what is no decision."""
    reasons = facts["reasons"]
    if facts["decision"] == "promote" and len(reasons) > 1:
        # Every rule of the gate, of which none failed.
        reasons = [f"all {len(reasons)} rules of the gate hold"]
    return DecisionRow(
        at=at,
        from_=facts["from"],
        to=facts["to"],
        decision=facts["decision"],
        reasons=reasons,
        seconds=number(facts["seconds"]),
        evidence=unknown if seen is None else _line(seen),
    )


def _line(seen: Observed) -> str:
    parts = [f"{counted(len(seen.periods), 'period')} of {seen.period_seconds:g} s"]
    for name, traffic in seen.sides():
        parts.append(
            f"{name} {counted(traffic.requests, 'request')}, {counted(traffic.errors, 'error')}{_latencies(traffic)}"
        )
    if lag := [one.replication_seconds for one in seen.periods if one.replication_seconds is not None]:
        parts.append(f"replication at most {short(max(lag), 2)} s")
    parts.append(f"{counted(seen.missing, 'write')} missing")
    parts += [] if seen.told is None else [f"{seen.told:,} told as lost"]
    return "; ".join(parts)


def _latencies(traffic: Traffic) -> str:
    named = (("P50", traffic.p50_ms), ("P95", traffic.p95_ms))
    return "".join(f", {name} {ms:.0f} ms" for name, ms in named if ms is not None)


def samples(seen: Observed) -> Iterator[Sample]:
    """The figures of each period at its begin, and a gap where the watch ends: what nobody watched is no straight line."""
    for period in seen.periods:
        yield from _of_period(period, seen.period_seconds)
    if seen.periods:
        end = seen.periods[-1].at + seen.period_seconds
        for what, of, _, _ in _of_period(seen.periods[-1], seen.period_seconds):
            yield what, of, end, None
        if seen.told is not None:
            yield "told", "both sides", end, seen.told


def _of_period(period: Period, seconds: float) -> Iterator[Sample]:
    for of, traffic in (("monolith", period.monolith), ("task-service", period.task_service), ("users", period.users)):
        figures = [None] * 4 if traffic is None else [
            traffic.requests / seconds, traffic.errors / seconds, traffic.p50_ms, traffic.p95_ms
        ]  # fmt: skip
        for what, value in zip(("requests", "errors", "p50", "p95"), figures, strict=True):
            yield what, of, period.at, value
    yield "weight", "measured", period.at, share(period.monolith, period.task_service)
    yield "lag", "slower way", period.at, period.replication_seconds


def share(monolith: Traffic | None, service: Traffic | None) -> float | None:
    """Percent of both sides' requests that the Task Service got; None without any."""
    if monolith is None or service is None or not (both := monolith.requests + service.requests):
        return None
    return 100.0 * service.requests / both


def limits(gates: GateLimits) -> list[Limit]:
    """The gate's lines that a picture has; its rates of errors are percent."""
    return [
        Limit(what="p50", name="Task Service", value=gates.p50_ms),
        Limit(what="p95", name="Task Service", value=gates.p95_ms),
        Limit(what="p95", name="users", value=gates.users_p95_ms),
        Limit(what="errors", name="Task Service, percent of its requests", value=gates.error_rate_percent),
        Limit(what="errors", name="users, percent of all requests", value=gates.users_error_rate_percent),
        Limit(what="lag", name="either way", value=gates.replication_lag_seconds),
    ]
