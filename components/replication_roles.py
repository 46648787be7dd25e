"""The roles that AWS DMS takes: one to read the two databases' secrets, and the two that it looks up in the account."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.naming import DMS_ROLES
from components.policies import document, read_secret, statement
from components.roles import service_role


def declare_access_role(
    owner: Component, name: str, *, source_secret_arn: pulumi.Input[str], target_secret_arn: pulumi.Input[str]
) -> tuple[aws.iam.Role, aws.iam.RolePolicy]:
    """Declare the role by which the endpoints read their secrets, for DMS of this account and region alone."""
    role = service_role(
        owner,
        f"{name}-secrets-role",
        f"{owner.naming.prefix}-dms-secrets",
        # The regional principal (AWS DMS, 'Using secrets to access AWS Database Migration Service endpoints').
        service=f"dms.{owner.naming.region}.amazonaws.com",
        source_arn=owner.naming.arn("dms", "*"),
        description="DMS reads the two database secrets",
    )
    policy = aws.iam.RolePolicy(
        f"{name}-secrets-policy",
        name="read-database-secrets",
        role=role.name,
        policy=document(
            *read_secret(owner.naming, "Source", source_secret_arn),
            *read_secret(owner.naming, "Target", target_secret_arn),
            # It looks at the keys too (same page), which no encryption context binds, and which shows no content.
            statement("Keys", ["kms:DescribeKey"], [owner.naming.arn("kms", "key/*")]),
        ),
        opts=owner.child,
    )
    return role, policy


def declare_account_roles(owner: Component, name: str) -> list[pulumi.Resource]:
    """Declare the two roles that DMS looks up by fixed names, once per account (AWS DMS, 'Creating the IAM roles').

    They serve DMS in each region of the account, so any region is in their condition (AWS DMS, 'Cross-service confused
    deputy prevention').
    """
    attachments: list[pulumi.Resource] = []
    anywhere = f"arn:{owner.naming.partition}:dms:*:{owner.naming.account}:*"
    for role_name, policy in zip(DMS_ROLES, ("AmazonDMSVPCManagementRole", "AmazonDMSCloudWatchLogsRole"), strict=True):
        role = service_role(
            owner,
            f"{name}-{role_name}",
            role_name,
            service="dms.amazonaws.com",
            source_arn=anywhere,
            description="AWS DMS, account-wide",
        )
        attachments.append(
            aws.iam.RolePolicyAttachment(
                f"{name}-{role_name}-policy",
                role=role.name,
                policy_arn=owner.naming.managed_policy(f"service-role/{policy}"),
                opts=owner.child,
            )
        )
    return attachments
