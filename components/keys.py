"""One customer managed KMS key with its alias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from components.naming import Naming
from components.policies import KEY_ACTIONS, document, statement


def encryption_key(
    name: str,
    *,
    naming: Naming,
    component: str,
    purpose: str,
    users: tuple[Mapping[str, Any], ...] = (),
    kept: bool = False,
    opts: pulumi.ResourceOptions,
) -> aws.kms.Key:
    """Declare a key that rotates each year, and ``alias/<prefix>-<component>``.

    Args:
        users: further statements of the key policy, for AWS services that use the key in their own name.
        kept: the key stays, and enabled, when the program drops it: what outlives the program is encrypted with it.
        opts: options of both.
    """
    alias = f"{naming.prefix}-{component}"
    key = aws.kms.Key(
        f"{name}-key",
        description=f"{purpose} ({naming.prefix})",
        enable_key_rotation=True,
        deletion_window_in_days=30,
        policy=document(
            statement("Account", KEY_ACTIONS, ["*"], principal={"AWS": naming.root_principal}),
            *users,
        ),
        tags=naming.tags(component, alias),
        opts=pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(protect=naming.protected, retain_on_delete=True) if kept else None
        ),
    )
    aws.kms.Alias(f"{name}-key-alias", name=f"alias/{alias}", target_key_id=key.key_id, opts=opts)
    return key
