"""ECS tasks of the emulated account: moto keeps services and starts nothing, here a service's tasks come up as AWS has them do.

A task needs its image in the repository and a value in each of its secrets. Three that do not start fail a deployment by its
circuit breaker, and a failed deployment starts no more; a new one does. What became of a service is worked out at each look at
it, from the time that has passed.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from moto.applicationautoscaling import models as scaling
from moto.ec2.models import ec2_backends
from moto.ecr.models import ecr_backends
from moto.ecs import models as ecs
from moto.elbv2.models import elbv2_backends
from moto.secretsmanager.models import secretsmanager_backends

#: Seconds in which a task starts, or fails to; Fargate takes some tens.
START_SECONDS = 0.3
#: Failed tasks that end a deployment: the least there is, which up to six wanted tasks have (Amazon ECS, 'How the Amazon ECS
#: deployment circuit breaker detects failures').
FAILURES = 3
#: What starts a deployment when it changes; the number of tasks does not (Amazon ECS, 'UpdateService').
DEPLOYED = ("task_definition", "network_configuration", "load_balancers", "platform_version")


@dataclass
class Deployment:
    """One deployment of a service; ``began`` is when its tasks were last asked for."""

    definition: Any
    id: str = field(default_factory=lambda: f"ecs-svc/{uuid4().int % 10**19:019}")
    began: float = field(default_factory=time.monotonic)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: str = "IN_PROGRESS"
    reason: str = ""
    tasks: list[Any] = field(default_factory=list)
    failed: int = 0
    returns: bool = False
    """Whether it is the circuit breaker's way back, which has none of its own."""


class Services(ecs.EC2ContainerServiceBackend):
    """moto's ECS with tasks."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self._lock = threading.RLock()
        self._deployments: dict[str, list[Deployment]] = {}

    def create_service(self, cluster_str: str, service_name: str, *rest: Any, **more: Any) -> Any:
        with self._lock:
            service = super().create_service(cluster_str, service_name, *rest, **more)
            definition = self.describe_task_definition(str(service.task_definition))
            self._deployments[service.arn] = [Deployment(definition)]
            return self._settled(service)

    def update_service(self, service_properties: dict[str, Any]) -> Any:
        with self._lock:
            service = self._get_service(service_properties.get("cluster", "default"), service_properties["service"])
            before = {name: getattr(service, name) for name in DEPLOYED}
            wanted = service.desired_count
            forced = service_properties.pop("force_new_deployment", False)
            service = super().update_service(service_properties)
            deployments = self._deployments[service.arn]
            if forced or any(getattr(service, name) != value for name, value in before.items()):
                deployments.insert(0, Deployment(self.describe_task_definition(str(service.task_definition))))
            elif service.desired_count != wanted and not deployments[0].tasks:
                deployments[0].began = time.monotonic()
            return self._settled(service)

    def delete_service(self, cluster_name: str, service_name: str, force: bool) -> Any:
        with self._lock:
            service = super().delete_service(cluster_name, service_name, force)
            service.desired_count = 0
            return self._settled(service)

    def stop_task(self, cluster_str: str, task_str: str, reason: str) -> Any:
        """It leaves its group at once, and the service starts another (Amazon ECS, 'StopTask')."""
        with self._lock:
            task = super().stop_task(cluster_str, task_str, reason)
            for service in self.services.values():
                for one in self._deployments[service.arn]:
                    if task in one.tasks:
                        one.tasks.remove(task)
                        self._balance(service, task, "deregister_targets")
                        self._stop(task, "UserInitiated", reason)
                        one.began = time.monotonic()
            return task

    def describe_services(self, cluster_str: str, service_names_or_arns: list[str]) -> Any:
        with self._lock:
            found, failures = super().describe_services(cluster_str, service_names_or_arns)
            return [self._settled(service) for service in found], failures

    def list_tasks(
        self,
        cluster_str: str | None = None,
        container_instance: str | None = None,
        family: str | None = None,
        started_by: str | None = None,
        service_name: str | None = None,
        desiredStatus: str | None = None,
    ) -> list[Any]:
        with self._lock:
            for service in self.services.values():
                self._settled(service)
            wanted = desiredStatus or "RUNNING"
            found = super().list_tasks(cluster_str, container_instance, family, started_by, None, wanted)
            return [task for task in found if service_name is None or task.group == f"service:{service_name}"]

    def _settled(self, service: Any) -> Any:
        """The service, with the deployments and tasks that it has come to by now."""
        deployments = self._deployments[service.arn]
        self._work(service, deployments[0], service.desired_count)
        if deployments[0].state == "FAILED":
            self._go_back(service, deployments)
        if deployments[0].state == "COMPLETED":
            for old in deployments[1:]:
                self._shrink(service, old, 0)
            del deployments[1:]
        for old in deployments[1:]:
            self._shrink(service, old, service.desired_count)
        service.task_definition = deployments[0].definition.arn
        service.running_count = sum(len(one.tasks) for one in deployments)
        service.pending_count = max(0, service.desired_count - service.running_count)
        service.deployments = [
            self._shown(service, one, "ACTIVE" if number else "PRIMARY") for number, one in enumerate(deployments)
        ]
        return service

    def _work(self, service: Any, one: Deployment, wanted: int) -> None:
        attempts = int((time.monotonic() - one.began) / START_SECONDS)
        problem = self._problem(one.definition)
        self._shrink(service, one, wanted)
        if one.state == "FAILED":
            return
        if len(one.tasks) < wanted and problem is None and (one.tasks or attempts):
            while len(one.tasks) < wanted:
                one.tasks.append(self._start(service, one))
                self._balance(service, one.tasks[-1], "register_targets")
            one.failed = 0
        elif len(one.tasks) < wanted and problem is not None:
            # One that was completed before, without a task, is tried for ever: the breaker looks at what is in progress.
            limit = FAILURES if one.state == "IN_PROGRESS" else 2 * FAILURES
            while one.failed < min(attempts, limit):
                self._stop(self._start(service, one), "TaskFailedToStart", problem)
                one.failed += 1
        if one.state == "IN_PROGRESS" and len(one.tasks) == wanted and all(self._serves(service, t) for t in one.tasks):
            one.state, one.reason = "COMPLETED", f"ECS deployment {one.id} completed."
        elif one.state == "IN_PROGRESS" and one.failed >= FAILURES:
            one.state, one.reason = "FAILED", "ECS deployment circuit breaker: tasks failed to start."
        elif one.state == "IN_PROGRESS":
            one.reason = one.reason or f"ECS deployment {one.id} in progress."

    def _go_back(self, service: Any, deployments: list[Deployment]) -> None:
        """The breaker's rollback to what was completed last; without such a one the service is stalled."""
        last = next((one for one in deployments[1:] if one.state == "COMPLETED"), None)
        if last is None or deployments[0].returns:
            return
        back = Deployment(last.definition, returns=True)
        back.reason = f"ECS deployment circuit breaker: rolling back to deploymentId {last.id}."
        deployments.insert(0, back)

    def _problem(self, definition: Any) -> str | None:
        """Why no task of the definition can start, as ECS puts it into a stopped task's reason; None when it can."""
        for container in definition.container_definitions:
            image = str(container["image"])
            if not self._has_image(image):
                return (
                    "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
                    f"{image}: {image}: not found"
                )
            for item in container.get("secrets") or []:
                arn = ":".join(str(item["valueFrom"]).split(":")[:7])
                if not self._has_value(arn):
                    return (
                        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval "
                        "failed: unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch "
                        f"secret {arn} from secrets manager: ResourceNotFoundException: Secrets Manager can't find the "
                        "specified secret value for staging label: AWSCURRENT"
                    )
        return None

    def _has_image(self, image: str) -> bool:
        registry, _, name = image.partition("/")
        if ".dkr.ecr." not in registry:
            return True  # another registry, which nobody emulates
        repository, _, tag = name.partition(":")
        found = ecr_backends[self.account_id][self.region_name].repositories.get(repository)
        return found is not None and any(tag in one.image_tags for one in found.images)

    def _has_value(self, arn: str) -> bool:
        secret: Any = secretsmanager_backends[self.account_id][self.region_name].secrets.get(arn)
        return secret is not None and secret.deleted_date is None and bool(secret.versions)

    def _start(self, service: Any, one: Deployment) -> Any:
        cluster = self._get_cluster(service.cluster_arn)
        task = ecs.Task(
            cluster,
            one.definition,
            None,
            None,
            backend=self,
            group=f"service:{service.name}",
            launch_type=service.launch_type,
            started_by=one.id,
            networking_configuration=service.network_configuration,
        )
        self.tasks.setdefault(cluster.name, {})[task.task_arn] = task
        return task

    def _stop(self, task: Any, code: str, reason: str) -> None:
        task.desired_status = task.last_status = "STOPPED"
        task.stop_code, task.stopped_reason = code, reason
        interface = self._detail(task, "networkInterfaceId")
        ec2_backends[self.account_id][self.region_name].delete_network_interface(interface)

    def _shrink(self, service: Any, one: Deployment, wanted: int) -> None:
        while len(one.tasks) > wanted:
            task = one.tasks.pop()
            self._balance(service, task, "deregister_targets")
            self._stop(task, "ServiceSchedulerInitiated", f"Scaling activity initiated by (deployment {one.id})")

    def _balance(self, service: Any, task: Any, call: str) -> list[Any]:
        """Make this call of the load balancer's, for the task, in each of the service's groups; what was answered."""
        balancer = elbv2_backends[self.account_id][self.region_name]
        address = self._detail(task, "privateIPv4Address")
        return [
            getattr(balancer, call)(group["targetGroupArn"], [{"Id": address, "Port": group["containerPort"]}])
            for group in service.load_balancers
        ]

    def _serves(self, service: Any, task: Any) -> bool:
        """Whether the load balancer finds it healthy, which a deployment waits for (Amazon ECS, 'Rolling update')."""
        found = self._balance(service, task, "describe_target_health")
        return all(target.status == "healthy" for targets in found for target in targets)

    @staticmethod
    def _detail(task: Any, name: str) -> str:
        return next(str(item["value"]) for item in task.attachments[0]["details"] if item["name"] == name)

    @staticmethod
    def _shown(service: Any, one: Deployment, status: str) -> dict[str, Any]:
        running = len(one.tasks)
        return {
            "id": one.id,
            "status": status,
            "taskDefinition": one.definition.arn,
            "desiredCount": 0 if one.state == "FAILED" else service.desired_count,
            "runningCount": running,
            "pendingCount": 0 if one.state == "FAILED" else max(0, service.desired_count - running),
            "failedTasks": one.failed,
            "createdAt": one.at,
            "updatedAt": one.at,
            "launchType": service.launch_type,
            "platformVersion": service.platform_version,
            "networkConfiguration": service.network_configuration,
            "rolloutState": one.state,
            "rolloutStateReason": one.reason,
        }


class Scaling(scaling.ApplicationAutoscalingBackend):
    """moto's Application Auto Scaling, which brings a service into its range at each registration, as AWS says of
    RegisterScalableTarget."""

    def register_scalable_target(self, namespace: str, r_id: str, *rest: Any, **more: Any) -> Any:
        target: Any = super().register_scalable_target(namespace, r_id, *rest, **more)
        if namespace == "ecs":
            _, cluster, name = r_id.split("/")
            (service,), _ = self.ecs_backend.describe_services(cluster, [name])
            within = min(max(service.desired_count, target.min_capacity), target.max_capacity)
            if within != service.desired_count:
                self.ecs_backend.update_service({"cluster": cluster, "service": name, "desired_count": within})
        return target
