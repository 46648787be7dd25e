"""The Task Service's tasks, by the ECS API: none (scenario 2 of the plan's rollback), brought up, and how they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scripts.canary.ready import ServiceHealth
from scripts.support.aws import refusals
from scripts.support.errors import MigrationError, Refused
from scripts.support.outputs import Outputs
from scripts.support.progress import SILENT, Progress
from scripts.support.wait import wait_until

_DIMENSION = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}
_KINDS = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
#: A task of Fargate starts within two minutes or three; the circuit breaker waits for three that did not.
START_SECONDS = 900.0
#: What mends the reasons that ECS gives for a task (Amazon ECS, 'Stopped tasks error messages').
_REMEDIES = {
    "CannotPullContainer": "push the image serviceImageTag, or name one that is there: aws ecr describe-images",
    "can't find the specified secret value": "put the value in: aws secretsmanager put-secret-value",
    "health check": "see its log, /ecs/task-service",
    "Essential container": "see its log, /ecs/task-service",
}


class ServiceControl:
    """One ECS service, its target group and its autoscaling.

    A deployment does not fight autoscaling: the program ignores the service's count, and leaves the autoscaling's suspension
    undeclared. It declares the least number, which would start what :meth:`stop` stopped; so whoever stops it sets `serviceEnabled`
    to false too.

    Args:
        ecs, scaling, balancer: boto3 clients of `ecs`, `application-autoscaling`, `elbv2`.
        outputs: of the stack; `clusterArn` and `serviceName` are enough to stop the service.
    """

    def __init__(self, ecs: Any, scaling: Any, balancer: Any, outputs: Mapping[str, Any]) -> None:
        self._ecs, self._scaling, self._balancer, self._outputs = ecs, scaling, balancer, Outputs(outputs)
        self._cluster, self._service = str(self._outputs["clusterArn"]), str(self._outputs["serviceName"])
        self._resource = f"service/{self._cluster.split('/')[-1]}/{self._service}"

    def health(self) -> ServiceHealth:
        """What ECS and the load balancer say of the service now. Raises MigrationError when that cannot be read."""
        return self._look()[1]

    def stop(self) -> None:
        """Ask for no task, and keep autoscaling from bringing them back.

        Each registration raises a service below the least number to it, and so may an alarm (Application Auto Scaling,
        'RegisterScalableTarget'; Amazon ECS, 'Automatically scale your Amazon ECS service'): so that is 0, and scaling suspended.

        Raises:
            MigrationError: AWS refuses.
        """
        self._scale(0, suspended=True)
        with refusals("the service cannot be stopped", "check ecs:UpdateService"):
            self._ecs.update_service(cluster=self._cluster, service=self._service, desiredCount=0)

    def start(self, enabled: bool = True, timeout: float = START_SECONDS, progress: Progress = SILENT) -> ServiceHealth:
        """Ask for `serviceMinTasks` tasks by a deployment of their own, let autoscaling go on, and wait until they serve.

        A number of tasks alone starts nothing where the circuit breaker has ended a deployment (Amazon ECS, 'Deployment'). A
        service that is well is left as it is; one that the breaker took back to a former definition gets the declared one.

        Args:
            enabled: what the configuration says by now, which the next deployment carries out.
            timeout: seconds that its tasks may take.

        Raises:
            Refused: the stack declares no task; or none starts, with ECS's reason and what mends it.
            TimedOut: they do not serve after ``timeout`` seconds.
            MigrationError: AWS refuses.
        """
        least = self._least
        if not (enabled and least):
            raise Refused(
                "serviceEnabled is false, or not deployed, so the stack asks for no task; push the image, put the secrets' values in (task-migration "
                "preflight --account looks), then: pulumi config set task-migration:serviceEnabled true, pulumi up, and this again"
            )
        seen = self.health()
        self._scale(least, suspended=False)
        if not seen.problems:
            return seen
        # Named only where another one runs: who names a definition may have to be allowed to pass its roles.
        declared, remedy = {}, "check ecs:UpdateService"
        if seen.other:
            declared = {"taskDefinition": self.definition}
            remedy += "; or deploy what is declared by: pulumi up --refresh"
        with refusals("the service cannot be started", remedy):
            answer = self._ecs.update_service(
                cluster=self._cluster,
                service=self._service,
                desiredCount=max(least, seen.wanted),
                forceNewDeployment=True,
                **declared,
            )
            mine, shown = _primary(answer["service"]).get("id"), set[Any]()
        with progress.work("waiting for tasks of the Task Service", timeout, "s"):
            return wait_until(
                lambda: self._started(mine, shown),
                lambda now: not now.problems,
                what="the Task Service serves",
                timeout=timeout,
                interval=min(5.0, timeout / 100),
                remedy="mend that, then task-migration canary start-service again",
            )

    def _started(self, deployment: Any, shown: set[Any]) -> ServiceHealth:
        """How the deployment stands; ``shown`` collects the ids of all that ECS has told of. Raises Refused when the circuit breaker
        has ended it."""
        found, seen = self._look()
        shown.update(one.get("id") for one in found["deployments"])
        if deployment not in shown:
            # What was asked shows a moment later (Amazon ECS, 'RunTask': eventual consistency).
            return replace(seen, rollout="IN_PROGRESS")
        failed = any(
            one.get("id") == deployment and one.get("rolloutState") == "FAILED" for one in found["deployments"]
        )
        if failed or _primary(found).get("id") != deployment:
            raise Refused(
                f"the Task Service does not come up: {seen}; mend that, then task-migration canary start-service again"
            )
        return seen

    @property
    def definition(self) -> str:
        """The ARN of the task definition that the stack declares. Raises MigrationError when it was never deployed."""
        return str(self._outputs["taskDefinitionArn"])

    @property
    def _least(self) -> int:
        return int(self._outputs.get("serviceTasks") or 0)

    def _look(self) -> tuple[Mapping[str, Any], ServiceHealth]:
        """ECS's word on the service, and what that and the load balancer's come to."""
        with refusals("the service cannot be read", "check ecs:DescribeServices"):
            found = self._ecs.describe_services(cluster=self._cluster, services=[self._service])["services"]
            if not found:
                raise MigrationError(f"there is no service {self._service}; deploy it: pulumi up")
            return found[0], self._health(found[0])

    def _health(self, found: Mapping[str, Any]) -> ServiceHealth:
        group = str(self._outputs["taskTargetGroupArn"])
        with refusals("the targets' health cannot be read", "check elasticloadbalancing:DescribeTargetHealth"):
            targets = self._balancer.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        healthy = sum(one["TargetHealth"]["State"] == "healthy" for one in targets)
        seen = ServiceHealth(
            least=max(self._least, 1),
            wanted=int(found["desiredCount"]),
            running=int(found["runningCount"]),
            healthy=healthy,
            rollout=str(_primary(found).get("rolloutState")),
            other=self._other(found),
        )
        return replace(seen, why=self._why(found, targets)) if seen.problems and seen.wanted else seen

    def _other(self, found: Mapping[str, Any]) -> tuple[str, str] | None:
        """What runs that the stack does not declare, and what it declares: the circuit breaker goes back to what was completed
        last, and neither Pulumi nor a count of tasks shows it (pulumi/pulumi-awsx, issue 1848)."""
        declared = self.definition
        runs = [one for one in found["deployments"] if one["status"] == "PRIMARY" or one["runningCount"]]
        others = sorted({str(one["taskDefinition"]) for one in runs} - {declared})
        if not others:
            return None
        images = {str(one["taskDefinitionArn"]): one["containers"][0].get("image") for one in self._tasks("RUNNING")}
        images[declared] = str(self._outputs["serviceImage"])

        def named(arn: str) -> str:
            return f"{images.get(arn, 'no task')} ({arn.split('/')[-1]})"

        return ", ".join(map(named, others)), named(declared)

    def _tasks(self, status: str) -> list[Mapping[str, Any]]:
        """The service's tasks that are RUNNING or STOPPED; of these what ECS still knows, for an hour or so."""
        with refusals("the tasks cannot be read", "check ecs:ListTasks and ecs:DescribeTasks"):
            found = self._ecs.list_tasks(cluster=self._cluster, serviceName=self._service, desiredStatus=status)
            arns = found["taskArns"]
            return list(self._ecs.describe_tasks(cluster=self._cluster, tasks=arns)["tasks"]) if arns else []

    def _why(self, found: Mapping[str, Any], targets: list[Mapping[str, Any]]) -> tuple[str, ...]:
        """What AWS says of deployments that failed, tasks that stopped and targets that are not healthy, with what mends it."""
        said = [
            str(one.get("rolloutStateReason", "a deployment failed"))
            for one in found["deployments"]
            if one.get("rolloutState") == "FAILED"
        ]
        failed = [one for one in self._tasks("STOPPED") if one.get("stopCode") != "ServiceSchedulerInitiated"]
        said += [str(one.get("stoppedReason")) for one in failed]
        said += [
            f"target {one['Target']['Id']} is {one['TargetHealth']['State']}: {one['TargetHealth'].get('Description')}"
            for one in targets
            if one["TargetHealth"]["State"] in ("unhealthy", "unavailable")
        ]
        if not said:
            said = [str(one["message"]) for one in found.get("events", [])[:2]]
        return tuple(dict.fromkeys(text + _remedy(text) for text in said))

    def _scale(self, least: int, *, suspended: bool) -> None:
        with refusals("the autoscaling cannot be changed", "check application-autoscaling:RegisterScalableTarget"):
            self._scaling.register_scalable_target(
                **_DIMENSION,
                ResourceId=self._resource,
                MinCapacity=least,
                SuspendedState=dict.fromkeys(_KINDS, suspended),
            )


def _primary(service: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in service["deployments"] if one["status"] == "PRIMARY"), {})


def _remedy(text: str) -> str:
    # ECS writes 'health checks', the load balancer 'Health checks failed'.
    return next((f" ({what})" for mark, what in _REMEDIES.items() if mark.lower() in text.lower()), "")
