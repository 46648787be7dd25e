"""One customer managed KMS key with its alias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.policies import KEY_ACTIONS, document, statement


def encryption_key(
    owner: Component, name: str, *, purpose: str, users: tuple[Mapping[str, Any], ...] = (), kept: bool = False
) -> aws.kms.Key:
    """Declare a key that rotates each year, and ``alias/<prefix>-<component>``.

    Args:
        users: further statements of the key policy, for AWS services that use the key in their own name.
        kept: the key stays, and enabled, when the program drops it: what outlives the program is encrypted with it.
    """
    alias = f"{owner.naming.prefix}-{owner.component}"
    key = aws.kms.Key(
        f"{name}-key",
        description=f"{purpose} ({owner.naming.prefix})",
        enable_key_rotation=True,
        deletion_window_in_days=30,
        policy=document(
            statement("Account", KEY_ACTIONS, ["*"], principal={"AWS": owner.naming.root_principal}),
            *users,
        ),
        tags=owner.tags(alias),
        opts=pulumi.ResourceOptions.merge(
            owner.child, pulumi.ResourceOptions(protect=owner.naming.protected, retain_on_delete=True) if kept else None
        ),
    )
    aws.kms.Alias(f"{name}-key-alias", name=f"alias/{alias}", target_key_id=key.key_id, opts=owner.child)
    return key
