"""The parser of test_decoding's text, against lines put together as the plugin does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.rehearsal.dms.decoding import Change, Field, Unchanged, parse, transactions
from scripts.support.errors import MigrationError


@pytest.mark.parametrize(
    ("line", "change"),
    [
        (
            "table public.tasks: INSERT: id[bigint]:1 title[character varying]:'it''s' due[text]:null done[boolean]:true",
            Change(
                "public",
                "tasks",
                "INSERT",
                new=(
                    Field("id", "bigint", "1"),
                    Field("title", "character varying", "it's"),
                    Field("due", "text", None),
                    Field("done", "boolean", "true"),
                ),
            ),
        ),
        (
            "table public.t: UPDATE: old-key: id[bigint]:1 new-tuple: id[bigint]:2 long[text]:unchanged-toast-datum",
            Change(
                "public",
                "t",
                "UPDATE",
                new=(Field("id", "bigint", "2"), Field("long", "text", Unchanged.TOAST)),
                old=(Field("id", "bigint", "1"),),
            ),
        ),
        (
            # Text that reads like the plugin's own words is a value all the same.
            "table public.t: UPDATE: a[text]:' new-tuple: b[text]:null' b[text]:'null' c[text]:'unchanged-toast-datum'",
            Change(
                "public",
                "t",
                "UPDATE",
                new=(
                    Field("a", "text", " new-tuple: b[text]:null"),
                    Field("b", "text", "null"),
                    Field("c", "text", "unchanged-toast-datum"),
                ),
            ),
        ),
        ("table public.t: DELETE: (no-tuple-data)", Change("public", "t", "DELETE")),
        ("table public.t: DELETE: id[bigint]:-7", Change("public", "t", "DELETE", old=(Field("id", "bigint", "-7"),))),
        ("table public.t: TRUNCATE: (no-flags)", Change("public", "t", "TRUNCATE")),
        (
            'table "My ""S""."."T: INSERT: x": INSERT: "a[b] ""c"""[public."odd ]type"[]]:\'{1,2}\' bits[bit varying]:B\'01\'',
            Change(
                'My "S".',
                "T: INSERT: x",
                "INSERT",
                new=(Field('a[b] "c"', 'public."odd ]type"[]', "{1,2}"), Field("bits", "bit varying", "01")),
            ),
        ),
    ],
)
def test_lines_of_the_plugin(line: str, change: Change) -> None:
    assert parse(line) == change


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
VALUES = st.one_of(
    st.none(),
    st.just(Unchanged.TOAST),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30),
)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _written(value: str | Unchanged | None) -> str:
    if value is None:
        return "null"
    return value.value if isinstance(value, Unchanged) else "'" + value.replace("'", "''") + "'"


@given(schema=NAMES, table=NAMES, fields=st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=6))
def test_any_name_and_value_comes_back(
    schema: str, table: str, fields: list[tuple[str, str | Unchanged | None]]
) -> None:
    """Prevents a quote, a newline or a bracket in a user's text from cutting a row short."""
    columns = " ".join(f"{_quoted(name)}[text]:{_written(value)}" for name, value in fields)
    found = parse(f"table {_quoted(schema)}.{_quoted(table)}: UPDATE: {columns}")
    assert (found.schema, found.table, found.operation) == (schema, table, "UPDATE")
    assert [(entry.name, entry.value) for entry in found.new] == fields


def test_transactions_are_whole_and_end_where_the_log_goes_on() -> None:
    rows = [
        ("0/1", "7", "BEGIN 7"),
        ("0/1", "7", "table public.t: INSERT: id[bigint]:1"),
        ("0/5", "7", "COMMIT 7 (at 2026-11-23 10:00:00.5+00)"),
        ("0/6", "8", "BEGIN 8"),
    ]
    (found,) = transactions(rows)
    assert (found.xid, found.end_lsn, len(found.changes)) == ("7", "0/5", 1)
    assert found.committed_at is not None
    assert found.committed_at.microsecond == 500000


@pytest.mark.parametrize(
    "line",
    [
        "table public.t: MERGE: id[int]:1",
        "table public.t: INSERT: id[int:1",
        "table public.t: INSERT: id[text]:'x",
        "odd",
    ],
)
def test_a_line_that_is_none_of_the_plugins_is_an_error(line: str) -> None:
    """Prevents a guess at a row."""
    with pytest.raises(MigrationError, match="test_decoding wrote"):
        list(transactions([("0/1", "1", "BEGIN 1"), ("0/1", "1", line)]))
