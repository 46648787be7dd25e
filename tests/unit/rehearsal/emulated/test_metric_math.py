"""Metric math as the tables of Amazon CloudWatch's page 'Using metric math' have it."""

from __future__ import annotations

import pytest

from scripts.rehearsal.emulated.metric_math import Series, calculate

PERIODS = (0.0, 60.0, 120.0, 180.0, 240.0)


def series(*values: float | None) -> Series:
    """One value a period; None is a gap."""
    return {at: float(value) for at, value in zip(PERIODS, values, strict=False) if value is not None}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("one < two", (0, 0, 1, 0)),
        ("one >= 30", (1, 0, 0, 0)),
        ("one + two", (50, 20, 20, 0)),
        ("5 * two", (100, None, 100, None)),
        ("one / two", (1.5, None, 0, None)),
        ("FILL(two, 7)", (20, 7, 20, 7, 7)),
        ("FILL(two, 7) - 1", (19, 6, 19, 6, 6)),
        ("IF(one > 0, 100 * two / one, 0)", (200 / 3, 0, 0, 0)),
    ],
)
def test_arithmetic_takes_a_gap_for_nought_and_drops_a_division_by_it(
    expression: str, expected: tuple[float | None, ...]
) -> None:
    """Prevents an alarm that is judged here by other rules than on AWS."""
    given = {"one": series(30, 20, 0, 0), "two": series(20, None, 20, None)}
    assert calculate(expression, given, PERIODS) == pytest.approx(series(*expected))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("IF(metric1, metric2, metric3)", (30, 0, 20, None, None)),
        ("IF(metric1, 5, metric3)", (5, 5, 20, None, None)),
        ("IF(metric1, metric2, 5)", (30, 0, 5, 5, None)),
        ("IF(metric1, 5)", (5, 5, None, None, None)),
        ("IF(1, metric2)", (30, None, 0, 0, 30)),
        ("IF(metric1 < 1, metric3, 7)", (7, 7, 20, 0, None)),
        ("IF(0, metric2, metric3)", (0, 0, 20, None, 20)),
    ],
)
def test_if_is_asked_period_by_period(expression: str, expected: tuple[float | None, ...]) -> None:
    """Prevents a condition that is missing and counts as false: its period has no value at all."""
    given = {
        "metric1": series(1, 1, 0, 0, None),
        "metric2": series(30, None, 0, 0, 30),
        "metric3": series(0, 0, 20, None, 20),
    }
    assert calculate(expression, given, PERIODS) == series(*expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_a_gap(value: float) -> None:
    """Prevents an alarm that is quiet as NaN is below no limit, and a sum that is gone as one part of it is none."""
    given = {"one": {0.0: value, 60.0: 30.0}, "two": series(20, 20)}
    assert calculate("one < 40", given, PERIODS) == series(None, 1)
    assert calculate("one + two", given, PERIODS) == series(20, 50)
    assert calculate("two * 1e308", given, PERIODS) == {}
    assert calculate("IF(two > 1e999, 1, 0)", given, PERIODS) == series(0, 0)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("other + 1", "'other' is not known"),
        ("STDDEV([one])", "is not known; teach it"),
        ("one +", "is no expression"),
        ("IF(one > 0 > 1, 1)", "is not known"),
        ("__import__('os')", "is not known"),
    ],
)
def test_what_is_not_known_is_said(expression: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        calculate(expression, {"one": series(1)}, PERIODS)
