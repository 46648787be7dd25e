"""A stand-in for AWS DMS: its API in front of the emulated account, and the tasks' data path on real PostgreSQL.

What is declared (instance, endpoints, tasks with their settings) stays in the emulated account. Calls that a task's life
hangs on are answered here; all others go on to the account as they came. Each answer is checked against botocore's model of
the service before it goes out. State stands in a file, so that a process that was killed goes on with the tasks that ran.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator
from psycopg import conninfo

from components import dms_settings
from scripts.database.connections import connect
from scripts.preflight.account.ways import closed
from scripts.rehearsal.dms.apply import Applier
from scripts.rehearsal.dms.work import Failed, work_of
from scripts.rehearsal.emulated import reach
from scripts.rehearsal.emulated.publish import Minute
from scripts.support import private
from scripts.support.errors import MigrationError
from scripts.support.redact import redact, remember_secret

JSON = dict[str, Any]


class Running:
    """One task's thread and what DescribeReplicationTasks says of it."""

    def __init__(self) -> None:
        self.status = "ready"
        self.failure = ""
        self.stop_reason = ""
        self.position: str | None = None
        self.applier: Applier | None = None
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    def end(self) -> None:
        """Tell the thread to end and wait for it."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join(timeout=30)


class Standin:
    """Answers DMS's API. ``upstream`` is the emulated account's endpoint; ``lag`` as an :class:`Applier` has it."""

    def __init__(self, upstream: str, state: Path, lag: float) -> None:
        self.upstream, self._state, self._lag = upstream, state, lag
        self._lock = threading.RLock()
        self._tasks: dict[str, Running] = {}
        self._client: Any = boto3.client("dms", endpoint_url=upstream)
        self._secrets: Any = boto3.client("secretsmanager", endpoint_url=upstream)
        self._network: Any = boto3.client("ec2", endpoint_url=upstream)
        self._databases: Any = boto3.client("rds", endpoint_url=upstream)
        self._connections: dict[tuple[str, str], JSON] = {}
        self.operations: Mapping[str, Callable[[JSON], JSON]] = {
            "DescribeReplicationTasks": self.describe_tasks,
            "StartReplicationTask": self.start,
            "StopReplicationTask": self.stop,
            "DeleteReplicationTask": self.delete,
            "DescribeTableStatistics": self.statistics,
            "TestConnection": self.test_connection,
            "DescribeConnections": self.describe_connections,
        }

    def _task(self, arn: str) -> JSON:
        every = self._client.describe_replication_tasks()["ReplicationTasks"]
        for task in every:
            if task["ReplicationTaskArn"] == arn:
                return dict(task)
        raise _fault("ResourceNotFoundFault", f"Task {arn} not found")

    def _endpoint(self, arn: str) -> JSON:
        for endpoint in self._client.describe_endpoints()["Endpoints"]:
            if endpoint["EndpointArn"] == arn:
                return dict(endpoint)
        raise _fault("ResourceNotFoundFault", f"Endpoint {arn} not found")

    def _closed(self, endpoint: JSON) -> bool:
        """Whether the account's security groups keep the instance from an endpoint's database, where the account has that."""
        (instance,) = self._client.describe_replication_instances()["ReplicationInstances"]
        for database in self._databases.describe_db_instances()["DBInstances"]:
            if database.get("DBName") == endpoint["DatabaseName"]:
                origin, to = (reach.groups_of(one["VpcSecurityGroups"]) for one in (instance, database))
                return closed(self._network, origin, to, int(database["Endpoint"]["Port"])) is not None
        return False

    def _url(self, endpoint: JSON) -> str:
        """An endpoint's connection string, of its secret, as DMS reads it with the access role.

        Raises:
            MigrationError: DMS gets to no session, with the words that it has for that.
        """
        if self._closed(endpoint):
            raise MigrationError("Failed to connect. Network error has occurred. timeout expired (SqlState 08001)")
        name = (endpoint.get("PostgreSQLSettings") or {}).get("SecretsManagerSecretId")
        secret = json.loads(self._secrets.get_secret_value(SecretId=name)["SecretString"])
        remember_secret(str(secret["password"]))
        if dms_settings.refused_characters(str(secret["password"])):
            # Its connection string ends there, so that the server sees another one.
            raise MigrationError(
                f"FATAL: password authentication failed for user {secret['username']} (SqlState 28P01)"
            )
        return conninfo.make_conninfo(
            host=secret["host"],
            port=int(secret["port"]),
            user=secret["username"],
            password=secret["password"],
            dbname=endpoint["DatabaseName"],
        )

    def start(self, request: JSON) -> JSON:
        """StartReplicationTask: at a position, or where the task was."""
        arn, how = request["ReplicationTaskArn"], request["StartReplicationTaskType"]
        with self._lock:
            running = self._tasks.setdefault(arn, Running())
            if running.status not in ("ready", "stopped", "failed"):
                raise _fault("InvalidResourceStateFault", f"Replication Task cannot be started, it is {running.status}")
            if how == "resume-processing" and running.status == "ready":
                raise _fault("InvalidResourceStateFault", "resume-processing of a task that never ran")
            position = request.get("CdcStartPosition")
            if how == "start-replication" and not position:
                raise _fault("InvalidParameterValueException", "a task with slotName needs CdcStartPosition")
            self._launch(arn, position if how == "start-replication" else None)
        return {"ReplicationTask": self._described(self._task(arn))}

    def _launch(self, arn: str, position: str | None) -> None:
        running = self._tasks.setdefault(arn, Running())
        running.end()
        running.stop = threading.Event()
        running.status, running.failure, running.stop_reason = "starting", "", ""
        running.position = position or running.position
        running.thread = threading.Thread(target=self._work, args=(arn, running, position), daemon=True)
        self._save()
        running.thread.start()

    def _work(self, arn: str, running: Running, position: str | None) -> None:
        try:
            task = self._task(arn)
            reads, writes = self._endpoint(task["SourceEndpointArn"]), self._endpoint(task["TargetEndpointArn"])
            work = work_of(task, reads, writes, self._url(reads), self._url(writes))
            running.applier = Applier(work, self._state.with_name(f"{work.name}.checkpoint"), self._lag)
            running.applier.prepare(position)
            running.status = "running"
            # Only from here on: a start that was killed begins at its position again.
            self._save()
            running.applier.run(running.stop)
            running.status, running.stop_reason = "stopped", "Stop Reason NORMAL"
        except Failed as error:
            running.status, running.failure = "failed", redact(str(error))
        except (MigrationError, ClientError, OSError, KeyError, ValueError) as error:
            running.status, running.failure = "failed", redact(f"Last Error {type(error).__name__}: {error}")
        self._save()

    def stop(self, request: JSON) -> JSON:
        """StopReplicationTask; the task is `stopping` until what it applies is through."""
        arn = request["ReplicationTaskArn"]
        with self._lock:
            running = self._tasks.get(arn)
            if running is None or running.status != "running":
                raise _fault("InvalidResourceStateFault", "Replication Task cannot be stopped, it is not running")
            running.status = "stopping"
            running.stop.set()
        return {"ReplicationTask": self._described(self._task(arn))}

    def delete(self, request: JSON) -> JSON:
        """DeleteReplicationTask, of a task that does not run."""
        arn = request["ReplicationTaskArn"]
        described = self._described(self._task(arn))
        with self._lock:
            running = self._tasks.get(arn)
            if running is not None and running.status in ("running", "starting", "stopping"):
                raise _fault("InvalidResourceStateFault", f"Replication Task cannot be deleted, it is {running.status}")
            self._client.delete_replication_task(ReplicationTaskArn=arn)
            self._tasks.pop(arn, None)
            self._save()
        return {"ReplicationTask": {**described, "Status": "deleting"}}

    def _described(self, task: JSON) -> JSON:
        running = self._tasks.get(str(task["ReplicationTaskArn"])) or Running()
        # The account keeps what it was told; whether the task runs is known here alone.
        found = {
            key: value for key, value in task.items() if key not in ("ReplicationTaskStats", "ReplicationTaskStartDate")
        }
        found["Status"] = running.status
        if running.failure:
            found["LastFailureMessage"] = running.failure
        if running.stop_reason:
            found["StopReason"] = running.stop_reason
        if running.position:
            found["CdcStartPosition"] = running.position
        return found

    def describe_tasks(self, request: JSON) -> JSON:
        """DescribeReplicationTasks: the account's, with the status that is true."""
        found = self._client.describe_replication_tasks(**request)["ReplicationTasks"]
        return {"ReplicationTasks": [self._described(dict(task)) for task in found]}

    def statistics(self, request: JSON) -> JSON:
        """DescribeTableStatistics of a task."""
        arn = request["ReplicationTaskArn"]
        self._task(arn)
        running = self._tasks.get(arn)
        counts = running.applier.counts if running and running.applier else {}
        return {
            "ReplicationTaskArn": arn,
            "TableStatistics": [
                {
                    "SchemaName": schema,
                    "TableName": table,
                    "Inserts": count.inserts,
                    "Updates": 0,
                    "Deletes": count.deletes,
                    "TableState": "Table completed",
                    "ValidationState": "Not enabled",
                }
                for (schema, table), count in sorted(counts.items())
            ],
        }

    def test_connection(self, request: JSON) -> JSON:
        """TestConnection: a real connection to the endpoint's database."""
        endpoint = self._endpoint(request["EndpointArn"])
        entry: JSON = {
            "ReplicationInstanceArn": request["ReplicationInstanceArn"],
            "EndpointArn": request["EndpointArn"],
            "EndpointIdentifier": endpoint["EndpointIdentifier"],
            "Status": "successful",
        }
        try:
            connect(self._url(endpoint), step="dms test", name="the endpoint").close()
        except (MigrationError, ClientError, KeyError, ValueError) as error:
            entry |= {"Status": "failed", "LastFailureMessage": redact(str(error))}
        self._connections[request["ReplicationInstanceArn"], request["EndpointArn"]] = entry
        return {"Connection": {**entry, "Status": "testing"}}

    def describe_connections(self, request: JSON) -> JSON:
        """DescribeConnections, by the endpoint's ARN."""
        wanted = {value for item in request.get("Filters", []) for value in item["Values"]}
        return {"Connections": [entry for entry in self._connections.values() if entry["EndpointArn"] in wanted]}

    def _save(self) -> None:
        with self._lock:
            state = {
                arn: {"status": task.status, "position": task.position, "failure": task.failure}
                for arn, task in self._tasks.items()
            }
            private.write(self._state, json.dumps(state))

    def recover(self) -> None:
        """Go on with what ran when this process was killed."""
        if not self._state.exists():
            return
        for arn, kept in json.loads(self._state.read_text()).items():
            running = self._tasks.setdefault(arn, Running())
            running.position, running.failure = kept["position"], kept["failure"]
            if kept["status"] in ("running", "starting"):
                self._launch(arn, kept["position"] if kept["status"] == "starting" else None)
            else:
                running.status = "stopped" if kept["status"] == "stopping" else kept["status"]

    def measure(self, minute: Minute, _: float) -> None:
        """The latencies of the tasks that run, as DMS publishes them."""
        for arn, running in list(self._tasks.items()):
            if running.status == "running" and (applier := running.applier):
                instance = self._client.describe_replication_instances()["ReplicationInstances"][0]
                where = {
                    "ReplicationInstanceIdentifier": instance["ReplicationInstanceIdentifier"],
                    "ReplicationTaskIdentifier": arn.rsplit(":", 1)[-1],
                }
                minute.add("AWS/DMS", "CDCLatencySource", where, applier.source_seconds)
                minute.add("AWS/DMS", "CDCLatencyTarget", where, applier.target_seconds)

    def end(self) -> None:
        """Stop every task's thread; their state stays, for the next process."""
        for running in self._tasks.values():
            running.end()

    def answer(self, operation: str, request: JSON) -> JSON:
        """The answer to a call, which must fit the service's model. Raises ClientError for a fault."""
        found = self.operations[operation](request)
        shape = self._client.meta.service_model.operation_model(operation).output_shape
        report = ParamValidator().validate(found, shape)
        if report.has_errors():
            raise MigrationError(
                f"the stand-in's answer to {operation} is not the service's: {report.generate_report()}"
            )
        return found


def _fault(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "dms")
