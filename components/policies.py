"""IAM policy documents. Grants name their actions one by one; a test refuses a wildcard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from components.naming import Naming

Condition = Mapping[str, Mapping[str, pulumi.Input[Any]]]

#: What administers and uses a key. AWS KMS, 'Default key policy', grants the account everything by a wildcard; this
#: list is what deploying, encrypting and restoring need. PutKeyPolicy must be in it, or AWS refuses a policy that
#: would lock its own author out.
KEY_ACTIONS = (
    "kms:CancelKeyDeletion",
    "kms:CreateAlias",
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DeleteAlias",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:DisableKeyRotation",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GetKeyPolicy",
    "kms:GetKeyRotationStatus",
    "kms:ListAliases",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListResourceTags",
    "kms:PutKeyPolicy",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:RevokeGrant",
    "kms:ScheduleKeyDeletion",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
)


def statement(
    sid: str,
    actions: Sequence[str],
    resources: Sequence[pulumi.Input[str]],
    *,
    effect: str = "Allow",
    principal: Mapping[str, Any] | str | None = None,
    condition: Condition | None = None,
) -> dict[str, Any]:
    """One statement of a policy."""
    body: dict[str, Any] = {"Sid": sid, "Effect": effect, "Action": list(actions), "Resource": list(resources)}
    if principal is not None:
        body["Principal"] = principal
    if condition is not None:
        body["Condition"] = condition
    return body


def document(*statements: Mapping[str, Any]) -> pulumi.Output[str]:
    """A policy document as JSON with sorted keys, so that equal policies are equal texts."""
    return pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": list(statements)}, sort_keys=True)


def bound(naming: Naming, source_arn: pulumi.Input[str]) -> Condition:
    """The condition that an AWS service acts for this account, on things that ``source_arn`` (with ``*``) names.

    Without it a service that is told to by a stranger uses our role or topic for him (IAM, 'The confused deputy problem').
    """
    return {"StringEquals": {"aws:SourceAccount": naming.account}, "ArnLike": {"aws:SourceArn": source_arn}}


def trust(service: str, condition: Condition) -> pulumi.Output[str]:
    """The policy that lets an AWS service take a role under ``condition``, see :func:`bound`."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": ["sts:AssumeRole"],
            "Condition": condition,
        }
    )


def read_secret(naming: Naming, sid: str, secret_arn: pulumi.Input[str]) -> list[dict[str, Any]]:
    """Statements to read one secret, whichever key encrypts it.

    The key of a secret that exists already is not known here, so decryption is bound to the secret instead: only
    through Secrets Manager, and only with this secret as the encryption context (AWS Secrets Manager, 'Secret
    encryption and decryption'). Secrets under the AWS managed key need no such grant.
    """
    return [
        statement(sid, ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], [secret_arn]),
        statement(
            f"{sid}Key",
            ["kms:Decrypt"],
            [naming.arn("kms", "key/*")],
            condition={
                "StringEquals": {
                    "kms:ViaService": f"secretsmanager.{naming.region}.amazonaws.com",
                    "kms:EncryptionContext:SecretARN": secret_arn,
                }
            },
        ),
    ]
