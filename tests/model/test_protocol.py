"""The rules of replication both ways hold in every order of everything, and the search would see it if they did not."""

from __future__ import annotations

import pytest

from tests.model.dated import Dated
from tests.model.judge import Promise
from tests.model.recorded import FAULTS, Recorded
from tests.model.scenarios import EACH, SCENARIOS, TWO_COLUMNS
from tests.model.search import Limits, search


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_promise_holds_in_every_state(name: str) -> None:
    shape, choices, limits, ahead = SCENARIOS[name]
    result = search(Recorded(shape, ahead=ahead), shape, choices, limits)
    assert not result.found, "\n".join(map(str, result.found.values()))
    # Nothing is proven by a search that goes nowhere.
    assert result.quiet > 100


@pytest.mark.parametrize("name", ["a parent without a child", "a parent and a child", "a child that is set to null"])
def test_the_parent_of_what_arrives_is_all_that_has_to_be_looked_for(name: str) -> None:
    shape, choices, limits, ahead = SCENARIOS[name]
    assert not search(Recorded(shape, ahead=ahead, children=False), shape, choices, limits).found


#: For each fault what sees it: a scenario and the promise that it breaks there.
SEEN: dict[str, tuple[str, Promise]] = {
    "clock stands still on apply": ("four writes", "1 knowledge"),
    "target's clock not lifted": ("four writes", "4 equal"),
    "source wins": ("four writes", "4 equal"),
    "whole row wins": ("four writes", "2 columns"),
    "group not carried whole": ("a group of columns", "3 unsaid"),
    "edit resurrects": ("four writes", "4 equal"),
    "insert forgets own later edits": ("four writes, the target's clock ahead", "4 equal"),
    "told on both sides": ("four writes", "3 told once"),
    "not told": ("four writes", "3 unsaid"),
    "looks before it locks": ("transactions that stay open or roll back", "4 equal"),
    "absent row not locked": ("open, the target's clock ahead", "4 equal"),
    "absent row locked while records are there": ("open and pruned, the target's clock ahead", "4 equal"),
    "repeat applied again": ("kills that repeat", "3 told once"),
    "pruned without a mark": ("kills that repeat, and prunes", "3 told once"),
    "pruned unarrived": ("prunes", "4 equal"),
    "pruned under an open transaction": ("open and pruned, the target's clock ahead", "4 equal"),
    "parent not looked for": ("a parent and a child", "sound"),
    "rules' writes stay here": ("a parent without a child", "4 equal"),
    "newer claim loses": ("a claim that comes back", "3 one wins"),
    "claim not looked for": ("two new rows claim", "sound"),
    "proof by equal rows": ("four writes", "5 proof"),
}


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
