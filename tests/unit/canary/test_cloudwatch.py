"""One call brings every figure of a look, by the dimensions that AWS publishes, and what is missing stays missing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.canary import cloudwatch
from scripts.canary.cloudwatch import CloudWatchMetrics
from scripts.canary.figures import Observed, Period, Traffic
from scripts.support.errors import MigrationError

ELB = "arn:aws:elasticloadbalancing:ap-northeast-1:123456789012"
OUTPUTS = {
    "taskTargetGroupArn": f"{ELB}:targetgroup/task-service/0123",
    "monolithTargetGroupArn": f"{ELB}:targetgroup/myteacher/4567",
    "listenerArn": f"{ELB}:listener/app/myteacher/aa/bb",
    "clusterArn": "arn:aws:ecs:ap-northeast-1:123456789012:cluster/myteacher-cluster",
    "serviceName": "task-service",
    "apiId": "a1b2c3",
    "sourceInstanceIdentifier": "myteacher-production",
    "targetInstanceIdentifier": "task-service-db",
}
DMS = {
    "dmsInstanceId": "myteacher-task-replication",
    "dmsForwardTaskArn": "arn:aws:dms:ap-northeast-1:123456789012:task:FORWARD",
    "dmsReverseTaskArn": "arn:aws:dms:ap-northeast-1:123456789012:task:REVERSE",
}
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def client() -> Any:
    return boto3.client("cloudwatch", region_name="ap-northeast-1", aws_access_key_id="x", aws_secret_access_key="x")


def result(key: str, values: dict[int, float], status: str = "Complete") -> dict[str, Any]:
    """One metric's answer: values by minute after noon."""
    stamps = [datetime.fromtimestamp(NOON + 60 * minute, UTC) for minute in values]
    return {"Id": key, "Timestamps": stamps, "Values": list(values.values()), "StatusCode": status}


def observed(client: Any, monkeypatch: pytest.MonkeyPatch, *pages: list[dict[str, Any]] | None) -> Observed:
    """What is seen of three minutes from noon, answered on these pages; None: one without results."""
    monkeypatch.setattr("time.time", lambda: NOON + 5 * 60 + 10)
    with Stubber(client) as stub:
        asked = {
            "MetricDataQueries": ANY, "ScanBy": "TimestampAscending",
            "StartTime": datetime.fromtimestamp(NOON, UTC), "EndTime": datetime.fromtimestamp(NOON + 180, UTC),
        }  # fmt: skip
        for number, page in enumerate(pages, start=1):
            more = {"NextToken": f"page {number + 1}"} if number < len(pages) else {}
            results = {} if page is None else {"MetricDataResults": page}
            stub.add_response("get_metric_data", {**results, **more}, dict(asked))
            asked |= more
        seen = CloudWatchMetrics(client, {**OUTPUTS, **DMS}, 60.0, 120.0).observe(NOON - 30)
        stub.assert_no_pending_responses()
    return seen


ANSWERED = [
    result("task_requests", {0: 100.0, 1: 50.0}),
    result("task_successes", {0: 95.0, 1: 46.0}),
    result("task_redirects", {0: 2.0}),
    result("task_errors", {0: 2.0}),
    result("task_failed_connections", {0: 1.0}),
    result("task_refusals", {1: 4.0}),
    result("task_p50", {0: 0.1, 1: 0.12}),
    result("task_p95", {0: 0.3, 1: 0.25}),
    result("task_p99", {0: 2.5, 1: 0.5}),
    result("task_healthy", {0: 2.0, 1: 1.0, 2: 0.0}),
    result("monolith_requests", {0: 1900.0}),
    result("monolith_successes", {0: 1900.0}),
    result("monolith_p95", {0: 0.4}),
    result("users_requests", {0: 2010.0, 1: 60.0}),
    result("users_checks", {0: 10.0}),
    result("users_errors", {0: 4.0}),
    result("users_refusals", {0: 7.0}),
    result("users_p50", {0: 30.0}),
    result("users_p95", {0: 90.0}),
    result("balancer_errors", {0: 3.0, 2: 9.0}),
    result("cpu", {0: 10.0, 1: 11.0}),
    result("memory", {0: 20.0}),
    result("database_cpu", {0: 5.0}),
    result("database_connections", {0: 12.0}),
    result("database_free", {0: 9e10}),
    result("slot_source", {0: 7.0}),
    result("slot_target", {0: 9.0, 1: 1.0}),
    result("latency_forward_source", {0: 3.0}),
    result("latency_reverse_target", {0: 4.0, 2: 1.0}),
]


#: The period's fields that are of one metric.
FIELDS = {
    "task_healthy": "healthy_hosts",
    "balancer_errors": "balancer_errors",
    "cpu": "cpu_percent",
    "memory": "memory_percent",
    "database_cpu": "database_cpu_percent",
    "database_connections": "database_connections",
    "database_free": "database_free_bytes",
    "slot_source": "slot_bytes",
    "slot_target": "slot_bytes",
    "latency_forward_source": "replication_seconds",
    "latency_reverse_target": "replication_seconds",
}
#: What is left of the worst of two.
OTHER = {"slot_source": 9.0, "slot_target": 7.0, "latency_forward_source": 4.0, "latency_reverse_target": 3.0}  # fmt: skip


def test_one_call_gives_all_sides_and_all_they_rest_on(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a figure of another target group, a percentile in seconds, and a missing minute that counts as quiet."""
    seen = observed(client, monkeypatch, ANSWERED)
    assert seen.watched_seconds == 180
    assert seen.periods == (
        Period(
            NOON,
            task_service=Traffic(100, 3, 0, 100.0, 300.0, 2500.0),
            monolith=Traffic(1900, 0, 0, None, 400.0),
            cpu_percent=10.0,
            memory_percent=20.0,
            database_cpu_percent=5.0,
            database_connections=12.0,
            database_free_bytes=9e10,
            slot_bytes=9.0,
            replication_seconds=4.0,
            healthy_hosts=2.0,
            # API Gateway's latency is in milliseconds; whoever asks /health is no user.
            users=Traffic(2000, 4, 7, 30.0, 90.0),
            balancer_errors=3,
        ),
        Period(
            NOON + 60,
            task_service=Traffic(50, 0, 4, 120.0, 250.0, 500.0),
            cpu_percent=11.0,
            slot_bytes=1.0,
            healthy_hosts=1.0,
            users=Traffic(60),
            # Nobody counts zeros: beside a count of requests a missing one is none.
            balancer_errors=0,
        ),
        Period(NOON + 120, replication_seconds=1.0, healthy_hosts=0.0, balancer_errors=9),
    )
    assert observed(client, monkeypatch, []).periods == tuple(Period(NOON + 60 * minute) for minute in range(3))
    # Without a count of requests that the balancer took it is unknown whether it refused any.
    for side, errors in (("task", 0), ("monolith", 0), ("users", None)):
        alone = observed(client, monkeypatch, [result(f"{side}_requests", {0: 10.0})]).periods[0]
        assert alone.balancer_errors == errors


@pytest.mark.parametrize("key", [one["Id"] for one in ANSWERED])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_what_is_no_figure_is_missing_and_no_nought(
    client: Any, monkeypatch: pytest.MonkeyPatch, key: str, value: float
) -> None:
    """Prevents NaN errors that count as none, and a NaN for a figure, which is within every limit."""
    whole, gone = (
        observed(client, monkeypatch, [one for one in ANSWERED if one["Id"] != key] + added).periods[0]
        for added in ([next(one for one in ANSWERED if one["Id"] == key)], [result(key, {0: value})])
    )
    side, _, name = key.partition("_")
    traffic = {"task": "task_service", "monolith": "monolith", "users": "users"}.get(side)
    change: dict[str, Any]
    if traffic and name.startswith("p"):
        change = {traffic: replace(getattr(whole, traffic), **{f"{name}_ms": None})}
    elif traffic and name != "healthy":
        change = {traffic: None}
    else:
        change = {FIELDS[key]: OTHER.get(key)}
    assert gone == replace(whole, **change)


@pytest.mark.parametrize(
    ("counts", "errors"),
    [
        ({"requests": 100, "successes": 100}, 0),
        # Clients that left (460), connections that broke (502), targets that took too long (504): nothing else counts them.
        ({"requests": 100, "successes": 90}, 10),
        ({"requests": 100}, 100),
        ({"requests": 100, "successes": 60, "redirects": 10, "refusals": 20, "errors": 6}, 10),
        # A failed connection is one of those without an answer, and one that was tried again is none.
        ({"requests": 100, "successes": 97, "failed_connections": 3}, 3),
        ({"requests": 100, "successes": 100, "failed_connections": 3}, 3),
        # Answers of requests that the minute before counted.
        ({"requests": 100, "successes": 102, "errors": 1}, 1),
    ],
)
def test_what_a_target_did_not_answer_is_an_error(
    client: Any, monkeypatch: pytest.MonkeyPatch, counts: dict[str, int], errors: int
) -> None:
    """Prevents a service whose answers never come and that has no error to show for it."""
    seen = observed(client, monkeypatch, [result(f"task_{name}", {0: float(n)}) for name, n in counts.items()])
    assert seen.periods[0].task_service == Traffic(100, errors, counts.get("refusals", 0))


def test_an_answer_in_part_is_no_missing_figure(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a rollback as a figure is missing that CloudWatch itself says it did not send."""
    for status in ("PartialData", "InternalError", "Forbidden"):
        cut = [result("cpu", {0: 10.0}, status) if one["Id"] == "cpu" else one for one in ANSWERED]
        with pytest.raises(MigrationError, match="CloudWatch answered cpu in part"):
            observed(client, monkeypatch, cut)


_ZONES = (UTC, timezone(timedelta(hours=9)), timezone(-timedelta(hours=3, minutes=30)))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_the_same_points_in_whatever_pages_order_and_zone_are_the_same_figures(
    client: Any, monkeypatch: pytest.MonkeyPatch, seed: int, count: int
) -> None:
    """Prevents a figure that hangs on where a page ends: of a metric the points come in pieces, the last one says whether they are all."""
    chance = Random(seed)
    points = [
        (one["Id"], at, value) for one in ANSWERED for at, value in zip(one["Timestamps"], one["Values"], strict=True)
    ]
    # CloudWatch may tell of periods beside those that were asked for, and of one point twice.
    points += [("cpu", datetime.fromtimestamp(NOON + 60 * minute, UTC), 99.0) for minute in (-1, 3)]
    points += chance.sample(points, 3)
    chance.shuffle(points)
    pages: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    for key, at, value in points:
        page = chance.choice(pages)
        found = next((one for one in page if one["Id"] == key and chance.random() < 0.8), None)
        if found is None:
            page.append(found := {"Id": key, "Timestamps": [], "Values": []})
        found["Timestamps"].append(at.astimezone(chance.choice(_ZONES)))
        found["Values"].append(value)
    for one in (one for page in pages[:-1] for one in page):
        one |= chance.choice([{}, {"StatusCode": "PartialData"}, {"StatusCode": "Complete", "Label": one["Id"]}])
    # The last piece of each, which may hold nothing more.
    pages[-1] += [{"Id": query.key, "StatusCode": "Complete"} for query in cloudwatch.queries({**OUTPUTS, **DMS})]
    assert observed(client, monkeypatch, *pages) == observed(client, monkeypatch, ANSWERED)


@pytest.mark.parametrize(
    "wrong",
    [
        {"Id": "cpu", "Timestamps": [datetime.fromtimestamp(NOON, UTC)], "Values": []},
        {"Id": "cpu", "Values": [1.0]},
        {"Id": "somebody's", "Timestamps": [], "Values": []},
        {"Timestamps": [datetime.fromtimestamp(NOON, UTC)], "Values": [1.0]},
    ],
)
def test_what_answers_nothing_that_was_asked_is_no_look(
    client: Any, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    """Prevents a watch that ends in a traceback, or in figures of which one is another's."""
    with pytest.raises(
        MigrationError, match="CloudWatch answered .*, which is no answer to what was asked; the next look asks again"
    ):
        observed(client, monkeypatch, [*ANSWERED, wrong])


def test_a_page_without_results_adds_none(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a watch that ends as its last page is empty: the service's model requires no results (botocore, GetMetricDataOutput)."""
    assert observed(client, monkeypatch, ANSWERED, None) == observed(client, monkeypatch, ANSWERED)


@pytest.mark.parametrize(("now", "minutes"), [(179.9, 0), (180.0, 1), (239.9, 1)])
def test_nothing_is_asked_before_a_period_has_settled(
    client: Any, monkeypatch: pytest.MonkeyPatch, now: float, minutes: int
) -> None:
    """Prevents a judgement by the first half of a minute's figures: the plan's minute, and two for it to be whole."""
    monkeypatch.setattr("time.time", lambda: NOON + now)
    with Stubber(client) as stub:
        if minutes:
            # A result of which nothing else is said is a whole one.
            answer = {"Id": "cpu", "Timestamps": [datetime.fromtimestamp(NOON, UTC)], "Values": [10.0]}
            stub.add_response("get_metric_data", {"MetricDataResults": [answer]})
        seen = CloudWatchMetrics(client, OUTPUTS, 60.0, 120.0).observe(NOON)
    assert seen == Observed(60.0, (Period(NOON, cpu_percent=10.0),) * minutes)


TASKS = {"TargetGroup": "targetgroup/task-service/0123", "LoadBalancer": "app/myteacher/aa"}
MONOLITH = {"TargetGroup": "targetgroup/myteacher/4567", "LoadBalancer": "app/myteacher/aa"}
GATEWAY = {"ApiId": "a1b2c3"}
HEALTH = {**GATEWAY, "Stage": "$default", "Method": "GET", "Resource": "/health"}
SERVICE = {"ClusterName": "myteacher-cluster", "ServiceName": "task-service"}
SOURCE, TARGET = ({"DBInstanceIdentifier": name} for name in ("myteacher-production", "task-service-db"))
FORWARD, REVERSE = (
    {"ReplicationInstanceIdentifier": "myteacher-task-replication", "ReplicationTaskIdentifier": name}
    for name in ("FORWARD", "REVERSE")
)
#: Every query as AWS documents the metric: namespace, name, statistic, dimensions; written out, as a helper would err alike.
WIRE: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "task_requests": ("AWS/ApplicationELB", "RequestCount", "Sum", TASKS),
    "task_successes": ("AWS/ApplicationELB", "HTTPCode_Target_2XX_Count", "Sum", TASKS),
    "task_redirects": ("AWS/ApplicationELB", "HTTPCode_Target_3XX_Count", "Sum", TASKS),
    "task_refusals": ("AWS/ApplicationELB", "HTTPCode_Target_4XX_Count", "Sum", TASKS),
    "task_errors": ("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "Sum", TASKS),
    "task_failed_connections": ("AWS/ApplicationELB", "TargetConnectionErrorCount", "Sum", TASKS),
    "task_p50": ("AWS/ApplicationELB", "TargetResponseTime", "p50", TASKS),
    "task_p95": ("AWS/ApplicationELB", "TargetResponseTime", "p95", TASKS),
    "task_p99": ("AWS/ApplicationELB", "TargetResponseTime", "p99", TASKS),
    "task_healthy": ("AWS/ApplicationELB", "HealthyHostCount", "Maximum", TASKS),
    "monolith_requests": ("AWS/ApplicationELB", "RequestCount", "Sum", MONOLITH),
    "monolith_successes": ("AWS/ApplicationELB", "HTTPCode_Target_2XX_Count", "Sum", MONOLITH),
    "monolith_redirects": ("AWS/ApplicationELB", "HTTPCode_Target_3XX_Count", "Sum", MONOLITH),
    "monolith_refusals": ("AWS/ApplicationELB", "HTTPCode_Target_4XX_Count", "Sum", MONOLITH),
    "monolith_errors": ("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "Sum", MONOLITH),
    "monolith_failed_connections": ("AWS/ApplicationELB", "TargetConnectionErrorCount", "Sum", MONOLITH),
    "monolith_p50": ("AWS/ApplicationELB", "TargetResponseTime", "p50", MONOLITH),
    "monolith_p95": ("AWS/ApplicationELB", "TargetResponseTime", "p95", MONOLITH),
    "monolith_p99": ("AWS/ApplicationELB", "TargetResponseTime", "p99", MONOLITH),
    "users_requests": ("AWS/ApiGateway", "Count", "Sum", GATEWAY),
    "users_errors": ("AWS/ApiGateway", "5xx", "Sum", GATEWAY),
    "users_refusals": ("AWS/ApiGateway", "4xx", "Sum", GATEWAY),
    "users_p50": ("AWS/ApiGateway", "Latency", "p50", GATEWAY),
    "users_p95": ("AWS/ApiGateway", "Latency", "p95", GATEWAY),
    "users_p99": ("AWS/ApiGateway", "Latency", "p99", GATEWAY),
    "users_checks": ("AWS/ApiGateway", "Count", "Sum", HEALTH),
    "balancer_errors": ("AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "Sum", {"LoadBalancer": "app/myteacher/aa"}),
    "cpu": ("AWS/ECS", "CPUUtilization", "Average", SERVICE),
    "memory": ("AWS/ECS", "MemoryUtilization", "Average", SERVICE),
    "database_cpu": ("AWS/RDS", "CPUUtilization", "Average", TARGET),
    "database_connections": ("AWS/RDS", "DatabaseConnections", "Maximum", TARGET),
    "database_free": ("AWS/RDS", "FreeStorageSpace", "Minimum", TARGET),
    "slot_source": ("AWS/RDS", "OldestReplicationSlotLag", "Maximum", SOURCE),
    "slot_target": ("AWS/RDS", "OldestReplicationSlotLag", "Maximum", TARGET),
    "latency_forward_source": ("AWS/DMS", "CDCLatencySource", "Maximum", FORWARD),
    "latency_forward_target": ("AWS/DMS", "CDCLatencyTarget", "Maximum", FORWARD),
    "latency_reverse_source": ("AWS/DMS", "CDCLatencySource", "Maximum", REVERSE),
    "latency_reverse_target": ("AWS/DMS", "CDCLatencyTarget", "Maximum", REVERSE),
}


def test_every_query_asks_for_what_aws_publishes() -> None:
    """Prevents a swapped percentile, a count of successes taken for one of errors, and a statistic that says nothing."""
    calls = [query.call(60) for query in cloudwatch.queries({**OUTPUTS, **DMS})]
    found = {}
    for call in calls:
        stat, metric = call["MetricStat"], call["MetricStat"]["Metric"]
        dimensions = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
        found[call["Id"]] = (metric["Namespace"], metric["MetricName"], stat["Stat"], dimensions)
        assert stat["Period"] == 60
    assert found == WIRE
    assert len(calls) == len(found) <= 500  # GetMetricData's limit for one call
    # As the API takes them: lower case first, letters, digits and underscores.
    assert all(key[0].islower() and key.replace("_", "").isalnum() for key in found)
    assert not [query.key for query in cloudwatch.queries(OUTPUTS) if query.namespace == "AWS/DMS"]


def test_a_stack_without_an_output_and_a_service_without_rights_are_named(client: Any) -> None:
    with pytest.raises(MigrationError, match="no output serviceName"):
        cloudwatch.queries({key: value for key, value in OUTPUTS.items() if key != "serviceName"})
    with Stubber(client) as stub:
        stub.add_client_error("get_metric_data", "AccessDenied")
        with pytest.raises(MigrationError, match=r"^CloudWatch cannot be read: .*; check cloudwatch:GetMetricData: "):
            CloudWatchMetrics(client, OUTPUTS, 60.0, 120.0).observe(NOON)
