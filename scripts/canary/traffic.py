"""The live rule as the load balancer holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from components.naming import TASK_PATHS
from scripts.canary.figures import Observed
from scripts.support import listener_rules
from scripts.support.aws import refusals
from scripts.support.errors import Refused
from scripts.support.listener_rules import Request, parse_rule, read_rules
from scripts.support.wait import wait_until


class Metrics(Protocol):
    """What a watch reads."""

    def observe(self, since: float) -> Observed:
        """The complete periods from ``since`` (seconds since the epoch) on. Raises MigrationError when they cannot be read."""
        ...


@dataclass(frozen=True)
class Rule:
    """The live rule and the two groups that it may name, by ARN."""

    arn: str
    task_group: str
    monolith_group: str


def rule_of_outputs(outputs: Mapping[str, Any]) -> Rule:
    """The rule that a stack's outputs name."""
    return Rule(str(outputs["liveRuleArn"]), str(outputs["taskTargetGroupArn"]), str(outputs["monolithTargetGroupArn"]))


def find_rule(client: Any, listener: str, priority: int, monolith_group: str) -> Rule:
    """The live rule, found at the listener alone: without a stack's outputs, so without Pulumi.

    The smoke rule stands one above it (a smaller number by one) and names the Task Service's group and no other.

    Raises:
        MigrationError: the listener cannot be read.
        Refused: the rules are not there.
    """
    with refusals("the listener's rules cannot be read", "check elasticloadbalancing:DescribeRules"):
        by_priority = {rule["Priority"]: rule for rule in read_rules(client, listener)}
        live, smoke = by_priority.get(str(priority)), by_priority.get(str(priority - 1))
        groups = [group for group in parse_rule(smoke).weights if group != monolith_group] if smoke else []
        if live is not None and len(groups) == 1:
            return Rule(str(live["RuleArn"]), groups[0], monolith_group)
    raise Refused(
        f"the listener has no live rule at priority {priority} with a smoke rule at {priority - 1} above it; correct "
        "liveRulePriority and listenerArn in the stack's file"
    )


class LoadBalancer:
    """The live rule's weights. Only a deployment moves them, and in an emergency :meth:`to_monolith`."""

    def __init__(self, client: Any, rule: Rule) -> None:
        self._client = client
        self.rule = rule

    def weight(self) -> int:
        """The Task Service's share that the live rule gives, percent: 0 only where it gets nothing, 100 only where it gets everything.

        Raises:
            MigrationError: the rule cannot be read.
            Refused: the rule forwards elsewhere than to the two target groups, or to none.
        """
        live = self._read(self.rule.arn, "the live rule")
        strangers = set(live.weights) - {self.rule.task_group, self.rule.monolith_group}
        if strangers:
            raise Refused(
                f"the live rule forwards to {', '.join(sorted(strangers))}, which is neither the monolith nor the Task "
                "Service; mend the drift: pulumi up --refresh"
            )
        if not any(live.weights.values()):
            raise Refused(
                "the live rule forwards to no target group, so nobody's requests for tasks are answered; mend the drift: pulumi up --refresh"
            )
        share = live.share(self.rule.task_group)
        return int(100 * share) if share in (0, 1) else min(max(round(100 * share), 1), 99)

    def leads_to_service(self, rule: str, headers: Mapping[str, str]) -> bool:
        """Whether the rule (its ARN) takes what asks for tasks with these headers, and gives it to the Task Service alone.

        Raises:
            MigrationError: the rule cannot be read.
        """
        found = self._read(rule, "the smoke rule")
        request = Request("GET", "", TASK_PATHS[0], {name.lower(): value for name, value in headers.items()})
        with refusals("the smoke rule cannot be judged", "look at its conditions"):
            return found.matches(request) is True and found.share(self.rule.task_group) == 1

    def _read(self, arn: str, what: str) -> listener_rules.Rule:
        with refusals(f"{what} cannot be read", "check rights and region"):
            return parse_rule(self._client.describe_rules(RuleArns=[arn])["Rules"][0])

    def to_monolith(self) -> None:
        """Give the monolith everything, at once and without Pulumi, in the form that the program declares at weight 0.

        Raises:
            MigrationError: the load balancer refuses.
        """
        group = {"TargetGroupArn": self.rule.monolith_group, "Weight": 100}
        forward = {"Type": "forward", "ForwardConfig": {"TargetGroups": [group]}}
        by_hand = f"change it in the AWS console: rule {self.rule.arn} to {self.rule.monolith_group}"
        with refusals("the live rule cannot be changed", f"check elasticloadbalancing:ModifyRule, or {by_hand}"):
            self._client.modify_rule(RuleArn=self.rule.arn, Actions=[forward])

    def confirm(self, weight: int, timeout: float = 30.0) -> None:
        """Wait until the rule says ``weight``. Raises TimedOut with what it says instead."""
        wait_until(
            self.weight,
            lambda seen: seen == weight,
            what=f"the live rule at {weight} %",
            timeout=timeout,
            remedy="compare the stack with the load balancer: pulumi preview --refresh",
        )
