"""The workflows' roles against the emulated account: what `pulumi up` calls is what the deploy role has, and IAM refuses the rest."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from components import ci_roles
from components.ci_place import Place, Role
from components.config_stack import StackConfig
from components.config_values import parse
from scripts.rehearsal.emulated.limits import Limit
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import MigrationError
from tests.engine_support import OWN_NAME, stack_config, take_down
from tests.iam import held
from tests.recorded_aws import S3_ACTIONS, RecordedAws

#: What a deployment never does: an administrator ends what holds data, evidence or the key of either.
WITHHELD = {
    *("ecr:DeleteRepository", "kms:DeleteAlias", "kms:ScheduleKeyDeletion", "logs:DeleteLogGroup"),
    "rds:DeleteDBInstance",
}
#: Actions of the deploy role that no recording shows, by the reason why it has them.
UNRECORDED: Mapping[str, str] = {
    "the provider reads what it made, more closely than the emulated one": """
        application-autoscaling:ListTagsForResource cloudwatch:ListTagsForResource dms:ListTagsForResource
        ec2:DescribeNetworkInterfaces ecr:ListTagsForResource ecs:ListTagsForResource elasticloadbalancing:DescribeTags
        elasticloadbalancing:DescribeTargetGroupAttributes iam:ListInstanceProfilesForRole iam:ListRolePolicies
        kms:GetKeyPolicy kms:GetKeyRotationStatus kms:ListAliases kms:ListResourceTags logs:DescribeQueryDefinitions
        logs:ListTagsForResource rds:DescribeDBParameters rds:ListTagsForResource s3:GetAccelerateConfiguration
        s3:GetBucketAcl s3:GetBucketCORS s3:GetBucketLogging s3:GetBucketObjectLockConfiguration
        s3:GetBucketOwnershipControls s3:GetBucketPolicy s3:GetBucketPublicAccessBlock s3:GetBucketRequestPayment
        s3:GetBucketTagging s3:GetBucketVersioning s3:GetBucketWebsite s3:GetEncryptionConfiguration
        s3:GetLifecycleConfiguration s3:GetReplicationConfiguration secretsmanager:GetResourcePolicy
        sns:ListTagsForResource""",
    "what it changes in place, and the change of this test does not touch": """
        apigateway:PUT application-autoscaling:TagResource application-autoscaling:UntagResource
        ec2:ModifySecurityGroupRules ecr:PutImageScanningConfiguration ecr:PutImageTagMutability
        elasticloadbalancing:ModifyTargetGroup elasticloadbalancing:SetRulePriorities iam:PutRolePermissionsBoundary
        iam:UpdateAssumeRolePolicy iam:UpdateRole kms:PutKeyPolicy kms:UpdateAlias kms:UpdateKeyDescription
        rds:ModifyDBSubnetGroup rds:ResetDBParameterGroup secretsmanager:UpdateSecret""",
    "a service asks in the caller's name for what the call needs": """
        ec2:DescribeAvailabilityZones ec2:DescribeSubnets ec2:DescribeVpcAttribute ec2:DescribeVpcs
        iam:CreateServiceLinkedRole iam:PassRole kms:CreateGrant kms:Decrypt kms:GenerateDataKey
        logs:CreateLogDelivery logs:DeleteLogDelivery logs:DescribeResourcePolicies logs:GetLogDelivery
        logs:ListLogDeliveries logs:PutResourcePolicy logs:UpdateLogDelivery""",
    "Pulumi's state and the secrets in its configuration": """
        kms:Encrypt s3:DeleteObject s3:GetObject s3:PutObject""",
}
#: Operations that moto cannot hold are judged, not sent (limits.py); the role has the actions of these all the same.
JUDGED = {
    f"{service}:{S3_ACTIONS.get(operation, operation)}"
    for service, operation, _ in (limit.value for limit in Limit)
    if service != "apigatewayv2"
}
#: The program with other tags in its second round, so that everything that bears some is changed.
TWO_ROUNDS = """
    import os, pathlib, runpy
    import components.component as component

    def tags(self, name, old=component.Component.tags):
        made = old(self, name)
        return made if os.environ["ROUND"] == "1" else {**made, "ManagedBy": None, "Round": "2"}

    def without(self, name):
        return {key: value for key, value in tags(self, name).items() if value is not None}

    component.Component.tags = without
    runpy.run_path(str(pathlib.Path(component.__file__).parents[1] / "__main__.py"), run_name="__main__")
"""
CHANGED = {
    **{"serviceMemoryMb": 2048, "serviceMinTasks": 3, "dbInstanceClass": "db.t3.large", "dbAllocatedStorageGb": 200},
    **{"dmsInstanceClass": "dms.t3.large", "dmsLobMaxSizeKb": 100, "alarmEmails": ["other@example.com"]},
    **{"deregistrationDelaySeconds": 20, "databaseAlarmConnections": 70, "cognitoClientIds": ["a"], "canaryWeight": 5},
    **{"stateLockDays": 30},
    **OWN_NAME,
}


@pytest.fixture
def world(aws: EmulatedAws) -> dict[str, object]:
    aws.reset()
    return {**stack_config(build_world(aws)), "permissionsBoundary": True}


@pytest.fixture
def place(world: dict[str, object]) -> Place:
    config = parse(StackConfig, {key: value for key, value in world.items() if key != "smokeHeaderValue"})
    return Place(config, "myteacher/tasks", "main", "pulumi-state", "arn:aws:kms:ap-northeast-1:123456789012:key/1")


def statements(place: Place, role: Role) -> list[dict[str, Any]]:
    return [item for made in ci_roles.policies(place, role).values() for item in made["Statement"]]


@pytest.mark.timeout(600)
def test_the_deploy_role_has_what_a_deployment_calls_and_what_has_a_reason(
    aws: EmulatedAws, world: dict[str, object], place: Place, tmp_path: Path
) -> None:
    """Fails when a resource is added whose calls the role lacks, which would end an `up` half-way, or an action has no use."""
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "__main__.py").write_text(textwrap.dedent(TWO_ROUNDS))
    with RecordedAws(aws) as recorded:
        environment = {**aws.environment(), "AWS_ENDPOINT_URL": recorded.url}

        def round_of(number: str) -> EmbeddedDeployer:
            given = {**environment, "ROUND": number}
            return EmbeddedDeployer(tmp_path / "state.json", world, given, program=tmp_path / "program")

        round_of("1").up({})
        made = recorded.clear()
        round_of("2").up(CHANGED)
        changed = recorded.clear()
        round_of("2").up({"protected": False})
        take_down(round_of("2"))
        called = made | changed | recorded.clear()
    assert len(changed - made) >= 25
    given = ci_roles.actions(place, "deploy")
    explained = {action for words in UNRECORDED.values() for action in words.split()}
    # Who a caller is may be asked by anybody (AWS STS, 'GetCallerIdentity').
    assert called - given - {"sts:GetCallerIdentity"} == WITHHELD
    assert given - called - JUDGED == explained - JUDGED
    assert not explained & called
    assert JUDGED - given == {"logs:DisassociateKmsKey"}  # a log group without its key is what nobody declares


def refused(call: Any, **parameters: Any) -> bool:
    """Whether IAM refuses a call."""
    try:
        call(**parameters)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
            raise
        return True
    return False


def client(environment: Mapping[str, str], service: str) -> Any:
    return boto3.client(  # type: ignore[call-overload]
        service,
        region_name=environment["AWS_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=environment["AWS_SESSION_TOKEN"],
    )


@pytest.mark.timeout(600)
def test_iam_lets_the_operator_move_the_weight_and_refuses_who_lacks_an_action(
    aws: EmulatedAws, world: dict[str, object], place: Place, tmp_path: Path
) -> None:
    """Fails when the role of a pull request moves the weight, or the operator's lacks what moving it needs."""
    state = tmp_path / "state.json"
    EmbeddedDeployer(state, world, aws.environment()).up({})

    def moves(environment: Mapping[str, str], weight: int) -> list[str]:
        done = EmbeddedDeployer(state, world, environment).up({"canaryWeight": weight})
        return [change.name for change in done.changes]

    with held(aws, statements(place, "operator")) as operator:
        assert moves(operator, 5) == ["routes-live-rule"]
    with (
        held(aws, statements(place, "operator"), without="elasticloadbalancing:ModifyRule") as less,
        pytest.raises(
            MigrationError, match=r"routes-live-rule: .*not authorized to perform: elasticloadbalancing:ModifyRule"
        ),
    ):
        moves(less, 25)
    with held(aws, statements(place, "preview")) as preview:
        shown = EmbeddedDeployer(state, world, preview).preview({"canaryWeight": 25})
        assert [change.name for change in shown] == ["routes-live-rule"]
        with pytest.raises(MigrationError, match="not authorized to perform: elasticloadbalancing:"):
            moves(preview, 25)

    bucket, secret = str(place.config.backup_bucket), place.config.source_secret_arn
    storage = aws.client("s3")
    storage.put_object(Bucket=bucket, Key="database/2026-11-26/source.dump", Body=b"every row")
    storage.create_bucket(Bucket="pulumi-state", CreateBucketConfiguration={"LocationConstraint": aws.region})
    storage.put_object(Bucket="pulumi-state", Key=".pulumi/stacks/prod.json", Body=b"{}")
    dump = {"Bucket": bucket, "Key": "database/2026-11-26/source.dump"}
    for role, reads_dump, reads_password, makes_roles in (
        ("preview", False, False, False),
        ("deploy", False, False, True),
        ("operator", True, True, False),
    ):
        with held(aws, statements(place, role)) as environment:  # type: ignore[arg-type]
            s3 = client(environment, "s3")
            assert refused(s3.get_object, **dump) is not reads_dump, role
            assert not refused(s3.get_object, Bucket="pulumi-state", Key=".pulumi/stacks/prod.json"), role
            asked = client(environment, "secretsmanager")
            assert refused(asked.get_secret_value, SecretId=secret) is not reads_password, role
            make = client(environment, "iam").create_role
            assert refused(make, RoleName=f"x-{role}", AssumeRolePolicyDocument="{}") is not makes_roles, role
            written = {"Bucket": "pulumi-state", "Key": ".pulumi/stacks/prod.json", "Body": b"{}"}
            assert refused(s3.put_object, **written) is (role == "preview"), role


def test_another_stacks_dumps_are_not_the_operators(aws: EmulatedAws, place: Place) -> None:
    """Fails when the operator of staging reads production's dumps, where both are in one account."""
    storage = aws.client("s3")
    storage.create_bucket(Bucket="myteacher-other", CreateBucketConfiguration={"LocationConstraint": aws.region})
    storage.put_object(Bucket="myteacher-other", Key="database/source.dump", Body=b"every row")
    other = replace(place, config=place.config.model_copy(update={"backup_bucket": "myteacher-other"}))
    for at, answer in ((place, True), (other, False)):
        with held(aws, statements(at, "operator")) as environment:
            read = client(environment, "s3").get_object
            assert refused(read, Bucket="myteacher-other", Key="database/source.dump") is answer
