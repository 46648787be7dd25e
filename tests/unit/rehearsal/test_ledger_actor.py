"""One user of the load among others of its group: honest verdicts, two writers per row, and what the ledger is told."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from scripts.rehearsal.ledger import Entry, Ledger, Row, header_of, read_ledger, rows_from
from tests.load.actor import EXPECTED, WRITES, Actor, Call, Group, Result, SharedTask, Timetable

NOW = 1000.0
PARENT, CHILD = 1, 2


def _actor(user: int = PARENT, group: Group | None = None, seed: int = 3) -> Actor:
    actor = Actor(Random(seed), f"run-{user}", user=user, group=group or Group(members=[user]))
    actor.settle(actor.next_call(NOW), 200, {"tasks": [{"tags": [7, 8]}, {"tags": [9]}]}, "monolith", NOW, NOW)
    return actor


def _family() -> tuple[Actor, Actor]:
    group = Group(members=[PARENT, CHILD])
    return _actor(PARENT, group), _actor(CHILD, group, seed=4)


def _call(actor: Actor, op: str, now: float, *, cut: bool = False) -> Call:
    """The next call of this kind; others are passed over as if never sent."""
    for _ in range(4000):
        call = actor.next_call(now)
        if call.op == op and call.cut == cut:
            return call
        _unsent(call)
    raise AssertionError(f"no {op} in 4000 calls")


def _unsent(call: Call) -> None:
    if call.task is not None and call.wrote:
        call.task.pending -= 1
        for name, made in call.task.writes.items():
            call.task.writes[name] = [one for one in made if not any(one is mine for mine in call.wrote)]


def _answer(actor: Actor, call: Call, now: float, status: int | None = None, body: Any = None) -> Result:
    if status is None:
        status = EXPECTED.get(call.op, 200)
    return actor.settle(call, status, body, "task-service", now, now)


def _created(actor: Actor, number: int = 42, owner: int | None = None) -> SharedTask:
    while True:
        call = _call(actor, "create", NOW)
        if call.fields.get("user_id") == owner:
            break
    assert _answer(actor, call, NOW, body={"task": {"id": number}}).verdict == "ok"
    assert call.task is not None
    return call.task


def _shown(task: SharedTask, **change: Any) -> dict[str, Any]:
    newest = {name: made[-1].value for name, made in task.writes.items() if made and name != "deleted"}
    approved = newest.pop("approved")
    return {"task": {**newest, "approved_at": "x" if approved else None, **change}}


def test_the_first_call_lists_and_so_learns_the_users_tags() -> None:
    """Prevents writes that are refused for tags of somebody else."""
    assert Actor(Random(1), "run-0").next_call(NOW).op == "list"
    assert _actor().group.tags == {PARENT: {7, 8, 9}}


def test_all_operations_are_made_and_a_third_of_the_writes_leaves_no_quiet_time() -> None:
    """Prevents a load that forgets an endpoint, or in which no row ever has two writers at once."""
    parent, child = _family()
    now, seen, hot, cold, cut = NOW, set(), 0, 0, 0
    for number in range(8000):
        now += 0.05
        actor = parent if number % 2 else child
        call = actor.next_call(now)
        seen.add(call.op)
        if call.task is not None and call.op in WRITES and not call.retry:
            others = [
                w for made in call.task.writes.values() for w in made if not any(w is mine for mine in call.wrote)
            ]
            fresh = any(now - wrote.sent < actor.think_seconds for wrote in others)
            hot, cold = hot + fresh, cold + (not fresh)
        if call.cut:
            cut += 1
            result = actor.settle(call, 0, None, None, now, now)
            assert (result.verdict, result.entry and result.entry.acknowledged) == ("ok", False)
            continue
        body: Any = {"tasks": [], "task": {"id": number, "approved_at": None}}
        if call.op == "show" and call.task is not None:
            body = _shown(call.task)
        result = _answer(actor, call, now, body=body)
        assert result.verdict in ("ok", "stale_read"), result.message
        if call.op in WRITES:
            assert result.entry is not None
            assert result.entry.acknowledged
    assert seen == {"health", "list", "show", *WRITES}
    assert 0.2 < hot / (hot + cold) < 0.6
    assert cut > 10


def test_the_child_completes_what_the_parent_edits_and_only_the_parent_approves() -> None:
    """Prevents a load whose second writer is refused, and so writes nothing."""
    parent, child = _family()
    task = _created(parent, owner=CHILD)
    assert (task.owner, task.giver) == (CHILD, PARENT)
    assert _call(child, "complete", NOW + 5).task is task
    edit = _call(parent, "update", NOW + 5)
    assert edit.task is task, "while the child's request is under way"
    assert task.pending == 2
    task.is_completed = True
    assert [task.allows("approve", user) for user in (PARENT, CHILD, 3)] == [True, False, False]


@pytest.mark.parametrize("status", [0, 500, 502, 503, 504])
def test_a_write_without_an_answer_is_not_acknowledged_and_sent_again(status: int) -> None:
    """Prevents a lost write that was never acknowledged, and a client that gives up as no real one does."""
    actor = _actor()
    task = _created(actor)
    call = _call(actor, "update", NOW + 5)
    result = _answer(actor, call, NOW + 5, status)
    assert result.verdict == "failed"
    assert result.entry is not None
    assert (result.entry.acknowledged, result.entry.ended, result.entry.rows) == (False, None, None)
    again = actor.next_call(NOW + 6)
    assert (again.op, again.task, again.fields, again.retry) == ("update", task, call.fields, True)
    assert _answer(actor, again, NOW + 6, body={"task": {}}).verdict == "ok"
    assert task.pending == 0
    second = actor.next_call(NOW + 7)
    assert not second.retry


def test_a_second_refusal_of_what_may_have_come_through_is_no_failure_and_the_task_is_left() -> None:
    actor = _actor()
    task = _created(actor)
    _answer(actor, _call(actor, "delete", NOW + 5), NOW + 5, 504)
    again = actor.next_call(NOW + 6)
    assert _answer(actor, again, NOW + 6, 404).verdict == "lag_miss"
    assert task not in actor.group.tasks


def test_a_404_of_the_users_own_fresh_task_is_a_stale_read_and_later_a_failure() -> None:
    """Prevents replication lag that is hidden, and lost tasks that are taken for lag."""
    actor = _actor()
    _created(actor)
    result = _answer(actor, _call(actor, "show", NOW + 2), NOW + 2, 404)
    assert (result.verdict, result.read, result.entry) == ("stale_read", True, None)
    late = NOW + actor.lag_seconds + 5
    assert _answer(actor, _call(actor, "show", late), late, 404).verdict == "failed"
    assert _answer(actor, _call(actor, "update", late), late, 422).verdict == "failed"


def test_a_409_after_somebody_elses_write_is_a_lag_miss_and_long_after_a_failure() -> None:
    parent, child = _family()
    _created(parent, owner=CHILD)
    complete = _call(child, "complete", NOW + 20)
    update = _call(parent, "update", NOW + 20)
    assert _answer(parent, update, NOW + 20.1, 409).verdict == "lag_miss"
    _answer(child, complete, NOW + 20.2, body={"task": {}})
    late = NOW + 40
    assert _answer(parent, _call(parent, "update", late), late, 409).verdict == "failed"


def test_a_read_that_does_not_show_the_users_own_acknowledged_write_is_stale() -> None:
    """Prevents a reader's view that nobody counts."""
    actor = _actor()
    task = _created(actor)
    assert _answer(actor, _call(actor, "show", NOW + 2), NOW + 2, body=_shown(task)) == Result("ok", read=True)
    old = _answer(actor, _call(actor, "show", NOW + 2), NOW + 2, body=_shown(task, priority=9))
    assert (old.verdict, old.read, "priority" in old.message) == ("stale_read", True, True)
    late = NOW + actor.lag_seconds + 1
    assert _answer(actor, _call(actor, "show", late), late, body=_shown(task, priority=9)).verdict == "stale_read"
    assert _answer(actor, _call(actor, "show", NOW + 2), NOW + 2, body={"oops": 1}).verdict == "failed"


def test_what_another_one_wrote_since_is_no_stale_read_and_what_nobody_wrote_is_one() -> None:
    parent, child = _family()
    task = _created(parent, owner=CHILD)
    edit = _call(child, "update", NOW + 3)
    name, value = next((name, value) for name, value in edit.fields.items() if name != "tags")
    old = task.writes[name][0].value
    for shown, verdict in ((value, "ok"), (old, "ok"), ("nobody's", "stale_read")):
        result = _answer(parent, _call(parent, "show", NOW + 3), NOW + 3, body=_shown(task, **{name: shown}))
        assert result.verdict == verdict, name
    _answer(child, edit, NOW + 3.1, body={"task": {}})
    own = _answer(child, _call(child, "show", NOW + 4), NOW + 4, body=_shown(task, **{name: old}))
    assert own.verdict == "stale_read", "the child sees the state from before its own edit"


def test_some_writes_are_looked_at_at_once_but_not_those_without_an_answer_or_without_a_task() -> None:
    """Prevents a load whose users never read soon enough to read stale."""
    actor = _actor()
    task = _created(actor)
    written = Call("update", "PUT", "/", "/", task=task)
    looks = [look for _ in range(400) if (look := actor.look(written, NOW)) is not None]
    assert 60 < len(looks) < 140
    assert (looks[0].op, looks[0].task, looks[0].sent) == ("show", task, NOW)
    show = Call("show", "GET", "/", "/", task=task)
    assert not any(actor.look(show, NOW) for _ in range(100))
    _answer(actor, _call(actor, "update", NOW + 5), NOW + 5, 504)
    assert not any(actor.look(written, NOW) for _ in range(100)), "it is sent again first"
    actor.group.forget(task)
    actor.next_call(NOW + 6)
    assert not any(actor.look(written, NOW) for _ in range(100))


def test_a_call_that_was_cut_off_stands_in_the_ledger_as_unknown() -> None:
    """Prevents a write at the very end of a run that looks like a lost one."""
    actor = _actor()
    _created(actor)
    entry = actor.abandon(_call(actor, "delete", NOW + 5), NOW + 5, NOW + 5)
    assert entry is not None
    assert (entry.op, entry.id, entry.acknowledged, entry.status) == ("delete", 42, False, 0)
    actor.next_call(NOW + 6)
    assert actor.abandon(Call("show", "GET", "/", "/"), NOW + 5, NOW + 5) is None


def test_an_entry_says_when_it_was_sent_and_what_its_transaction_had_read() -> None:
    """Prevents a ledger from which nobody can tell who knew what."""
    actor = _actor()
    _created(actor)
    call = _call(actor, "update", NOW + 5)
    row = Row("tasks", '["42"]', {"title": "宿題📚"}, {"title": None})
    rows = rows_from(header_of((row,)))
    entry = actor.settle(call, 200, {"task": {}}, "monolith", NOW + 5.5, 77.0, rows).entry
    assert entry is not None
    assert (entry.at, entry.ended, entry.rows, entry.target) == (76.5, 77.0, (row,), "monolith")
    assert rows_from(None) is None
    assert header_of((row,)).isascii()


def test_a_torn_last_line_is_passed_over_and_entries_come_back_as_written(tmp_path: Path) -> None:
    """Prevents a killed load that leaves a ledger nobody can read."""
    path = tmp_path / "deep" / "ledger.jsonl"
    rows = (Row("tasks", '["4"]', None, {"title": "宿題📚"}), Row("task_tag", '["4", "7"]', {"tag_id": "7"}, None))
    entries = [
        Entry(1.5, 1.6, "create", "POST", "/api/tasks", 4, {"title": "宿題📚"}, 201, True, "monolith", 2, rows),
        Entry(2.5, None, "delete", "DELETE", "/api/tasks/4", 4, {}, 0, False, None),
    ]
    ledger = Ledger(path)
    for entry in entries:
        ledger.write(entry)
    ledger.close()
    with path.open("a", encoding="utf-8") as file:
        file.write('{"at": 3.5, "op": "upd')
    assert list(read_ledger(path)) == entries


def test_nobody_opens_a_task_of_another_one_in_the_second_in_which_it_is_made() -> None:
    """Prevents a load that is denser than life: behind a lag of a second its users met what no user would, and the gate rolled back for it."""
    parent, child = _family()
    child.notice_seconds = 5.0
    task = _created(parent, owner=CHILD)

    def hears(actor: Actor, now: float) -> bool:
        calls = []
        for _ in range(500):
            calls.append(actor.next_call(now))
            _unsent(calls[-1])
        return any(call.task is task for call in calls)

    assert hears(parent, NOW)  # who made it
    assert not hears(child, NOW + 4.9)
    assert hears(child, NOW + 5)


@pytest.mark.parametrize("pause", [0, 12])
@pytest.mark.parametrize("rate", [0.5, 2.5, 0.02])
def test_a_user_works_and_pauses_and_keeps_the_rate(rate: float, pause: int) -> None:
    """Prevents users who never pause, whom a load balancer's cookie keeps on their side for ever."""
    timetable, turns = Timetable(rate, pause=float(pause)), [0.0]
    for _ in range(400):
        turns.append(timetable.next(turns[-1]))
    gaps = [round(later - at, 3) for at, later in pairwise(turns)]
    assert (len(turns) - 1) / turns[-1] == pytest.approx(rate, rel=0.05)
    if rate > 0.05:
        assert min(gaps) == pytest.approx(24 / (24 + pause) / rate, abs=0.002)
        assert (max(gaps) > 10) is (pause > 0)
