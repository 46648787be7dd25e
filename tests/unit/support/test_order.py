"""What others need comes before them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scripts.support.order import in_order

NAMES = st.integers(0, 6)


def test_else_as_given_and_a_circle_begins_at_its_first() -> None:
    """Prevents an order that differs from run to run, or that never ends."""
    assert in_order({"c": [], "a": ["b", "a", "elsewhere"], "b": []}) == ["c", "b", "a"]
    assert in_order({"a": ["b"], "b": ["a"], "c": ["a"]}) == ["a", "b", "c"]


@given(st.dictionaries(NAMES, st.sets(NAMES)))
def test_all_are_there_and_what_is_needed_comes_first(needs: dict[int, set[int]]) -> None:
    """Prevents a type, a table or a row that is made before what it is made of."""
    found = in_order(needs)
    assert sorted(found) == sorted(needs)
    upward = {one: {other for other in others if other < one} for one, others in needs.items()}
    found = in_order(upward)
    assert all(found.index(other) < found.index(one) for one in upward for other in upward[one] & needs.keys())
