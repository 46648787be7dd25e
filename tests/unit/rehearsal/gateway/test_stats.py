"""The gateway's figures: percentiles, windows, the measured share."""

from __future__ import annotations

import pytest

from scripts.rehearsal.emulated.metric_math import percentile
from scripts.rehearsal.gateway.stats import Sample, Stats


@pytest.mark.parametrize(("share", "expected"), [(50, 50.0), (95, 95.0), (100, 100.0), (1, 1.0)])
def test_percentiles_are_by_nearest_rank(share: float, expected: float) -> None:
    """Prevents a gate that compares something else than the P95 with its limit."""
    assert percentile([float(value) for value in range(1, 101)], share) == expected


def test_no_request_has_no_percentile() -> None:
    """Prevents a gate that takes silence for speed."""
    assert percentile([], 95) is None


def test_the_window_counts_per_target_group_from_the_moment_on() -> None:
    """Prevents a step that is judged by the requests of the one before, or by the other side's."""
    stats = Stats()
    for at, group, status, ms in (
        (1.0, "a", 500, 9.0),
        (2.0, "a", 200, 10.0),
        (2.5, "a", 404, 20.0),
        (3.0, "b", 503, 30.0),
    ):
        stats.begin(group, "live", at)
        stats.record(Sample(at, group, "live", status, ms + 1.0, target_ms=ms))
        stats.end(group)
    stats.record(Sample(3.5, None, None, 401, 1.0, "api"))
    stats.record(Sample(3.6, "b", "smoke", 200, 5.0))
    stats.begin("b", "smoke", 3.6)
    seen = stats.window(2.0, ["a", "b", "c"], "live")
    groups = seen["target_groups"]
    assert (groups["a"]["requests"], groups["a"]["4xx"], groups["a"]["5xx"]) == (2, 1, 0)
    assert (groups["a"]["p50_ms"], groups["a"]["p95_ms"]) == (10.0, 20.0)
    assert (groups["b"]["requests"], groups["b"]["5xx"], groups["b"]["in_flight"]) == (2, 1, 1)
    assert (groups["b"]["last_request_at"], groups["b"]["last_live_request_at"]) == (3.6, 3.0)
    assert (groups["c"]["requests"], groups["c"]["p95_ms"]) == (0, None)
    assert (seen["api"]["requests"], seen["api"]["4xx"], seen["api"]["p50_ms"]) == (5, 2, 11.0)
    assert seen["share"] == {"a": pytest.approx(2 / 3, abs=1e-4), "b": pytest.approx(1 / 3, abs=1e-4), "c": 0.0}
    # Who came back with a cookie is in the share of the requests, and not in that of new users.
    stats.record(Sample(3.7, "a", "live", 200, 5.0, bound=True))
    seen = stats.window(2.0, ["a", "b", "c"], "live")
    assert (seen["share"]["a"], seen["share_of_new"]["a"]) == (0.75, pytest.approx(2 / 3, abs=1e-4))


def test_periods_hold_the_samples_of_their_own_time_and_group() -> None:
    """Prevents a check of the gate's figures by another period's answers, or the monolith's, or the balancer's own."""
    stats = Stats()
    for at, group, status, ms in (
        (9.9, "task", 500, 5.0),
        (10.0, "task", 200, 5.0),
        (11.9, "task", 503, 7.0),
        (11.8, "monolith", 404, 5.0),
        (12.0, "task", 200, 5.0),
        (14.5, "task", 500, 5.0),
    ):
        stats.record(Sample(at, group, "live", status, ms + 1.0, target_ms=ms))
    stats.record(Sample(11.0, None, None, 401, 1.0, "api"))
    stats.record(Sample(11.1, "task", "live", 503, 9.0, "balancer", 503))
    stats.record(Sample(11.2, "monolith", "live", 200, 9.0, target_ms=8.0, through_api=False))
    first, second = stats.periods([10.0, 12.0], 2.0, ["task", "monolith"])
    assert first["at"] == 10.0
    task, monolith = (first["target_groups"][group] for group in ("task", "monolith"))
    assert (task["requests"], task["5xx"], task["p50_ms"], task["p95_ms"]) == (2, 1, 5.0, 7.0)
    assert (monolith["requests"], monolith["4xx"], monolith["p95_ms"]) == (2, 1, 8.0)
    assert (first["api"]["requests"], first["api"]["4xx"], first["api"]["p95_ms"]) == (5, 2, 9.0)
    assert (second["target_groups"]["task"]["requests"], second["target_groups"]["monolith"]["requests"]) == (1, 0)
    assert stats.periods([], 2.0, ["task"]) == []
