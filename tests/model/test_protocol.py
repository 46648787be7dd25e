"""The rules of replication both ways hold in every order of everything, and the search would see it if they did not."""

from __future__ import annotations

import pytest

from tests.model.dated import Dated
from tests.model.judge import Promise
from tests.model.recorded import FAULTS, Recorded
from tests.model.scenarios import EACH, SCENARIOS, SEEN, TWO_COLUMNS
from tests.model.search import Limits, search


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_promise_holds_in_every_state(name: str) -> None:
    shape, choices, limits, ahead = SCENARIOS[name]
    result = search(Recorded(shape, ahead=ahead), shape, choices, limits)
    assert not result.found, "\n".join(map(str, result.found.values()))
    # Nothing is proven by a search that goes nowhere.
    assert result.quiet > 100


def test_each_fault_has_its_scenario() -> None:
    assert set(SEEN) == set(FAULTS)


@pytest.mark.parametrize("fault", SEEN)
def test_the_search_sees_rules_that_are_broken(fault: str) -> None:
    """Each detail of the rules is there for a history in which its absence breaks a promise."""
    name, promise = SEEN[fault]
    shape, choices, limits, ahead = SCENARIOS[name]
    assert promise in search(Recorded(shape, fault, ahead), shape, choices, limits, promise).found


@pytest.mark.parametrize("promise", ["1 knowledge", "2 columns", "3 unsaid", "4 equal"])
def test_the_search_sees_what_deciding_by_updated_at_lost(promise: Promise) -> None:
    """The rules that were replaced: an edit that knew the row's version lost to it within the same second, and so on."""
    limits = Limits(3, seconds=1)
    found = search(Dated(TWO_COLUMNS), TWO_COLUMNS, EACH, limits, promise).found
    assert promise in found
    if promise == "1 knowledge":
        assert found[promise].steps == (
            "source update 0 a=10",
            "target applies 1",
            "target update 0 a=11",
            "source applies 1",
        )
