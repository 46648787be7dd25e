"""One call brings every figure of a look, by the dimensions that AWS publishes, and what is missing stays missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from scripts.canary import cloudwatch
from scripts.canary.cloudwatch import CloudWatchMetrics
from scripts.canary.figures import Traffic
from scripts.support.errors import MigrationError

ELB = "arn:aws:elasticloadbalancing:ap-northeast-1:123456789012"
OUTPUTS = {
    "taskTargetGroupArn": f"{ELB}:targetgroup/task-service/0123",
    "monolithTargetGroupArn": f"{ELB}:targetgroup/myteacher/4567",
    "listenerArn": f"{ELB}:listener/app/myteacher/aa/bb",
    "clusterArn": "arn:aws:ecs:ap-northeast-1:123456789012:cluster/myteacher-cluster",
    "serviceName": "task-service",
    "sourceInstanceIdentifier": "myteacher-production",
    "targetInstanceIdentifier": "task-service-db",
}
DMS = {
    "dmsInstanceId": "myteacher-task-replication",
    "dmsForwardTaskArn": "arn:aws:dms:ap-northeast-1:123456789012:task:FORWARD",
    "dmsReverseTaskArn": "arn:aws:dms:ap-northeast-1:123456789012:task:REVERSE",
}
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def client() -> Any:
    return boto3.client("cloudwatch", region_name="ap-northeast-1", aws_access_key_id="x", aws_secret_access_key="x")


def result(key: str, values: dict[int, float], status: str = "Complete") -> dict[str, Any]:
    """One metric's answer: values by minute after noon."""
    stamps = [datetime.fromtimestamp(NOON + 60 * minute, UTC) for minute in values]
    return {"Id": key, "Timestamps": stamps, "Values": list(values.values()), "StatusCode": status}


def test_one_call_gives_both_sides_and_all_they_rest_on(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a figure of another target group, a percentile in seconds, and a missing minute that counts as quiet."""
    monkeypatch.setattr("time.time", lambda: NOON + 5 * 60 + 10)
    answer = [
        result("task_requests", {0: 100.0, 1: 50.0}),
        result("task_errors", {0: 2.0}),
        result("task_failed_connections", {0: 1.0}),
        result("task_refusals", {1: 4.0}),
        result("task_p50", {0: 0.1, 1: 0.12}),
        result("task_p95", {0: 0.3, 1: 0.25}),
        result("task_healthy", {0: 2.0, 1: 1.0, 2: 0.0}),
        result("monolith_requests", {0: 1900.0}),
        result("monolith_p95", {0: 0.4}),
        result("cpu", {0: 10.0, 1: 11.0}, "PartialData"),
        result("memory", {0: 20.0}),
        result("database_cpu", {0: 5.0}),
        result("database_connections", {0: 12.0}),
        result("database_free", {0: 9e10}),
        result("slot_source", {0: 7.0}),
        result("slot_target", {0: 9.0, 1: 1.0}),
    ]
    with Stubber(client) as stub:
        expected = {
            "MetricDataQueries": ANY, "ScanBy": "TimestampAscending",
            "StartTime": datetime.fromtimestamp(NOON, UTC), "EndTime": datetime.fromtimestamp(NOON + 180, UTC),
        }  # fmt: skip
        stub.add_response("get_metric_data", {"MetricDataResults": answer}, expected)
        observed = CloudWatchMetrics(client, OUTPUTS).observe(NOON - 30)
        stub.assert_no_pending_responses()
    first, second, third = observed.periods
    assert observed.watched_seconds == 180
    assert first.task_service == Traffic(100, 3, 0, 100.0, 300.0)
    assert first.monolith == Traffic(1900, 0, 0, None, 400.0)
    assert second.task_service == Traffic(50, 0, 4, 120.0, 250.0)
    assert (second.monolith, third.task_service, third.healthy_hosts) == (None, None, 0.0)
    assert (first.cpu_percent, first.memory_percent, second.memory_percent) == (None, 20.0, None)
    assert (first.database_free_bytes, first.slot_bytes, second.slot_bytes) == (9e10, 9.0, 1.0)
    assert first.replication_seconds is None


def test_nothing_is_asked_before_a_period_has_settled(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOON + 170)
    with Stubber(client):
        assert CloudWatchMetrics(client, OUTPUTS).observe(NOON).periods == ()


def test_dimensions_are_those_that_aws_publishes() -> None:
    found = {query.key: query for query in cloudwatch.queries({**OUTPUTS, **DMS})}
    balancer = {"LoadBalancer": "app/myteacher/aa"}
    assert found["task_p95"].dimensions == {"TargetGroup": "targetgroup/task-service/0123", **balancer}
    assert found["monolith_requests"].dimensions == {"TargetGroup": "targetgroup/myteacher/4567", **balancer}
    assert found["cpu"].dimensions == {"ClusterName": "myteacher-cluster", "ServiceName": "task-service"}
    assert found["slot_source"].dimensions == {"DBInstanceIdentifier": "myteacher-production"}
    assert found["latency_reverse_target"].dimensions == {
        "ReplicationInstanceIdentifier": "myteacher-task-replication",
        "ReplicationTaskIdentifier": "REVERSE",
    }
    assert len(found) <= 500  # GetMetricData's limit for one call
    # As the API takes them: lower case first, letters, digits and underscores.
    assert all(key[0].islower() and key.replace("_", "").isalnum() for key in found)


def test_a_stack_without_an_output_and_a_service_without_rights_are_named(client: Any) -> None:
    with pytest.raises(MigrationError, match="no output serviceName"):
        cloudwatch.queries({key: value for key, value in OUTPUTS.items() if key != "serviceName"})
    with Stubber(client) as stub:
        stub.add_client_error("get_metric_data", "AccessDenied")
        with pytest.raises(MigrationError, match="check cloudwatch:GetMetricData"):
            CloudWatchMetrics(client, OUTPUTS).observe(NOON)


def test_silence_is_never_claimed_from_figures_that_come_late(client: Any) -> None:
    """Prevents a drain that ends because the last minute is not published yet."""
    assert CloudWatchMetrics(client, OUTPUTS).idle_seconds() is None
