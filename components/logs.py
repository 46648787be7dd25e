"""Log groups: each is declared before what writes it, kept for a time, and encrypted.

A group that AWS makes itself when the first line comes (RDS, DMS) keeps every line for ever, under no key of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.keys import encryption_key
from components.naming import API_LOG_GROUP, DATABASE_EXPORTS, DMS_LOG_GROUP, Naming
from components.policies import statement


@dataclass(frozen=True)
class LogsArgs:
    """Arguments of :class:`Logs`."""

    naming: Naming


class Logs(Component):
    """The key of the logs of database, API and DMS; CloudWatch Logs may use it for these groups and no other. And DMS's group,
    whichever engine replicates: the log of a replication is still read when DMS is gone.
    """

    component = "logs"
    key_arn: pulumi.Output[str]
    dms_group: aws.cloudwatch.LogGroup

    def __init__(self, name: str, args: LogsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, args.naming, opts)
        groups = [*map(self.naming.database_log_group, DATABASE_EXPORTS), API_LOG_GROUP, DMS_LOG_GROUP]
        key = encryption_key(
            self, name, purpose="Logs of database, API and DMS", users=(use_for_logs(self.naming, groups),)
        )
        self.key_arn = key.arn
        self.dms_group = log_group(self, f"{name}-dms", DMS_LOG_GROUP, key_arn=key.arn)
        self.declared()


def use_for_logs(naming: Naming, groups: Sequence[str]) -> Mapping[str, Any]:
    """The statement of a key's policy by which CloudWatch Logs encrypts these groups.

    The group is the encryption context, and its ARN has region and account, so it stands for aws:SourceAccount too
    (CloudWatch Logs, 'Encrypt log data in CloudWatch Logs using AWS Key Management Service').
    """
    actions = ("Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "ReEncryptFrom", "ReEncryptTo")
    arns = [naming.arn("logs", f"log-group:{group}") for group in groups]
    return statement(
        "Logs",
        [f"kms:{action}" for action in actions],
        ["*"],
        principal={"Service": f"logs.{naming.region}.amazonaws.com"},
        condition={"ArnEquals": {"kms:EncryptionContext:aws:logs:arn": arns}},
    )


def log_group(owner: Component, name: str, group: str, *, key_arn: pulumi.Input[str]) -> aws.cloudwatch.LogGroup:
    """Declare the log group ``group``; who writes it depends on the result."""
    return aws.cloudwatch.LogGroup(
        name,
        name=group,
        retention_in_days=owner.naming.log_retention_days,
        kms_key_id=key_arn,
        tags=owner.tags(group),
        opts=owner.child,
    )
