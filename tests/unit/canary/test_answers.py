"""The load balancer's and ECS's answers: the weight and the tasks that they tell of, or an error of ours; whatever they lack."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.canary.service_control import ServiceControl
from scripts.canary.traffic import LoadBalancer, Rule, find_rule
from scripts.support.errors import Refused
from tests.foreign import Answers, answers, read

RULE = Rule("arn:rule", "arn:tg:targetgroup/task-service/2", "arn:tg:targetgroup/monolith/1")
GROUPS = (RULE.task_group, RULE.monolith_group)
OUTPUTS = {
    "clusterArn": "arn:aws:ecs:r:1:cluster/c",
    "serviceName": "task-service",
    "taskTargetGroupArn": RULE.task_group,
    "taskDefinitionArn": "arn:td:2",
    "serviceImage": "image:2",
    "serviceTasks": 2,
}


def live(action: dict[str, Any]) -> LoadBalancer:
    """A live rule that does this."""
    return LoadBalancer(
        Answers(describe_rules={"Rules": [{"RuleArn": "r", "Priority": "110", "Actions": [action]}]}), RULE
    )


def forward(*weights: tuple[str, int]) -> dict[str, Any]:
    """An action that forwards to these groups."""
    groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights]
    return {"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}


@given(st.integers(0, 999), st.integers(0, 999), st.booleans())
def test_a_weight_is_0_only_where_the_service_gets_nothing_and_100_only_where_it_gets_all(
    task: int, monolith: int, turned: bool
) -> None:
    """Prevents 1 of 999 requests, by weights that somebody set by hand, that a rollback takes for none."""
    groups = [(RULE.task_group, task), (RULE.monolith_group, monolith)]
    balancer = live(forward(*(groups[::-1] if turned else groups)))
    if not task + monolith:
        with pytest.raises(Refused, match="forwards to no target group.*pulumi up --refresh"):
            balancer.weight()
        return
    share = Fraction(task, task + monolith)
    weight = balancer.weight()
    assert (weight == 0, weight == 100) == (share == 0, share == 1)
    assert abs(weight - 100 * share) <= (1 if weight in (1, 99) else Fraction(1, 2))


@pytest.mark.parametrize("kind", ["fixed-response", "redirect"])
def test_a_live_rule_that_answers_itself_is_no_weight_of_0(kind: str) -> None:
    """Prevents a page of maintenance that is taken for the monolith's answers."""
    config = {"FixedResponseConfig": {"StatusCode": "503"}, "RedirectConfig": {"StatusCode": "HTTP_302"}}
    with pytest.raises(Refused, match="forwards to no target group"):
        live({"Type": kind, **config}).weight()


_ARNS = {
    "TargetGroupArn": GROUPS,
    "Priority": ("109", "110", "default"),
    "Type": ("forward", "forward", "redirect", "jwt-validation"),
    "Field": ("path-pattern",),
}


@settings(max_examples=100)
@given(answers("elbv2", "describe_rules", **_ARNS))
def test_whatever_a_listener_answers_is_a_rule_or_an_error(client: Answers) -> None:
    balancer = LoadBalancer(client, RULE)
    weight, refused = read(balancer.weight)
    assert (weight is None) == bool(refused)
    assert weight is None or 0 <= weight <= 100
    found, refused = read(lambda: find_rule(client, "arn:listener", 110, RULE.monolith_group))
    assert found is None or (found.task_group, found.monolith_group) == GROUPS
    read(lambda: balancer.leads_to_service("arn:rule", {"x-smoke": "v"}))


_STATES = st.sampled_from(["initial", "healthy", "unhealthy", "unused", "draining", "unavailable"])


@given(
    st.lists(_STATES, max_size=5),
    st.integers(0, 3),
    st.integers(0, 3),
    st.permutations(["PRIMARY", "ACTIVE", "INACTIVE"]),
)
def test_tasks_are_counted_as_ecs_and_the_load_balancer_tell_them(
    states: list[str], wanted: int, running: int, order: list[str]
) -> None:
    """Prevents a service that is called well by its number of targets, or by another deployment than the newest."""
    rollouts = {"PRIMARY": "COMPLETED", "ACTIVE": "FAILED", "INACTIVE": "IN_PROGRESS"}
    deployments = [
        {"id": one, "status": one, "rolloutState": rollouts[one], "runningCount": 0, "taskDefinition": "arn:td:2"}
        for one in order
    ]
    described = {
        "describe_services": {"services": [{"desiredCount": wanted, "runningCount": running, "deployments": deployments}]},
        "describe_target_health": {"TargetHealthDescriptions": [{"Target": {"Id": "t"}, "TargetHealth": {"State": state}} for state in states]},
        "list_tasks": {"taskArns": []},
    }  # fmt: skip
    client = Answers(**described)
    found = ServiceControl(client, client, client, OUTPUTS).health()
    assert (found.wanted, found.running, found.healthy) == (wanted, running, states.count("healthy"))
    assert (found.least, found.rollout, found.other) == (2, "COMPLETED", None)
    assert (not found.problems) == (wanted > 0 and running >= 2 and states.count("healthy") >= 2)


_TASKS = {"taskDefinition": ("arn:td:1", "arn:td:2"), "taskDefinitionArn": ("arn:td:1", "arn:td:2")}


@settings(max_examples=100)
@given(
    answers("ecs", "describe_services", "list_tasks", "describe_tasks", **_TASKS),
    answers("elbv2", "describe_target_health"),
)
def test_whatever_ecs_answers_is_how_the_service_stands_or_an_error(ecs: Answers, elb: Answers) -> None:
    found, refused = read(ServiceControl(ecs, None, elb, OUTPUTS).health)
    assert (found is None) == bool(refused)
    assert found is None or str(found)
