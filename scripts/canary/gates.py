"""The gate of a canary step: a pure function from what was observed to a decision. No I/O here.

Limits and their defaults are docs/plan.md's, Step 2; they come in by config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal

from components.config_gates import GateLimits
from scripts.canary.comparison import fisher_exact, sign_test
from scripts.canary.figures import Observed, Period, Traffic, weighted_median
from scripts.replication.deletes import unusual

Verdict = Literal["promote", "hold", "rollback", "refused"]
State = Literal["good", "breach", "hold", "not compared"]
GB = 1e9
Of = Callable[[Traffic], float | None]
Pairs = list[tuple[Traffic, Traffic]]
MEND = "look into the Task Service before the next try"


@dataclass(frozen=True)
class Finding:
    """What one rule made of the figures; ``text`` names value, limit and remedy."""

    rule: str
    state: State
    text: str


@dataclass(frozen=True)
class Decision:
    """What to do, and why; ``findings`` has every rule, ``reasons`` those that decided."""

    verdict: Verdict
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Figure:
    """One figure of a period. ``of`` gives None where it is missing or rests on too few requests."""

    name: str
    unit: str
    limit: float
    of: Callable[[Period], float | None]
    #: What must be there for the period to count as seen; by default the figure itself.
    seen: Callable[[Period], bool]
    above: bool = False  # the figure must stay above its limit, not below it
    at_most: bool = False  # the limit itself is still good

    def breaches(self, value: float) -> bool:
        if self.above:
            return value <= self.limit
        return value > self.limit if self.at_most else value >= self.limit

    @property
    def wanted(self) -> str:
        word = "above" if self.above else "at most" if self.at_most else "below"
        return f"{word} {self.limit:g}{self.unit}"


def _figures(limits: GateLimits) -> list[_Figure]:
    def judged(of: Callable[[Traffic], float | None]) -> Callable[[Period], float | None]:
        def value(period: Period) -> float | None:
            seen = period.task_service
            return of(seen) if seen is not None and seen.requests >= limits.minimum_period_requests else None

        return value

    def latency(of: Callable[[Traffic], float | None]) -> Callable[[Period], bool]:
        def seen(period: Period) -> bool:
            # A period without a request has no latency, and none is missing.
            there = period.task_service
            return there is not None and (there.requests == 0 or of(there) is not None)

        return seen

    def plain(name: str, unit: str, limit: float, of: Callable[[Period], float | None], **how: bool) -> _Figure:
        return _Figure(name, unit, limit, of, lambda period: of(period) is not None, **how)

    def scaled(value: float | None) -> float | None:
        return None if value is None else value / GB

    traffic: list[tuple[str, str, float, Of]] = [
        ("error rate", " %", limits.error_rate_percent, lambda t: t.error_rate_percent),
        ("P50", " ms", limits.p50_ms, lambda t: t.p50_ms),
        ("P95", " ms", limits.p95_ms, lambda t: t.p95_ms),
    ]
    return [
        *(_Figure(name, unit, limit, judged(of), latency(of)) for name, unit, limit, of in traffic),
        plain("CPU", " %", limits.cpu_percent, lambda p: p.cpu_percent),
        plain("memory", " %", limits.memory_percent, lambda p: p.memory_percent),
        plain("healthy targets", "", 0.0, lambda p: p.healthy_hosts, above=True),
        plain("database CPU", " %", limits.database_cpu_percent, lambda p: p.database_cpu_percent),
        plain("database connections", "", limits.database_connections, lambda p: p.database_connections, at_most=True),
        plain(
            "free storage", " GB", limits.database_free_storage_gb, lambda p: scaled(p.database_free_bytes), above=True
        ),
        plain("WAL held by slots", " GB", limits.slot_disk_gb, lambda p: scaled(p.slot_bytes)),
        plain("replication", " s", limits.replication_lag_seconds, lambda p: p.replication_seconds),
    ]


def decide(observed: Observed, limits: GateLimits, watch_seconds: float) -> Decision:
    """Decide on a canary step from one watch.

    A breach rolls back, however short the watch was: a figure past its limit in ``breachPeriods`` of ``windowPeriods``
    periods in a row, the whole watch's error rate or typical latency past it, or the Task Service clearly worse than the
    monolith, or a write that never arrived on the other side. Without a breach, missing figures, too few requests, a newest period
    past a limit, the whole watch past one while fewer than ``breachPeriods`` periods had requests, an unusual share of deletes or a
    watch that is not over hold: there is no promotion on no data. Only a whole watch with every figure promotes. Worse figures never
    give a better verdict.

    Args:
        observed: complete periods; a missing figure is neither good nor bad.
        limits: the limits and how sure a judgement has to be.
        watch_seconds: the length of a whole watch, in seconds.
    """
    wanted = max(1, ceil(watch_seconds / observed.period_seconds))
    findings: list[Finding] = []
    for figure in _figures(limits):
        findings.append(_periodwise(figure, observed, limits, wanted))
    findings += [*_writes(observed), _deletes(observed, limits)]
    findings += _overall(observed, limits)
    findings += _compared(observed, limits, wanted)
    findings.append(_length(observed, watch_seconds))
    for verdict, state in (("rollback", "breach"), ("hold", "hold")):
        reasons = tuple(finding.text for finding in findings if finding.state == state)
        if reasons:
            return Decision(verdict, reasons, tuple(findings))  # type: ignore[arg-type]
    return Decision("promote", tuple(finding.text for finding in findings if finding.state == "good"), tuple(findings))


def _periodwise(figure: _Figure, observed: Observed, limits: GateLimits, wanted: int) -> Finding:
    """Breaches among the newest periods, coverage, and the newest period."""
    rule = figure.name
    values = [figure.of(period) for period in observed.periods]
    broken = [value is not None and figure.breaches(value) for value in values]
    known = [value for value in values if value is not None]
    for end in range(1, len(values) + 1):
        begin = max(0, end - limits.window_periods)
        if sum(broken[begin:end]) >= limits.breach_periods:
            found = [value for value, bad in zip(values[begin:end], broken[begin:end], strict=True) if bad]
            worst = min(found, key=_number) if figure.above else max(found, key=_number)
            text = (
                f"{rule} is {_number(worst):.4g}{figure.unit} in {len(found)} of {end - begin} periods, the limit is "
                f"{figure.wanted} ({limits.breach_periods} of {limits.window_periods} periods); {MEND}"
            )
            return Finding(rule, "breach", text)
    covered = sum(figure.seen(period) for period in observed.periods)
    share = 100.0 * min(covered, wanted) / wanted
    if share < limits.coverage_percent and len(observed.periods) >= wanted:
        text = (
            f"{rule} is there for {covered} of {wanted} periods ({share:.0f} %), at least {limits.coverage_percent:g} % are "
            f"needed, {figure.wanted}; mend the metric, then watch again"
        )
        return Finding(rule, "hold", text)
    newest = next((index for index in range(len(values) - 1, -1, -1) if values[index] is not None), None)
    if newest is not None and broken[newest]:
        text = f"{rule} is {_number(values[newest]):.4g}{figure.unit} in the newest period, the limit is {figure.wanted}; watch on"
        return Finding(rule, "hold", text)
    if not known:
        return Finding(rule, "not compared", f"{rule}: no period with enough requests to judge it by itself")
    worst = min(known) if figure.above else max(known)
    return Finding(rule, "good", f"{rule} {worst:.4g}{figure.unit} at worst, {figure.wanted}")


def _number(value: float | None) -> float:
    return 0.0 if value is None else value


def _writes(observed: Observed) -> Iterator[Finding]:
    """Writes that did not arrive break every promise; writes that lost and are told do not, and are counted."""
    if observed.missing:
        text = f"{observed.missing:,} writes never arrived on the other side, the limit is none; task-migration replicate status"
        yield Finding("writes", "breach", text)
    for text in observed.failing:
        yield Finding("way back", "hold", text)
    if observed.told is not None:
        text = f"{observed.told:,} writes lost to others in all, each told in a conflict log"
        yield Finding("lost writes", "good", text)


def _deletes(observed: Observed, limits: GateLimits) -> Finding:
    """Rows that the Task Service deletes are deleted on the monolith too: a person decides whether they were meant."""
    found = unusual(observed.deletes, limits)
    if found:
        text = f"{'; '.join(found)}; look whether they were meant before anything else moves, else: task-migration rollback"
        return Finding("deletes", "hold", text)
    limit = f"{limits.delete_share_limit_percent:g} % of a table"
    return Finding("deletes", "good", f"in no minute the Task Service deleted {limit} or more")


def _overall(observed: Observed, limits: GateLimits) -> list[Finding]:
    """The whole watch: enough requests, its error rate, its typical latencies."""
    total = observed.total(lambda period: period.task_service)
    if total.requests < limits.minimum_requests:
        text = f"{total.requests} requests on the Task Service, at least {limits.minimum_requests} are needed; watch longer"
        return [Finding("requests", "hold", text)]
    findings = [Finding("requests", "good", f"{total.requests} requests, at least {limits.minimum_requests}")]
    seen = [p.task_service for p in observed.periods if p.task_service is not None and p.task_service.requests]
    # The first moments of a service that warms up take nothing back alone; being clearly worse than the monolith does.
    short = len(seen) < limits.breach_periods
    figures: list[tuple[str, str, float | None, float]] = [
        ("error rate of the whole watch", " %", total.error_rate_percent, limits.error_rate_percent)
    ]
    latencies: list[tuple[str, float, Of]] = [
        ("typical P50", limits.p50_ms, lambda t: t.p50_ms),
        ("typical P95", limits.p95_ms, lambda t: t.p95_ms),
    ]
    for name, limit, of in latencies:
        pairs = [(float(value), one.requests) for one in seen if (value := of(one)) is not None]
        figures.append((name, " ms", weighted_median(pairs), limit))
    for name, unit, value, limit in figures:
        if value is None:
            text = f"{name} could not be had; the limit is below {limit:g}{unit}; mend the metric, then watch again"
            findings.append(Finding(name, "hold", text))
        elif value >= limit:
            text = f"{name} is {value:.4g}{unit}, the limit is below {limit:g}{unit}; {MEND}"
            findings.append(Finding(name, "hold" if short else "breach", text))
        else:
            findings.append(Finding(name, "good", f"{name} {value:.4g}{unit}, below {limit:g}{unit}"))
    return findings


def _compared(observed: Observed, limits: GateLimits, looks: int) -> list[Finding]:
    """The Task Service beside the monolith in the same periods.

    A watch looks once a period, so the chance of a false alarm is divided by the number of looks (the Bonferroni
    correction; O. J. Dunn, 'Multiple comparisons among means', 1961).
    """
    alpha = limits.significance / looks
    both = [
        (period.task_service, period.monolith)
        for period in observed.periods
        if period.task_service is not None and period.monolith is not None
    ]
    shares: list[tuple[str, float, Callable[[Traffic], int]]] = [
        ("5xx", limits.worse_errors_percent, lambda t: t.errors),
        ("4xx", limits.worse_refusals_percent, lambda t: t.refusals),
    ]
    latencies: list[tuple[str, Of]] = [("P50", lambda t: t.p50_ms), ("P95", lambda t: t.p95_ms)]
    return [
        *(_more_often(name, margin, count, both, limits, alpha) for name, margin, count in shares),
        *(_slower(name, latency, both, limits, alpha) for name, latency in latencies),
    ]


def _more_often(
    name: str, margin: float, count: Callable[[Traffic], int], both: Pairs, limits: GateLimits, alpha: float
) -> Finding:
    rule = f"{name} beside the monolith"
    ours, theirs = (sum(side.requests for side in sides) for sides in _sides(both))
    our_events, their_events = (sum(count(side) for side in sides) for sides in _sides(both))
    if min(ours, theirs) < limits.comparison_requests:
        text = f"{rule}: {ours} and {theirs} requests, at least {limits.comparison_requests} of each side are needed"
        return Finding(rule, "not compared", text)
    our_rate, their_rate = 100.0 * our_events / ours, 100.0 * their_events / theirs
    p = fisher_exact(min(our_events, ours), ours, min(their_events, theirs), theirs)
    worse = p < alpha and our_rate - their_rate >= margin
    text = (
        f"{rule}: {our_rate:.3g} % of {ours} against {their_rate:.3g} % of {theirs} (Fisher's exact test, p = {p:.2g}, "
        f"worse below {alpha:.2g} and by {margin:g} points)"
    )
    return Finding(rule, "breach" if worse else "good", f"{text}; {MEND}" if worse else text)


def _slower(name: str, latency: Of, both: Pairs, limits: GateLimits, alpha: float) -> Finding:
    rule = f"{name} beside the monolith"
    pairs = [
        (ours, theirs)
        for one, other in both
        if min(one.requests, other.requests) >= limits.minimum_period_requests
        and (ours := latency(one)) is not None
        and (theirs := latency(other)) is not None
    ]
    if len(pairs) < limits.comparison_periods:
        text = f"{rule}: {len(pairs)} periods with both, at least {limits.comparison_periods} are needed"
        return Finding(rule, "not compared", text)
    ratio, margin = limits.worse_latency_ratio, limits.worse_latency_ms
    slower = sum(ours >= max(theirs * ratio, theirs + margin) for ours, theirs in pairs)
    p = sign_test(slower, len(pairs))
    text = (
        f"{rule}: {ratio:g} times and {margin:g} ms slower in {slower} of {len(pairs)} periods (sign test, p = {p:.2g}, worse "
        f"below {alpha:.2g})"
    )
    return Finding(rule, "breach" if p < alpha else "good", f"{text}; {MEND}" if p < alpha else text)


def _sides(both: Pairs) -> tuple[list[Traffic], list[Traffic]]:
    return [one for one, _ in both], [other for _, other in both]


def _length(observed: Observed, watch_seconds: float) -> Finding:
    watched = observed.watched_seconds
    if watched < watch_seconds:
        text = f"watched for {watched:.4g} s of settled periods, the limit is at least {watch_seconds:g} s; watch on"
        return Finding("length", "hold", text)
    return Finding("length", "good", f"watched for {watched:.4g} s")
