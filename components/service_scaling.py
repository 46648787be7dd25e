"""Autoscaling of the Task Service."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.naming import SERVICE_NAME

CPU_TARGET_PERCENT = 70
MEMORY_TARGET_PERCENT = 80


def declare_scaling(
    owner: Component, name: str, *, cluster_arn: str, service_name: pulumi.Input[str], min_tasks: int, max_tasks: int
) -> None:
    """Declare target tracking between ``min_tasks`` and ``max_tasks`` on CPU and on memory.

    Each registration brings the service between the two at once (Application Auto Scaling, 'RegisterScalableTarget'): with
    ``min_tasks`` 0 it starts none, and a service without tasks has no figure to be scaled out by.
    """
    cluster = cluster_arn.rsplit("/", 1)[-1]
    target = aws.appautoscaling.Target(
        f"{name}-scaling",
        service_namespace="ecs",
        scalable_dimension="ecs:service:DesiredCount",
        resource_id=pulumi.Output.concat(f"service/{cluster}/", service_name),
        min_capacity=min_tasks,
        max_capacity=max_tasks,
        tags=owner.tags(SERVICE_NAME),
        opts=owner.child,
    )
    for metric, predefined, percent in (
        ("cpu", "ECSServiceAverageCPUUtilization", CPU_TARGET_PERCENT),
        ("memory", "ECSServiceAverageMemoryUtilization", MEMORY_TARGET_PERCENT),
    ):
        aws.appautoscaling.Policy(
            f"{name}-scaling-{metric}",
            name=f"{SERVICE_NAME}-{metric}",
            policy_type="TargetTrackingScaling",
            service_namespace=target.service_namespace,
            scalable_dimension=target.scalable_dimension,
            resource_id=target.resource_id,
            target_tracking_scaling_policy_configuration=aws.appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationArgs(
                target_value=percent,
                predefined_metric_specification=aws.appautoscaling.PolicyTargetTrackingScalingPolicyConfigurationPredefinedMetricSpecificationArgs(
                    predefined_metric_type=predefined
                ),
                # Out quickly, in slowly; seconds.
                scale_out_cooldown=60,
                scale_in_cooldown=300,
            ),
            opts=owner.child,
        )
