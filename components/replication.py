"""AWS DMS, both ways (docs/plan.md, 'Step 1'; docs/decisions.md, 'AWS DMS')."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from components import dms_settings
from components.component import Component
from components.config_stack import StackConfig
from components.dms_settings import (
    FORWARD_RECORD,
    FORWARD_TASK_ID,
    INSTANCE_ID,
    REVERSE_RECORD,
    REVERSE_SOURCE_ENDPOINT_ID,
    REVERSE_TARGET_ENDPOINT_ID,
    REVERSE_TASK_ID,
    SOURCE_ENDPOINT_ID,
    TARGET_ENDPOINT_ID,
)
from components.naming import POSTGRES_PORT, REPLICATION_SECRET, Naming
from components.network import permit, permit_https, security_group
from components.replication_roles import declare_access_role, declare_account_roles
from components.secrets import declare_secret


@dataclass(frozen=True)
class ReplicationArgs:
    """Arguments of :class:`Replication`."""

    naming: Naming
    config: StackConfig
    key_arn: pulumi.Input[str]
    log_group: pulumi.Resource
    target_security_group_id: pulumi.Input[str]


class Replication(Component):
    """Replication instance, four endpoints, a task for each way, all declared stopped: `replicate` starts them."""

    component = "replication"
    instance_arn: pulumi.Output[str]
    instance_id: pulumi.Output[str]
    forward_task_arn: pulumi.Output[str]
    reverse_task_arn: pulumi.Output[str]
    source_endpoint_arn: pulumi.Output[str]
    target_endpoint_arn: pulumi.Output[str]
    target_secret_arn: pulumi.Output[str]
    """Secret with username, password, host and port of the target's replication role; an operator puts its value."""

    def __init__(self, name: str, args: ReplicationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, args.naming, opts)

        secret = declare_secret(
            self,
            f"{name}-target-secret",
            REPLICATION_SECRET,
            key_arn=args.key_arn,
            description="username, password, host and port of the replication role on the target database",
            # `schema role --replication` makes its value anew, and a name that is taken for a while would keep everybody from coming
            # back from replicationEngine none.
            recovery_days=0,
        )
        access, access_policy = declare_access_role(
            self, name, source_secret_arn=args.config.source_secret_arn, target_secret_arn=secret.arn
        )
        instance = self._declare_instance(name, args)

        def endpoint(suffix: str, endpoint_id: str, *, reads: bool, on_source: bool) -> aws.dms.Endpoint:
            # Made by `copy` and `replicate start`; their LSNs are known after this is declared, so `replicate start` hands them over.
            slot = args.config.subscription if on_source else args.config.reverse_subscription
            return aws.dms.Endpoint(
                f"{name}-{suffix}",
                endpoint_id=endpoint_id,
                endpoint_type="source" if reads else "target",
                engine_name="postgres",
                database_name=args.config.source_database if on_source else args.config.target_database,
                # The host of the secret must be the name in the server's certificate (AWS DMS, 'Using SSL with AWS DMS').
                ssl_mode="verify-full",
                certificate_arn=args.config.dms_certificate_arn,
                secrets_manager_arn=args.config.source_secret_arn if on_source else secret.arn,
                secrets_manager_access_role_arn=access.arn,
                extra_connection_attributes=dms_settings.secrets_endpoint_attribute(
                    args.config.secrets_manager_endpoint_override
                ),
                postgres_settings=_settings(
                    dms_settings.reader_settings(slot) if reads else dms_settings.writer_settings()
                ),
                tags=self.tags(endpoint_id),
                opts=pulumi.ResourceOptions(parent=self, depends_on=[access_policy]),
            )

        source = endpoint("source", SOURCE_ENDPOINT_ID, reads=True, on_source=True)
        target = endpoint("target", TARGET_ENDPOINT_ID, reads=False, on_source=False)
        reverse_source = endpoint("reverse-source", REVERSE_SOURCE_ENDPOINT_ID, reads=True, on_source=False)
        reverse_target = endpoint("reverse-target", REVERSE_TARGET_ENDPOINT_ID, reads=False, on_source=True)

        def task(
            suffix: str,
            task_id: str,
            record: str,
            origin: aws.dms.Endpoint,
            destination: aws.dms.Endpoint,
        ) -> aws.dms.ReplicationTask:
            return aws.dms.ReplicationTask(
                f"{name}-{suffix}",
                replication_task_id=task_id,
                migration_type="cdc",
                replication_instance_arn=instance.replication_instance_arn,
                source_endpoint_arn=origin.endpoint_arn,
                target_endpoint_arn=destination.endpoint_arn,
                table_mappings=dms_settings.table_mappings(record),
                replication_task_settings=dms_settings.task_settings(lob_max_size_kb=args.config.dms_lob_max_size_kb),
                # A task that `up` starts would run before the copy; and `up` would restart one that was stopped.
                start_replication_task=False,
                tags=self.tags(task_id),
                # To change a task in place the provider stops it, and leaves it stopped (aws_dms_replication_task, update); and
                # AWS answers settings with its own additions, and the start position that `replicate start` gave. So no `up`
                # changes a task: another one takes its place. And none deletes it: `finalize` and `rollback --abandon` do, and
                # `pulumi up --refresh` then sees it gone.
                opts=pulumi.ResourceOptions(
                    parent=self, ignore_changes=dms_settings.KEPT, protect=self.naming.protected
                ),
            )

        forward = task("forward-task", FORWARD_TASK_ID, FORWARD_RECORD, source, target)
        reverse = task("reverse-task", REVERSE_TASK_ID, REVERSE_RECORD, reverse_source, reverse_target)

        self.instance_arn = instance.replication_instance_arn
        self.instance_id = instance.replication_instance_id
        self.forward_task_arn = forward.replication_task_arn
        self.reverse_task_arn = reverse.replication_task_arn
        self.source_endpoint_arn = source.endpoint_arn
        self.target_endpoint_arn = target.endpoint_arn
        self.target_secret_arn = secret.arn
        self.declared()

    def _declare_instance(self, name: str, args: ReplicationArgs) -> aws.dms.ReplicationInstance:
        roles = declare_account_roles(self, name) if args.config.dms_create_account_roles else []
        subnets = aws.dms.ReplicationSubnetGroup(
            f"{name}-subnet-group",
            replication_subnet_group_id=INSTANCE_ID,
            replication_subnet_group_description="Private subnets of the task replication",
            subnet_ids=args.config.private_subnet_ids,
            tags=self.tags(INSTANCE_ID),
            opts=pulumi.ResourceOptions(parent=self, depends_on=roles),
        )
        group = security_group(self, name, vpc_id=args.config.vpc_id, purpose="DMS replication instance")
        for side, destination, port in (
            ("source", args.config.source_security_group_id, args.config.source_port),
            ("target", args.target_security_group_id, POSTGRES_PORT),
        ):
            permit(
                self,
                f"{name}-to-{side}",
                origin=group.id,
                destination=destination,
                port=port,
                purpose=f"DMS to the {side} database",
            )
        # DMS reads the secrets over the public API endpoint or a VPC endpoint, both HTTPS.
        permit_https(self, name, origin=group.id, purpose="Secrets Manager and CloudWatch Logs")
        return aws.dms.ReplicationInstance(
            f"{name}-instance",
            replication_instance_id=INSTANCE_ID,
            replication_instance_class=args.config.dms_instance_class,
            allocated_storage=args.config.dms_allocated_storage_gb,
            kms_key_arn=args.key_arn,
            multi_az=self.naming.is_production,
            publicly_accessible=False,
            auto_minor_version_upgrade=False,
            allow_major_version_upgrade=False,
            apply_immediately=False,
            preferred_maintenance_window="sun:20:00-sun:21:00",
            replication_subnet_group_id=subnets.replication_subnet_group_id,
            vpc_security_group_ids=[group.id],
            tags=self.tags(INSTANCE_ID),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*roles, args.log_group]),
        )


def _settings(of_side: dict[str, Any]) -> aws.dms.EndpointPostgresSettingsArgs:
    """The settings of an endpoint, by the names that the SDK has for them."""
    named = {re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", key): value for key, value in of_side.items()}
    return aws.dms.EndpointPostgresSettingsArgs(**named)
