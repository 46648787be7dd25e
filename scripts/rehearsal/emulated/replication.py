"""Change replication (DMS): subnet group, instance, endpoints, tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from scripts.rehearsal.emulated.core import (
    Aws,
    Inputs,
    Kind,
    ProviderError,
    Tagging,
    capitals,
    missing,
    pascal,
    removed_tags,
    tag_list,
)
from scripts.rehearsal.emulated.limits import Limit, judge


class _Dms(Kind):
    service = "dms"
    describe: ClassVar[str]
    answers: ClassVar[str]
    filter_name: ClassVar[str]
    tagging = Tagging("ResourceArn")

    def _lookup(self, aws: Aws, name: str) -> Any:
        answer = getattr(aws.client("dms"), self.describe)(Filters=[{"Name": self.filter_name, "Values": [name]}])
        if not answer[self.answers]:
            raise missing(name, self.describe)
        return answer[self.answers][0]

    def retag(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> None:
        if gone := removed_tags(old, new):
            judge(aws, Limit.DMS_REMOVE_TAGS, {"ResourceArn": id_, "TagKeys": gone})
        if new.get("tags") and old.get("tags") != new.get("tags"):
            judge(aws, Limit.DMS_ADD_TAGS, {"ResourceArn": id_, "Tags": tag_list(new)})


class ReplicationSubnetGroup(_Dms):
    """aws.dms.ReplicationSubnetGroup."""

    resource_type = "aws:dms/replicationSubnetGroup:ReplicationSubnetGroup"
    params: ClassVar[Mapping[str, Any]] = {
        "replicationSubnetGroupId": "ReplicationSubnetGroupIdentifier",
        "replicationSubnetGroupDescription": "ReplicationSubnetGroupDescription",
        "subnetIds": "SubnetIds",
    }
    force_new = frozenset({"replicationSubnetGroupId"})
    unique = ("replicationSubnetGroupId",)
    describe, answers = "describe_replication_subnet_groups", "ReplicationSubnetGroups"
    tagged_as = "replicationSubnetGroupArn"
    filter_name, identity = "replication-subnet-group-id", "{replicationSubnetGroupId}"
    creation = "create_replication_subnet_group"
    removal = ("delete_replication_subnet_group", {"ReplicationSubnetGroupIdentifier": "id"})

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        group = self._lookup(aws, id_)
        return {"replicationSubnetGroupArn": aws.arn("dms", f"subgrp:{id_}"), "vpcId": group.get("VpcId", "")}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        judge(aws, Limit.DMS_MODIFY_SUBNET_GROUP, self.parameters(new))


class ReplicationInstance(_Dms):
    """aws.dms.ReplicationInstance."""

    resource_type = "aws:dms/replicationInstance:ReplicationInstance"
    params: ClassVar[Mapping[str, Any]] = capitals(
        "replicationInstanceClass allocatedStorage vpcSecurityGroupIds preferredMaintenanceWindow engineVersion "
        "autoMinorVersionUpgrade publiclyAccessible"
    ) | {
        "replicationInstanceId": "ReplicationInstanceIdentifier",
        "replicationSubnetGroupId": "ReplicationSubnetGroupIdentifier",
        "multiAz": "MultiAZ",
        "kmsKeyArn": "KmsKeyId",
    }
    kept = frozenset({"applyImmediately", "allowMajorVersionUpgrade"})
    force_new = frozenset({"replicationInstanceId", "kmsKeyArn", "publiclyAccessible", "replicationSubnetGroupId"})
    unique = ("replicationInstanceId",)
    describe, answers = "describe_replication_instances", "ReplicationInstances"
    tagged_as = "replicationInstanceArn"
    filter_name, identity = "replication-instance-id", "{replicationInstanceId}"
    creation = "create_replication_instance"
    removal = ("delete_replication_instance", {"ReplicationInstanceArn": "replicationInstanceArn"})

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        found = self._lookup(aws, id_)
        private = found.get("ReplicationInstancePrivateIpAddresses") or []
        return {"replicationInstanceArn": found["ReplicationInstanceArn"], "replicationInstancePrivateIps": private}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        arn = self._lookup(aws, id_)["ReplicationInstanceArn"]
        parameters = self.parameters(new, changed - self.force_new)
        if parameters:
            now = bool(new.get("applyImmediately"))
            aws.client("dms").modify_replication_instance(
                ReplicationInstanceArn=arn, ApplyImmediately=now, **parameters
            )


_UNSET: Mapping[str, Any] = {
    **dict.fromkeys(("ExecuteTimeout", "HeartbeatFrequency", "MaxFileSize"), 0),
    **dict.fromkeys(
        ("CaptureDdls", "FailTasksOnLobTruncation", "HeartbeatEnable", "MapBooleanAsBoolean", "MapJsonbAsClob"), False
    ),
}


class Endpoint(_Dms):
    """aws.dms.Endpoint for PostgreSQL; AWS's provider puts the secret into the engine's settings, and so does this."""

    resource_type = "aws:dms/endpoint:Endpoint"
    params: ClassVar[Mapping[str, Any]] = capitals(
        "endpointType engineName extraConnectionAttributes certificateArn sslMode"
    ) | {"endpointId": "EndpointIdentifier"}
    special = frozenset({"databaseName", "secretsManagerArn", "secretsManagerAccessRoleArn", "postgresSettings"})
    force_new = frozenset({"endpointId"})
    unique = ("endpointId",)
    describe, answers = "describe_endpoints", "Endpoints"
    tagged_as = "endpointArn"
    filter_name, creation, identity = "endpoint-id", "create_endpoint", "{endpointId}"
    removal = ("delete_endpoint", {"EndpointArn": "endpointArn"})

    def call(self, inputs: Inputs) -> dict[str, Any]:
        # As AWS's provider, which sends each number and flag that it knows, unset ones as 0 and false (expandPostgreSQLSettings).
        settings = {**_UNSET, **pascal(inputs["postgresSettings"])} if inputs.get("postgresSettings") else {}
        name = {"DatabaseName": inputs["databaseName"]} if inputs.get("databaseName") is not None else {}
        if inputs.get("secretsManagerArn"):
            settings["SecretsManagerSecretId"] = inputs["secretsManagerArn"]
            settings["SecretsManagerAccessRoleArn"] = inputs.get("secretsManagerAccessRoleArn")
        return {**self.parameters(inputs), **name, "PostgreSQLSettings": settings | name}

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        return {"endpointArn": self._lookup(aws, id_)["EndpointArn"]}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        arn = self._lookup(aws, id_)["EndpointArn"]
        for task in aws.client("dms").describe_replication_tasks()["ReplicationTasks"]:
            if arn in (task["SourceEndpointArn"], task["TargetEndpointArn"]) and task["Status"] == "running":
                raise ProviderError(
                    f"InvalidResourceStateFault: the endpoint {id_} is used by the running task {task['ReplicationTaskIdentifier']}"
                )
        judge(aws, Limit.DMS_MODIFY_ENDPOINT, {"EndpointArn": arn, **self.call(new)})


class ReplicationTask(_Dms):
    """aws.dms.ReplicationTask."""

    resource_type = "aws:dms/replicationTask:ReplicationTask"
    params: ClassVar[Mapping[str, Any]] = capitals(
        "sourceEndpointArn targetEndpointArn replicationInstanceArn migrationType tableMappings "
        "replicationTaskSettings cdcStartPosition"
    ) | {"replicationTaskId": "ReplicationTaskIdentifier"}
    kept = frozenset({"startReplicationTask"})
    force_new = frozenset({"replicationTaskId", "sourceEndpointArn", "targetEndpointArn"})
    unique = ("replicationTaskId",)
    documents = frozenset({"tableMappings", "replicationTaskSettings"})
    describe, answers = "describe_replication_tasks", "ReplicationTasks"
    filter_name, tagged_as = "replication-task-id", "replicationTaskArn"
    removal = ("delete_replication_task", {"ReplicationTaskArn": "replicationTaskArn"})

    def answered(self, inputs: Inputs) -> dict[str, Any]:
        """DMS adds the settings that were left open ('Specifying task settings for AWS DMS tasks'), whichever they are."""
        if not inputs.get("replicationTaskSettings"):
            return {}
        additions = {"FailTaskWhenCleanTaskResourceFailed": False, "StreamBufferSettings": {"StreamBufferCount": 3}}
        return {"replicationTaskSettings": json.dumps({**additions, **json.loads(inputs["replicationTaskSettings"])})}

    def create(self, aws: Aws, inputs: Inputs) -> str:
        dms = aws.client("dms")
        task = dms.create_replication_task(**self.tagged(self.parameters(inputs), inputs))["ReplicationTask"]
        if inputs.get("startReplicationTask"):
            dms.start_replication_task(
                ReplicationTaskArn=task["ReplicationTaskArn"], StartReplicationTaskType="start-replication"
            )
        return str(inputs["replicationTaskId"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        task = self._lookup(aws, id_)
        return {"replicationTaskArn": task["ReplicationTaskArn"], "status": task.get("Status", "")}

    def update(self, aws: Aws, id_: str, old: Inputs, new: Inputs, changed: frozenset[str]) -> None:
        arn = self._lookup(aws, id_)["ReplicationTaskArn"]
        modifiable = {"migrationType", "tableMappings", "replicationTaskSettings", "cdcStartPosition"}
        if changed - {"startReplicationTask"}:
            # As AWS's provider, which starts it again only where it is declared as started.
            self._stop(aws, id_)
        if changed & modifiable:
            call = {"ReplicationTaskArn": arn, **self.parameters(new, changed & modifiable)}
            judge(aws, Limit.DMS_MODIFY_TASK, call)
        if "replicationInstanceArn" in changed:
            call = {"ReplicationTaskArn": arn, "TargetReplicationInstanceArn": new["replicationInstanceArn"]}
            judge(aws, Limit.DMS_MOVE_TASK, call)

    def _stop(self, aws: Aws, id_: str) -> None:
        task = self._lookup(aws, id_)
        if task["Status"] == "running":
            aws.client("dms").stop_replication_task(ReplicationTaskArn=task["ReplicationTaskArn"])

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        self._stop(aws, id_)
        super().delete(aws, id_, state)


KINDS = (ReplicationSubnetGroup(), ReplicationInstance(), Endpoint(), ReplicationTask())
