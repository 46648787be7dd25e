"""Which of PostgreSQL's functions hashes a column: that of its type where equal values print equal, else that of its text."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from scripts.database.catalog import Table
from scripts.verify.hash import NULL_INTEGER, NULL_NUMERIC, NULL_TEXT, NULL_TIMESTAMP, NULL_UUID, hash_of
from tests.unit.verify.test_buckets import column, table

UUID, TIMESTAMP = ("uuid", "uuid"), ("timestamp without time zone", "timestamp")
TEXT, VARCHAR = ("text", "text"), ("character varying(9)", "varchar")
FIXED, WIDER, FREE = ("numeric(8,2)", "numeric"), ("numeric(9,2)", "numeric"), ("numeric", "numeric")
BIG, SMALL, BOOL, DATE = ("bigint", "int8"), ("smallint", "int2"), ("boolean", "bool"), ("date", "date")
BY_TEXT = 'hashtextextended(t."c"::text COLLATE "C", SEED)'
OWN_TEXT = 'hashtextextended(t."c" COLLATE "C", SEED)'
WHOLE = 'hashint8extended(t."c"::int8, (SEED # t."c"::int8))'


def constant(name: str) -> str:
    return str(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True))


TRUE, NULL = constant("true 0"), constant("null 0")
FLAG = f'CASE WHEN t."c" THEN {TRUE} ELSE 0::int8 END'
FLAG_OR_NULL = f'CASE WHEN t."c" THEN {TRUE} WHEN t."c" IS NULL THEN {NULL} ELSE 0::int8 END'


def hashed(ours: Table, theirs: Table, *names: str) -> str:
    """The expression, with one blank for many."""
    return " ".join(hash_of(ours, names or ("c",), theirs).as_string().split()).replace(constant("seed"), "SEED")


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (UUID, UUID, 'uuid_hash_extended(t."c", SEED)'),
        (TIMESTAMP, TIMESTAMP, 'timestamp_hash_extended(t."c", SEED)'),
        (FIXED, FIXED, 'hash_numeric_extended(t."c", SEED)'),
        (BIG, BIG, WHOLE),
        (SMALL, BIG, WHOLE),
        (BOOL, BOOL, f"hashint8extended(0, (SEED # {FLAG}))"),
        *((one, other, OWN_TEXT) for one in (TEXT, VARCHAR) for other in (TEXT, VARCHAR)),
        # Types whose equal values print differently, and two types.
        *((one, one, BY_TEXT) for one in (FREE, DATE)),
        *(pair for one in (UUID, TIMESTAMP, FIXED, BIG, BOOL) for pair in ((one, TEXT, BY_TEXT), (TEXT, one, OWN_TEXT))),
        (FIXED, WIDER, BY_TEXT),
        (FIXED, FREE, BY_TEXT),
    ],
)  # fmt: skip
def test_a_column_is_hashed_by_its_type_where_that_tells_all_apart(
    ours: tuple[str, str], theirs: tuple[str, str], said: str
) -> None:
    """Prevents a verification of hours, as every value is printed, and one that passes over a scale or a month of 30 days."""
    one, other = (table(column("c", *kind, True)) for kind in (ours, theirs))
    assert hashed(one, other) == said


@pytest.mark.parametrize("kind", [UUID, TIMESTAMP, FIXED, BIG, BOOL])
@pytest.mark.parametrize("whose", [(True, False), (False, True)])
def test_a_type_of_somebody_of_that_name_is_hashed_by_its_text(kind: tuple[str, str], whose: tuple[bool, bool]) -> None:
    """Prevents a domain or a type of another schema from being given to a function that has none for it."""
    one, other = (table(replace(column("c", *kind, True), builtin=builtin)) for builtin in whose)
    assert hashed(one, other) == BY_TEXT


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (UUID, f"uuid_hash_extended(coalesce(t.\"c\", '{NULL_UUID}'::uuid), SEED)"),
        (TIMESTAMP, f"timestamp_hash_extended(coalesce(t.\"c\", '{NULL_TIMESTAMP}'::timestamp), SEED)"),
        (FIXED, f"hash_numeric_extended(coalesce(t.\"c\", '{NULL_NUMERIC}'::numeric), SEED)"),
        (TEXT, f'hashtextextended(coalesce(t."c", \'{NULL_TEXT}\') COLLATE "C", SEED)'),
        (BIG, WHOLE.replace('t."c"::int8', f'coalesce(t."c"::int8, {NULL_INTEGER})')),
        (BOOL, f"hashint8extended(0, (SEED # {FLAG_OR_NULL}))"),
    ],
)
@pytest.mark.parametrize("filled", [(True, False), (False, True), (False, False)])
def test_what_may_be_null_on_a_side_has_a_value_for_that(
    kind: tuple[str, str], said: str, filled: tuple[bool, bool]
) -> None:
    """Prevents a NULL that makes a whole row NULL, which no sum counts."""
    one, other = (table(column("c", *kind, not_null)) for not_null in filled)
    assert hashed(one, other) == said


def test_numbers_and_flags_are_mixed_into_the_state_before_the_rest() -> None:
    """Prevents a hash more than is needed: with a round behind it what was mixed in is hashed already."""
    kinds = {"a": TEXT, "n": BIG, "f": BOOL, "m": BIG}
    one = table(*(column(name, *kind, True) for name, kind in kinds.items()))
    flag = FLAG.replace('"c"', '"f"').replace(TRUE, constant("true 2"))
    state = 'hashtextextended(t."a" COLLATE "C", (SEED # t."n"::int8))'
    assert hashed(one, one, "a", "n") == state
    assert hashed(one, one, "a", "n", "m") == f'hashint8extended(t."m"::int8, ({state} # t."m"::int8))'
    assert hashed(one, one, "a", "n", "f") == state.replace("(SEED", f"((SEED # {flag})")


def test_the_flags_of_a_second_hundred_have_constants_of_their_own() -> None:
    """Prevents two chains in which the same flag is the same number."""
    names = [f"c{number}" for number in range(101)]
    wide = table(*(column(name, *BOOL, True) for name in names))
    found = hash_of(wide, names, wide).as_string()
    wanted = [constant(f"true {number}") for number in range(101)] + [constant("seed"), constant("seed 100")]
    assert [found.count(one) for one in wanted] == [1] * 103
