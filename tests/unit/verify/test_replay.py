"""A row with the records on top that it lacks: of each column the highest number decides."""

from __future__ import annotations

import pytest

from scripts.verify.replay import Records, Row, replayed

ROW: Row = {"a": "1", "b": "1"}


@pytest.mark.parametrize(
    ("row", "own", "missing", "there"),
    [
        (ROW, [], [], ROW),
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
