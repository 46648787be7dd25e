"""No weight goes up unless a rollback from there would keep every write in time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import MigrationConfig
from scripts.canary.history import History, history
from scripts.canary.ready import (
    UNMEASURED_UP,
    Readiness,
    ServiceHealth,
    Shadowed,
    check_step,
    next_weight,
    ready,
    rollback_estimate,
)
from scripts.copy.documents import SlotState
from scripts.replication.documents import DirectionState
from scripts.verify.verdict import Verdict

CONFIG = MigrationConfig()
LADDER = (5, 25, 50, 100)
SLOT = SlotState(
    active=True, active_pid=1, wal_status="reserved", confirmed_lsn="0/1", retained_bytes=1000, lag_bytes=0
)
WAY = DirectionState(running=True, lag_bytes=0, lag_seconds=0.1, reason=None, apply_errors=0, slot=SLOT)


def way(**changes: Any) -> DirectionState:
    return WAY.model_copy(update=changes)


SERVICE = ServiceHealth(least=2, wanted=2, running=2, healthy=2, rollout="COMPLETED")
VERIFIED = Verdict(match=True, of_this_copy=True, age_seconds=3600.0, whole_seconds=7200.0)
GOOD = Readiness(WAY, WAY, 0.1, True, (), 3, VERIFIED, SERVICE, 60.0, Shadowed(True, 23.9))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reverse": way(running=False, reason="disabled")}, "the reverse direction of replication does not run (disabled)"),
        ({"forward": way(running=False)}, "the forward direction of replication does not run"),
        ({"reverse": way(lag_seconds=None)}, "the reverse fence did not return"),
        ({"forward": way(lag_seconds=10.0)}, "the forward fence took 10.00 s, the limit is below 10 s"),
        ({"reverse": way(slot=SLOT.model_copy(update={"wal_status": "unreserved"}))}, "the reverse slot is unreserved"),
        ({"forward": way(slot=SLOT.model_copy(update={"wal_status": "lost"}))}, "the forward slot is lost"),
        ({"reverse": way(slot=SLOT.model_copy(update={"retained_bytes": 10**10}))}, "holds 10 GB of WAL"),
        ({"probe_seconds": None}, "a synthetic write on the target was not read on the source"),
        ({"probe_seconds": 11.0}, "read after 11.00 s"),
        ({"schema_match": False}, "the two catalogs differ"),
        ({"schema_match": None}, "the two catalogs could not be compared"),
        ({"failing": ("writes: 2 never arrived",)}, "replicate status fails, nothing may: writes: 2 never arrived"),
        ({"verified": None}, "nothing was verified yet; remedy: task-migration verify"),
        ({"verified": replace(VERIFIED, match=False)}, "the last verification found differences"),
        ({"verified": replace(VERIFIED, of_this_copy=False)}, "the last verification began before this copy was complete"),
        ({"verified": replace(VERIFIED, age_seconds=86_400.0)}, "the last verification began 24.0 h ago, the limit is below 24 h (verifyMaxAgeHours)"),
        ({"verified": replace(VERIFIED, age_seconds=-7200.0)}, "the last verification began -2.0 h ago"),
        ({"service": replace(SERVICE, wanted=0)}, "not ready for requests: no task is wanted"),
        ({"service": replace(SERVICE, running=1)}, "1 tasks run, 2 must; mend that, then task-migration canary start-service"),
        ({"service": replace(SERVICE, healthy=0, why=("target is unhealthy",))}, "0 tasks are healthy, 2 must; target is unhealthy"),
        ({"service": replace(SERVICE, rollout="FAILED")}, "its deployment is FAILED, it must be COMPLETED"),
        ({"service": replace(SERVICE, other=("app:1 (task-service:6)", "app:2 (task-service:7)"))}, "it runs app:1 (task-service:6), the stack declares app:2 (task-service:7)"),
        ({"shadowed": Shadowed(None)}, "nobody has compared the two sides' answers yet; remedy: task-migration shadow"),
        ({"shadowed": Shadowed(False, 0.1)}, "the two sides' answers differed when they were compared 0.1 h ago"),
        ({"shadowed": Shadowed(True, 24.0)}, "the two sides' answers were compared 24.0 h ago, the limit is below 24 h"),
        ({"shadowed": Shadowed(True, -2.0)}, "the two sides' answers were compared -2.0 h ago"),
        ({"shadowed": Shadowed(True, 0.1, False)}, "compared with another task definition than the stack declares"),
        ({"shadowed": Shadowed(True, 0.1, True, False)}, "the two sides' answers were compared before this copy was complete"),
        ({"rollback_seconds": 300.0}, "a rollback would take about 300.0 s, the limit is below 300 s"),
        ({"rollback_seconds": None}, "a rollback would take an unknown time"),
    ],
)  # fmt: skip
def test_each_thing_that_a_rollback_needs_refuses_when_it_is_gone(change: dict[str, Any], said: str) -> None:
    """Prevents a step up to where the way back loses writes or time."""
    decision = ready(replace(GOOD, **change), CONFIG)
    assert decision.verdict == "refused"
    assert len(decision.reasons) == 1
    assert said in decision.reasons[0]
    assert len(decision.findings) == len(ready(GOOD, CONFIG).findings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0, True, "NaN"])
def test_what_is_no_figure_refuses_as_a_missing_one(value: Any) -> None:
    """Prevents a step up where a fence, a write or a slot says NaN, and an estimate that a deployment of NaN seconds makes short."""
    slot = SLOT.model_copy(update={"retained_bytes": value})
    for change in (
        *({"probe_seconds": value}, {"rollback_seconds": value}, {"forward": way(lag_seconds=value)}),
        *({"reverse": way(lag_seconds=value)}, {"reverse": way(slot=slot)}),
    ):
        assert ready(replace(GOOD, **change), CONFIG).verdict == "refused", change
    for name in ("age_seconds", "whole_seconds") if value not in (True, -1.0, "NaN") else ():
        assert ready(replace(GOOD, verified=replace(VERIFIED, **{name: value})), CONFIG).verdict == "refused"
    assert rollback_estimate(value, (20.0,), 40.0) is None
    assert rollback_estimate(0.5, (value, 45.0, value), 40.0) == 86.0
    assert rollback_estimate(0.5, (value,), 40.0) == UNMEASURED_UP + 41.0
    assert history([_begun(0, 5), {**MOVED, "seconds": value}]).ups == ()
    assert history([_begun(0, 5), {**ROUTED, "seconds_of_up": value}]).ups == ()


@given(st.booleans(), st.booleans(), st.floats(-1e6, 1e6), st.floats(0.01, 1000))
def test_a_verification_counts_when_it_matched_is_of_this_copy_and_is_young(
    match: bool, of_this_copy: bool, age: float, hours: float
) -> None:
    """Prevents a rule that one of the three gets round, and a clock that went back from keeping a verdict young for ever."""
    config = MigrationConfig(verify_max_age_hours=hours)
    # Where every row is wanted an incremental one that is young makes the whole one no younger; elsewhere it is enough.
    for whole, ages in ((True, (0.0, age)), (True, (age, 0.0)), (False, (age, 1e9)), (False, (age, 0.0))):
        verdict = ready(replace(GOOD, verified=Verdict(match, of_this_copy, *ages), whole=whole), config).verdict
        assert (verdict == "promote") == (match and of_this_copy and -60 <= age < 3600 * hours)


def test_writes_that_lost_are_counted_and_keep_no_weight_down() -> None:
    """Prevents a promise of nothing lost unsaid whose number nobody reads, and a canary that one conflict stops."""
    decision = ready(replace(GOOD, told=1234), CONFIG)
    assert decision.verdict == "promote"
    assert "1,234 writes lost to others so far, each told in a conflict log" in decision.reasons


@pytest.mark.parametrize(
    "change",
    [{}, {"service": None}, {"shadowed": None}, {"forward": way(slot=None)}],
)
def test_what_is_not_there_to_be_asked_does_not_refuse(change: dict[str, Any]) -> None:
    assert ready(replace(GOOD, **change), CONFIG).verdict == "promote"


def test_the_estimate_takes_the_slowest_deployment_the_whole_drain_and_two_fences() -> None:
    assert rollback_estimate(0.5, (20.0, 45.0, 30.0), 40.0) == 86.0
    assert rollback_estimate(0.5, (), 40.0) == UNMEASURED_UP + 41.0
    assert rollback_estimate(None, (20.0,), 40.0) is None


@given(st.floats(0, 100), st.lists(st.floats(0, 100)), st.floats(0, 100), st.floats(0, 50))
def test_a_slower_part_never_shortens_the_estimate(fence: float, ups: list[float], drain: float, more: float) -> None:
    before = rollback_estimate(fence, ups, drain) or 0.0
    for slower in (
        rollback_estimate(fence + more, ups, drain),
        rollback_estimate(fence, [up + more for up in ups], drain),
        rollback_estimate(fence, ups, drain + more),
    ):
        assert slower is not None
        assert slower >= before


@pytest.mark.parametrize(
    ("current", "wanted", "forced", "verdict"),
    [
        (0, 5, False, "promote"),
        (5, 25, False, "promote"),
        (50, 100, False, "promote"),
        (0, 25, False, "refused"),
        (0, 25, True, "promote"),
        (25, 5, True, "refused"),
        (5, 5, True, "refused"),
        (7, 25, False, "promote"),
    ],
)
def test_only_the_ladders_next_weight_without_force(current: int, wanted: int, forced: bool, verdict: str) -> None:
    decision = check_step(current, wanted, LADDER, forced=forced)
    assert decision.verdict == verdict
    assert (decision.verdict == "promote") or decision.reasons


@given(st.integers(0, 100))
def test_next_weight_rises_until_the_end(current: int) -> None:
    following = next_weight(current, LADDER)
    assert (following is None) == (current >= 100)
    assert following is None or (following > current and following in LADDER)


def _begun(begin: int, to: int, at: str = "t1") -> dict[str, Any]:
    return {"step": "canary", "event": "begun", "from": begin, "to": to, "at": at}


def _decided(decision: str) -> dict[str, Any]:
    return {"step": "canary", "event": "decided", "decision": decision, "reasons": ["because"]}


MOVED = {"step": "canary", "event": "moved", "seconds": 3.0}
BACK = {"step": "rollback", "event": "begun", "reasons": []}
ROUTED = {"step": "rollback", "event": "routed", "seconds_of_up": 2.0}
AT = "2026-11-26T01:00:00+00:00"
DONE = {"step": "rollback", "event": "done", "at": AT}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], History()),
        ([_begun(0, 5)], History((0, 5), None, "t1")),
        ([_begun(0, 5), MOVED], History((0, 5), None, "t1", (3.0,))),
        ([_begun(0, 5), MOVED, _decided("hold")], History((0, 5), None, "t1", (3.0,))),
        ([_begun(0, 5), _decided("refused")], History((0, 5), None, "t1")),
        ([_begun(0, 5), MOVED, _decided("promote")], History(None, None, "t1", (3.0,))),
        ([_begun(0, 5), _decided("promote"), _begun(5, 25, "t2")], History((5, 25), None, "t1")),
        # Killed between the decision and the rollback: it is owed, and nothing goes up before it.
        ([_begun(0, 5), MOVED, _decided("rollback")], History(None, ("because",), "t1", (3.0,))),
        ([_begun(0, 5), _decided("rollback"), BACK, ROUTED], History(None, ("begun",), "t1", (2.0,))),
        ([_begun(0, 5), _decided("rollback"), BACK, DONE], History(back=AT)),
        ([_begun(0, 5), BACK, DONE, _begun(0, 5, "t9")], History((0, 5), None, "t9", back=AT)),
    ],
)
def test_the_journal_tells_what_was_left(events: list[dict[str, Any]], expected: History) -> None:
    """Prevents a step up while a rollback is owed, and one that forgets where it came from."""
    assert history(events) == expected


def test_no_step_up_while_cookies_of_before_the_rollback_count() -> None:
    """Prevents half of the users on the Task Service at 5 %, right after a rollback from 50 %."""
    back, at = History(back=AT), datetime.fromisoformat(AT)
    assert History().bound(60, at) is None
    assert back.bound(0, at) is None
    assert back.bound(60, at + timedelta(seconds=60)) is None
    text = back.bound(60, at + timedelta(seconds=18))
    assert text is not None
    assert "by a cookie that counts for 42 s more (canaryStickySeconds 60); step again after that" in text
