"""What a watch saw: which periods are whole, what a fence says of them, sums and typical values, and the line that tells of the newest."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from scripts.canary.figures import Observed, Period, Traffic, complete, typical, weighted_median, with_replication
from scripts.canary.figures import observed as kept_observed
from tests.unit.canary.test_gates import GOOD, LENGTH, NO_FIGURES, PERIOD, watched


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        # At its begin a fence belongs to the minute, at its end to the next one.
        ([(119.9, 0.1), (120.0, 0.4)], {60.0: 0.1, 120.0: 0.4, 180.0: 0.4}),
        ([(60.0, 0.1), (61.0, 0.3), (62.0, 0.2)], {60.0: 0.3, 120.0: 0.3}),
        # A minute between two looks takes those of the minutes beside it, and of no others.
        ([(240.0, 0.3), (420.0, 0.5)], {180.0: 0.3, 300.0: 0.3, 360.0: 0.5}),
        ([], {}),
        *(([(61.0, value), (62.0, 0.4), (63.0, value)], {60.0: 0.4, 120.0: 0.4}) for value in NO_FIGURES),
    ],
)
def test_replication_is_the_worst_fence_of_the_period_or_beside_it(
    samples: list[tuple[float, float]], expected: dict[float, float]
) -> None:
    """Prevents a lag that is one minute's and counts in three, and a NaN among the fences that takes the worst one's place."""
    bare = Observed(LENGTH, tuple(Period(at) for at in (60.0, 120.0, 180.0, 300.0, 360.0)))
    found = with_replication(bare, samples)
    assert {one.at: one.replication_seconds for one in found.periods if one.replication_seconds is not None} == expected
    # What DMS itself measured counts beside.
    for measured in (0.05, 9.0):
        known = replace(bare, periods=tuple(replace(one, replication_seconds=measured) for one in bare.periods))
        worst = [one.replication_seconds for one in with_replication(known, samples).periods]
        assert worst == [max(measured, expected.get(one.at, 0.0)) for one in bare.periods]


def test_only_whole_settled_periods_count() -> None:
    """Prevents a judgement of a minute that CloudWatch has not got all figures of."""
    assert complete(130.0, 430.0, 60.0, 120.0) == [180.0, 240.0]
    assert complete(120.0, 420.0, 60.0, 120.0) == [120.0, 180.0, 240.0]
    assert complete(120.0, 419.9, 60.0, 120.0) == [120.0, 180.0]
    assert complete(130.0, 200.0, 60.0, 120.0) == []


def test_sums_and_typical_values_are_of_the_periods_that_have_them() -> None:
    """Prevents a quiet minute's latency that counts as much as a busy one's, and refusals that are told as errors."""
    periods = (
        Period(0.0, Traffic(10, 1, 2, 100.0, 900.0), Traffic(5, 5, 0)),
        Period(60.0, Traffic(90, 3, 4, 20.0, None), users=Traffic(7, 0, 7, 1.0, 2.0)),
        Period(120.0, None, Traffic(1, 0, 1, 30.0, 40.0)),
    )
    seen = Observed(LENGTH, periods)
    assert seen.watched_seconds == 180
    assert seen.total(lambda one: one.task_service) == Traffic(100, 4, 6)
    assert seen.sides() == [
        ("Task Service", Traffic(100, 4, 6, 20.0, 900.0)),
        ("monolith", Traffic(6, 5, 1, 30.0, 40.0)),
        ("users (API)", Traffic(7, 0, 7, 1.0, 2.0)),
    ]
    assert typical([None]) == Traffic(0)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 5))))
def test_weighted_median_is_the_middle_of_the_repeated_values(pairs: list[tuple[float, int]]) -> None:
    flat = sorted(value for value, weight in pairs for _ in range(weight))
    assert weighted_median(pairs) == (flat[(len(flat) - 1) // 2] if flat else None)


@pytest.mark.parametrize(
    ("periods", "line"),
    [
        ((), "no complete period yet"),
        ((Period(0.0),), "no figure yet"),
        ((Period(0.0), PERIOD), "100 requests, 0 % errors, P95 80 ms, users 0.05 % errors, CPU 20 %"),
        ((PERIOD, PERIOD, Period(0.0, Traffic(1, 1))), "1 request, 100 % errors"),
        ((Period(0.0, Traffic(81, 1), users=Traffic(81, 1)),), "81 requests, 1.2 % errors, users 1.2 % errors"),
        ((PERIOD, Period(0.0, Traffic(0), users=Traffic(0))), "0 requests, 0 % errors, users 0 % errors"),
        ((Period(0.0, cpu_percent=20.4),), "CPU 20 %"),
    ],
)
def test_the_newest_period_is_told_in_a_line(periods: tuple[Period, ...], line: str) -> None:
    """Prevents half an hour in which an operator sees nothing but a clock."""
    assert Observed(LENGTH, periods).newest() == line


def test_what_is_no_figure_is_missing_and_nothing_else_is() -> None:
    """Prevents NaN that is within every limit; a period keeps its begin, whatever clock gave it."""
    for value in NO_FIGURES:
        assert Period(-60.0, cpu_percent=value, task_service=replace(GOOD, errors=value)) == Period(-60.0)
        assert replace(GOOD, p50_ms=value, p95_ms=value, p99_ms=value) == Traffic(100, 0, 1)
    assert Period(-60.0).at == -60.0


def test_evidence_is_read_back_as_it_was_kept() -> None:
    """Prevents an explanation of other figures than those that decided."""
    observed = watched(changed=(3,), task_service=None, cpu_percent=None)
    kept = json.loads(TypeAdapter(Observed).dump_json(observed))
    # A former version kept its length as well.
    assert kept_observed({"evidence": {**kept, "watched_seconds": 60.0}}) == observed
    assert kept_observed({"evidence": None}) is None
    for seconds in (0, -60.0, "NaN"):
        with pytest.raises(ValueError, match="periods of"):
            kept_observed({"evidence": {**kept, "period_seconds": seconds}})
