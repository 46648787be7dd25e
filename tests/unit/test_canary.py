"""A canary step moves the weight only when the gate, the preview and the ladder allow it, and tells what a kill left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from components.config import MigrationConfig
from scripts import canary, conflicts, fence, rollback
from scripts.canary import LIVE_RULE, Stage
from scripts.deploy import Change, PreviewResult, UpResult
from scripts.gates import Observed, Readiness, Traffic
from scripts.support.errors import MigrationError, TimedOut
from scripts.support.settings import Settings
from scripts.traffic import CloudWatchMetrics

RULE = Change("urn:rule", LIVE_RULE, "routes-live-rule", "update", ("actions",))
OTHER = Change("urn:db", "aws:rds/instance:Instance", "database-instance", "replace", ("engineVersion",))
HEALTHY = Observed(10.0, Traffic(1000, 0, 10.0, 20.0), 5.0, 5.0)
FAILING = Observed(10.0, Traffic(1000, 100, 10.0, 20.0), 5.0, 5.0)


class Cloud:
    """Deployment, load balancer and figures in one: what a deployment sets is what the load balancer then says."""

    def __init__(self, weight: int = 0, changes: tuple[Change, ...] = (RULE,), observed: Observed = HEALTHY) -> None:
        self.declared = self.live = weight
        self.changes, self.observed = changes, observed
        self.ups: list[int] = []
        self.fails = False

    def up(self, overrides: Mapping[str, object]) -> UpResult:
        self.declared = int(str(overrides["canaryWeight"]))
        if self.fails:
            raise MigrationError("killed between config and API")
        self.live = self.declared
        self.ups.append(self.live)
        return UpResult((RULE,), {})

    def preview(self, overrides: Mapping[str, object]) -> PreviewResult:
        return PreviewResult(() if overrides["canaryWeight"] == self.live else self.changes)

    def outputs(self) -> dict[str, Any]:
        return {}

    def config(self) -> dict[str, Any]:
        return {"canaryWeight": self.declared}

    def destroy(self) -> None:
        raise AssertionError("a canary destroys nothing")

    def weight(self) -> int:
        return self.live

    def confirm(self, weight: int, timeout: float = 30.0) -> None:
        assert self.live == weight

    def observe(self, since: float) -> Observed:
        return self.observed

    def idle_seconds(self) -> float | None:
        return 60.0


@pytest.fixture(autouse=True)
def _databases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "readiness", lambda settings: Readiness(True, True, 0.1, 0.1))
    monkeypatch.setattr(conflicts, "set_tie_winner", lambda settings, winner: None)
    monkeypatch.setattr(fence, "reverse", lambda settings, timeout: 0.1)
    monkeypatch.setattr(fence, "both", lambda settings, timeout: {})


def stage(cloud: Cloud, tmp_path: Path) -> Stage:
    config = MigrationConfig(watch_seconds=0.05)
    settings = Settings(config=config, stack="x", source_url=None, target_url=None, state_dir=tmp_path)
    return Stage(settings, cloud, cloud, cloud)  # type: ignore[arg-type]


def test_a_healthy_step_is_promoted_and_journalled(tmp_path: Path) -> None:
    cloud = Cloud()
    at = stage(cloud, tmp_path)
    document = canary.step(at)
    assert (document["from"], document["to"], document["decision"]) == (0, 5, "promote")
    assert document["changed"] == ["routes-live-rule"]
    assert document["evidence"]["task_service"]["requests"] == 1000
    assert [event["event"] for event in at.settings.journal.events("canary")] == ["begun", "moved", "decided"]


@pytest.mark.parametrize("changes", [(RULE, OTHER), (OTHER,), (RULE, RULE)])
def test_a_deployment_that_changes_more_is_refused_with_a_list(tmp_path: Path, changes: tuple[Change, ...]) -> None:
    cloud = Cloud(changes=changes)
    document = canary.step(stage(cloud, tmp_path))
    assert document["decision"] == "refused"
    assert f"{changes[-1].op} {changes[-1].name}" in document["reasons"][0]
    assert cloud.ups == []


@pytest.mark.parametrize(
    ("readiness", "said"),
    [
        (Readiness(True, False, 0.1, None), "reverse direction"),
        (Readiness(True, True, 0.1, 99.0), "reverse fence took"),
    ],
)
def test_no_weight_goes_up_unless_a_rollback_would_keep_every_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readiness: Readiness, said: str
) -> None:
    monkeypatch.setattr(canary, "readiness", lambda settings: readiness)
    cloud = Cloud()
    document = canary.step(stage(cloud, tmp_path))
    assert document["decision"] == "refused"
    assert said in " ".join(document["reasons"])
    assert cloud.ups == []


def test_a_breach_rolls_back_to_the_monolith(tmp_path: Path) -> None:
    cloud = Cloud(weight=25, observed=FAILING)
    document = canary.step(stage(cloud, tmp_path))
    assert (document["decision"], document["rollback"]["to"], cloud.live) == ("rollback", 0, 0)
    assert cloud.ups == [50, 0]
    assert "error rate is 10 %" in document["reasons"][0]


def test_a_step_killed_after_its_config_was_set_is_continued(tmp_path: Path) -> None:
    cloud = Cloud(weight=5)
    at = stage(cloud, tmp_path)
    cloud.fails = True
    with pytest.raises(MigrationError):
        canary.step(at)
    assert (cloud.declared, cloud.live) == (25, 5)
    assert canary.status(at)["drift"]
    cloud.fails = False
    document = canary.step(at)
    assert (document["from"], document["to"], document["decision"]) == (5, 25, "promote")
    assert cloud.live == 25


def test_a_step_that_held_is_watched_again_before_the_next_one(tmp_path: Path) -> None:
    cloud = Cloud(observed=Observed(10.0, Traffic(3, 0, 1.0, 1.0), 5.0, 5.0))
    at = stage(cloud, tmp_path)
    assert canary.step(at)["decision"] == "hold"
    cloud.observed = HEALTHY
    document = canary.step(at)
    assert (document["from"], document["to"], document["decision"]) == (0, 5, "promote")
    assert canary.step(at)["to"] == 25


def test_run_climbs_the_ladder_and_stops_at_a_breach(tmp_path: Path) -> None:
    cloud = Cloud()
    assert canary.run(stage(cloud, tmp_path))["to"] == 100
    assert cloud.ups == [5, 25, 50, 100]


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    cloud = Cloud()
    at = stage(cloud, tmp_path)
    assert canary.step(at, dry_run=True)["reasons"] == ["would update routes-live-rule"]
    assert (cloud.ups, list(at.settings.journal.events())) == ([], [])


def test_a_rollback_moves_the_routes_even_when_the_proof_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(settings: Settings, timeout: float) -> float:
        raise TimedOut("fence from the target: not through")

    monkeypatch.setattr(fence, "reverse", late)
    cloud = Cloud(weight=50)
    at = stage(cloud, tmp_path)
    with pytest.raises(TimedOut, match="all routes are on the monolith .* keep both databases"):
        rollback.run(at)
    assert cloud.live == 0
    assert at.settings.journal.last("rollback", "unproven") is not None


GROUP = "arn:aws:elasticloadbalancing:ap-northeast-1:123456789012:targetgroup/task-service/0123"
OUTPUTS = {
    "taskTargetGroupArn": GROUP,
    "listenerArn": "arn:aws:elasticloadbalancing:ap-northeast-1:123456789012:listener/app/myteacher/aa/bb",
    "clusterArn": "arn:aws:ecs:ap-northeast-1:123456789012:cluster/myteacher-cluster",
    "serviceName": "task-service",
}


def test_cloudwatch_figures_come_from_one_call_with_the_groups_dimensions() -> None:
    client = boto3.client("cloudwatch", region_name="ap-northeast-1", aws_access_key_id="x", aws_secret_access_key="x")
    at = datetime.now(UTC)
    values = {"requests": [100.0, 50.0], "p50": [0.1, 0.12], "p95": [0.3, 0.25], "cpu": [10.0], "memory": []}
    results = [
        {"Id": key, "Timestamps": [at] * len(found), "Values": found, "StatusCode": "Complete"}
        for key, found in values.items()
    ]
    with Stubber(client) as stub:
        parameters = {"MetricDataQueries": ANY, "StartTime": ANY, "EndTime": ANY, "ScanBy": "TimestampAscending"}
        stub.add_response("get_metric_data", {"MetricDataResults": results}, parameters)
        metrics = CloudWatchMetrics(client, OUTPUTS)
        observed = metrics.observe(time.time() - 60)
        stub.assert_no_pending_responses()
    assert observed.task_service == Traffic(150, 0, 120.0, 300.0)
    assert (observed.cpu_percent, observed.memory_percent) == (10.0, None)
    assert metrics._queries[0].dimensions == {
        "TargetGroup": "targetgroup/task-service/0123",
        "LoadBalancer": "app/myteacher/aa",
    }
