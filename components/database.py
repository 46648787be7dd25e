"""The Task Service's own PostgreSQL 16 on RDS (docs/plan.md, 'Step 0')."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from components.component import Component
from components.config_stack import StackConfig
from components.keys import encryption_key
from components.logs import log_group
from components.naming import DATABASE_EXPORTS, OPERATOR_SECRET, POSTGRES_PORT, Naming
from components.network import permit, security_group
from components.roles import service_role
from components.secrets import declare_secret

MASTER_USER = "task_service_admin"
BACKUP_DAYS = 7
MONITORING_SECONDS = 60

#: Parameters of the group. All but the last are static in RDS for PostgreSQL ('Working with parameters'): AWS refuses
#: them with any other apply method than pending-reboot. A new instance starts with them, so no reboot is needed here.
STATIC_PARAMETERS = {
    "rds.force_ssl": "1",
    "rds.logical_replication": "1",
    "track_commit_timestamp": "1",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_logical_replication_workers": "10",
    "max_worker_processes": "20",
}
#: What a slow or failing statement writes into the log, without the values of rows (PostgreSQL 16, 'Error Reporting and Logging').
DYNAMIC_PARAMETERS = {
    "log_min_duration_statement": "500",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
}


@dataclass(frozen=True)
class TargetDatabaseArgs:
    """Arguments of :class:`TargetDatabase`."""

    naming: Naming
    config: StackConfig
    log_key_arn: pulumi.Input[str]


class TargetDatabase(Component):
    """RDS instance with its parameter group, network, key, monitoring role and log groups.

    The instance and its key are protected, and the key outlives the program: its final snapshot cannot be restored without.
    """

    component = "database"
    endpoint: pulumi.Output[str]
    """Host name, without port."""
    port: pulumi.Output[int]
    identifier: pulumi.Output[str]
    master_secret_arn: pulumi.Output[str]
    """The secret that RDS keeps the master password in, and rotates every seven days; the value never passes through this program."""
    operator_secret_arn: pulumi.Output[str]
    """Secret of the role that commands log in with. Declared without a value; `schema role --operator` puts it."""
    security_group_id: pulumi.Output[str]
    key_arn: pulumi.Output[str]

    def __init__(self, name: str, args: TargetDatabaseArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, args.naming, opts)

        key = encryption_key(
            self, name, purpose="Target database, its snapshots, master secret and replication storage", kept=True
        )
        subnets = aws.rds.SubnetGroup(
            f"{name}-subnet-group",
            name=self.naming.prefix,
            description="Private subnets of the Task Service database",
            subnet_ids=args.config.private_subnet_ids,
            tags=self.tags(self.naming.prefix),
            opts=self.child,
        )
        group = security_group(self, name, vpc_id=args.config.vpc_id, purpose="Task Service database")
        self._instance = self._declare_instance(name, args, key, subnets, group)
        self._permit_ways(name, args, group.id)

        self.endpoint = self._instance.address
        self.port = self._instance.port
        self.identifier = self._instance.identifier
        self.master_secret_arn = self._instance.master_user_secrets.apply(_secret_arn)
        self.operator_secret_arn = declare_secret(
            self,
            f"{name}-operator-secret",
            OPERATOR_SECRET,
            key_arn=key.arn,
            description="User name and password of the operator's role on the Task Service database",
        ).arn
        self.security_group_id = group.id
        self.key_arn = key.arn
        self.declared()

    def _declare_instance(
        self,
        name: str,
        args: TargetDatabaseArgs,
        key: aws.kms.Key,
        subnets: aws.rds.SubnetGroup,
        group: aws.ec2.SecurityGroup,
    ) -> aws.rds.Instance:
        identifier = self.naming.prefix
        parameters = self._declare_parameters(name)
        role, attachment = self._declare_monitoring_role(name)
        logs = [
            log_group(self, f"{name}-log-{export}", self.naming.database_log_group(export), key_arn=args.log_key_arn)
            for export in DATABASE_EXPORTS
        ]
        return aws.rds.Instance(
            f"{name}-instance",
            identifier=identifier,
            engine="postgres",
            # The major version only: AWS picks the newest minor, and a later minor is no difference.
            engine_version="16",
            # A minor upgrade restarts the server; during the move that is the operator's decision.
            auto_minor_version_upgrade=False,
            allow_major_version_upgrade=False,
            apply_immediately=False,
            instance_class=args.config.db_instance_class,
            allocated_storage=args.config.db_allocated_storage_gb,
            # A replication slot that nobody reads keeps WAL; growing storage is better than a full disk.
            max_allocated_storage=2 * args.config.db_allocated_storage_gb,
            storage_type="gp3",
            storage_encrypted=True,
            kms_key_id=key.arn,
            db_name=args.config.target_database,
            port=POSTGRES_PORT,
            username=MASTER_USER,
            manage_master_user_password=True,
            master_user_secret_kms_key_id=key.arn,
            ca_cert_identifier="rds-ca-rsa2048-g1",
            parameter_group_name=parameters.name,
            db_subnet_group_name=subnets.name,
            vpc_security_group_ids=[group.id],
            publicly_accessible=False,
            multi_az=self.naming.is_production,
            backup_retention_period=BACKUP_DAYS,
            backup_window="17:00-18:00",
            maintenance_window="sun:18:30-sun:19:30",
            copy_tags_to_snapshot=True,
            delete_automated_backups=False,
            monitoring_interval=MONITORING_SECONDS,
            monitoring_role_arn=role.arn,
            performance_insights_enabled=True,
            performance_insights_kms_key_id=key.arn,
            performance_insights_retention_period=7,
            enabled_cloudwatch_logs_exports=list(DATABASE_EXPORTS),
            deletion_protection=self.naming.protected,
            skip_final_snapshot=False,
            final_snapshot_identifier=f"{identifier}-final",
            tags=self.tags(identifier),
            opts=pulumi.ResourceOptions(parent=self, protect=self.naming.protected, depends_on=[attachment, *logs]),
        )

    def _declare_parameters(self, name: str) -> aws.rds.ParameterGroup:
        return aws.rds.ParameterGroup(
            f"{name}-parameters",
            name=self.naming.prefix,
            family="postgres16",
            description="Task Service database, logical replication both ways",
            parameters=[
                *(
                    aws.rds.ParameterGroupParameterArgs(name=key_, value=value, apply_method="pending-reboot")
                    for key_, value in STATIC_PARAMETERS.items()
                ),
                *(
                    aws.rds.ParameterGroupParameterArgs(name=key_, value=value, apply_method="immediate")
                    for key_, value in DYNAMIC_PARAMETERS.items()
                ),
            ],
            tags=self.tags(self.naming.prefix),
            opts=self.child,
        )

    def _declare_monitoring_role(self, name: str) -> tuple[aws.iam.Role, aws.iam.RolePolicyAttachment]:
        role = service_role(
            self,
            f"{name}-monitoring-role",
            f"{self.naming.prefix}-rds-monitoring",
            service="monitoring.rds.amazonaws.com",
            source_arn=self.naming.arn("rds", f"db:{self.naming.prefix}"),
            description="Enhanced Monitoring of the Task Service database",
        )
        attachment = aws.iam.RolePolicyAttachment(
            f"{name}-monitoring-policy",
            role=role.name,
            policy_arn=self.naming.managed_policy("service-role/AmazonRDSEnhancedMonitoringRole"),
            opts=self.child,
        )
        return role, attachment

    def _permit_ways(self, name: str, args: TargetDatabaseArgs, group_id: pulumi.Input[str]) -> None:
        """Who connects to whom: (rule, origin, destination, port, purpose). Each server to the other where PostgreSQL itself replicates
        (with DMS its instance connects to both), the operators, and nobody else but the service."""
        source, target = (args.config.source_security_group_id, args.config.source_port), (group_id, POSTGRES_PORT)
        ways: list[tuple[str, pulumi.Input[str], tuple[pulumi.Input[str], int], str]] = []
        if args.config.replication_engine == "native":
            ways += [
                ("to-source", group_id, source, "Subscription of the target on the source"),
                ("from-source", source[0], target, "Subscription of the source on the target"),
            ]
        # By its id, so that a group that is taken out of the list moves no other's rules.
        for operator in args.config.operator_security_group_ids:
            ways.append((f"from-{operator}", operator, target, "Operators to the Task Service database"))
            if args.config.operator_reaches_source:
                ways.append((f"source-from-{operator}", operator, source, "Operators to the source database"))
        for way, origin, (destination, port), purpose in ways:
            permit(self, f"{name}-{way}", origin=origin, destination=destination, port=port, purpose=purpose)


def _secret_arn(secrets: Sequence[aws.rds.outputs.InstanceMasterUserSecret]) -> str:
    return secrets[0].secret_arn or "" if secrets else ""
