"""How many tasks of the service run (Application Auto Scaling)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from scripts.rehearsal.emulated.core import Aws, Inputs, Kind, Tagging, capitals, first, missing, pascal, tag_map


class ScalableTarget(Kind):
    """aws.appautoscaling.Target; registering is idempotent."""

    resource_type = "aws:appautoscaling/target:Target"
    service = "application-autoscaling"
    params: ClassVar[Mapping[str, Any]] = capitals(
        "serviceNamespace resourceId scalableDimension minCapacity maxCapacity"
    )
    force_new = frozenset({"serviceNamespace", "resourceId", "scalableDimension"})
    unique = ("serviceNamespace", "resourceId", "scalableDimension")
    tagging = Tagging("ResourceARN", written=tag_map)
    identity = "{resourceId}"
    #: Again it sets both ends of the range, whichever was changed; what is suspended stays so (terraform-provider-aws, appautoscaling/target.go).
    creation, puts = "register_scalable_target", True

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = self._one(aws, id_, inputs)
        return {"arn": found.get("ScalableTargetARN", ""), "roleArn": found.get("RoleARN", "")}

    def drift(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        """The range; its suspension is none of the provider's."""
        found = self._one(aws, id_, inputs)
        return {"minCapacity": found["MinCapacity"], "maxCapacity": found["MaxCapacity"]}

    def _one(self, aws: Aws, id_: str, inputs: Inputs) -> Any:
        keys = {"serviceNamespace", "scalableDimension"}
        answer = aws.client(self.service).describe_scalable_targets(ResourceIds=[id_], **self.parameters(inputs, keys))
        found = first(answer["ScalableTargets"], lambda item: item["ResourceId"] == id_)
        if found is None:
            raise missing(id_, "DescribeScalableTargets")
        return found

    def retag(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> None:
        """moto has no tagging of it."""

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        keys = {"serviceNamespace", "resourceId", "scalableDimension"}
        aws.client(self.service).deregister_scalable_target(**self.parameters(state, keys))


class ScalingPolicy(Kind):
    """aws.appautoscaling.Policy; putting is idempotent."""

    resource_type = "aws:appautoscaling/policy:Policy"
    service = "application-autoscaling"
    params: ClassVar[Mapping[str, Any]] = capitals("policyType serviceNamespace resourceId scalableDimension") | {
        "name": "PolicyName"
    }
    special = frozenset({"targetTrackingScalingPolicyConfiguration"})
    force_new = frozenset({"name", "serviceNamespace", "resourceId", "scalableDimension"})
    unique = ("name", "serviceNamespace", "resourceId", "scalableDimension")
    puts = True

    def create(self, aws: Aws, inputs: Inputs) -> str:
        call = self.parameters(inputs)
        call["TargetTrackingScalingPolicyConfiguration"] = pascal(inputs["targetTrackingScalingPolicyConfiguration"])
        before = self._alarms(aws, inputs)
        aws.client(self.service).put_scaling_policy(**call)
        # Put again, moto makes new alarms and forgets the old ones; AWS keeps one pair.
        if left := before - self._alarms(aws, inputs):
            aws.client("cloudwatch").delete_alarms(AlarmNames=sorted(left))
        return str(inputs["name"])

    def _alarms(self, aws: Aws, inputs: Inputs) -> set[str]:
        keys = {"serviceNamespace", "resourceId", "scalableDimension"}
        answer = aws.client(self.service).describe_scaling_policies(
            PolicyNames=[inputs["name"]], **self.parameters(inputs, keys)
        )
        return {alarm["AlarmName"] for policy in answer["ScalingPolicies"] for alarm in policy.get("Alarms") or []}

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        keys = {"serviceNamespace", "resourceId", "scalableDimension"}
        answer = aws.client(self.service).describe_scaling_policies(PolicyNames=[id_], **self.parameters(inputs, keys))
        found = answer["ScalingPolicies"][0]
        return {"arn": found["PolicyARN"], "alarmArns": [alarm["AlarmARN"] for alarm in found.get("Alarms") or []]}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        keys = {"name", "serviceNamespace", "resourceId", "scalableDimension"}
        aws.client(self.service).delete_scaling_policy(**self.parameters(state, keys))


KINDS = (ScalableTarget(), ScalingPolicy())
