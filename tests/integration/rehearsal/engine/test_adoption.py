"""What stands in an account already is taken over as it is, stays so a second time, and is the program's once its id is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.engine.pulumi_cli import PulumiDeployer, make_deployer
from scripts.rehearsal.plan import EngineName
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import MigrationError, UsageError
from tests.engine_support import ENGINES, write_program

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
PROGRAM = f"""
from components.adoption import take_over
take_over(pulumi.Config('task-migration').get_object('import') or {{}})
ours = {{'Project': 'task-migration'}}
aws.s3.Bucket('backups-bucket', bucket='dumps', force_destroy=False, tags=ours, opts=pulumi.ResourceOptions(protect=True))
aws.cloudwatch.LogGroup('service-log', name='/g', retention_in_days=30, tags=ours)
aws.secretsmanager.Secret('service-db-password', name='s/x', recovery_window_in_days=7, description='ours', tags=ours)
aws.iam.Role('service-task-role', name='r', assume_role_policy={json.dumps(TRUST)!r}, tags=ours)
aws.ecr.Repository('service-repository', name='images', image_tag_mutability='IMMUTABLE', force_delete=False, tags=ours)
"""


@pytest.fixture
def standing(aws: EmulatedAws) -> dict[str, str]:
    """Things of an older setup, one of each kind; their ids by the program's names."""
    aws.reset()
    where = {"LocationConstraint": aws.region}
    aws.client("s3").create_bucket(Bucket="dumps", CreateBucketConfiguration=where)
    aws.client("s3").put_bucket_tagging(Bucket="dumps", Tagging={"TagSet": [{"Key": "Team", "Value": "old"}]})
    aws.client("logs").create_log_group(logGroupName="/g")
    aws.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=json.dumps(TRUST), Description="old")
    aws.client("ecr").create_repository(repositoryName="images")
    secret = aws.client("secretsmanager").create_secret(Name="s/x", SecretString="a value that stays")["ARN"]
    return {
        "backups-bucket": "dumps",
        "service-log": "/g",
        "service-db-password": secret,
        "service-task-role": "r",
        "service-repository": "images",
    }


def deployer(
    aws: EmulatedAws, directory: Path, ids: dict[str, Any], engine: EngineName = "embedded"
) -> EmbeddedDeployer | PulumiDeployer:
    program = write_program(directory / "program", PROGRAM)
    return make_deployer(engine, directory, {"import": ids}, aws.environment(), program=program)


def seen(aws: EmulatedAws) -> dict[str, Any]:
    """What an `up` would change of them."""
    return {
        "bucket": aws.client("s3").get_bucket_tagging(Bucket="dumps")["TagSet"],
        "log": aws.client("logs").describe_log_groups()["logGroups"][0].get("retentionInDays"),
        "secret": aws.client("secretsmanager").describe_secret(SecretId="s/x").get("Description"),
        "role": aws.client("iam").list_role_tags(RoleName="r")["Tags"],
        "images": aws.client("ecr").describe_repositories()["repositories"][0]["imageTagMutability"],
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_what_stands_is_taken_over_untouched_and_changed_only_without_its_id(
    engine: EngineName, aws: EmulatedAws, standing: dict[str, str], tmp_path: Path
) -> None:
    """Fails when a bucket that exists ends the first `up`, is changed unseen, or is imported again at the second."""
    before = seen(aws)
    with pytest.raises(MigrationError, match=r"Already|exist"):
        deployer(aws, tmp_path / "without", {}, engine).up({})
    taking = deployer(aws, tmp_path, standing, engine)
    assert {(change.op, change.name) for change in taking.preview({})} == {("import", name) for name in standing}
    assert {change.op for change in taking.up({}).changes} == {"import"}
    assert seen(aws) == before
    assert taking.preview({}) == taking.up({}).changes == ()

    own: dict[str, object] = {"import": {}}
    shown = {change.name: change.properties for change in taking.preview(own)}
    assert set(shown) == set(standing)
    assert all("tags" in properties for properties in shown.values())
    assert {change.op for change in taking.up(own).changes} == {"update"}
    assert seen(aws) == {
        "bucket": [{"Key": "Project", "Value": "task-migration"}],
        "log": 30,
        "secret": "ours",
        "role": [{"Key": "Project", "Value": "task-migration"}],
        "images": "IMMUTABLE",
    }
    assert aws.client("secretsmanager").get_secret_value(SecretId="s/x")["SecretString"] == "a value that stays"
    assert taking.preview({}) == ()


def test_an_id_of_another_thing_or_of_none_is_named(aws: EmulatedAws, standing: dict[str, str], tmp_path: Path) -> None:
    """Fails when a bucket of somebody else is taken for ours, to be replaced by the next `up`."""
    with pytest.raises(UsageError, match=r"import.backups-bucket: value 'c'; limit: the id of 'dumps'"):
        deployer(aws, tmp_path, {"backups-bucket": "c"}).up({})
    aws.client("logs").delete_log_group(logGroupName="/g")
    with pytest.raises(MigrationError, match=r"service-log: .*/g does not exist; take its id out"):
        deployer(aws, tmp_path, {"service-log": "/g"}).preview({})
