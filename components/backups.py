"""The bucket of the database backups (docs/plan.md, 'Step 0')."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.buckets import private_bucket
from components.component import Component
from components.naming import Naming

DUMP_PREFIX = "database/"


@dataclass(frozen=True)
class BackupsArgs:
    """Arguments of :class:`Backups`."""

    naming: Naming
    bucket: pulumi.Input[str]


class Backups(Component):
    """A versioned, private bucket that takes requests over TLS only, and objects under its own key only."""

    component = "backups"
    bucket: pulumi.Output[str]
    arn: pulumi.Output[str]

    def __init__(self, name: str, args: BackupsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, args.naming, opts)
        bucket = private_bucket(self, name, bucket=args.bucket, purpose="Backups of the monolith's database")
        self._declare_lifecycle(name, bucket)
        self.bucket = bucket.bucket
        self.arn = bucket.arn
        self.declared()

    def _declare_lifecycle(self, name: str, bucket: aws.s3.Bucket) -> None:
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=bucket.bucket,
            rules=[
                aws.s3.BucketLifecycleConfigurationRuleArgs(
                    id="dumps",
                    status="Enabled",
                    filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=DUMP_PREFIX),
                    transitions=[
                        aws.s3.BucketLifecycleConfigurationRuleTransitionArgs(days=30, storage_class="STANDARD_IA"),
                        aws.s3.BucketLifecycleConfigurationRuleTransitionArgs(days=90, storage_class="GLACIER_IR"),
                    ],
                    expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(days=365),
                    noncurrent_version_expiration=aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
                        noncurrent_days=90
                    ),
                    abort_incomplete_multipart_upload=aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                        days_after_initiation=7
                    ),
                )
            ],
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )
