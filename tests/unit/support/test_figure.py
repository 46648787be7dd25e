"""Numbers as people read them."""

from __future__ import annotations

import pytest

from scripts.support.figure import short


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 2, "0"),
        (0.04975, 2, "0.05"),
        (0.0001, 2, "0.0001"),
        (99.4, 2, "99"),
        (99.6, 2, "100"),
        (100.0, 2, "100"),
        (1.2345, 4, "1.234"),
        (9999.4, 4, "9999"),
        (9999.6, 4, "10,000"),
        (60_000.0, 4, "60,000"),
        (81, 4, "81"),
    ],
)
def test_a_short_number_has_no_power_of_ten(value: float, digits: int, text: str) -> None:
    """Prevents '1e+02 % errors' and 'P95 is 6e+04 ms', at the moment when everything fails."""
    assert short(value, digits) == text
