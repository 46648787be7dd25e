"""Load balancers of the emulated account: what they refuse of stickiness and moto takes, and the health of their targets.

A target is what the load balancer's own health checks found (``gateway/targets.py`` carries them out and tells), and one that is
taken out drains; before any load balancer has told, all are healthy, as moto has them.
"""

from __future__ import annotations

import json
import time
from typing import Any

from moto.elbv2 import models as elbv2
from moto.elbv2.exceptions import InvalidLoadBalancerActionException, ValidationError

#: Elastic Load Balancing API, 'TargetGroupStickinessConfig'.
LONGEST = 604_800
#: State, reason and description of a target that no check has judged, and of one that is taken out (Elastic Load Balancing,
#: 'Health checks for Application Load Balancer target groups').
INITIAL = ("initial", "Elb.InitialHealthChecking", "Initial health checks in progress")
DRAINING = ("draining", "Target.DeregistrationInProgress", "Target deregistration is in progress")
#: The attribute's default, which moto leaves out.
DRAIN_SECONDS = 300.0


class Balancers(elbv2.ELBv2Backend):
    """moto's load balancers with these."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.checked: dict[str, dict[str, tuple[str, str | None, str | None]]] = {}
        self._draining: dict[str, dict[str, tuple[Any, float]]] = {}

    def register_targets(self, target_group_arn: str, instances: list[Any]) -> None:
        super().register_targets(target_group_arn, instances)
        for target in instances:
            self._draining.get(target_group_arn, {}).pop(target["Id"], None)

    def deregister_targets(self, target_group_arn: str, instances: list[dict[str, Any]]) -> None:
        group: Any = self.target_groups.get(target_group_arn)
        ports = {key: target["Port"] for key, target in group.targets.items()} if group else {}
        super().deregister_targets(target_group_arn, instances)
        assert group is not None  # moto refuses what is not there
        delay = float(group.attributes.get("deregistration_delay.timeout_seconds", DRAIN_SECONDS))
        draining, until = self._draining.setdefault(target_group_arn, {}), time.monotonic() + delay
        draining |= {target["Id"]: (ports[target["Id"]], until) for target in instances}

    def describe_target_health(self, target_group_arn: str, targets: list[dict[str, Any]]) -> Any:
        found = super().describe_target_health(target_group_arn, targets)
        checked = self.checked.get(target_group_arn)
        for one in found:
            if one.status == "healthy" and checked is not None:
                one.status, one.reason, one.description = checked.get(one.instance_id, INITIAL)
        asked, now = {target["Id"] for target in targets}, time.monotonic()
        draining = self._draining.get(target_group_arn, {})
        drained = [
            elbv2.FakeHealthStatus(key, port, None, *DRAINING)
            for key, (port, until) in draining.items()
            if now < until and (not asked or key in asked)
        ]
        over = {one.instance_id for one in drained}
        return [one for one in found if one.instance_id not in over] + drained

    def _validate_actions(self, actions: list[Any]) -> None:
        super()._validate_actions(actions)
        for action in actions:
            config = action.data.get("ForwardConfig") or {}
            sticky = config.get("TargetGroupStickinessConfig") or {}
            enabled, seconds = sticky.get("Enabled") in (True, "true"), sticky.get("DurationSeconds")
            if (enabled or seconds is not None) and not 1 <= int(seconds or 0) <= LONGEST:
                raise ValidationError(f"Target group stickiness duration must be between 1 and {LONGEST} seconds")
            # 'Action types for listener rules', forward actions: several groups, of which one binds clients to its targets.
            groups = [self.target_groups[str(group["TargetGroupArn"])] for group in config.get("TargetGroups") or ()]
            bound = [group for group in groups if group.attributes["stickiness.enabled"] == "true"]
            if bound and len(groups) > 1 and not enabled:
                raise InvalidLoadBalancerActionException(
                    "You must enable group stickiness on a rule if you enabled target stickiness on one of its target groups"
                )


def report(request: Any, *_: Any) -> Any:
    """What a load balancer's checks found, by group."""
    for arn, states in json.loads(request.get_data()).items():
        region, account = arn.split(":")[3:5]
        backend: Any = elbv2.elbv2_backends[account][region]
        backend.checked[arn] = {key: tuple(state) for key, state in states.items()}
    return 200, {}, "{}"
