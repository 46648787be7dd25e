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
from scripts.canary.figures import Observed, Traffic, weighted_median
from scripts.canary.limits import MEND, Figure, Of, figures, sides
from scripts.replication.deletes import unusual
from scripts.support.figure import short

Verdict = Literal["promote", "hold", "rollback", "refused"]
State = Literal["good", "breach", "hold", "not compared"]
Pairs = list[tuple[Traffic, Traffic]]


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


def decide(observed: Observed, limits: GateLimits, watch_seconds: float) -> Decision:
    """Decide on a canary step from one watch.

    A breach rolls back, however short the watch was: a figure past its limit in ``breachPeriods`` of ``windowPeriods``
    periods in a row; no healthy target, or no figure of the Task Service while requests come, in ``blindPeriods`` of them;
    the whole watch's error rate or typical latency past its limit, of the Task Service or of all users; the Task Service
    clearly worse than the monolith; a write that never arrived on the other side, or a direction in which none will until somebody acts. Without a breach, missing figures, too few
    requests, a newest period past a limit, the whole watch past one while fewer than ``breachPeriods`` periods had requests, an
    unusual share of deletes or a watch that is not over hold: there is no promotion on no data. Only a whole watch with every
    figure promotes. Worse figures never give a better verdict.

    Args:
        observed: complete periods; a missing figure is neither good nor bad.
        limits: the limits and how sure a judgement has to be.
        watch_seconds: the length of a whole watch, in seconds.
    """
    wanted = max(1, ceil(watch_seconds / observed.period_seconds))
    findings = [_periodwise(figure, observed, limits, wanted) for figure in figures(limits, observed.weight)]
    findings += [*_unserved(observed, limits), *_writes(observed), _deletes(observed, limits)]
    findings += [*_overall(observed, limits), _tail(observed, limits)]
    findings += _compared(observed, limits, wanted)
    findings.append(_length(observed, watch_seconds))
    for verdict, state in (("rollback", "breach"), ("hold", "hold")):
        reasons = tuple(finding.text for finding in findings if finding.state == state)
        if reasons:
            return Decision(verdict, reasons, tuple(findings))  # type: ignore[arg-type]
    return Decision("promote", tuple(finding.text for finding in findings if finding.state == "good"), tuple(findings))


def _periodwise(figure: Figure, observed: Observed, limits: GateLimits, wanted: int) -> Finding:
    """Breaches among the newest periods, coverage, and the newest period."""
    rule = figure.name
    needed = figure.needed or limits.breach_periods
    worst = min if figure.above else max
    values = [figure.of(period) for period in observed.periods]
    for end in range(1, len(values) + 1):
        window = values[max(0, end - limits.window_periods) : end]
        found = [value for value in window if value is not None and figure.breaches(value)]
        if len(found) >= needed:
            text = (
                f"{rule} is {short(worst(found))}{figure.unit} in {len(found)} of {len(window)} periods, the limit is "
                f"{figure.wanted} ({needed} of {limits.window_periods} periods); {figure.mend}"
            )
            return Finding(rule, "breach", text)
    covered = sum(figure.seen(period) for period in observed.periods)
    share = 100.0 * covered / wanted
    if share < limits.coverage_percent and len(observed.periods) >= wanted:
        text = (
            f"{rule} is there for {covered} of {wanted} periods ({share:.0f} %), at least {limits.coverage_percent:g} % are "
            f"needed, {figure.wanted}; mend the metric, then watch again"
        )
        return Finding(rule, "hold", text)
    known = [value for value in values if value is not None]
    if not known:
        return Finding(rule, "not compared", f"{rule}: no period with enough requests to judge it by itself")
    if figure.breaches(known[-1]):
        text = f"{rule} is {short(known[-1])}{figure.unit} in the newest period, the limit is {figure.wanted}; watch on"
        return Finding(rule, "hold", text)
    return Finding(rule, "good", f"{rule} {short(worst(known))}{figure.unit} at worst, {figure.wanted}")


def _unserved(observed: Observed, limits: GateLimits) -> Iterator[Finding]:
    """What the load balancer says itself of the targets: minutes before the metrics, and where these cannot be read."""
    if not observed.unserved_seconds:
        return
    limit = limits.blind_periods * observed.period_seconds
    text = f"no target of the Task Service has been healthy for {observed.unserved_seconds:.0f} s, the limit is below {limit:g} s"
    if observed.unserved_seconds >= limit:
        yield Finding("no healthy target", "breach", f"{text}; {MEND}: aws ecs describe-services says why")
    else:
        yield Finding("no healthy target", "hold", f"{text}; watch on")


def _writes(observed: Observed) -> Iterator[Finding]:
    """Writes that did not arrive break every promise; writes that lost and are told do not, and are counted."""
    if observed.missing:
        text = f"{observed.missing:,} writes never arrived on the other side, the limit is none; task-migration replicate status"
        yield Finding("writes", "breach", text)
    if observed.halted:
        text = f"replication stands: {observed.halted}"
        yield Finding("replication stands", "breach", text)
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


def _overall(observed: Observed, limits: GateLimits) -> Iterator[Finding]:
    """The whole watch: enough requests, its error rate, its typical latencies; of the Task Service and of users."""
    for side in sides(limits):
        total = observed.total(side.of)
        rule = f"{side.whose}requests"
        if total.requests < limits.minimum_requests:
            text = f"{total.counted} {side.where}, at least {limits.minimum_requests} are needed; watch longer"
            yield Finding(rule, "hold", text)
            continue
        yield Finding(rule, "good", f"{total.counted} {side.where}, at least {limits.minimum_requests}")
        seen = [one for period in observed.periods if (one := side.of(period)) is not None and one.requests]
        # The first moments of a service that warms up take nothing back alone; being clearly worse than the monolith does.
        state: State = "hold" if len(seen) < limits.breach_periods else "breach"
        share, unit, limit, of = side.figures[0]
        yield _whole(f"{side.whose}{share} of the whole watch", unit, limit, of(total), state, side.mend)
        for name, unit, limit, of in side.figures[1:]:
            pairs = [(float(value), one.requests) for one in seen if (value := of(one)) is not None]
            yield _whole(f"{side.whose}typical {name}", unit, limit, weighted_median(pairs), state, side.mend)


def _tail(observed: Observed, limits: GateLimits) -> Finding:
    """The P99 of a watch whose periods have too few requests for one: of each whose slowest hundredth, or single slowest answer, is past
    the limit so many are at the least."""
    rule, limit = "P99 of the whole watch", limits.p99_ms
    seen = [one for period in observed.periods if (one := period.task_service) is not None and one.requests]
    slow = [one for one in seen if one.p99_ms is not None and one.p99_ms >= limit]
    total, least = sum(one.requests for one in seen), sum(max(1, one.requests // 100) for one in slow)
    text = f"at least {least} of {total} requests on the Task Service took {limit:g} ms or more, the limit is below 1 %"
    if total >= limits.tail_requests and len(slow) >= limits.breach_periods and 100 * least >= total:
        return Finding(rule, "breach", f"{text}; {MEND}")
    return Finding(rule, "good", text)


def _whole(name: str, unit: str, limit: float, value: float | None, past: State, mend: str) -> Finding:
    if value is None:
        text = f"{name} could not be had; the limit is below {limit:g}{unit}; mend the metric, then watch again"
        return Finding(name, "hold", text)
    if value >= limit:
        return Finding(name, past, f"{name} is {short(value)}{unit}, the limit is below {limit:g}{unit}; {mend}")
    return Finding(name, "good", f"{name} {short(value)}{unit}, below {limit:g}{unit}")


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
        text = f"watched for {short(watched)} s of settled periods, the limit is at least {watch_seconds:g} s; watch on"
        return Finding("length", "hold", text)
    return Finding("length", "good", f"watched for {short(watched)} s")
