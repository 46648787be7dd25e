"""The target database (RDS): instance, subnet group, parameter group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from scripts.rehearsal.emulated.core import Aws, Inputs, Kind, Tagging, capitals
from scripts.rehearsal.emulated.limits import Limit, judge

#: Parameters of postgres16 that need a restart, of those that a migration sets (RDS API, DescribeDBParameters: ApplyType).
STATIC = frozenset(
    {
        "rds.logical_replication",
        "track_commit_timestamp",
        "max_connections",
        "max_replication_slots",
        "max_wal_senders",
        "max_logical_replication_workers",
        "max_worker_processes",
        "shared_preload_libraries",
    }
)
#: What postgres16 has unasked, of the same (Amazon RDS, 'Requiring an SSL connection'; PostgreSQL 16, 'Server Configuration').
DEFAULTS = {
    "rds.force_ssl": "1",
    "rds.logical_replication": "0",
    "track_commit_timestamp": "0",
    "log_min_duration_statement": "-1",
    "log_error_verbosity": "default",
    "log_parameter_max_length": "-1",
}


class _Rds(Kind):
    service = "rds"
    tagging = Tagging("ResourceName", add="add_tags_to_resource", remove="remove_tags_from_resource")


class SubnetGroup(_Rds):
    """aws.rds.SubnetGroup."""

    resource_type = "aws:rds/subnetGroup:SubnetGroup"
    params: ClassVar[Mapping[str, Any]] = {
        "name": "DBSubnetGroupName",
        "description": "DBSubnetGroupDescription",
        "subnetIds": "SubnetIds",
    }
    force_new = frozenset({"name"})
    unique = ("name",)
    creation, made = "create_db_subnet_group", ("DBSubnetGroup", "DBSubnetGroupName")
    removal = ("delete_db_subnet_group", {"DBSubnetGroupName": "id"})

    def call(self, inputs: Inputs) -> dict[str, Any]:
        return {"DBSubnetGroupDescription": "Managed by Pulumi", **self.parameters(inputs)}

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        group = aws.client("rds").describe_db_subnet_groups(DBSubnetGroupName=id_)["DBSubnetGroups"][0]
        return {"arn": group["DBSubnetGroupArn"], "vpcId": group["VpcId"], "name": group["DBSubnetGroupName"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        judge(aws, Limit.RDS_MODIFY_SUBNET_GROUP, self.parameters(new))


class ParameterGroup(_Rds):
    """aws.rds.ParameterGroup; parameters are set 20 at a time, the limit of ModifyDBParameterGroup."""

    resource_type = "aws:rds/parameterGroup:ParameterGroup"
    params: ClassVar[Mapping[str, Any]] = {
        "name": "DBParameterGroupName",
        "family": "DBParameterGroupFamily",
        "description": "Description",
    }
    special = frozenset({"parameters"})
    force_new = frozenset({"name", "family", "description"})
    unique = ("name",)
    creation, made = "create_db_parameter_group", ("DBParameterGroup", "DBParameterGroupName")
    removal = ("delete_db_parameter_group", {"DBParameterGroupName": "id"})

    def check(self, inputs: Inputs) -> list[tuple[str, str]]:
        """RDS refuses a static parameter that is to apply at once ('Working with parameter groups')."""
        at_once = sorted(
            item["name"]
            for item in inputs.get("parameters") or []
            if item["name"] in STATIC and item.get("applyMethod") != "pending-reboot"
        )
        found = [("parameters", f"{', '.join(at_once)}: cannot use immediate apply method for static parameter")]
        return super().check(inputs) + (found if at_once else [])

    def answered(self, inputs: Inputs) -> dict[str, Any]:
        """A parameter once, in small letters; what is the family's default anyway is not the group's, and comes back with
        RDS's apply method, whatever is asked for (terraform-provider-aws, issue 39252)."""
        once = {str(item["name"]).lower(): item for item in inputs.get("parameters") or []}
        return {
            "parameters": [
                {
                    **item,
                    "name": name,
                    "applyMethod": "pending-reboot"
                    if DEFAULTS.get(name) == item["value"]
                    else item.get("applyMethod") or "immediate",
                }
                for name, item in once.items()
            ]
        }

    def call(self, inputs: Inputs) -> dict[str, Any]:
        return {"Description": "Managed by Pulumi", **self.parameters(inputs)}

    def create(self, aws: Aws, inputs: Inputs) -> str:
        id_ = super().create(aws, inputs)
        self._set(aws, id_, inputs.get("parameters") or [])
        return id_

    @staticmethod
    def _set(aws: Aws, id_: str, wanted: list[Any]) -> None:
        for start in range(0, len(wanted), 20):
            chosen = [
                {
                    "ParameterName": item["name"],
                    "ParameterValue": str(item["value"]),
                    "ApplyMethod": item.get("applyMethod") or "immediate",
                }
                for item in wanted[start : start + 20]
            ]
            aws.client("rds").modify_db_parameter_group(DBParameterGroupName=id_, Parameters=chosen)

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        group = aws.client("rds").describe_db_parameter_groups(DBParameterGroupName=id_)["DBParameterGroups"][0]
        return {"arn": group["DBParameterGroupArn"], "name": group["DBParameterGroupName"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        before, after = old.get("parameters") or [], new.get("parameters") or []
        gone = [item for item in before if item["name"] not in {kept["name"] for kept in after}]
        if gone:
            chosen = [{"ParameterName": item["name"], "ApplyMethod": "pending-reboot"} for item in gone]
            aws.client("rds").reset_db_parameter_group(DBParameterGroupName=id_, Parameters=chosen)
        self._set(aws, id_, [item for item in after if item not in before])


class Instance(_Rds):
    """aws.rds.Instance."""

    resource_type = "aws:rds/instance:Instance"
    params: ClassVar[Mapping[str, Any]] = capitals(
        "engine engineVersion allocatedStorage maxAllocatedStorage storageType storageEncrypted "
        "kmsKeyId manageMasterUserPassword masterUserSecretKmsKeyId port vpcSecurityGroupIds "
        "publiclyAccessible backupRetentionPeriod monitoringInterval monitoringRoleArn "
        "performanceInsightsRetentionPeriod deletionProtection copyTagsToSnapshot "
        "autoMinorVersionUpgrade"
    ) | {
        "identifier": "DBInstanceIdentifier",
        "instanceClass": "DBInstanceClass",
        "dbName": "DBName",
        "username": "MasterUsername",
        "parameterGroupName": "DBParameterGroupName",
        "dbSubnetGroupName": "DBSubnetGroupName",
        "multiAz": "MultiAZ",
        "backupWindow": "PreferredBackupWindow",
        "maintenanceWindow": "PreferredMaintenanceWindow",
        "performanceInsightsEnabled": "EnablePerformanceInsights",
        "performanceInsightsKmsKeyId": "PerformanceInsightsKMSKeyId",
        "enabledCloudwatchLogsExports": "EnableCloudwatchLogsExports",
        "caCertIdentifier": "CACertificateIdentifier",
    }
    kept = frozenset(
        {
            "skipFinalSnapshot",
            "finalSnapshotIdentifier",
            "applyImmediately",
            "allowMajorVersionUpgrade",
            "deleteAutomatedBackups",
        }
    )
    force_new = frozenset({"engine", "storageEncrypted", "kmsKeyId", "dbName", "username"})
    unique = ("identifier",)
    creation, made = "create_db_instance", ("DBInstance", "DbiResourceId")

    def _one(self, aws: Aws, inputs: Inputs) -> Any:
        return aws.client("rds").describe_db_instances(DBInstanceIdentifier=inputs["identifier"])["DBInstances"][0]

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = self._one(aws, inputs)
        endpoint = found.get("Endpoint") or {}
        secret = found.get("MasterUserSecret") or {}
        secrets = [
            {
                "secretArn": secret["SecretArn"],
                "secretStatus": secret.get("SecretStatus", "active"),
                "kmsKeyId": secret.get("KmsKeyId", ""),
            }
        ]
        return {
            "arn": found["DBInstanceArn"],
            "address": endpoint.get("Address"),
            "port": endpoint.get("Port"),
            "endpoint": f"{endpoint.get('Address')}:{endpoint.get('Port')}",
            "resourceId": found["DbiResourceId"],
            "status": found["DBInstanceStatus"],
            "engineVersionActual": found["EngineVersion"],
            "masterUserSecrets": secrets if secret else [],
        }

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        rds = aws.client("rds")
        parameters = self.parameters(new, changed - {"enabledCloudwatchLogsExports", "identifier", "port"})
        before = set(old.get("enabledCloudwatchLogsExports") or [])
        after = set(new.get("enabledCloudwatchLogsExports") or [])
        if before != after:
            parameters["CloudwatchLogsExportConfiguration"] = {
                "EnableLogTypes": sorted(after - before),
                "DisableLogTypes": sorted(before - after),
            }
        if "port" in changed and new.get("port"):
            parameters["DBPortNumber"] = new["port"]
        if "identifier" in changed:
            parameters["NewDBInstanceIdentifier"] = new["identifier"]
        if parameters:
            now = bool(new.get("applyImmediately"))
            rds.modify_db_instance(DBInstanceIdentifier=old["identifier"], ApplyImmediately=now, **parameters)

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        if state.get("skipFinalSnapshot"):
            how: dict[str, Any] = {"SkipFinalSnapshot": True}
        else:
            how = {"SkipFinalSnapshot": False, "FinalDBSnapshotIdentifier": state.get("finalSnapshotIdentifier")}
        aws.client("rds").delete_db_instance(DBInstanceIdentifier=state["identifier"], **how)


KINDS = (SubnetGroup(), ParameterGroup(), Instance())
