"""Buckets cover every key exactly once, whatever the ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.database.catalog import Column, Constraint, Table
from scripts.verify.buckets import INT8_MAX, INT8_MIN, WIDTH_BITS, Buckets


def column(name: str, kind: str, base: str, not_null: bool = False) -> Column:
    return Column(name, kind, base, not_null, None, False, "", True, None)


def table(*columns: Column, key: tuple[str, ...] = ("id",)) -> Table:
    return Table(
        schema="public", name="t", oid=1, kind="r", persistence="p", rows_estimate=0, pages=0,
        columns=columns, constraints=(Constraint(("public", "t"), "t_pkey", "p", "", key),),
    )  # fmt: skip


NUMBERED = table(column("id", "bigint", "int8", True))
keys = st.one_of(st.integers(-3000, 3000), st.integers(10**9, 10**9 + 3000), st.integers(INT8_MIN, INT8_MAX))


@given(st.lists(keys, min_size=1, max_size=30, unique=True), st.integers(0, 2_000_000), st.data())
def test_ranges_are_exactly_the_buckets(ids: list[int], rows: int, data: st.DataObject) -> None:
    """Prevents a key that no range reads, which would be a difference that is never found, or one read twice."""
    buckets = Buckets.of(NUMBERED, NUMBERED, rows)
    of = {number: (number >> WIDTH_BITS) & (buckets.number - 1) for number in ids}
    wanted = sorted(data.draw(st.sets(st.sampled_from(sorted(of.values())), min_size=1)))
    ranges = buckets.ranges(wanted, min(ids), max(ids))
    if ranges is None:
        assert max(ids) - min(ids) > 10**6
        return
    assert ranges == sorted(ranges)
    for number in ids:
        assert sum(low <= number <= high for low, high in ranges) == (of[number] in wanted)
    for low, high in ranges:
        assert INT8_MIN <= low <= high <= INT8_MAX


@pytest.mark.parametrize(
    ("rows", "number"),
    [(0, 16), (2048, 16), (2049, 32), (4096, 32), (4097, 64), (4_194_304, 1 << 15), (10**12, 1 << 15)],
)
def test_a_bucket_has_half_a_range_and_more_until_they_are_many(rows: int, number: int) -> None:
    """Prevents memory that grows with the table, and rows that are all read again for one that differs."""
    assert Buckets.of(NUMBERED, NUMBERED, rows).number == number


def test_more_probes_than_a_reading_of_the_table_costs_are_none() -> None:
    """Prevents a table with far ids that is looked up for hours; of 16 buckets one turn is 4096 keys."""
    buckets = Buckets.of(NUMBERED, NUMBERED, 0)
    assert buckets.ranges([3], 0, 20_000 * 4096 - 1) == [
        (turn * 4096 + 768, turn * 4096 + 1023) for turn in range(20_000)
    ]
    assert buckets.ranges([3], 0, 20_000 * 4096) is None
    assert buckets.ranges([3, 4], -4096, 9_999 * 4096 - 1) == [
        (turn * 4096 + 768, turn * 4096 + 1279) for turn in range(-1, 9_999)
    ]
    assert buckets.ranges([3, 4], -4097, 9_999 * 4096 - 1) is None
