"""What the two DMS tasks are told: table mappings and task settings. Pure functions, nothing declared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

#: Schema of every helper object, on both databases: DMS control tables, heartbeat and loopback marks live beside the
#: migration's own, and go with it when the operator finishes or abandons.
HELPER_SCHEMA = "task_migration"

#: Largest LOB, in KB. Limited mode carries LOBs in the row itself. Full mode inserts the row first and fills the LOB
#: in afterwards, which a `json not null` column such as scheduled_group_tasks.schedules refuses (AWS DMS, 'Setting
#: LOB support': LOB columns must be nullable on the target). A larger LOB stops the task; see SOURCE_SETTINGS.
LOB_MAX_SIZE_KB = 4096

#: Runs on each connection that DMS opens to a target: replicated rows pass no trigger and no foreign key that is not
#: made for them (PostgreSQL, 'session_replication_role').
AFTER_CONNECT_SCRIPT = "SET session_replication_role = replica"
HEARTBEAT_MINUTES = 1
EXECUTE_TIMEOUT_SECONDS = 60


def normal_form(value: object) -> str:
    """JSON with sorted keys and no spare blanks: equal settings are equal texts, so they show no difference."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def table_mappings(schema: str, tables: Sequence[str]) -> str:
    """One selection rule per moved table, ids from 1 in the order of the configuration."""
    return normal_form(
        {
            "rules": [
                {
                    "rule-type": "selection",
                    "rule-id": str(number),
                    "rule-name": f"{table.replace('_', '-')}-table",
                    "object-locator": {"schema-name": schema, "table-name": table},
                    "rule-action": "include",
                }
                for number, table in enumerate(tables, start=1)
            ]
        }
    )


def error_behavior() -> dict[str, Any]:
    """Error policies (AWS DMS, 'Error handling task settings'): no row is skipped, the table or task stops.

    The defaults log a row that could not be applied and go on without it, which is a silent loss.
    """
    return {
        "DataErrorPolicy": "SUSPEND_TABLE",
        "DataErrorEscalationPolicy": "STOP_TASK",
        "DataErrorEscalationCount": 1,
        "DataTruncationErrorPolicy": "STOP_TASK",
        "TableErrorPolicy": "STOP_TASK",
        "TableErrorEscalationPolicy": "STOP_TASK",
        "TableErrorEscalationCount": 1,
        "ApplyErrorInsertPolicy": "SUSPEND_TABLE",
        "ApplyErrorUpdatePolicy": "SUSPEND_TABLE",
        "ApplyErrorDeletePolicy": "SUSPEND_TABLE",
        "ApplyErrorEscalationPolicy": "STOP_TASK",
        "ApplyErrorEscalationCount": 1,
        "ApplyErrorFailOnTruncationDdl": True,
        "FailOnNoTablesCaptured": True,
        "FailOnTransactionConsistencyBreached": True,
        "FullLoadIgnoreConflicts": False,
        # Outages of the network or of a failover: try for ever, with growing pauses of 5 s to 30 min.
        "RecoverableErrorCount": -1,
        "RecoverableErrorInterval": 5,
        "RecoverableErrorStopRetryAfterThrottlingMax": False,
        "RecoverableErrorThrottling": True,
        "RecoverableErrorThrottlingMax": 1800,
    }


def task_settings(*, source_schema: str = HELPER_SCHEMA, target_schema: str = HELPER_SCHEMA) -> str:
    """Settings of one task, in normal form.

    Args:
        source_schema: where the loopback mark of this task's source lives; the reverse task names it as its target's.
        target_schema: where the mark of this task's target lives.

    Loopback prevention (AWS DMS, 'Performing bidirectional replication') needs both tasks with mirrored schemas and
    without batch apply, which would reorder the mark and the rows it marks.
    """
    return normal_form(
        {
            "TargetMetadata": {
                "TargetSchema": "",
                "SupportLobs": True,
                "FullLobMode": False,
                "LimitedSizeLobMode": True,
                "LobMaxSize": LOB_MAX_SIZE_KB,
                "LobChunkSize": 0,
                "BatchApplyEnabled": False,
                "ParallelApplyThreads": 0,
                "TaskRecoveryTableEnabled": True,
            },
            "LoopbackPreventionSettings": {
                "EnableLoopbackPrevention": True,
                "SourceSchema": source_schema,
                "TargetSchema": target_schema,
            },
            "ErrorBehavior": error_behavior(),
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
            "ChangeProcessingTuning": {
                "BatchApplyPreserveTransaction": True,
                "CommitTimeout": 1,
                "MinTransactionSize": 1000,
                "MemoryKeepTime": 60,
                "MemoryLimitTotal": 1024,
                "StatementCacheSize": 50,
            },
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
