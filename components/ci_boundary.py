"""The roles that the deploy role may make, and the most that any of them may do. Pure data."""

from __future__ import annotations

from typing import Any

from components.ci_place import Place, document, words
from components.naming import DMS_ROLES, MANAGED_POLICIES, REPOSITORY_NAME, SERVICE_NAME
from components.policies import statement

#: Services that AWS lets make their own linked role in the name of who first uses them.
LINKED_ROLES = (
    "ecs.amazonaws.com",
    "ecs.application-autoscaling.amazonaws.com",
    "ops.apigateway.amazonaws.com",
    "rds.amazonaws.com",
)
#: Services that the program's roles are handed to.
PASSED_TO = ("ecs-tasks.amazonaws.com", "monitoring.rds.amazonaws.com")


def makes_roles(place: Place) -> list[dict[str, Any]]:
    """The program's own roles, all under one boundary: without it a role that the deploy role makes could do anything."""
    naming = place.naming
    base = f"arn:{naming.partition}:iam::{naming.account}:"
    roles = [f"{base}role/{name}" for name in (f"{naming.prefix}-*", *DMS_ROLES)]
    bounded = {"StringEquals": {"iam:PermissionsBoundary": naming.boundary_arn}}
    return [
        statement(
            "Roles",
            words(
                "iam",
                "DeleteRole DeleteRolePolicy DetachRolePolicy GetRole GetRolePolicy ListAttachedRolePolicies "
                "ListInstanceProfilesForRole ListRolePolicies TagRole UntagRole UpdateAssumeRolePolicy UpdateRole",
            ),
            roles,
        ),
        statement(
            "RolesBounded",
            words("iam", "CreateRole PutRolePermissionsBoundary PutRolePolicy"),
            roles,
            condition=bounded,
        ),
        statement(
            "RolesManaged",
            words("iam", "AttachRolePolicy"),
            roles,
            condition={
                **bounded,
                "ArnEquals": {
                    "iam:PolicyARN": [naming.managed_policy(f"service-role/{name}") for name in MANAGED_POLICIES]
                },
            },
        ),
        statement(
            "RolesHanded",
            words("iam", "PassRole"),
            roles,
            condition={"StringEquals": {"iam:PassedToService": [*PASSED_TO, f"dms.{naming.region}.amazonaws.com"]}},
        ),
        statement(
            "LinkedRoles",
            words("iam", "CreateServiceLinkedRole"),
            [f"{base}role/aws-service-role/*"],
            condition={"StringEquals": {"iam:AWSServiceName": [*LINKED_ROLES]}},
        ),
    ]


def boundary(place: Place) -> dict[str, Any]:
    """The most that any role of the program may do, whatever its own policy says."""
    secrets = [place.config.source_secret_arn, *place.arns("secretsmanager", f"secret:{SERVICE_NAME}/*")]
    return document(
        [
            statement("Secrets", words("secretsmanager", "DescribeSecret GetSecretValue"), secrets),
            statement("Keys", words("kms", "Decrypt DescribeKey"), place.arns("kms", "key/*")),
            statement("RegistryToken", words("ecr", "GetAuthorizationToken"), ["*"]),
            statement(
                "Image",
                words("ecr", "BatchCheckLayerAvailability BatchGetImage GetDownloadUrlForLayer"),
                place.arns("ecr", f"repository/{REPOSITORY_NAME}"),
            ),
            statement(
                "Logs",
                words(
                    "logs",
                    "CreateLogGroup CreateLogStream DescribeLogGroups DescribeLogStreams GetLogEvents PutLogEvents "
                    "PutRetentionPolicy",
                ),
                place.arns("logs", "log-group:*"),
            ),
            # DMS's network interfaces (AmazonDMSVPCManagementRole).
            statement(
                "Network",
                words(
                    "ec2",
                    "CreateNetworkInterface DeleteNetworkInterface DescribeAvailabilityZones DescribeInternetGateways "
                    "DescribeSecurityGroups DescribeSubnets DescribeVpcs ModifyNetworkInterfaceAttribute",
                ),
                ["*"],
            ),
        ]
    )
