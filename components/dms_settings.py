"""What the two DMS tasks are told: table mappings and task settings. Pure functions, nothing declared."""

from __future__ import annotations

import json
from typing import Any

INSTANCE_ID = "myteacher-task-replication"
FORWARD_TASK_ID = "myteacher-task-migration"
REVERSE_TASK_ID = "myteacher-task-migration-reverse"
#: A DMS endpoint is either a source or a target, so the way back has two of its own.
SOURCE_ENDPOINT_ID = "myteacher-source"
TARGET_ENDPOINT_ID = "task-service-target"
REVERSE_SOURCE_ENDPOINT_ID = "task-service-source"
REVERSE_TARGET_ENDPOINT_ID = "myteacher-target"

#: Schema of every helper object, on both databases: DMS's control tables and heartbeat live beside the migration's own, and
#: go with it when the operator finishes or abandons.
HELPER_SCHEMA = "task_migration"
#: The one table that each task carries: the record of the writes of the side that it reads.
FORWARD_RECORD = "source_writes"
REVERSE_RECORD = "target_writes"
#: DMS's own name (AWS DMS, 'Control table task settings').
EXCEPTIONS_TABLE = "awsdms_apply_exceptions"

#: Runs on each connection that DMS opens to a target: what the rules write to the data tables as a record arrives passes no
#: trigger and no foreign key of theirs, as under an apply worker of PostgreSQL ('session_replication_role'). One statement, as
#: the attribute is documented with one.
AFTER_CONNECT_SCRIPT = "SET session_replication_role = replica"
HEARTBEAT_MINUTES = 1
EXECUTE_TIMEOUT_SECONDS = 60
#: What the provider sends as 0 where it is not declared (aws_dms_endpoint, expandPostgreSQLSettings), which is not AWS's default:
#: no file may be written, and heartbeats come in a tight loop. So the documented defaults (AWS DMS, 'PostgreSQLSettings'), KB and
#: minutes. Unset flags go out as false, which is the default of all but captureDdls.
NOT_ZERO = {"maxFileSize": 32_768, "heartbeatFrequency": 5, "executeTimeout": EXECUTE_TIMEOUT_SECONDS}
#: Properties of a task that the provider would stop it for. Its endpoints, its name and its instance are left: a change of those is a
#: replacement, which is refused while the task is there, or a move to another instance, which is no more.
KEPT = ["cdcStartPosition", "migrationType", "replicationInstanceArn", "replicationTaskSettings", "tableMappings"]
#: AWS DMS, 'Creating source and target endpoints': for all engines, and for PostgreSQL.
REFUSED_IN_PASSWORDS = "{};+%"


def normal_form(value: object) -> str:
    """JSON with sorted keys and no spare blanks: equal settings are equal texts, so they show no difference."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def table_mappings(record: str) -> str:
    """One selection rule: the record of writes that this task carries, :data:`FORWARD_RECORD` or :data:`REVERSE_RECORD`.

    No wildcard, and never both tables: a task that carried the record that the other one fills would send everything back.
    No data table: the rules write those, on either side, as a record arrives.
    """
    return normal_form(
        {
            "rules": [
                {
                    "rule-type": "selection",
                    "rule-id": "1",
                    "rule-name": record.replace("_", "-"),
                    "object-locator": {"schema-name": HELPER_SCHEMA, "table-name": record},
                    "rule-action": "include",
                }
            ]
        }
    )


def reader_settings(slot: Any) -> dict[str, Any]:
    """PostgreSQL settings of an endpoint that DMS reads changes from, by the names of the API in camel case.

    Args:
        slot: name of the logical slot that the program makes; DMS starts from it instead of from its own, which would
            begin where the task starts and leave a hole behind the copy (AWS DMS, 'Using native CDC start points to
            set up a CDC load of a PostgreSQL source').
    """
    return {
        "slotName": slot,
        # The plugin that the slot is made with. pglogical, DMS's other one, needs an extension on the monolith's database.
        "pluginName": "test-decoding",
        # No event trigger on either database: schema changes are the operators', and of no table that DMS carries.
        "captureDdls": False,
        # A value above LobMaxSize is cut without a word by default; so the task fails instead.
        "failTasksOnLobTruncation": True,
        # Keeps the slot moving while the record is quiet and other tables are written; minutes.
        "heartbeatEnable": True,
        "heartbeatSchema": HELPER_SCHEMA,
        **NOT_ZERO,
        "heartbeatFrequency": HEARTBEAT_MINUTES,
    }


def writer_settings() -> dict[str, Any]:
    """PostgreSQL settings of an endpoint that DMS applies changes to, by the names of the API in camel case."""
    return {
        "afterConnectScript": AFTER_CONNECT_SCRIPT,
        **NOT_ZERO,
    }


def secrets_endpoint_attribute(host: str | None) -> str | None:
    """The connection attribute by which an endpoint reads its secret from a VPC endpoint (AWS DMS, 'Using secrets to access AWS
    Database Migration Service endpoints'); None without one."""
    return f"secretsManagerEndpointOverride={host}" if host else None


def refused_characters(password: str) -> str:
    """The characters of ``password`` that AWS DMS takes in no password of PostgreSQL, each once; empty when it takes it."""
    return "".join(character for character in REFUSED_IN_PASSWORDS if character in password)


def error_behavior() -> dict[str, Any]:
    """Error policies (AWS DMS, 'Error handling task settings'): nothing is dropped silently, and the slot never passes a
    record that could not be applied.

    The defaults log a row that could not be applied and go on without it, which is a silent loss. SUSPEND_TABLE loses as
    well: the task goes on, and takes the slot past the table's changes. So everything stops the task. The one exception is
    no loss: a record is deleted on both sides once both know it, DMS carries that DELETE too, as its mappings have no filter
    for a kind of change, and finds no row. That is ignored, unlogged, as there is one for each write.
    """
    return {
        "DataErrorPolicy": "STOP_TASK",
        "DataErrorEscalationPolicy": "STOP_TASK",
        "DataErrorEscalationCount": 0,
        "DataTruncationErrorPolicy": "STOP_TASK",
        "TableErrorPolicy": "STOP_TASK",
        "TableErrorEscalationPolicy": "STOP_TASK",
        "TableErrorEscalationCount": 0,
        "ApplyErrorInsertPolicy": "STOP_TASK",
        "ApplyErrorUpdatePolicy": "STOP_TASK",
        "ApplyErrorDeletePolicy": "IGNORE_RECORD",
        # 0: the one above never adds up to a stop.
        "ApplyErrorEscalationPolicy": "STOP_TASK",
        "ApplyErrorEscalationCount": 0,
        # No effect with a PostgreSQL source, which sends no TRUNCATE; right all the same.
        "ApplyErrorFailOnTruncationDdl": True,
        # A renamed table or a missing right must not look like a quiet one.
        "FailOnNoTablesCaptured": True,
        "FailOnTransactionConsistencyBreached": True,
        "FullLoadIgnoreConflicts": False,
        # Outages of the network or of a failover: try for ever, with growing pauses of 5 s to 5 min. The rollback's
        # budget is 5 minutes, so a longer pause than that would hide that the outage is over.
        "RecoverableErrorCount": -1,
        "RecoverableErrorInterval": 5,
        "RecoverableErrorStopRetryAfterThrottlingMax": False,
        "RecoverableErrorThrottling": True,
        "RecoverableErrorThrottlingMax": 300,
    }


def task_settings(*, lob_max_size_kb: int) -> str:
    """Settings of one task, in normal form. Loopback prevention is off, which is the default: no task carries what the
    other one writes.

    Args:
        lob_max_size_kb: largest row of a data table as JSON text, in KB; what `preflight` measured, with room.
    """
    return normal_form(
        {
            "TargetMetadata": {
                "TargetSchema": "",
                "SupportLobs": True,
                # Limited mode carries a LOB in the row itself: a record arrives whole, which the rules need to apply it.
                # Full mode inserts the row first and fills the LOB in afterwards, from the source's present row (AWS DMS,
                # 'Setting LOB support for source databases'). Above the size the task fails.
                "FullLobMode": False,
                "LimitedSizeLobMode": True,
                "LobMaxSize": lob_max_size_kb,
                "LobChunkSize": 0,
                # Batches put net changes in the place of each one, and lapse from the order of the commits.
                "BatchApplyEnabled": False,
                # One session that applies in the order of commits: a fence proves what went before it only then.
                "ParallelApplyThreads": 0,
                # A task made anew starts at its slot; what comes a second time is known by its number, and ignored.
                "TaskRecoveryTableEnabled": False,
            },
            "ErrorBehavior": error_behavior(),
            # Tables on the target that say what DMS did: exceptions always, these on request.
            "ControlTablesSettings": {
                "ControlSchema": HELPER_SCHEMA,
                "HistoryTimeslotInMinutes": 5,
                "HistoryTableEnabled": True,
                "StatusTableEnabled": True,
                "SuspendedTablesTableEnabled": True,
            },
            "ChangeProcessingDdlHandlingPolicy": {
                # Schema changes are the operators' on both sides; DMS must neither drop nor empty a table.
                "HandleSourceTableAltered": False,
                "HandleSourceTableDropped": False,
                "HandleSourceTableTruncated": False,
            },
            # Commit every second at the latest: the lag that a fence and a gate see.
            "ChangeProcessingTuning": {
                "BatchApplyPreserveTransaction": True,
                "CommitTimeout": 1,
                "MinTransactionSize": 1000,
                "MemoryKeepTime": 60,
                "MemoryLimitTotal": 1024,
                "StatementCacheSize": 50,
            },
            # It would compare the record of writes with itself while both sides delete from it, outside of DMS, which makes
            # its answers unsure (AWS DMS, 'AWS DMS data validation', Limitations). The program compares every number of a
            # record on both sides before it deletes one, and `verify` compares the data.
            "ValidationSettings": {"EnableValidation": False},
            "Logging": {
                "EnableLogging": True,
                "LogComponents": [
                    {"Id": component, "Severity": "LOGGER_SEVERITY_DEFAULT"}
                    for component in ("SOURCE_CAPTURE", "TARGET_APPLY", "TASK_MANAGER")
                ],
            },
        }
    )
