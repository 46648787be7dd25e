"""The Task Service comes up as an operator brings it up, and each wrong start is told with its reason and what mends it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from components.naming import COGNITO_SECRET, DATABASE_PASSWORD_SECRET, REPOSITORY_NAME
from scripts.canary.service_control import ServiceControl
from scripts.cli.app import app
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.release import push_image, put_values
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import Refused, TimedOut
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from tests.engine_support import stack_config
from tests.integration.rehearsal.test_targets import tell

TAG = "3f2c1a9"
WAIT = 20.0
REGISTERED = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}


def control(aws: EmulatedAws, outputs: dict[str, Any]) -> ServiceControl:
    ecs, scaling, balancer = (aws.client(name) for name in ("ecs", "application-autoscaling", "elbv2"))
    return ServiceControl(ecs, scaling, balancer, outputs)


@dataclass(frozen=True)
class Account:
    """A service as the program declares it, in an account where nobody pushed an image nor put a value."""

    aws: EmulatedAws
    outputs: dict[str, Any]

    def service(self, tasks: int = 2) -> ServiceControl:
        return control(self.aws, {**self.outputs, "serviceTasks": tasks})

    def deploy(self, tag: str) -> None:
        """What an `up` with another image does."""
        ecs = self.aws.client("ecs")
        cluster, name = self.outputs["clusterArn"], self.outputs["serviceName"]
        self.outputs.update(taskDefinitionArn=self.definition(tag), serviceImage=self.image(tag))
        ecs.update_service(cluster=cluster, service=name, taskDefinition=self.outputs["taskDefinitionArn"])

    def image(self, tag: str) -> str:
        registry = self.aws.client("ecr").describe_repositories(repositoryNames=[REPOSITORY_NAME])["repositories"][0]
        return f"{registry['repositoryUri']}:{tag}"

    def definition(self, tag: str) -> str:
        secrets = self.aws.client("secretsmanager")
        container = {
            "name": "task-service",
            "image": self.image(tag),
            "secrets": [
                {"name": name, "valueFrom": secrets.describe_secret(SecretId=name)["ARN"]}
                for name in (DATABASE_PASSWORD_SECRET, COGNITO_SECRET)
            ],
        }
        answer = self.aws.client("ecs").register_task_definition(
            family="task-service",
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[container],
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])


@pytest.fixture(scope="module")
def world(aws: EmulatedAws) -> dict[str, Any]:
    """What was there before; made once, as emptying an account takes longer than a test."""
    return build_world(aws)


@pytest.fixture
def account(aws: EmulatedAws, world: dict[str, Any]) -> Iterator[Account]:
    aws.client("ecr").create_repository(repositoryName=REPOSITORY_NAME)
    for name in (DATABASE_PASSWORD_SECRET, COGNITO_SECRET):
        aws.client("secretsmanager").create_secret(Name=name)
    balancer = aws.client("elbv2")
    group = balancer.create_target_group(
        Name=f"task-{uuid4().hex[:8]}", Protocol="HTTP", Port=3001, VpcId=world["vpcId"], TargetType="ip"
    )["TargetGroups"][0]["TargetGroupArn"]
    made = Account(aws, {"clusterArn": world["clusterArn"], "serviceName": "task-service", "taskTargetGroupArn": group})
    definition = made.definition(TAG)
    made.outputs.update(taskDefinitionArn=definition, serviceImage=made.image(TAG))
    aws.client("ecs").create_service(
        cluster=world["clusterArn"],
        serviceName="task-service",
        taskDefinition=definition,
        desiredCount=0,
        launchType="FARGATE",
        loadBalancers=[{"targetGroupArn": group, "containerName": "task-service", "containerPort": 3001}],
        networkConfiguration={
            "awsvpcConfiguration": {
                "subnets": world["privateSubnetIds"],
                "securityGroups": [world["sourceSecurityGroupId"]],
            }
        },
    )
    aws.client("application-autoscaling").register_scalable_target(
        **REGISTERED, ResourceId="service/myteacher-cluster/task-service", MinCapacity=0, MaxCapacity=4
    )
    yield made
    aws.client("ecs").delete_service(cluster=world["clusterArn"], service="task-service", force=True)
    aws.client("application-autoscaling").deregister_scalable_target(
        **REGISTERED, ResourceId="service/myteacher-cluster/task-service"
    )
    aws.client("ecr").delete_repository(repositoryName=REPOSITORY_NAME, force=True)
    for name in (DATABASE_PASSWORD_SECRET, COGNITO_SECRET):
        aws.client("secretsmanager").delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    balancer.delete_target_group(TargetGroupArn=group)


def test_a_service_that_is_not_enabled_is_not_started(account: Account) -> None:
    push_image(account.aws, TAG)
    put_values(account.aws, "secret", {})
    with pytest.raises(
        Refused, match=r"serviceEnabled is false.*preflight --account.*config set task-migration:serviceEnabled true"
    ):
        account.service(tasks=0).start(timeout=WAIT)
    assert account.service().health().wanted == 0


def test_a_start_without_image_says_so_and_the_next_one_succeeds(account: Account) -> None:
    """Prevents the first night: the circuit breaker ends the deployment, and no number of tasks starts it again."""
    put_values(account.aws, "secret", {})
    service = account.service()
    with pytest.raises(Refused) as refused:
        service.start(timeout=WAIT)
    said = str(refused.value)
    assert "circuit breaker: tasks failed to start" in said
    assert f"{REPOSITORY_NAME}:{TAG}: not found" in said
    assert "push the image serviceImageTag" in said
    assert "canary start-service again" in said
    push_image(account.aws, TAG)
    assert service.start(timeout=WAIT).problems == ()
    assert (service.health().running, service.health().healthy) == (2, 2)


def without_image(_settings: Settings) -> Any:
    """The stage of a stack whose service has no image; named in the environment of the command below."""
    world = json.loads(os.environ["TEST_OUTPUTS"])
    running = EmulatedAws(port=int(os.environ["TEST_PORT"]))
    enabled = SimpleNamespace(config=lambda: {"serviceEnabled": True})
    return SimpleNamespace(service=control(running, {**world, "serviceTasks": 2}), settings=_settings, deployer=enabled)


def test_the_command_is_refused_and_prints_the_reason(
    account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Prevents a night that goes on because the command that brings the service up ended with 0."""
    put_values(account.aws, "secret", {})
    for name, value in {
        "TASK_MIGRATION_STAGE": f"{__name__}:without_image",
        "TASK_MIGRATION_STATE_DIR": str(tmp_path),
        "TEST_OUTPUTS": json.dumps(account.outputs),
        "TEST_PORT": str(account.aws.port),
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Refused, match="CannotPullContainerError.*push the image serviceImageTag"):
        CliRunner().invoke(app, ["canary", "start-service", "--json"], catch_exceptions=False)
    push_image(account.aws, TAG)
    done = CliRunner().invoke(app, ["canary", "start-service", "--json"], catch_exceptions=False)
    assert json.loads(done.stdout) == {"status": "started", "tasks": 2, "healthy": 2}


def test_a_start_with_a_secret_without_value_says_which(account: Account) -> None:
    push_image(account.aws, TAG)
    account.aws.client("secretsmanager").put_secret_value(SecretId=COGNITO_SECRET, SecretString="{}")
    with pytest.raises(Refused) as refused:
        account.service().start(timeout=WAIT)
    assert f"failed to fetch secret {account.aws.client('secretsmanager').describe_secret(SecretId=DATABASE_PASSWORD_SECRET)['ARN']}" in str(refused.value)  # fmt: skip
    assert "put the value in: aws secretsmanager put-secret-value" in str(refused.value)


def test_tasks_that_fail_their_health_checks_are_no_start_and_do_not_replace_those_that_serve(account: Account) -> None:
    """Prevents a start that is rehearsed with every target healthy: on AWS a deployment waits for its targets, and the old ones stay."""
    push_image(account.aws, TAG)
    put_values(account.aws, "secret", {})
    ecs, scaling, real = (account.aws.client(name) for name in ("ecs", "application-autoscaling", "elbv2"))
    arn = account.outputs["taskTargetGroupArn"]

    def found(*health: str | None) -> None:
        """The load balancer's checks of all targets found this."""
        targets = real.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        tell(account.aws, {arn: {item["Target"]["Id"]: health for item in targets}})

    class Checked:
        def describe_target_health(self, **asked: Any) -> Any:
            found("unhealthy", "Target.ResponseCodeMismatch", "Health checks failed with these codes: [500]")
            return real.describe_target_health(**asked)

    unwell = ServiceControl(ecs, scaling, Checked(), {**account.outputs, "serviceTasks": 2})
    with pytest.raises(TimedOut) as late:
        unwell.start(timeout=2.0)
    assert "0 tasks are healthy, 2 must; its deployment is IN_PROGRESS" in str(late.value)
    assert "is unhealthy: Health checks failed with these codes: [500] (see its log, /ecs/task-service)" in str(
        late.value
    )
    found("healthy", None, None)
    assert account.service().health().problems == ()
    push_image(account.aws, "next")
    account.deploy("next")
    both = wait_until(
        account.service().health, lambda now: now.running == 4, what="both run", timeout=WAIT, interval=0.1
    )
    assert (both.healthy, both.rollout) == (2, "IN_PROGRESS")
    found("healthy", None, None)
    after = account.service().health()
    assert (after.running, after.healthy, after.problems) == (2, 2, ())


def test_a_deployment_that_shows_a_moment_later_is_waited_for(account: Account) -> None:
    """Prevents a start that is given up because ECS, which is consistent in the end alone, tells of the deployment before first."""
    push_image(account.aws, TAG)
    put_values(account.aws, "secret", {})
    ecs = account.aws.client("ecs")
    where = {"cluster": account.outputs["clusterArn"], "services": ["task-service"]}
    stale = [ecs.describe_services(**where)] * 3

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(ecs, name)

        def describe_services(self, **asked: Any) -> Any:
            return stale.pop() if stale else ecs.describe_services(**asked)

    scaling, balancer = (account.aws.client(name) for name in ("application-autoscaling", "elbv2"))
    service = ServiceControl(Late(), scaling, balancer, {**account.outputs, "serviceTasks": 2})
    assert service.start(timeout=WAIT).healthy == 2
    assert stale == []


def test_a_stalled_deployment_is_not_ready_whatever_is_wanted(account: Account) -> None:
    """Prevents a weight that goes up because tasks are wanted, while none runs."""
    service = account.service()
    with pytest.raises(Refused):
        service.start(timeout=WAIT)
    seen = service.health()
    assert seen.wanted == 2
    assert any("0 tasks run, 2 must" in problem for problem in seen.problems)
    assert any("CannotPullContainerError" in reason for reason in seen.why)


def test_a_service_that_serves_is_left_as_it_is(account: Account) -> None:
    """Prevents a command, run again, that replaces tasks under load, or scales in what autoscaling had scaled out."""
    push_image(account.aws, TAG)
    put_values(account.aws, "secret", {})
    service, ecs = account.service(), account.aws.client("ecs")
    service.start(timeout=WAIT)
    where = {"cluster": account.outputs["clusterArn"], "service": "task-service"}
    ecs.update_service(**where, desiredCount=4)
    before = ecs.list_tasks(cluster=where["cluster"], serviceName="task-service")["taskArns"]
    assert service.start(timeout=WAIT).running == 4
    assert ecs.list_tasks(cluster=where["cluster"], serviceName="task-service")["taskArns"] == before


def test_a_stopped_task_leaves_the_group_and_another_takes_its_place(account: Account) -> None:
    """Prevents a rehearsal in which killed tasks run on, and are still in the load balancer's group."""
    push_image(account.aws, TAG)
    put_values(account.aws, "secret", {})
    service, ecs = account.service(), account.aws.client("ecs")
    service.start(timeout=WAIT)
    where = {"cluster": account.outputs["clusterArn"]}
    before = ecs.list_tasks(**where, serviceName="task-service")["taskArns"]
    group = {"TargetGroupArn": account.outputs["taskTargetGroupArn"]}
    for task in before:
        ecs.stop_task(**where, task=task, reason="killed")
    found = account.aws.client("elbv2").describe_target_health(**group)["TargetHealthDescriptions"]
    assert [item["TargetHealth"]["State"] for item in found].count("draining") == 2
    stopped = ecs.describe_tasks(**where, tasks=before)["tasks"]
    assert {(task["lastStatus"], task["stopCode"]) for task in stopped} == {("STOPPED", "UserInitiated")}
    wait_until(lambda: service.health().problems, lambda seen: not seen, what="others run", timeout=WAIT, interval=0.1)
    assert not set(before) & set(ecs.list_tasks(**where, serviceName="task-service")["taskArns"])


def test_an_image_that_the_breaker_went_back_to_is_not_ready_and_the_declared_one_is_started(account: Account) -> None:
    """Prevents a weight on a former image: the breaker goes back to it, all tasks run and are healthy, `up` shows no change."""
    push_image(account.aws, TAG)
    put_values(account.aws, "secret", {})
    account.service().start(timeout=WAIT)
    former = account.outputs["taskDefinitionArn"].rpartition("/")[2]
    account.deploy("gone")
    service = account.service()
    settled = wait_until(
        service.health, lambda now: len(now.problems) == 1, what="the breaker has gone back", timeout=WAIT, interval=0.1
    )
    assert (settled.running, settled.healthy, settled.rollout) == (2, 2, "COMPLETED")
    declared = account.outputs["taskDefinitionArn"].rpartition("/")[2]
    both = f"it runs {account.image(TAG)} ({former}), the stack declares {account.image('gone')} ({declared})"
    assert settled.problems == (both,)
    # A start deploys what is declared, and says so when the breaker goes back once more.
    with pytest.raises(Refused) as refused:
        service.start(timeout=WAIT)
    assert both in str(refused.value)
    assert f"{account.image('gone')}: not found" in str(refused.value)
    push_image(account.aws, "gone")
    assert service.start(timeout=WAIT).problems == ()
    ecs, where = account.aws.client("ecs"), {"cluster": account.outputs["clusterArn"]}
    tasks = ecs.describe_tasks(tasks=ecs.list_tasks(**where, serviceName="task-service")["taskArns"], **where)["tasks"]
    assert {task["containers"][0]["image"] for task in tasks} == {account.image("gone")}


@pytest.mark.last
def test_the_first_up_starts_no_task_and_enabling_it_does(
    tmp_path: Path, aws: EmulatedAws, world: dict[str, Any]
) -> None:
    """Prevents a first `up` whose service, or whose autoscaling, asks for tasks before there is an image."""
    config = stack_config(world)
    deployer = EmbeddedDeployer(tmp_path / "state.json", config, aws.environment())
    outputs = deployer.up({}).outputs
    assert control(aws, outputs).health().wanted == 0
    with pytest.raises(Refused, match="serviceEnabled is false"):
        control(aws, outputs).start(timeout=WAIT)
    push_image(aws, str(config["serviceImageTag"]))
    put_values(aws, "secret", {})
    enabled = deployer.up({"serviceEnabled": True})
    # The alarm of no healthy target comes with the first tasks: before, none has to be.
    assert {change.name for change in enabled.changes} == {"service-scaling", "monitoring-alarm-no-healthy-target"}
    assert control(aws, enabled.outputs).start(timeout=WAIT).healthy == 2
    assert deployer.preview({}) == ()
