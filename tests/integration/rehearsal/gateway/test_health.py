"""The gateway's targets: checked as their group says, told to the account, chosen by their health, drained when they go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from scripts.support.wait import wait_until
from tests.integration.rehearsal.app.app_world import AppWorld
from tests.integration.rehearsal.gateway.gateway_world import SMOKE_HEADER, SMOKE_VALUE, GatewayWorld, Upstream

SMOKE = {SMOKE_HEADER: SMOKE_VALUE}


@pytest.fixture(scope="module")
def gateway(app_world: AppWorld) -> Iterator[GatewayWorld]:
    """At weight 0; the Task Service is asked by the smoke header."""
    monolith, task = Upstream("monolith"), Upstream("task-service")
    with httpx.Client(trust_env=False, timeout=20.0) as http:
        made = GatewayWorld(app_world, monolith, task, http)
        try:
            made.build("gateway-health")
            made.start()
            yield made
        finally:
            monolith.stop()
            task.stop()


def _healths(gateway: GatewayWorld, wanted: dict[str, tuple[str, str | None]], timeout: float = 10.0) -> None:
    """Wait until DescribeTargetHealth says so of the Task Service's targets."""
    wait_until(lambda: gateway.health("task"), lambda seen: seen == wanted, what=str(wanted), timeout=timeout)


def _answers(gateway: GatewayWorld, status: int) -> None:
    wait_until(
        lambda: gateway.send(headers=SMOKE).status_code, lambda seen: seen == status, what=str(status), timeout=10
    )


def test_a_new_target_is_healthy_after_its_first_check(gateway: GatewayWorld) -> None:
    """Prevents a start of the service that waits for what nobody checks, and one that is well before anybody looked."""
    _drains_for(gateway, 1)
    group = {"TargetGroupArn": gateway.groups["task"], "Targets": [{"Id": "10.0.1.10"}]}
    balancer = gateway.world.aws.client("elbv2")
    balancer.deregister_targets(**group)
    _healths(gateway, {})
    gateway.task.checks = 0
    gateway.task.seen.clear()
    balancer.register_targets(**group)
    _healths(gateway, {"10.0.1.10": ("healthy", None)})
    assert gateway.task.checks
    assert not gateway.task.seen


def test_targets_that_fail_their_checks_are_unhealthy_and_requests_still_come_when_all_are(
    gateway: GatewayWorld,
) -> None:
    """Prevents a rehearsal in which the last tasks that fail get no request: an ALB fails open. Takes two intervals, 5 s at the least."""
    gateway.task.health = 500
    try:
        _healths(gateway, {"10.0.1.10": ("unhealthy", "Target.ResponseCodeMismatch")}, timeout=20)
        assert gateway.send(headers=SMOKE).json() == {"by": "task-service"}
    finally:
        gateway.task.health = 200


def _drains_for(gateway: GatewayWorld, delay: int) -> None:
    """A target that goes has so many seconds for what it has begun."""
    attribute = {"Key": "deregistration_delay.timeout_seconds", "Value": str(delay)}
    balancer = gateway.world.aws.client("elbv2")
    balancer.modify_target_group_attributes(TargetGroupArn=gateway.groups["task"], Attributes=[attribute])


def test_a_group_without_a_target_is_a_503_of_the_load_balancer(gateway: GatewayWorld) -> None:
    """Prevents a gate that takes silence for health: with no target registered AWS counts no request for the group at all."""
    group = {"TargetGroupArn": gateway.groups["task"], "Targets": [{"Id": "10.0.1.10"}]}
    balancer = gateway.world.aws.client("elbv2")
    _drains_for(gateway, 60)
    balancer.deregister_targets(**group)
    try:
        _answers(gateway, 503)
        assert gateway.health("task") == {"10.0.1.10": ("draining", "Target.DeregistrationInProgress")}
    finally:
        balancer.register_targets(**group)
    _answers(gateway, 200)


@pytest.mark.parametrize("delay", [1, 60])
def test_a_request_under_way_has_the_drains_seconds_to_end(gateway: GatewayWorld, delay: int) -> None:
    """Prevents a drain that is shorter than the longest request and a rehearsal that does not show it: the balancer cuts it, 502."""
    balancer = gateway.world.aws.client("elbv2")
    _drains_for(gateway, delay)
    group = {"TargetGroupArn": gateway.groups["task"], "Targets": [{"Id": "10.0.1.10"}]}
    arrived, go_on, answers = threading.Event(), threading.Event(), list[int]()

    def slow(_: BaseHTTPRequestHandler) -> bool:
        arrived.set()
        return not go_on.wait(20)

    gateway.task.behave = slow
    thread = threading.Thread(target=lambda: answers.append(gateway.send(headers=SMOKE).status_code))
    thread.start()
    try:
        assert arrived.wait(10)
        began = time.monotonic()
        balancer.deregister_targets(**group)
        gateway.task.behave = None
        _answers(gateway, 503)
        if delay == 1:
            thread.join(10)
            assert answers == [502]
            assert time.monotonic() - began >= 1.0
        else:
            assert answers == []
    finally:
        go_on.set()
        balancer.register_targets(**group)
        thread.join(10)
    assert answers == [502 if delay == 1 else 200]
    _answers(gateway, 200)
