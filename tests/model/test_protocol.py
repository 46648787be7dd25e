"""The rules of replication both ways hold in every order of everything, and the search would see it if they did not."""

from __future__ import annotations

import pytest

from scripts.verify import replay
from tests.model.dated import Dated
from tests.model.judge import Promise
from tests.model.recorded import FAULTS, Record, Recorded
from tests.model.scenarios import EACH, SCENARIOS, SEEN, TWO_COLUMNS
from tests.model.search import Limits, State, search
from tests.model.world import SIDES, Row, Shape


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_promise_holds_in_every_state(name: str) -> None:
    shape, choices, limits, ahead = SCENARIOS[name]
    result = search(Recorded(shape, ahead=ahead), shape, choices, limits)
    assert not result.found, "\n".join(map(str, result.found.values()))
    # Nothing is proven by a search that goes nowhere.
    assert result.quiet > 100


def _texts(shape: Shape, row: Row) -> replay.Row | None:
    return None if row is None else {name: str(cell.value) for name, cell in zip(shape.columns, row, strict=True)}


def _records(records: tuple[Record, ...], key: int) -> replay.Records:
    return [
        (one.v, one.kind, None if one.kind == "delete" else {name: str(value) for name, value in one.values})
        for one in sorted(records)
        if one.key == key
    ]


@pytest.mark.parametrize(
    "name",
    [
        "four writes, the target's clock ahead",
        "prunes",
        "open and pruned, the target's clock ahead",
        "claims with a child",
    ],
)
def test_what_a_proof_says_of_rows_that_are_never_alike_at_one_look_is_so(name: str) -> None:
    """Where all of a side's records have arrived, its row with the other's on top is the other's row: in each state there is."""
    shape, choices, limits, ahead = SCENARIOS[name]
    unlike = 0

    def look(state: State) -> None:
        nonlocal unlike
        for left in SIDES:
            here, there = state.dbs[left], state.dbs[1 - left]
            if any(one.v > there.known and one not in there.peer for one in here.own):
                continue
            missing = tuple(one for one in there.own if one.v > here.known and one not in here.peer)
            for key, row in enumerate(here.rows):
                stands = _texts(shape, there.rows[key])
                assert replay.replayed(_texts(shape, row), _records(here.own, key), _records(missing, key)) == stands
                unlike += _texts(shape, row) != stands

    assert not search(Recorded(shape, ahead=ahead), shape, choices, limits, each=look).found
    assert unlike > 100


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
