"""A canary step moves the weight only when the gate, the preview and the ladder allow it, and tells what a kill left."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.config import MigrationConfig
from components.config_gates import GateLimits
from scripts.canary import decisions, gates, history, operator_lock, readiness, rollback, verifying, way_back
from scripts.canary import step as canary
from scripts.canary.documents import CanaryRun, CanaryStep
from scripts.canary.figures import Observed, Period, Traffic
from scripts.canary.guard import LIVE_RULE, RULE_TYPE
from scripts.canary.operator_lock import Lock, Operation, TakenOver
from scripts.canary.ready import Readiness, ServiceHealth
from scripts.canary.stage import Emergency, Stage
from scripts.canary.status import status
from scripts.copy.documents import SlotState
from scripts.database.locks import Holder
from scripts.deployment.deployer import Change, UpResult
from scripts.replication import fence
from scripts.replication import status as replication
from scripts.replication.documents import DeletedRows, DirectionState, WriteCounts
from scripts.replication.status import Looked
from scripts.support.errors import DatabaseError, DataDiffer, MigrationError, Refused, TimedOut
from scripts.support.events import Step
from scripts.support.settings import Settings
from scripts.verify import rollback_proof
from scripts.verify import run as verify
from scripts.verify.documents import MissingWrite, UnequalRow, WritesProof
from scripts.verify.verdict import Verdict

RULE = Change("urn:rule", RULE_TYPE, "routes-live-rule", "update", ("actions",))
OTHER = Change("urn:db", "aws:rds/instance:Instance", "database-instance", "replace", ("engineVersion",))
SLOT = SlotState(
    active=True, active_pid=1, wal_status="reserved", confirmed_lsn="0/1", retained_bytes=1000, lag_bytes=0
)
WAY = DirectionState(running=True, lag_bytes=0, lag_seconds=0.1, reason=None, apply_errors=0, slot=SLOT)
READY = Readiness(WAY, WAY, 0.1, True, (), 0, Verdict(True, True, 60.0, 60.0), None, 60.0)
USERS = Traffic(2000, 0, 0, 12.0, 25.0)
PERIOD = Period(0.0, Traffic(100, 0, 0, 10.0, 20.0), None, 5.0, 5.0, 5.0, 5.0, 90e9, 0.0, 0.1, 2.0, USERS, 0)
SAME = WritesProof(side="target", writes=WriteCounts(insert=3), pruned=1, missing=0, missing_writes=[], checked=2, equal=2, unsettled=0,
                   different_total=0, different=[], told=0, losses=[])  # fmt: skip


def figures(**task: Any) -> Observed:
    traffic = Traffic(**{**vars(PERIOD.task_service), **task})
    return Observed(0.01, tuple(replace(PERIOD, at=number * 0.01, task_service=traffic) for number in range(5)))


LOOKED = Looked(0.1, 0, 2)
HEALTHY, FAILING, SILENT = figures(), figures(errors=10), figures(requests=3)


class Killed(BaseException):
    """As a kill: no handler of errors sees it."""


class Cloud:
    """Deployment, load balancer and figures in one: what a deployment sets is what the load balancer then says."""

    def __init__(self, weight: int = 0, changes: tuple[Change, ...] = (RULE,), observed: Observed = HEALTHY) -> None:
        self.declared = self.live = weight
        self.changes, self.observed = changes, observed
        self.ups: list[int] = []
        self.notices: list[str] = []
        self.texts: list[str] = []
        self.stopped = False
        self.enabled: object = True
        self.sticky = 0
        self.healthy = 2
        #: Called at each boundary with its name; may raise.
        self.at: Callable[[str], None] = lambda name: None

    def up(self, overrides: Mapping[str, object], only: str | None = None) -> UpResult:
        assert only == LIVE_RULE
        self.at("before up")
        self.declared = int(str(overrides["canaryWeight"]))
        self.at("config set")
        changed = (RULE,) if self.live != self.declared else ()
        self.live = self.declared
        self.ups.append(self.live)
        self.at("up done")
        return UpResult(changed, {})

    def keep(self, overrides: Mapping[str, object]) -> None:
        self.declared = int(str(overrides.get("canaryWeight", self.declared)))
        self.enabled = overrides.get("serviceEnabled", self.enabled)

    def preview(self, overrides: Mapping[str, object], only: str | None = None) -> tuple[Change, ...]:
        self.at("preview")
        return () if overrides["canaryWeight"] == self.live else self.changes

    def outputs(self) -> dict[str, Any]:
        return {}

    def config(self) -> dict[str, Any]:
        return {"canaryWeight": self.declared, "canaryStickySeconds": self.sticky}

    def destroy(self) -> None:
        raise AssertionError("a canary destroys nothing")

    def weight(self) -> int:
        return self.live

    def to_monolith(self) -> None:
        self.live = 0

    def confirm(self, weight: int, timeout: float = 30.0) -> None:
        self.at("confirm")
        assert self.live == weight

    def observe(self, since: float) -> Observed:
        self.at("watch")
        return self.observed

    def idle_seconds(self) -> float | None:
        return 60.0

    region = "ap-northeast-1"

    def send(self, settings: Settings, subject: str, text: str) -> None:
        self.notices.append(subject)
        self.texts.append(text)

    def stop(self) -> None:
        self.stopped = True

    def health(self) -> ServiceHealth:
        self.at("health")
        return ServiceHealth(2, 2, self.healthy, self.healthy, "COMPLETED")


@pytest.fixture(autouse=True)
def _databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The databases' answers; what they are made of has tests of its own on real servers."""

    @contextmanager
    def locked(settings: Settings, operation: Operation, *, take_over: bool = False) -> Iterator[Lock]:
        yield Lock()

    monkeypatch.setattr(operator_lock, "locked", locked)
    kept: dict[Any, list[dict[str, Any]]] = defaultdict(list)

    def keep(settings: Settings, step: str, event: str, facts: Mapping[str, Any]) -> None:
        kept[settings.state_dir].append({"at": "t", "step": step, "event": event, **facts})

    monkeypatch.setattr(history, "keep", keep)
    monkeypatch.setattr(history, "read", lambda settings: history.history(kept[settings.state_dir]))
    monkeypatch.setattr(readiness, "observe", lambda stage: READY)
    monkeypatch.setattr(rollback_proof, "prove", lambda settings, side, timeout: SAME)
    monkeypatch.setattr(fence, "reverse", lambda settings, timeout: 0.1)
    monkeypatch.setattr(replication, "look", lambda settings, timeout: LOOKED)
    monkeypatch.setattr(verify, "run", lambda settings, **how: None)


def stage(cloud: Cloud, tmp_path: Path, **config: Any) -> Stage:
    values = {
        "watch_seconds": 0.05, "period_seconds": 0.01, "metric_delay_seconds": 0.0, "drain_seconds": 0.05,
        "gates": GateLimits(minimum_requests=100), **config,
    }  # fmt: skip
    settings = Settings(
        config=MigrationConfig(**values), stack="x", source_url=None, target_url=None, state_dir=tmp_path
    )
    return Stage(settings, cloud, cloud, cloud, cloud, cloud.idle_seconds, metrics=cloud)  # type: ignore[arg-type]


def stepped(at: Stage, **how: Any) -> CanaryStep:
    """One step that is no rollback which was owed."""
    document = canary.step(at, **how)
    assert isinstance(document, CanaryStep)
    return document


def ran(at: Stage) -> CanaryRun:
    """The ladder, where no rollback was owed."""
    document = canary.run(at)
    assert isinstance(document, CanaryRun)
    return document


def names(at: Stage, step: str = "canary") -> list[str]:
    return [event["event"] for event in at.settings.journal.events(step)]


def test_a_healthy_step_is_promoted_journaled_and_kept_with_its_evidence(tmp_path: Path) -> None:
    cloud = Cloud()
    at = stage(cloud, tmp_path)
    told: list[str] = []
    document = stepped(at, tell=told.append)
    assert (document.from_, document.to, document.decision) == (0, 5, "promote")
    assert document.changed == ["routes-live-rule"]
    assert document.evidence is not None
    assert document.document is not None
    assert document.evidence.periods[0].task_service == Traffic(100, 0, 0, 10.0, 20.0)
    assert document.evidence.weight == 5
    assert names(at) == ["begun", "moved", "decided"]
    assert cloud.notices == ["canary 0 -> 5 %: promote"]
    assert f"- {document.document}\n" in cloud.texts[0]
    assert any("a rollback would take about 60.0 s" in line for line in told)
    kept = decisions.read(document.document)
    assert kept["evidence"] == document.plain()["evidence"]
    assert kept["limits"]["errorRatePercent"] == 1.0
    answer = decisions.explain(at.settings)
    assert (answer.decision, answer.again, answer.same) == ("promote", "promote", True)
    assert "typical P95 20 ms, below 500 ms" in [finding.text for finding in answer.findings]
    assert status(at).unfinished is None


def test_the_documents_keep_the_fields_that_scripts_of_others_rely_on(tmp_path: Path) -> None:
    """Prevents a rename, or a field under its Python name, that breaks a script at night."""
    fixed = ["from", "to", "decision", "reasons", "seconds"]
    cloud = Cloud()
    at = stage(cloud, tmp_path)
    assert list(json.loads(stepped(at).json_text()))[:5] == fixed
    assert list(json.loads(canary.run(at).json_text()))[:5] == fixed
    cloud.stopped, told = False, json.loads(rollback.run(at, stop_service=True).json_text())
    assert list(told) == [
        *fixed, "limit_seconds", "within_limit", "by", "seconds_of_up", "config_set", "drift", "pulumi", "moved_again", "rights_given_back", "rows",
        "service_stopped", "phases",
    ]  # fmt: skip
    where = json.loads(status(at).json_text())
    assert list(where) == ["declared", "live", "drift", "next", "ladder", "unfinished", "rollback_owed", "last"]
    assert list(where["last"]) == ["at", "step", "event", *fixed, "document"]


def test_a_watch_tells_what_the_gate_sees_now(tmp_path: Path) -> None:
    """Prevents half an hour in which an operator sees nothing but a clock."""
    told: list[str] = []
    stepped(stage(Cloud(), tmp_path), tell=told.append)
    assert "watched 0.05 of 0.05 s: promote; 100 requests, 0 % errors, P95 20 ms, users 0 % errors, CPU 5 %" in told, (
        told
    )
    assert Observed(60.0).newest() == "no complete period yet"
    assert Observed(60.0, (Period(0.0, task_service=Traffic(1)),)).newest().startswith("1 request, ")


def test_an_explanation_says_when_todays_rules_would_judge_otherwise(tmp_path: Path) -> None:
    """Prevents an explanation that repeats the verdict instead of judging the evidence."""
    at = stage(Cloud(), tmp_path)
    with pytest.raises(Refused, match="nothing was decided yet"):
        decisions.explain(at.settings)
    location = Path(str(stepped(at).document))
    location.write_text(location.read_text().replace('"errors": 0', '"errors": 50'))
    answer = decisions.explain(at.settings)
    assert (answer.again, answer.same) == ("rollback", False)
    whole = json.loads(location.read_text())
    for value in (float("nan"), float("inf"), 0, "long"):
        location.write_text(json.dumps({**whole, "watch_seconds": value}))
        with pytest.raises(MigrationError, match=r"is no decision \(a watch of"):
            decisions.explain(at.settings)


@pytest.mark.parametrize("changes", [(RULE, OTHER), (OTHER,)])
def test_a_deployment_that_changes_more_is_refused_with_a_list(tmp_path: Path, changes: tuple[Change, ...]) -> None:
    """Prevents a canary step that replaces the database on the way."""
    cloud = Cloud(changes=changes)
    document = canary.step(stage(cloud, tmp_path))
    assert document.decision == "refused"
    assert f"{changes[-1].op} {changes[-1].name}" in document.reasons[0]
    assert cloud.ups == []


def test_no_weight_goes_up_unless_a_rollback_would_keep_every_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "observe", lambda stage: replace(READY, probe_seconds=None))
    cloud = Cloud()
    document = canary.step(stage(cloud, tmp_path))
    assert document.decision == "refused"
    assert "synthetic write" in " ".join(document.reasons)
    assert cloud.ups == []


def test_a_rule_that_somebody_moved_by_hand_is_refused(tmp_path: Path) -> None:
    """Prevents a step from a weight that is not the real one."""
    cloud = Cloud(weight=5)
    cloud.live = 50
    document = canary.step(stage(cloud, tmp_path))
    assert document.decision == "refused"
    assert "the stack declares 5 %, the load balancer has 50 %" in document.reasons[0]
    assert cloud.ups == []


def test_no_weight_goes_up_while_cookies_lead_back_to_the_task_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a step to 5 % that gives the Task Service everybody whom the rollback has just taken from it."""
    cloud = Cloud()
    at = stage(cloud, tmp_path)
    with monkeypatch.context() as fresh:
        fresh.setattr(history, "read", lambda settings: history.History(back=datetime.now(UTC).isoformat()))
        cloud.sticky = 600
        document = canary.step(at)
        assert document.decision == "refused"
        assert "by a cookie that counts for 600 s more (canaryStickySeconds 600)" in document.reasons[0]
        assert cloud.ups == []
    assert stepped(at).decision == "promote"


def test_a_breach_rolls_back_to_the_monolith(tmp_path: Path) -> None:
    cloud = Cloud(weight=25, observed=FAILING)
    document = stepped(stage(cloud, tmp_path))
    assert document.rollback is not None
    assert (document.decision, document.rollback.to, cloud.live) == ("rollback", 0, 0)
    assert cloud.ups == [50, 0]
    assert "error rate is 10 %" in document.reasons[0]
    assert cloud.notices == ["rollback from 50 % done in 0 s"]


BOUNDARIES = ("preview", "before up", "config set", "up done", "confirm", "watch")


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_step_killed_at_any_boundary_goes_on_when_it_is_run_again(tmp_path: Path, boundary: str) -> None:
    """Prevents a killed step that leaves a weight nobody watches, or that is taken up from the wrong weight."""
    cloud = Cloud(weight=5)
    at = stage(cloud, tmp_path)

    def kill(name: str) -> None:
        if name == boundary:
            raise Killed

    cloud.at = kill
    with pytest.raises(Killed):
        canary.step(at)
    cloud.at = lambda name: None
    assert status(at).rollback_owed is None
    document = canary.step(at)
    assert (document.from_, document.to, document.decision) == (5, 25, "promote")
    assert (cloud.declared, cloud.live) == (25, 25)
    assert canary.step(at).to == 50


@pytest.mark.parametrize("boundary", ["before up", "config set", "up done", "confirm"])
def test_a_rollback_killed_at_any_boundary_is_ended_before_anything_else(tmp_path: Path, boundary: str) -> None:
    """Prevents a step up after a breach whose rollback was killed."""
    cloud = Cloud(weight=5, observed=FAILING)
    at = stage(cloud, tmp_path)
    ups = 0

    def kill(name: str) -> None:
        nonlocal ups
        ups += name == "before up"
        if name == boundary and ups == 2:  # the step's own deployment was the first
            raise Killed

    cloud.at = kill
    with pytest.raises(Killed):
        canary.step(at)
    cloud.at, cloud.observed = lambda name: None, HEALTHY
    assert status(at).rollback_owed
    assert "would end the rollback" in canary.step(at, dry_run=True).reasons[0]
    document = canary.step(at)
    assert (document.decision, document.to, cloud.declared, cloud.live) == ("rollback", 0, 0, 0)
    assert status(at).rollback_owed is None
    assert canary.step(at).to == 5


def test_a_step_that_held_is_watched_again_before_the_next_one(tmp_path: Path) -> None:
    cloud = Cloud(observed=SILENT)
    at = stage(cloud, tmp_path)
    assert canary.step(at).decision == "hold"
    cloud.observed = HEALTHY
    document = canary.step(at)
    assert (document.from_, document.to, document.decision) == (0, 5, "promote")
    assert canary.step(at).to == 25


def test_metrics_that_cannot_be_read_hold(tmp_path: Path) -> None:
    """Prevents a promotion, or a crash that leaves the weight unwatched, while CloudWatch is away."""
    cloud = Cloud()

    def away(name: str) -> None:
        if name == "watch":
            raise MigrationError("CloudWatch cannot be read")

    cloud.at = away
    at = stage(cloud, tmp_path)
    told: list[str] = []
    document = canary.step(at, tell=told.append)
    assert document.decision == "hold"
    assert document.reasons[0] == "no figures: CloudWatch cannot be read"
    assert told.count("no figures: CloudWatch cannot be read") == 1
    assert names(at).count("metrics-unreadable") == 1


@pytest.mark.parametrize("readable", [True, False])
def test_no_healthy_target_rolls_back_by_the_load_balancers_own_word(tmp_path: Path, readable: bool) -> None:
    """Prevents minutes of 503 while the metrics are late, and hours of them while nobody can read these."""
    cloud = Cloud(5)
    looks: list[str] = []

    def dies(name: str) -> None:
        if name == "watch":
            looks.append(name)
            # One look without a healthy target is no breach; what nobody can see is none either.
            cloud.healthy = 0 if len(looks) in (1, 3) or len(looks) > 5 else 2
            if not readable:
                raise MigrationError("CloudWatch cannot be read")
        if name == "health" and len(looks) == 4:
            raise MigrationError("ECS cannot be read")

    cloud.at = dies
    document = stepped(stage(cloud, tmp_path, watch_seconds=1.0))
    assert (document.decision, cloud.live) == ("rollback", 0)
    assert document.reasons[0].startswith("no target of the Task Service has been healthy for")
    assert len(looks) > 6


@pytest.mark.parametrize("comes_back", [True, False])
@pytest.mark.parametrize("weight", [0, 25])
def test_a_step_that_is_refused_leaves_nobody_on_a_service_without_a_healthy_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: int, comes_back: bool
) -> None:
    """Prevents a ladder that stops between two watches and leaves a quarter of the users with 503, whom nobody watches."""
    why = "the Task Service is not ready for requests: 0 tasks run, 2 must"
    monkeypatch.setattr(readiness, "observe", lambda stage: replace(READY, failing=(why,)))
    cloud = Cloud(weight)
    cloud.healthy, looks = 0, list[str]()

    def looked(name: str) -> None:
        looks.append(name)
        cloud.healthy = 2 if comes_back and looks.count("health") > 2 else 0

    cloud.at = looked
    document = stepped(stage(cloud, tmp_path))
    left = weight > 0 and not comes_back
    assert (document.decision, cloud.live) == (("rollback", 0) if left else ("refused", weight))
    assert any("no target of the Task Service was healthy for 0.02 s" in one for one in document.reasons) is left
    assert cloud.notices == (
        ["rollback from 25 % done in 0 s"] if left else [f"canary {document.from_} -> {document.to} %: refused"]
    )
    if not left:
        assert "The weight stays as it is, and no watch looks at it." in cloud.texts[0]


def test_run_climbs_the_ladder_and_tells_each_decision(tmp_path: Path) -> None:
    cloud = Cloud()
    assert canary.run(stage(cloud, tmp_path)).to == 100
    assert cloud.ups == [5, 25, 50, 100]
    assert cloud.notices == [f"canary {a} -> {b} %: promote" for a, b in ((0, 5), (5, 25), (25, 50), (50, 100))]


def test_run_watches_a_hold_again_so_many_times_and_goes_on_when_run_again(tmp_path: Path) -> None:
    cloud = Cloud(observed=SILENT)
    at = stage(cloud, tmp_path, watch_rounds=2)
    document = canary.run(at)
    assert [step.decision for step in document.steps] == ["hold", "hold"]
    cloud.observed = HEALTHY
    document = canary.run(at)
    assert (document.from_, document.to, document.decision) == (0, 100, "promote")


def test_run_verifies_before_its_first_step_and_beside_each_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents an unattended ladder that climbs on a comparison of before it, or on one that never ended."""
    cloud = Cloud()
    weights: list[int] = []
    whole: list[bool] = []

    def note(settings: Settings, **how: Any) -> None:
        weights.append(cloud.live)
        whole.append(not how["incremental"])

    monkeypatch.setattr(verify, "run", note)
    assert ran(stage(cloud, tmp_path / "a")).to == 100
    assert weights == [0, 5, 25, 50, 100]
    # Every row before the first user, and before the last.
    assert whole == [True, False, False, True, False]

    # Where users are already it does not keep a watch waiting, unless nothing went on without it.
    for verified, compared in ((None, [25, 50]), (Verdict(True, True, 60.0, 60.0), [50])):
        weights.clear()
        cloud = Cloud(25)
        monkeypatch.setattr(
            readiness,
            "observe",
            lambda stage, verified=verified: READY if weights else replace(READY, verified=verified),
        )
        canary.run(stage(cloud, tmp_path / f"on-{len(compared)}"))
        assert weights[: len(compared)] == compared
    monkeypatch.setattr(readiness, "observe", lambda stage: READY)

    # One that fails, ends with an error that nobody thought of, or goes on and on: each promotes nothing.
    def failing(settings: Settings, **how: Any) -> None:
        if cloud.live:
            raise TimedOut("paused for 4 h (the limit): 9 active sessions")

    def endless(settings: Settings, **how: Any) -> None:
        if cloud.live:
            assert how["stop"].wait(30), "nobody ended it"

    monkeypatch.setattr(verifying, "LAST_SECONDS", 0.05)
    for work, said in (
        (failing, "the verification beside the watch failed: paused for 4 h"),
        (endless, "the verification beside the watch has not ended"),
    ):
        cloud = Cloud()
        monkeypatch.setattr(verify, "run", work)
        document = ran(stage(cloud, tmp_path / said[-5:].strip(), watch_rounds=2))
        assert [(step.to, step.decision) for step in document.steps] == [(5, "hold"), (5, "hold")]
        assert said in document.reasons[0]
    # One that compared every row long ago, and a part since, leads neither to the first user nor to all; in between it is enough.
    long_ago = Verdict(True, True, 60.0, 1e6)
    monkeypatch.setattr(readiness, "observe", lambda stage: replace(READY, verified=long_ago))
    for weight, decision in ((0, "refused"), (5, "promote"), (25, "promote"), (50, "refused")):
        cloud = Cloud(weight)
        assert canary.step(stage(cloud, tmp_path / f"from-{weight}")).decision == decision
        assert bool(cloud.ups) == (decision == "promote")
    # Nobody is on the Task Service yet: nothing was moved.
    cloud = Cloud()
    looks: list[Stage] = []

    def unverified(stage: Stage) -> Readiness:
        looks.append(stage)
        return replace(READY, verified=None)

    monkeypatch.setattr(readiness, "observe", unverified)
    document = ran(stage(cloud, tmp_path / "b"))
    assert (document.decision, cloud.ups, len(looks)) == ("refused", [], 1), "looked at once, after the verification"


def test_run_that_an_error_ends_says_so_before_anybody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a weight of 5 % that nothing watches until morning, as the run died of a database that went away between two steps."""
    cloud = Cloud()

    def away(stage: Stage) -> Readiness:
        if "canary 0 -> 5 %: promote" in cloud.notices:
            raise DatabaseError("the source is away")
        return READY

    monkeypatch.setattr(readiness, "observe", away)
    with pytest.raises(DatabaseError):
        ran(stage(cloud, tmp_path))
    assert cloud.notices == ["canary 0 -> 5 %: promote", "canary run STOPPED by an error"]
    assert "- the source is away\n" in cloud.texts[1]
    assert cloud.live == 5


def test_run_rolls_back_on_a_breach_and_stops(tmp_path: Path) -> None:
    cloud = Cloud()

    def worse(name: str) -> None:
        if name == "watch" and cloud.live == 50:
            cloud.observed = FAILING

    cloud.at = worse
    document = canary.run(stage(cloud, tmp_path))
    assert (document.decision, document.from_, cloud.live) == ("rollback", 0, 0)
    assert [step.to for step in document.steps] == [5, 25, 50]


@pytest.mark.parametrize("boundary", ["config set", "up done"])
def test_run_rolls_back_at_the_load_balancer_when_deployments_fail(tmp_path: Path, boundary: str) -> None:
    """Prevents an unattended ladder that ends with an unknown weight because Pulumi stopped working."""
    cloud = Cloud(weight=5)

    def broken(name: str) -> None:
        if name == boundary:
            raise Refused("the backend is away") if boundary == "config set" else MigrationError("the backend is away")

    cloud.at = broken
    document = ran(stage(cloud, tmp_path))
    assert document.decision == "rollback"
    assert document.rollback is not None
    assert document.rollback.by == "load balancer API"
    assert "the backend is away" in str(document.rollback.pulumi)
    assert (cloud.declared, cloud.live) == (0, 0)


def test_a_failing_notice_or_journal_stops_no_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an S3 outage from keeping users on a service that fails."""
    cloud = Cloud(weight=25, observed=FAILING)
    at = stage(cloud, tmp_path)
    original = type(at.settings.journal).record

    def record(self: Any, step: str, event: str, **facts: Any) -> Any:
        if step == "rollback" or event == "decided":
            raise MigrationError("S3 is away")
        return original(self, step, event, **facts)

    monkeypatch.setattr(type(at.settings.journal), "record", record)
    back = stepped(at).rollback
    assert back is not None
    assert back.to == 0
    assert cloud.live == 0


def test_a_failing_journal_ends_no_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a watch that an S3 outage ends with an error, at a weight that nobody looks at any more."""
    cloud = Cloud()
    at = stage(cloud, tmp_path)

    def away(name: str) -> None:
        if name == "watch":
            raise MigrationError("CloudWatch is away")

    def record(self: Any, step: str, event: str, **facts: Any) -> Any:
        if event in ("metrics-unreadable", "fence-failed"):
            raise MigrationError("S3 is away")

    def unfenced(settings: Settings, timeout: float) -> Looked:
        raise DatabaseError("no fence")

    cloud.at = away
    monkeypatch.setattr(replication, "look", unfenced)
    monkeypatch.setattr(type(at.settings.journal), "record", record)
    assert stepped(at).decision == "hold"
    assert cloud.live == 5


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    cloud = Cloud()
    at = stage(cloud, tmp_path)
    assert canary.step(at, dry_run=True).reasons == ["would update routes-live-rule"]
    assert (cloud.ups, list(at.settings.journal.events()), cloud.notices) == ([], [], [])


def test_a_rollback_moves_the_routes_even_when_the_proof_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(settings: Settings, timeout: float) -> float:
        raise TimedOut("fence from the target: not through")

    monkeypatch.setattr(fence, "reverse", late)
    cloud = Cloud(weight=50)
    at = stage(cloud, tmp_path)
    with pytest.raises(TimedOut, match="all routes are on the monolith .* keep both databases"):
        rollback.run(at)
    assert cloud.live == 0
    assert names(at, "rollback") == ["begun", "routed", "unproven"]
    assert status(at).rollback_owed


@pytest.mark.parametrize(
    ("kind", "status"), [(TimedOut, 12), (Refused, 10), (DataDiffer, 11), (DatabaseError, 1), (MigrationError, 1)]
)
def test_a_proof_that_fails_keeps_the_kind_of_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[MigrationError], status: int
) -> None:
    """Prevents a refusal, or a database that is away, from being told as a time-out: a script waits and tries again."""

    def fails(settings: Settings, timeout: float) -> float:
        raise kind("the cause, the limit")

    monkeypatch.setattr(fence, "reverse", fails)
    at = stage(Cloud(weight=50), tmp_path)
    with pytest.raises(
        kind, match=r"all routes are on the monolith since .*: the cause, the limit; keep both"
    ) as found:
        rollback.run(at)
    assert (type(found.value), found.value.exit_status) == (kind, status)
    assert names(at, "rollback") == ["begun", "routed", "unproven"]


@pytest.mark.parametrize(
    ("operation", "back"),
    [(Operation.STEP, False), (Operation.RUN, False), (Operation.ROLLBACK, True), (Operation.EMERGENCY, True)],
)
def test_a_deployment_is_undone_when_who_took_over_rolls_back_and_only_then(
    tmp_path: Path, operation: Operation, back: bool
) -> None:
    """Prevents a deployment that outlives a rollback, and one that is undone though another operator goes on."""
    cloud = Cloud(weight=5)
    other = Holder(7, f"task-migration {operation} somebody@elsewhere:7", "10.0.0.7", "now")

    class Lost(Lock):
        def check(self) -> None:
            if cloud.ups:
                raise TakenOver(f"taken over by {other}", other)

    with pytest.raises(TakenOver):
        canary.Step(stage(cloud, tmp_path), Lost()).run()
    assert (cloud.live, cloud.declared) == ((0, 0) if back else (25, 25))


@pytest.mark.parametrize(("operation", "declared"), [(Operation.STEP, 25), (Operation.ROLLBACK, 0)])
def test_a_watch_that_is_taken_over_by_a_way_back_leaves_no_weight_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: Operation, declared: int
) -> None:
    """Prevents a workflow that commits the weight of a step from which somebody has gone back meanwhile."""
    cloud = Cloud(weight=5)
    other = Holder(7, f"task-migration {operation} somebody@elsewhere:7", "10.0.0.7", "now")

    def taken(watch: object) -> None:
        raise TakenOver(f"taken over by {other}", other)

    monkeypatch.setattr("scripts.canary.watch.Watch.run", taken)
    with pytest.raises(TakenOver):
        canary.Step(stage(cloud, tmp_path), Lock()).run()
    assert (cloud.live, cloud.declared) == (25, declared)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"different_total": 1, "different": [UnequalRow(table="tasks", key={"id": "7"}, kind="missing_on_source", columns=[])]},
            r"1 rows that the target wrote are not the same on the source, none may differ: tasks \{'id': '7'\} missing_on_source",
        ),
        (
            {"missing": 2, "missing_writes": [MissingWrite(v=9, table="tasks", key=["7"], kind="delete")]},
            "2 writes of the target never arrived at the source, none may be missing: delete of tasks 7",
        ),
        ({"unsettled": 3}, "3 rows or writes could not be compared"),
    ],
)  # fmt: skip
def test_a_rollback_that_is_not_proven_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    """Prevents a rollback that reports success while a write of the Task Service is missing, differs, or is not known of."""
    monkeypatch.setattr(rollback_proof, "prove", lambda settings, side, timeout: SAME.model_copy(update=change))
    cloud = Cloud(weight=50)
    at = stage(cloud, tmp_path)
    with pytest.raises(DataDiffer, match=f"not proven that it has every write: {said}"):
        rollback.run(at)
    assert cloud.live == 0
    assert names(at, "rollback") == ["begun", "routed", "unproven"]
    assert status(at).rollback_owed


def test_writes_that_never_arrive_roll_back_and_lost_ones_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a promotion over a hole in the stream, and a decision that does not say how many writes lost."""
    document = stepped(stage(Cloud(), tmp_path))
    assert document.decision == "promote"
    assert "2 writes lost to others in all, each told in a conflict log" in document.reasons
    assert document.evidence is not None
    assert document.evidence.told == 2
    monkeypatch.setattr(replication, "look", lambda settings, timeout: Looked(0.1, 1, 2))
    document = stepped(stage(Cloud(), tmp_path / "other"))
    assert document.decision == "rollback"
    assert "1 writes never arrived on the other side, the limit is none" in document.reasons[0]


def test_a_service_that_empties_a_table_holds_and_the_topic_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a promotion of a service that deletes the monolith's rows, and that nobody hears of it before the watch is over."""
    gone = DeletedRows(table="tasks", at="2026-01-01 00:00", deleted=600, rows=1000)
    monkeypatch.setattr(replication, "look", lambda settings, timeout: Looked(0.1, 0, 2, (gone,)))
    cloud = Cloud()
    document = stepped(stage(cloud, tmp_path))
    assert document.decision == "hold"
    assert "deleted 600 of 1,000 rows of tasks" in document.reasons[0]
    assert cloud.notices == ["ALARM: unusual deletes by the Task Service", "canary 0 -> 5 %: hold"]
    assert document.evidence is not None
    assert document.evidence.deletes == (gone,)


def test_whoever_writes_where_nobody_should_is_told_at_once_and_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a promotion to 100 % while the monolith's jobs go on, and that nobody hears of them before the watch is over."""
    text = "source: somebody else writes: 12 writes by app as 'scheduler'"
    monkeypatch.setattr(replication, "look", lambda settings, timeout: Looked(0.1, 0, 2, (), (text,)))
    cloud = Cloud(50)
    document = stepped(stage(cloud, tmp_path))
    assert (document.to, document.decision, document.reasons) == (100, "hold", [text])
    assert cloud.notices == ["ALARM: somebody else writes", "canary 50 -> 100 %: hold"]
    assert text in cloud.texts[0]


def test_a_scheduler_that_was_not_switched_over_is_refused_100_percent_and_no_other_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a weight at which the monolith's scheduler must not write, while it does."""
    monkeypatch.setattr(readiness, "observe", lambda stage: replace(READY, not_switched=("the scheduler still runs",)))
    assert stepped(stage(Cloud(25), tmp_path)).decision == "promote"
    cloud = Cloud(50)
    document = stepped(stage(cloud, tmp_path / "other"))
    assert (document.decision, document.reasons, cloud.ups) == ("refused", ["the scheduler still runs"], [])


def test_a_way_back_that_broke_under_the_watch_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a promotion though capture was switched off meanwhile; and a kept decision that cannot be judged anew."""
    looks = iter([READY, replace(READY, failing=("target: capture is off",))])
    monkeypatch.setattr(readiness, "observe", lambda stage: next(looks))
    document = stepped(stage(Cloud(), tmp_path))
    assert document.decision == "hold"
    assert "target: capture is off" in document.reasons[0]
    assert document.evidence is not None
    again = gates.decide(document.evidence, GateLimits(minimum_requests=100), 0.05)
    assert (again.verdict, list(again.reasons)) == ("hold", document.reasons)

    def away(stage: Stage) -> Readiness:
        raise DatabaseError("the source is away")

    cloud = Cloud()
    monkeypatch.setattr(readiness, "observe", lambda stage: away(stage) if cloud.ups else READY)
    document = stepped(stage(cloud, tmp_path / "other"))
    assert (document.decision, cloud.live) == ("hold", 5)
    assert "the source is away" in document.reasons[0]


def test_a_rollback_goes_on_without_the_lock_when_the_source_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def down(settings: Settings, operation: Operation, *, take_over: bool = False) -> Iterator[Lock]:
        raise DatabaseError("cannot connect")
        yield Lock()

    monkeypatch.setattr(operator_lock, "locked", down)
    cloud = Cloud(weight=50)
    assert rollback.run(stage(cloud, tmp_path), stop_service=True).service_stopped
    assert (cloud.live, cloud.stopped, cloud.enabled) == (0, True, False)


def test_a_deployment_that_hangs_or_fails_names_the_emergency(tmp_path: Path) -> None:
    """Prevents an operator who waits for a backend that is away, and does not know the other way."""
    cloud = Cloud(weight=50)

    def broken(name: str) -> None:
        if name == "before up":
            raise Refused("the stack is locked")

    cloud.at = broken
    at = stage(cloud, tmp_path)
    with pytest.raises(Refused, match="the stack is locked; .* rollback --emergency"):
        rollback.run(at)
    assert cloud.live == 50
    cloud.at = lambda name: None
    document = rollback.emergency(Emergency(at.settings, cloud, cloud, None, cloud), reasons=("locked",))  # type: ignore[arg-type]
    assert (cloud.live, cloud.declared, document.by) == (0, 0, "load balancer API")
    assert "the next `up` will show an update of the live rule to 0 %" in str(document.drift)
    assert status(at).rollback_owed is None


def test_a_rule_that_was_changed_beside_pulumi_goes_back_too(tmp_path: Path) -> None:
    """Prevents a rollback that changes nothing, as Pulumi's state says 0 % already, while the rule does not."""
    cloud = Cloud()

    def deployed(name: str) -> None:
        if name == "up done":
            cloud.live = 30

    cloud.at = deployed
    document = rollback.run(stage(cloud, tmp_path))
    assert (cloud.live, document.by) == (0, "load balancer API")
    assert "pulumi refresh" in str(document.drift)


def test_a_deployment_that_raises_the_weight_meanwhile_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents an `up` of somebody else, under way when the emergency came, from having the last word."""
    cloud = Cloud(weight=50)

    def raised(settings: Settings, timeout: float) -> float:
        cloud.live = 25
        return 0.1

    monkeypatch.setattr(fence, "reverse", raised)
    at = stage(cloud, tmp_path)
    document = rollback.emergency(Emergency(at.settings, cloud, cloud, None, cloud))  # type: ignore[arg-type]
    assert (document.moved_again, cloud.live) == (True, 0)


def test_a_hanging_deployment_and_a_hanging_journal_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a rollback that waits for S3, or for a backend that never answers, while users meet errors."""
    cloud, over = Cloud(weight=50), threading.Event()
    at = stage(cloud, tmp_path, rollback_limit_seconds=0.4)

    def hang(*_: Any, **__: Any) -> Any:
        over.wait(30)
        raise MigrationError("too late")

    cloud.at = lambda name: hang() if name == "before up" else None
    monkeypatch.setattr(way_back, "JOURNAL_SECONDS", 0.1)
    monkeypatch.setattr(type(at.settings.journal), "record", hang)
    try:
        document = rollback.execute(at, Lock(), unattended=True)
    finally:
        over.set()
    assert (cloud.live, document.by) == (0, "load balancer API")
    assert "did not end within 0.2 s" in str(document.pulumi)


def test_a_rollback_begun_while_a_deployment_ran_wins_over_it(tmp_path: Path) -> None:
    """Prevents an `up` that ends after an emergency rollback from having the last word."""
    cloud = Cloud(weight=5)
    at = stage(cloud, tmp_path)

    def meanwhile(name: str) -> None:
        if name == "up done":
            history.keep(at.settings, Step.ROLLBACK, "begun", {"reasons": ["another operator"]})
            history.keep(at.settings, Step.ROLLBACK, "done", {})

    cloud.at = meanwhile
    with pytest.raises(Refused, match="a rollback was begun while the deployment of 25 % ran"):
        canary.run(at)
    assert (cloud.live, cloud.declared, cloud.ups) == (0, 0, [25])
