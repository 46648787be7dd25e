"""What a load balancer refuses of stickiness and moto takes: a rule that cannot hold a client, on its group and on a target at once."""

from __future__ import annotations

from typing import Any

from moto.elbv2 import models as elbv2
from moto.elbv2.exceptions import InvalidLoadBalancerActionException, ValidationError

#: Elastic Load Balancing API, 'TargetGroupStickinessConfig'.
LONGEST = 604_800


class Balancers(elbv2.ELBv2Backend):
    """moto's load balancers with these refusals."""

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


def install() -> None:
    """Have moto make this backend; before it made any."""
    # moto finds a service's addresses beside the module of its backend.
    Balancers.__module__ = elbv2.ELBv2Backend.__module__
    elbv2.elbv2_backends.backend = Balancers
