"""The parser of test_decoding's text, against lines put together as the plugin does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.rehearsal.dms.decoding import Change, transactions
from scripts.support.errors import MigrationError

RECORD = ("task_migration", "source_writes")
HEAD = "table task_migration.source_writes: "


def parsed(line: str) -> list[Change]:
    (found,) = transactions([("0/1", "BEGIN 7"), ("0/1", line), ("0/5", "COMMIT 7")], [RECORD])
    return found.changes


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        (
            HEAD + "INSERT: v[bigint]:8 key[text]:'[\"it''s\"]' vals[text]:null at[timestamp with time zone]:'2026-01-01 00:00:00+00'",
            [
                Change(
                    RECORD,
                    "INSERT",
                    {"v": "8", "key": '["it\'s"]', "vals": None, "at": "2026-01-01 00:00:00+00"},
                    frozenset({"key", "vals"}),
                )
            ],
        ),
        # Text that reads like the plugin's own words is a value all the same.
        (HEAD + "INSERT: key[text]:' vals[text]:null' kind[text]:'null'", [Change(RECORD, "INSERT", {"key": " vals[text]:null", "kind": "null"}, frozenset({"key", "kind"}))]),
        (HEAD + "DELETE: v[bigint]:-7", [Change(RECORD, "DELETE", {"v": "-7"})]),
        # What the task does not carry, whatever its names, types and values are.
        ("table public.tasks: UPDATE: id[bigint]:1 a[public.\"odd ]type\"[]]:'{1}' long[text]:unchanged-toast-datum", []),
        ("table public.tasks: INSERT: title[text]:'" + HEAD + "INSERT: v[bigint]:1'", []),
        ("table task_migration.source_writes_old: DELETE: (no-tuple-data)", []),
        (HEAD + "TRUNCATE: (no-flags)", []),
        ("message: transactional: 1 prefix: x, sz: 1 content:y", []),
    ],
)  # fmt: skip
def test_lines_of_the_plugin(line: str, changes: list[Change]) -> None:
    assert parsed(line) == changes


VALUES = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))


@given(values=st.lists(VALUES, min_size=1, max_size=6))
def test_any_text_comes_back(values: list[str | None]) -> None:
    """Prevents a quote, a newline or a bracket in a user's text from cutting a record short."""
    written = ["null" if value is None else "'" + value.replace("'", "''") + "'" for value in values]
    (change,) = parsed(HEAD + "INSERT:" + "".join(f" c{n}[text]:{value}" for n, value in enumerate(written)))
    assert change.values == {f"c{n}": value for n, value in enumerate(values)}


def test_transactions_are_whole_and_end_where_the_log_goes_on() -> None:
    rows = [
        ("0/1", "BEGIN 7"),
        ("0/1", HEAD + "INSERT: v[bigint]:1"),
        ("0/5", "COMMIT 7 (at 2026-11-23 10:00:00.5+00)"),
        ("0/6", "BEGIN 8"),
    ]
    (found,) = transactions(rows, [RECORD])
    assert (found.end_lsn, len(found.changes)) == ("0/5", 1)
    assert found.committed_at is not None
    assert found.committed_at.microsecond == 500000


@pytest.mark.parametrize(
    "text",
    [
        "INSERT: v[bigint:1",
        "INSERT: key[text]:'x",
        "INSERT: key[text]:'x'y[text]:'z'",
        "DELETE: (no-tuple-data)",
        "UPDATE: v[bigint]:1",
    ],
)
def test_a_line_that_is_no_record_is_an_error(text: str) -> None:
    """Prevents a guess at a record."""
    with pytest.raises(MigrationError, match="test_decoding wrote"):
        parsed(HEAD + text)
