"""The gate never promotes on a breach, on no data or before the watch is over, and worse figures never help."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from math import comb
from random import Random
from typing import Any

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from components.config import ConfigError, MigrationConfig
from components.config_gates import GateLimits
from components.config_values import parse
from scripts.canary.comparison import fisher_exact, sign_test
from scripts.canary.figures import Observed, Period, Traffic
from scripts.canary.figures import observed as kept_observed
from scripts.canary.gates import Decision, decide
from scripts.rehearsal import waits
from scripts.replication.documents import DeletedRows

LIMITS = GateLimits()
LENGTH = 60.0
WATCH = 1800.0
GOOD = Traffic(100, 0, 1, 20.0, 80.0, 200.0)
BESIDE = Traffic(1900, 0, 19, 20.0, 80.0)
USERS = Traffic(2010, 1, 30, 25.0, 95.0)
PERIOD = Period(0.0, GOOD, BESIDE, 20.0, 30.0, 15.0, 20.0, 90e9, 1e6, 0.2, 2.0, USERS, 1)
RANK = {"rollback": 0, "hold": 1, "promote": 2}


def watched(
    *,
    count: int = 30,
    changed: tuple[int, ...] = (),
    task: dict[str, Any] | None = None,
    api: dict[str, Any] | None = None,
    **change: Any,
) -> Observed:
    """A healthy watch of ``count`` periods at 5 %; ``change`` (and ``task``, of the Task Service's traffic, ``api``, of the users')
    in the ``changed`` ones.
    """
    periods = []
    for number in range(count):
        period = replace(PERIOD, at=number * LENGTH)
        if number in changed:
            traffic, users = replace(GOOD, **(task or {})), replace(USERS, **(api or {}))
            period = replace(period, **{"task_service": traffic, "users": users, **change})
        periods.append(period)
    return Observed(LENGTH, tuple(periods), weight=5)


def judged(observed: Observed) -> Decision:
    return decide(observed, LIMITS, WATCH)


EVERY = tuple(range(30))
#: What one bad period of each figure is, and how its limit is told.
BAD: list[tuple[dict[str, Any], str]] = [
    ({"task": {"errors": 1}}, "error rate is 1 %"),
    ({"task": {"p50_ms": 200.0}}, "P50 is 200 ms"),
    ({"task": {"p95_ms": 500.0}}, "P95 is 500 ms"),
    # Two of a hundred that take seconds: no error, and no P95 tells of them.
    ({"task": {"p99_ms": 2000.0}}, "P99 is 2000 ms"),
    ({"cpu_percent": 70.0}, "CPU is 70 %"),
    ({"memory_percent": 80.0}, "memory is 80 %"),
    ({"database_cpu_percent": 70.0}, "database CPU is 70 %"),
    ({"database_connections": 81.0}, "database connections is 81"),
    ({"database_free_bytes": 10e9}, "free storage is 10 GB"),
    ({"slot_bytes": 10e9}, "WAL held by slots is 10 GB"),
    ({"replication_seconds": 10.0}, "replication is 10 s"),
    ({"api": {"requests": 2000, "errors": 20}}, "users' error rate is 1 %"),
    ({"api": {"p95_ms": 500.0}}, "users' P95 is 500 ms"),
    ({"api": {"requests": 2000}, "balancer_errors": 20}, "load balancer's own errors is 1 %"),
]
#: What nobody may be left with for longer than two periods.
BLIND: list[tuple[dict[str, Any], str]] = [
    ({"healthy_hosts": 0.0}, "healthy targets is 0 in 2 of"),
    ({"task_service": None}, "requests without a healthy target or figures of the Task Service is 99 in 2 of"),
    ({"task_service": None, "healthy_hosts": None, "monolith": None}, "figures of the Task Service is 99 in 2 of"),
    # None counted by a balancer that counts no target either is no quiet minute.
    ({"task_service": Traffic(0), "healthy_hosts": None}, "figures of the Task Service is 99 in 2 of"),
    ({"task_service": Traffic(0), "healthy_hosts": 0.0}, "figures of the Task Service is 99 in 2 of"),
]


@pytest.mark.parametrize(("change", "said"), BLIND)
def test_no_target_or_no_figures_while_requests_come_is_a_breach_in_two_periods(
    change: dict[str, Any], said: str
) -> None:
    """Prevents an hour and a half of 503 that is watched and not seen, as every figure is gone with the last task."""
    for periods in ((0, 1), (10, 14)):
        broken = judged(watched(count=15, changed=periods, **change))
        assert broken.verdict == "rollback"
        assert said in " ".join(broken.reasons), broken.reasons
    # One late minute, or two that are far apart, take nothing back; the newest one waits for its figures.
    assert judged(watched(changed=(3,), **change)).verdict == "promote"
    assert judged(watched(changed=(3, 8), **change)).verdict == "promote"
    assert judged(watched(changed=(29,), **change)).verdict == "hold"


@pytest.mark.parametrize("first", [change for change, _ in BLIND])
@pytest.mark.parametrize("then", [change for change, _ in BLIND])
def test_a_group_that_empties_is_blind_from_its_first_minute_without_a_healthy_target(
    first: dict[str, Any], then: dict[str, Any]
) -> None:
    """Prevents that 503 lasts a minute longer as what tells of it changes: targets that drain, then no figure at all."""
    observed = watched(count=15)
    periods = list(observed.periods)
    for number, change in ((10, first), (11, then)):
        periods[number] = replace(periods[number], **change)
    assert judged(replace(observed, periods=tuple(periods))).verdict == "rollback"


@pytest.mark.parametrize(
    ("seconds", "verdict", "said"),
    [
        (0.0, "promote", ""),
        (119.0, "hold", "no target of the Task Service has been healthy for 119 s, the limit is below 120 s; watch on"),
        (120.0, "rollback", "has been healthy for 120 s, the limit is below 120 s; look into the Task Service"),
    ],
)
def test_what_the_load_balancer_says_itself_needs_no_metric(seconds: float, verdict: str, said: str) -> None:
    """Prevents minutes of 503 while the metrics are late, and hours of them where CloudWatch cannot be read."""
    decision = judged(replace(watched(), unserved_seconds=seconds))
    assert decision.verdict == verdict
    assert said in " ".join(decision.reasons)
    blind = judged(Observed(LENGTH, weight=25, unserved_seconds=seconds))
    assert blind.verdict == ("rollback" if verdict == "rollback" else "hold")


def test_a_direction_that_stands_until_somebody_acts_rolls_back_at_the_first_look() -> None:
    """Prevents minutes of writes that arrive nowhere, and a reason that names a lag where a slot is gone."""
    halted = "fence from the source: it cannot come through: the slot task_service_sub does not exist"
    decision = judged(Observed(LENGTH, weight=25, halted=halted))
    assert decision.verdict == "rollback"
    assert decision.reasons == (f"replication stands: {halted}",)
    # The machine of a rehearsal excuses a lag, and nothing that would have stayed.
    assert not waits.explain(decision.findings)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"replication_seconds": 10.0}, "task-migration replicate status says why"),
        ({"slot_bytes": 10e9}, "task-migration replicate status says why"),
        ({"database_cpu_percent": 70.0}, "look at the target database"),
        ({"database_connections": 81.0}, "look at the target database"),
        ({"database_free_bytes": 1e9}, "look at the target database"),
        ({"balancer_errors": 21}, "HTTPCode_ELB_50x_Count"),
        ({"api": {"errors": 21}}, "see by the figures of both sides whose they are"),
        ({"task_service": None}, "aws ecs describe-services"),
        ({"task": {"errors": 2}}, "look into the Task Service"),
    ],
)
def test_a_breach_says_where_to_look_first(change: dict[str, Any], first: str) -> None:
    """Prevents a night that is spent in the Task Service's log while a slot, a database or a metric is what is wrong."""
    (reason, *_) = [one for one in judged(watched(count=15, changed=(10, 11, 12), **change)).reasons if first in one]
    assert reason.endswith(("before the next try", "says why", "targets"))


@pytest.mark.parametrize(
    ("weight", "users"),
    [
        # As many as the Task Service should have had are too few to miss them.
        (5, Traffic(399)),
        (100, Traffic(19)),
        # Refused before they came to the load balancer.
        (5, Traffic(2000, 0, 1700)),
        (0, Traffic(2000)),
        # Nobody knows whether anybody came.
        (5, None),
    ],
)
def test_a_quiet_night_without_figures_is_no_breach(weight: int, users: Traffic | None) -> None:
    """Prevents a rollback as nobody works, or as a stranger knocks without a token."""
    quiet = watched(changed=EVERY, task_service=None, monolith=None, users=users)
    decision = judged(replace(quiet, weight=weight))
    assert decision.verdict == "hold", decision.reasons


def test_answers_of_the_balancer_itself_are_seen_where_nothing_else_tells_of_them() -> None:
    """Prevents a step that goes on while a twentieth of the users get a 503 that no target gave."""
    gone = watched(
        changed=(10, 11, 12), task_service=None, healthy_hosts=None, api={"errors": 100}, balancer_errors=100
    )
    said = " ".join(judged(gone).reasons)
    for told in (
        "users' error rate is 4.975 % in 3 of",
        "load balancer's own errors is 4.975 %",
        "figures of the Task",
    ):
        assert told in said


@pytest.mark.parametrize(
    ("busy", "api", "said"),
    [
        ({"errors": 4}, {}, "error rate of the whole watch is 4 %"),
        ({"p50_ms": 250.0}, {}, "typical P50 is 250 ms"),
        ({"p95_ms": 600.0}, {}, "typical P95 is 600 ms"),
        ({"p95_ms": None}, {}, "typical P95 could not be had"),
        ({}, {"errors": 4}, "users' error rate of the whole watch is 4 %"),
        ({}, {"p95_ms": 600.0}, "users' typical P95 is 600 ms"),
        ({}, {"p95_ms": None}, "users' typical P95 could not be had"),
    ],
)
def test_a_quiet_night_with_two_bad_minutes_is_no_promotion(
    busy: dict[str, Any], api: dict[str, Any], said: str
) -> None:
    """Prevents a promotion over the watch's error rate where too few minutes had requests for a rollback."""
    quiet = Traffic(0, 0, 0, None, None)
    night = replace(PERIOD, task_service=quiet, monolith=quiet, users=quiet, balancer_errors=0)
    periods = [replace(night, at=number * LENGTH) for number in range(30)]
    for number in (3, 4):
        seen: dict[str, Any] = {"task_service": replace(GOOD, **busy), "users": replace(GOOD, **{**busy, **api})}
        periods[number] = replace(night, at=number * LENGTH, **seen)
    decision = judged(Observed(LENGTH, tuple(periods), weight=100))
    assert decision.verdict == "hold"
    assert said in " ".join(decision.reasons)


@pytest.mark.parametrize(("change", "said"), BAD)
def test_a_breach_counts_when_it_is_in_three_of_five_periods(change: dict[str, Any], said: str) -> None:
    """Prevents a rollback at one slow minute, and a promotion over a figure that is often past its limit."""
    # Far apart, so never three of five; the whole watch stays below each limit.
    assert judged(watched(changed=(0, 10, 20), **change)).verdict == "promote"
    assert judged(watched(changed=(10, 12), **change)).verdict == "promote"
    broken = judged(watched(changed=(10, 12, 14), **change))
    assert broken.verdict == "rollback"
    assert said in " ".join(broken.reasons)
    assert "the limit is" in " ".join(broken.reasons)
    # However short the watch was.
    assert judged(watched(count=3, changed=(0, 1, 2), **change)).verdict == "rollback"
    # Three, but of six.
    assert judged(watched(changed=(10, 12, 15), **change)).verdict == "promote"
    # In the newest period alone: not yet a breach, and no moment to go on.
    assert judged(watched(changed=(29,), **change)).verdict == "hold"


UNTOLD = "requests without a healthy target or figures of the Task Service"
#: Each figure at the last value that is good by docs/plan.md, Step 2, and by the defaults of the others.
BRINK = Period(
    0.0, Traffic(1000, 9, 0, 199.9, 499.9, 1999.9), None, 69.9, 79.9, 69.9, 80.0, 10.01e9, 9.99e9, 9.99, 1.0,
    Traffic(1000, 9, 0, 30.0, 499.9), 9,
)  # fmt: skip


def brink(count: int = 30, **change: Any) -> Observed:
    return Observed(LENGTH, tuple(replace(BRINK, at=number * LENGTH, **change) for number in range(count)), weight=5)


def test_a_promotion_says_each_rule_and_the_worst_that_it_saw() -> None:
    """Prevents a limit that is off by a little, and a promotion that rests on a figure of another name."""
    decision = judged(replace(brink(), told=1234))
    assert decision.verdict == "promote", decision.reasons
    told = [(one.rule, one.text) for one in decision.findings if one.state == "good"]
    assert told == [
        ("error rate", "error rate 0.9 % at worst, below 1 %"),
        ("P50", "P50 199.9 ms at worst, below 200 ms"),
        ("P95", "P95 499.9 ms at worst, below 500 ms"),
        ("users' error rate", "users' error rate 0.9 % at worst, below 1 %"),
        ("users' P95", "users' P95 499.9 ms at worst, below 500 ms"),
        ("P99", "P99 2000 ms at worst, below 2000 ms"),
        ("load balancer's own errors", "load balancer's own errors 0.9 % at worst, below 1 %"),
        (UNTOLD, f"{UNTOLD} 0 at worst, below 20"),
        ("healthy targets", "healthy targets 1 at worst, above 0"),
        ("CPU", "CPU 69.9 % at worst, below 70 %"),
        ("memory", "memory 79.9 % at worst, below 80 %"),
        ("database CPU", "database CPU 69.9 % at worst, below 70 %"),
        ("database connections", "database connections 80 at worst, at most 80"),
        ("free storage", "free storage 10.01 GB at worst, above 10 GB"),
        ("WAL held by slots", "WAL held by slots 9.99 GB at worst, below 10 GB"),
        ("replication", "replication 9.99 s at worst, below 10 s"),
        ("lost writes", "1,234 writes lost to others in all, each told in a conflict log"),
        ("deletes", "in no minute the Task Service deleted 50 % of a table or more"),
        ("requests", "30000 requests on the Task Service, at least 100"),
        ("error rate of the whole watch", "error rate of the whole watch 0.9 %, below 1 %"),
        ("typical P50", "typical P50 199.9 ms, below 200 ms"),
        ("typical P95", "typical P95 499.9 ms, below 500 ms"),
        ("users' requests", "30000 requests of users at the API, at least 100"),
        ("users' error rate of the whole watch", "users' error rate of the whole watch 0.9 %, below 1 %"),
        ("users' typical P95", "users' typical P95 499.9 ms, below 500 ms"),
        (
            "P99 of the whole watch",
            "at least 0 of 30000 requests on the Task Service took 2000 ms or more, the limit is below 1 %",
        ),
        ("length", "watched for 1800 s"),
    ]
    assert decision.reasons == tuple(text for _, text in told)
    # Nothing to be compared with.
    beside = [(one.rule, one.state) for one in decision.findings if one.state != "good"]
    assert beside == [(f"{name} beside the monolith", "not compared") for name in ("5xx", "4xx", "P50", "P95")]


def alike(count: int, ours: Traffic, theirs: Traffic) -> Observed:
    """``count`` periods with the same traffic on both sides."""
    return brink(count, task_service=ours, monolith=theirs)


def mixed(*values: tuple[int, dict[str, Any]]) -> Observed:
    """A healthy watch with these changes in these periods."""
    seen = list(watched().periods)
    for number, change in values:
        seen[number] = replace(seen[number], **change)
    return Observed(LENGTH, tuple(seen), weight=5)


FEW = {"requests": 10, "refusals": 0}
QUICK, SLOW = Traffic(100, 0, 0, 20.0, 80.0), Traffic(100, 0, 0, 20.0, 130.0)
#: One rule of a watch: what it makes of the figures on each side of where it changes its mind, and what it says.
ONE_RULE: list[tuple[str, Observed, str, str]] = [
    ("P95", mixed(*((at, {"task_service": replace(GOOD, p95_ms=ms)}) for at, ms in ((10, 501.0), (11, 700.0), (14, 600.0)))),
     "breach", "P95 is 700 ms in 3 of 5 periods, the limit is below 500 ms (3 of 5 periods); look into"),
    ("P95", watched(changed=(10, 11, 14), task={"p95_ms": 60_000.0}), "breach", "P95 is 60,000 ms in 3 of 5 periods"),
    ("free storage", mixed((0, {"database_free_bytes": 9e9}), (1, {"database_free_bytes": 8e9}), (2, {"database_free_bytes": 9.5e9})),
     "breach", "free storage is 8 GB in 3 of 3 periods, the limit is above 10 GB (3 of 5 periods)"),
    ("healthy targets", mixed((0, {"healthy_hosts": 0.0}), (4, {"healthy_hosts": 0.0})), "breach", "healthy targets is 0 in 2 of 5 periods, the limit is above 0 (2 of 5 periods)"),
    ("healthy targets", mixed((0, {"healthy_hosts": 0.0}), (5, {"healthy_hosts": 0.0})), "good", "healthy targets 0 at worst"),
    ("CPU", watched(changed=(29,), cpu_percent=70.0), "hold", "CPU is 70 % in the newest period, the limit is below 70 %; watch on"),
    ("CPU", watched(changed=tuple(range(8)), cpu_percent=None), "hold", "CPU is there for 22 of 30 periods (73 %), at least 80 % are needed, below 70 %"),
    # A watch that is not over lacks no period yet.
    ("CPU", watched(count=29, changed=EVERY[:7], cpu_percent=None), "good", "CPU 20 % at worst"),
    ("CPU", watched(count=31, changed=EVERY[:7], cpu_percent=None), "good", "CPU 20 % at worst"),
    ("CPU", watched(count=31, changed=EVERY[:8], cpu_percent=None), "hold", "CPU is there for 23 of 30 periods (77 %)"),
    ("CPU", Observed(LENGTH, weight=5), "not compared", "CPU: no period with enough requests to judge it by itself"),
    # Twenty requests are judged by themselves, nineteen are not.
    ("P50", watched(changed=EVERY[-3:], task={"requests": 20, "p50_ms": 200.0}), "breach", "P50 is 200 ms in 3"),
    ("P50", watched(changed=EVERY[-3:], task={"requests": 19, "p50_ms": 200.0}), "good", "P50 20 ms at worst"),
    # A minute without a request lacks no latency; one with a single request does.
    ("P50", watched(changed=EVERY[:7], task={"requests": 0, "refusals": 0, "p50_ms": None}), "good", "P50 20 ms at worst"),
    ("P50", watched(changed=EVERY[:7], task={"requests": 1, "refusals": 0, "p50_ms": None}), "hold", "P50 is there for 23 of 30"),
    # Refused in one minute, asked for in the one before.
    (UNTOLD, watched(changed=EVERY, task_service=None, users=Traffic(10, 0, 15)), "good", f"{UNTOLD} 0 at worst, below 20"),
    ("load balancer's own errors", watched(changed=EVERY[-3:], api={"requests": 19}, balancer_errors=19), "good", "errors 0.04975 % at worst"),
    ("P99", watched(changed=EVERY[-3:], task={"requests": 100, "p99_ms": 2000.0}), "breach", "P99 is 2000 ms in 3"),
    ("P99", watched(changed=EVERY[-3:], task={"requests": 99, "p99_ms": 2000.0}), "good", "P99 200 ms at worst"),
    ("no healthy target", replace(watched(), unserved_seconds=119.0), "hold", "has been healthy for 119 s, the limit is below 120 s; watch on"),
    ("no healthy target", replace(watched(), unserved_seconds=121.0), "breach", "has been healthy for 121 s, the limit is below 120 s; look into"),
    ("deletes", replace(watched(), deletes=(DeletedRows(table="tasks", at="2026-01-01 00:00", deleted=500, rows=1000),)), "hold", "deleted 500 of 1,000 rows of tasks (50 %)"),
    ("writes", replace(watched(), missing=1), "breach", "1 writes never arrived on the other side, the limit is none; task-migration replicate status"),
    ("way back", replace(watched(), failing=("the slot is lost",)), "hold", "the slot is lost"),
    ("lost writes", replace(watched(), told=0), "good", "0 writes lost to others in all"),
    ("requests", watched(count=1, changed=(0,), task={"requests": 99}), "hold", "99 requests on the Task Service, at least 100 are needed; watch longer"),
    ("requests", watched(count=1), "good", "100 requests on the Task Service, at least 100"),
    ("users' requests", watched(count=1, changed=(0,), task={"requests": 99}), "good", "2010 requests of users at the API"),
    ("users' requests", watched(count=1, changed=(0,), api={"requests": 99}), "hold", "99 requests of users at the API, at least 100"),
    # Too few a period to be judged by themselves: the whole watch is, at its limit and just below it.
    ("error rate of the whole watch", mixed(*((at, {"task_service": replace(GOOD, **FEW, errors=int(at in (0, 9, 18)))}) for at in EVERY)), "breach", "is 1 %, the limit is below 1 %; look into"),
    ("error rate of the whole watch", mixed(*((at, {"task_service": replace(GOOD, **FEW, errors=int(at in (0, 9)))}) for at in EVERY)), "good", "0.6667 %, below 1 %"),
    ("typical P50", watched(changed=EVERY, task={**FEW, "p50_ms": 200.0}), "breach", "typical P50 is 200 ms, the limit is below 200 ms; look into"),
    ("typical P95", watched(changed=EVERY, task={**FEW, "p95_ms": 500.0}), "breach", "typical P95 is 500 ms, the limit is below 500 ms; look into"),
    ("typical P95", watched(changed=EVERY, task={**FEW, "p95_ms": None}), "hold", "typical P95 could not be had; the limit is below 500 ms; mend the metric"),
    ("users' typical P95", watched(changed=EVERY, api={**FEW, "p95_ms": 500.0}), "breach", "users' typical P95 is 500 ms, the limit is below 500 ms; see by"),
    # Two periods with requests take nothing back, three do; those without a request are none.
    ("typical P95", mixed(*((at, {"task_service": Traffic(50, 0, 0, 20.0, 600.0) if at < 2 else Traffic(0)}) for at in EVERY)), "hold", "typical P95 is 600 ms"),
    ("typical P95", mixed(*((at, {"task_service": Traffic(50, 0, 0, 20.0, 600.0) if at in (0, 9, 18) else Traffic(0)}) for at in EVERY)), "breach", "typical P95 is 600 ms"),
    ("P99 of the whole watch", alike(3, Traffic(99, 0, 0, 20.0, 80.0, 2000.0), QUICK), "breach", "at least 3 of 297 requests on the Task Service took 2000 ms or more, the limit is below 1 %; look into"),
    ("P99 of the whole watch", alike(2, Traffic(99, 0, 0, 20.0, 80.0, 2000.0), QUICK), "good", "at least 2 of 198"),
    ("P99 of the whole watch", alike(3, Traffic(33, 0, 0, 20.0, 80.0, 2000.0), QUICK), "good", "at least 3 of 99"),
    ("P99 of the whole watch", alike(4, Traffic(25, 0, 0, 20.0, 80.0, 2000.0), QUICK), "breach", "at least 4 of 100"),
    ("P99 of the whole watch", alike(3, Traffic(101, 0, 0, 20.0, 80.0, 2000.0), QUICK), "good", "at least 3 of 303"),
    ("P99 of the whole watch", alike(3, Traffic(299, 0, 0, 20.0, 80.0, 2000.0), QUICK), "good", "at least 6 of 897"),
    ("P99 of the whole watch", alike(3, Traffic(200, 0, 0, 20.0, 80.0, 2000.0), QUICK), "breach", "at least 6 of 600"),
    # The answer of a request that the minute before counted.
    ("P99 of the whole watch", mixed(*((at, {"task_service": Traffic(0, 0, 0, None, None, 2000.0) if at < 28 else QUICK}) for at in EVERY)), "good", "at least 0 of 200"),
    # Fisher: enough of each side, surely more often, and by a margin.
    ("5xx beside the monolith", alike(1, Traffic(50, 25), Traffic(50)), "breach", "50 % of 50 against 0 % of 50 (Fisher's exact test, p = 5.2e-10, worse below 0.00033 and by 0.25 points); look into"),
    ("5xx beside the monolith", alike(1, Traffic(49, 25), Traffic(50)), "not compared", "49 and 50 requests, at least 50 of each side are needed"),
    ("5xx beside the monolith", alike(1, Traffic(50, 25), Traffic(49)), "not compared", "50 and 49 requests"),
    ("5xx beside the monolith", alike(30, Traffic(4000, 10), Traffic(4000)), "breach", "0.25 % of 120000 against 0 % of 120000"),
    ("5xx beside the monolith", alike(30, Traffic(4000, 9), Traffic(4000)), "good", "0.225 % of 120000 against 0 % of 120000"),
    ("4xx beside the monolith", alike(30, Traffic(100, 0, 3), Traffic(100, 0, 1)), "breach", "3 % of 3000 against 1 % of 3000"),
    ("4xx beside the monolith", alike(30, Traffic(1000, 0, 29), Traffic(1000, 0, 10)), "good", "2.9 % of 30000 against 1 % of 30000"),
    # One in a hundred for a whole watch is one in three thousand for each of its looks.
    ("4xx beside the monolith", alike(1, Traffic(50, 0, 11), Traffic(50)), "breach", "22 % of 50 against 0 % of 50 (Fisher's exact test, p = 0.00026, worse below 0.00033 and by 2 points)"),
    ("4xx beside the monolith", alike(1, Traffic(50, 0, 10), Traffic(50)), "good", "20 % of 50 against 0 % of 50 (Fisher's exact test, p = 0.00059"),
    # More answers than requests, where a minute's answers belong to the one before.
    ("4xx beside the monolith", alike(1, Traffic(60, 0, 70), Traffic(60, 0, 70)), "good", "117 % of 60 against 117 % of 60"),
    # Signs: (1/2)^12 is below a hundredth of a thirtieth, (1/2)^11 is not.
    ("P95 beside the monolith", alike(12, SLOW, QUICK), "breach", "1.5 times and 50 ms slower in 12 of 12 periods (sign test, p = 0.00024, worse below 0.00033); look into"),
    ("P95 beside the monolith", alike(11, SLOW, QUICK), "good", "slower in 11 of 11 periods (sign test, p = 0.00049"),
    ("P95 beside the monolith", alike(12, replace(SLOW, p95_ms=129.9), QUICK), "good", "slower in 0 of 12 periods (sign test, p = 1,"),
    ("P95 beside the monolith", alike(12, replace(SLOW, p95_ms=300.0), replace(QUICK, p95_ms=200.0)), "breach", "slower in 12 of 12"),
    ("P95 beside the monolith", alike(12, replace(SLOW, p95_ms=299.9), replace(QUICK, p95_ms=200.0)), "good", "slower in 0 of 12"),
    ("P50 beside the monolith", alike(12, replace(QUICK, p50_ms=70.0), QUICK), "breach", "slower in 12 of 12"),
    ("P95 beside the monolith", alike(10, SLOW, QUICK), "good", "slower in 10 of 10"),
    ("P95 beside the monolith", alike(9, SLOW, QUICK), "not compared", "9 periods with both, at least 10 are needed"),
    ("P95 beside the monolith", alike(12, replace(SLOW, requests=20), QUICK), "breach", "slower in 12 of 12"),
    ("P95 beside the monolith", alike(12, replace(SLOW, requests=19), QUICK), "not compared", "0 periods with both"),
    ("P95 beside the monolith", alike(12, SLOW, replace(QUICK, requests=19)), "not compared", "0 periods with both"),
    ("P95 beside the monolith", alike(12, replace(SLOW, p95_ms=None), QUICK), "not compared", "0 periods with both"),
    ("length", watched(count=29), "hold", "watched for 1740 s of settled periods, the limit is at least 1800 s; watch on"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "observed", "state", "said"), ONE_RULE)
def test_one_rule_on_each_side_of_its_limit(rule: str, observed: Observed, state: str, said: str) -> None:
    """Prevents a rule that is met by the verdict of another one, and a figure that is not what was seen."""
    decision = judged(observed)
    (found,) = [one for one in decision.findings if one.rule == rule]
    assert (found.state, said in found.text) == (state, True), found
    assert state != "good" or "; " not in found.text.partition("(")[0] + found.text.rpartition(")")[2], (
        "nothing is to be mended"
    )
    worst = next(word for word in ("breach", "hold", "good") if word in {one.state for one in decision.findings})
    assert decision.verdict == {"breach": "rollback", "hold": "hold", "good": "promote"}[worst]
    assert decision.reasons == tuple(one.text for one in decision.findings if one.state == worst)


def test_one_bad_minute_is_enough_where_the_configuration_says_so() -> None:
    """Prevents a gate that looks at no window as short as the first minute."""
    limits = GateLimits(breach_periods=1)
    decision = decide(watched(count=2, changed=(0,), cpu_percent=70.0), limits, WATCH)
    assert decision.verdict == "rollback"
    assert decision.reasons[0].startswith("CPU is 70 % in 1 of 1 periods, the limit is below 70 % (1 of 5 periods)")


@pytest.mark.parametrize("seconds", [5e-324, 30.0, 60.0, 61.0])
def test_a_watch_of_one_period_needs_that_one(seconds: float) -> None:
    """Prevents a short watch that asks for no figure at all, or for two periods."""
    assert decide(brink(1), LIMITS, seconds).verdict == ("hold" if seconds > LENGTH else "promote")
    # A second period is wanted that is not there yet.
    blind = decide(brink(1, cpu_percent=None), LIMITS, seconds)
    (cpu,) = [one for one in blind.findings if one.rule == "CPU"]
    assert (blind.verdict, cpu.state) == ("hold", "not compared" if seconds > LENGTH else "hold")


MISSING: list[tuple[dict[str, Any], str]] = [
    # Neither the Task Service's nor the users': nobody knows whether any request came.
    ({"task_service": None, "users": None}, "error rate is there for 23 of 30 periods"),
    ({"users": None}, "users' error rate is there for 23 of 30 periods"),
    ({"api": {"p95_ms": None}}, "users' P95 is there for 23 of 30"),
    ({"balancer_errors": None}, "load balancer's own errors is there for 23 of 30"),
    ({"task": {"p50_ms": None}}, "P50 is there for 23 of 30"),
    ({"task": {"p95_ms": None}}, "P95 is there for 23 of 30"),
    ({"cpu_percent": None}, "CPU is there for 23"),
    ({"memory_percent": None}, "memory is there for 23"),
    ({"database_cpu_percent": None}, "database CPU is there for 23"),
    ({"database_connections": None}, "database connections is there for 23"),
    ({"database_free_bytes": None}, "free storage is there for 23"),
    ({"slot_bytes": None}, "WAL held by slots is there for 23"),
    ({"replication_seconds": None}, "replication is there for 23"),
    ({"healthy_hosts": None}, "healthy targets is there for 23"),
]


@pytest.mark.parametrize(("change", "said"), MISSING)
def test_missing_figures_hold_and_are_neither_good_nor_bad(change: dict[str, Any], said: str) -> None:
    """Prevents a promotion on a metric that stopped, and a rollback for a late last minute."""
    assert judged(watched(changed=(29,), **change)).verdict == "promote"
    decision = judged(watched(changed=tuple(range(7)), **change))
    assert decision.verdict == "hold"
    assert said in " ".join(decision.reasons)
    assert judged(watched(changed=EVERY, **change)).verdict == "hold"
    # Four fifths are enough.
    assert judged(watched(changed=tuple(range(6)), **change)).verdict == "promote"
    assert not [
        reason for reason in judged(watched(count=2, changed=(0, 1), **change)).reasons if "look into" in reason
    ]


@pytest.mark.parametrize(
    ("observed", "verdict", "said"),
    [
        (Observed(LENGTH), "hold", "0 requests on the Task Service, at least 100"),
        (watched(), "promote", "3000 requests"),
        (watched(count=29), "hold", "watched for 1740 s of settled periods, the limit is at least 1800 s"),
        (watched(changed=EVERY, task={"requests": 3, "refusals": 0}), "hold", "90 requests"),
        (watched(changed=EVERY, api={"requests": 3, "errors": 0}), "hold", "90 requests of users at the API, at least 100"),
        # Fewer than a hundred have no hundredth: one slow answer is none too many, but one in each minute is.
        (watched(changed=(1, 5, 9, 13, 17, 21, 25), task={"requests": 99, "p99_ms": 9000.0}), "promote", "at least 7 of 2993"),
        (watched(changed=EVERY, task={"requests": 99, "p99_ms": 9000.0}), "rollback", "at least 30 of 2970 requests"),
        (watched(count=20, changed=(2, 9, 17), task={"requests": 30, "refusals": 0, "p99_ms": 2000.0}), "hold", "watched for"),
        (watched(count=5, changed=(0, 2, 4), task={"requests": 30, "refusals": 0, "p99_ms": 2000.0}), "rollback", "at least 3 of 290"),
        # Too few a period to judge one by itself; together they are enough, and 2 of 150 are too many.
        (watched(changed=EVERY, task={"requests": 5, "refusals": 0}), "promote", "150 requests"),
        (
            watched(changed=(3, 20), task={"requests": 5, "errors": 2, "refusals": 0}, monolith=None),
            "promote",
            "error rate of the whole watch",
        ),
        # Spread so that no five periods breach, and past the limit as a whole.
        (watched(changed=(0, 1, 9, 10, 18, 19), task={"errors": 6}), "rollback", "error rate of the whole watch is 1.2 %"),
        (watched(changed=(0, 1, 9, 10, 18, 19), api={"errors": 121}), "rollback", "users' error rate of the whole watch is 1.2"),
        (watched(changed=EVERY, task={"p95_ms": 499.0}, monolith=None), "promote", "typical P95 499 ms"),
        # At 100 % the monolith has nothing to be compared with.
        (watched(changed=EVERY, monolith=None), "promote", "3000 requests"),
        (watched(changed=EVERY, monolith=Traffic(0)), "promote", "3000 requests"),
    ],
)  # fmt: skip
def test_decide(observed: Observed, verdict: str, said: str) -> None:
    decision = judged(observed)
    assert decision.verdict == verdict, decision.reasons
    assert any(said in reason for reason in decision.reasons), decision.reasons


@pytest.mark.parametrize(
    ("observed", "said"),
    [
        # 0.9 % is below the plan's limit and nineteen times the monolith's.
        (
            watched(changed=EVERY, task={"requests": 1000, "errors": 9}, monolith=replace(BESIDE, errors=1)),
            "5xx beside the monolith: 0.9 % of 30000 against 0.0526 % of 57000 (Fisher's exact test",
        ),
        # One look at a service that fails everything is enough.
        (watched(count=1, changed=(0,), task={"requests": 100, "errors": 50}), "5xx beside the monolith: 50 %"),
        # Tokens that it does not take: no 5xx at all, and useless.
        (watched(count=2, changed=(0, 1), task={"refusals": 60}), "4xx beside the monolith: 60 %"),
        (
            watched(count=12, changed=tuple(range(12)), task={"p50_ms": 90.0, "p95_ms": 180.0}),
            "P95 beside the monolith: 1.5 times and 50 ms slower in 12 of 12 periods (sign test",
        ),
    ],
)
def test_clearly_worse_than_the_monolith_rolls_back_below_every_limit(observed: Observed, said: str) -> None:
    """Prevents a promotion of a service that is much worse than what it replaces."""
    decision = judged(observed)
    assert decision.verdict == "rollback"
    assert said in " ".join(decision.reasons), decision.reasons


@pytest.mark.parametrize(
    "observed",
    [
        watched(changed=EVERY, task={"errors": 0}, monolith=replace(BESIDE, errors=1900)),
        watched(changed=(0, 5), task={"requests": 100, "errors": 1}, monolith=replace(BESIDE, errors=10)),
        watched(changed=EVERY, task={"p95_ms": 120.0}),
        watched(changed=EVERY, task={"p50_ms": 69.0}, monolith=replace(BESIDE, p50_ms=20.0)),
    ],
)
def test_better_as_bad_or_a_little_slower_is_not_worse(observed: Observed) -> None:
    """Prevents rollbacks for chance, and for an overhead that nobody notices."""
    assert judged(observed).verdict == "promote", judged(observed).reasons


@pytest.mark.parametrize(
    ("events", "total", "other", "other_total", "p"),
    [
        # R: fisher.test(matrix(c(3, 1, 1, 3), 2), alternative = "greater"), the lady tasting tea: 17/70.
        (3, 4, 1, 4, 17 / 70),
        (4, 4, 0, 4, 1 / 70),
        (0, 10, 5, 10, 1.0),
    ],
)
def test_fisher_exact_gives_the_published_values(
    events: int, total: int, other: int, other_total: int, p: float
) -> None:
    assert fisher_exact(events, total, other, other_total) == pytest.approx(p)


@given(st.tuples(st.integers(0, 60), st.integers(0, 60)), st.tuples(st.integers(0, 60), st.integers(0, 60)))
def test_fisher_exact_is_the_share_of_all_ways_to_deal_the_events(
    ours: tuple[int, int], theirs: tuple[int, int]
) -> None:
    """Prevents a p-value that is off where no textbook looks: nothing failed, everything did, one side has no request."""
    (events, total), (other, other_total) = sorted(ours), sorted(theirs)
    marked = events + other
    dealt = sum(comb(total, n) * comb(other_total, marked - n) for n in range(events, min(total, marked) + 1))
    found = fisher_exact(events, total, other, other_total)
    assert found == pytest.approx(dealt / comb(total + other_total, marked), rel=1e-9)
    assert found <= 1


@pytest.mark.parametrize(("worse", "pairs", "p"), [(10, 10, 1 / 1024), (9, 10, 11 / 1024), (0, 7, 1.0), (5, 9, 0.5)])
def test_sign_test_gives_the_binomial_tail(worse: int, pairs: int, p: float) -> None:
    assert sign_test(worse, pairs) == p


def test_impossible_counts_are_refused() -> None:
    for counts in ((5, 4, 0, 1), (0, 4, 2, 1), (-1, 4, 0, 1), (0, 4, -1, 1)):
        with pytest.raises(ValueError, match="more events than requests"):
            fisher_exact(*counts)
    for worse in (3, -1):
        with pytest.raises(ValueError, match="more than there are"):
            sign_test(worse, 2)


def random_watch(seed: int) -> Observed:
    """Any watch of up to 12 periods. By a seed: drawn one by one, its hundred figures take Hypothesis a tenth of a second."""
    random = Random(seed)
    wild = random.choice((0, 0, 0, 0.3))  # most are healthy, or nothing would ever be promoted

    def maybe(value: Any) -> Any:
        return None if random.random() < 0.03 else value

    def figure(limit: float) -> Any:
        return maybe(random.uniform(0, limit * (1.5 if random.random() < wild else 0.9)))

    def traffic() -> Any:
        requests = random.choice((0, 3, 50, 400))
        errors = random.randint(0, requests // (5 if random.random() < wild else 150))
        refusals = random.randint(0, (requests - errors) // (1 if random.random() < wild else 100))
        slow = 600 if random.random() < wild else 60
        return maybe(
            Traffic(requests, errors, refusals, *(maybe(random.uniform(1, slow * times)) for times in (1, 2, 8)))
        )

    return Observed(
        LENGTH,
        tuple(
            Period(
                number * LENGTH,
                traffic(),
                traffic(),
                figure(70),
                figure(80),
                figure(70),
                figure(80),
                maybe(random.uniform(5e9 if wild else 11e9, 200e9)),
                figure(10e9),
                figure(10),
                maybe(0.0 if random.random() < wild else 2.0),
                traffic(),
                maybe(random.choice((0, 0, 0, 1, 30 if random.random() < wild else 0))),
            )
            for number in range(random.randint(0, 12))
        ),
        weight=random.choice((5, 25, 50, 100)),
    )


watches = st.integers(0, 2**32).map(random_watch)
SMALL = GateLimits(comparison_requests=5, comparison_periods=2, minimum_requests=20, minimum_period_requests=5)


def _more(name: str) -> Callable[[Traffic, float], Traffic | None]:
    def worse(traffic: Traffic, share: float) -> Traffic | None:
        value = getattr(traffic, name)
        if name in ("errors", "refusals"):
            room = traffic.requests - traffic.errors - traffic.refusals
            return replace(traffic, **{name: value + int(room * share)})
        return None if value is None else replace(traffic, **{name: value * (1 + 4 * share)})

    return worse


WORSE_TRAFFIC = {name: _more(name) for name in ("errors", "refusals", "p50_ms", "p95_ms", "p99_ms")}
#: Of users too, but for their refusals: what is refused need not reach the Task Service, so it may not be missed there.
WORSE_USERS = {f"users {name}": worse for name, worse in WORSE_TRAFFIC.items() if name != "refusals"}
WORSE_UP = (
    "cpu_percent", "memory_percent", "database_cpu_percent", "database_connections", "slot_bytes", "replication_seconds",
    "balancer_errors",
)  # fmt: skip
WORSE_DOWN = ("database_free_bytes", "healthy_hosts")


def worsened(observed: Observed, number: int, name: str, share: float) -> Observed | None:
    """The same watch with one figure of one period worse; None when it is missing."""
    period = observed.periods[number]
    if makes_worse := {**WORSE_TRAFFIC, **WORSE_USERS}.get(name):
        side = "users" if name in WORSE_USERS else "task_service"
        seen = getattr(period, side)
        traffic = makes_worse(seen, share) if seen else None
        if traffic is None:
            return None
        changed: dict[str, Any] = {side: traffic}
        period = replace(period, **changed)
    elif name == "balancer_errors":
        if period.balancer_errors is None:
            return None
        period = replace(period, balancer_errors=period.balancer_errors + int(40 * share))
    else:
        value = getattr(period, name)
        if value is None:
            return None
        factor = 1 - share if name in WORSE_DOWN else 1 + 4 * share
        period = replace(period, **{name: value * factor})
    return replace(observed, periods=(*observed.periods[:number], period, *observed.periods[number + 1 :]))


@settings(max_examples=500)
@given(
    watches,
    st.integers(0, 11),
    st.sampled_from([*WORSE_TRAFFIC, *WORSE_USERS, *WORSE_UP, *WORSE_DOWN]),
    st.floats(0, 1),
    st.sampled_from([1.0, 180.0, 480.0]),
)
def test_worse_figures_never_give_a_better_verdict(
    observed: Observed, number: int, name: str, share: float, watch: float
) -> None:
    """Prevents a rule that a service could pass by failing more."""
    assume(number < len(observed.periods))
    worse = worsened(observed, number, name, share)
    assume(worse is not None)
    assert worse is not None
    before, after = decide(observed, SMALL, watch), decide(worse, SMALL, watch)
    event(f"{before.verdict} to {after.verdict}")
    assert RANK[after.verdict] <= RANK[before.verdict]


@settings(max_examples=500)
@given(watches, st.sampled_from([1.0, 180.0, 480.0]))
def test_a_promotion_has_every_figure_and_enough_of_each(observed: Observed, watch: float) -> None:
    """Prevents a promotion on no data."""
    decision = decide(observed, SMALL, watch)
    event(decision.verdict)
    assert decision.reasons
    if decision.verdict != "promote":
        return
    assert observed.watched_seconds >= watch
    for total in (observed.total(lambda period: period.task_service), observed.total(lambda period: period.users)):
        assert total.requests >= SMALL.minimum_requests
        assert total.error_rate_percent < SMALL.error_rate_percent
    for name in (*WORSE_UP, *WORSE_DOWN, "task_service", "users"):
        seen = sum(getattr(period, name) is not None for period in observed.periods)
        assert seen >= 0.8 * (watch / LENGTH)


@settings(max_examples=300)
@given(watches, st.integers(0, 10), st.sampled_from([1.0, 180.0]))
def test_whatever_else_is_seen_two_blind_periods_roll_back(observed: Observed, number: int, watch: float) -> None:
    """Prevents a hold, or a promotion, of a step of which nothing is known but that requests come."""
    assume(number + 1 < len(observed.periods))
    blind: dict[str, Any] = {"task_service": None, "healthy_hosts": None, "users": Traffic(400, 0, 0, 20.0, 80.0)}
    periods = list(observed.periods)
    for at in (number, number + 1):
        periods[at] = replace(periods[at], **blind)
    assert decide(replace(observed, periods=tuple(periods)), SMALL, watch).verdict == "rollback"


#: Deleted rows of a table's in one minute, and whether that is unusual by the defaults: half of a table, from 100 rows on.
DELETED = [
    (0, 1000, False),
    (99, 99, False),
    (100, 200, True),
    (100, 201, False),
    (499, 1000, False),
    (500, 1000, True),
    (1000, 1000, True),
    (40_000, 1_000_000, False),
]


@pytest.mark.parametrize(("deleted", "rows", "unusual"), DELETED)
def test_an_unusual_share_of_deletes_holds(deleted: int, rows: int, unusual: bool) -> None:
    """Prevents a promotion while the Task Service empties the monolith's tables, and a hold at an ordinary clearing up."""
    seen = (DeletedRows(table="task_tag", at="2026-01-01 00:00", deleted=deleted, rows=rows),)
    decision = judged(replace(watched(), deletes=seen))
    assert decision.verdict == ("hold" if unusual else "promote")
    assert (f"deleted {deleted:,} of {rows:,} rows of task_tag" in " ".join(decision.reasons)) is unusual
    assert ("the limit is below 50 % a minute" in " ".join(decision.reasons)) is unusual


@settings(max_examples=300)
@given(
    watches,
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=4),
    st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
    st.sampled_from([1.0, 180.0]),
)
def test_more_deletes_never_give_a_better_verdict(
    observed: Observed, before: list[tuple[int, int]], more: tuple[int, int], watch: float
) -> None:
    """Prevents a service that passes by deleting more; an unusual minute alone never rolls back and never promotes."""

    def deleted(found: list[tuple[int, int]]) -> tuple[DeletedRows, ...]:
        return tuple(DeletedRows(table="t", at=str(at), deleted=n, rows=max(n, m)) for at, (n, m) in enumerate(found))

    few = replace(observed, deletes=deleted(before))
    many = replace(observed, deletes=deleted([*before, more]))
    verdicts = [decide(one, SMALL, watch).verdict for one in (observed, few, many)]
    assert [RANK[one] for one in verdicts] == sorted((RANK[one] for one in verdicts), reverse=True)
    assert (verdicts[-1] == "rollback") is (verdicts[0] == "rollback")
    if any(n >= 100 and 2 * n >= max(n, m) for n, m in [*before, more]):
        assert verdicts[-1] != "promote"


#: What no metric measured, whatever gives it out.
NO_FIGURES: list[Any] = [float("nan"), float("inf"), float("-inf"), -1.0, 10**400, "NaN", "80.0", True, None]


def without(observed: Observed, number: int, name: str, value: Any) -> Observed:
    """The same watch with ``value`` for a figure, named by its field, of a period's or of one of its sides."""
    side, _, field = name.rpartition(".")
    period = observed.periods[number]
    if side:
        traffic = getattr(period, side)
        changed: dict[str, Any] = {side: None if traffic is None else replace(traffic, **{field: value})}
    else:
        changed = {field: value}
    period = replace(period, **changed)
    return replace(observed, periods=(*observed.periods[:number], period, *observed.periods[number + 1 :]))


COUNTS = [f"{side}.{name}" for side in ("task_service", "users") for name in ("requests", "errors", "refusals")]
FIGURES = [
    *COUNTS, "task_service.p50_ms", "task_service.p95_ms", "users.p95_ms", "cpu_percent", "memory_percent", "database_cpu_percent",
    "database_connections", "database_free_bytes", "slot_bytes", "replication_seconds", "healthy_hosts", "balancer_errors",
]  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_that_is_none_throughout_never_promotes(name: str) -> None:
    """Prevents a promotion over a metric that says NaN, which is within every limit that it is compared with."""
    for value in NO_FIGURES:
        seen = watched()
        for number in EVERY:
            seen = without(seen, number, name, value)
        decision = judged(seen)
        assert decision.verdict != "promote", (value, decision.reasons)


@settings(max_examples=500)
@given(
    watches,
    st.integers(0, 11),
    st.sampled_from([*FIGURES, "monolith.errors", "monolith.p50_ms", "task_service.p99_ms"]),
    st.sampled_from(NO_FIGURES),
    st.sampled_from([1.0, 180.0, 480.0]),
)
def test_what_is_no_figure_is_judged_as_a_missing_one(
    observed: Observed, number: int, name: str, value: Any, watch: float
) -> None:
    """Prevents a better verdict for a figure that is not finite; read back from a kept decision it is missing as well, or refused."""
    assume(number < len(observed.periods))
    side, _, field = name.rpartition(".")
    gone = side if f"{side}.{field}" in (*COUNTS, "monolith.errors") else name
    missing, broken = without(observed, number, gone, None), without(observed, number, name, value)
    wanted = decide(missing, SMALL, watch)
    assert decide(broken, SMALL, watch) == wanted
    kept = json.loads(json.dumps({"evidence": asdict(observed)}))
    at = kept["evidence"]["periods"][number]
    if side and at[side] is not None:
        at[side][field] = value
    elif not side:
        at[field] = value
    with suppress(ValueError):
        read = kept_observed(json.loads(json.dumps(kept)))
        assert read is not None
        assert decide(read, SMALL, watch) == wanted


def test_a_window_shorter_than_its_breaches_is_a_wrong_configuration() -> None:
    """Prevents a gate that can never roll back."""
    for key in ("breachPeriods", "blindPeriods"):
        with pytest.raises(ConfigError, match=f"3 is below {key} \\(4\\)"):
            parse(MigrationConfig, {"gates": {"breachPeriods": 2, key: 4, "windowPeriods": 3}})
