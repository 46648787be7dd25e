"""A secret that is declared without a value: who knows it puts it in, so that it is in no state and no plan."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from components.component import Component

#: Days for which a deleted secret can be restored, and its name is taken; the least (Secrets Manager, 'DeleteSecret').
RECOVERY_DAYS = 7


def declare_secret(
    owner: Component,
    name: str,
    secret: str,
    *,
    key_arn: pulumi.Input[str],
    description: str,
    recovery_days: int = RECOVERY_DAYS,
) -> aws.secretsmanager.Secret:
    """Declare ``secret``, under a key of the stack; with ``recovery_days`` 0 it is gone at once, and its name free."""
    return aws.secretsmanager.Secret(
        name,
        name=secret,
        description=description,
        kms_key_id=key_arn,
        recovery_window_in_days=recovery_days,
        tags=owner.tags(secret),
        opts=owner.child,
    )
