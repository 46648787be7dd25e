"""A gate's figures from CloudWatch: everything of one look in one GetMetricData call (CloudWatch API reference)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from components.naming import HEALTH_PATH
from scripts.canary.figures import Observed, Period, Traffic, complete
from scripts.support.aws import refusals
from scripts.support.errors import MigrationError
from scripts.support.figure import figure
from scripts.support.outputs import Outputs

BALANCER, API, ECS, RDS, DMS = "AWS/ApplicationELB", "AWS/ApiGateway", "AWS/ECS", "AWS/RDS", "AWS/DMS"
PERCENTILES = ("p50", "p95", "p99")


@dataclass(frozen=True)
class Query:
    """One metric of one thing. ``key`` is the Id in the call: lower case, digits, underscores."""

    key: str
    namespace: str
    metric: str
    statistic: str
    dimensions: Mapping[str, str]
    #: What a value is multiplied by to have the unit that the figures have.
    scale: float = 1.0

    def call(self, period: int) -> dict[str, Any]:
        """As GetMetricData takes it."""
        dimensions = [{"Name": name, "Value": value} for name, value in self.dimensions.items()]
        metric = {"Namespace": self.namespace, "MetricName": self.metric, "Dimensions": dimensions}
        return {"Id": self.key, "MetricStat": {"Metric": metric, "Period": period, "Stat": self.statistic}}


def _group(side: str, arn: str, balancer: str) -> Iterator[Query]:
    # Elastic Load Balancing, 'CloudWatch metrics for your Application Load Balancer': dimensions are the ARNs' last parts.
    where = {"TargetGroup": arn[arn.index("targetgroup/") :], "LoadBalancer": balancer}
    for name, metric in (
        ("requests", "RequestCount"),
        ("successes", "HTTPCode_Target_2XX_Count"),
        ("redirects", "HTTPCode_Target_3XX_Count"),
        ("refusals", "HTTPCode_Target_4XX_Count"),
        ("errors", "HTTPCode_Target_5XX_Count"),
        ("failed_connections", "TargetConnectionErrorCount"),
    ):
        yield Query(f"{side}_{name}", BALANCER, metric, "Sum", where)
    for percentile in PERCENTILES:
        yield Query(f"{side}_{percentile}", BALANCER, "TargetResponseTime", percentile, where, scale=1000.0)
    if side == "task":
        # Each zone's node reports what it sees, and a zone without a target of the group sees none: the most of them counts.
        yield Query("task_healthy", BALANCER, "HealthyHostCount", "Maximum", where)


def _users(api_id: str) -> Iterator[Query]:
    # API Gateway, 'Monitor CloudWatch metrics for HTTP APIs': latency is in milliseconds; a route's own with detailed metrics.
    where = {"ApiId": api_id}
    for name, metric in (("requests", "Count"), ("errors", "5xx"), ("refusals", "4xx")):
        yield Query(f"users_{name}", API, metric, "Sum", where)
    for percentile in PERCENTILES:
        yield Query(f"users_{percentile}", API, "Latency", percentile, where)
    health = {**where, "Stage": "$default", "Method": "GET", "Resource": HEALTH_PATH}
    yield Query("users_checks", API, "Count", "Sum", health)


def queries(outputs: Mapping[str, Any]) -> tuple[Query, ...]:
    """All queries of one look, from a stack's outputs.

    Raises:
        Refused: an output is missing.
    """
    outputs = Outputs(outputs)
    balancer = "/".join(str(outputs["listenerArn"]).split(":listener/")[1].split("/")[:3])
    made = [*_group("task", str(outputs["taskTargetGroupArn"]), balancer)]
    made += _group("monolith", str(outputs["monolithTargetGroupArn"]), balancer)
    made += _users(str(outputs["apiId"]))
    service = {
        "ClusterName": str(outputs["clusterArn"]).rpartition("/")[2],
        "ServiceName": str(outputs["serviceName"]),
    }
    source = {"DBInstanceIdentifier": str(outputs["sourceInstanceIdentifier"])}
    target = {"DBInstanceIdentifier": str(outputs["targetInstanceIdentifier"])}
    made += [
        # No target group answered these, so they are the balancer's as a whole.
        Query("balancer_errors", BALANCER, "HTTPCode_ELB_5XX_Count", "Sum", {"LoadBalancer": balancer}),
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
                "ReplicationTaskIdentifier": str(task).rpartition(":")[2],
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

    def __init__(self, client: Any, outputs: Mapping[str, Any], period_seconds: float, delay_seconds: float) -> None:
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

    def _read(self, begin: float, end: float) -> dict[float, dict[str, float | None]]:
        """Values by period and query key. Metrics come complete for a complete period, or are missing in it; None is no figure."""
        found: dict[float, dict[str, float | None]] = {}
        status: dict[str, str] = {}
        by_key = {query.key: query for query in self.queries}
        with refusals("CloudWatch cannot be read", "check cloudwatch:GetMetricData"):
            pages = self._client.get_paginator("get_metric_data").paginate(
                MetricDataQueries=[query.call(int(self.period)) for query in self.queries],
                StartTime=datetime.fromtimestamp(begin, UTC),
                EndTime=datetime.fromtimestamp(end, UTC),
                ScanBy="TimestampAscending",
            )
            for result in (result for page in pages for result in page.get("MetricDataResults", ())):
                key, stamps, values = result.get("Id"), result.get("Timestamps", ()), result.get("Values", ())
                if key not in by_key or len(stamps) != len(values):
                    raise MigrationError(
                        f"CloudWatch answered {key!r} with {len(stamps)} times and {len(values)} values, which is no answer to what was "
                        "asked; the next look asks again"
                    )
                status[key] = result.get("StatusCode", "Complete")
                for at, value in zip(stamps, values, strict=True):
                    told = figure(value)
                    found.setdefault(at.timestamp(), {})[key] = None if told is None else told * by_key[key].scale
        # 'PartialData' and 'InternalError': what did not come may be there, so it may not be called missing.
        if short := [key for key, said in status.items() if said != "Complete"]:
            raise MigrationError(
                f"CloudWatch answered {', '.join(short)} in part, all figures are needed; the next look asks again"
            )
        return found


#: The keys of a side's counts, without its name.
_COUNTS = ("requests", "successes", "redirects", "refusals", "errors", "failed_connections", "checks")


def _traffic(side: str, values: Mapping[str, float | None]) -> Traffic | None:
    counts = {name: values.get(f"{side}_{name}", 0) for name in _COUNTS}
    if f"{side}_requests" not in values or None in counts.values():
        # Published while requests flow: a period without is one without requests or without figures, and which is unknown.
        return None

    def count(*names: str) -> int:
        # Counts of answers are published only when not zero; beside a count of requests a missing one means none.
        return int(sum(counts[name] or 0 for name in names))

    requests, errors = count("requests"), count("errors")
    if side == "users":
        requests -= count("checks")  # whoever checks the API's health is no user
    else:
        # A request whose connection failed or broke, that took too long, or whose client left has no answer of the target's.
        unanswered = requests - count("successes", "redirects", "refusals", "errors")
        errors += max(unanswered, count("failed_connections"))
    latencies = {f"{percentile}_ms": values.get(f"{side}_{percentile}") for percentile in PERCENTILES}
    return Traffic(max(requests, errors), errors, count("refusals"), **latencies)


def _period(at: float, values: Mapping[str, float | None]) -> Period:
    def worst(prefix: str) -> float | None:
        return max((one for key, one in values.items() if key.startswith(prefix) and one is not None), default=None)

    task, monolith = _traffic("task", values), _traffic("monolith", values)
    # Published when not zero: where the balancer tells of requests, a missing count is none.
    balancer_errors = values.get("balancer_errors", None if task is None and monolith is None else 0)
    return Period(
        at,
        task_service=task,
        monolith=monolith,
        cpu_percent=values.get("cpu"),
        memory_percent=values.get("memory"),
        database_cpu_percent=values.get("database_cpu"),
        database_connections=values.get("database_connections"),
        database_free_bytes=values.get("database_free"),
        slot_bytes=worst("slot_"),
        replication_seconds=worst("latency_"),
        healthy_hosts=values.get("task_healthy"),
        users=_traffic("users", values),
        balancer_errors=None if balancer_errors is None else int(balancer_errors),
    )
