"""Targets in the emulated account: what the load balancer told of them, and a deployment that waits for it."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from scripts.rehearsal.emulated.reach import HEALTH_PATH
from scripts.rehearsal.world import EmulatedAws, build_world


@pytest.fixture(scope="module")
def world(aws: EmulatedAws) -> dict[str, Any]:
    return build_world(aws)


def tell(aws: EmulatedAws, found: dict[str, Any]) -> None:
    """As a load balancer tells what its checks found."""
    request = urllib.request.Request(f"{aws.endpoint_url}{HEALTH_PATH}", data=json.dumps(found).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def _states(aws: EmulatedAws, arn: str, **asked: Any) -> dict[str, str]:
    found = aws.client("elbv2").describe_target_health(TargetGroupArn=arn, **asked)["TargetHealthDescriptions"]
    return {item["Target"]["Id"]: item["TargetHealth"]["State"] for item in found}


def test_targets_are_as_the_load_balancer_found_them_and_new_ones_are_initial(
    aws: EmulatedAws, world: dict[str, Any]
) -> None:
    """Prevents a target that is healthy before anybody checked it, and one that nobody checks and that never is."""
    balancer, arn = aws.client("elbv2"), world["monolithTargetGroupArn"]
    (known,) = _states(aws, arn)
    assert _states(aws, arn) == {known: "healthy"}
    tell(aws, {arn: {known: ["unhealthy", "Target.Timeout", "Request timed out"]}})
    new = {"Id": "10.20.0.77", "Port": 80}
    balancer.register_targets(TargetGroupArn=arn, Targets=[new])
    assert _states(aws, arn) == {known: "unhealthy", new["Id"]: "initial"}
    balancer.deregister_targets(TargetGroupArn=arn, Targets=[new])
    assert _states(aws, arn) == {known: "unhealthy", new["Id"]: "draining"}
    assert _states(aws, arn, Targets=[new]) == {new["Id"]: "draining"}
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "0"}
    balancer.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[delay])
    balancer.register_targets(TargetGroupArn=arn, Targets=[new])
    balancer.deregister_targets(TargetGroupArn=arn, Targets=[new])
    assert _states(aws, arn) == {known: "unhealthy"}
