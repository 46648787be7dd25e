"""The alarms: the plan's six, the load balancer's view of the Task Service, replication latency, and the disk of slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.config_gates import GateLimits
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
    #: ``app/<name>/<id>`` of the load balancer and ``targetgroup/<name>/<id>`` of the Task Service, as the metrics name them.
    load_balancer: str
    target_group: pulumi.Input[str]
    #: Whether the Task Service is to have tasks: before, nothing of it is healthy and nothing has to be.
    serving: bool
    connections_limit: int
    gates: GateLimits
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


def _metric(
    query_id: str, namespace: str, name: str, dimensions: Mapping[str, pulumi.Input[str]], stat: str = "Sum"
) -> aws.cloudwatch.MetricAlarmMetricQueryArgs:
    return aws.cloudwatch.MetricAlarmMetricQueryArgs(
        id=query_id,
        return_data=False,
        metric=aws.cloudwatch.MetricAlarmMetricQueryMetricArgs(
            namespace=namespace, metric_name=name, dimensions=dimensions, period=60, stat=stat
        ),
    )


def _computed(expression: str, label: str) -> aws.cloudwatch.MetricAlarmMetricQueryArgs:
    return aws.cloudwatch.MetricAlarmMetricQueryArgs(
        id="computed", expression=expression, label=label, return_data=True
    )


def _share_of_requests(
    scope: AlarmScope, errors: aws.cloudwatch.MetricAlarmMetricQueryArgs
) -> list[aws.cloudwatch.MetricAlarmMetricQueryArgs]:
    """``errors`` as percent of the API's requests; 0 while there are none."""
    return [
        errors,
        _metric("requests", "AWS/ApiGateway", "Count", {"ApiId": scope.api_id}),
        # A count that is published only when not zero is none where it is missing (CloudWatch, 'Using metric math', FILL).
        _computed("IF(requests > 0, 100 * FILL(errors, 0) / requests, 0)", "Errors, percent of requests"),
    ]


def _planned(scope: AlarmScope) -> list[Alarm]:
    ecs = {"ClusterName": scope.cluster, "ServiceName": scope.service}
    database = {"DBInstanceIdentifier": scope.database}
    api, gates = {"ApiId": scope.api_id}, scope.gates
    return [
        Alarm("ecs-cpu", "warning", "Task Service CPU, percent", 80, 3, "AWS/ECS", "CPUUtilization", ecs),
        Alarm("ecs-memory", "warning", "Task Service memory, percent", 85, 3, "AWS/ECS", "MemoryUtilization", ecs),
        Alarm("rds-cpu", "warning", "Target database CPU, percent", 70, 3, "AWS/RDS", "CPUUtilization", database),
        Alarm(
            "rds-connections", "critical", "Target database connections", scope.connections_limit, 3,
            "AWS/RDS", "DatabaseConnections", database, "Maximum",
        ),
        Alarm(
            "api-errors", "critical", "API errors (5xx), percent of requests", gates.users_error_rate_percent, 2,
            queries=_share_of_requests(scope, _metric("errors", "AWS/ApiGateway", "5xx", api)),
        ),
        Alarm(
            "api-p95", "warning", "API latency, 95th percentile, ms", gates.users_p95_ms, 3,
            "AWS/ApiGateway", "Latency", api, "p95",
        ),
    ]  # fmt: skip


def _balancer(scope: AlarmScope) -> list[Alarm]:
    balancer = {"LoadBalancer": scope.load_balancer}
    group = {**balancer, "TargetGroup": scope.target_group}
    elb = "AWS/ApplicationELB"
    own = _share_of_requests(scope, _metric("errors", elb, "HTTPCode_ELB_5XX_Count", balancer))
    # With every target unhealthy the balancer still tries them; with none registered it answers 503, and the group has no
    # metric at all (Elastic Load Balancing, 'CloudWatch metrics for your Application Load Balancer', reporting criteria).
    unmet = [
        _metric("healthy", elb, "HealthyHostCount", group, "Maximum"),
        _metric("requests", elb, "RequestCount", group),
        _metric("unavailable", elb, "HTTPCode_ELB_503_Count", balancer),
        _computed("IF(FILL(healthy, 0) < 1, FILL(requests, 0) + FILL(unavailable, 0), 0)", "Requests"),
    ]
    meanings = "5xx of the load balancer itself, percent of the API's requests", "Requests that met no healthy target"
    alarms = [
        Alarm("balancer-errors", "critical", meanings[0], scope.gates.balancer_error_percent, 2, queries=own),
        Alarm("no-healthy-target", "critical", meanings[1], 0, 2, queries=unmet),
    ]
    return alarms if scope.serving else alarms[:1]


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
                scope.gates.replication_lag_seconds,
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
    for alarm in (*_planned(scope), *_balancer(scope), *_replication(scope)):
        alarm_name = f"{SERVICE_NAME}-{alarm.suffix}-{alarm.severity}"
        measured: dict[str, Any] = {"metric_queries": list(alarm.queries)}
        if not alarm.queries:
            measured = {
                "namespace": alarm.namespace,
                "metric_name": alarm.metric,
                "dimensions": alarm.dimensions,
                "period": 60,
            }
            if alarm.statistic.startswith("p"):
                # With few requests a percentile is one slow request; the alarm then keeps its state.
                measured |= {"extended_statistic": alarm.statistic, "evaluate_low_sample_count_percentiles": "ignore"}
            else:
                measured["statistic"] = alarm.statistic
        aws.cloudwatch.MetricAlarm(
            f"{name}-alarm-{alarm.suffix}",
            name=alarm_name,
            alarm_description=f"{alarm.severity}: {alarm.meaning} above {alarm.limit:g}",
            comparison_operator="GreaterThanThreshold",
            threshold=alarm.limit,
            evaluation_periods=alarm.minutes,
            datapoints_to_alarm=alarm.minutes,
            **measured,
            treat_missing_data="notBreaching",
            alarm_actions=[topic_arn],
            ok_actions=[topic_arn],
            tags={**owner.tags(alarm_name), "Severity": alarm.severity},
            opts=owner.child,
        )
