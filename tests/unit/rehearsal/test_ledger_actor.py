"""One user of the load: ordered writes on own tasks, honest verdicts, and what the ledger is told."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest

from scripts.rehearsal.ledger import Entry, Ledger, read_ledger
from tests.load.actor import EXPECTED, WRITES, Actor, Call, Result

NOW = 1000.0


def _actor() -> Actor:
    actor = Actor(Random(3), "run-0", user=2)
    actor.settle(actor.next_call(NOW), 200, {"tasks": [{"tags": [7, 8]}, {"tags": [9]}]}, "monolith", NOW, NOW)
    return actor


def _call(actor: Actor, op: str, now: float) -> Call:
    """The next call of this kind; others are passed over as if never sent."""
    for _ in range(2000):
        call = actor.next_call(now)
        if call.op == op:
            return call
    raise AssertionError(f"no {op} in 2000 calls")


def _answer(actor: Actor, call: Call, now: float, status: int | None = None, body: Any = None) -> Result:
    if status is None:
        status = EXPECTED.get(call.op, 200)
    return actor.settle(call, status, body, "task-service", now, now)


def _created(actor: Actor, number: int = 42) -> Call:
    call = _call(actor, "create", NOW)
    assert _answer(actor, call, NOW, body={"task": {"id": number}}).verdict == "ok"
    return call


def test_the_first_call_lists_and_so_learns_the_users_tags() -> None:
    """Prevents writes that are refused for tags of somebody else."""
    actor = Actor(Random(1), "run-0")
    assert actor.next_call(NOW).op == "list"
    assert _actor().tags == [7, 8, 9]


def test_all_operations_are_made_and_a_task_is_left_alone_after_a_write() -> None:
    """Prevents a load that meets its own replication lag, or forgets an endpoint."""
    actor, now, seen, written = _actor(), NOW, set(), dict[int, float]()
    for number in range(3000):
        now += 0.5
        call = actor.next_call(now)
        seen.add(call.op)
        if call.task is not None:
            assert now - written.get(call.task.id, 0) >= actor.think_seconds
        body: Any = {"tasks": [], "task": {"id": number, "approved_at": None}}
        if call.op == "show" and call.task is not None:
            state = {"is_completed": call.task.is_completed, "approved_at": "x" if call.task.approved else None}
            body = {"task": {**call.task.fields, **state}}
        result = _answer(actor, call, now, body=body)
        assert result.verdict == "ok", result.message
        if call.op in WRITES:
            assert result.entry is not None
            assert result.entry.acknowledged
            written[result.entry.id or 0] = now
    assert seen == {"health", "list", "show", *WRITES}


def test_the_writes_to_a_task_are_numbered_in_order() -> None:
    """Prevents a ledger whose last state of a task cannot be told."""
    actor = _actor()
    _created(actor)
    sequences = []
    for step in range(1, 4):
        call = _call(actor, "update", NOW + 5 * step)
        entry = _answer(actor, call, NOW + 5 * step, body={"task": {}}).entry
        assert entry is not None
        sequences.append((entry.id, entry.sequence, entry.op))
    assert sequences == [(42, 2, "update"), (42, 3, "update"), (42, 4, "update")]


@pytest.mark.parametrize("status", [0, 500, 502, 503, 504])
def test_a_write_without_an_answer_is_not_acknowledged_and_its_task_is_left(status: int) -> None:
    """Prevents a lost write that was never acknowledged, and a mismatch that nobody can explain."""
    actor = _actor()
    _created(actor)
    result = _answer(actor, _call(actor, "update", NOW + 5), NOW + 5, status)
    assert result.verdict == "failed"
    assert result.entry is not None
    assert (result.entry.acknowledged, result.entry.sequence) == (False, 2)
    assert actor.tasks == []


def test_a_404_for_a_fresh_task_is_a_lag_miss_and_later_a_failure() -> None:
    """Prevents replication lag that is hidden, and lost tasks that are taken for lag."""
    actor = _actor()
    _created(actor)
    result = _answer(actor, _call(actor, "show", NOW + 2), NOW + 2, 404)
    assert (result.verdict, result.entry) == ("lag_miss", None)
    late = NOW + actor.lag_seconds + 5
    assert _answer(actor, _call(actor, "show", late), late, 404).verdict == "failed"
    assert _answer(actor, _call(actor, "update", late), late, 422).verdict == "failed"


def test_what_is_shown_is_compared_with_what_was_acknowledged() -> None:
    """Prevents a lost update that only a reader would have noticed."""
    actor = _actor()
    _created(actor)
    call = _call(actor, "show", NOW + 2)
    assert call.task is not None
    good = {**call.task.fields, "is_completed": False, "approved_at": None}
    assert _answer(actor, call, NOW + 2, body={"task": good}).verdict == "ok"
    old = {"task": {**good, "priority": 9}}
    assert _answer(actor, call, NOW + 2, body=old).verdict == "stale_read"
    late = _answer(actor, call, NOW + actor.lag_seconds + 1, body=old)
    assert (late.verdict, "priority" in late.message) == ("failed", True)
    assert _answer(actor, call, NOW + 2, body={"oops": 1}).verdict == "failed"


def test_a_call_that_was_cut_off_stands_in_the_ledger_as_unknown() -> None:
    """Prevents a write at the very end of a run that looks like a lost one."""
    actor = _actor()
    _created(actor)
    entry = actor.abandon(_call(actor, "delete", NOW + 5), NOW + 5)
    assert entry is not None
    assert (entry.op, entry.id, entry.acknowledged, entry.status) == ("delete", 42, False, 0)
    assert actor.abandon(_call(actor, "show", NOW + 5), NOW + 5) is None


def test_a_torn_last_line_is_passed_over_and_entries_come_back_as_written(tmp_path: Path) -> None:
    """Prevents a killed load that leaves a ledger nobody can read."""
    path = tmp_path / "deep" / "ledger.jsonl"
    entries = [
        Entry(1.5, "create", "POST", "/api/tasks", 4, 1, {"title": "宿題📚"}, 201, True, "monolith", 2),
        Entry(2.5, "delete", "DELETE", "/api/tasks/4", 4, 2, {}, 0, False, None),
    ]
    ledger = Ledger(path)
    for entry in entries:
        ledger.write(entry)
    ledger.close()
    with path.open("a", encoding="utf-8") as file:
        file.write('{"at": 3.5, "op": "upd')
    assert list(read_ledger(path)) == entries
