"""What goes wrong on a night, in a rehearsal's machinery: how soon the canary sees it, by which figure, what it does, and what users saw.

One rehearsal for all of them; its scheduler's hour makes that fault the last one. What each came to is kept in ``faults.jsonl``.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config import PROJECT
from components.config_gates import GateLimits
from scripts.canary.documents import CanaryRun, CanaryStep, Rollback
from scripts.canary.gates import decide
from scripts.copy.documents import Copy
from scripts.rehearsal.emulated.metrics import FAULTY
from scripts.rehearsal.live import LiveView
from scripts.rehearsal.plan import Plan
from scripts.rehearsal.steps import Steps
from scripts.rehearsal.testbed import PATIENT
from scripts.rehearsal.testbed import Testbed as Bed
from scripts.replication.documents import Started
from scripts.replication.writers import BOTH_SIDES
from scripts.schema.documents import SchemaApplied
from scripts.support.errors import Refused
from scripts.support.events import CanaryEvent, RollbackEvent
from scripts.support.events import Step as StepName
from scripts.support.journal import FileJournal
from scripts.support.wait import wait_until
from scripts.verify.documents import Verification
from tests.journal import last

#: The first test starts all of it: fourteen commands, each a process.
pytestmark = pytest.mark.timeout(600)
#: A watch that breaches ends at once: this long it lasts only where nothing is seen.
WATCH = 30.0
#: Of one that goes on to its end.
SHORT = 6.0
#: Seconds that a machine whose cores are busy may take longer than the rules say.
BUSY = 6.0
#: Of a counterproof: limits that nothing reaches.
OUT = {
    "blind_periods": 60, "window_periods": 60, "error_rate_percent": 101.0, "users_error_rate_percent": 101.0, "p99_ms": 1e9,
    "balancer_error_percent": 1e9, "worse_errors_percent": 101.0,
}  # fmt: skip


class Faulty(Bed):
    """With a Task Service that can be slow."""

    application = "tests.rehearsal.slow_app"


@dataclass
class Seen:
    """What one fault came to; ``seconds`` until the decision."""

    document: CanaryStep
    seconds: float
    #: Since the fault, as the gateway answered: requests, 5xx, codes, latencies.
    users: dict[str, Any]

    @property
    def reasons(self) -> str:
        return "; ".join(self.document.reasons)

    @property
    def codes(self) -> set[int]:
        """Server errors that users got."""
        return {int(code) for code in self.users["codes"] if int(code) >= 500}


class Night:
    """The rehearsal at weight 0, under load, both directions running; each fault raises the weight itself."""

    def __init__(self, bed: Bed, steps: Steps) -> None:
        self.bed, self.steps = bed, steps
        self.journal = FileJournal(bed.state_dir)

    def given(self, **config: Any) -> None:
        """Other values for the commands; of `gates` those that are named, beside what is patient with a busy machine."""
        file = yaml.safe_load(self.bed.stack_file.read_text())
        values = file["config"]
        gates = {**values[f"{PROJECT}:gates"], **PATIENT, "tailRequests": 20, **config.pop("gates", {})}
        file["config"] = {**values, **{f"{PROJECT}:{key}": value for key, value in {**config, "gates": gates}.items()}}
        self.bed.stack_file.write_text(yaml.safe_dump(file))

    def serves(self, weight: int, since: float) -> bool:
        """Whether the live rule has this weight and the Task Service has had requests since."""
        stats, group = self.bed.stats(since), self.bed.task_group
        return bool(stats["weights"].get(group) == weight and stats["target_groups"][group]["requests"] > 5)

    def stepped(self, name: str, inject: Callable[[], None], *, run: bool = False) -> Seen:
        """`canary step` to 25 %, or the whole ladder, with the fault as soon as requests come there."""
        how = ("run",) if run else ("step", "--to", "25", "--force", "--reason", name)
        since = time.time()
        with ThreadPoolExecutor(1) as pool:
            going = pool.submit(
                self.steps.command, CanaryRun if run else CanaryStep, "canary", *how, accept=(0, Refused.exit_status)
            )
            wait_until(
                lambda: going.done() or self.serves(25, since),
                bool,
                what="requests on the Task Service at 25 %",
                timeout=90.0,
            )
            assert not going.done(), going.result()
            fault = time.time()
            inject()
            document = going.result()
        return self.seen(name, document, fault)

    def seen(self, name: str, document: CanaryStep, fault: float) -> Seen:
        """As it is kept, with what is to be read of it."""
        decided = last(self.journal, StepName.CANARY, CanaryEvent.DECIDED)
        assert decided is not None
        found = Seen(document, _at(decided) - fault, self.bed.stats(fault)["total"])
        kept = {
            "fault": name, "seconds": round(found.seconds, 1), "periods": round(found.seconds / self.bed.minute, 1),
            "decision": document.decision, "reasons": document.reasons, "users": found.users,
            "evidence": document.plain()["evidence"],
        }  # fmt: skip
        if document.rollback is not None:
            routed = last(self.journal, StepName.ROLLBACK, RollbackEvent.ROUTED)
            assert routed is not None
            kept |= {"routed": round(_at(routed) - fault, 1), "rollback": document.rollback.seconds}
        reads = self.bed.load.stale_reads()
        kept |= {"reads so far": sum(one.reads for one in reads), "stale": sum(one.stale for one in reads)}
        self.keep(kept)
        return found

    def keep(self, facts: dict[str, Any]) -> None:
        """One more line of what was measured."""
        with (self.bed.directory / "faults.jsonl").open("a") as file:
            file.write(json.dumps(facts, ensure_ascii=False) + "\n")

    def within(self, periods: float) -> float:
        """Seconds in which so many bad periods have to be seen: the one that the fault came into, their lateness, a look."""
        return (periods + 1 + 1 + 0.5) * self.bed.minute + 1.0 + BUSY

    def desired(self, tasks: int) -> None:
        """How many tasks ECS is asked for."""
        outputs = self.bed.outputs
        self.bed.aws.client("ecs").update_service(
            cluster=outputs["clusterArn"], service=outputs["serviceName"], desiredCount=tasks
        )

    def withhold(self, on: bool) -> None:
        """No more metrics of any load balancer."""
        datum = {
            "MetricName": "Withheld",
            "Dimensions": [{"Name": "Namespace", "Value": "AWS/ApplicationELB"}],
            "Value": float(on),
        }
        self.bed.aws.client("cloudwatch").put_metric_data(Namespace=FAULTY, MetricData=[datum])

    def healthy(self) -> None:
        """Returns when every target of the Task Service is."""
        balancer = self.bed.aws.client("elbv2")
        wait_until(
            lambda: [
                one["TargetHealth"]["State"]
                for one in balancer.describe_target_health(TargetGroupArn=self.bed.task_group)[
                    "TargetHealthDescriptions"
                ]
            ],
            lambda states: bool(states) and set(states) <= {"healthy", "draining"},
            what="healthy targets",
            timeout=60.0,
        )


def _at(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()


class Told:
    """How soon after a fault a command's log says something."""

    def __init__(self, log: Path, text: str) -> None:
        self._log, self._text, self.seconds = log, text, float("inf")

    def after(self, inject: Callable[..., None], *arguments: str) -> None:
        """Make the fault; returns when it is told."""
        begun = time.monotonic()
        inject(*arguments)
        wait_until(lambda: self._text in self._log.read_text(), bool, what=self._text, timeout=60.0)
        self.seconds = time.monotonic() - begun


def rolls_back(seen: Seen) -> None:
    """Rolled back, in time and proven; and by what is judged here alone."""
    document = seen.document
    assert (document.decision, document.to) == ("rollback", 25), seen.reasons
    assert document.rollback is not None
    assert document.rollback.within_limit


def unjudged(document: CanaryStep, **limits: float) -> str:
    """What the very same figures would have come to without these limits."""
    assert document.evidence is not None
    observed = replace(document.evidence, unserved_seconds=0.0)
    patient = GateLimits.model_validate(PATIENT)
    loose = patient.model_copy(
        update={
            "minimum_requests": 1,
            "minimum_period_requests": 3,
            "database_free_storage_gb": 0.1,
            "tail_requests": 20,
        }
    )
    return decide(observed, loose.model_copy(update={**OUT, **limits}), observed.watched_seconds).verdict


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """Small tables and a moderate load, of which nobody keeps a cookie though the rule gives one; native replication."""
    plan = Plan(
        rows=300, users=40, rate=40.0, watch=10.0, seed=1, engine="embedded", output=tmp_path_factory.mktemp("faults") / "out",
        drill=True, sticky=60, without_cookies=100,
    )  # fmt: skip
    with Faulty(plan) as bed:
        steps = Steps(bed, LiveView(lambda moment: None))
        bed.prepare(lambda text: None)
        steps.appoint_operator()
        steps.start_service()
        bed.start_load()
        steps.command(SchemaApplied, "schema", "apply")
        steps.command(Copy, "copy")
        steps.command(Started, "replicate", "start")
        steps.command(Verification, "verify")
        made = Night(bed, steps)
        made.given(requireShadow=False, canaryLadder=[10, 25, 50, 100], watchSeconds=WATCH)
        yield made


def test_a_healthy_step_is_promoted_and_all_tasks_gone_at_the_next_one_roll_back(night: Night) -> None:
    """Prevents 503 for a quarter of the users for longer than two periods, and a figure that would roll anybody back.

    Users who refuse cookies, though the rule gives them, are divided by the weights at each request; nothing fails by that, and no figure
    of AWS tells of it: they read their writes late, as without stickiness.
    """
    night.given(watchSeconds=SHORT)
    seen = night.stepped("no task is left", lambda: night.desired(0), run=True)
    document = seen.document
    assert isinstance(document, CanaryRun)
    assert [(one.to, one.decision) for one in document.steps] == [(10, "promote"), (25, "rollback")]
    rolls_back(seen)
    assert "no target of the Task Service has been healthy for" in seen.reasons
    assert seen.codes == {503}
    assert seen.seconds < night.within(2)
    assert unjudged(document) != "rollback"
    stats = night.bed.stats(0.0)
    assert stats["share"] == stats["share_of_new"]
    assert {one.cookies for one in night.bed.load.stale_reads()} == {False}
    night.steps.start_service()
    night.healthy()


def test_tasks_that_are_killed_and_stay_registered_roll_back(night: Night) -> None:
    """Prevents 502 for a quarter of the users, as a load balancer without a healthy target sends them on to the dead ones."""
    night.given(watchSeconds=WATCH)
    seen = night.stepped("killed", lambda: night.bed.processes.stop("task-service", how=signal.SIGKILL))
    night.bed.start("task-service")
    rolls_back(seen)
    assert "error rate is 100 %" in seen.reasons or "error rate of the whole watch" in seen.reasons
    assert seen.codes == {502}
    assert seen.seconds < night.within(3)
    assert unjudged(seen.document) != "rollback"
    night.healthy()


def test_a_load_balancer_without_figures_rolls_back(night: Night) -> None:
    """Prevents a step that nobody can judge while requests come; users see nothing of it."""
    seen = night.stepped("no figures", lambda: night.withhold(True))
    night.withhold(False)
    rolls_back(seen)
    assert "figures of the Task Service is" in seen.reasons
    assert "CloudWatch has nothing of the load balancer" in seen.reasons
    assert seen.codes == set()
    assert seen.seconds < night.within(2)
    assert unjudged(seen.document) != "rollback"


def test_one_slow_answer_of_fifty_rolls_back(night: Night) -> None:
    """Prevents a service that makes two of a hundred wait for seconds, which is no error and moves no P95."""
    night.given(watchSeconds=WATCH, gates={"p99Ms": 2000.0})
    slow = night.bed.directory / "slow"
    seen = night.stepped("one of fifty is slow", slow.touch)
    slow.unlink()
    rolls_back(seen)
    assert "took 2000 ms or more, the limit is below 1 %" in seen.reasons
    assert seen.codes == set()
    assert seen.seconds < night.within(8)
    assert unjudged(seen.document, p99_ms=2000.0) == "rollback"
    assert unjudged(seen.document) == "promote"


def test_a_scheduler_on_both_sides_is_told_at_once_and_holds(night: Night) -> None:
    """Prevents work that is done twice, and a promotion meanwhile; it takes nothing back, as that would not end it."""
    night.given(watchSeconds=SHORT)
    told = Told(night.bed.logs / "canary-step.log", BOTH_SIDES)
    seen = night.stepped("two schedulers", lambda: told.after(night.bed.schedule_on, "monolith", "task-service"))
    night.bed.schedule_on()
    assert (seen.document.decision, seen.document.to) == ("hold", 25)
    assert [BOTH_SIDES in reason for reason in seen.document.reasons] == [True]
    night.keep({"fault": "two schedulers", "told after": told.seconds})
    assert told.seconds < 10.0 + BUSY
    assert seen.codes == set()
    back = night.steps.command(Rollback, "rollback", "--reason", "the night is over")
    assert back.rows.proven
    found = night.steps.look_up("ledger-last.json")
    night.keep({"acknowledged writes": found.total, "lost": found.lost, "told as lost": found.told})
    assert found.total > 0
    assert found.lost == 0
