"""The dashboard: the monolith on the left, the Task Service on the right, what both rest on below."""

from __future__ import annotations

from typing import Any

import pulumi

from components.alarms import AlarmScope

HALF = 12
HEIGHT = 6
Metric = list[Any]


def _widget(
    title: str,
    region: str,
    metrics: list[Metric],
    *,
    row: int,
    column: int,
    width: int = HALF,
    stat: str = "Sum",
    limit: tuple[str, float] | None = None,
) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "title": title,
        "region": region,
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
    return {
        "type": "metric",
        "x": column * width,
        "y": row * HEIGHT,
        "width": width,
        "height": HEIGHT,
        "properties": properties,
    }


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
    widgets: list[dict[str, Any]] = []
    for column, (side, group) in enumerate((("Monolith", monolith), ("Task Service", scope.target_group))):

        def metric(name: str, label: str, stat: str, group: pulumi.Input[str] = group) -> Metric:
            return [
                "AWS/ApplicationELB",
                name,
                "LoadBalancer",
                scope.load_balancer,
                "TargetGroup",
                group,
                {"label": label, "stat": stat},
            ]

        widgets += [
            _widget(
                f"{side}: requests and errors",
                region,
                [
                    metric("RequestCount", "requests", "Sum"),
                    metric("HTTPCode_Target_5XX_Count", "5xx", "Sum"),
                    metric("HTTPCode_Target_4XX_Count", "4xx", "Sum"),
                ],
                row=0,
                column=column,
            ),
            _widget(
                f"{side}: response time, s",
                region,
                [metric("TargetResponseTime", stat, stat) for stat in ("p50", "p95")],
                row=1,
                column=column,
                stat="p95",
                limit=("P95 limit", scope.gates.p95_ms / 1000),
            ),
            _widget(
                f"{side}: healthy targets",
                region,
                [
                    metric("HealthyHostCount", "healthy", "Minimum"),
                    metric("UnHealthyHostCount", "unhealthy", "Maximum"),
                ],
                row=2,
                column=column,
                stat="Minimum",
            ),
        ]
    widgets += _below(region, scope)
    return pulumi.Output.json_dumps({"widgets": widgets}, sort_keys=True)


def _below(region: str, scope: AlarmScope) -> list[dict[str, Any]]:
    ecs: Metric = ["ClusterName", scope.cluster, "ServiceName", scope.service]
    slots = [
        ["AWS/RDS", metric, "DBInstanceIdentifier", identifier, {"label": f"{side}: {label}"}]
        for side, identifier in (("source", scope.source), ("target", scope.database))
        for metric, label in (("OldestReplicationSlotLag", "slot lag"), ("TransactionLogsDiskUsage", "log disk"))
    ]
    balancer = ["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "LoadBalancer", scope.load_balancer]
    latency: list[Metric] = []
    if scope.replication_instance is not None:
        latency = [
            [
                "AWS/DMS",
                f"CDCLatency{side}",
                "ReplicationInstanceIdentifier",
                scope.replication_instance,
                "ReplicationTaskIdentifier",
                task,
                {"label": f"{way}, {side.lower()}"},
            ]
            for way, task in scope.task_ids().items()
            for side in ("Source", "Target")
        ]
    widgets = [
        _widget(
            "API: requests and errors",
            region,
            [
                ["AWS/ApiGateway", "Count", "ApiId", scope.api_id, {"label": "requests"}],
                ["AWS/ApiGateway", "5xx", "ApiId", scope.api_id, {"label": "5xx"}],
                ["AWS/ApiGateway", "4xx", "ApiId", scope.api_id, {"label": "4xx"}],
                [*balancer, {"label": "5xx of the balancer itself"}],
            ],
            row=3,
            column=0,
        ),
        _widget(
            "API: latency, ms",
            region,
            [["AWS/ApiGateway", "Latency", "ApiId", scope.api_id, {"label": s, "stat": s}] for s in ("p50", "p95")],
            row=3,
            column=1,
            stat="p95",
            limit=("P95 limit", scope.gates.users_p95_ms),
        ),
        _widget(
            "Task Service: CPU and memory, %",
            region,
            [["AWS/ECS", "CPUUtilization", *ecs], ["AWS/ECS", "MemoryUtilization", *ecs]],
            row=4,
            column=0,
            stat="Average",
        ),
        _widget(
            "Target database: CPU and connections",
            region,
            [
                ["AWS/RDS", "CPUUtilization", "DBInstanceIdentifier", scope.database],
                ["AWS/RDS", "DatabaseConnections", "DBInstanceIdentifier", scope.database],
            ],
            row=4,
            column=1,
            stat="Average",
        ),
        _widget("Replication slots, bytes", region, slots, row=5, column=0, stat="Maximum"),
    ]
    if latency:
        widgets.append(
            _widget(
                "Replication latency, s",
                region,
                latency,
                row=5,
                column=1,
                stat="Maximum",
                limit=("Limit", scope.gates.replication_lag_seconds),
            )
        )
    return widgets
