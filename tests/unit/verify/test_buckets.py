"""Buckets cover every key exactly once, whatever the ids; and the chain of hashes leaves no column out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.database.catalog import Column, Constraint, Table
from scripts.verify.buckets import INT8_MAX, INT8_MIN, MOST, WIDTH_BITS, Buckets
from scripts.verify.hash import row_hash


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


@pytest.mark.parametrize("rows", [0, 1, 1000, 1_000_000, 10**12])
def test_the_number_of_buckets_is_bounded(rows: int) -> None:
    """Prevents memory that grows with the table."""
    number = Buckets.of(NUMBERED, NUMBERED, rows).number
    assert 16 <= number <= MOST
    assert number & (number - 1) == 0


@pytest.mark.parametrize("algorithm", ["hash", "md5"])
def test_each_column_is_in_the_hash_and_a_looser_type_goes_by_its_text(algorithm: str) -> None:
    """Prevents a column left out, and two sides that hash one column in two ways."""
    assert algorithm in ("hash", "md5")
    kinds = (
        ("id", "bigint", "int8"), ("n", "smallint", "int2"), ("f", "boolean", "bool"), ("t", "text", "text"),
        ("u", "uuid", "uuid"), ("at", "timestamp without time zone", "timestamp"), ("p", "numeric(8,2)", "numeric"),
        ("q", "numeric", "numeric"), ("j", "json", "json"), ("v", "interval", "interval"), ("d", "date", "date"),
    )  # fmt: skip
    ours = table(*(column(*kind) for kind in kinds))
    text = row_hash(ours, "md5" if algorithm == "md5" else "hash").as_string(None)
    for name, _, _ in kinds:
        assert f't."{name}"' in text
    if algorithm == "hash":
        for name in ("q", "j", "v"):
            assert f't."{name}"::text' in text
        assert 't."u"::text' not in text
        # What PostgreSQL's text hash would call equal under a collation of its own choice, bytes tell apart.
        assert text.count('COLLATE "C"') == text.count("hashtextextended(")
    loose = replace(ours, columns=tuple(replace(c, type="text", base_type="text") for c in ours.columns))
    assert (
        row_hash(ours, "hash", loose).as_string(None).count("::text") == 10
    )  # all but the one that is text on both sides
    shorter = replace(ours, columns=ours.columns[:3])
    assert 't."t"' not in row_hash(ours, "hash", shorter).as_string(None)
