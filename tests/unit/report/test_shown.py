"""Moments and figures as a report shows them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.report.shown import clean, clock, elapsed, figure, short
from scripts.report.tables import figures


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0:00.0"), (33.97, "0:33.9"), (126.2, "2:06.2"), (3_600, "1:00:00.0"), (90_061.5, "1 d 1:01:01.5"), (-1.25, "-0:01.2"), (0.3, "0:00.3")],
)  # fmt: skip
def test_a_moment_since_the_begin(seconds: float, words: str) -> None:
    assert elapsed(seconds) == words


def test_the_clock_is_utc() -> None:
    assert clock(1_795_724_130.99, "%Y-%m-%d %H:%M:%S") == "2026-11-26 20:15:30"


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0"), (10_557, "10,557"), (4.815, "4.815"), (100.0, "100"), (5.47, "5.47"), (0.00012, "0.00012"), (1e6, "1,000,000"), (None, "–")],
)  # fmt: skip
def test_a_figure(value: float | None, words: str) -> None:
    assert figure(value) == words


@given(st.lists(st.one_of(st.integers(-(10**12), 10**12), st.floats(-1e9, 1e9))))
def test_what_a_column_shows_is_the_value_to_half_of_a_thousandth(values: list[float]) -> None:
    for value, cell in zip(values, figures(values), strict=True):
        shown = Decimal(cell.lines[0].replace(",", ""))
        assert abs(shown - Decimal(str(value))) <= Decimal("0.0005" if abs(value) >= 0.001 else "0.0000005")


def test_an_axis_is_short() -> None:
    assert [short(value) for value in (0.001, 25, 9_999, 25_000, 1_500_000, 2e9)] == [
        "0.001",
        "25",
        "9,999",
        "25 k",
        "1.5 M",
        "2 G",
    ]


def test_what_no_document_may_hold_is_replaced() -> None:
    assert clean("a\x00b\ud800c\n\td\x9f") == "a�b�c\n\td�"
    assert clean(5) == 5
