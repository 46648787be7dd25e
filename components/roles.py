"""Roles that AWS's services take for this stack."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.naming import Naming
from components.policies import bound, trust


def service_role(
    name: str,
    role_name: str,
    *,
    naming: Naming,
    component: str,
    service: str,
    source_arn: pulumi.Input[str],
    description: str,
    opts: pulumi.ResourceOptions,
) -> aws.iam.Role:
    """Declare a role for ``service`` of this account, acting on what ``source_arn`` names, within the stack's boundary."""
    return aws.iam.Role(
        name,
        name=role_name,
        description=description,
        assume_role_policy=trust(service, bound(naming, source_arn)),
        permissions_boundary=naming.boundary_arn if naming.bounded else None,
        tags=naming.tags(component, role_name),
        opts=opts,
    )
