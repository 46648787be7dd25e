"""The alarms: the plan's six, replication latency, and the disk that a replication slot holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.naming import SERVICE_NAME

Severity = Literal["warning", "critical"]
#: WAL that a slot may hold before somebody should look, in bytes: 10 GiB.
SLOT_BYTES = 10 * 1024**3


@dataclass(frozen=True)
class AlarmScope:
    """What is watched, and the limits that the configuration decides."""

    cluster: str
    service: pulumi.Input[str]
    database: pulumi.Input[str]
    source: pulumi.Input[str]
    api_id: pulumi.Input[str]
    connections_limit: int
    error_rate_limit_percent: float
    p95_limit_ms: float
    replication_lag_limit_seconds: float
    #: None without DMS.
    replication_instance: pulumi.Input[str] | None
    #: ARN of the DMS task of each way, ``forward`` and ``reverse``; none where PostgreSQL itself replicates.
    replication_tasks: Mapping[str, pulumi.Output[str]]

    def task_ids(self) -> dict[str, pulumi.Output[str]]:
        """Those tasks as DMS's metrics name them: by the last part of the ARN, not by the identifier."""
        return {way: arn.apply(lambda arn: arn.rsplit(":", 1)[-1]) for way, arn in self.replication_tasks.items()}


@dataclass(frozen=True)
class Alarm:
    """One alarm: ``metric`` of ``namespace`` above ``limit`` for ``minutes`` of the last ``minutes``."""

    suffix: str
    severity: Severity
    meaning: str
    limit: float
    minutes: int
    namespace: str = ""
    metric: str = ""
    dimensions: Mapping[str, pulumi.Input[str]] | None = None
    statistic: str = "Average"
    queries: Sequence[aws.cloudwatch.MetricAlarmMetricQueryArgs] = ()


def error_rate_queries(api_id: pulumi.Input[str]) -> list[aws.cloudwatch.MetricAlarmMetricQueryArgs]:
    """5xx answers of the API as percent of its requests; 0 while there are none."""

    def metric(query_id: str, name: str) -> aws.cloudwatch.MetricAlarmMetricQueryArgs:
        return aws.cloudwatch.MetricAlarmMetricQueryArgs(
            id=query_id,
            return_data=False,
            metric=aws.cloudwatch.MetricAlarmMetricQueryMetricArgs(
                namespace="AWS/ApiGateway", metric_name=name, dimensions={"ApiId": api_id}, period=60, stat="Sum"
            ),
        )

    return [
        metric("errors", "5xx"),
        metric("requests", "Count"),
        aws.cloudwatch.MetricAlarmMetricQueryArgs(
            id="rate",
            expression="IF(requests > 0, 100 * errors / requests, 0)",
            label="Errors, percent of requests",
            return_data=True,
        ),
    ]


def _planned(scope: AlarmScope) -> list[Alarm]:
    ecs = {"ClusterName": scope.cluster, "ServiceName": scope.service}
    database = {"DBInstanceIdentifier": scope.database}
    return [
        Alarm("ecs-cpu", "warning", "Task Service CPU, percent", 80, 3, "AWS/ECS", "CPUUtilization", ecs),
        Alarm("ecs-memory", "warning", "Task Service memory, percent", 85, 3, "AWS/ECS", "MemoryUtilization", ecs),
        Alarm("rds-cpu", "warning", "Target database CPU, percent", 70, 3, "AWS/RDS", "CPUUtilization", database),
        Alarm(
            "rds-connections",
            "critical",
            "Target database connections",
            scope.connections_limit,
            3,
            "AWS/RDS",
            "DatabaseConnections",
            database,
            statistic="Maximum",
        ),
        Alarm(
            "api-errors",
            "critical",
            "API errors (5xx), percent of requests",
            scope.error_rate_limit_percent,
            2,
            queries=error_rate_queries(scope.api_id),
        ),
        Alarm(
            "api-p95",
            "warning",
            "API latency, 95th percentile, ms",
            scope.p95_limit_ms,
            3,
            "AWS/ApiGateway",
            "Latency",
            {"ApiId": scope.api_id},
            statistic="p95",
        ),
    ]


def _replication(scope: AlarmScope) -> list[Alarm]:
    alarms = [
        Alarm(
            f"{side}-slot-{suffix}",
            "critical",
            f"{meaning} of the {side} database, bytes",
            SLOT_BYTES,
            5,
            "AWS/RDS",
            metric,
            {"DBInstanceIdentifier": identifier},
            statistic="Maximum",
        )
        for side, identifier in (("source", scope.source), ("target", scope.database))
        for suffix, metric, meaning in (
            ("lag", "OldestReplicationSlotLag", "WAL that the slowest replication slot still needs"),
            ("disk", "TransactionLogsDiskUsage", "Disk used by transaction logs"),
        )
    ]
    if scope.replication_instance is not None:
        alarms += [
            Alarm(
                f"replication-{way}-{side}-latency",
                "critical",
                f"Latency of the {way} replication at its {side}, seconds",
                scope.replication_lag_limit_seconds,
                5,
                "AWS/DMS",
                f"CDCLatency{side.capitalize()}",
                {"ReplicationInstanceIdentifier": scope.replication_instance, "ReplicationTaskIdentifier": task},
                statistic="Maximum",
            )
            for way, task in scope.task_ids().items()
            for side in ("source", "target")
        ]
    return alarms


def declare_alarms(owner: Component, name: str, *, scope: AlarmScope, topic_arn: pulumi.Input[str]) -> None:
    """Declare all alarms; each tells the topic when it starts and when it ends."""
    for alarm in (*_planned(scope), *_replication(scope)):
        alarm_name = f"{SERVICE_NAME}-{alarm.suffix}-{alarm.severity}"
        percentile = alarm.statistic.startswith("p")
        plain = not alarm.queries
        aws.cloudwatch.MetricAlarm(
            f"{name}-alarm-{alarm.suffix}",
            name=alarm_name,
            alarm_description=f"{alarm.severity}: {alarm.meaning} above {alarm.limit:g}",
            comparison_operator="GreaterThanThreshold",
            threshold=alarm.limit,
            evaluation_periods=alarm.minutes,
            datapoints_to_alarm=alarm.minutes,
            namespace=alarm.namespace if plain else None,
            metric_name=alarm.metric if plain else None,
            dimensions=alarm.dimensions if plain else None,
            period=60 if plain else None,
            statistic=alarm.statistic if plain and not percentile else None,
            extended_statistic=alarm.statistic if plain and percentile else None,
            # With few requests a percentile is one slow request; the alarm then keeps its state.
            evaluate_low_sample_count_percentiles="ignore" if plain and percentile else None,
            metric_queries=None if plain else list(alarm.queries),
            treat_missing_data="notBreaching",
            alarm_actions=[topic_arn],
            ok_actions=[topic_arn],
            tags={**owner.tags(alarm_name), "Severity": alarm.severity},
            opts=owner.child,
        )
