"""The calls to AWS DMS and CloudWatch, judged both ways by botocore's own models of the services."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from components import dms_settings
from scripts.replication.dms.api import Dms
from scripts.replication.dms.observe import ENDPOINTS, TASKS
from scripts.support.errors import MigrationError, Refused, TimedOut

ARN = "arn:aws:dms:ap-northeast-1:123456789012:task:ABCDEF"
INSTANCE_ARN = "arn:aws:dms:ap-northeast-1:123456789012:rep:XYZ"
ENDPOINT_ARN = "arn:aws:dms:ap-northeast-1:123456789012:endpoint:E1"


def client(service: str) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload]
        region_name="ap-northeast-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )


class Stubs:
    """Both clients with prepared answers, whose shapes botocore checks."""

    def __init__(self) -> None:
        self.dms_client, self.watch_client = client("dms"), client("cloudwatch")
        self.dms, self.watch = Stubber(self.dms_client), Stubber(self.watch_client)
        self.operator = Dms(self.dms_client, self.watch_client, interval=0.01)

    def task(self, status: str, **more: Any) -> None:
        """The next DescribeReplicationTasks answers this."""
        described = {
            "ReplicationTaskIdentifier": dms_settings.FORWARD_TASK_ID,
            "ReplicationTaskArn": ARN,
            "Status": status,
            "TableMappings": "{}",
            **more,
        }
        self.dms.add_response(
            "describe_replication_tasks",
            {"ReplicationTasks": [described]},
            {"Filters": [{"Name": "replication-task-id", "Values": [dms_settings.FORWARD_TASK_ID]}]},
        )

    def instance(self, status: str = "available", free_gb: float | None = 40.0) -> None:
        """DescribeReplicationInstances, then the free disk."""
        described = {
            "ReplicationInstanceIdentifier": dms_settings.INSTANCE_ID,
            "ReplicationInstanceArn": INSTANCE_ARN,
            "ReplicationInstanceStatus": status,
            "AllocatedStorage": 50,
        }
        self.dms.add_response(
            "describe_replication_instances",
            {"ReplicationInstances": [described]},
            {"Filters": [{"Name": "replication-instance-id", "Values": [dms_settings.INSTANCE_ID]}]},
        )
        self.metric("FreeStorageSpace", [] if free_gb is None else [free_gb * 2**30], {})

    def tested(self, *answers: dict[str, Any], refused: bool = False) -> None:
        """DescribeEndpoints and TestConnection of the endpoint e, then DescribeConnections until the last of ``answers``."""
        self.dms.add_response(
            "describe_endpoints",
            {"Endpoints": [{"EndpointIdentifier": "e", "EndpointArn": ENDPOINT_ARN}]},
            {"Filters": [{"Name": "endpoint-id", "Values": ["e"]}]},
        )
        both = {"ReplicationInstanceArn": INSTANCE_ARN, "EndpointArn": ENDPOINT_ARN}
        if refused:
            self.dms.add_client_error(
                "test_connection", "InvalidResourceStateFault", "is being tested", expected_params=both
            )
        else:
            self.dms.add_response("test_connection", {"Connection": {"Status": "testing"}}, both)
        for one in answers:
            self.dms.add_response(
                "describe_connections",
                {"Connections": [{**both, **one}]},
                {"Filters": [{"Name": "endpoint-arn", "Values": [ENDPOINT_ARN]}]},
            )

    def metric(self, name: str, values: list[float], dimensions: dict[str, str]) -> None:
        """The next GetMetricStatistics, one value a minute."""
        every = {"ReplicationInstanceIdentifier": dms_settings.INSTANCE_ID, **dimensions}
        points = [
            {"Timestamp": datetime(2026, 11, 23, 12, minute, tzinfo=UTC), "Maximum": value, "Unit": "Seconds"}
            for minute, value in enumerate(values)
        ]
        self.watch.add_response(
            "get_metric_statistics",
            {"Label": name, "Datapoints": points[::-1]},
            {
                "Namespace": "AWS/DMS",
                "MetricName": name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in every.items()],
                "StartTime": ANY,
                "EndTime": ANY,
                "Period": 60,
                "Statistics": ["Maximum"],
            },
        )

    def started(self, **arguments: str) -> None:
        """StartReplicationTask with exactly these arguments."""
        self.dms.add_response(
            "start_replication_task",
            {"ReplicationTask": {"ReplicationTaskArn": ARN, "Status": "starting"}},
            {"ReplicationTaskArn": ARN, **arguments},
        )


@pytest.fixture
def stubs() -> Iterator[Stubs]:
    made = Stubs()
    with made.dms, made.watch:
        yield made
        made.dms.assert_no_pending_responses()
        made.watch.assert_no_pending_responses()


def test_a_first_start_names_the_position_and_waits_until_it_runs(stubs: Stubs) -> None:
    """Prevents a task that starts `from now`, with a hole behind the copy."""
    stubs.task("creating")
    stubs.task("ready")
    stubs.started(StartReplicationTaskType="start-replication", CdcStartPosition="0/16B3748")
    stubs.task("starting")
    stubs.task("running")
    assert stubs.operator.start("forward", "0/16B3748") == "started"


def test_a_stopped_task_is_resumed_without_a_position(stubs: Stubs) -> None:
    """Prevents a second start from the copy's position, which would apply everything again."""
    stubs.task("stopped")
    stubs.started(StartReplicationTaskType="resume-processing")
    stubs.task("running")
    assert stubs.operator.start("forward", None) == "resumed"


def test_a_running_task_is_left_alone(stubs: Stubs) -> None:
    stubs.task("running")
    assert stubs.operator.start("forward", None) == "running-already"


def test_a_task_that_fails_as_it_starts_says_what_to_do(stubs: Stubs) -> None:
    stubs.task("ready")
    stubs.started(StartReplicationTaskType="start-replication", CdcStartPosition="0/1")
    stubs.task("starting")
    stubs.task("failed", LastFailureMessage="Last Error could not connect to server: timeout expired")
    with pytest.raises(MigrationError, match=r"has failed.*timeout expired.*security groups"):
        stubs.operator.start("forward", "0/1")


def test_a_start_has_a_deadline_and_its_last_observation(stubs: Stubs) -> None:
    stubs.task("ready")
    stubs.started(StartReplicationTaskType="start-replication", CdcStartPosition="0/1")
    stubs.task("starting")
    with pytest.raises(TimedOut, match=r"to run: not so after 0 s \(the limit\); last seen: .*'starting'"):
        stubs.operator.start("forward", "0/1", timeout=0)


def test_a_stop_is_confirmed(stubs: Stubs) -> None:
    """Prevents a slot that is dropped while its task still applies."""
    stubs.task("running")
    stubs.task("running")
    stubs.dms.add_response("stop_replication_task", {}, {"ReplicationTaskArn": ARN})
    stubs.task("stopping")
    stubs.task("stopped", StopReason="Stop Reason NORMAL")
    assert stubs.operator.stop("forward") is True


def test_a_deletion_stops_first_and_is_confirmed(stubs: Stubs) -> None:
    """Prevents a task of an abandoned attempt that is resumed by hand."""
    for _ in range(3):
        stubs.task("running")
    stubs.dms.add_response("stop_replication_task", {}, {"ReplicationTaskArn": ARN})
    stubs.task("stopped")
    stubs.dms.add_response("delete_replication_task", {}, {"ReplicationTaskArn": ARN})
    stubs.task("deleting")
    stubs.dms.add_client_error("describe_replication_tasks", "ResourceNotFoundFault", "No Tasks found matching filters")
    assert stubs.operator.delete("forward") is True


def test_a_task_that_is_not_deployed(stubs: Stubs) -> None:
    for _ in range(2):
        stubs.dms.add_client_error("describe_replication_tasks", "ResourceNotFoundFault", "No Tasks found")
    assert stubs.operator.find("forward") is None
    with pytest.raises(Refused, match="pulumi up --refresh"):
        stubs.operator.task("forward")


def test_connections_are_tested_and_waited_for(stubs: Stubs) -> None:
    stubs.instance()
    stubs.tested({"Status": "testing"}, {"Status": "successful"})
    assert stubs.operator.test_connections(["e"]) == {"e": "successful"}


def test_an_endpoint_out_of_reach_is_an_error_with_its_cause(stubs: Stubs) -> None:
    stubs.instance()
    stubs.tested({"Status": "failed", "LastFailureMessage": "no pg_hba.conf entry"}, refused=True)
    with pytest.raises(Refused, match=r"endpoint e cannot be reached.*no pg_hba.conf entry.*access role"):
        stubs.operator.test_connections(["e"])


@pytest.mark.parametrize(
    ("status", "free", "says"),
    [("storage-full", None, "raise dmsAllocatedStorageGb"), ("available", 2.0, "2.0 GB of 50 GB left")],
)
def test_an_instance_out_of_storage(stubs: Stubs, status: str, free: float | None, says: str) -> None:
    stubs.instance(status, free)
    with pytest.raises(Refused, match=says):
        stubs.operator.check_instance()


def test_table_statistics_come_in_pages(stubs: Stubs) -> None:
    """Prevents the tables of the second page from being taken for healthy."""
    first = {"SchemaName": "public", "TableName": "tasks", "TableState": "Table completed", "Inserts": 3}
    second = {"SchemaName": "public", "TableName": "task_tag", "TableState": "Table error"}
    stubs.dms.add_response(
        "describe_table_statistics", {"TableStatistics": [first], "Marker": "m"}, {"ReplicationTaskArn": ARN}
    )
    stubs.dms.add_response(
        "describe_table_statistics", {"TableStatistics": [second]}, {"ReplicationTaskArn": ARN, "Marker": "m"}
    )
    assert [entry["TableName"] for entry in stubs.operator.statistics(ARN)] == ["tasks", "task_tag"]


def test_latencies_are_the_newest_figures_of_the_tasks_resource_id(stubs: Stubs) -> None:
    """CloudWatch knows a task by the last part of its ARN, not by its name."""
    stubs.metric("CDCLatencySource", [9.0, 2.0], {"ReplicationTaskIdentifier": "ABCDEF"})
    stubs.metric("CDCLatencyTarget", [], {"ReplicationTaskIdentifier": "ABCDEF"})
    found = stubs.operator.latency({"ReplicationTaskArn": ARN})
    assert found.plain() == {"source_seconds": 2.0, "target_seconds": None}


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        ("AccessDeniedFault", MigrationError, "check the rights"),
        ("StorageQuotaExceededFault", MigrationError, "quota"),
        ("ResourceNotFoundFault", Refused, "pulumi up --refresh"),
    ],
)
def test_errors_of_the_service_name_the_remedy(stubs: Stubs, code: str, kind: type[Exception], says: str) -> None:
    stubs.dms.add_client_error("describe_table_statistics", code, "no")
    with pytest.raises(kind, match=says):
        stubs.operator.statistics(ARN)


def test_every_wait_of_a_task_names_both_directions() -> None:
    assert set(TASKS) == set(ENDPOINTS) == {"forward", "reverse"}
    assert len({name for pair in ENDPOINTS.values() for name in pair}) == 4
