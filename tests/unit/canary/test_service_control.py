"""What is asked of ECS and autoscaling word for word, and what is made of their answers."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from scripts.canary.ready import ServiceHealth
from scripts.canary.service_control import ServiceControl
from scripts.support.errors import MigrationError, Refused, TimedOut
from tests.conftest import Recorder

CLUSTER = "arn:aws:ecs:ap-northeast-1:123456789012:cluster/night"
OURS, FORMER = "arn:aws:ecs:x:1:task-definition/task-service:7", "arn:aws:ecs:x:1:task-definition/task-service:6"
OUTPUTS = {
    "clusterArn": CLUSTER,
    "serviceName": "task-service",
    "taskTargetGroupArn": "group",
    "taskDefinitionArn": OURS,
    "serviceImage": "image:7",
    "serviceTasks": 2,
}
KINDS = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


def scaled(least: int, suspended: bool) -> tuple[str, dict[str, Any]]:
    """Application Auto Scaling API reference, 'RegisterScalableTarget'."""
    asked = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount", "ResourceId": "service/night/task-service"}  # fmt: skip
    return "register_scalable_target", {**asked, "MinCapacity": least, "SuspendedState": dict.fromkeys(KINDS, suspended)}  # fmt: skip


def updated(**what: Any) -> tuple[str, dict[str, Any]]:
    return "update_service", {"cluster": CLUSTER, "service": "task-service", **what}


def deployment(name: str, *, status: str = "PRIMARY", definition: str = OURS, running: int = 2, rollout: str = "COMPLETED") -> dict[str, Any]:  # fmt: skip
    return {"id": name, "status": status, "taskDefinition": definition, "runningCount": running, "rolloutState": rollout, "rolloutStateReason": f"{name} said"}  # fmt: skip


def service(*deployments: dict[str, Any], wanted: int = 2, running: int = 2, **more: Any) -> dict[str, Any]:
    return {"desiredCount": wanted, "runningCount": running, "deployments": list(deployments), **more}


class Aws:
    """ECS, autoscaling and the load balancer: each look shows the next state, the last one for ever; what changes something is kept."""

    def __init__(self, *states: dict[str, Any], healthy: int = 2, unwell: str | None = None) -> None:
        self.states, self.asked = list(states), list[tuple[str, dict[str, Any]]]()
        self.targets = [{"Target": {"Id": str(n)}, "TargetHealth": {"State": "healthy"}} for n in range(healthy)]
        if unwell:
            health = {"State": unwell, "Description": "Health checks failed"}
            self.targets.append({"Target": {"Id": "10.0.0.9"}, "TargetHealth": health})
        self.tasks: dict[str, list[dict[str, Any]]] = {"RUNNING": [], "STOPPED": []}

    def control(self, **outputs: Any) -> ServiceControl:
        return ServiceControl(self, self, self, {**OUTPUTS, **outputs})

    def describe_services(self, *, cluster: str, services: list[str]) -> dict[str, Any]:
        assert (cluster, services) == (CLUSTER, ["task-service"])
        return {"services": [self.states.pop(0) if len(self.states) > 1 else self.states[0]] if self.states else []}

    def describe_target_health(self, *, TargetGroupArn: str) -> dict[str, Any]:
        assert TargetGroupArn == "group"
        return {"TargetHealthDescriptions": self.targets}

    def list_tasks(self, *, cluster: str, serviceName: str, desiredStatus: str) -> dict[str, Any]:
        assert (cluster, serviceName) == (CLUSTER, "task-service")
        return {"taskArns": [desiredStatus] if self.tasks[desiredStatus] else []}

    def describe_tasks(self, *, cluster: str, tasks: list[str]) -> dict[str, Any]:
        assert cluster == CLUSTER
        return {"tasks": self.tasks[tasks[0]]}

    def update_service(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(("update_service", asked))
        return {"service": service(deployment("mine"), deployment("old", status="ACTIVE"))}

    def register_scalable_target(self, **asked: Any) -> None:
        self.asked.append(("register_scalable_target", asked))


def test_a_stop_keeps_autoscaling_from_bringing_tasks_back_before_it_asks_for_none() -> None:
    """Prevents a service that an alarm, or the next registration, starts again."""
    aws = Aws()
    aws.control().stop()
    assert aws.asked == [scaled(0, True), updated(desiredCount=0)]


@pytest.mark.parametrize(("enabled", "tasks"), [(False, 2), (True, 0), (True, None)])
def test_a_service_of_which_no_task_is_declared_is_not_touched(enabled: bool, tasks: int | None) -> None:
    """Prevents a start that the next deployment takes back."""
    aws = Aws(service(deployment("old")))
    with pytest.raises(Refused, match="serviceEnabled is false, or not deployed"):
        aws.control(serviceTasks=tasks).start(enabled)
    assert aws.asked == []


def test_a_service_that_is_well_is_only_left_to_autoscaling() -> None:
    """Prevents tasks that are replaced under load by a command that was run again."""
    aws = Aws(service(deployment("old"), wanted=4, running=4), healthy=4)
    assert aws.control().start() == ServiceHealth(2, 4, 4, 4, "COMPLETED")
    assert aws.asked == [scaled(2, False)]


@pytest.mark.parametrize(
    ("before", "what"),
    [
        # As many as are wanted already, if these are more.
        (service(deployment("old", rollout="FAILED"), wanted=4), {"desiredCount": 4}),
        (service(deployment("old", running=0), wanted=0, running=0), {"desiredCount": 2}),
        # What the circuit breaker went back to is replaced by what is declared.
        (service(deployment("old", definition=FORMER)), {"desiredCount": 2, "taskDefinition": OURS}),
    ],
)
def test_a_start_is_a_deployment_that_is_waited_for_by_its_own_name(
    before: dict[str, Any], what: dict[str, Any]
) -> None:
    """Prevents a start of a number of tasks where the breaker has ended the deployment, and one judged by the deployment before it."""
    late = service(deployment("old"))  # ECS tells of the new one a moment later: what is well is not ours
    on_its_way = service(deployment("mine", running=1, rollout="IN_PROGRESS"), running=1)
    aws = Aws(before, late, on_its_way, service(deployment("mine")))
    assert aws.control().start(timeout=20.0) == ServiceHealth(2, 2, 2, 2, "COMPLETED")
    assert aws.asked == [scaled(2, False), updated(forceNewDeployment=True, **what)]
    assert len(aws.states) == 1


@pytest.mark.parametrize(
    "after",
    [
        service(deployment("mine", rollout="FAILED")),
        service(deployment("mine", status="INACTIVE", rollout="FAILED"), deployment("back")),
    ],
)
def test_a_start_that_the_breaker_has_ended_is_refused_with_its_word(after: dict[str, Any]) -> None:
    """Prevents a start that waits a quarter of an hour for a deployment that is over."""
    aws = Aws(
        service(deployment("old", running=0), running=0), service(deployment("mine", rollout="IN_PROGRESS")), after
    )
    aws.targets.pop()
    with pytest.raises(
        Refused, match="does not come up: 1 tasks are healthy, 2 must.*mine said.*canary start-service again"
    ):
        aws.control().start(timeout=20.0)


def test_a_start_that_another_deployment_took_the_place_of_is_refused() -> None:
    """Prevents a start that is told as done by the deployment of somebody else."""
    shown = service(deployment("mine", rollout="IN_PROGRESS", running=0), running=0)
    aws = Aws(service(deployment("old"), wanted=0), shown, service(deployment("other")))
    with pytest.raises(Refused, match="does not come up"):
        aws.control().start(timeout=20.0)


def test_a_start_is_judged_by_no_deployment_beside_it() -> None:
    """Prevents a start that is refused as the deployment which it replaces has failed."""
    failed = deployment("old", status="ACTIVE", running=0, rollout="FAILED")
    aws = Aws(
        service(deployment("old", rollout="FAILED")),
        service(deployment("mine", rollout="IN_PROGRESS"), failed),
        service(deployment("mine"), failed),
    )
    assert aws.control().start(timeout=20.0) == ServiceHealth(2, 2, 2, 2, "COMPLETED")


@pytest.mark.parametrize(("limit", "seconds"), [({}, 5.0), ({"timeout": 50.0}, 0.5)])
def test_a_start_asks_ecs_every_few_seconds_and_shows_for_how_long(
    monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any], seconds: float
) -> None:
    """Prevents a wait that nobody sees the end of, and one that ECS throttles: a quarter of an hour, a look every five seconds."""
    slept, shown = list[float](), Recorder()
    monkeypatch.setattr("scripts.support.wait.time.sleep", slept.append)
    going = service(deployment("mine", rollout="IN_PROGRESS"))
    aws = Aws(service(deployment("old"), wanted=0), going, going, service(deployment("mine")))
    aws.control().start(progress=shown, **limit)
    assert slept == [seconds, seconds]
    (work,) = shown.works.values()
    assert (work.name, work.total, work.unit) == (
        "waiting for tasks of the Task Service",
        limit.get("timeout", 900.0),
        "s",
    )


def test_a_start_that_takes_too_long_says_what_was_seen_last() -> None:
    """Prevents a wait without an end."""
    begun = service(deployment("old"), wanted=0)
    # Ours is under way; or not shown yet, where another one is well.
    for late in (service(deployment("mine", rollout="IN_PROGRESS")), service(deployment("old"))):
        with pytest.raises(
            TimedOut,
            match="^the Task Service serves: not so after 0.2 s .*; last seen: its deployment is IN_PROGRESS, it must be COMPLETED; "
            "mend that, then task-migration canary start-service again$",
        ):
            Aws(begun, late).control().start(timeout=0.2)


#: By call of AWS: what cannot be done without it, and the right that it needs.
RIGHTS = {
    "describe_services": ("the service cannot be read", "check ecs:DescribeServices"),
    "describe_target_health": ("the targets' health cannot be read", "check elasticloadbalancing:DescribeTargetHealth"),
    "list_tasks": ("the tasks cannot be read", "check ecs:ListTasks and ecs:DescribeTasks"),
    "describe_tasks": ("the tasks cannot be read", "check ecs:ListTasks and ecs:DescribeTasks"),
    "register_scalable_target": ("the autoscaling cannot be changed", "check application-autoscaling:RegisterScalableTarget"),
    "update_service": ("the service cannot be started", "check ecs:UpdateService; or deploy what is declared by: pulumi up --refresh"),
}  # fmt: skip


@pytest.mark.parametrize("call", RIGHTS)
def test_a_right_that_is_lacking_is_named(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Prevents a night with an `AccessDenied` of which nobody knows what it is for."""

    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not yours"}}, call)

    aws = Aws(service(deployment("old", definition=FORMER)))
    aws.tasks["RUNNING"] = [{"taskDefinitionArn": FORMER, "containers": [{"image": "image:6"}]}]
    monkeypatch.setattr(aws, call, refuse)
    what, check = RIGHTS[call]
    with pytest.raises(MigrationError, match=f"^{what}: .*; {check}: the credentials lack this right"):
        aws.control().start(timeout=0.2)


def test_a_right_to_stop_that_is_lacking_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not yours"}}, "UpdateService")

    aws = Aws()
    monkeypatch.setattr(aws, "update_service", refuse)
    with pytest.raises(MigrationError, match=r"^the service cannot be stopped: .*; check ecs:UpdateService: "):
        aws.control().stop()
    assert aws.asked == [scaled(0, True)]


@pytest.mark.parametrize("lacking", ["deployments", "desiredCount", "runningCount"])
def test_an_answer_without_what_is_read_of_it_is_no_traceback(lacking: str) -> None:
    """Prevents a start that ends in a KeyError while its tasks come up: AWS' models promise no member of an answer."""
    less = {name: value for name, value in service(deployment("mine")).items() if name != lacking}
    said = rf"the service cannot be read: AWS answered otherwise than this program knows \(KeyError\('{lacking}'\)\)"
    with pytest.raises(MigrationError, match=said):
        Aws(less).control().health()
    with pytest.raises(MigrationError, match=said):
        Aws(service(deployment("old"), wanted=0), less).control().start(timeout=0.2)


def test_why_is_what_aws_says_of_it_with_what_mends_each() -> None:
    """Prevents a service of which nobody knows why it does not serve; a task that ECS stopped by itself is no reason."""
    aws = Aws(service(deployment("new", rollout="FAILED"), running=1), healthy=1, unwell="unhealthy")
    aws.tasks["STOPPED"] = [
        {"stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: not found"},
        {"stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError: not found"},
        {"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Scaling activity"},
        {"stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited"},
        {"stopCode": "TaskFailedToStart", "stoppedReason": "retrieved secret: Secrets Manager can't find the specified secret value"},
    ]  # fmt: skip
    seen = aws.control().health()
    assert seen.problems == (
        "1 tasks run, 2 must", "1 tasks are healthy, 2 must", "its deployment is FAILED, it must be COMPLETED",
    )  # fmt: skip
    log = "(see its log, /ecs/task-service)"
    assert seen.why == (
        "new said",
        "CannotPullContainerError: not found (push the image serviceImageTag, or name one that is there: aws ecr describe-images)",
        f"Essential container in task exited {log}",
        "retrieved secret: Secrets Manager can't find the specified secret value (put the value in: aws secretsmanager put-secret-value)",
        f"target 10.0.0.9 is unhealthy: Health checks failed {log}",
    )


@pytest.mark.parametrize(
    ("aws", "why"),
    [
        # Nothing failed: what ECS told of last; a target that is being registered is no reason.
        (Aws(service(deployment("new", rollout="IN_PROGRESS"), events=[{"message": m} for m in "abc"]), unwell="initial"), ("a", "b")),
        (Aws(service(deployment("new", rollout="IN_PROGRESS")), unwell="unavailable"),
         ("target 10.0.0.9 is unavailable: Health checks failed (see its log, /ecs/task-service)",)),
        # A state or a word that AWS does not give.
        (Aws(service({"status": "PRIMARY", "taskDefinition": OURS, "rolloutState": "FAILED"})), ("a deployment failed",)),
        (Aws(service(deployment("new", rollout="IN_PROGRESS"))), ()),
        # Where none is wanted, or all is well, nobody asks why.
        (Aws(service(deployment("new"), wanted=0, events=[{"message": "a"}])), ()),
        (Aws(service(deployment("new"), events=[{"message": "a"}])), ()),
    ],
)  # fmt: skip
def test_why_is_asked_of_a_service_that_should_serve_alone(aws: Aws, why: tuple[str, ...]) -> None:
    """Prevents reasons that are none."""
    assert aws.control().health().why == why


def test_what_runs_beside_what_is_declared_is_named_with_its_image() -> None:
    """Prevents a weight on a former image, and one that is refused for a deployment of which nothing runs any more."""
    gone = deployment("gone", status="ACTIVE", definition=FORMER, running=0)
    assert Aws(service(deployment("new"), gone)).control().health().other is None
    draining = deployment("former", status="ACTIVE", definition=FORMER, running=1)
    aws = Aws(service(deployment("new"), draining))
    aws.tasks["RUNNING"] = [{"taskDefinitionArn": FORMER, "containers": [{"image": "image:6"}]}]
    assert aws.control().health().other == ("image:6 (task-service:6)", "image:7 (task-service:7)")
    aws.tasks["RUNNING"] = []
    assert aws.control().health().other == ("no task (task-service:6)", "image:7 (task-service:7)")
    older = deployment("older", status="ACTIVE", definition=FORMER.replace(":6", ":5"), running=1)
    assert Aws(service(draining, older)).control().health().other == (
        "no task (task-service:5), no task (task-service:6)", "image:7 (task-service:7)",
    )  # fmt: skip


def test_a_service_that_was_never_deployed_is_named() -> None:
    """Prevents a traceback before the first `up`; and a service whose least number is 0 that counts as well without a task."""
    with pytest.raises(MigrationError, match="there is no service task-service; deploy it: pulumi up"):
        Aws().control().health()
    none = Aws(service(deployment("new"), wanted=1, running=0), healthy=0)
    assert none.control(serviceTasks=0).health().problems == ("0 tasks run, 1 must", "0 tasks are healthy, 1 must")
