"""What an answer of AWS DMS means, and whether each failure becomes a sentence that says what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
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


def _rule(schema: str, table: str, **more: Any) -> dict[str, Any]:
    locator = {"schema-name": schema, "table-name": table}
    return {"rule-type": "selection", "rule-action": "include", "object-locator": locator, "rule-id": "7", **more}


RECORD = ("task_migration", "source_writes")
FILTER = {"filter-type": "source", "column-name": "v", "filter-conditions": [{"filter-operator": "gte", "value": "9"}]}
RENAMED = {
    **_rule(*RECORD),
    "rule-type": "transformation",
    "rule-action": "rename",
    "rule-target": "table",
    "value": "x",
}


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([_rule("public", "tasks"), _rule("task_migration", "heartbeat")], "public.tasks, task_migration.heartbeat"),
        ([_rule("task_migration", "target_writes")], "task_migration.target_writes"),
        ([_rule(*RECORD), _rule("public", "tasks")], "public.tasks, task_migration.source_writes"),
        ([], "nothing that can be read"),
        # Of the right table too little, or elsewhere.
        ([_rule(*RECORD, **{"rule-action": "exclude"})], '"rule-action": "exclude"'),
        ([_rule(*RECORD, filters=[FILTER])], '"filter-operator": "gte"'),
        ([_rule(*RECORD), RENAMED], '"rule-action": "rename"'),
        ([{**_rule(*RECORD), "object-locator": {**_rule(*RECORD)["object-locator"], "table-type": "view"}}], '"table-type": "view"'),
    ],
)  # fmt: skip
def test_a_task_that_carries_anything_else_is_told(rules: list[dict[str, Any]], told: str) -> None:
    """Prevents a task of another version, or one that was changed by hand: data rows beside the rules, records that a filter leaves out."""
    wanted = dms_settings.table_mappings("source_writes")
    problem = answers.mapping_problem({**TASK, "TableMappings": json.dumps({"rules": rules})}, wanted)
    assert problem is not None
    assert f"{told}" in problem
    assert problem.endswith(
        f"it must carry task_migration.source_writes alone; it was deployed by another version. {answers.MADE_ANEW}"
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["selection", "include", "exclude", *RECORD, "%", ""]),
    lambda one: st.lists(one, max_size=2) | st.dictionaries(st.sampled_from(["rules", *_rule("", ""), "schema-name", "table-name", "filters"]), one),
    max_leaves=8,
)  # fmt: skip
_RULES = st.lists(
    st.builds(
        lambda *parts: dict(part for part in zip(("rule-type", "rule-action", "object-locator", "filters"), parts, strict=True) if part[1] != "-"),
        st.sampled_from(["selection", "selection", "transformation", "-", None]),
        st.sampled_from(["include", "include", "exclude", "explicit", "-", None]),
        st.sampled_from([_rule(*RECORD)["object-locator"]] * 3 + [{"schema-name": "public", "table-name": "%"}, "-", None, []]),
        st.sampled_from(["-", [], None, [FILTER]]),
    ),
    max_size=2,
)  # fmt: skip
_TEXTS = st.one_of(
    _RULES.map(lambda rules: json.dumps({"rules": rules})), _JSON.map(json.dumps), st.text(max_size=9), st.just("[" * 5000), st.none()
)  # fmt: skip


@settings(max_examples=300)
@given(_TEXTS)
def test_whatever_a_task_maps_is_the_one_record_whole_or_is_told(text: str | None) -> None:
    wanted = dms_settings.table_mappings("source_writes")
    problem = answers.mapping_problem({**TASK, "TableMappings": text}, wanted)
    try:
        rules = json.loads(text or "")["rules"]
        (rule,) = rules
        whole = rule["rule-type"] == "selection" and rule["rule-action"] == "include" and not rule.get("filters")
        whole = whole and tuple(rule["object-locator"].values()) == RECORD
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    assert (problem is None) == whole, text


@given(
    st.dictionaries(st.sampled_from(["TargetMetadata", "ErrorBehavior"]), st.none() | _JSON | st.dictionaries(
        st.sampled_from(["LobMaxSize", "BatchApplyEnabled", "DataErrorPolicy", "ApplyErrorDeletePolicy"]),
        st.sampled_from(["STOP_TASK", "IGNORE_RECORD", 64, 63, False, True, None]),
    )).map(json.dumps) | st.text(max_size=5)
)  # fmt: skip
def test_whatever_settings_a_task_has_are_those_by_which_nothing_is_lost_or_are_told(text: str) -> None:
    declared = json.loads(dms_settings.task_settings(lob_max_size_kb=64))
    problem = answers.settings_problem({**TASK, "ReplicationTaskSettings": text}, json.dumps(declared))
    checked = {"LobMaxSize": "TargetMetadata", "BatchApplyEnabled": "TargetMetadata"}
    checked |= dict.fromkeys(("DataErrorPolicy", "ApplyErrorDeletePolicy"), "ErrorBehavior")
    try:
        known = {key: (json.loads(text or "{}").get(group) or {}).get(key, "-") for key, group in checked.items()}
    except (ValueError, AttributeError):
        assert problem is not None
        return
    kept = declared["TargetMetadata"] | declared["ErrorBehavior"]
    other = [key for key in checked if known[key] not in ("-", kept[key])]
    assert all(f"{key} {known[key]}, declared is {kept[key]}" in str(problem) for key in other)
    assert (problem is None) == (not other)


def test_each_task_carries_the_record_of_the_side_that_it_reads() -> None:
    """Prevents a task that maps a table which capture does not fill, or that brings back what it brought."""
    assert RECORDS == {"forward": "source_writes", "reverse": "target_writes"}
    assert {direction: record.table_name(publisher(direction)) for direction in DIRECTIONS} == RECORDS


def test_connections() -> None:
    assert answers.connection_problem("e", {"Status": "successful"}) is None
    assert "security groups" in str(
        answers.connection_problem("e", {"Status": "failed", "LastFailureMessage": "no route"})
    )
    assert "never tested" in str(answers.connection_problem("e", None))
