"""A row with the records on top that it lacks: of each column the highest number decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.verify.replay import Records, Row, replayed

ROW: Row = {"a": "1", "b": "1"}


@pytest.mark.parametrize(
    ("row", "own", "missing", "there"),
    [
        (ROW, [], [], ROW),
        # What the side wrote itself stands in its row, whatever is written over it: without what it lacks nothing is played.
        (ROW, [(3, "update", {"a": "3"})], [], ROW),
        (ROW, [], [(2, "update", {"a": "2"})], {"a": "2", "b": "1"}),
        (ROW, [], [(2, "update", {"a": "2"}), (4, "update", {"a": "4"})], {"a": "4", "b": "1"}),
        # What the side itself wrote later stays; what it wrote earlier does not count once more.
        (
            {"a": "3", "b": "1"},
            [(3, "update", {"a": "3"})],
            [(2, "update", {"a": "2", "b": "2"})],
            {"a": "3", "b": "2"},
        ),
        ({"a": "1", "b": "5"}, [(1, "update", {"a": "1"})], [(2, "update", {"a": "2"})], {"a": "2", "b": "5"}),
        (ROW, [], [(2, "delete", None)], None),
        (ROW, [], [(2, "delete", None), (4, "insert", {"a": "7", "b": None})], {"a": "7", "b": None}),
        # An edit of a row that is gone brings nothing back.
        (None, [(1, "delete", None)], [(2, "update", {"a": "2"})], None),
        (None, [(3, "delete", None)], [(2, "insert", ROW)], None),
    ],
)
def test_records_on_top_of_a_row(row: Row | None, own: Records, missing: Records, there: Row | None) -> None:
    assert replayed(row, own, missing) == there


@st.composite
def histories(draw: st.DrawFn) -> tuple[Records, set[int]]:
    """A row's records in the order of their numbers, and which of them the side lacks."""
    kinds = draw(st.lists(st.sampled_from(["insert", "update", "delete"]), max_size=7))
    columns = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xyz"), min_size=1)
    records: Records = []
    for place, kind in enumerate(kinds):
        values: Row | None = {"a": draw(st.sampled_from("xyz")), "b": None} if kind == "insert" else None
        records.append((2 * place + 1, kind, dict(draw(columns)) if kind == "update" else values))
    return records, draw(st.sets(st.sampled_from(range(len(kinds))))) if kinds else set()


@given(histories())
def test_what_is_missing_is_played_as_if_it_had_come_in_its_place(history: tuple[Records, set[int]]) -> None:
    """The other side's row, by playing every record there is, which is what the side with all of them did."""

    def played(records: Records) -> Row | None:
        row: Row | None = {"a": "0", "b": "0"}
        for _, kind, values in records:
            edited = {**row, **(values or {})} if row is not None else None
            row = edited if kind == "update" else values
        return row

    records, lacking = history
    own = [one for place, one in enumerate(records) if place not in lacking]
    missing = [one for place, one in enumerate(records) if place in lacking]
    assert replayed(played(own), own, missing) == played(records)
