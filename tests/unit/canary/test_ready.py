"""No weight goes up unless a rollback from there would keep every write in time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import MigrationConfig
from scripts.canary.gates import Decision
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
VERIFIED = Verdict(match=True, of_this_copy=True, age_seconds=5400.0, whole_seconds=7200.0)
GOOD = Readiness(WAY, WAY, 0.1, True, (), 3, VERIFIED, SERVICE, 60.0, Shadowed(True, 23.9))


def slot(**changes: Any) -> SlotState:
    return SLOT.model_copy(update=changes)


def test_a_step_that_may_go_says_each_thing_that_it_rests_on() -> None:
    """Prevents a promotion that names a figure nobody measured, or leaves out one that it needs."""
    reverse = way(lag_seconds=9.994, slot=slot(wal_status="extended", retained_bytes=9_987_654_321))
    seen = replace(GOOD, forward=way(slot=None), reverse=reverse, probe_seconds=0.25, rollback_seconds=299.94)
    seen = replace(seen, verified=replace(VERIFIED, age_seconds=86_221.0))
    decision = ready(seen, CONFIG)
    assert (decision.verdict, {one.state for one in decision.findings}) == ("promote", {"good"})
    assert decision.reasons == tuple(one.text for one in decision.findings)
    assert [(one.rule, one.text) for one in decision.findings] == [
        ("forward direction", "the forward direction runs"),
        ("forward fence", "the forward fence took 0.10 s, below 10 s"),
        ("forward slot", "the forward slot is not ours to hold, 0 GB of WAL held"),
        ("reverse direction", "the reverse direction runs"),
        ("reverse fence", "the reverse fence took 9.99 s, below 10 s"),
        ("reverse slot", "the reverse slot is extended, 9.99 GB of WAL held"),
        ("synthetic write", "a synthetic write on the target was read on the source after 0.25 s"),
        ("schema", "the two catalogs agree"),
        ("status", "nothing else of replicate status fails"),
        ("lost writes", "3 writes lost to others so far, each told in a conflict log"),
        ("verification", "both sides were found equal 24.0 h ago, below 24 h"),
        ("shadow reads", "both sides' answers were the same 23.9 h ago"),
        ("service", "the Task Service serves: 2 healthy tasks"),
        ("rollback time", "a rollback would take about 299.9 s, below 300 s"),
    ]


def test_what_took_no_time_is_told_so() -> None:
    told = ready(replace(GOOD, reverse=way(lag_seconds=0.0), probe_seconds=0.0, rollback_seconds=0.0), CONFIG).reasons
    assert {"the reverse fence took 0.00 s, below 10 s", "a rollback would take about 0.0 s, below 300 s"} <= {*told}
    assert "a synthetic write on the target was read on the source after 0.00 s" in told


#: What a rollback needs and is just there no more: the change, the one rule that refuses, and what it says.
GONE: list[tuple[dict[str, Any], str, str]] = [
    ({"reverse": way(running=False, reason="disabled")}, "reverse direction", "the reverse direction of replication does not run (disabled); remedy"),
    ({"forward": way(running=False)}, "forward direction", "the forward direction of replication does not run; remedy"),
    ({"reverse": way(lag_seconds=None)}, "reverse fence", "the reverse fence did not return, the limit is below 10 s"),
    ({"forward": way(lag_seconds=10.0)}, "forward fence", "the forward fence took 10.00 s, the limit is below 10 s"),
    ({"reverse": way(slot=slot(wal_status="unreserved"))}, "reverse slot", "the reverse slot is unreserved and holds 1e-06 GB of WAL"),
    ({"forward": way(slot=slot(wal_status="lost"))}, "forward slot", "the forward slot is lost"),
    ({"reverse": way(slot=slot(retained_bytes=10**10))}, "reverse slot", "is reserved and holds 10 GB of WAL, it must be reserved or extended and below 10 GB"),
    ({"reverse": way(slot=slot(retained_bytes=None))}, "reverse slot", "holds an unknown amount of WAL"),
    ({"probe_seconds": None}, "synthetic write", "a synthetic write on the target was not read on the source, the limit is below 10 s"),
    ({"probe_seconds": 10.0}, "synthetic write", "read after 10.00 s"),
    ({"schema_match": False}, "schema", "the two catalogs differ"),
    ({"schema_match": None}, "schema", "the two catalogs could not be compared"),
    ({"failing": ("writes: 2 never arrived", "and more")}, "status", "replicate status fails, nothing may: writes: 2 never arrived; and more"),
    ({"verified": None}, "verification", "nothing was verified yet; remedy: task-migration verify"),
    ({"verified": replace(VERIFIED, match=False)}, "verification", "the last verification found differences"),
    ({"verified": replace(VERIFIED, of_this_copy=False)}, "verification", "the last verification began before this copy was complete"),
    ({"verified": replace(VERIFIED, age_seconds=86_400.0)}, "verification", "the last verification began 24.0 h ago, the limit is below 24 h (verifyMaxAgeHours)"),
    ({"verified": replace(VERIFIED, age_seconds=3_600_000.0)}, "verification", "the last verification began 1,000.0 h ago"),
    ({"verified": replace(VERIFIED, age_seconds=-7200.0)}, "verification", "the last verification began -2.0 h ago"),
    ({"verified": replace(VERIFIED, whole_seconds=86_400.0)}, "verification", "the last verification of every row began 24.0 h ago, the limit is below 24 h (verifyMaxAgeHours)"),
    ({"verified": replace(VERIFIED, whole_seconds=3_600_000.0)}, "verification", "the last verification of every row began 1,000.0 h ago"),
    ({"service": replace(SERVICE, wanted=0)}, "service", "not ready for requests: no task is wanted"),
    ({"service": replace(SERVICE, running=1)}, "service", "1 tasks run, 2 must; mend that, then task-migration canary start-service"),
    ({"service": replace(SERVICE, healthy=0, why=("target is unhealthy",))}, "service", "0 tasks are healthy, 2 must; target is unhealthy"),
    ({"service": replace(SERVICE, rollout="FAILED")}, "service", "its deployment is FAILED, it must be COMPLETED"),
    ({"service": replace(SERVICE, other=("app:1 (task-service:6)", "app:2 (task-service:7)"))}, "service", "it runs app:1 (task-service:6), the stack declares app:2 (task-service:7)"),
    ({"shadowed": Shadowed(None)}, "shadow reads", "nobody has compared the two sides' answers yet; remedy: task-migration shadow"),
    ({"shadowed": Shadowed(False, 0.1)}, "shadow reads", "the two sides' answers differed when they were compared 0.1 h ago"),
    ({"shadowed": Shadowed(True, 24.0)}, "shadow reads", "the two sides' answers were compared 24.0 h ago, the limit is below 24 h"),
    ({"shadowed": Shadowed(True, -2.0)}, "shadow reads", "the two sides' answers were compared -2.0 h ago"),
    ({"shadowed": Shadowed(True, 0.1, False)}, "shadow reads", "compared with another task definition than the stack declares"),
    ({"shadowed": Shadowed(True, 0.1, True, False)}, "shadow reads", "the two sides' answers were compared before this copy was complete"),
    ({"not_switched": ("the scheduler writes on the monolith",)}, "scheduler", "the scheduler writes on the monolith"),
    ({"rollback_seconds": 300.0}, "rollback time", "a rollback would take about 300.0 s, the limit is below 300 s"),
    ({"rollback_seconds": None}, "rollback time", "a rollback would take an unknown time"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "rule", "said"), GONE)
def test_each_thing_that_a_rollback_needs_refuses_when_it_is_gone(change: dict[str, Any], rule: str, said: str) -> None:
    """Prevents a step up to where the way back loses writes or time."""
    decision = ready(replace(GOOD, **change), CONFIG)
    assert decision.verdict == "refused"
    (bad,) = [one for one in decision.findings if one.state != "good"]
    assert (bad.rule, bad.state, decision.reasons) == (rule, "breach", (bad.text,))
    assert said in bad.text
    # Each other rule is told still.
    assert {one.rule for one in decision.findings} == {one.rule for one in ready(GOOD, CONFIG).findings} | {rule}


@pytest.mark.parametrize(
    "change",
    [
        {"verified": replace(VERIFIED, age_seconds=-60.0, whole_seconds=86_399.0)},
        {"verified": replace(VERIFIED, age_seconds=86_399.0, whole_seconds=-60.0)},
        {"verified": replace(VERIFIED, whole_seconds=1e9), "whole": False},
        {"shadowed": Shadowed(True, -1 / 60)},
        {"service": replace(SERVICE, running=3, healthy=4)},
        # Outside of AWS, or where nobody asks.
        {"service": None},
        {"shadowed": None},
    ],
)
def test_what_is_there_still_or_cannot_be_asked_does_not_refuse(change: dict[str, Any]) -> None:
    """Prevents a ladder that stands as a clock was set back by a minute, or a third task runs."""
    assert ready(replace(GOOD, **change), CONFIG).verdict == "promote"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0, True, "NaN"])
def test_what_is_no_figure_refuses_as_a_missing_one(value: Any) -> None:
    """Prevents a step up where a fence, a write or a slot says NaN, and an estimate that a deployment of NaN seconds makes short."""
    for change in (
        *({"probe_seconds": value}, {"rollback_seconds": value}, {"forward": way(lag_seconds=value)}),
        *({"reverse": way(lag_seconds=value)}, {"reverse": way(slot=slot(retained_bytes=value))}),
    ):
        assert ready(replace(GOOD, **change), CONFIG).verdict == "refused", change
    for name in ("age_seconds", "whole_seconds") if value not in (True, -1.0, "NaN") else ():
        assert ready(replace(GOOD, verified=replace(VERIFIED, **{name: value})), CONFIG).verdict == "refused"
    assert rollback_estimate(value, (20.0,), 40.0) is None
    assert rollback_estimate(0.5, (value, 45.0, value), 40.0) == 86.0
    assert rollback_estimate(0.5, (value,), 40.0) == UNMEASURED_UP + 41.0


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
    ("current", "wanted", "forced", "refused"),
    [
        (0, 5, False, None),
        (5, 25, False, None),
        (50, 100, False, None),
        (7, 25, False, None),
        (0, 25, True, None),
        (5, 10, True, None),
        (0, 25, False, "from 0 % the ladder's next weight is 5 %, not 25 %; use it, or --force with --reason"),
        (5, 10, False, "from 5 % the ladder's next weight is 25 %, not 10 %; use it, or --force with --reason"),
        (25, 5, True, "the weight is 25 %, 5 % is not above it; the way down is: task-migration rollback"),
        (5, 5, True, "the weight is 5 %, 5 % is not above it; the way down is: task-migration rollback"),
    ],
)
def test_only_the_ladders_next_weight_without_force(
    current: int, wanted: int, forced: bool, refused: str | None
) -> None:
    found = check_step(current, wanted, LADDER, forced=forced)
    assert found == (Decision("refused", (refused,)) if refused else Decision("promote", ()))


@pytest.mark.parametrize(("current", "following"), [(0, 5), (4, 5), (5, 25), (26, 50), (99, 100), (100, None)])
def test_next_weight_rises_until_the_end(current: int, following: int | None) -> None:
    assert next_weight(current, LADDER) == following
