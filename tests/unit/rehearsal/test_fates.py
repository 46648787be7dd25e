"""What the ledger must call lost, and what it must not: each case is a few writes, what is there in the end, and the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from scripts.rehearsal.documents import LedgerCheck
from scripts.rehearsal.fates import EXISTENCE, GONE, THERE, judge
from scripts.rehearsal.ledger import Entry, Row, Values, key_of

KEY = key_of(5)
CELL = ("tasks", KEY, "title")
ROW = ("tasks", KEY, EXISTENCE)


def write(
    at: float,
    read: Values | None,
    wrote: Values | None,
    *,
    side: str = "monolith",
    ended: float | None = -1.0,
    table: str = "tasks",
    key: str = KEY,
) -> Entry:
    """A write that says what it had read; ``ended`` None: its answer never came."""
    known = ended is not None
    done = at + 0.1 if ended == -1.0 else ended
    rows = (Row(table, key, read, wrote),)
    return Entry(at, done, "update", "PUT", "/", 5, {}, 200 if known else 0, known, side, 1, rows)


def request(at: float, op: str, fields: Mapping[str, Any] | None = None) -> Entry:
    """A request of which nothing came back."""
    return Entry(at, None, op, "PUT", "/", 5, fields or {}, 0, False, None, 1, None)


def judged(
    *entries: Entry,
    row: Values | None = None,
    told: Mapping[tuple[str, str, str], set[str | None]] | None = None,
    until: float | None = None,
    table: str = "tasks",
    key: str = KEY,
) -> LedgerCheck:
    return judge(entries, {table: {} if row is None else {key: row}}, told or {}, until=until)


def lost(found: LedgerCheck) -> list[tuple[str, str | None, str | None]]:
    return [(item.column, item.expected, item.found) for item in found.lost_items]


MADE = write(1, None, {"title": "a", "priority": "3"})
A_B = write(2, {"title": "a"}, {"title": "b"})
A_C = write(2.05, {"title": "a"}, {"title": "c"}, side="task-service")
PRIORITY = write(2.05, {"priority": "3"}, {"priority": "1"}, side="task-service")
GONE_ROW = write(3, {"title": "b", "priority": "3"}, None)


def test_a_value_that_is_there_or_was_replaced_by_a_write_that_had_read_it_is_kept() -> None:
    """Prevents a false alarm about every ordinary change."""
    found = judged(MADE, A_B, PRIORITY, row={"title": "b", "priority": "1"})
    assert found.plain() == {"total": 3, "lost": 0, "told": 0, "unknown": 0, "lost_items": []}


def test_a_column_that_the_other_sides_row_took_away_is_lost() -> None:
    """Prevents what the rules by updated_at did: the later row wins whole, and the other column's value is nowhere."""
    found = judged(MADE, A_B, PRIORITY, row={"title": "b", "priority": "3"})
    assert (found.total, found.lost, lost(found)) == (3, 1, [("priority", "1", "3")])
    assert (found.lost_items[0].side, found.lost_items[0].at) == ("task-service", 2.05)


def test_an_overwrite_by_a_write_that_had_not_read_the_value_is_lost_unless_it_is_told() -> None:
    """Prevents a loss that passes because a later value stands there."""
    assert lost(judged(MADE, A_B, A_C, row={"title": "c", "priority": "3"})) == [("title", "b", "c")]
    said = judged(MADE, A_B, A_C, row={"title": "c", "priority": "3"}, told={CELL: {"b"}})
    assert (said.lost, said.told) == (0, 1)


@pytest.mark.parametrize(
    "told",
    [{CELL: {"a", "x"}}, {("tasks", KEY, "priority"): {"b"}}, {("tasks", key_of(6), "title"): {"b"}}, {ROW: {THERE}}],
)
def test_a_log_entry_about_another_value_column_or_row_tells_nothing_of_this_one(told: Any) -> None:
    """Prevents a log with any entry at all from excusing every loss."""
    assert judged(MADE, A_B, A_C, row={"title": "c", "priority": "3"}, told=told).lost == 1


def test_of_three_writes_the_middle_one_is_followed_to_its_own_end() -> None:
    """Prevents a chain that hides the write on whose value nobody built."""
    after = write(3, {"title": "c"}, {"title": "d"}, side="task-service")
    found = judged(MADE, A_B, A_C, after, row={"title": "d", "priority": "3"})
    assert lost(found) == [("title", "b", "d")]


def test_a_write_that_was_answered_before_this_one_was_sent_cannot_have_read_it() -> None:
    """Prevents an equal value of long ago from standing for this one."""
    before = write(0.5, {"priority": "1"}, {"priority": "3"})
    found = judged(before, PRIORITY, row={"title": "a", "priority": "3"})
    assert lost(found) == [("priority", "1", "3")]


def test_a_delete_must_hold_and_takes_with_it_what_it_had_read() -> None:
    """Prevents a deleted row that came back, and an alarm about the values that went with it."""
    assert judged(MADE, A_B, GONE_ROW).lost == 0
    back = judged(MADE, A_B, GONE_ROW, row={"title": "b", "priority": "3"})
    assert lost(back) == [(EXISTENCE, GONE, THERE)]


def test_an_edit_that_a_delete_had_not_read_is_lost_unless_it_is_told() -> None:
    """Prevents an edit that vanishes with its row, though who deleted it never saw it."""
    assert lost(judged(MADE, A_B, PRIORITY, GONE_ROW)) == [("priority", "1", GONE)]
    assert judged(MADE, A_B, PRIORITY, GONE_ROW, told={("tasks", KEY, "priority"): {"1"}}).lost == 0


def test_a_row_that_is_not_there_loses_its_creation_and_each_value() -> None:
    """Prevents a lost creation that nobody counts."""
    found = judged(MADE)
    assert found.lost == 1
    assert sorted(column for column, _, _ in lost(found)) == [EXISTENCE, "priority", "title"]
    whole: dict[tuple[str, str, str], set[str | None]] = {ROW: {THERE}, CELL: {"a"}, ("tasks", KEY, "priority"): {"3"}}
    assert (judged(MADE, told=whole).lost, judged(MADE, told=whole).told) == (0, 1)


@pytest.mark.parametrize("now", ["b", "x"])
def test_a_request_without_an_answer_is_one_more_value_that_may_be_there(now: str) -> None:
    """Prevents a false alarm after a cut connection."""
    assert judged(MADE, A_B, request(2.5, "update", {"title": "x"}), row={"title": now, "priority": "3"}).lost == 0


def test_a_request_without_an_answer_excuses_no_other_value_and_no_other_column() -> None:
    """Prevents an unknown outcome from being a reason to look away."""
    cut = request(2.5, "update", {"title": "x"})
    assert lost(judged(MADE, A_B, cut, row={"title": "a", "priority": "3"})) == [("title", "b", "a")]
    assert lost(judged(MADE, A_B, PRIORITY, cut, row={"title": "x", "priority": "3"})) == [("priority", "1", "3")]
    # A later write that had read the unknown one's value shows that it was made.
    built = write(3, {"title": "x"}, {"title": "y"})
    assert judged(MADE, A_B, cut, built, row={"title": "y", "priority": "3"}).lost == 0


def test_an_acknowledged_write_after_an_unknown_one_must_be_there() -> None:
    after = write(3, {"title": "b"}, {"title": "y"})
    cut = request(2.5, "update", {"title": "x"})
    assert lost(judged(MADE, A_B, cut, after, row={"title": "b", "priority": "3"})) == [("title", "y", "b")]


@pytest.mark.parametrize(
    ("op", "column", "now", "kept"),
    [
        ("complete", "completed_at", "2026-01-01 00:00:00", True),
        ("complete", "completed_at", None, False),
        ("delete", "deleted_at", "2026-01-01 00:00:00", True),
        ("reject", "completed_at", None, True),
        ("reject", "completed_at", "2026-01-01 00:00:00", False),
    ],
)
def test_what_an_unanswered_verb_may_have_made_of_the_task(op: str, column: str, now: str | None, kept: bool) -> None:
    """Prevents a time that only the database knew from being taken for a loss, or anything at all from passing."""
    acknowledged = write(2, {column: "2025-05-05 05:05:05"}, {column: "2025-06-06 06:06:06"})
    assert (judged(acknowledged, request(2.5, op), row={column: now}).lost == 0) is kept


def test_a_job_whose_commit_is_unknown_counts_only_where_it_shows() -> None:
    unknown = write(2.5, {"title": "b"}, {"title": "j"}, ended=None)
    assert judged(MADE, A_B, unknown, row={"title": "j", "priority": "3"}).lost == 0
    assert lost(judged(MADE, A_B, unknown, row={"title": "z", "priority": "3"})) == [("title", "b", "z")]


def test_a_tag_that_an_unanswered_change_may_have_taken_is_not_lost() -> None:
    """Prevents a false alarm about the rows of task_tag, which a change of tags writes and deletes."""
    key = key_of(5, 7)
    tagged = write(1, None, {"task_id": "5", "tag_id": "7"}, table="task_tag", key=key)
    assert judged(tagged, table="task_tag", key=key).lost == 1
    assert judged(tagged, request(2, "update", {"tags": [8]}), table="task_tag", key=key).lost == 0
    assert judged(tagged, request(2, "update", {"tags": [7, 8]}), table="task_tag", key=key).lost == 1


def test_what_is_acknowledged_after_the_snapshot_may_be_in_it_or_not() -> None:
    """Prevents an alarm about writes that are made while the ledger is looked up."""
    late = write(9, {"title": "b"}, {"title": "late"})
    for title in ("b", "late"):
        assert judged(MADE, A_B, late, row={"title": title, "priority": "3"}, until=8).lost == 0
    found = judged(MADE, A_B, late, row={"title": "a", "priority": "3"}, until=8)
    assert (found.total, lost(found)) == (2, [("title", "b", "a")])


def test_a_column_that_a_write_left_as_it_was_and_updated_at_are_not_judged() -> None:
    """Prevents a claim on what the record of writes does not hold either."""
    same = write(2, {"priority": "3", "updated_at": "x"}, {"priority": "3", "updated_at": "y"})
    assert judged(MADE, same, PRIORITY, row={"title": "a", "priority": "1", "updated_at": "z"}).lost == 0


def test_a_creation_without_an_answer_is_not_looked_for() -> None:
    cut = Entry(1, None, "create", "POST", "/api/tasks", None, {"title": "x"}, 0, False, None)
    assert judged(cut).plain() == {"total": 0, "lost": 0, "told": 0, "unknown": 1, "lost_items": []}
