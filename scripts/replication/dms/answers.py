"""What an observation of DMS means: pure functions from the API's answers to sentences with a remedy. No I/O.

Sources: AWS DMS, 'Task status', 'Table states during tasks', 'Monitoring AWS DMS tasks', 'Replication instance status'.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.database.error_text import passed_on

#: Statuses that pass by themselves.
PASSING = frozenset({"creating", "starting", "stopping", "modifying", "moving", "testing", "deleting"})
#: Tables that DMS no longer replicates though its task runs.
LOST_TABLES = ("error", "suspended")
#: Share of the instance's disk from which on it is reported, percent: full, every task on it stops.
STORAGE_LIMIT_PERCENT = 90.0
#: To change a task in place AWS's provider stops it, and leaves it stopped; so no `up` does.
MADE_ANEW = (
    "No deployment changes a task that is there: `task-migration rollback --abandon` deletes one that ran (one that never did: aws dms "
    "delete-replication-task --replication-task-arn ARN), then pulumi up --refresh makes it, then copy again"
)


@dataclass(frozen=True)
class ApplyException:
    """One row of `awsdms_apply_exceptions`: a change that DMS did not apply. Its statement holds values, and is not read."""

    at: str
    error: str


def task_problem(task: Mapping[str, Any]) -> str | None:
    """Why a task does not run, with what to do; None when it runs."""
    name, status = str(task["ReplicationTaskIdentifier"]), str(task.get("Status", "unknown"))
    if status == "running":
        return None
    message = str(task.get("LastFailureMessage") or task.get("StopReason") or "no reason given")
    if status == "ready":
        return f"the task {name} was never started; run `task-migration replicate start`"
    if status == "stopped":
        return f"the task {name} is stopped ({passed_on(message, own=True)}); run `task-migration replicate start`, which resumes it where it was"
    if status in PASSING:
        return f"the task {name} is {status}; wait a minute and look again"
    return f"the task {name} has failed ({status}): {passed_on(message, own=True)}; {remedy(message)}"


def remedy(message: str) -> str:
    """What to do about a failure, by what DMS says of it; always ends in the command that goes on."""
    text = message.lower()
    goes_on = "then `task-migration replicate start`, which resumes it where it was"
    if "lob" in text and ("truncat" in text or "exceed" in text):
        return (
            "a row is larger, as JSON text, than dmsLobMaxSizeKb: raise that above what `task-migration preflight` measures and make the tasks "
            "anew (rollback --abandon, pulumi up --refresh, copy): settings are a task's for life"
        )
    if "replication slot" in text or "slot_name" in text or "wal segment" in text:
        return (
            "the slot is gone or lost, and with it the changes since: `task-migration rollback --abandon`, then "
            "`task-migration copy`; raise max_slot_wal_keep_size before it"
        )
    if any(word in text for word in ("disk", "storage", "no space", "out of memory", "swap")):
        return (
            f"the replication instance is full: raise dmsAllocatedStorageGb or dmsInstanceClass, pulumi up, {goes_on}"
        )
    if any(word in text for word in ("connect", "timeout", "timed out", "network", "unreachable", "authentication")):
        return (
            "an endpoint cannot be reached: compare its secret (host, port, username, password), the security groups and "
            f"`rds.force_ssl`, test it (aws dms test-connection), {goes_on}"
        )
    if "permission" in text or "privilege" in text:
        return (
            "its role lacks a right: rds_replication on the side it reads, rds_superuser for session_replication_role on the side it "
            "writes, USAGE and CREATE on the schema task_migration, SELECT, INSERT and DELETE on its tables on both; grant it, "
            f"{goes_on}"
        )
    return f"read the failing row in task_migration.awsdms_apply_exceptions and in the task's log, mend it, {goes_on}"


def table_problems(statistics: Iterable[Mapping[str, Any]]) -> list[str]:
    """Tables whose changes no longer come through, of DescribeTableStatistics."""
    found = []
    for entry in statistics:
        state = str(entry.get("TableState", ""))
        if any(word in state.lower() for word in LOST_TABLES):
            found.append(
                f"table {entry.get('SchemaName')}.{entry.get('TableName')} is in state {state!r}: its changes are no longer applied and "
                "cannot be had again from the slot; `task-migration rollback --abandon`, then `task-migration copy`"
            )
    return found


def connection_problem(endpoint: str, connection: Mapping[str, Any] | None) -> str | None:
    """Why an endpoint's test did not succeed; None when it did."""
    if connection is None:
        return f"the endpoint {endpoint} was never tested"
    status = str(connection.get("Status", "unknown"))
    if status == "successful":
        return None
    message = str(connection.get("LastFailureMessage") or "no reason given")
    return f"the endpoint {endpoint} cannot be reached from the replication instance (test: {status}): {message}; {_way(message)}"


def _way(message: str) -> str:
    """What to look at, by what the test said: a way that is closed, or what the secret has."""
    if any(word in message.lower() for word in ("timeout", "timed out", "network")):
        return (
            "its security group has no way in for the one of the instance, or a route is missing: `task-migration preflight --account`, "
            "pulumi up --refresh (the rules are declared); and the secret's host and port"
        )
    return (
        "compare its secret (host, port, username, password), the access role, the security groups and `rds.force_ssl`"
    )


def instance_problem(instance: Mapping[str, Any], free_gb: float | None = None) -> str | None:
    """Why the replication instance cannot work; None when it can. ``free_gb`` is CloudWatch's FreeStorageSpace."""
    name, status = (
        str(instance["ReplicationInstanceIdentifier"]),
        str(instance.get("ReplicationInstanceStatus", "unknown")),
    )
    size = float(instance.get("AllocatedStorage") or 0)
    if status in ("storage-full", "inaccessible-encryption-credentials", "failed", "incompatible-network"):
        what = {
            "storage-full": f"its {size:g} GB are full: raise dmsAllocatedStorageGb, then pulumi up",
            "incompatible-network": "its subnets or security groups no longer fit: mend privateSubnetIds, then pulumi up",
        }.get(status, "make it anew: pulumi up --refresh")
        return f"the replication instance {name} is {status}; {what}"
    if status not in ("available", "modifying", "maintenance", "upgrading", "creating", "rebooting"):
        return f"the replication instance {name} is {status}, it must be available; look at its events in the console"
    if free_gb is not None and size and 100.0 * (1.0 - free_gb / size) >= STORAGE_LIMIT_PERCENT:
        return (
            f"the replication instance {name} has {free_gb:.1f} GB of {size:g} GB left, the limit is "
            f"{100 - STORAGE_LIMIT_PERCENT:g} % free; raise dmsAllocatedStorageGb, then pulumi up"
        )
    return None


def mapping_problem(task: Mapping[str, Any], wanted: str) -> str | None:
    """Whether the deployed task carries anything but the table in ``wanted``, whole and under its name: a filter, a renaming or another
    action loses as much as another table (AWS DMS, 'Specifying table selection and transformations rules using JSON')."""
    (ours,) = map(_told, json.loads(wanted)["rules"])
    rules = (_document(task, "TableMappings") or {}).get("rules")
    deployed = sorted(map(_told, rules)) if isinstance(rules, list) else []
    if deployed == [ours]:
        return None
    return (
        f"the task {task['ReplicationTaskIdentifier']} carries {', '.join(deployed) or 'nothing that can be read'}, it must carry {ours} "
        f"alone; it was deployed by another version. {MADE_ANEW}"
    )


def _told(rule: Any) -> str:
    """A mapping rule in words: `schema.table` where that is carried as it is, else all that the rule says but its number and name."""
    told = rule
    if isinstance(rule, dict):
        told = {key: value for key, value in rule.items() if value and key not in ("rule-id", "rule-name")}
    match told:
        case {
            "rule-type": "selection",
            "rule-action": "include",
            "object-locator": {"schema-name": str(schema), "table-name": str(table), **narrower},
            **other,
        } if not narrower and not other:
            return f"{schema}.{table}"
    return json.dumps(told, sort_keys=True)


def _document(task: Mapping[str, Any], member: str) -> dict[str, Any] | None:
    """The JSON object in a member of a task's description, empty where there is none; None where that is no object."""
    try:
        found = json.loads(str(task.get(member) or "{}"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def settings_problem(task: Mapping[str, Any], wanted: str) -> str | None:
    """What of a deployed task's settings is not as declared now, of those by which nothing is lost: policies and LOBs.

    `up` changes no task, so one keeps the settings that it was made with; what AWS answers beside them is its own.
    """
    deployed, ours = _document(task, "ReplicationTaskSettings"), json.loads(wanted)
    kept = [("TargetMetadata", key) for key in ("LobMaxSize", "LimitedSizeLobMode", "BatchApplyEnabled")]
    kept += [("ErrorBehavior", key) for key in sorted(ours["ErrorBehavior"]) if key.endswith("Policy")]
    found = ["settings that cannot be read"] if deployed is None else []
    for group, key in kept:
        given = (deployed or {}).get(group) or {}
        if not isinstance(given, dict) or (key in given and given[key] != ours[group][key]):
            had = given.get(key) if isinstance(given, dict) else given
            found.append(f"{key} {had}, declared is {ours[group][key]}")
    if not found:
        return None
    return f"the task {task['ReplicationTaskIdentifier']} was made with {'; '.join(found)}. {MADE_ANEW}"
