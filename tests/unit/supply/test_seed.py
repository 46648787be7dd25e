"""One seed plays a run again: its order, and what Hypothesis draws."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import core, given
from hypothesis import strategies as st


def test_what_is_drawn_follows_the_seed_of_the_order(pytestconfig: pytest.Config) -> None:
    """Prevents a failure of CI that its seed does not bring back; fails too when a worker of xdist is not told the seed."""
    seed = pytestconfig.getoption("--hypothesis-seed") or pytestconfig.getoption("randomly_seed", None)
    assert str(core.global_force_seed) == str(seed)


def test_a_failed_property_says_how_it_is_played_again_and_none_fails_by_the_clock() -> None:
    """Prevents a failure that nobody can repeat, and one that only a busy machine has."""

    @given(st.integers())
    def fails(number: int) -> None:
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted") as failure:
        fails()
    assert any("@reproduce_failure" in note for note in failure.value.__notes__)
    assert hypothesis.settings().deadline is None
