"""Routes of the HTTP API and rules of the load balancer: what the local gateway decides, on the APIs' own dicts."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from scripts.rehearsal.gateway.rules import Route, choose_target, find_route, find_rule, group_name, parse_rule
from scripts.support.errors import MigrationError

MONOLITH, TASK = "arn:tg:targetgroup/monolith/1", "arn:tg:targetgroup/task-service/2"


def _rule(priority: str, action: dict[str, Any], *conditions: dict[str, Any]) -> dict[str, Any]:
    return {
        "RuleArn": f"rule-{priority}",
        "Priority": priority,
        "IsDefault": priority == "default",
        "Conditions": list(conditions),
        "Actions": [action],
    }


def _forward(**weights: int) -> dict[str, Any]:
    arns = {"monolith": MONOLITH, "task": TASK}
    groups = [{"TargetGroupArn": arns[name], "Weight": weight} for name, weight in weights.items()]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}


def _path(*values: str) -> dict[str, Any]:
    return {"Field": "path-pattern", "PathPatternConfig": {"Values": list(values)}}


def _header(name: str, *values: str) -> dict[str, Any]:
    return {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": name, "Values": list(values)}}


RULES = [
    parse_rule(item)
    for item in (
        _rule("default", {"Type": "forward", "TargetGroupArn": MONOLITH}),
        _rule("110", _forward(monolith=95, task=5), _path("/api/tasks", "/api/tasks/*")),
        _rule(
            "109", _forward(task=100), _header("X-Task-Service-Smoke", "s3cret"), _path("/api/tasks", "/api/tasks/*")
        ),
    )
]


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/api/tasks", {}, "rule-110"),
        ("/api/tasks/7/complete", {}, "rule-110"),
        ("/api/tasksmith", {}, "rule-default"),
        ("/API/tasks", {}, "rule-default"),
        ("/health", {"x-task-service-smoke": "s3cret"}, "rule-default"),
        ("/api/tasks", {"x-task-service-smoke": "s3cret"}, "rule-109"),
        ("/api/tasks", {"x-task-service-smoke": "guess"}, "rule-110"),
    ],
)
def test_the_first_rule_by_priority_whose_conditions_all_hold_decides(
    path: str, headers: dict[str, str], expected: str
) -> None:
    """Prevents a smoke check that reaches the monolith, and live traffic that reaches the Task Service by the smoke rule."""
    rule = find_rule(RULES, "GET", "", path, headers)
    assert rule is not None
    assert rule.arn == expected


def test_requests_are_split_by_the_weights() -> None:
    """Prevents a canary of another size than the rule says."""
    random = Random(1)
    rule = RULES[1]
    chosen = Counter(choose_target(rule, random.random) for _ in range(20_000))
    assert chosen[TASK] / chosen.total() == pytest.approx(0.05, abs=0.005)
    assert choose_target(rule, lambda: 0.0) == MONOLITH
    assert choose_target(rule, lambda: 0.9499) == MONOLITH
    assert choose_target(rule, lambda: 0.95) == TASK
    assert choose_target(rule, lambda: 0.999999) == TASK


def test_weight_zero_gets_nothing_and_all_zero_leads_nowhere() -> None:
    """Prevents a request to a side that was taken out."""
    only = parse_rule(_rule("1", _forward(monolith=100, task=0)))
    assert {choose_target(only, Random(seed).random) for seed in range(500)} == {MONOLITH}
    assert choose_target(parse_rule(_rule("1", _forward(monolith=0, task=0)))) is None


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/tasks", "GET /api/tasks"),
        ("GET", "/api/tasks/5", "GET /api/tasks/{id}"),
        ("POST", "/api/tasks/5/complete", "POST /api/tasks/{id}/complete"),
        ("GET", "/api/tasks/stats", "GET /api/tasks/stats"),
        ("PUT", "/api/tasks/stats", "ANY /api/tasks/{id}"),
        ("GET", "/files/a/b/c", "GET /files/{path+}"),
        ("GET", "/files", None),
        ("POST", "/api/tasks", None),
        ("GET", "/api/tasks/", None),
        ("GET", "/api/tasks/5/complete", None),
    ],
)
def test_the_most_specific_route_serves_the_request(method: str, path: str, expected: str | None) -> None:
    """Prevents an endpoint that the gateway knows and API Gateway does not, or the other way round."""
    keys = (
        "ANY /api/tasks/{id}",
        "GET /api/tasks",
        "GET /api/tasks/{id}",
        "GET /api/tasks/stats",
        "POST /api/tasks/{id}/complete",
        "GET /files/{path+}",
    )
    routes = [Route(key, None, "i") for key in keys]
    found = find_route(routes, method, path)
    assert (found.key if found else None) == expected
    assert find_route([*routes, Route("$default", None, "i")], method, path) is not None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (_path("/a?c"), True),
        (_path("/a"), False),
        ({"Field": "path-pattern", "Values": ["/abc"]}, True),
        ({"Field": "host-header", "HostHeaderConfig": {"Values": ["*.EXAMPLE.com"]}}, True),
        ({"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["POST"]}}, False),
        (_header("X-A", "b*"), True),
        (_header("x-other", "*"), False),
    ],
)
def test_conditions_hold_as_the_load_balancer_reads_them(condition: dict[str, Any], holds: bool) -> None:
    """Prevents a pattern that is read as a regular expression, or case that matters where it does not."""
    rule = parse_rule(_rule("1", _forward(task=1), condition))
    assert rule.matches("GET", "api.example.com", "/abc", {"x-a": "Better"}) is holds


def test_what_the_gateway_does_not_know_is_an_error_not_a_guess() -> None:
    """Prevents a rehearsal that passes because a condition or an action was ignored."""
    strange = parse_rule(
        _rule("1", _forward(task=1), {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}})
    )
    with pytest.raises(MigrationError, match="source-ip"):
        strange.matches("GET", "", "/", {})
    with pytest.raises(MigrationError, match="redirect"):
        parse_rule(_rule("1", {"Type": "redirect"}))


def test_a_fixed_response_is_kept() -> None:
    """Prevents a maintenance answer that becomes a 503 of the gateway's own."""
    config = {"StatusCode": "410", "MessageBody": "gone", "ContentType": "text/plain"}
    rule = parse_rule(_rule("default", {"Type": "fixed-response", "FixedResponseConfig": config}))
    assert rule.fixed is not None
    assert (rule.fixed.status, rule.fixed.body, rule.weights) == (410, "gone", {})


def test_a_target_group_has_its_name_in_its_arn() -> None:
    """Prevents targets that cannot be given by name before their ARN is known."""
    arn = "arn:aws:elasticloadbalancing:ap-northeast-1:123456789012:targetgroup/task-service/73e2d6bc24d8a067"
    assert group_name(arn) == "task-service"
