"""What an answer of AWS DMS means, and whether each failure becomes a sentence that says what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import dms_settings
from scripts.replication.dms import answers
from scripts.replication.dms.answers import ApplyException

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
    ("statement", "error", "expected"),
    [
        ("UPDATE \"public\".\"tasks\" SET \"title\"='x'  WHERE \"id\"=1", "0 rows affected", True),
        ("DELETE FROM \"public\".\"task_tag\"", "0 Rows affected", True),
        ("INSERT INTO \"public\".\"tasks\" VALUES (1)", "0 rows affected", False),
        ("UPDATE \"public\".\"tasks\" SET \"title\"=NULL", "RetCode: SQL_ERROR violates not-null constraint", False),
        ("", "0 rows affected", False),
    ],
)  # fmt: skip
def test_only_a_row_that_is_gone_may_be_passed_by(statement: str, error: str, expected: bool) -> None:
    """Prevents a row that DMS could not write from being counted among the harmless ones."""
    entry = ApplyException("t", "public.tasks", "now", error, answers.kind_of(statement))
    assert entry.expected is expected
    assert answers.unexpected([entry]) == ([] if expected else [entry])


def test_validation_over_all_tables() -> None:
    def table(state: str, **counts: int) -> dict[str, Any]:
        return {"SchemaName": "public", "TableName": state, "ValidationState": state, **counts}

    assert answers.validation([]).state == "not enabled"
    assert answers.validation([table("Validated"), table("Validated")]).state == "validated"
    pending = answers.validation([table("Validated"), table("Pending records", ValidationPendingRecords=3)])
    assert pending.plain() == {
        "state": "pending",
        "pending": 3,
        "failed": 0,
        "suspended": 0,
        "tables": {"public.Validated": "Validated", "public.Pending records": "Pending records"},
    }
    found = answers.validation([table("Mismatched records", ValidationFailedRecords=2), table("Validated")])
    assert (found.state, found.failed) == ("mismatched", 2)


def test_a_task_deployed_with_another_list_is_told() -> None:
    """Prevents a table added to the configuration that is copied and then never replicated."""
    deployed = dms_settings.table_mappings("public", ["tasks"])
    task = {**TASK, "TableMappings": json.dumps(json.loads(deployed), indent=2)}
    assert answers.mapping_problem(task, deployed) is None
    problem = answers.mapping_problem(task, dms_settings.table_mappings("public", ["tasks", "task_tag"]))
    assert problem is not None
    assert "public.task_tag" in problem
    assert "pulumi up" in problem


def test_connections() -> None:
    assert answers.connection_problem("e", {"Status": "successful"}) is None
    assert "security groups" in str(
        answers.connection_problem("e", {"Status": "failed", "LastFailureMessage": "no route"})
    )
    assert "never tested" in str(answers.connection_problem("e", None))


BEAT = "table task_migration.heartbeat: UPDATE: side[text]:'source' beat[bigint]:7"
PEER = "table task_migration.heartbeat: UPDATE: side[text]:'target' beat[bigint]:9"
LOOP = "table loopback.awsdms_loopback_prevention: UPDATE: id[integer]:1"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        (["BEGIN 1", 'table public."Weird ""Table": INSERT: id[bigint]:1', "COMMIT 1"], ['Weird "Table']),
        (["BEGIN 1", "table public.tasks: DELETE: id[bigint]:1", "COMMIT 1", "BEGIN 2", BEAT, "COMMIT 2"], []),
        (["BEGIN 2", BEAT, "COMMIT 2", "BEGIN 3", "table public.tasks: UPDATE: id[bigint]:1", "COMMIT 3"], ["tasks"]),
        # The other side's beat, as applied here, proves nothing of this side; tables that stay are none of ours.
        (["BEGIN 3", "table public.tasks: UPDATE: x", "COMMIT 3", "BEGIN 4", PEER, "COMMIT 4"], ["tasks"]),
        (["BEGIN 5", "table public.users: UPDATE: x", "table public.tasks_old: UPDATE: x", "COMMIT 5"], []),
        # What DMS applied is the other side's.
        (["BEGIN 6", LOOP, "table public.tasks: UPDATE: x", "COMMIT 6"], []),
        (["BEGIN 6", LOOP, "COMMIT 6", "BEGIN 7", "table public.tasks: UPDATE: x", "COMMIT 7"], ["tasks"]),
    ],
)
def test_what_a_slot_of_dms_holds_after_the_last_fence(lines: list[str], expected: list[str]) -> None:
    """Prevents an end that drops a slot with a write that nobody has, and one that never comes as the target writes on."""
    assert answers.changed_after_heartbeat(lines, "source", "public", ("tasks", 'Weird "Table')) == expected
