"""A gate's figures from CloudWatch: everything of one look in one GetMetricData call (CloudWatch API reference)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scripts.canary.figures import Observed, Period, Traffic, complete
from scripts.support.aws import refusals
from scripts.support.errors import MigrationError

BALANCER, ECS, RDS, DMS = "AWS/ApplicationELB", "AWS/ECS", "AWS/RDS", "AWS/DMS"


@dataclass(frozen=True)
class Query:
    """One metric of one thing. ``key`` is the Id in the call: lower case, digits, underscores."""

    key: str
    namespace: str
    metric: str
    statistic: str
    dimensions: Mapping[str, str]

    def call(self, period: int) -> dict[str, Any]:
        """As GetMetricData takes it."""
        dimensions = [{"Name": name, "Value": value} for name, value in self.dimensions.items()]
        metric = {"Namespace": self.namespace, "MetricName": self.metric, "Dimensions": dimensions}
        return {"Id": self.key, "MetricStat": {"Metric": metric, "Period": period, "Stat": self.statistic}}


def _group(side: str, arn: str, balancer: str) -> Iterator[Query]:
    # Elastic Load Balancing, 'CloudWatch metrics for your Application Load Balancer': dimensions are the ARNs' last parts.
    where = {"TargetGroup": arn[arn.index("targetgroup/") :], "LoadBalancer": balancer}
    for name, metric, statistic in (
        ("requests", "RequestCount", "Sum"),
        ("errors", "HTTPCode_Target_5XX_Count", "Sum"),
        ("refusals", "HTTPCode_Target_4XX_Count", "Sum"),
        ("failed_connections", "TargetConnectionErrorCount", "Sum"),
        ("p50", "TargetResponseTime", "p50"),
        ("p95", "TargetResponseTime", "p95"),
    ):
        yield Query(f"{side}_{name}", BALANCER, metric, statistic, where)
    if side == "task":
        # Each zone's node reports what it sees, and a zone without a target of the group sees none: the most of them counts.
        yield Query("task_healthy", BALANCER, "HealthyHostCount", "Maximum", where)


def queries(outputs: Mapping[str, Any]) -> tuple[Query, ...]:
    """All queries of one look, from a stack's outputs.

    Raises:
        MigrationError: an output is missing.
    """
    try:
        balancer = "/".join(str(outputs["listenerArn"]).split(":listener/")[1].split("/")[:3])
        made = [*_group("task", str(outputs["taskTargetGroupArn"]), balancer)]
        made += _group("monolith", str(outputs["monolithTargetGroupArn"]), balancer)
        service = {
            "ClusterName": str(outputs["clusterArn"]).rsplit("/", 1)[-1],
            "ServiceName": str(outputs["serviceName"]),
        }
        source = {"DBInstanceIdentifier": str(outputs["sourceInstanceIdentifier"])}
        target = {"DBInstanceIdentifier": str(outputs["targetInstanceIdentifier"])}
    except KeyError as error:
        raise MigrationError(f"the stack has no output {error.args[0]}; deploy it: pulumi up") from None
    made += [
        Query("cpu", ECS, "CPUUtilization", "Average", service),
        Query("memory", ECS, "MemoryUtilization", "Average", service),
        Query("database_cpu", RDS, "CPUUtilization", "Average", target),
        Query("database_connections", RDS, "DatabaseConnections", "Maximum", target),
        Query("database_free", RDS, "FreeStorageSpace", "Minimum", target),
        Query("slot_source", RDS, "OldestReplicationSlotLag", "Maximum", source),
        Query("slot_target", RDS, "OldestReplicationSlotLag", "Maximum", target),
    ]
    for way in ("Forward", "Reverse"):
        if (task := outputs.get(f"dms{way}TaskArn")) and (instance := outputs.get("dmsInstanceId")):
            # DMS names a task in its metrics by the last part of its ARN (AWS DMS, 'Monitoring AWS DMS tasks').
            where = {
                "ReplicationInstanceIdentifier": str(instance),
                "ReplicationTaskIdentifier": str(task).rsplit(":", 1)[-1],
            }
            made += [
                Query(f"latency_{way.lower()}_{end.lower()}", DMS, f"CDCLatency{end}", "Maximum", where)
                for end in ("Source", "Target")
            ]
    return tuple(made)


class CloudWatchMetrics:
    """The figures of a deployed stack.

    Args:
        client: boto3's CloudWatch client.
        outputs: the stack's outputs.
        period_seconds: a multiple of 60; the metrics have no finer resolution.
        delay_seconds: how old a period must be for its figures to be complete.
    """

    def __init__(
        self, client: Any, outputs: Mapping[str, Any], period_seconds: float = 60.0, delay_seconds: float = 120.0
    ) -> None:
        self._client = client
        self.period, self.delay = period_seconds, delay_seconds
        self.queries = queries(outputs)

    def observe(self, since: float) -> Observed:
        """The complete periods from ``since`` (seconds since the epoch) on.

        Raises:
            MigrationError: CloudWatch cannot be read.
        """
        begins = complete(since, time.time(), self.period, self.delay)
        if not begins:
            return Observed(self.period)
        data = self._read(begins[0], begins[-1] + self.period)
        return Observed(self.period, tuple(_period(at, data.get(at, {})) for at in begins))

    def idle_seconds(self) -> float | None:
        """None: what is younger than the delay is not known, and a missing count is no proof of silence."""
        return None

    def _read(self, begin: float, end: float) -> dict[float, dict[str, float]]:
        """Values by period and query key. Metrics come complete for a complete period, or are missing in it."""
        found: dict[float, dict[str, float]] = {}
        with refusals("CloudWatch cannot be read", "check cloudwatch:GetMetricData"):
            answer = self._client.get_metric_data(
                MetricDataQueries=[query.call(int(self.period)) for query in self.queries],
                StartTime=datetime.fromtimestamp(begin, UTC),
                EndTime=datetime.fromtimestamp(end, UTC),
                ScanBy="TimestampAscending",
            )
        for result in answer["MetricDataResults"]:
            # 'PartialData' and 'InternalError': what came may be less than there is, so none of it is a figure.
            if result.get("StatusCode", "Complete") != "Complete":
                continue
            for at, value in zip(result["Timestamps"], result["Values"], strict=True):
                found.setdefault(at.timestamp(), {})[result["Id"]] = float(value)
        return found


def _traffic(side: str, values: Mapping[str, float]) -> Traffic | None:
    if f"{side}_requests" not in values:
        # Published while requests flow: a period without is one without requests or without figures, and which is unknown.
        return None

    def milliseconds(name: str) -> float | None:
        seconds = values.get(f"{side}_{name}")
        return None if seconds is None else 1000.0 * seconds

    requests = int(values[f"{side}_requests"])
    # Counts of answers are published only when not zero; beside a count of requests a missing one means none.
    errors = int(values.get(f"{side}_errors", 0) + values.get(f"{side}_failed_connections", 0))
    refusals = int(values.get(f"{side}_refusals", 0))
    return Traffic(max(requests, errors), errors, refusals, milliseconds("p50"), milliseconds("p95"))


def _period(at: float, values: Mapping[str, float]) -> Period:
    def worst(prefix: str) -> float | None:
        return max((value for key, value in values.items() if key.startswith(prefix)), default=None)

    return Period(
        at,
        task_service=_traffic("task", values),
        monolith=_traffic("monolith", values),
        cpu_percent=values.get("cpu"),
        memory_percent=values.get("memory"),
        database_cpu_percent=values.get("database_cpu"),
        database_connections=values.get("database_connections"),
        database_free_bytes=values.get("database_free"),
        slot_bytes=worst("slot_"),
        replication_seconds=worst("latency_"),
        healthy_hosts=values.get("task_healthy"),
    )
