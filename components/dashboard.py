"""The dashboard: the monolith on the left, the Task Service on the right, what both rest on below."""

from __future__ import annotations

from typing import Any

import pulumi

from components.alarms import AlarmScope

#: Of a widget, in the dashboard's grid of 24 columns (CloudWatch, 'Dashboard body structure and syntax').
WIDTH, HEIGHT = 12, 6
Metric = list[Any]


def _widget(
    title: str,
    metrics: list[Metric],
    *,
    stat: str = "Sum",
    limit: tuple[str, float] | None = None,
) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "title": title,
        "view": "timeSeries",
        "stacked": False,
        "period": 60,
        "stat": stat,
        "metrics": metrics,
        "yAxis": {"left": {"min": 0}},
    }
    if limit is not None:
        label, value = limit
        properties["annotations"] = {"horizontal": [{"label": label, "value": value}]}
    return properties


def dashboard_body(
    *,
    region: str,
    scope: AlarmScope,
    monolith: pulumi.Input[str],
) -> pulumi.Output[str]:
    """JSON of the dashboard.

    Args:
        monolith: ``targetgroup/<name>/<id>`` of the monolith.
    """
    columns = (_side(scope, *side) for side in (("Monolith", monolith), ("Task Service", scope.target_group)))
    rows = [widget for row in zip(*columns, strict=True) for widget in row]
    # Two beside each other, row by row.
    widgets = [
        {
            "type": "metric",
            "x": number % 2 * WIDTH,
            "y": number // 2 * HEIGHT,
            "width": WIDTH,
            "height": HEIGHT,
            "properties": {**properties, "region": region},
        }
        for number, properties in enumerate([*rows, *_below(scope)])
    ]
    return pulumi.Output.json_dumps({"widgets": widgets}, sort_keys=True)


def _side(scope: AlarmScope, side: str, group: pulumi.Input[str]) -> list[dict[str, Any]]:
    where: Metric = ["LoadBalancer", scope.load_balancer, "TargetGroup", group]

    def metric(name: str, label: str, stat: str) -> Metric:
        return ["AWS/ApplicationELB", name, *where, {"label": label, "stat": stat}]

    return [
        _widget(
            f"{side}: requests and errors",
            [
                metric("RequestCount", "requests", "Sum"),
                metric("HTTPCode_Target_5XX_Count", "5xx", "Sum"),
                metric("HTTPCode_Target_4XX_Count", "4xx", "Sum"),
            ],
        ),
        _widget(
            f"{side}: response time, s",
            [metric("TargetResponseTime", stat, stat) for stat in ("p50", "p95")],
            stat="p95",
            limit=("P95 limit", scope.gates.p95_ms / 1000),
        ),
        _widget(
            f"{side}: healthy targets",
            [metric("HealthyHostCount", "healthy", "Minimum"), metric("UnHealthyHostCount", "unhealthy", "Maximum")],
            stat="Minimum",
        ),
    ]


def _below(scope: AlarmScope) -> list[dict[str, Any]]:
    ecs: Metric = ["ClusterName", scope.cluster, "ServiceName", scope.service]
    slots = [
        ["AWS/RDS", metric, "DBInstanceIdentifier", identifier, {"label": f"{side}: {label}"}]
        for side, identifier in (("source", scope.source), ("target", scope.database))
        for metric, label in (("OldestReplicationSlotLag", "slot lag"), ("TransactionLogsDiskUsage", "log disk"))
    ]
    balancer = ["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "LoadBalancer", scope.load_balancer]
    widgets = [
        _widget(
            "API: requests and errors",
            [
                ["AWS/ApiGateway", "Count", "ApiId", scope.api_id, {"label": "requests"}],
                ["AWS/ApiGateway", "5xx", "ApiId", scope.api_id, {"label": "5xx"}],
                ["AWS/ApiGateway", "4xx", "ApiId", scope.api_id, {"label": "4xx"}],
                [*balancer, {"label": "5xx of the balancer itself"}],
            ],
        ),
        _widget(
            "API: latency, ms",
            [["AWS/ApiGateway", "Latency", "ApiId", scope.api_id, {"label": s, "stat": s}] for s in ("p50", "p95")],
            stat="p95",
            limit=("P95 limit", scope.gates.users_p95_ms),
        ),
        _widget(
            "Task Service: CPU and memory, %",
            [["AWS/ECS", "CPUUtilization", *ecs], ["AWS/ECS", "MemoryUtilization", *ecs]],
            stat="Average",
        ),
        _widget(
            "Target database: CPU and connections",
            [
                ["AWS/RDS", "CPUUtilization", "DBInstanceIdentifier", scope.database],
                ["AWS/RDS", "DatabaseConnections", "DBInstanceIdentifier", scope.database],
            ],
            stat="Average",
        ),
        _widget("Replication slots, bytes", slots, stat="Maximum"),
    ]
    if scope.replication_instance is not None:
        where = ["ReplicationInstanceIdentifier", scope.replication_instance, "ReplicationTaskIdentifier"]
        latency: list[Metric] = [
            ["AWS/DMS", f"CDCLatency{side}", *where, task, {"label": f"{way}, {side.lower()}"}]
            for way, task in scope.task_ids().items()
            for side in ("Source", "Target")
        ]
        limit = ("Limit", scope.gates.replication_lag_seconds)
        widgets.append(_widget("Replication latency, s", latency, stat="Maximum", limit=limit))
    return widgets
