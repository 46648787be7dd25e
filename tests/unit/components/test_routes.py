"""Routes and the weight: who answers a request, and what a change of the weight changes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import combinations
from typing import Any

import pulumi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.routes import weighted_groups
from tests.unit.components.declared_helpers import LISTENER, MONOLITH, REGION, SMOKE_VALUE, Declared, declare, walk

RULE = "aws:lb/listenerRule:ListenerRule"
ROUTE = "aws:apigatewayv2/route:Route"


@cache
def at_weight(weight: int, environment: str = "staging") -> Declared:
    return declare(environment, canaryWeight=weight)


def live_groups(declared: Declared) -> list[tuple[str, int]]:
    """Target groups of the live rule with their weights, named by who answers."""
    (action,) = declared.one(RULE, "routes-live-rule").inputs["actions"]
    assert action["type"] == "forward"
    return [
        ("monolith" if group["arn"] == MONOLITH else "task-service", group["weight"])
        for group in action["forward"]["targetGroups"]
    ]


@pytest.mark.parametrize("environment", ["staging", "prod"])
@pytest.mark.parametrize(
    ("weight", "groups"),
    [
        (0, [("monolith", 100)]),
        (1, [("monolith", 99), ("task-service", 1)]),
        (5, [("monolith", 95), ("task-service", 5)]),
        (25, [("monolith", 75), ("task-service", 25)]),
        (50, [("monolith", 50), ("task-service", 50)]),
        (100, [("task-service", 100)]),
    ],
)
def test_the_live_rule_splits_by_the_weight(environment: str, weight: int, groups: list[tuple[str, int]]) -> None:
    """A second group at 0 or at 100 could keep sticky clients on the side that was left."""
    declared = at_weight(weight, environment)
    assert live_groups(declared) == groups
    rules = [item.inputs for item in declared.all(RULE)]
    assert not [value for value in walk(rules) if isinstance(value, Mapping) and "stickiness" in value]
    assert not declared.one("aws:lb/targetGroup:TargetGroup").inputs.get("stickiness", {}).get("enabled")
    assert declared.stack_outputs["canaryWeight"] == weight


def test_clients_are_bound_to_a_side_between_the_ends_alone() -> None:
    """Prevents users who stay on the side that was left, or whose own write is not on the side that answers next."""
    sticky = {"enabled": True, "duration": 60}
    for weight, wanted in ((0, None), (1, sticky), (50, sticky), (99, sticky), (100, None)):
        declared = declare(canaryWeight=weight, canaryStickySeconds=60)
        rules = {item.name: item.inputs["actions"][0]["forward"] for item in declared.all(RULE)}
        assert rules["routes-live-rule"].get("stickiness") == wanted
        assert "stickiness" not in rules["routes-smoke-rule"]


@given(st.integers(0, 100))
def test_weights_always_add_up_to_all_requests(weight: int) -> None:
    groups = weighted_groups(weight, "monolith", "task")
    shares = {str(group.arn): group.weight for group in groups}
    assert sum(int(str(share)) for share in shares.values()) == 100
    assert shares.get("task", 0) == weight
    assert len(groups) == (1 if weight in (0, 100) else 2)


def by_name(declared: Declared) -> dict[str, Mapping[str, Any]]:
    return {
        f"{item.type} {item.name}": {
            "inputs": item.inputs,
            "protect": item.protect,
            "parent": item.parent,
            "dependencies": sorted(item.dependencies),
        }
        for item in declared.resources
    }


def test_a_change_of_the_weight_changes_the_live_rule_and_nothing_else() -> None:
    """A canary step that also touches a task, a service or a database is no canary step; nor is a way back."""
    name = f"{RULE} routes-live-rule"
    declared = [by_name(declare(canaryWeight=weight, canaryStickySeconds=60)) for weight in (0, 1, 37, 99, 100)]
    for before, after in combinations(declared, 2):
        assert before.keys() == after.keys()
        assert [name for name in before if before[name] != after[name]] == [name]
        inputs = [found[name]["inputs"] for found in (before, after)]
        assert [key for key in inputs[0] if inputs[0][key] != inputs[1][key]] == ["actions"]


def test_the_smoke_rule_stands_above_and_leads_to_the_task_service() -> None:
    """At weight 0 it alone attaches the target group, and it alone lets the API be checked before the first client."""
    declared = at_weight(0)
    smoke, live = declared.one(RULE, "routes-smoke-rule").inputs, declared.one(RULE, "routes-live-rule").inputs
    assert smoke["listenerArn"] == live["listenerArn"] == LISTENER
    assert smoke["priority"] == live["priority"] - 1
    target = declared.stack_outputs["taskTargetGroupArn"]
    assert [group["arn"] for group in smoke["actions"][0]["forward"]["targetGroups"]] == [target]
    conditions = {next(iter(item)): next(iter(item.values())) for item in smoke["conditions"]}
    assert conditions["httpHeader"] == {"httpHeaderName": "X-Task-Service-Smoke", "values": [SMOKE_VALUE]}
    assert conditions["pathPattern"] == {"values": ["/api/tasks", "/api/tasks/*", "/health"]}
    assert live["conditions"] == [{"pathPattern": {"values": ["/api/tasks", "/api/tasks/*"]}}]


def test_the_target_group_has_the_port_the_health_path_and_a_short_drain() -> None:
    """The 300 s default of the deregistration delay eats the whole rollback budget."""
    inputs = at_weight(0).one("aws:lb/targetGroup:TargetGroup").inputs
    assert (inputs["port"], inputs["protocol"], inputs["targetType"]) == (3001, "HTTP", "ip")
    check = inputs["healthCheck"]
    assert (check["path"], check["protocol"], check["port"], check["matcher"]) == (
        "/health",
        "HTTP",
        "traffic-port",
        "200",
    )
    # A task that died is out after 20 s.
    assert (check["interval"], check["unhealthyThreshold"], check["timeout"]) == (10, 2, 5)
    assert inputs["deregistrationDelay"] == 30
    assert len(inputs["name"]) <= 32
    other = declare(deregistrationDelaySeconds=7).one("aws:lb/targetGroup:TargetGroup").inputs
    assert other["deregistrationDelay"] == 7


def test_eight_routes_take_a_token_and_health_takes_none() -> None:
    declared = at_weight(0)
    routes = {item.inputs["routeKey"]: item.inputs for item in declared.all(ROUTE)}
    assert set(routes) == {
        "GET /api/tasks",
        "POST /api/tasks",
        "GET /api/tasks/{id}",
        "PUT /api/tasks/{id}",
        "DELETE /api/tasks/{id}",
        "POST /api/tasks/{id}/complete",
        "POST /api/tasks/{id}/approve",
        "POST /api/tasks/{id}/reject",
        "GET /health",
    }
    open_routes = [key for key, inputs in routes.items() if inputs["authorizationType"] == "NONE"]
    assert open_routes == ["GET /health"]
    assert "authorizerId" not in routes["GET /health"]
    for key in set(routes) - {"GET /health"}:
        assert routes[key]["authorizationType"] == "JWT"
        assert routes[key]["authorizerId"] == "routes-authorizer-id"
    assert {inputs["target"] for inputs in routes.values()} == {"integrations/routes-integration-id"}


def test_tokens_are_those_of_the_configured_pool() -> None:
    inputs = at_weight(0).one("aws:apigatewayv2/authorizer:Authorizer").inputs
    assert inputs["authorizerType"] == "JWT"
    assert inputs["identitySources"] == ["$request.header.Authorization"]
    assert inputs["jwtConfiguration"] == {
        "issuer": f"https://cognito-idp.{REGION}.amazonaws.com/{REGION}_AbCdEf123",
        "audiences": ["client-of-the-web", "client-of-the-app"],
    }


def test_the_integration_goes_through_the_link_to_the_existing_listener() -> None:
    declared = at_weight(0)
    inputs = declared.one("aws:apigatewayv2/integration:Integration").inputs
    assert (inputs["integrationType"], inputs["integrationMethod"]) == ("HTTP_PROXY", "ANY")
    assert inputs["connectionType"] == "VPC_LINK"
    assert inputs["connectionId"] == "routes-vpc-link-id"
    assert inputs["integrationUri"] == LISTENER
    assert inputs["tlsConfig"] == {"serverNameToVerify": "api.myteacher.example"}
    assert not inputs.get("requestParameters")


def test_the_link_speaks_what_the_listener_speaks_on_its_port() -> None:
    """Prevents a listener on another port that no security group opens, and TLS with one that speaks none."""
    declared = declare(listenerProtocol="HTTP", listenerPort=8080, listenerServerName=None)
    assert not declared.one("aws:apigatewayv2/integration:Integration").inputs.get("tlsConfig")
    ways = ("routes-link-to-load-balancer-egress", "routes-link-to-load-balancer-ingress")
    for item in declared.resources:
        if item.name in ways:
            assert (item.inputs["fromPort"], item.inputs["toPort"]) == (8080, 8080)
    assert {item.name for item in declared.resources} >= set(ways)


def test_hosts_limit_the_live_rule_and_are_what_the_api_sends() -> None:
    """Prevents a live rule that takes another application's requests, and an API whose Host meets no rule of ours."""
    declared = declare(hostHeaders=["api.myteacher.example", "*.school.example"])
    live = declared.one(RULE, "routes-live-rule").inputs["conditions"]
    assert {"hostHeader": {"values": ["api.myteacher.example", "*.school.example"]}} in live
    assert sum(len(value["values"]) for condition in live for value in condition.values()) <= 5
    smoke = declared.one(RULE, "routes-smoke-rule").inputs["conditions"]
    assert not [condition for condition in smoke if "hostHeader" in condition]
    sent = declared.one("aws:apigatewayv2/integration:Integration").inputs["requestParameters"]
    assert sent == {"overwrite:header.host": "api.myteacher.example"}


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"hostHeaders": ["*.example.com"]}, "API Gateway sends the first one"),
        ({"hostHeaders": ["a.example", "b.example", "c.example", "d.example"]}, "3 at most"),
        ({"hostHeaders": ["a.example", "*.*.*.example", "*.*.b"]}, "more than 4 wildcards"),
        ({"hostHeaders": ["localhost"]}, "hostHeaders.0: value 'localhost'"),
        ({"listenerServerName": None}, "API Gateway checks the certificate"),
        ({"listenerProtocol": "TLS"}, "listenerProtocol: value 'TLS'"),
        ({"customDomainName": "tasks.example.com"}, "set both, or neither"),
        (
            {
                "customDomainName": "tasks.example.com",
                "customDomainCertificateArn": "arn:aws:acm:us-east-1:123456789012:certificate/1",
            },
            "its region is us-east-1",
        ),
        ({"corsAllowedOrigins": ["app.example.com"]}, "corsAllowedOrigins.0: value 'app.example.com'"),
        ({"corsAllowedOrigins": ["*"], "canaryStickySeconds": 60}, "canaryStickySeconds needs one; name the origins"),
        ({"canaryStickySeconds": 604_801}, "canaryStickySeconds: value 604801"),
    ],
)
def test_a_listener_host_or_domain_that_cannot_work_is_named(overrides: dict[str, Any], part: str) -> None:
    """Prevents an `up` that AWS refuses half-way."""
    with pytest.raises(pulumi.RunError) as caught:
        declare(**overrides)
    assert part in str(caught.value)


def test_a_domain_and_other_origins_are_off_until_they_are_asked_for() -> None:
    """Prevents a name or a permission that nobody wanted."""
    plain = at_weight(0)
    assert not plain.all("aws:apigatewayv2/domainName:DomainName")
    assert not plain.one("aws:apigatewayv2/api:Api").inputs.get("corsConfiguration")
    assert "customDomainTarget" not in plain.stack_outputs
    arn = f"arn:aws:acm:{REGION}:123456789012:certificate/1"
    declared = declare(
        customDomainName="tasks.example.com",
        customDomainCertificateArn=arn,
        corsAllowedOrigins=["https://app.example.com"],
    )
    domain = declared.one("aws:apigatewayv2/domainName:DomainName").inputs
    assert domain["domainName"] == "tasks.example.com"
    assert domain["domainNameConfiguration"] == {
        "certificateArn": arn,
        "endpointType": "REGIONAL",
        "securityPolicy": "TLS_1_2",
    }
    mapping = declared.one("aws:apigatewayv2/apiMapping:ApiMapping").inputs
    assert (mapping["domainName"], mapping["stage"]) == ("routes-domain-id", "$default")
    cors = declared.one("aws:apigatewayv2/api:Api").inputs["corsConfiguration"]
    assert cors["allowOrigins"] == ["https://app.example.com"]
    assert set(cors["allowMethods"]) == {"GET", "POST", "PUT", "DELETE"}
    assert {"authorization", "content-type"} == set(cors["allowHeaders"])
    assert "allowCredentials" not in cors
    bound = declare(corsAllowedOrigins=["https://app.example.com"], canaryStickySeconds=60)
    assert bound.one("aws:apigatewayv2/api:Api").inputs["corsConfiguration"]["allowCredentials"] is True
    assert "customDomainTarget" in declared.stack_outputs


def test_the_stage_adds_no_prefix_and_its_limits_let_requests_through() -> None:
    """A stage whose limits are left out beside other settings is sent limits of 0: every request gets 429."""
    inputs = at_weight(0).one("aws:apigatewayv2/stage:Stage").inputs
    assert inputs["name"] == "$default"
    assert inputs["autoDeploy"] is True
    # Ten times the plan's load test: 50 requests/s of 100 users.
    limits = inputs["defaultRouteSettings"]
    assert (limits["throttlingRateLimit"], limits["throttlingBurstLimit"]) == (10 * 50, 10 * 100)
    assert limits["detailedMetricsEnabled"] is True
    assert "authorization" not in inputs["accessLogSettings"]["format"].lower()
