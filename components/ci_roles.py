"""What the workflows may do in the account: four roles an environment, whom each trusts, and its actions one by one.

An administrator makes them (`task-migration ci-roles`), not the program: a role that may change itself is no limit. Their
names are outside of ``naming.prefix``, which is all that the deploy role may touch in IAM. Pure data.
"""

from __future__ import annotations

import re
from typing import Any

from components.ci_boundary import boundary
from components.ci_deploy import deploy
from components.ci_place import Place, Role, document, state, tagged, via, words
from components.naming import (
    ALARM_TOPIC,
    DATABASE_PASSWORD_SECRET,
    OPERATOR_SECRET,
    REPLICATION_SECRET,
    REPOSITORY_NAME,
    SERVICE_NAME,
)
from components.policies import statement

__all__ = ["ISSUER", "ROLES", "Place", "Role", "actions", "boundary", "policies", "trust"]
ROLES: tuple[Role, ...] = ("preview", "deploy", "operator", "drift")
ISSUER = "token.actions.githubusercontent.com"
#: The workflow that takes each role, and the GitHub environment that it has to run in: the stack's name and this.
WORKFLOWS: dict[Role, tuple[str, str]] = {
    "preview": ("preview.yml", "-preview"),
    "deploy": ("deploy.yml", ""),
    "operator": ("canary.yml", ""),
    "drift": ("drift.yml", "-preview"),
}

#: Actions that show what is there. The deploy role, from which they are picked, reads no value and no object but Pulumi's state.
_READS = re.compile(r"apigateway:GET|\w[\w-]*:(?:Describe|Get|List)\w+")


def trust(place: Place, role: Role) -> dict[str, Any]:
    """Who may take the role: one workflow of the repository, in one environment; what changes anything, from one branch.

    ``sub`` of a job with an environment names that environment alone, so the branch and the workflow are claims of their own
    (IAM, 'Available keys for AWS OIDC federation'; GitHub, 'OpenID Connect reference').
    """
    workflow, suffix = WORKFLOWS[role]
    claims = {
        "aud": "sts.amazonaws.com",
        "sub": f"repo:{place.repository}:environment:{place.config.environment}{suffix}",
    }
    if role != "preview":  # a pull request's reference is its own: refs/pull/7/merge
        claims["ref"] = f"refs/heads/{place.branch}"
        claims["job_workflow_ref"] = f"{place.repository}/.github/workflows/{workflow}@refs/heads/{place.branch}"
    provider = f"arn:{place.naming.partition}:iam::{place.naming.account}:oidc-provider/{ISSUER}"
    return document(
        [
            {
                "Effect": "Allow",
                "Principal": {"Federated": provider},
                "Action": ["sts:AssumeRoleWithWebIdentity"],
                "Condition": {"StringEquals": {f"{ISSUER}:{claim}": value for claim, value in sorted(claims.items())}},
            }
        ]
    )


def policies(place: Place, role: Role) -> dict[str, dict[str, Any]]:
    """The role's managed policies, by name; one takes 6,144 characters (IAM, 'IAM and AWS STS quotas')."""
    made = {"preview": _preview, "deploy": deploy, "operator": _operator, "drift": _drift}[role](place)
    return {f"{place.role_name(role)}-{part}": document(statements) for part, statements in made.items()}


def actions(place: Place, role: Role) -> frozenset[str]:
    """Every action that the role has."""
    statements = (item for made in policies(place, role).values() for item in made["Statement"])
    return frozenset(action for item in statements for action in item["Action"])


def _preview(place: Place) -> dict[str, list[dict[str, Any]]]:
    """State and configuration, nothing of AWS: the program asks nothing, and the preview refreshes nothing."""
    return {"state": state(place, writes=False)}


def _drift(place: Place) -> dict[str, list[dict[str, Any]]]:
    """What a deployment describes and gets, and nothing of what it changes: a refresh reads each resource, a preview locks nothing."""
    found = {
        part: [
            {**item, "Action": reads}
            for item in statements
            if (reads := [action for action in item["Action"] if _READS.fullmatch(action)])
        ]
        for part, statements in deploy(place).items()
    }
    found["state"] = [*state(place, writes=False), *(item for item in found["state"] if item["Sid"] == "Looks")]
    return {part: statements for part, statements in found.items() if statements}


def _operator(place: Place) -> dict[str, list[dict[str, Any]]]:
    """The commands of a night, and one deployment that changes the live rule."""
    naming, config = place.naming, place.config
    cluster = config.cluster_arn.rsplit("/", 1)[-1]
    rules = config.listener_arn.replace(":listener/", ":listener-rule/") + "/*"
    live = {"StringEquals": {"aws:ResourceTag/Name": f"{naming.prefix}-live"}}
    master = {
        "StringEquals": {
            "secretsmanager:ResourceTag/aws:rds:primaryDBInstanceArn": naming.arn("rds", f"db:{naming.prefix}")
        }
    }
    statements = [
        *state(place, writes=True),
        statement("LiveRule", words("elasticloadbalancing", "ModifyRule"), [rules], condition=live),
        # None of these knows a resource (AWS, 'Service Authorization Reference').
        statement(
            "Looks",
            [
                *words("elasticloadbalancing", "DescribeRules DescribeTags DescribeTargetHealth"),
                *words("cloudwatch", "GetMetricData GetMetricStatistics"),
                *words(
                    "ec2",
                    "DescribeRouteTables DescribeSecurityGroupRules DescribeSecurityGroups DescribeSubnets DescribeVpcEndpoints",
                ),
                *words(
                    "dms", "DescribeConnections DescribeEndpoints DescribeReplicationInstances DescribeReplicationTasks"
                ),
            ],
            ["*"],
        ),
        statement(
            "Service",
            words("ecs", "DescribeServices UpdateService"),
            place.arns("ecs", f"service/{cluster}/{SERVICE_NAME}"),
        ),
        # Why a task does not start. A list knows no resource but the cluster's instances, which Fargate has none of.
        statement("Tasks", words("ecs", "DescribeTasks"), place.arns("ecs", f"task/{cluster}/*")),
        statement(
            "TaskList", words("ecs", "ListTasks"), ["*"], condition={"ArnEquals": {"ecs:cluster": config.cluster_arn}}
        ),
        statement(
            "Scaling",
            words("application-autoscaling", "RegisterScalableTarget"),
            place.arns("application-autoscaling", "scalable-target/*"),
        ),
        statement(
            "Replication",
            words(
                "dms",
                "DeleteReplicationTask DescribeTableStatistics StartReplicationTask StopReplicationTask TestConnection",
            ),
            place.arns("dms", "task:*", "rep:*", "endpoint:*"),
            condition=tagged(place),
        ),
        statement("Notices", words("sns", "Publish"), place.arns("sns", ALARM_TOPIC)),
        statement(
            "Passwords",
            words("secretsmanager", "GetSecretValue"),
            [
                # That of replication too: its role gets the password that AWS DMS reads there.
                *filter(None, (config.source_operator_secret_arn, config.source_secret_arn)),
                *place.arns(
                    "secretsmanager",
                    *(f"secret:{name}-*" for name in (DATABASE_PASSWORD_SECRET, OPERATOR_SECRET, REPLICATION_SECRET)),
                ),
            ],
        ),
        # By `schema role --operator`, which alone reads the master's password, and `--replication`.
        statement(
            "NewPasswords",
            words("secretsmanager", "PutSecretValue"),
            place.arns("secretsmanager", *(f"secret:{name}-*" for name in (OPERATOR_SECRET, REPLICATION_SECRET))),
        ),
        statement(
            "MasterPassword",
            words("secretsmanager", "GetSecretValue"),
            place.arns("secretsmanager", "secret:rds!db-*"),
            condition=master,
        ),
        statement(
            "PasswordKeys",
            words("kms", "Decrypt GenerateDataKey"),
            place.arns("kms", "key/*"),
            condition=via(place, "secretsmanager"),
        ),
        statement(
            "Lists",
            words("s3", "ListBucket"),
            [*place.bucket(config.backup_bucket), *place.bucket(config.state_bucket)],
        ),
        statement(
            "Backup",
            words("s3", "AbortMultipartUpload GetObject PutObject"),
            place.bucket(config.backup_bucket, "database/*"),
        ),
        # Apart from the dumps, which it vouches for; the bucket itself refuses a second object of one name.
        statement("Journal", words("s3", "GetObject PutObject"), place.bucket(config.state_bucket, "*")),
        statement("BackupKey", words("kms", "GenerateDataKey"), place.arns("kms", "key/*"), condition=via(place, "s3")),
        statement("BackupKeyRead", words("kms", "Decrypt"), place.arns("kms", "key/*"), condition=via(place, "s3")),
        statement(
            "TopicKey", words("kms", "Decrypt GenerateDataKey"), place.arns("kms", "key/*"), condition=via(place, "sns")
        ),
    ]
    # `preflight --account`; none of these knows a resource.
    looks = [
        *words("acm", "DescribeCertificate"),
        *words(
            "elasticloadbalancing",
            "DescribeListenerCertificates DescribeListeners DescribeLoadBalancers DescribeTargetGroupAttributes DescribeTargetGroups",
        ),
    ]
    account = [
        statement("Account", looks, ["*"]),
        statement("Images", words("ecr", "DescribeImages"), place.arns("ecr", f"repository/{REPOSITORY_NAME}")),
        # Whether a secret has a value, not which.
        statement(
            "Secrets",
            words("secretsmanager", "DescribeSecret"),
            place.arns("secretsmanager", f"secret:{SERVICE_NAME}/*"),
        ),
    ]
    return {"commands": statements, "account": account}
