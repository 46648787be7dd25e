"""The way of a request: HTTP API, VPC link, existing listener, and two rules that choose who answers (docs/plan.md, 'Step 2').

The weight stands in the live rule alone. `GET /health` of the API reaches the listener as well and meets no live rule:
it is the listener's default action that answers, the monolith's, before and after the move. The Task Service's own
/health is reached by the load balancer's health check, and through the API with the smoke header.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.api import TaskApi, TaskApiArgs
from components.component import Component
from components.config_stack import StackConfig
from components.naming import HEALTH_PATH, LIVE_RULE, SERVICE_PORT, SMOKE_HEADER, TASK_PATHS, Naming
from components.network import permit


@dataclass(frozen=True)
class RoutesArgs:
    """Arguments of :class:`Routes`."""

    naming: Naming
    config: StackConfig
    smoke_header_value: pulumi.Input[str]
    log_key_arn: pulumi.Input[str]


def weighted_groups(
    weight: int, monolith: pulumi.Input[str], task_service: pulumi.Input[str]
) -> list[aws.lb.ListenerRuleActionForwardTargetGroupArgs]:
    """Target groups of a rule that gives the Task Service ``weight`` percent.

    At 0 and at 100 there is exactly one: a group of weight 0 would still be named, and hold the clients that it is bound to.
    """
    shares = ((monolith, 100 - weight), (task_service, weight))
    return [
        aws.lb.ListenerRuleActionForwardTargetGroupArgs(arn=arn, weight=share) for arn, share in shares if share > 0
    ]


class Routes(Component):
    """Target group of the Task Service, live rule, smoke rule, and the HTTP API in front of them."""

    component = "routes"
    live_rule_arn: pulumi.Output[str]
    smoke_rule_arn: pulumi.Output[str]
    target_group_arn: pulumi.Output[str]
    target_group_suffix: pulumi.Output[str]
    api_id: pulumi.Output[str]
    api_endpoint: pulumi.Output[str]
    domain_target: pulumi.Output[str] | None
    attachment: pulumi.Resource
    """What attaches the target group to the load balancer; a service on that group depends on it."""

    def __init__(self, name: str, args: RoutesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, args.naming, opts)
        target_group = self._declare_target_group(name, args)
        smoke = self._declare_smoke_rule(name, args, target_group)
        live = self._declare_live_rule(name, args, target_group, smoke)
        api = TaskApi(
            name,
            TaskApiArgs(naming=args.naming, config=args.config, log_key_arn=args.log_key_arn),
            pulumi.ResourceOptions(parent=self),
        )
        permit(
            self,
            f"{name}-link-to-load-balancer",
            origin=api.link_security_group_id,
            destination=args.config.load_balancer_security_group_id,
            port=args.config.listener_port,
            purpose="API Gateway VPC link to the load balancer",
        )

        self.live_rule_arn = live.arn
        self.smoke_rule_arn = smoke.arn
        self.target_group_arn = target_group.arn
        self.target_group_suffix = target_group.arn_suffix
        self.api_id = api.api_id
        self.api_endpoint = api.api_endpoint
        self.domain_target = api.domain_target
        self.attachment = smoke
        self.declared()

    def _declare_target_group(self, name: str, args: RoutesArgs) -> aws.lb.TargetGroup:
        return aws.lb.TargetGroup(
            f"{name}-target-group",
            name=self.naming.prefix,
            port=SERVICE_PORT,
            protocol="HTTP",
            # Fargate tasks have network interfaces of their own.
            target_type="ip",
            vpc_id=args.config.vpc_id,
            deregistration_delay=args.config.deregistration_delay_seconds,
            health_check=aws.lb.TargetGroupHealthCheckArgs(
                enabled=True,
                path=HEALTH_PATH,
                protocol="HTTP",
                port="traffic-port",
                matcher="200",
                interval=10,
                timeout=5,
                healthy_threshold=2,
                unhealthy_threshold=2,
            ),
            tags=self.tags(self.naming.prefix),
            opts=self.child,
        )

    def _declare_smoke_rule(self, name: str, args: RoutesArgs, target_group: aws.lb.TargetGroup) -> aws.lb.ListenerRule:
        """Above the live rule: who knows the header's secret value gets the Task Service at every weight, by any host.

        It also attaches the target group to the load balancer at weight 0, without which ECS makes no service on it.
        """
        header = aws.lb.ListenerRuleConditionArgs(
            http_header=aws.lb.ListenerRuleConditionHttpHeaderArgs(
                http_header_name=SMOKE_HEADER, values=[args.smoke_header_value]
            )
        )
        return aws.lb.ListenerRule(
            f"{name}-smoke-rule",
            listener_arn=args.config.listener_arn,
            priority=args.config.live_rule_priority - 1,
            actions=_forward(100, args, target_group),
            conditions=[header, _paths(*TASK_PATHS, HEALTH_PATH)],
            tags=self.tags(f"{self.naming.prefix}-smoke"),
            opts=pulumi.ResourceOptions(parent=self, additional_secret_outputs=["conditions"]),
        )

    def _declare_live_rule(
        self, name: str, args: RoutesArgs, target_group: aws.lb.TargetGroup, smoke: aws.lb.ListenerRule
    ) -> aws.lb.ListenerRule:
        """The one resource that a change of the weight changes."""
        conditions = [_paths(*TASK_PATHS)]
        if hosts := args.config.host_headers:
            condition = aws.lb.ListenerRuleConditionHostHeaderArgs(values=list(hosts))
            conditions.append(aws.lb.ListenerRuleConditionArgs(host_header=condition))
        return aws.lb.ListenerRule(
            f"{name}-{LIVE_RULE}",
            listener_arn=args.config.listener_arn,
            priority=args.config.live_rule_priority,
            actions=_forward(args.config.canary_weight, args, target_group),
            conditions=conditions,
            tags=self.tags(f"{self.naming.prefix}-live"),
            # The smoke rule first, so that nobody finds the live rule's group without a way to check it.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[smoke]),
        )


def _forward(weight: int, args: RoutesArgs, target_group: aws.lb.TargetGroup) -> list[aws.lb.ListenerRuleActionArgs]:
    groups = weighted_groups(weight, args.config.monolith_target_group_arn, target_group.arn)
    seconds = args.config.canary_sticky_seconds if len(groups) > 1 else 0
    # Left out, and not `enabled=False`, where there is none: AWS answers a duration of 0 then, which the provider takes for a
    # difference for ever. What is left out, it switches off (its test of a rule whose stickiness is removed).
    sticky = aws.lb.ListenerRuleActionForwardStickinessArgs(enabled=True, duration=seconds) if seconds else None
    forward = aws.lb.ListenerRuleActionForwardArgs(target_groups=groups, stickiness=sticky)
    return [aws.lb.ListenerRuleActionArgs(type="forward", forward=forward)]


def _paths(*paths: str) -> aws.lb.ListenerRuleConditionArgs:
    return aws.lb.ListenerRuleConditionArgs(
        path_pattern=aws.lb.ListenerRuleConditionPathPatternArgs(values=list(paths))
    )
