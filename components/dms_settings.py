"""What the two DMS tasks are told: table mappings and task settings. Pure functions, nothing declared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

INSTANCE_ID = "myteacher-task-replication"
FORWARD_TASK_ID = "myteacher-task-migration"
REVERSE_TASK_ID = "myteacher-task-migration-reverse"
#: A DMS endpoint is either a source or a target, so the way back has two of its own.
SOURCE_ENDPOINT_ID = "myteacher-source"
TARGET_ENDPOINT_ID = "task-service-target"
REVERSE_SOURCE_ENDPOINT_ID = "task-service-source"
REVERSE_TARGET_ENDPOINT_ID = "myteacher-target"

#: Schema of every helper object, on both databases: DMS control tables, heartbeat and loopback marks live beside the
#: migration's own, and go with it when the operator finishes or abandons.
HELPER_SCHEMA = "task_migration"
#: Replicated with the moved tables, so that a fence (scripts/replication/fence.py) goes the way of every row.
FENCE_TABLE = "heartbeat"
#: DMS's own names (AWS DMS, 'Control table task settings' and 'Performing bidirectional replication').
LOOPBACK_TABLE = "awsdms_loopback_prevention"
EXCEPTIONS_TABLE = "awsdms_apply_exceptions"

#: Runs on each connection that DMS opens to a target: replicated rows pass no trigger and no foreign key that is not
#: made for them (PostgreSQL, 'session_replication_role'). One statement, as the attribute is documented with one.
AFTER_CONNECT_SCRIPT = "SET session_replication_role = replica"
HEARTBEAT_MINUTES = 1
EXECUTE_TIMEOUT_SECONDS = 60


def normal_form(value: object) -> str:
    """JSON with sorted keys and no spare blanks: equal settings are equal texts, so they show no difference."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def table_mappings(schema: str, tables: Sequence[str]) -> str:
    """One selection rule per moved table, ids from 1 in the order of the configuration, and one for the fence's table.

    No wildcard: a table that somebody adds to the schema must not start to move by itself.
    """
    members = [(schema, table, f"{table.replace('_', '-')}-table") for table in tables]
    members.append((HELPER_SCHEMA, FENCE_TABLE, "task-migration-fence"))
    return normal_form(
        {
            "rules": [
                {
                    "rule-type": "selection",
                    "rule-id": str(number),
                    "rule-name": name,
                    "object-locator": {"schema-name": schema_name, "table-name": table},
                    "rule-action": "include",
                }
                for number, (schema_name, table, name) in enumerate(members, start=1)
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
        # No event trigger on either database: schema changes are the operators', and DMS prevents no loop of DDL, so that
        # at least one leg has to do without ('Limitations of bidirectional replication').
        "captureDdls": False,
        # A value above LobMaxSize is cut without a word by default; so the task fails instead.
        "failTasksOnLobTruncation": True,
        "mapBooleanAsBoolean": True,
        # Keeps the slot moving while the six tables are quiet and others write; minutes.
        "heartbeatEnable": True,
        "heartbeatFrequency": HEARTBEAT_MINUTES,
        "heartbeatSchema": HELPER_SCHEMA,
        "executeTimeout": EXECUTE_TIMEOUT_SECONDS,
    }


def writer_settings() -> dict[str, Any]:
    """PostgreSQL settings of an endpoint that DMS applies changes to, by the names of the API in camel case."""
    return {
        "afterConnectScript": AFTER_CONNECT_SCRIPT,
        # Else a boolean arrives as varchar(5), 'true' or 'false'.
        "mapBooleanAsBoolean": True,
        "executeTimeout": EXECUTE_TIMEOUT_SECONDS,
    }


def error_behavior() -> dict[str, Any]:
    """Error policies (AWS DMS, 'Error handling task settings'): nothing is dropped silently, and the slot never passes a
    row that could not be applied.

    The defaults log a row that could not be applied and go on without it, which is a silent loss. SUSPEND_TABLE loses as
    well: the task goes on, and takes the slot past the table's changes. So everything stops the task, with two exceptions
    that two writers make part of ordinary work: an UPDATE or a DELETE that finds no row, since this side has deleted it or
    a conflict rule has kept this side's row (the rule logs that). DMS writes each of them to `awsdms_apply_exceptions`;
    `replicate status` reads that table, and takes every entry that is not of this kind for a stop.
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
        "ApplyErrorUpdatePolicy": "LOG_ERROR",
        "ApplyErrorDeletePolicy": "LOG_ERROR",
        # 0: the two above never add up to a stop.
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


def task_settings(
    *, lob_max_size_kb: int, source_schema: str = HELPER_SCHEMA, target_schema: str = HELPER_SCHEMA
) -> str:
    """Settings of one task, in normal form.

    Args:
        lob_max_size_kb: largest value of a text, json or bytea column, in KB; what `preflight` measured, with room.
        source_schema: where the loopback mark of this task's source lives; the reverse task names it as its target's.
        target_schema: where the mark of this task's target lives.
    """
    return normal_form(
        {
            "TargetMetadata": {
                "TargetSchema": "",
                "SupportLobs": True,
                # Limited mode carries a LOB in the row itself. Full mode inserts the row first and fills the LOB in
                # afterwards, by a look at the source's present row: the first is refused by a column such as
                # `schedules json not null` (AWS DMS, 'Setting LOB support for source databases': LOB columns must be
                # nullable on the target), the second brings a value of another moment. Above the size the task fails.
                "FullLobMode": False,
                "LimitedSizeLobMode": True,
                "LobMaxSize": lob_max_size_kb,
                "LobChunkSize": 0,
                # Batches would reorder the loopback mark and the rows it marks ('Limitations of bidirectional
                # replication'), and put net changes in the place of each one, which the rules could not judge.
                "BatchApplyEnabled": False,
                # One session that applies in the order of commits: a fence proves what went before it only then.
                "ParallelApplyThreads": 0,
                # Position in the target (`awsdms_txn_state`): a task made anew can go on from there.
                "TaskRecoveryTableEnabled": True,
            },
            # What DMS applied is not sent back: it marks each transaction in this table and leaves out, on the other
            # leg, each one that has the mark. Both tasks, with mirrored schemas.
            "LoopbackPreventionSettings": {
                "EnableLoopbackPrevention": True,
                "SourceSchema": source_schema,
                "TargetSchema": target_schema,
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
            # DMS resolves no conflict and names validation on both tasks as the way to see a difference. It reads all
            # rows once (some thousand) and each changed one after it; `verify` is the proof, this the watch between.
            "ValidationSettings": {
                "EnableValidation": True,
                "ThreadCount": 2,
                "FailureMaxCount": 10000,
                "TableFailureMaxCount": 1000,
                # A row that both sides write differs until both have been applied; minutes.
                "RecordFailureDelayInMinutes": 5,
                "RecordSuspendDelayInMinutes": 30,
                "SkipLobColumns": False,
                "ValidationOnly": False,
            },
            "Logging": {
                "EnableLogging": True,
                "LogComponents": [
                    {"Id": component, "Severity": "LOGGER_SEVERITY_DEFAULT"}
                    for component in ("SOURCE_CAPTURE", "TARGET_APPLY", "TASK_MANAGER", "VALIDATOR_EXT")
                ],
            },
        }
    )
