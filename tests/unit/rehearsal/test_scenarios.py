"""A scenario's verdict passes only where the product reacted: each thing that is late, wrong or missing fails it, by its own criterion."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from scripts.rehearsal.documents import Criterion, LedgerCheck, ScenarioOutcome, Users
from scripts.rehearsal.plan import ScenarioName
from scripts.rehearsal.scenarios.judge import BUSY, DETECTED, OVER, Must, judge
from scripts.rehearsal.scenarios.table import SCENARIOS, listed

MINUTE = 2.0
MUST = Must(frozenset({"rollback"}), "error rate", periods=3, over=60.0, codes=frozenset({500}))
LEDGER = LedgerCheck(total=300, lost=0, told=4, unknown=2, lost_items=[])
USERS = Users(requests=900, failed=70, codes={"500": 70}, p95_ms=90, requests_after=80, failed_after=0)
REACTED = ScenarioOutcome(
    name="bad-release", what="", must="", at=1e9, detected=9.0, by="error rate is 52 %", decided=9.1, decision="rollback", routed=14.0,
    over=20.0, outcome="all requests on the monolith", users=USERS, shown=[Criterion(name="shown", passed=True, evidence="")],
)  # fmt: skip
DECIDED = "decided as it should"
SAW, SERVED, KEPT = "users saw nothing else", "users are served when it is over", "no acknowledged write lost unsaid"


def failed(outcome: ScenarioOutcome, ledger: LedgerCheck | None = LEDGER, must: Must = MUST) -> list[str]:
    return [one.name for one in judge(outcome, must, ledger, MINUTE) if not one.passed]


def test_a_product_that_reacts_passes() -> None:
    assert failed(REACTED) == []


@pytest.mark.parametrize(
    ("criterion", "changed"),
    [
        (DETECTED, {"detected": MUST.within(MINUTE) + 0.1}),
        (DETECTED, {"detected": None}),
        (DETECTED, {"by": "P95 is 900 ms"}),
        (DECIDED, {"decision": "promote"}),
        (DECIDED, {"decision": "hold"}),
        (DECIDED, {"decided": None}),
        (OVER, {"over": 60.1}),
        (OVER, {"over": None}),
        ("shown", {"shown": [Criterion(name="shown", passed=False, evidence="")]}),
    ],
)
def test_what_is_late_wrong_or_missing_fails(criterion: str, changed: dict[str, Any]) -> None:
    """Prevents a verdict that passes a product that did not react."""
    assert failed(REACTED.model_copy(update=changed)) == [criterion]


@pytest.mark.parametrize(
    ("criterion", "changed"),
    [
        (SAW, {"codes": {"500": 70, "502": 1}}),
        (SAW, {"requests": 0, "codes": {}}),
        (SERVED, {"failed_after": 1}),
        (SERVED, {"requests_after": 0}),
    ],
)
def test_what_users_saw_counts(criterion: str, changed: dict[str, Any]) -> None:
    """Prevents a fault that is over in the report and not for users, or a rehearsal without any."""
    assert failed(REACTED.model_copy(update={"users": USERS.model_copy(update=changed)})) == [criterion]


@pytest.mark.parametrize(("criterion", "changed"), [(DETECTED, {"detected": 99.0}), (OVER, {"over": 99.0})])
def test_what_is_late_alone_is_not_judged_on_a_busy_machine(criterion: str, changed: dict[str, Any]) -> None:
    """Prevents a product that is blamed for what others took of the machine, and one that saw nothing excused by it."""

    def found(busy: bool, **also: Any) -> list[tuple[str, bool]]:
        outcome = REACTED.model_copy(update={**changed, **also})
        return [(one.name, one.judged) for one in judge(outcome, MUST, LEDGER, MINUTE, busy=busy) if not one.passed]

    assert found(busy=True) == [(criterion, False)]
    assert found(busy=False) == [(criterion, True)]
    assert (DETECTED, True) in found(busy=True, by="P95 is 900 ms")
    assert (OVER, True) in found(busy=True, over=None)


@pytest.mark.parametrize(
    "ledger", [None, LEDGER.model_copy(update={"lost": 1}), LEDGER.model_copy(update={"total": 0})]
)
def test_a_write_that_is_lost_unsaid_fails(ledger: LedgerCheck | None) -> None:
    assert failed(REACTED, ledger) == [KEPT]


def test_a_limit_is_of_the_gates_own_periods() -> None:
    """Prevents limits that pass whatever comes: 3 bad periods, the one that the fault came into, their lateness and a look."""
    assert MUST.within(MINUTE) == BUSY + 12.0
    assert Must(frozenset(), "", seconds=5.0).within(MINUTE) == BUSY + 5.0


def test_every_name_has_a_scenario_that_says_what_happens_and_what_must_be_seen() -> None:
    assert set(SCENARIOS) == set(get_args(ScenarioName))
    assert all(one.what and one.must for one in listed().scenarios)
