"""The target database, the backups and DMS, as docs/plan.md and docs/decisions.md give them."""

from __future__ import annotations

import json
import re
from typing import get_args, get_type_hints

import pulumi
import pytest
from pulumi_aws.dms.outputs import EndpointPostgresSettings

from components import dms_settings
from tests.unit.components.declared_helpers import ACCOUNT, REGION, SOURCE_SECRET, Declared, declare

DATABASE = "aws:rds/instance:Instance"
ENDPOINT = "aws:dms/endpoint:Endpoint"
TASK = "aws:dms/replicationTask:ReplicationTask"


@pytest.fixture(scope="module", params=["staging", "prod"])
def stack(request: pytest.FixtureRequest) -> tuple[str, Declared]:
    environment: str = request.param
    return environment, declare(environment)


def test_the_database_has_the_figures_of_the_plan(stack: tuple[str, Declared]) -> None:
    """A smaller class, no encryption or no backups would first show under load, or after a loss."""
    environment, declared = stack
    inputs = declared.one(DATABASE).inputs
    expected = {
        "engine": "postgres",
        "engineVersion": "16",
        "instanceClass": "db.t3.medium",
        "allocatedStorage": 100,
        "storageType": "gp3",
        "storageEncrypted": True,
        "backupRetentionPeriod": 7,
        "multiAz": environment == "prod",
        "monitoringInterval": 60,
        "performanceInsightsEnabled": True,
        "enabledCloudwatchLogsExports": ["postgresql", "upgrade"],
        "dbName": "task_service_production",
        "publiclyAccessible": False,
        "manageMasterUserPassword": True,
        "port": 5432,
        "parameterGroupName": declared.one("aws:rds/parameterGroup:ParameterGroup").inputs["name"],
        "dbSubnetGroupName": declared.one("aws:rds/subnetGroup:SubnetGroup").inputs["name"],
        "monitoringRoleArn": f"arn:aws:iam:{REGION}:{ACCOUNT}:database-monitoring-role",
        # A slot that nobody reads fills it: it grows before it is full.
        "maxAllocatedStorage": 200,
        "deleteAutomatedBackups": False,
    }
    assert {key: inputs.get(key) for key in expected} == expected
    key = declared.one("aws:kms/key:Key", "database-key")
    assert inputs["kmsKeyId"] == inputs["masterUserSecretKmsKeyId"] == inputs["performanceInsightsKmsKeyId"]
    assert inputs["kmsKeyId"].endswith(key.name)
    assert "password" not in inputs


def test_protection_deletion_protection_and_final_snapshot_stand_together(stack: tuple[str, Declared]) -> None:
    """Any one of them alone lets `destroy` lose the database, or its key, which is the same."""
    _, declared = stack
    database = declared.one(DATABASE)
    assert database.protect
    assert database.inputs["deletionProtection"] is True
    assert database.inputs["skipFinalSnapshot"] is False
    assert database.inputs["finalSnapshotIdentifier"] == f"{database.inputs['identifier']}-final"
    protected = {resource.name for resource in declared.custom() if resource.protect}
    assert protected == {
        *("database-instance", "database-key", "backups-key", "backups-bucket", "state-key", "state-bucket"),
        *("replication-forward-task", "replication-reverse-task"),
    }
    kept = {resource.name for resource in declared.custom() if resource.retain}
    assert {"database-key", "backups-key", "backups-bucket", "backups-policy", "state-key", "state-bucket"} <= kept
    unguarded = declare(protected=False)
    assert not [resource.name for resource in unguarded.custom() if resource.protect]
    assert unguarded.one(DATABASE).inputs["deletionProtection"] is False


def test_static_parameters_are_applied_at_the_reboot(stack: tuple[str, Declared]) -> None:
    """AWS refuses `immediate` for a static parameter; an earlier attempt failed exactly here."""
    _, declared = stack
    group = declared.one("aws:rds/parameterGroup:ParameterGroup").inputs
    assert group["family"] == "postgres16"
    parameters = {item["name"]: (item["value"], item["applyMethod"]) for item in group["parameters"]}
    assert parameters["rds.force_ssl"] == ("1", "pending-reboot")
    assert parameters["rds.logical_replication"] == ("1", "pending-reboot")
    assert parameters["track_commit_timestamp"] == ("1", "pending-reboot")
    for name in ("max_replication_slots", "max_wal_senders", "max_worker_processes"):
        assert parameters[name][1] == "pending-reboot"
        assert int(parameters[name][0]) >= 10


def test_the_server_logs_no_row(stack: tuple[str, Declared]) -> None:
    """Prevents pupils' names in CloudWatch Logs: the failing row of an error, the values of a slow statement."""
    _, declared = stack
    parameters = declared.one("aws:rds/parameterGroup:ParameterGroup").inputs["parameters"]
    found = {item["name"]: (item["value"], item["applyMethod"]) for item in parameters}
    assert found["log_error_verbosity"] == ("terse", "immediate")
    assert found["log_parameter_max_length"] == ("0", "immediate")


def test_the_log_groups_exist_before_the_database(stack: tuple[str, Declared]) -> None:
    """RDS makes missing log groups itself, with lines kept for ever."""
    _, declared = stack
    dependencies = " ".join(declared.one(DATABASE).dependencies)
    assert "database-log-postgresql" in dependencies
    assert "database-log-upgrade" in dependencies


def test_the_replication_instance_has_the_figures_of_the_plan(stack: tuple[str, Declared]) -> None:
    environment, declared = stack
    inputs = declared.one("aws:dms/replicationInstance:ReplicationInstance").inputs
    assert inputs["replicationInstanceId"] == "myteacher-task-replication"
    assert inputs["replicationInstanceClass"] == "dms.t3.medium"
    assert inputs["allocatedStorage"] == 50
    assert inputs["publiclyAccessible"] is False
    assert inputs["multiAz"] is (environment == "prod")


def test_endpoints_take_secrets_by_arn_and_require_tls(stack: tuple[str, Declared]) -> None:
    """A password in an endpoint stands in the state and in the console."""
    _, declared = stack
    endpoints = {item.inputs["endpointId"]: item.inputs for item in declared.all(ENDPOINT)}
    ways = {name: (item["endpointType"], item["databaseName"]) for name, item in endpoints.items()}
    assert ways == {
        "myteacher-source": ("source", "myteacher_production"),
        "task-service-target": ("target", "task_service_production"),
        "task-service-source": ("source", "task_service_production"),
        "myteacher-target": ("target", "myteacher_production"),
    }
    for inputs in endpoints.values():
        assert inputs["engineName"] == "postgres"
        assert inputs["sslMode"] == "verify-full"
        assert inputs["certificateArn"] == f"arn:aws:dms:{REGION}:{ACCOUNT}:cert:rds"
        assert inputs["secretsManagerAccessRoleArn"] == f"arn:aws:iam:{REGION}:{ACCOUNT}:replication-secrets-role"
        assert not {"password", "username", "serverName"} & set(inputs)
    assert endpoints["myteacher-source"]["secretsManagerArn"] == SOURCE_SECRET
    assert endpoints["myteacher-target"]["secretsManagerArn"] == SOURCE_SECRET
    own = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:replication-target-secret"
    assert {endpoints[name]["secretsManagerArn"] for name in ("task-service-source", "task-service-target")} == {own}


def test_targets_apply_as_replica_and_sources_fail_on_a_cut_lob(stack: tuple[str, Declared]) -> None:
    """Without the script applied rows go through triggers and foreign keys; a cut LOB is lost text."""
    _, declared = stack
    for endpoint in declared.all(ENDPOINT):
        settings = endpoint.inputs["postgresSettings"]
        if endpoint.inputs["endpointType"] == "target":
            assert settings["afterConnectScript"] == "SET session_replication_role = replica"
        else:
            assert settings["failTasksOnLobTruncation"] is True
            assert settings["heartbeatEnable"] is True
            assert settings["captureDdls"] is False
    slots = {
        item.inputs["endpointId"]: item.inputs["postgresSettings"]["slotName"]
        for item in declared.all(ENDPOINT)
        if item.inputs["endpointType"] == "source"
    }
    assert slots == {"myteacher-source": "task_service_sub", "task-service-source": "task_service_sub_reverse"}


def test_two_tasks_run_opposite_ways_and_are_declared_stopped(stack: tuple[str, Declared]) -> None:
    """A way back that is missing loses what the Task Service wrote; a task started by `up` runs before the copy."""
    _, declared = stack
    tasks = {item.inputs["replicationTaskId"]: item for item in declared.all(TASK)}
    assert set(tasks) == {"myteacher-task-migration", "myteacher-task-migration-reverse"}
    forward = tasks["myteacher-task-migration"].inputs
    reverse = tasks["myteacher-task-migration-reverse"].inputs
    assert forward["sourceEndpointArn"].endswith("replication-source")
    assert forward["targetEndpointArn"].endswith("replication-target")
    assert reverse["sourceEndpointArn"].endswith("replication-reverse-source")
    assert reverse["targetEndpointArn"].endswith("replication-reverse-target")
    for task in tasks.values():
        assert task.inputs["migrationType"] == "cdc"
        assert task.inputs["startReplicationTask"] is False
        assert "cdcStartPosition" not in task.inputs


def test_no_deployment_touches_a_task_that_is_there(stack: tuple[str, Declared]) -> None:
    """The provider stops a task for any change but of its tags, and leaves it stopped; for a replacement it deletes it."""
    _, declared = stack
    for task in declared.all(TASK):
        assert task.protect
        free = {"replicationTaskId", "sourceEndpointArn", "targetEndpointArn", "startReplicationTask", "tags"}
        assert set(task.inputs) - free <= set(task.ignore_changes)


def test_no_number_of_an_endpoint_is_left_for_the_provider_to_send_as_zero(stack: tuple[str, Declared]) -> None:
    """Every number that the provider knows goes out as 0 where it is not declared: no file to write, heartbeats without a pause."""
    numbers = {
        name
        for name, kind in get_type_hints(EndpointPostgresSettings.__init__).items()
        if int in get_args(kind) and bool not in get_args(kind)
    }
    assert numbers == {"execute_timeout", "heartbeat_frequency", "max_file_size"}
    _, declared = stack
    for endpoint in declared.all(ENDPOINT):
        settings = endpoint.inputs["postgresSettings"]
        given = {name: settings.get(re.sub("_(.)", lambda match: match[1].upper(), name)) for name in numbers}
        assert given == {
            "execute_timeout": 60,
            "heartbeat_frequency": 1 if endpoint.inputs["endpointType"] == "source" else 5,
            "max_file_size": 32_768,
        }


def test_secrets_are_read_from_the_vpc_endpoint_where_one_is_named() -> None:
    """Without a way to the public API an endpoint's test hangs, and says nothing of Secrets Manager."""
    assert not [item.name for item in declare().all(ENDPOINT) if "extraConnectionAttributes" in item.inputs]
    host = "vpce-1234a5678b9012c-12345678.secretsmanager.ap-northeast-1.vpce.amazonaws.com"
    declared = declare(secretsManagerEndpointOverride=host)
    said = {item.inputs["extraConnectionAttributes"] for item in declared.all(ENDPOINT)}
    assert said == {f"secretsManagerEndpointOverride={host}"}
    with pytest.raises(pulumi.RunError, match=r"secretsManagerEndpointOverride: value 'https://"):
        declare(secretsManagerEndpointOverride=f"https://{host}")


def test_dms_may_look_at_the_keys_of_the_secrets_and_use_them_for_these_alone() -> None:
    """AWS DMS, 'Using secrets': without kms:DescribeKey the endpoint's test fails."""
    statements = (
        declare().one("aws:iam/rolePolicy:RolePolicy", "replication-secrets-policy").json("policy")["Statement"]
    )
    look = [item for item in statements if "kms:DescribeKey" in item["Action"]]
    assert [(item["Action"], item["Resource"]) for item in look] == [
        (["kms:DescribeKey"], [f"arn:aws:kms:{REGION}:{ACCOUNT}:key/*"])
    ]


def test_the_secret_of_replication_goes_at_once(stack: tuple[str, Declared]) -> None:
    """With a window its name is taken for 7 days, in which nobody could come back from `replicationEngine: none`."""
    secret = stack[1].one("aws:secretsmanager/secret:Secret", "replication-target-secret").inputs
    assert (secret["name"], secret["recoveryWindowInDays"]) == ("task-service/replication", 0)


INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"


def ways(declared: Declared) -> set[tuple[str, str, int]]:
    """Destination, origin and port of every way that belongs to the database's component."""
    return {
        (item.inputs["securityGroupId"], item.inputs["referencedSecurityGroupId"], item.inputs["fromPort"])
        for item in declared.all(INGRESS)
        if item.name.startswith("database-")
    }


def test_operators_reach_the_target_and_the_source_only_when_asked() -> None:
    """Without a rule no command reaches the target; with one too many the monolith's group is changed unasked."""
    target, source, groups = "database-security-group-id", "sg-0bbbbbbb", ["sg-0ccccccc", "sg-0ddddddd"]
    assert ways(declare()) == set()
    assert ways(declare(operatorSecurityGroupIds=groups)) == {(target, group, 5432) for group in groups}
    both = declare(operatorSecurityGroupIds=groups, operatorReachesSource=True, sourcePort=5433)
    assert ways(both) == {(target, group, 5432) for group in groups} | {(source, group, 5433) for group in groups}
    # Where nobody is named nobody can reach it, which a name of a key must not hide.
    with pytest.raises(pulumi.RunError, match="operatorSecurityGroupIds names no group"):
        declare(operatorReachesSource=True)
    # One group fewer moves no other's rules.
    kept = {(item.name, str(item.inputs)) for item in declare(operatorSecurityGroupIds=groups[1:]).all(INGRESS)}
    assert kept < {(item.name, str(item.inputs)) for item in declare(operatorSecurityGroupIds=groups).all(INGRESS)}


@pytest.mark.parametrize("engine", ["dms", "native"])
def test_without_an_engine_only_what_replicated_is_gone(engine: str) -> None:
    """`replicationEngine: none` ends DMS, its role, secret and ways, and the ways between the databases; nothing else may change but
    what watches them."""
    before, after = declare(replicationEngine=engine), declare(replicationEngine="none")
    then, now = ({item.name: item for item in one.custom()} for one in (before, after))
    gone = {name for name in then.keys() - now.keys() if not name.startswith("replication-")}
    alarms = {
        f"monitoring-alarm-replication-{way}-{side}-latency"
        for way in ("forward", "reverse")
        for side in ("source", "target")
    }
    between = {f"database-{way}-{end}" for way in ("to-source", "from-source") for end in ("egress", "ingress")}
    assert gone == (alarms if engine == "dms" else between)
    assert now.keys() < then.keys()
    assert [name for name in now if now[name].raw != then[name].raw] == (
        ["monitoring-dashboard"] if engine == "dms" else []
    )
    assert not [name for name in after.stack_outputs if name.startswith("dms")]


def test_each_task_carries_one_record_of_writes_whatever_tables_move() -> None:
    """A task that carried the other side's record, or a data table, would send back what it brought."""
    for declared in (declare(), declare(tables=["groups"], referencedTables=["users"], schema="school")):
        carried = {}
        for task in declared.all(TASK):
            (rule,) = task.json("tableMappings")["rules"]
            assert (rule["rule-type"], rule["rule-id"], rule["rule-action"]) == ("selection", "1", "include")
            carried[task.inputs["replicationTaskId"]] = rule["object-locator"]
            settings = task.json("replicationTaskSettings")
            assert "LoopbackPreventionSettings" not in settings
        assert carried == {
            "myteacher-task-migration": {"schema-name": "task_migration", "table-name": "source_writes"},
            "myteacher-task-migration-reverse": {"schema-name": "task_migration", "table-name": "target_writes"},
        }


def test_task_settings_never_skip_a_row_silently() -> None:
    """The default policies log a row that failed and go on without it; a suspended table lets the slot pass its changes."""
    settings = json.loads(dms_settings.task_settings(lob_max_size_kb=64))
    errors = settings["ErrorBehavior"]
    policies = {key: value for key, value in errors.items() if key.endswith("Policy")}
    assert len(policies) == 9
    # A record that both sides know is deleted on both: what DMS carries of that may find no row.
    assert {key: value for key, value in policies.items() if value != "STOP_TASK"} == {
        "ApplyErrorDeletePolicy": "IGNORE_RECORD"
    }
    assert errors["ApplyErrorEscalationCount"] == 0
    assert errors["RecoverableErrorCount"] == -1
    assert settings["TargetMetadata"]["BatchApplyEnabled"] is False
    assert settings["TargetMetadata"]["ParallelApplyThreads"] == 0
    assert not any(settings["ChangeProcessingDdlHandlingPolicy"].values())
    assert errors["FailOnNoTablesCaptured"] is True
    assert errors["FailOnTransactionConsistencyBreached"] is True
    # Both sides delete from the record outside of DMS, which makes its validation's answers unsure.
    assert settings["ValidationSettings"] == {"EnableValidation": False}
    assert settings["ChangeProcessingTuning"]["CommitTimeout"] == 1
    assert settings["Logging"]["EnableLogging"] is True


def test_lobs_travel_in_their_row_up_to_the_configured_size() -> None:
    """Full LOB mode inserts a record before its text, which the rules could not apply; a cut text is lost text."""
    declared = declare(dmsLobMaxSizeKb=200)
    for task in declared.all(TASK):
        metadata = task.json("replicationTaskSettings")["TargetMetadata"]
        assert (metadata["SupportLobs"], metadata["FullLobMode"], metadata["LimitedSizeLobMode"]) == (True, False, True)
        assert metadata["LobMaxSize"] == 200


def test_settings_are_in_normal_form() -> None:
    """Another order of keys would look like a change, and a change can stop the task."""
    for text in (dms_settings.task_settings(lob_max_size_kb=1), dms_settings.table_mappings("a_b")):
        assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_the_native_engine_declares_no_dms_and_opens_both_ways() -> None:
    """Two engines at once would apply each change twice; without a way between the servers none applies it."""
    declared = declare(replicationEngine="native")
    assert not [item.name for item in declared.resources if ":dms/" in item.type or item.name.startswith("replication")]
    assert not [name for name in declared.stack_outputs if name.startswith("dms")]
    target = "database-security-group-id"
    assert ways(declared) == {("sg-0bbbbbbb", target, 5432), (target, "sg-0bbbbbbb", 5432)}


def test_account_wide_roles_only_where_asked_for() -> None:
    """They exist once per account: making them a second time fails the whole `up`."""
    names = {"dms-vpc-role", "dms-cloudwatch-logs-role"}

    def made(declared: Declared) -> set[str]:
        return names & {role.inputs["name"] for role in declared.all("aws:iam/role:Role")}

    assert made(declare()) == set()
    asked = declare(dmsCreateAccountRoles=True)
    assert made(asked) == names
    instance = asked.one("aws:dms/replicationInstance:ReplicationInstance")
    assert "dms-vpc-role-policy" in " ".join(instance.dependencies)
