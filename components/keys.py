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
    opts: pulumi.ResourceOptions,
) -> aws.kms.Key:
    """Declare a key that rotates each year, and ``alias/<prefix>-<component>``.

    Args:
        users: further statements of the key policy, for AWS services that use the key in their own name.
        opts: options of both; with ``protect`` the key stays as long as what it encrypts must stay readable.
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
        opts=opts,
    )
    aws.kms.Alias(f"{name}-key-alias", name=f"alias/{alias}", target_key_id=key.key_id, opts=opts)
    return key
