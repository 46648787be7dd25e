"""What goes wrong on a night, on one rehearsal: how soon the product sees it, by which figure, what it does, what users saw; and that
each verdict fails where the product does not react. What each came to is kept in ``scenarios.jsonl``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from components.config_gates import GateLimits
from scripts.canary.documents import CanaryStep
from scripts.canary.gates import decide
from scripts.rehearsal.live import LiveView
from scripts.rehearsal.plan import Plan, ScenarioName
from scripts.rehearsal.scenarios.night import Night
from scripts.rehearsal.scenarios.play import play
from scripts.rehearsal.scenarios.table import SCENARIOS
from scripts.rehearsal.steps import Steps
from scripts.rehearsal.testbed import PATIENT
from scripts.rehearsal.testbed import Testbed as Bed

#: The first test starts all of it: a dozen commands, each a process.
pytestmark = pytest.mark.timeout(400)
#: Of a counterproof: limits that nothing reaches.
OUT = {
    "blind_periods": 60, "window_periods": 60, "error_rate_percent": 101.0, "users_error_rate_percent": 101.0, "p99_ms": 1e9,
    "balancer_error_percent": 1e9, "worse_errors_percent": 101.0, "worse_refusals_percent": 101.0, "replication_lag_seconds": 1e9, "minimum_requests": 1, "minimum_period_requests": 3,
    "database_free_storage_gb": 0.1, "tail_requests": 20,
}  # fmt: skip


def unjudged(document: CanaryStep, **limits: float) -> str:
    """What the very same figures would have come to without the limits that saw the fault, or with these ``limits`` alone."""
    assert document.evidence is not None
    observed = replace(document.evidence, unserved_seconds=0.0, halted=None)
    patient = GateLimits.model_validate(PATIENT)
    return decide(observed, patient.model_copy(update={**OUT, **limits}), observed.watched_seconds).verdict


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Small tables, a moderate load, native replication; nothing is copied yet."""
    plan = Plan(
        rows=300, users=40, rate=40.0, watch=10.0, seed=1, engine="embedded", output=tmp_path_factory.mktemp("night") / "out",
        scenario="copy-killed",
    )  # fmt: skip
    with Bed(plan) as bed:
        steps = Steps(bed, LiveView(lambda moment: None))
        bed.prepare(lambda text: None)
        steps.appoint_operator()
        steps.start_service()
        bed.start_load()
        yield Night(steps)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_product_reacts_as_its_users_need(night: Night, name: ScenarioName) -> None:
    """Prevents a fault that is seen late, by the wrong figure or not at all; a wrong decision; a write that is lost unsaid."""
    begun = time.monotonic()
    night.steps.evidence.failure = None
    outcome, criteria = play(night, name)
    kept = {"seconds": round(time.monotonic() - begun, 1), **outcome.plain()}
    with (night.bed.directory / "scenarios.jsonl").open("a") as file:
        file.write(json.dumps({**kept, "criteria": [one.plain() for one in criteria]}, ensure_ascii=False) + "\n")
    assert night.steps.evidence.failure is None
    assert [f"{one.name}: {one.evidence}" for one in criteria if one.judged and not one.passed] == []
    document = night.found.document
    if outcome.decision == "rollback" and document is not None and document.evidence is not None:
        assert unjudged(document) != "rollback", "these figures roll anybody back"
