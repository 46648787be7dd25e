"""The bucket of the journal and the decisions, apart from the dumps: who may write those must not be believed about them."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.buckets import private_bucket
from components.component import Component
from components.naming import Naming


@dataclass(frozen=True)
class StateArgs:
    """Arguments of :class:`State`."""

    naming: Naming
    bucket: pulumi.Input[str]
    #: Days for which Object Lock keeps each object from everybody; 0: only the policy does.
    lock_days: int


class State(Component):
    """A private bucket to which objects are only ever added: no name twice, no deletion, and Object Lock for some days."""

    component = "state"
    bucket: pulumi.Output[str]
    arn: pulumi.Output[str]

    def __init__(self, name: str, args: StateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, args.naming, opts)
        bucket = private_bucket(
            self,
            name,
            bucket=args.bucket,
            purpose="Journal and decisions of the migration",
            refused=(
                # Amazon S3, 'Enforce conditional writes on Amazon S3 buckets'.
                {
                    "sid": "NewNamesOnly",
                    "actions": ["s3:PutObject"],
                    "condition": {"Null": {"s3:if-none-match": "true"}},
                },
                {
                    "sid": "NothingGoes",
                    "actions": ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"],
                },
            ),
            object_lock=True,
        )
        if args.lock_days:
            aws.s3.BucketObjectLockConfiguration(
                f"{name}-lock",
                bucket=bucket.bucket,
                rule=aws.s3.BucketObjectLockConfigurationRuleArgs(
                    default_retention=aws.s3.BucketObjectLockConfigurationRuleDefaultRetentionArgs(
                        mode="GOVERNANCE", days=args.lock_days
                    )
                ),
                opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
            )
        self.bucket = bucket.bucket
        self.arn = bucket.arn
        self.declared()
