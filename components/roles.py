"""Roles that AWS's services take for this stack."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.policies import bound, trust


def service_role(
    owner: Component, name: str, role_name: str, *, service: str, source_arn: pulumi.Input[str], description: str
) -> aws.iam.Role:
    """Declare a role for ``service`` of this account, acting on what ``source_arn`` names, within the stack's boundary."""
    return aws.iam.Role(
        name,
        name=role_name,
        description=description,
        assume_role_policy=trust(service, bound(owner.naming, source_arn)),
        permissions_boundary=owner.naming.boundary_arn if owner.naming.bounded else None,
        tags=owner.tags(role_name),
        opts=owner.child,
    )
