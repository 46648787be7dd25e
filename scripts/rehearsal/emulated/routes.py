"""The load balancer's side of the way in: target group and listener rules (Elastic Load Balancing v2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from scripts.rehearsal.emulated.core import Aws, Inputs, Kind, Tagging, capitals, pascal
from scripts.support.listener_rules import Rule, parse_rule

#: Elastic Load Balancing, 'Quotas for your Application Load Balancers'; moto takes more.
CONDITION_VALUES = 5


class _Elb(Kind):
    service = "elbv2"
    tagging = Tagging("ResourceArns", several=True, add="add_tags", remove="remove_tags")


class TargetGroup(_Elb):
    """aws.lb.TargetGroup."""

    resource_type = "aws:lb/targetGroup:TargetGroup"
    params: ClassVar[Mapping[str, Any]] = capitals("name port protocol targetType vpcId")
    special = frozenset({"healthCheck", "deregistrationDelay"})
    force_new = frozenset(params)
    unique = ("name",)
    removal = ("delete_target_group", {"TargetGroupArn": "id"})

    @staticmethod
    def _health(inputs: Inputs) -> dict[str, Any]:
        names = {
            "enabled": "HealthCheckEnabled",
            "path": "HealthCheckPath",
            "protocol": "HealthCheckProtocol",
            "interval": "HealthCheckIntervalSeconds",
            "timeout": "HealthCheckTimeoutSeconds",
            "healthyThreshold": "HealthyThresholdCount",
            "unhealthyThreshold": "UnhealthyThresholdCount",
        }
        check = inputs.get("healthCheck") or {}
        call = {name: check[key] for key, name in names.items() if check.get(key) is not None}
        if check.get("port") is not None:
            call["HealthCheckPort"] = str(check["port"])
        if check.get("matcher"):
            call["Matcher"] = {"HttpCode": check["matcher"]}
        if unknown := set(check) - set(names) - {"port", "matcher"}:
            raise ValueError(f"healthCheck has properties that are not known: {', '.join(sorted(unknown))}")
        return call

    @staticmethod
    def _attributes(inputs: Inputs) -> list[dict[str, str]]:
        delay = inputs.get("deregistrationDelay")
        return [] if delay is None else [{"Key": "deregistration_delay.timeout_seconds", "Value": str(delay)}]

    def create(self, aws: Aws, inputs: Inputs) -> str:
        elb = aws.client("elbv2")
        call = self.tagged({**self.parameters(inputs), **self._health(inputs)}, inputs)
        arn = str(elb.create_target_group(**call)["TargetGroups"][0]["TargetGroupArn"])
        if attributes := self._attributes(inputs):
            elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=attributes)
        return arn

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = aws.client("elbv2").describe_target_groups(TargetGroupArns=[id_])["TargetGroups"][0]
        arn = str(found["TargetGroupArn"])
        return {
            "arn": arn,
            "arnSuffix": arn.rpartition(":")[2],
            "name": found["TargetGroupName"],
            "loadBalancerArns": found.get("LoadBalancerArns") or [],
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        elb = aws.client("elbv2")
        if "healthCheck" in changed:
            elb.modify_target_group(TargetGroupArn=id_, **self._health(new))
        if "deregistrationDelay" in changed and (attributes := self._attributes(new)):
            elb.modify_target_group_attributes(TargetGroupArn=id_, Attributes=attributes)


def forwards(actions: Iterable[Mapping[str, Any]]) -> Rule:
    """What actions of the API mean. One group can be written three ways (by its ARN, as a list of one, with any weight): its
    weight is 1 (Elastic Load Balancing API, 'Action')."""
    rule = parse_rule({"RuleArn": "", "Priority": 0, "Actions": actions})
    return replace(rule, weights=dict.fromkeys(rule.weights, 1)) if len(rule.weights) == 1 else rule


class ListenerRule(_Elb):
    """aws.lb.ListenerRule with forward actions; the live rule and the smoke rule."""

    resource_type = "aws:lb/listenerRule:ListenerRule"
    params: ClassVar[Mapping[str, Any]] = {"listenerArn": "ListenerArn", "priority": "Priority"}
    special = frozenset({"actions", "conditions"})
    force_new = frozenset({"listenerArn"})
    unique = ("listenerArn", "priority")

    #: Condition of the provider -> (field, member) of the API (elbv2 API reference, RuleCondition).
    _FIELDS: ClassVar[Mapping[str, Any]] = {
        "pathPattern": ("path-pattern", "PathPatternConfig"),
        "hostHeader": ("host-header", "HostHeaderConfig"),
        "httpHeader": ("http-header", "HttpHeaderConfig"),
        "httpRequestMethod": ("http-request-method", "HttpRequestMethodConfig"),
        "sourceIp": ("source-ip", "SourceIpConfig"),
    }
    removal = ("delete_rule", {"RuleArn": "id"})

    @classmethod
    def _conditions(cls, inputs: Inputs) -> list[dict[str, Any]]:
        call, values = [], 0
        for condition in inputs["conditions"]:
            for key, value in condition.items():
                if value is not None:
                    field, member = cls._FIELDS[key]
                    call.append({"Field": field, member: pascal(value)})
                    values += len(value["values"])
        if values > CONDITION_VALUES:
            raise ValueError(f"a rule takes {CONDITION_VALUES} condition values, not {values}")
        return call

    @staticmethod
    def _actions(inputs: Inputs) -> list[dict[str, Any]]:
        call = []
        for action in inputs["actions"]:
            made: dict[str, Any] = {"Type": action["type"]}
            if action.get("order") is not None:
                made["Order"] = action["order"]
            if action.get("targetGroupArn"):
                made["TargetGroupArn"] = action["targetGroupArn"]
            if forward := action.get("forward"):
                groups = [
                    {"TargetGroupArn": group["arn"], **({"Weight": group["weight"]} if "weight" in group else {})}
                    for group in forward["targetGroups"]
                ]
                made["ForwardConfig"] = {"TargetGroups": groups}
                if sticky := forward.get("stickiness"):
                    config: dict[str, Any] = {"Enabled": bool(sticky.get("enabled"))}
                    if sticky.get("duration") is not None:
                        config["DurationSeconds"] = sticky["duration"]
                    made["ForwardConfig"]["TargetGroupStickinessConfig"] = config
            if unknown := set(action) - {"type", "order", "targetGroupArn", "forward"}:
                raise ValueError(f"actions has properties that are not known: {', '.join(sorted(unknown))}")
            call.append(made)
        return call

    def create(self, aws: Aws, inputs: Inputs) -> str:
        call = {**self.parameters(inputs), "Conditions": self._conditions(inputs), "Actions": self._actions(inputs)}
        return str(aws.client("elbv2").create_rule(**self.tagged(call, inputs))["Rules"][0]["RuleArn"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = aws.client("elbv2").describe_rules(RuleArns=[id_])["Rules"][0]
        return {"arn": found["RuleArn"], "priority": int(found["Priority"])}

    def drift(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = aws.client("elbv2").describe_rules(RuleArns=[id_])["Rules"][0]
        now = forwards(found["Actions"])
        if not inputs.get("actions") or now == forwards(self._actions(inputs)):
            return {}
        forward: dict[str, Any] = {"targetGroups": [{"arn": arn, "weight": part} for arn, part in now.weights.items()]}
        if now.sticky:
            forward["stickiness"] = {"enabled": True, "duration": now.sticky}
        return {"actions": [{"type": found["Actions"][-1]["Type"], "forward": forward}]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        elb = aws.client("elbv2")
        if "priority" in changed:
            elb.set_rule_priorities(RulePriorities=[{"RuleArn": id_, "Priority": new["priority"]}])
        if changed & {"actions", "conditions"}:
            elb.modify_rule(RuleArn=id_, Conditions=self._conditions(new), Actions=self._actions(new))


KINDS = (TargetGroup(), ListenerRule())
