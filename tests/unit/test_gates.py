"""The gate never promotes on a breach, on no data or before the watch is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import GateLimits
from scripts.gates import Decision, Observed, Readiness, Traffic, check_step, decide, next_weight, ready

LIMITS = GateLimits()
WATCH = 1800.0
LADDER = (5, 25, 50, 100)


def observed(**change: object) -> Observed:
    facts: dict[str, object] = {"requests": 1000, "errors": 0, "p50_ms": 20.0, "p95_ms": 80.0}
    traffic = {key: change.pop(key, value) for key, value in facts.items()}
    whole: dict[str, object] = {
        "watched_seconds": WATCH,
        "task_service": Traffic(**traffic),  # type: ignore[arg-type]
        "cpu_percent": 20.0,
        "memory_percent": 30.0,
        **change,
    }
    return Observed(**whole)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "verdict", "said"),
    [
        ({}, "promote", "error rate 0 %, below 1 %"),
        ({"errors": 10}, "rollback", "error rate is 1 %, the limit is below 1 %"),
        ({"errors": 9}, "promote", "error rate 0.9 %"),
        ({"p50_ms": 200.0}, "rollback", "P50 is 200 ms"),
        ({"p95_ms": 500.0}, "rollback", "P95 is 500 ms"),
        ({"p95_ms": 499.9}, "promote", "P95 499.9 ms"),
        ({"cpu_percent": 70.0}, "rollback", "CPU is 70 %"),
        ({"memory_percent": 80.0}, "rollback", "memory is 80 %"),
        ({"errors": 500, "watched_seconds": 1.0}, "rollback", "error rate is 50 %"),
        ({"requests": 99}, "hold", "99 requests on the Task Service, at least 100"),
        ({"requests": 1, "errors": 1}, "hold", "1 requests"),
        ({"task_service": None}, "hold", "no figure for requests"),
        ({"cpu_percent": None}, "hold", "CPU could not be read"),
        ({"memory_percent": None}, "hold", "memory could not be read"),
        ({"p95_ms": None}, "hold", "P95 could not be read"),
        ({"watched_seconds": 1799.0}, "hold", "watched for 1799 s, the limit is at least 1800 s"),
    ],
)
def test_decide(change: dict[str, object], verdict: str, said: str) -> None:
    decision = decide(observed(**change), LIMITS, WATCH)
    assert decision.verdict == verdict
    assert any(said in reason for reason in decision.reasons), decision.reasons


figures = st.one_of(st.none(), st.floats(0, 2000))


@given(
    watched=st.floats(0, 4000),
    traffic=st.one_of(st.none(), st.builds(Traffic, st.integers(0, 5000), st.integers(0, 5000), figures, figures)),
    cpu=figures,
    memory=figures,
)
def test_a_promotion_has_every_figure_under_its_limit(
    watched: float, traffic: Traffic | None, cpu: float | None, memory: float | None
) -> None:
    decision = decide(Observed(watched, traffic, cpu, memory), LIMITS, WATCH)
    assert decision.reasons
    if decision.verdict == "promote":
        assert traffic is not None
        assert watched >= WATCH
        assert traffic.requests >= LIMITS.minimum_requests
        assert traffic.error_rate_percent < LIMITS.error_rate_percent
        assert traffic.p50_ms is not None
        assert traffic.p50_ms < LIMITS.p50_ms
        assert traffic.p95_ms is not None
        assert traffic.p95_ms < LIMITS.p95_ms
        assert cpu is not None
        assert cpu < LIMITS.cpu_percent
        assert memory is not None
        assert memory < LIMITS.memory_percent
    if decision.verdict == "rollback":
        assert any("the limit is below" in reason for reason in decision.reasons)


@pytest.mark.parametrize(
    ("readiness", "verdict", "said"),
    [
        (Readiness(True, True, 0.1, 0.2), "promote", ""),
        (Readiness(True, False, 0.1, None), "refused", "the reverse direction of replication does not run"),
        (Readiness(False, True, None, 0.1), "refused", "the forward direction of replication does not run"),
        (Readiness(True, True, 0.1, None), "refused", "the reverse fence did not return"),
        (Readiness(True, True, 10.0, 0.1), "refused", "the forward fence took 10.00 s, the limit is below 10 s"),
    ],
)
def test_ready(readiness: Readiness, verdict: str, said: str) -> None:
    decision = ready(readiness, LIMITS)
    assert decision.verdict == verdict
    assert any(said in reason for reason in decision.reasons)


@pytest.mark.parametrize(
    ("current", "wanted", "forced", "verdict"),
    [
        (0, 5, False, "promote"),
        (5, 25, False, "promote"),
        (50, 100, False, "promote"),
        (0, 25, False, "refused"),
        (0, 25, True, "promote"),
        (25, 5, True, "refused"),
        (5, 5, True, "refused"),
        (7, 25, False, "promote"),
    ],
)
def test_only_the_ladders_next_weight_without_force(current: int, wanted: int, forced: bool, verdict: str) -> None:
    decision: Decision = check_step(current, wanted, LADDER, forced=forced)
    assert decision.verdict == verdict
    assert (decision.verdict == "promote") or decision.reasons


@given(st.integers(0, 100))
def test_next_weight_rises_until_the_end(current: int) -> None:
    following = next_weight(current, LADDER)
    assert (following is None) == (current >= 100)
    assert following is None or (following > current and following in LADDER)
