"""What AWS DMS and CloudWatch answer of the two tasks, their endpoints and their instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from components import dms_settings
from scripts.replication.directions import Direction
from scripts.replication.documents import DmsLatency
from scripts.support.errors import MigrationError, Refused
from scripts.support.figure import figure

TASKS: Mapping[Direction, str] = {
    "forward": dms_settings.FORWARD_TASK_ID,
    "reverse": dms_settings.REVERSE_TASK_ID,
}
#: ``(reads from, writes to)`` of each task.
ENDPOINTS: Mapping[Direction, tuple[str, str]] = {
    "forward": (dms_settings.SOURCE_ENDPOINT_ID, dms_settings.TARGET_ENDPOINT_ID),
    "reverse": (dms_settings.REVERSE_SOURCE_ENDPOINT_ID, dms_settings.REVERSE_TARGET_ENDPOINT_ID),
}
#: CloudWatch has the latencies once a minute, some minutes late; older ones say nothing of now.
METRIC_MINUTES = 10


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn what boto3 raises inside into an error of ours that says what to do: Refused where something is not deployed."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code == "ResourceNotFoundFault":
            raise Refused(f"{what}: {error}; it is not deployed, or was deleted: pulumi up --refresh") from None
        if code in ("StorageQuotaExceededFault", "InsufficientResourceCapacityFault"):
            raise MigrationError(f"{what}: {error}; raise dmsAllocatedStorageGb or the account's quota") from None
        raise MigrationError(f"{what}: {error}; check the rights (dms:*Replication*, dms:*Connection*)") from None
    except BotoCoreError as error:
        raise MigrationError(f"{what}: {error}; check credentials and region") from None


class Observer:
    """Finds them by the names that the program declares.

    Args:
        client: boto3 client of `dms`.
        cloudwatch: boto3 client of `cloudwatch`.
    """

    def __init__(self, client: Any, cloudwatch: Any) -> None:
        self._client, self._cloudwatch = client, cloudwatch

    def find(self, direction: Direction) -> dict[str, Any] | None:
        """The task's description, None when there is none."""
        given = [{"Name": "replication-task-id", "Values": [TASKS[direction]]}]
        with asking(f"describing the task {TASKS[direction]}"):
            try:
                tasks = self._client.describe_replication_tasks(Filters=given)["ReplicationTasks"]
            except self._client.exceptions.ResourceNotFoundFault:
                return None
        return dict(tasks[0]) if tasks else None

    def task(self, direction: Direction) -> dict[str, Any]:
        """The task's description. Raises Refused when it is not deployed."""
        found = self.find(direction)
        if found is None:
            raise Refused(
                f"AWS DMS has no replication task {TASKS[direction]}; deploy the stack with replicationEngine dms (pulumi up, or pulumi up "
                "--refresh after `finalize` or `rollback --abandon` deleted it)"
            )
        return found

    def endpoint(self, identifier: str) -> dict[str, Any]:
        """An endpoint's description. Raises Refused when it is not deployed."""
        with asking(f"describing the endpoint {identifier}"):
            found = self._client.describe_endpoints(Filters=[{"Name": "endpoint-id", "Values": [identifier]}])
        if not found["Endpoints"]:
            raise Refused(f"AWS DMS has no endpoint {identifier}; deploy the stack: pulumi up --refresh")
        return dict(found["Endpoints"][0])

    def instance(self) -> dict[str, Any]:
        """The replication instance's description. Raises Refused when it is not deployed."""
        name = dms_settings.INSTANCE_ID
        with asking(f"describing the replication instance {name}"):
            found = self._client.describe_replication_instances(
                Filters=[{"Name": "replication-instance-id", "Values": [name]}]
            )
        if not found["ReplicationInstances"]:
            raise Refused(f"AWS DMS has no replication instance {name}; deploy the stack: pulumi up --refresh")
        return dict(found["ReplicationInstances"][0])

    def statistics(self, task_arn: str) -> list[dict[str, Any]]:
        """DescribeTableStatistics of a task, all pages."""
        pages = self._client.get_paginator("describe_table_statistics")
        with asking("describing the tables' statistics"):
            found = pages.paginate(ReplicationTaskArn=task_arn)
            return [entry for page in found for entry in page.get("TableStatistics", [])]

    def latency(self, task: Mapping[str, Any]) -> DmsLatency:
        """How far capture and apply are behind, of CloudWatch.

        Source and target are the task's (AWS DMS, 'Replication task metrics': CDCLatencySource, CDCLatencyTarget).
        """
        resource = str(task["ReplicationTaskArn"]).rsplit(":", 1)[-1]
        dimensions = {"ReplicationTaskIdentifier": resource}
        return DmsLatency(
            source_seconds=self._metric("CDCLatencySource", dimensions),
            target_seconds=self._metric("CDCLatencyTarget", dimensions),
        )

    def free_storage_gb(self) -> float | None:
        """The instance's free disk; None without figures."""
        found = self._metric("FreeStorageSpace", {})
        return None if found is None else found / 2**30

    def _metric(self, name: str, dimensions: Mapping[str, str]) -> float | None:
        every = {"ReplicationInstanceIdentifier": dms_settings.INSTANCE_ID, **dimensions}
        now = datetime.now(UTC)
        with asking(f"reading the metric {name}"):
            answer = self._cloudwatch.get_metric_statistics(
                Namespace="AWS/DMS",
                MetricName=name,
                Dimensions=[{"Name": key, "Value": value} for key, value in every.items()],
                StartTime=now - timedelta(minutes=METRIC_MINUTES),
                EndTime=now + timedelta(minutes=1),
                Period=60,
                Statistics=["Maximum"],
            )
        points = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
        return figure(points[-1]["Maximum"]) if points else None

    def connection(self, instance: str, endpoint: str) -> Mapping[str, Any] | None:
        """The last test of an instance's connection to an endpoint, both by ARN; None when there was none."""
        with asking("describing connections"):
            found = self._client.describe_connections(Filters=[{"Name": "endpoint-arn", "Values": [endpoint]}])
        for entry in found.get("Connections", []):
            if entry["ReplicationInstanceArn"] == instance:
                return dict(entry)
        return None
