"""Whether others kept the machine busy, and what that may explain: never a loss, never on a quiet machine, never a pass."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config_gates import GateLimits
from scripts.canary.documents import CanaryStep, Rollback
from scripts.canary.figures import Observed, Period, Traffic
from scripts.canary.gates import Finding, State, decide
from scripts.cli import rehearse_text
from scripts.rehearsal import criteria, machine, waits
from scripts.rehearsal.criteria import Evidence, busy, held_up, verdict
from scripts.rehearsal.documents import Criterion, LedgerCheck, MachineShare, ScenarioOutcome, Users
from scripts.rehearsal.live import LiveView
from scripts.rehearsal.machine import Look, share
from scripts.rehearsal.scenarios.judge import Must, judge
from scripts.rehearsal.steps import Ran, Steps
from scripts.replication.documents import Waited
from scripts.support.errors import DataDiffer, MigrationError, TimedOut
from scripts.verify.documents import Verification
from tests.unit.rehearsal.test_report import LOAD, made, partly, proven

#: Two cores: CPU seconds of the rehearsal, of others and of nobody in one look of two seconds.
QUIET, ALONE, CROWDED, OVER = (2.2, 0.1, 1.7), (3.9, 0.1, 0.0), (1.8, 2.2, 0.0), (1.8, 1.0, 1.2)
BUSY = MachineShare(
    seconds=60.0, cores=2, ours_percent=45.0, others_percent=55.0, idle_percent=0.0, throttled_percent=0.0, pressure_percent=None,
    timer_late_ms=80.0, users_late_ms=240.0, busy_percent=100.0, quiet_p95_ms=None,
)  # fmt: skip
STILL = BUSY.model_copy(
    update={
        "others_percent": 2.0,
        "idle_percent": 50.0,
        "busy_percent": 0.0,
        "quiet_p95_ms": 40.0,
        "timer_late_ms": 1.0,
    }
)


def looks(*parts: tuple[float, float, float], **waits: Any) -> list[Look]:
    """Two seconds each, counted up."""
    made = [Look(1000.0, 2, 0.0, 0.0, 0.0, waiting=waits.get("waiting"))]
    for ours, others, idle in parts:
        last = made[-1]
        waited = {name: value for name, value in waits.items() if name not in ("waiting", "throttled")}
        more = {name: getattr(last, name) + value for name, value in waits.items() if name in ("waiting", "throttled")}
        made.append(
            Look(last.at + 2, 2, last.ours + ours, last.used + ours + others, last.idle + idle, **waited, **more)
        )
    return made


@pytest.mark.parametrize(
    ("part", "waited", "held_up"),
    [
        (QUIET, {}, False),
        (CROWDED, {}, True),
        # All cores are the rehearsal's own, the product's among them: no excuse, however late its users come.
        (ALONE, {"late": (200.0,) * 20, "users_late": 500.0, "waiting": 2.0}, False),
        # Others have a part, and nobody waits for it.
        (OVER, {"late": (1.0,) * 20, "users_late": 5.0, "waiting": 0.2}, False),
        (OVER, {"late": (40.0,) * 20}, True),
        (OVER, {"late": (1.0,) * 19 + (900.0,)}, False),  # one late wake of twenty
        (OVER, {"users_late": 40.0}, True),
        (OVER, {"waiting": 1.5}, True),
        # Late without anybody else: a slow disk, a collection, the product's own load.
        (QUIET, {"late": (200.0,) * 20, "users_late": 500.0}, False),
        # A container's quota.
        (QUIET, {"throttled": 0.5}, True),
        (QUIET, {"throttled": 0.1}, False),
    ],
)
def test_the_machine_was_busy_where_others_had_the_cores_and_somebody_waited(
    part: tuple[float, float, float], waited: dict[str, Any], held_up: bool
) -> None:
    found = share(looks(part, part, part, **waited))
    assert found is not None
    assert found.busy_percent == (100.0 if held_up else 0.0)
    assert found.seconds == 6.0
    assert found.ours_percent + found.others_percent + found.idle_percent == pytest.approx(100.0, abs=0.2)


def test_a_share_counts_the_time_that_was_busy_and_the_latency_of_the_time_that_was_not() -> None:
    """Prevents a slow product that is excused by a busy moment: its quiet time shows it."""
    assert share(looks()) is None
    found = share(looks(QUIET, CROWDED, QUIET, QUIET))
    assert found is not None
    assert found.busy_percent == 25.0
    made = looks(*[QUIET] * 10, CROWDED, *[QUIET] * 10, p95_ms=700.0)
    found = share(made)
    assert found is not None
    assert found.quiet_p95_ms == 700.0
    # The newest requests of the first quiet looks are those of the busy ones.
    found = share(looks(CROWDED, *[QUIET] * (machine.RECENT_LOOKS - 1), p95_ms=700.0))
    assert found is not None
    assert found.quiet_p95_ms is None


def spoilt(**change: Any) -> Evidence:
    evidence = proven()
    for name, value in change.items():
        setattr(evidence, name, value)
    return evidence


def load(**change: Any) -> Any:
    return LOAD.model_copy(update=change)


SLOW, WEAK = load(p95_ms=900), load(rate=30.0)
LOST = LedgerCheck(total=300, lost=1, told=0, unknown=0, lost_items=[])
UNEQUAL = partly(Verification, match=False, tables=[])
LATE_BACK = partly(Rollback, from_=5, seconds=400.0, limit_seconds=300.0, within_limit=False)
ENDED: dict[str, Any] = {"failure": "a time-out", "ledger": None, "finalize": None, "verify": None}
FAILED, PASSED, NOT_JUDGED = (False, True), (True, True), (False, False)


@pytest.mark.parametrize(
    ("change", "quiet", "crowded"),
    [
        ({}, PASSED, NOT_JUDGED),
        # Time alone.
        ({"load": SLOW}, FAILED, NOT_JUDGED),
        ({"load": WEAK}, FAILED, NOT_JUDGED),
        ({"rollback": LATE_BACK}, FAILED, NOT_JUDGED),
        # What ended by a time-out or a gate's latency, with all that was not come to.
        ({**ENDED, "by_machine": True}, FAILED, NOT_JUDGED),
        ({**ENDED, "by_machine": True, "rollback": None, "rollback_ledger": None, "steps": [], "changed": [], "periods": 0},
         FAILED, NOT_JUDGED),
        # The same, ended by something else.
        (ENDED, FAILED, FAILED),
        # No wait explains these.
        ({"ledger": LOST}, FAILED, FAILED),
        ({"rollback_ledger": LOST}, FAILED, FAILED),
        ({"rollback_ledger": LOST, "rollback": LATE_BACK}, FAILED, FAILED),
        ({"verify": UNEQUAL}, FAILED, FAILED),
        ({"load": load(failed=1)}, FAILED, FAILED),
        ({"load": load(failed=1, p95_ms=900)}, FAILED, FAILED),
        ({"load": load(failed=100, p95_ms=900)}, FAILED, FAILED),
        ({"load": load(users=9, rate=30.0)}, FAILED, FAILED),
        ({"changed": [["live", "database"]]}, FAILED, FAILED),
        ({"differing": ["the monolith"]}, FAILED, FAILED),
        # A time-out on a busy machine hides no loss that was found before it.
        ({**ENDED, "by_machine": True, "rollback_ledger": LOST}, FAILED, FAILED),
        ({**ENDED, "by_machine": True, "load": load(failed=1)}, FAILED, FAILED),
        ({**ENDED, "by_machine": True, "verify": UNEQUAL}, FAILED, FAILED),
    ],
)  # fmt: skip
def test_a_busy_machine_takes_a_verdict_of_time_back_and_no_other(
    change: dict[str, Any], quiet: tuple[bool, bool], crowded: tuple[bool, bool]
) -> None:
    for measured, wanted in ((STILL, quiet), (None, quiet), (BUSY, crowded)):
        # What ended the run is only ever the machine's while it was busy.
        evidence = spoilt(**{**change, "by_machine": change.get("by_machine", False) and measured is BUSY})
        evidence.machine = measured
        document = made(evidence)
        assert (document.passed, document.judged) == wanted
        said = rehearse_text.report(document).verdict
        assert said.startswith(
            {PASSED: "Passed: ", FAILED: "NOT PASSED: ", NOT_JUDGED: "Not judged: the machine was busy"}[wanted]
        )


def test_a_product_that_is_slow_in_quiet_moments_too_failed() -> None:
    """Prevents the excuse: a machine that was busy for a third of the time, and a service that is slow all the time."""
    for quiet_p95, wanted in ((620.0, FAILED), (500.0, FAILED), (60.0, NOT_JUDGED), (None, NOT_JUDGED)):
        evidence = spoilt(load=SLOW, machine=BUSY.model_copy(update={"busy_percent": 33.0, "quiet_p95_ms": quiet_p95}))
        document = made(evidence)
        assert (document.passed, document.judged) == wanted


def test_a_busy_moment_explains_a_tail_and_no_weak_load_and_leaves_a_good_run_passed() -> None:
    moment = BUSY.model_copy(update={"busy_percent": 7.0})
    for change, wanted in (({}, PASSED), ({"load": SLOW}, NOT_JUDGED), ({"load": WEAK}, FAILED)):
        document = made(spoilt(**change, machine=moment))
        assert (document.passed, document.judged) == wanted
    # From a tenth of the time on it may be why a tenth of the requests were not tried.
    for percent, wanted in ((9.9, FAILED), (10.0, NOT_JUDGED)):
        document = made(spoilt(load=WEAK, machine=BUSY.model_copy(update={"busy_percent": percent})))
        assert (document.passed, document.judged) == wanted


def test_good_figures_of_a_load_that_came_in_time_are_good_on_a_busy_machine_too() -> None:
    for late, wanted in ((60.0, PASSED), (199.0, PASSED), (200.0, NOT_JUDGED), (None, PASSED)):
        document = made(spoilt(machine=BUSY.model_copy(update={"users_late_ms": late})))
        assert (document.passed, document.judged) == wanted


#: Of rehearsals that were run: beside seven engineers' tests on two cores, beside some of them, and on the same cores with less of both.
RECORDED = {
    "load 25": (
        load(p95_ms=2500, rate=39.5),
        MachineShare(
            seconds=415.3, cores=2, ours_percent=27.9, others_percent=72.1, idle_percent=0.0, throttled_percent=0.0,
            pressure_percent=100.0, timer_late_ms=57.9, users_late_ms=412.8, busy_percent=99.9, quiet_p95_ms=None,
        ),
        NOT_JUDGED,
    ),
    "load 5": (
        load(p95_ms=48, rate=49.6),
        MachineShare(
            seconds=293.7, cores=2, ours_percent=50.2, others_percent=40.7, idle_percent=9.1, throttled_percent=0.0,
            pressure_percent=67.5, timer_late_ms=9.3, users_late_ms=68.8, busy_percent=72.7, quiet_p95_ms=18.6,
        ),
        PASSED,
    ),
    "a quiet step of it": (
        load(p95_ms=900, rate=49.6),
        MachineShare(
            seconds=24.7, cores=2, ours_percent=49.0, others_percent=15.5, idle_percent=35.5, throttled_percent=0.0,
            pressure_percent=35.2, timer_late_ms=1.8, users_late_ms=4.0, busy_percent=7.7, quiet_p95_ms=921.0,
        ),
        FAILED,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDED)
def test_machines_as_they_were_measured(name: str) -> None:
    figures, machine_then, wanted = RECORDED[name]
    document = made(spoilt(load=figures, machine=machine_then))
    assert (document.passed, document.judged) == wanted


def criterion() -> st.SearchStrategy[Criterion]:
    return st.builds(
        lambda passed, judged: Criterion(name="x", passed=passed, evidence="y", judged=passed or judged),
        st.booleans(),
        st.booleans(),
    )


def measured() -> st.SearchStrategy[MachineShare | None]:
    def made(percent: float, late: float) -> MachineShare:
        return BUSY.model_copy(update={"busy_percent": percent, "users_late_ms": late})

    return st.none() | st.builds(made, st.floats(0.0, 100.0), st.floats(0.0, 400.0))


@given(st.lists(criterion(), min_size=1), measured(), measured())
def test_no_machine_makes_a_failure_better_and_none_but_a_quiet_one_lets_a_run_pass(
    found: list[Criterion], one: MachineShare | None, other: MachineShare | None
) -> None:
    passed, judged = verdict(found, one)
    assert passed <= judged
    assert passed == (all(each.passed for each in found) and not held_up(one))
    assert (not passed and judged) == any(each.judged and not each.passed for each in found)
    # What failed and was judged stays so on any machine.
    if any(each.judged and not each.passed for each in found):
        assert verdict(found, other) == (False, True)
    # One more failure never makes a verdict better.
    worse = verdict([*found, Criterion(name="x", passed=False, evidence="y")], one)
    assert worse == (False, True)


@given(
    st.integers(0, 3), st.integers(0, 3), st.sampled_from([60, 499, 501, 4000]), st.sampled_from([49.0, 44.0]),
    st.integers(0, 2), st.booleans(), measured(),
)  # fmt: skip
def test_a_loss_or_a_failed_request_is_never_excused(
    lost: int, failed: int, p95: int, rate: float, unequal: int, by_machine: bool, seen: MachineShare | None
) -> None:
    evidence = spoilt(
        ledger=LOST.model_copy(update={"lost": lost}),
        load=load(failed=failed, p95_ms=p95, rate=rate),
        machine=seen,
        by_machine=by_machine and busy(seen),
    )
    if unequal:
        evidence.verify = UNEQUAL
    document = made(evidence)
    if lost or failed or unequal:
        assert (document.passed, document.judged) == FAILED
    if not document.judged:
        assert seen is not None
        assert seen.busy_percent >= criteria.TAIL_PERCENT
    if document.passed:
        assert p95 < 500
        assert rate >= 45.0
        assert not held_up(seen)


LIMITS = GateLimits(minimum_requests=5, minimum_period_requests=3, comparison_periods=5)


def observed(ours: Traffic, **more: Any) -> Observed:
    period = {
        "monolith": Traffic(200, 0, 0, 8.0, 20.0, 40.0), "users": Traffic(240, 0, 0, 9.0, 25.0, 45.0), "cpu_percent": 20.0,
        "memory_percent": 30.0, "database_cpu_percent": 20.0, "database_connections": 10.0, "database_free_bytes": 9e10,
        "slot_bytes": 1e6, "replication_seconds": 0.2, "healthy_hosts": 2.0, "balancer_errors": 0,
    }  # fmt: skip
    periods = tuple(Period(60.0 * number, task_service=ours, **{**period, **more}) for number in range(12))
    return Observed(60.0, periods, weight=25)


@pytest.mark.parametrize(
    ("ours", "more", "of_time"),
    [
        (Traffic(60, 0, 0, 200.0, 900.0, 950.0), {}, True),
        (Traffic(60, 0, 0, 90.0, 180.0, 400.0), {}, True),  # slower than the monolith alone
        (Traffic(60, 0, 0, 9.0, 25.0, 45.0), {"cpu_percent": 99.0}, True),
        (Traffic(60, 0, 0, 9.0, 25.0, 45.0), {"database_cpu_percent": 99.0}, True),
        (Traffic(60, 0, 0, 9.0, 25.0, 45.0), {"replication_seconds": 900.0}, True),
        (Traffic(60, 9, 0, 9.0, 25.0, 45.0), {}, False),
        (Traffic(60, 9, 0, 200.0, 900.0, 950.0), {}, False),  # slow and wrong
        (Traffic(60, 0, 15, 9.0, 25.0, 45.0), {}, False),
        (Traffic(60, 0, 0, 9.0, 25.0, 45.0), {"healthy_hosts": 0.0}, False),
        (Traffic(60, 0, 0, 9.0, 25.0, 45.0), {"memory_percent": 99.0}, False),
        (Traffic(60, 0, 0, 9.0, 25.0, 45.0), {"balancer_errors": 90}, False),
    ],
)
def test_a_rollback_is_of_time_only_if_every_rule_that_decided_is(
    ours: Traffic, more: dict[str, Any], of_time: bool
) -> None:
    decision = decide(observed(ours, **more), LIMITS, 720.0)
    assert decision.verdict == "rollback", decision.reasons
    assert waits.explain(decision.findings) is of_time


def test_every_rule_of_the_gate_is_known_to_be_of_time_or_not() -> None:
    """Prevents a new rule of the gate that is excused, or not, by the look of its name."""
    rules = {one.rule for one in decide(observed(Traffic(60, 0, 0, 9.0, 25.0, 45.0)), LIMITS, 720.0).findings}
    rules |= {"no healthy target", "way back"}
    of_time = {
        "P50", "P95", "users' P95", "P99", "CPU", "database CPU", "replication", "requests", "typical P50", "typical P95",
        "users' requests", "users' typical P95", "P99 of the whole watch", "P50 beside the monolith", "P95 beside the monolith",
        "length",
    }  # fmt: skip
    assert {rule for rule in rules if waits.RULES.search(rule)} == of_time


def test_a_hold_is_of_time_where_requests_came_too_seldom_and_a_promotion_never_is() -> None:
    def finding(rule: str, state: State) -> Finding:
        return Finding(rule, state, "x")

    assert waits.explain([finding("requests", "hold"), finding("error rate", "good")])
    assert not waits.explain([finding("requests", "hold"), finding("error rate", "hold")])
    assert waits.explain([finding("P95", "breach"), finding("error rate", "hold")])
    assert not waits.explain([finding("P95", "good")])


def test_what_is_not_to_be_had_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a rehearsal that cannot begin on a kernel without PSI, in a container, or without control groups."""
    for name in ("PRESSURE_FILE", "OWN_CGROUP", "CGROUPS"):
        monkeypatch.setattr(machine, name, tmp_path / "none")
    here = machine.Machine()
    here.start()
    here.stop()
    first = here._looks[0]
    assert (first.waiting, first.throttled) == (None, 0.0)
    assert first.cores >= 1
    assert first.used > first.ours > 0
    group = tmp_path / "groups" / "task"
    group.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/task\n")
    (group / "cpu.stat").write_text("usage_usec 9\nnr_throttled 4\nthrottled_usec 2500000\n")
    (tmp_path / "pressure").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull total=0\n")
    for name, file in (("PRESSURE_FILE", "pressure"), ("OWN_CGROUP", "own"), ("CGROUPS", "groups")):
        monkeypatch.setattr(machine, name, tmp_path / file)
    look = machine.Machine()._look()
    assert (look.waiting, look.throttled) == (1.5, 2.5)


#: Of the rehearsal at a load of 35, whose step to 5 % the gate rolled back.
CROWDED_STEP = BUSY.model_copy(
    update={
        "ours_percent": 20.5,
        "others_percent": 79.5,
        "timer_late_ms": 108.0,
        "users_late_ms": 100.8,
        "seconds": 119.0,
    }
)
SLOW_USERS = Finding("users' P95", "breach", "users' P95 is 4490 ms in 3 of 3 periods, the limit is below 500 ms")
ERRORS = Finding("error rate", "breach", "error rate is 9 % in 3 of 3 periods, the limit is below 1 %")


@pytest.mark.parametrize(
    ("findings", "measured", "verdict_of_run"),
    [
        ([SLOW_USERS], CROWDED_STEP, NOT_JUDGED),
        ([SLOW_USERS], STILL, FAILED),
        ([SLOW_USERS], None, FAILED),
        ([SLOW_USERS, ERRORS], CROWDED_STEP, FAILED),
        ([ERRORS], CROWDED_STEP, FAILED),
    ],
)
def test_a_step_rolled_back_for_latency_is_the_machines_only_while_it_was_busy(
    monkeypatch: pytest.MonkeyPatch,
    findings: list[Finding],
    measured: MachineShare | None,
    verdict_of_run: tuple[bool, bool],
) -> None:
    """Prevents a rollback that is blamed on the Task Service beside two other programs, and a slow service that blames the machine."""
    now = SimpleNamespace(share=lambda since=0.0: measured)
    nothing: dict[str, Any] = {"share": {}, "share_of_new": {}}
    bed: Any = SimpleNamespace(
        machine=now, plan=SimpleNamespace(watch=10.0), stats=lambda *_: nothing, task_group="task",
        load=SimpleNamespace(stale_reads=list),
    )  # fmt: skip
    steps = Steps(bed, LiveView(lambda moment: None))
    back = partly(
        CanaryStep, from_=0, to=0, decision="rollback", reasons=[one.text for one in findings], seconds=73.6, findings=findings,
        changed=["live"], evidence=None,
    )  # fmt: skip
    monkeypatch.setattr(steps, "command", lambda *_, **__: back)
    with pytest.raises(MigrationError, match="the step to 5 % was not promoted: rollback") as caught:
        steps.raise_to(5)
    steps.failed(caught.value)
    steps.evidence.machine = measured
    document = made(steps.evidence)
    assert (document.passed, document.judged) == verdict_of_run
    assert steps.evidence.steps[0].machine == measured
    (ended,) = (one for one in document.criteria if one.name == "every step ended")
    # What the machine did at that time stands beside the step that it took.
    assert ("others 79.5 %" in ended.evidence) is (verdict_of_run == NOT_JUDGED)


@pytest.mark.parametrize(
    ("error", "measured", "by_machine"),
    [
        (TimedOut("a fence did not return"), BUSY, True),
        (TimedOut("a fence did not return"), STILL, False),
        (TimedOut("a fence did not return"), None, False),
        (DataDiffer("a row differs"), BUSY, False),
        (MigrationError("ended with 1"), BUSY, False),
    ],
)
def test_a_time_out_is_the_machines_only_while_it_was_busy_and_nothing_else_is(
    error: MigrationError, measured: MachineShare | None, by_machine: bool
) -> None:
    bed: Any = SimpleNamespace(machine=SimpleNamespace(share=lambda since=0.0: measured))
    steps = Steps(bed, LiveView(lambda moment: None))
    steps.failed(error)
    assert steps.evidence.by_machine is by_machine


@pytest.mark.parametrize(
    ("said", "by_machine"),
    [
        ("fence from the source: not through after 30 s (the limit)", True),
        ("fence from the source: it cannot come through: the subscription task_service_sub is disabled", False),
    ],
)
def test_a_direction_that_stands_is_not_the_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, by_machine: bool
) -> None:
    """Prevents a switched off direction that is told as lack of time: both end with 12, and one would have stood for ever."""
    bed: Any = SimpleNamespace(machine=SimpleNamespace(share=lambda since=0.0: BUSY))
    steps = Steps(bed, LiveView(lambda moment: None))
    monkeypatch.setattr(steps, "run", lambda *_, **__: Ran(TimedOut.exit_status, b"", said, tmp_path / "log"))
    with pytest.raises(MigrationError) as caught:
        steps.command(Waited, "replicate", "wait")
    steps.failed(caught.value)
    assert steps.evidence.by_machine is by_machine


@pytest.mark.parametrize(
    ("change", "busy_then", "expected"),
    [
        ({}, False, PASSED),
        ({}, True, PASSED),
        ({"detected": 400.0}, False, FAILED),
        ({"detected": 400.0}, True, NOT_JUDGED),
        ({"over": 400.0}, True, NOT_JUDGED),
        ({"over": 400.0}, False, FAILED),
        # Late is one thing, and never, by something else or otherwise decided are others.
        ({"detected": None}, True, FAILED),
        ({"over": None}, True, FAILED),
        ({"by": "something else", "detected": 400.0}, True, FAILED),
        ({"decision": "promote", "over": 400.0}, True, FAILED),
    ],
)
def test_a_scenario_that_came_right_but_late_on_a_busy_machine_is_not_judged(
    change: dict[str, Any], busy_then: bool, expected: tuple[bool, bool]
) -> None:
    must = Must(frozenset({"rollback"}), "error rate", seconds=10.0)
    users = Users(requests=900, failed=0, codes={}, p95_ms=20, requests_after=300, failed_after=0)
    outcome = ScenarioOutcome(
        name="x", what="", must="", at=1.0, detected=2.0, by="error rate is 9 %", decided=3.0, decision="rollback", routed=4.0,
        over=5.0, outcome="back", users=users, shown=[],
    ).model_copy(update=change)  # fmt: skip
    found = judge(outcome, must, LOST.model_copy(update={"lost": 0}), 2.0, busy=busy_then)
    timed = [one for one in found if "time" in one.name or one.name.startswith(("decided", "no ack"))]
    assert verdict(timed, None) == expected
