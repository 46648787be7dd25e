"""Which rows of a repair go together, and which stay when one is not sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scripts.verify.bindings import Row, grouped, needing

ROWS: list[Row] = [("t", (str(number),)) for number in range(8)]
NEEDS = st.dictionaries(st.sampled_from(ROWS), st.sets(st.sampled_from(ROWS), max_size=3))


@given(NEEDS, st.sets(st.sampled_from(ROWS)))
def test_rows_that_need_each_other_are_together_and_no_others(needs: dict[Row, set[Row]], rows: set[Row]) -> None:
    """Prevents a child that is sent before its parent, and one transaction that locks every row."""
    groups = grouped(sorted(rows), needs)
    assert sorted(row for group in groups for row in group) == sorted(rows)
    # Whoever can be reached, in whichever direction.
    for row in rows:
        reached, waiting = {row}, [row]
        while waiting:
            one = waiting.pop()
            near = needs.get(one, set()) | {other for other, needed in needs.items() if one in needed}
            waiting += near - reached
            reached |= near
        assert set(next(group for group in groups if row in group)) == reached & rows


@given(NEEDS, st.sets(st.sampled_from(ROWS)))
def test_nothing_is_sent_that_needs_what_is_not(needs: dict[Row, set[Row]], refused: set[Row]) -> None:
    """Prevents a child that arrives without its parent, and is taken away on both sides."""
    found = needing(refused, needs)
    assert refused <= found
    sent = set(ROWS) - found
    assert not any(needs.get(row, set()) & found for row in sent)
    # No more than that: each refused one has a reason.
    assert all(needs.get(row, set()) & found for row in found - refused)
