"""Security groups: one helper for a group, one for a permitted way from a group to a group."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.component import Component


def security_group(
    owner: Component, name: str, *, vpc_id: pulumi.Input[str], purpose: str, whose: str | None = None
) -> aws.ec2.SecurityGroup:
    """Declare a group without rules: nothing in, nothing out, until :func:`permit` opens a way. It is called by its component,
    or by ``whose`` it is."""
    group_name = f"{owner.naming.prefix}-{whose or owner.component}"
    return aws.ec2.SecurityGroup(
        f"{name}-security-group",
        name=group_name,
        description=purpose,
        vpc_id=vpc_id,
        tags=owner.tags(group_name),
        opts=owner.child,
    )


def permit(
    owner: Component, name: str, *, origin: pulumi.Input[str], destination: pulumi.Input[str], port: int, purpose: str
) -> None:
    """Declare TCP from group ``origin`` to ``port`` of group ``destination``, on both groups.

    Rules are resources of their own, so that the groups that exist already (load balancer, source database) gain one
    rule and lose exactly it again; nothing else in them is touched.
    """
    aws.vpc.SecurityGroupEgressRule(
        f"{name}-egress",
        security_group_id=origin,
        referenced_security_group_id=destination,
        ip_protocol="tcp",
        from_port=port,
        to_port=port,
        description=purpose,
        tags=owner.tags(f"{name}-egress"),
        opts=owner.child,
    )
    aws.vpc.SecurityGroupIngressRule(
        f"{name}-ingress",
        security_group_id=destination,
        referenced_security_group_id=origin,
        ip_protocol="tcp",
        from_port=port,
        to_port=port,
        description=purpose,
        tags=owner.tags(f"{name}-ingress"),
        opts=owner.child,
    )


def permit_https(owner: Component, name: str, *, origin: pulumi.Input[str], purpose: str) -> None:
    """Declare HTTPS from group ``origin`` to anywhere: AWS's API endpoints have no security group to name."""
    aws.vpc.SecurityGroupEgressRule(
        f"{name}-https-egress",
        security_group_id=origin,
        cidr_ipv4="0.0.0.0/0",
        ip_protocol="tcp",
        from_port=443,
        to_port=443,
        description=purpose,
        tags=owner.tags(f"{name}-https-egress"),
        opts=owner.child,
    )
