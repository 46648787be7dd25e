"""Replication declared away and back on the engines: tasks that are there keep `up` from it, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.dms_settings import FORWARD_TASK_ID
from scripts.deployment.deployer import Deployer
from scripts.rehearsal.emulated import registry
from scripts.rehearsal.emulated.core import Aws
from scripts.rehearsal.emulated.properties import plain
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.engine.pulumi_cli import PulumiDeployer, make_deployer
from scripts.rehearsal.engine.state import State
from scripts.rehearsal.plan import EngineName
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import MigrationError
from tests.engine_support import ENGINES, refreshed, stack_config


def refresh(deployer: Deployer, aws: EmulatedAws) -> None:
    """What is gone from the account goes from the state, as `pulumi refresh` does; the embedded engine has no such operation."""
    if isinstance(deployer, PulumiDeployer):
        refreshed(deployer)
        return
    assert isinstance(deployer, EmbeddedDeployer)
    state, account = State.load(deployer.state_path), Aws(aws.region, aws.environment())
    for resource in list(state.resources.values()):
        if (
            resource.type.startswith("aws:dms/")
            and registry.read(account, resource.type, resource.id, plain(resource.inputs)) is None
        ):
            state.gone(resource)


def finished(aws: EmulatedAws) -> None:
    """Both tasks deleted, as `finalize` does."""
    dms = aws.client("dms")
    for task in dms.describe_replication_tasks()["ReplicationTasks"]:
        dms.delete_replication_task(ReplicationTaskArn=task["ReplicationTaskArn"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_goes_only_when_its_tasks_have_and_comes_back(
    engine: EngineName, aws: EmulatedAws, tmp_path: Path
) -> None:
    """Prevents an `up` that ends a running replication, one that touches the database with it, and a name that is taken for 7 days."""
    aws.reset()
    config = stack_config(build_world(aws))
    deployer = make_deployer(engine, tmp_path, config, aws.environment())
    deployer.up({})
    dms = aws.client("dms")
    tasks = {task["ReplicationTaskIdentifier"]: task for task in dms.describe_replication_tasks()["ReplicationTasks"]}
    arn = tasks[FORWARD_TASK_ID]["ReplicationTaskArn"]
    dms.start_replication_task(ReplicationTaskArn=arn, StartReplicationTaskType="start-replication")
    # What would have the provider stop a task, or delete it, changes nothing or is refused before anything is changed.
    assert deployer.preview({"dmsLobMaxSizeKb": 8, "tables": ["tasks", "task_images"]}) == ()
    for other in ("none", "native"):
        with pytest.raises(MigrationError, match=r"protect"):
            deployer.preview({"replicationEngine": other})
    status = {
        task["ReplicationTaskIdentifier"]: task["Status"]
        for task in dms.describe_replication_tasks()["ReplicationTasks"]
    }
    assert (len(status), status[FORWARD_TASK_ID]) == (2, "running")

    dms.stop_replication_task(ReplicationTaskArn=arn)
    finished(aws)
    refresh(deployer, aws)
    shown = deployer.preview({"replicationEngine": "none"})
    by_op = {
        op: sorted(change.name for change in shown if change.op == op)
        for op in ("create", "update", "replace", "delete")
    }
    assert (by_op["create"], by_op["update"], by_op["replace"]) == ([], ["monitoring-dashboard"], [])
    assert all(name.startswith(("replication-", "monitoring-alarm-replication-")) for name in by_op["delete"])
    assert {change.type.split(":")[1].split("/")[0] for change in shown if change.op == "delete"} == {
        *("dms", "iam", "secretsmanager", "ec2", "vpc", "cloudwatch"),
    }
    deployer.up({"replicationEngine": "none"})
    assert dms.describe_replication_instances()["ReplicationInstances"] == []
    assert deployer.preview({}) == ()
    # Back within the 7 days that a deleted secret's name would be taken for.
    back = deployer.up({"replicationEngine": "dms"})
    assert {change.op for change in back.changes} <= {"create", "update"}
    assert len(dms.describe_replication_tasks()["ReplicationTasks"]) == 2


def test_a_deleted_secrets_name_is_taken_until_its_window_is_over(aws: EmulatedAws) -> None:
    """The account refuses it with AWS's reason, as Secrets Manager does: what is declared with a window cannot come back at once."""
    aws.reset()
    account = Aws(aws.region, aws.environment())
    token = "aws:secretsmanager/secret:Secret"
    inputs = {"name": "task-service/other", "recoveryWindowInDays": 7}
    made = registry.create(account, token, inputs)
    registry.delete(account, token, made.id, {**inputs, **made.outputs})
    with pytest.raises(MigrationError, match="already scheduled for deletion"):
        registry.create(account, token, inputs)
    at_once = {**inputs, "name": "task-service/replication", "recoveryWindowInDays": 0}
    for _ in range(2):
        made = registry.create(account, token, at_once)
        registry.delete(account, token, made.id, {**at_once, **made.outputs})


def test_the_emulated_provider_stops_a_task_that_it_changes(aws: EmulatedAws) -> None:
    """What `up` never does to a task the emulated account would show: a change that is not kept out stops it, and leaves it so."""
    aws.reset()
    account, dms = Aws(aws.region, aws.environment()), aws.client("dms")
    endpoint = "aws:dms/endpoint:Endpoint"
    given = {
        "engineName": "postgres",
        "databaseName": "x",
        "secretsManagerArn": "arn:x",
        "secretsManagerAccessRoleArn": "arn:r",
        "postgresSettings": {"slotName": "s"},
    }
    ends = [
        registry.create(account, endpoint, {**given, "endpointId": kind, "endpointType": kind})
        for kind in ("source", "target")
    ]
    # Unset numbers go out as 0.
    settings = dms.describe_endpoints()["Endpoints"][0]["PostgreSQLSettings"]
    assert (settings["MaxFileSize"], settings["HeartbeatFrequency"]) == (0, 0)
    token = "aws:dms/replicationTask:ReplicationTask"
    inputs = {
        **{"replicationTaskId": "t", "migrationType": "cdc", "tableMappings": "{}", "replicationInstanceArn": "arn:i"},
        **{"sourceEndpointArn": ends[0].outputs["endpointArn"], "targetEndpointArn": ends[1].outputs["endpointArn"]},
    }
    made = registry.create(account, token, inputs)
    arn = made.outputs["replicationTaskArn"]
    dms.start_replication_task(ReplicationTaskArn=arn, StartReplicationTaskType="start-replication")
    with pytest.raises(MigrationError, match="used by the running task t"):
        registry.update(
            account,
            endpoint,
            ends[0].id,
            {**given, "endpointId": "source"},
            {**given, "endpointId": "source", "databaseName": "y"},
        )
    registry.update(account, token, made.id, inputs, {**inputs, "tableMappings": '{"rules": []}'})
    assert dms.describe_replication_tasks()["ReplicationTasks"][0]["Status"] == "stopped"
