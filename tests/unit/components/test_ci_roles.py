"""The workflows' roles: who may take each, and what none of them may do."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import xform_name

from components import ci_roles
from components.ci_place import Place, Role
from components.config_stack import StackConfig
from components.config_values import parse
from scripts.support.settings import PROJECT_ROOT
from tests.iam import may_take
from tests.unit.components.declared_helpers import ACCOUNT, FILLED, REGION, declare

REPOSITORY = "myteacher/task-migration"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b2c3d"
PLACE = Place(parse(StackConfig, {**FILLED, "environment": "prod"}), REPOSITORY, "main", "pulumi-state", KEY)
WORKFLOWS = {"preview": "preview.yml", "deploy": "deploy.yml", "operator": "canary.yml", "drift": "drift.yml"}


def statements(role: Role) -> list[dict[str, Any]]:
    return [item for made in ci_roles.policies(PLACE, role).values() for item in made["Statement"]]


def claims(role: Role, **other: str) -> dict[str, str]:
    """What GitHub says of the role's own workflow (GitHub, 'OpenID Connect reference'), or ``other`` than that."""
    reference = "refs/pull/7/merge" if role == "preview" else "refs/heads/main"
    environment = "prod-preview" if role in ("preview", "drift") else "prod"
    return {
        "iss": "https://token.actions.githubusercontent.com",
        "aud": "sts.amazonaws.com",
        "sub": f"repo:{REPOSITORY}:environment:{environment}",
        "ref": reference,
        "job_workflow_ref": f"{REPOSITORY}/.github/workflows/{WORKFLOWS[role]}@{reference}",
        **other,
    }


@pytest.mark.parametrize("role", ci_roles.ROLES)
def test_each_workflow_takes_its_role_in_its_environment(role: Role) -> None:
    assert may_take(ci_roles.trust(PLACE, role), claims(role))
    (item,) = ci_roles.trust(PLACE, role)["Statement"]
    assert item["Principal"] == {
        "Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
    }
    # Without both, any repository of GitHub takes the role.
    assert {key.rpartition(":")[2] for key in item["Condition"]["StringEquals"]} >= {"aud", "sub"}


#: What somebody who may write to a branch of the repository, or to another one, can make GitHub say.
STRANGERS: Mapping[str, dict[str, str]] = {
    "another repository": {"sub": "repo:somebody/task-migration:environment:prod"},
    "a repository whose name begins so": {"sub": f"repo:{REPOSITORY}-2:environment:prod"},
    "another audience": {"aud": "https://github.com/myteacher"},
    "a pull request without an environment": {"sub": f"repo:{REPOSITORY}:pull_request", "ref": "refs/pull/7/merge"},
    "the main branch without an environment": {"sub": f"repo:{REPOSITORY}:ref:refs/heads/main"},
    "staging": {"sub": f"repo:{REPOSITORY}:environment:staging"},
    "the preview's environment": {"sub": f"repo:{REPOSITORY}:environment:prod-preview"},
    "a branch that names the environment": {"ref": "refs/heads/mine"},
    "a tag of the branch's name": {"ref": "refs/tags/main"},
    "an altered workflow of a branch": {
        "job_workflow_ref": f"{REPOSITORY}/.github/workflows/deploy.yml@refs/heads/mine"
    },
    "another workflow": {"job_workflow_ref": f"{REPOSITORY}/.github/workflows/preview.yml@refs/heads/main"},
    "somebody's reusable workflow": {"job_workflow_ref": "somebody/x/.github/workflows/deploy.yml@refs/heads/main"},
}


@pytest.mark.parametrize("role", ["deploy", "operator"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_nobody_else_takes_a_role_that_changes_something(role: Role, stranger: str) -> None:
    """Prevents production in the hands of whoever can push a branch: environment, branch and workflow all have to fit."""
    assert not may_take(ci_roles.trust(PLACE, role), claims(role, **STRANGERS[stranger]))


def test_the_workflows_roles_are_not_each_others() -> None:
    for role in ci_roles.ROLES:
        takers = {other for other in ci_roles.ROLES if may_take(ci_roles.trust(PLACE, role), claims(other))}
        # The preview's is any workflow's in its environment: a pull request's is whatever its branch says.
        assert takers == ({"preview", "drift"} if role == "preview" else {role})


def test_a_pull_request_reads_pulumis_state_and_nothing_else() -> None:
    """Prevents ReadOnlyAccess in the hands of a pull request's program: every dump, image, log and secret."""
    found = {
        (action, resource)
        for item in statements("preview")
        for action in item["Action"]
        for resource in item["Resource"]
    }
    assert found == {
        ("s3:ListBucket", "arn:aws:s3:::pulumi-state"),
        ("s3:GetObject", "arn:aws:s3:::pulumi-state/.pulumi/*"),
        ("kms:Decrypt", KEY),
    }


def test_the_night_reads_what_a_deployment_reads_and_changes_nothing() -> None:
    """Prevents a nightly look that nobody approves and that could change something, or that misses what a deployment made."""
    reads = {
        action
        for action in ci_roles.actions(PLACE, "deploy")
        if action.partition(":")[2].startswith(("Describe", "Get", "List", "GET"))
    }
    found = ci_roles.actions(PLACE, "drift")
    assert found == reads | {"kms:Decrypt"}
    assert {"ec2:DescribeSecurityGroupRules", "apigateway:GET", "iam:GetRolePolicy", "s3:GetBucketPolicy"} <= found
    assert not {"secretsmanager:GetSecretValue", "kms:Encrypt", "s3:PutObject", "ecr:BatchGetImage"} & found
    objects = {arn for item in statements("drift") if "s3:GetObject" in item["Action"] for arn in item["Resource"]}
    assert objects == {"arn:aws:s3:::pulumi-state/.pulumi/*"}
    keys = {arn for item in statements("drift") if "kms:Decrypt" in item["Action"] for arn in item["Resource"]}
    assert keys == {KEY}


@pytest.mark.parametrize("stranger", ["another repository", "a branch that names the environment", "another workflow"])
def test_a_pull_request_in_the_same_environment_does_not_take_the_nights_role(stranger: str) -> None:
    """Prevents a pull request, whose environment nobody approves, from reading policies and rules of the account."""
    assert not may_take(ci_roles.trust(PLACE, "drift"), claims("drift", **STRANGERS[stranger]))
    assert not may_take(ci_roles.trust(PLACE, "drift"), claims("preview"))


@pytest.mark.parametrize("role", ci_roles.ROLES)
def test_actions_are_named_one_by_one_and_the_policies_fit(role: Role) -> None:
    """Prevents a wildcard that grants what AWS adds tomorrow, and a policy that IAM refuses for its length."""
    for name, made in ci_roles.policies(PLACE, role).items():
        assert len(json.dumps(made, separators=(",", ":"))) <= 6144, name
        assert len(name) <= 128
        for item in made["Statement"]:
            assert item["Effect"] == "Allow"
            assert set(item) <= {"Sid", "Effect", "Action", "Resource", "Condition"}
            assert not [action for action in item["Action"] if "*" in action]
    assert len(ci_roles.policies(PLACE, role)) <= 10  # IAM, 'IAM and AWS STS quotas'


def holders(action: str) -> set[str]:
    return {role for role in ci_roles.ROLES if action in ci_roles.actions(PLACE, role)}


def test_who_reads_passwords_and_dumps() -> None:
    """Prevents a deployment that could read what it has no use for."""
    assert holders("secretsmanager:GetSecretValue") == {"operator"}
    dumps = f"arn:aws:s3:::{PLACE.config.backup_bucket}/database/x"
    readers = {
        role
        for role in ci_roles.ROLES
        for item in statements(role)
        if "s3:GetObject" in item["Action"] and any(fnmatchcase(dumps, pattern) for pattern in item["Resource"])
    }
    assert readers == {"operator"}
    assert (
        holders("ecr:GetDownloadUrlForLayer")
        == holders("logs:GetLogEvents")
        == holders("logs:FilterLogEvents")
        == set()
    )


def test_what_is_granted_for_everything_shows_and_changes_no_value() -> None:
    """Prevents `*` where a resource can be named."""
    unnamed = {
        action
        for role in ci_roles.ROLES
        for item in statements(role)
        if "*" in item["Resource"]
        for action in item["Action"]
    }
    changing = {action for action in unnamed if not action.split(":")[1].startswith(("Describe", "List", "Get"))}
    assert changing == {
        *("ecs:DeregisterTaskDefinition", "kms:CreateKey", "kms:TagResource", "sns:Unsubscribe"),
        *("logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:PutResourcePolicy", "logs:UpdateLogDelivery"),
        *("logs:DeleteQueryDefinition", "logs:PutQueryDefinition"),
    }
    for item in statements("deploy"):
        if "kms:TagResource" in item["Action"] or "dms:AddTagsToResource" in item["Action"]:
            assert item["Condition"]["StringEquals"]["aws:RequestTag/Project"] == "task-migration"


def test_the_deploy_role_makes_no_role_that_may_do_more_than_the_boundary() -> None:
    """Prevents the way round every limit: make a role with any right, hand it to a task, and run one."""
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/ci-task-service-prod-boundary"
    for item in statements("deploy"):
        if {"iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"} & set(
            item["Action"]
        ):
            assert item["Condition"]["StringEquals"]["iam:PermissionsBoundary"] == boundary
        if "iam:PassRole" in item["Action"]:
            assert "*" not in str(item["Condition"]["StringEquals"]["iam:PassedToService"])
        for arn in item["Resource"] if any(action.startswith("iam:") for action in item["Action"]) else ():
            own = [f"arn:aws:iam::{ACCOUNT}:role/{PLACE.role_name(role)}" for role in ci_roles.ROLES]
            assert not [name for name in own if fnmatchcase(name, arn)], "it may change what the workflows may do"
    assert not {"iam:DeleteRolePermissionsBoundary", "iam:CreatePolicyVersion", "iam:CreateUser"} & ci_roles.actions(
        PLACE, "deploy"
    )
    assert holders("iam:CreateRole") == {"deploy"}


@pytest.mark.parametrize("engine", ["dms", "native"])
def test_the_programs_roles_bear_the_boundary_and_need_nothing_beyond_it(engine: str) -> None:
    """Prevents a boundary in which ECS cannot start a task, or DMS cannot read its secret."""
    declared = declare(
        "prod", replicationEngine=engine, dmsCreateAccountRoles=engine == "dms", permissionsBoundary=True
    )
    roles = declared.all("aws:iam/role:Role")
    assert len(roles) >= 3
    assert {role.inputs.get("permissionsBoundary") for role in roles} == {PLACE.naming.boundary_arn}
    allowed = {action for item in ci_roles.boundary(PLACE)["Statement"] for action in item["Action"]}
    for policy in declared.all("aws:iam/rolePolicy:RolePolicy"):
        for item in policy.json("policy")["Statement"]:
            assert set(item["Action"]) <= allowed, policy.name
    assert not [action for action in allowed if "*" in action or action.startswith(("iam:", "s3:", "sts:"))]


#: Made for boto3's clients by other names than the operation's.
HELPERS = {"upload_file": ("s3", "PutObject"), "download_file": ("s3", "GetObject")}
#: Services whose clients the commands make.
SERVICES = (
    "acm",
    "application-autoscaling",
    "cloudwatch",
    "dms",
    "ec2",
    "ecr",
    "ecs",
    "elbv2",
    "s3",
    "secretsmanager",
    "sns",
)
SIGNED_AS = {"elbv2": "elasticloadbalancing"}


def calls_of_the_commands() -> Iterator[str]:
    """The IAM action of each operation that a module of the commands names."""
    session = botocore.session.get_session()
    known: dict[str, set[tuple[str, str]]] = {name: {found} for name, found in HELPERS.items()}
    for service in SERVICES:
        for operation in session.get_service_model(service).operation_names:
            if service == "ec2" and operation in ("DescribeImages", "DescribeTags"):
                continue  # the registry's and the load balancer's, which are called alike
            known.setdefault(xform_name(operation), set()).add((service, operation))
    for path in sorted((PROJECT_ROOT / "scripts").rglob("*.py")):
        # The display of progress has a method that is named as one of ECS.
        # `init` runs before there are roles, with a person's credentials.
        if {"rehearsal", "init"} & set(path.parts) or path.name == "progress_display.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            named = (
                node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else None
            )
            if isinstance(named, str) and named in known:
                for service, operation in known[named]:
                    operation = {"ListObjectsV2": "ListBucket", "HeadObject": "GetObject"}.get(operation, operation)
                    yield f"{SIGNED_AS.get(service, service)}:{operation}"


#: What the operator has beside the calls of the commands, with the reason.
BESIDE: Mapping[str, str] = {
    "s3:AbortMultipartUpload": "boto3's upload of a large file that fails",
    "s3:DeleteObject": "Pulumi takes its lock away",
    "kms:Decrypt": "secrets, dumps and the stack's configuration are encrypted",
    "kms:Encrypt": "the stack's secrets",
    "kms:GenerateDataKey": "what is put into the bucket or sent to the topic is encrypted",
}


def test_the_operator_has_what_the_commands_call_and_nothing_else() -> None:
    """Fails when a command's new call ends a night with AccessDenied, or an action outlives its call."""
    called = set(calls_of_the_commands())
    assert "elasticloadbalancing:ModifyRule" in called
    assert ci_roles.actions(PLACE, "operator") - called == set(BESIDE)
    assert called - ci_roles.actions(PLACE, "operator") == set()


def test_the_services_of_the_commands_are_all_known() -> None:
    """Fails when a command makes a client whose calls the test above does not look for."""
    made = set()
    for path in (PROJECT_ROOT / "scripts").rglob("*.py"):
        if {"rehearsal", "init"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
                "client",
                "_client",
                "aws",
            ):
                made |= {item.value for item in node.args[:1] if isinstance(item, ast.Constant)}
    # Who a caller is may be asked by anybody (AWS STS, 'GetCallerIdentity').
    assert made - {"iam", "sts"} <= set(SERVICES)
    assert set(SERVICES) <= set(boto3.session.Session().get_available_services())


def test_only_the_live_rule_can_be_moved_by_the_operator() -> None:
    (rule,) = [item for item in statements("operator") if "elasticloadbalancing:ModifyRule" in item["Action"]]
    assert rule["Resource"] == [FILLED["listenerArn"].replace(":listener/", ":listener-rule/") + "/*"]
    name = declare("prod").one("aws:lb/listenerRule:ListenerRule", "routes-live-rule").inputs["tags"]["Name"]
    assert rule["Condition"] == {"StringEquals": {"aws:ResourceTag/Name": name}}


def test_the_deploy_role_ends_the_one_secret_that_is_made_anew_and_no_other() -> None:
    """Fails when `replicationEngine: none` is refused half-way, or a deployment could end the service's or the operator's password."""
    ends = [item for item in statements("deploy") if "secretsmanager:DeleteSecret" in item["Action"]]
    assert [(item["Action"], item["Resource"]) for item in ends] == [
        (
            ["secretsmanager:DeleteSecret"],
            [f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:task-service/replication-*"],
        )
    ]
