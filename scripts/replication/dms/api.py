"""AWS DMS by boto3: what the engine asks of it and does with it. Every wait has a deadline and says what it saw last."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from components import dms_settings
from components.config import read_stack_file
from scripts.replication.directions import Direction
from scripts.replication.dms import state as answers
from scripts.replication.documents import DmsLatency
from scripts.support import aws
from scripts.support.errors import MigrationError, Refused, TimedOut
from scripts.support.settings import Settings, stack_file
from scripts.support.wait import wait_until

TASKS: Mapping[Direction, str] = {
    "forward": dms_settings.FORWARD_TASK_ID,
    "reverse": dms_settings.REVERSE_TASK_ID,
}
#: ``(reads from, writes to)`` of each task.
ENDPOINTS: Mapping[Direction, tuple[str, str]] = {
    "forward": (dms_settings.SOURCE_ENDPOINT_ID, dms_settings.TARGET_ENDPOINT_ID),
    "reverse": (dms_settings.REVERSE_SOURCE_ENDPOINT_ID, dms_settings.REVERSE_TARGET_ENDPOINT_ID),
}
#: What starting a task came to.
Outcome = Literal["running-already", "started", "resumed"]
#: What may lead boto3 elsewhere while this process runs.
_LED_BY = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DATABASE_MIGRATION_SERVICE",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
)
#: A task of this size starts in 20 to 60 s; a stop waits for the transactions under way.
START_SECONDS = 300.0
STOP_SECONDS = 300.0
TEST_SECONDS = 180.0
DELETE_SECONDS = 300.0
#: CloudWatch has the latencies once a minute, some minutes late; older ones say nothing of now.
METRIC_MINUTES = 10


def region(settings: Settings) -> str | None:
    """The stack's region; None without a stack: boto3 then takes the environment's."""
    if settings.stack is None:
        return None
    path = stack_file(settings.stack)
    found = read_stack_file(path).get("region") if path.exists() else None
    return str(found) if found else None


def build(settings: Settings) -> Dms:
    """What operates the DMS of these settings."""
    with _asking("reaching AWS DMS"):
        return _dms(region(settings), tuple(os.environ.get(name) for name in _LED_BY))


@lru_cache(maxsize=4)
def _dms(where: str | None, _led: tuple[str | None, ...]) -> Dms:
    # Making a client reads the service's whole model, and a fence asks for one each time.
    return Dms(aws.client("dms", where), aws.client("cloudwatch", where))


@contextmanager
def _asking(what: str) -> Iterator[None]:
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


class Dms:
    """The two tasks, their endpoints and their instance, found by the names that the program declares.

    Args:
        client: boto3 client of `dms`.
        cloudwatch: boto3 client of `cloudwatch`.
        interval: seconds between two looks in a wait.
    """

    def __init__(self, client: Any, cloudwatch: Any, interval: float = 1.0) -> None:
        self._client, self._cloudwatch, self._interval = client, cloudwatch, interval

    # --- looking ---------------------------------------------------------------------------------------------------
    def find(self, direction: Direction) -> dict[str, Any] | None:
        """The task's description, None when there is none."""
        return self._find_task("replication-task-id", TASKS[direction])

    def task(self, direction: Direction) -> dict[str, Any]:
        """The task's description. Raises Refused when it is not deployed."""
        found = self.find(direction)
        if found is None:
            raise Refused(
                f"AWS DMS has no replication task {TASKS[direction]}; deploy the stack with replicationEngine dms (pulumi up, or pulumi up "
                "--refresh after `finalize` or `rollback --abandon` deleted it)"
            )
        return found

    def _find_task(self, filter_name: str, value: str) -> dict[str, Any] | None:
        with _asking(f"describing the task {value}"):
            try:
                answer = self._client.describe_replication_tasks(Filters=[{"Name": filter_name, "Values": [value]}])
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "ResourceNotFoundFault":
                    return None
                raise
        tasks = answer["ReplicationTasks"]
        return dict(tasks[0]) if tasks else None

    def endpoint(self, identifier: str) -> dict[str, Any]:
        """An endpoint's description. Raises Refused when it is not deployed."""
        with _asking(f"describing the endpoint {identifier}"):
            found = self._client.describe_endpoints(Filters=[{"Name": "endpoint-id", "Values": [identifier]}])
        if not found["Endpoints"]:
            raise Refused(f"AWS DMS has no endpoint {identifier}; deploy the stack: pulumi up --refresh")
        return dict(found["Endpoints"][0])

    def instance(self) -> dict[str, Any]:
        """The replication instance's description. Raises Refused when it is not deployed."""
        name = dms_settings.INSTANCE_ID
        with _asking(f"describing the replication instance {name}"):
            found = self._client.describe_replication_instances(
                Filters=[{"Name": "replication-instance-id", "Values": [name]}]
            )
        if not found["ReplicationInstances"]:
            raise Refused(f"AWS DMS has no replication instance {name}; deploy the stack: pulumi up --refresh")
        return dict(found["ReplicationInstances"][0])

    def statistics(self, task_arn: str) -> list[dict[str, Any]]:
        """DescribeTableStatistics of a task, all pages."""
        found: list[dict[str, Any]] = []
        marker: str | None = None
        with _asking("describing the tables' statistics"):
            while True:
                more = {"Marker": marker} if marker else {}
                page = self._client.describe_table_statistics(ReplicationTaskArn=task_arn, **more)
                found += page.get("TableStatistics", [])
                marker = page.get("Marker")
                if not marker:
                    return found

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
        with _asking(f"reading the metric {name}"):
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
        return float(points[-1]["Maximum"]) if points else None

    # --- doing -----------------------------------------------------------------------------------------------------
    def check_instance(self) -> dict[str, Any]:
        """The instance, which must be able to work. Raises Refused with what to do."""
        found = self.instance()
        problem = answers.instance_problem(found, self.free_storage_gb())
        if problem:
            raise Refused(problem)
        return found

    def test_connections(self, endpoints: Sequence[str], timeout: float = TEST_SECONDS) -> dict[str, str]:
        """Have the instance connect to each endpoint; ``{identifier: "successful"}``.

        Raises:
            Refused: one cannot be reached; all of them are named, with what DMS said.
            TimedOut: a test did not end.
        """
        instance = str(self.check_instance()["ReplicationInstanceArn"])
        arns = {name: str(self.endpoint(name)["EndpointArn"]) for name in endpoints}
        for name, arn in arns.items():
            with _asking(f"testing the endpoint {name}"):
                try:
                    self._client.test_connection(ReplicationInstanceArn=instance, EndpointArn=arn)
                except ClientError as error:
                    # A test that is under way already is as good as one of ours.
                    if error.response.get("Error", {}).get("Code") != "InvalidResourceStateFault":
                        raise

        def observe() -> dict[str, Mapping[str, Any] | None]:
            return {name: self._connection(instance, arn) for name, arn in arns.items()}

        seen = wait_until(
            observe,
            lambda found: all(entry is not None and entry["Status"] != "testing" for entry in found.values()),
            what="the tests of the endpoints to end",
            timeout=timeout,
            interval=self._interval,
        )
        problems = [answers.connection_problem(name, entry) for name, entry in seen.items()]
        if any(problems):
            raise Refused("; ".join(problem for problem in problems if problem))
        return {name: str(entry["Status"]) for name, entry in seen.items() if entry}

    def _connection(self, instance: str, endpoint: str) -> Mapping[str, Any] | None:
        with _asking("describing connections"):
            found = self._client.describe_connections(Filters=[{"Name": "endpoint-arn", "Values": [endpoint]}])
        for entry in found.get("Connections", []):
            if entry["ReplicationInstanceArn"] == instance:
                return dict(entry)
        return None

    def start(self, direction: Direction, position: str | None, timeout: float = START_SECONDS) -> Outcome:
        """Start a task at the LSN ``position``, or resume it where it was when that is None; wait until it runs.

        Raises:
            MigrationError: it failed; with what DMS says and what to do.
            TimedOut: it does not run after ``timeout`` seconds.
        """
        task = self._steady(direction, timeout)
        if task["Status"] == "running":
            return "running-already"
        arguments: dict[str, Any] = {"StartReplicationTaskType": "resume-processing"}
        if position is not None:
            arguments = {"StartReplicationTaskType": "start-replication", "CdcStartPosition": position}
        with _asking(f"starting the task {TASKS[direction]}"):
            self._client.start_replication_task(ReplicationTaskArn=task["ReplicationTaskArn"], **arguments)
        seen = self._wait(
            direction,
            lambda found: found["Status"] in ("running", "failed", "stopped"),
            f"the task {TASKS[direction]} to run",
            timeout,
        )
        if seen["Status"] != "running":
            raise MigrationError(answers.task_problem(seen))
        return "resumed" if position is None else "started"

    def stop(self, direction: Direction, timeout: float = STOP_SECONDS) -> bool:
        """Stop a task and confirm it; returns whether it ran. Raises TimedOut."""
        if self.find(direction) is None:
            return False
        task = self._steady(direction, timeout)
        if task["Status"] != "running":
            return False
        with _asking(f"stopping the task {TASKS[direction]}"):
            self._client.stop_replication_task(ReplicationTaskArn=task["ReplicationTaskArn"])
        self._wait(
            direction,
            lambda found: found["Status"] in ("stopped", "failed"),
            f"the task {TASKS[direction]} to stop",
            timeout,
        )
        return True

    def delete(self, direction: Direction, timeout: float = DELETE_SECONDS) -> bool:
        """Stop and delete a task, with the checkpoint it would resume from; returns whether there was one."""
        found = self.find(direction)
        if found is None:
            return False
        self.stop(direction, timeout)
        with _asking(f"deleting the task {TASKS[direction]}"):
            self._client.delete_replication_task(ReplicationTaskArn=found["ReplicationTaskArn"])
        wait_until(
            lambda: self.find(direction),
            lambda task: task is None,
            what=f"the task {TASKS[direction]} to be deleted",
            timeout=timeout,
            interval=self._interval,
        )
        return True

    def _steady(self, direction: Direction, timeout: float) -> dict[str, Any]:
        """The task once it is in no passing status."""
        return self._wait(
            direction,
            lambda found: found["Status"] not in answers.PASSING,
            f"the task {TASKS[direction]} to leave its passing status",
            timeout,
        )

    def _wait(self, direction: Direction, done: Any, what: str, timeout: float) -> dict[str, Any]:
        def observe() -> dict[str, Any]:
            return self.task(direction)

        last: dict[str, Any] = {}

        def judge(found: dict[str, Any]) -> bool:
            last.clear()
            # The settings and mappings are long and say nothing here.
            last.update({key: found.get(key) for key in ("Status", "StopReason", "LastFailureMessage")})
            return bool(done(found))

        try:
            return wait_until(observe, judge, what=what, timeout=timeout, interval=self._interval)
        except TimedOut:
            raise TimedOut(
                f"{what}: not so after {timeout:g} s (the limit); last seen: {last}; look at the task in the DMS console and its log, "
                "then run the command again"
            ) from None
