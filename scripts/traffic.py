"""Where a gate's figures come from, and the live rule as the load balancer holds it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from scripts.gates import Observed, Traffic
from scripts.support.errors import MigrationError, Refused
from scripts.support.wait import wait_until


class Metrics(Protocol):
    """What a watch reads."""

    def observe(self, since: float) -> Observed:
        """The figures from ``since`` (epoch seconds) until now."""
        ...

    def idle_seconds(self) -> float | None:
        """Seconds since the Task Service last had a request of the live rule; None when that cannot be had."""
        ...


class LoadBalancer:
    """Reads the live rule's weights. It never writes: only a deployment moves them."""

    def __init__(self, client: Any, outputs: Mapping[str, Any]) -> None:
        self._client = client
        self._rule = str(outputs["liveRuleArn"])
        self._task = str(outputs["taskTargetGroupArn"])
        self._monolith = str(outputs["monolithTargetGroupArn"])

    def weight(self) -> int:
        """The Task Service's share that the live rule gives, percent.

        Raises:
            MigrationError: the rule cannot be read.
            Refused: the rule forwards elsewhere than to the two target groups.
        """
        try:
            rules = self._client.describe_rules(RuleArns=[self._rule])["Rules"]
        except (ClientError, BotoCoreError) as error:
            raise MigrationError(f"the live rule cannot be read: {error}; check rights and region") from None
        actions = rules[0]["Actions"]
        groups: Sequence[Mapping[str, Any]] = actions[0].get("ForwardConfig", {}).get("TargetGroups", [])
        weights = {group["TargetGroupArn"]: int(group.get("Weight", 1)) for group in groups}
        if not weights:
            weights = {actions[0]["TargetGroupArn"]: 1}
        strangers = set(weights) - {self._task, self._monolith}
        if strangers:
            raise Refused(
                f"the live rule forwards to {', '.join(sorted(strangers))}, which is neither the monolith nor the Task "
                "Service; mend the drift: pulumi up --refresh"
            )
        total = sum(weights.values())
        return round(100 * weights.get(self._task, 0) / total) if total else 0

    def confirm(self, weight: int, timeout: float = 30.0) -> None:
        """Wait until the rule says ``weight``. Raises TimedOut with what it says instead."""
        wait_until(
            self.weight,
            lambda seen: seen == weight,
            what=f"the live rule at {weight} %",
            timeout=timeout,
            remedy="compare the stack with the load balancer: pulumi preview --refresh",
        )


def _suffix(arn: str, marker: str) -> str:
    # CloudWatch, 'CloudWatch metrics for your Application Load Balancer': dimensions are the ARN's last parts.
    return arn[arn.index(marker) :]


@dataclass(frozen=True)
class _Query:
    key: str
    namespace: str
    metric: str
    statistic: str
    dimensions: Mapping[str, str]


class CloudWatchMetrics:
    """The gate's figures in one GetMetricData call (CloudWatch API reference, 'GetMetricData')."""

    def __init__(self, client: Any, outputs: Mapping[str, Any], period_seconds: int = 60) -> None:
        self._client = client
        self._period = period_seconds
        group = {
            "TargetGroup": _suffix(str(outputs["taskTargetGroupArn"]), "targetgroup/"),
            "LoadBalancer": "/".join(str(outputs["listenerArn"]).split(":listener/")[1].split("/")[:3]),
        }
        service = {
            "ClusterName": str(outputs["clusterArn"]).rsplit("/", 1)[-1],
            "ServiceName": str(outputs["serviceName"]),
        }
        balancer, ecs = "AWS/ApplicationELB", "AWS/ECS"
        self._queries = (
            _Query("requests", balancer, "RequestCount", "Sum", group),
            _Query("errors", balancer, "HTTPCode_Target_5XX_Count", "Sum", group),
            _Query("p50", balancer, "TargetResponseTime", "p50", group),
            _Query("p95", balancer, "TargetResponseTime", "p95", group),
            _Query("cpu", ecs, "CPUUtilization", "Average", service),
            _Query("memory", ecs, "MemoryUtilization", "Average", service),
        )

    def _read(self, since: float) -> dict[str, list[tuple[datetime, float]]]:
        queries = [
            {
                "Id": query.key,
                "MetricStat": {
                    "Metric": {
                        "Namespace": query.namespace,
                        "MetricName": query.metric,
                        "Dimensions": [{"Name": name, "Value": value} for name, value in query.dimensions.items()],
                    },
                    "Period": self._period,
                    "Stat": query.statistic,
                },
            }
            for query in self._queries
        ]
        try:
            answer = self._client.get_metric_data(
                MetricDataQueries=queries,
                StartTime=datetime.fromtimestamp(since, UTC),
                EndTime=datetime.now(UTC) + timedelta(seconds=1),
                ScanBy="TimestampAscending",
            )
        except (ClientError, BotoCoreError) as error:
            raise MigrationError(f"CloudWatch cannot be read: {error}; check cloudwatch:GetMetricData") from None
        return {
            result["Id"]: list(zip(result["Timestamps"], result["Values"], strict=True))
            for result in answer["MetricDataResults"]
        }

    def observe(self, since: float) -> Observed:
        """Sums over the watch; of percentiles, CPU and memory the worst period counts. Latencies in milliseconds."""
        data = {key: [value for _, value in points] for key, points in self._read(since).items()}

        def worst(key: str, factor: float = 1.0) -> float | None:
            return max(data[key]) * factor if data.get(key) else None

        traffic = None
        if data.get("requests"):
            # HTTPCode_Target_5XX_Count is published only when not zero ('Reporting criteria'), so nothing means none.
            traffic = Traffic(
                requests=int(sum(data["requests"])),
                errors=int(sum(data.get("errors", []))),
                p50_ms=worst("p50", 1000.0),
                p95_ms=worst("p95", 1000.0),
            )
        return Observed(time.time() - since, traffic, worst("cpu"), worst("memory"))

    def idle_seconds(self) -> float | None:
        """From the last period with a request; a period that has no data point had none."""
        now = time.time()
        points = self._read(now - 15 * self._period).get("requests", [])
        busy = [at.timestamp() + self._period for at, value in points if value > 0]
        return max(0.0, now - max(busy)) if busy else 15.0 * self._period
