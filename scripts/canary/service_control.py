"""The Task Service's number of tasks, by the ECS API: none (scenario 2 of the plan's rollback), and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.support.aws import refusals
from scripts.support.errors import MigrationError

_DIMENSION = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}


class ServiceControl:
    """One ECS service and its autoscaling.

    A deployment fights neither: the program ignores the service's count, and leaves the autoscaling's suspension undeclared.
    """

    def __init__(self, ecs: Any, scaling: Any, outputs: Mapping[str, Any]) -> None:
        self._ecs, self._scaling = ecs, scaling
        self._cluster, self._service = str(outputs["clusterArn"]), str(outputs["serviceName"])
        self._resource = f"service/{self._cluster.rsplit('/', 1)[-1]}/{self._service}"

    def wanted(self) -> int:
        """How many tasks ECS is asked to run. Raises MigrationError when that cannot be read."""
        with refusals("the service cannot be read", "check ecs:DescribeServices"):
            found = self._ecs.describe_services(cluster=self._cluster, services=[self._service])["services"]
        if not found:
            raise MigrationError(f"there is no service {self._service}; deploy it: pulumi up")
        return int(found[0]["desiredCount"])

    def stop(self) -> None:
        """Ask for no task, and keep autoscaling from bringing them back.

        Autoscaling raises a service below its least capacity to it at the next scale-out (Amazon ECS, 'Automatically scale
        your Amazon ECS service'), so it is suspended first (Application Auto Scaling, 'Suspend and resume scaling').

        Raises:
            MigrationError: AWS refuses.
        """
        self._suspend(True)
        with refusals("the service cannot be stopped", "check ecs:UpdateService"):
            self._ecs.update_service(cluster=self._cluster, service=self._service, desiredCount=0)

    def start(self) -> int:
        """Ask for autoscaling's least number of tasks again and let it scale; returns that number.

        Raises:
            MigrationError: AWS refuses.
        """
        with refusals("the autoscaling cannot be read", "check application-autoscaling:DescribeScalableTargets"):
            found = self._scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[self._resource])
        targets = found["ScalableTargets"]
        least = int(targets[0]["MinCapacity"]) if targets else 1
        with refusals("the service cannot be started", "check ecs:UpdateService"):
            self._ecs.update_service(cluster=self._cluster, service=self._service, desiredCount=least)
        self._suspend(False)
        return least

    def _suspend(self, suspended: bool) -> None:
        kinds = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
        with refusals("the autoscaling cannot be changed", "check application-autoscaling:RegisterScalableTarget"):
            self._scaling.register_scalable_target(
                **_DIMENSION, ResourceId=self._resource, SuspendedState=dict.fromkeys(kinds, suspended)
            )
