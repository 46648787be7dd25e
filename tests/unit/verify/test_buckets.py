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


def test_the_ranges_of_a_bucket_end_where_the_keys_do() -> None:
    """Prevents the lowest or the highest key from being left out, and look-ups where no key is."""
    buckets = Buckets.of(NUMBERED, NUMBERED, 0)
    cases: tuple[tuple[tuple[int, int], list[tuple[int, int]]], ...] = (
        ((255, 4096), [(0, 255), (4096, 4351)]),
        ((256, 4095), []),
        ((0, 0), [(0, 255)]),
        ((4351, 4351), [(4096, 4351)]),
        ((4352, 5000), []),
    )
    assert [buckets.ranges([0], *bounds) for bounds, _ in cases] == [ranges for _, ranges in cases]


READ_WHOLE = 'FROM "public"."t" t WHERE (t."id"::int8 >> 8) & 15 = ANY(\'{3,4}\'::int2[]::bigint[])'


@pytest.mark.parametrize(
    ("key", "chosen", "bounds", "said"),
    [
        (
            "int8",
            [3, 4],
            (0, 5000),
            "FROM unnest('{768,4864}'::int2[]::bigint[], '{1279,5119}'::int2[]::bigint[]) r(low, high) JOIN",
        ),
        ("int8", [3, 4], None, READ_WHOLE),
        ("int8", [3, 4], (0, 2**62), READ_WHOLE),
        ("int8", None, (0, 5000), 'FROM "public"."t" t'),
        ("text", [3, 4], (0, 5000), 'FROM "public"."t" t WHERE hashtextextended('),
        ("text", None, None, 'FROM "public"."t" t'),
    ],
)
def test_rows_are_looked_up_by_the_key_where_it_has_ranges(
    key: str, chosen: list[int] | None, bounds: tuple[int, int] | None, said: str
) -> None:
    """Prevents a whole table from being read for the rows of one bucket, and a key that is no number from being taken for one."""
    one = table(column("id", key, key, True))
    found = Buckets.of(one, one, 0).rows(chosen, bounds).as_string()
    assert found.startswith(said) if chosen else found == said
