"""One private bucket: versioned, under a declared key and no other, over TLS only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.keys import encryption_key
from components.policies import document, statement

#: What a request says about encryption; absent where it leaves that to the bucket, whose default is the declared key.
_HOW = "s3:x-amz-server-side-encryption"
_KEY = f"{_HOW}-aws-kms-key-id"
_CUSTOMER = f"{_HOW}-customer-algorithm"


def private_bucket(
    owner: Component,
    name: str,
    *,
    bucket: pulumi.Input[str],
    purpose: str,
    refused: tuple[Mapping[str, Any], ...] = (),
    object_lock: bool = False,
) -> aws.s3.Bucket:
    """Declare a bucket and its key. Both outlive the program, with all that guards the bucket: dumps and evidence are what is
    left of a stack that was taken down (docs/runbook.md, 'Taking a stack down').

    Args:
        refused: what the bucket refuses beside plain HTTP and other keys: sid, actions on its objects, condition.
        object_lock: made with Object Lock, which can be asked for at creation only (Amazon S3, 'Object Lock considerations').
    """
    child = pulumi.ResourceOptions(parent=owner, retain_on_delete=True)
    key = encryption_key(owner, name, purpose=purpose, kept=True)
    made = aws.s3.Bucket(
        f"{name}-bucket",
        bucket=bucket,
        force_destroy=False,
        object_lock_enabled=True if object_lock else None,
        tags=owner.tags(owner.component),
        opts=pulumi.ResourceOptions(parent=owner, protect=owner.naming.protected, retain_on_delete=True),
    )
    aws.s3.BucketVersioning(
        f"{name}-versioning",
        bucket=made.bucket,
        versioning_configuration=aws.s3.BucketVersioningVersioningConfigurationArgs(status="Enabled"),
        opts=child,
    )
    aws.s3.BucketServerSideEncryptionConfiguration(
        f"{name}-encryption",
        bucket=made.bucket,
        rules=[
            aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                apply_server_side_encryption_by_default=aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                    sse_algorithm="aws:kms", kms_master_key_id=key.arn
                ),
                bucket_key_enabled=True,
                # What S3 does of itself with a new bucket; left out, the provider shows it as a difference for ever.
                blocked_encryption_types=["SSE-C"],
            )
        ],
        opts=child,
    )
    aws.s3.BucketOwnershipControls(
        f"{name}-ownership",
        bucket=made.bucket,
        rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
        opts=child,
    )
    private = aws.s3.BucketPublicAccessBlock(
        f"{name}-public-access-block",
        bucket=made.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=child,
    )
    objects = pulumi.Output.concat(made.arn, "/*")
    aws.s3.BucketPolicy(
        f"{name}-policy",
        bucket=made.bucket,
        # A refusal is as wide as it can be, what AWS adds tomorrow included (Amazon S3, 'Security best practices');
        # only grants name their actions one by one.
        policy=document(
            _refusal("TlsOnly", ["s3:*"], [made.arn, objects], {"Bool": {"aws:SecureTransport": "false"}}),
            # `aws:kms` without a key means AWS's own key, not the bucket's (Amazon S3, 'Specifying server-side encryption with AWS KMS').
            _refusal(
                "KeyNamed", ["s3:PutObject"], [objects], {"StringEquals": {_HOW: "aws:kms"}, "Null": {_KEY: "true"}}
            ),
            _refusal(
                "NoOtherKey", ["s3:PutObject"], [objects], {"StringNotEquals": {_KEY: key.arn}, "Null": {_KEY: "false"}}
            ),
            _refusal(
                "NoOtherWay",
                ["s3:PutObject"],
                [objects],
                {"StringNotEquals": {_HOW: "aws:kms"}, "Null": {_HOW: "false"}},
            ),
            _refusal("NoKeyOfACustomer", ["s3:PutObject"], [objects], {"Null": {_CUSTOMER: "false"}}),
            *(_refusal(one["sid"], one["actions"], [objects], one.get("condition")) for one in refused),
        ),
        opts=pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[private])),
    )
    return made


def _refusal(
    sid: str, actions: list[str], resources: list[pulumi.Input[str]], condition: Mapping[str, Any] | None
) -> dict[str, Any]:
    return statement(sid, actions, resources, effect="Deny", principal="*", condition=condition)
