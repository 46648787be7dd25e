"""What an answer of AWS DMS means, and whether each failure becomes a sentence that says what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import dms_settings
from scripts.replication.directions import DIRECTIONS, publisher
from scripts.replication.dms import answers
from scripts.replication.dms.engine import RECORDS
from scripts.writes import record

TASK = {"ReplicationTaskIdentifier": "t"}


@pytest.mark.parametrize(
    ("status", "message", "says"),
    [
        ("ready", "", "replicate start"),
        ("stopped", "Stop Reason NORMAL", "resumes it where it was"),
        ("starting", "", "wait a minute"),
        ("failed", "Last Error LOB value truncated, exceeds LobMaxSize", "raise that above what `task-migration preflight` measures"),
        ("failed", "ERROR: replication slot 'x' does not exist", "rollback --abandon"),
        ("failed", "requested WAL segment has already been removed", "max_slot_wal_keep_size"),
        ("failed", "Replication instance out of storage: no space left on device", "raise dmsAllocatedStorageGb"),
        ("failed", "could not connect to server: Connection timed out", "an endpoint cannot be reached"),
        ("failed", "FATAL: password authentication failed", "compare its secret"),
        ("failed", "permission denied to set parameter", "rds_superuser"),
        ("failed", "Last Error Task error notification received from subtask 1", "awsdms_apply_exceptions"),
        ("failed", "", "no reason given"),
    ],
)  # fmt: skip
def test_each_failure_of_a_task_says_what_to_do(status: str, message: str, says: str) -> None:
    problem = answers.task_problem({**TASK, "Status": status, "LastFailureMessage": message})
    assert problem is not None
    assert says in problem
    assert "task t" in problem


@given(status=st.text(), message=st.text())
def test_only_a_running_task_is_no_problem(status: str, message: str) -> None:
    """Prevents a status that AWS adds one day from passing for a running task."""
    problem = answers.task_problem({**TASK, "Status": status, "LastFailureMessage": message})
    assert (problem is None) == (status == "running")


@pytest.mark.parametrize(
    ("state", "lost"),
    [
        ("Table completed", False),
        ("Before load", False),
        ("Table error", True),
        ("Table is suspended", True),
        ("Table Suspended", True),
    ],
)
def test_a_suspended_table_is_a_problem_though_its_task_runs(state: str, lost: bool) -> None:
    """Prevents a task in status `running` that has long stopped to replicate one of its tables."""
    found = answers.table_problems([{"SchemaName": "public", "TableName": "tasks", "TableState": state}])
    assert bool(found) is lost
    if lost:
        assert "public.tasks" in found[0]
        assert "rollback --abandon" in found[0]


@pytest.mark.parametrize(
    ("instance", "free", "says"),
    [
        ({"ReplicationInstanceStatus": "available", "AllocatedStorage": 50}, 20.0, None),
        ({"ReplicationInstanceStatus": "available", "AllocatedStorage": 50}, None, None),
        ({"ReplicationInstanceStatus": "available", "AllocatedStorage": 50}, 4.9, "raise dmsAllocatedStorageGb"),
        ({"ReplicationInstanceStatus": "storage-full", "AllocatedStorage": 50}, None, "50 GB are full"),
        ({"ReplicationInstanceStatus": "incompatible-network"}, None, "privateSubnetIds"),
        ({"ReplicationInstanceStatus": "deleting"}, None, "must be available"),
    ],
)
def test_an_instance_that_cannot_work_says_what_to_do(
    instance: dict[str, Any], free: float | None, says: str | None
) -> None:
    problem = answers.instance_problem({"ReplicationInstanceIdentifier": "i", **instance}, free)
    assert problem is None if says is None else says in str(problem)


@pytest.mark.parametrize(
    "deployed",
    [
        [("public", "tasks"), ("task_migration", "heartbeat")],
        [("task_migration", "target_writes")],
        [("task_migration", "source_writes"), ("public", "tasks")],
        [],
    ],
)
def test_a_task_that_carries_anything_else_is_told(deployed: list[tuple[str, str]]) -> None:
    """Prevents a task of another version, which applies data rows beside the rules, or sends back what arrives."""
    wanted = dms_settings.table_mappings("source_writes")
    assert answers.mapping_problem({**TASK, "TableMappings": json.dumps(json.loads(wanted), indent=2)}, wanted) is None
    rules = [
        {"rule-type": "selection", "object-locator": {"schema-name": schema, "table-name": table}}
        for schema, table in deployed
    ]
    problem = answers.mapping_problem({**TASK, "TableMappings": json.dumps({"rules": rules})}, wanted)
    assert problem is not None
    assert "it must carry task_migration.source_writes alone" in problem
    assert all(f"{schema}.{table}" in problem for schema, table in deployed)


def test_each_task_carries_the_record_of_the_side_that_it_reads() -> None:
    """Prevents a task that maps a table which capture does not fill, or that brings back what it brought."""
    assert {direction: record.table_name(publisher(direction)) for direction in DIRECTIONS} == RECORDS


def test_connections() -> None:
    assert answers.connection_problem("e", {"Status": "successful"}) is None
    assert "security groups" in str(
        answers.connection_problem("e", {"Status": "failed", "LastFailureMessage": "no route"})
    )
    assert "never tested" in str(answers.connection_problem("e", None))
