"""Columns that are decided together: groups that touch are one, whatever order they are given in; and names as SQL has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.writes.relations import literals, names, together

COLUMNS = ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        ([], ()),
        ([("a",)], ()),
        ([("a", "nowhere")], ()),
        ([("b", "a")], (("a", "b"),)),
        ([("a", "b"), ("c", "d")], (("a", "b"), ("c", "d"))),
        ([("a", "b"), ("c", "d"), ("d", "b")], (("a", "b", "c", "d"),)),
    ],
)
def test_groups_that_share_a_column_are_one(groups: list[tuple[str, ...]], found: tuple[tuple[str, ...], ...]) -> None:
    """Prevents half of a group that is won by one side and half by the other."""
    assert together(groups, COLUMNS) == found


@given(st.lists(st.lists(st.sampled_from([*COLUMNS, "nowhere"]), max_size=4), max_size=5), st.randoms())
def test_sets_are_disjoint_whole_and_the_same_in_any_order(groups: list[list[str]], random: object) -> None:
    """Prevents two sides that group differently because they read their catalogs in another order."""
    found = together(groups, COLUMNS)
    members = [name for group in found for name in group]
    assert len(members) == len(set(members))
    assert all(len(group) > 1 for group in found)
    for group in groups:
        inside = {name for name in group if name in COLUMNS}
        assert len(inside) < 2 or any(inside <= set(one) for one in found)
    random.shuffle(groups)  # type: ignore[attr-defined]
    assert together(groups, COLUMNS) == found


def test_columns_and_texts_are_written_so_that_any_name_is_one() -> None:
    """Prevents a column whose name ends the SQL, and one that is a percent sign."""
    assert names(['a "b"', "%s"], "v.", " = NULL").as_string(None) == 'v."a ""b""" = NULL, v."%s" = NULL'
    assert literals(["it's", "%s"]).as_string(None) == "ARRAY['it''s', '%s']::text[]"
    assert literals([]).as_string(None) == "ARRAY[]::text[]"
