"""What counts as a finding of `replicate status`."""

from __future__ import annotations

from typing import Any

import pytest

from components.config import MigrationConfig
from scripts.database.helper_schema import Open
from scripts.replication import findings
from scripts.replication.directions import Direction
from scripts.replication.documents import DirectionState, Finding, SequenceBand
from scripts.support.sides import Side


def state(**changes: Any) -> DirectionState:
    seen = {"running": True, "reason": None, "lag_bytes": 0, "apply_errors": 0, "slot": None, **changes}
    return DirectionState.model_validate(seen)


BAND = {"sequence": "s", "source_last": 9, "target_last": 10, "used_percent": 90, "band_start": 10}
ROOM = {"retained_bytes": 1, "limit_bytes": 10, "limit": "walAllowanceGb", "hours": 3.0, "rate_bytes_per_second": 5.0}
ROOM |= {"measured_over_seconds": None}


@pytest.mark.parametrize(
    ("forward", "band", "drift", "expected"),
    [
        ({}, "ok", [], []),
        ({"running": False, "reason": "why"}, "ok", [], [("fail", "forward: not running")]),
        ({"reason": "fence late"}, "ok", [], [("warn", "forward: late")]),
        ({"reason": "fence late", "blocked_by": [17]}, "ok", [], [("fail", "forward: late")]),
        ({"stalled_seconds": 59.9}, "ok", [], []),
        ({"stalled_seconds": 60.0}, "ok", [], [("fail", "forward: slot stalled")]),
        ({"stalled_seconds": float("nan")}, "ok", [], [("fail", "forward: slot stalled")]),
        ({"runway": ROOM}, "ok", [], [("warn", "forward: log runway")]),
        ({"runway": {**ROOM, "hours": 23.9}}, "ok", [], [("warn", "forward: log runway")]),
        ({"runway": {**ROOM, "hours": 24.0}}, "ok", [], []),
        ({"runway": {**ROOM, "hours": None}}, "ok", [], []),
        ({"runway": {**ROOM, "retained_bytes": 10}}, "ok", [], [("fail", "forward: log runway")]),
        ({}, "warn", [], [("warn", "sequence band: s")]),
        ({}, "fail", [], [("fail", "sequence band: s")]),
        ({}, "ok", ["tasks: column x"], [("fail", "schema drift")]),
    ],
)
def test_what_counts_as_a_finding(
    forward: dict[str, Any], band: str, drift: list[str], expected: list[tuple[str, str]]
) -> None:
    """Prevents a status that is fine while a slot, a band or the schema is not; each finding has a remedy."""
    bands = [SequenceBand.model_validate({**BAND, "table": "t", "column": "id", "status": band})]
    directions: dict[Direction, DirectionState] = {"forward": state(**forward), "reverse": state()}
    found = findings.judge(MigrationConfig(), directions, bands, drift, {}, {})
    assert [(entry.status, entry.what) for entry in found] == expected
    assert all(entry.detail and entry.remedy for entry in found)


def only(*drift: str, **forward: Any) -> Finding:
    """The one finding over this."""
    (found,) = findings.judge(MigrationConfig(), {"forward": state(**forward)}, [], drift, {}, {})
    return found


def test_a_finding_says_the_value_the_limit_and_the_remedy() -> None:
    """Prevents a finding of which nobody knows how bad it is, nor what to do."""
    assert only(running=False, reason="the worker fails").detail == "the worker fails"
    assert only(reason="late", blocked_by=[17, 4]).remedy.endswith("SELECT pg_terminate_backend(17, 4)")
    assert only(reason="late").remedy == "wait, and look again"
    room = only(runway={**ROOM, "limit_bytes": 3 * 2**29, "rate_bytes_per_second": 5 * 2**18})
    assert room.detail.startswith("3 h until the log kept for the slot reaches 1,536.00 MiB (walAllowanceGb)")
    assert room.detail.endswith("at 1.25 MiB/s; 24 h are wanted")
    assert "at 0.00 MiB/s" in only(runway={**ROOM, "rate_bytes_per_second": None}).detail
    full = only(runway={**ROOM, "retained_bytes": 2**31, "limit_bytes": 2**30})
    assert full.detail == "the slot holds 2,048.00 MiB of log, the limit (walAllowanceGb) is 1,024.00 MiB"


@pytest.mark.parametrize(("number", "rest"), [(9, ""), (10, ""), (11, "; and 1 more"), (25, "; and 15 more")])
def test_ten_differences_are_told_and_the_rest_counted(number: int, rest: str) -> None:
    """Prevents a page of differences, and one that hides that there are more."""
    told = only(*(f"d{one}" for one in range(number)))
    assert told.detail == "; ".join(f"d{one}" for one in range(min(number, 10))) + rest


def test_each_sides_record_is_judged_and_what_others_may_read_of_it() -> None:
    """Prevents a side whose findings are lost among the other's, and a helper schema that stays open."""
    open_ = findings.Recording(
        triggers=["gone"],
        exposed=[Open("anybody may read it", "REVOKE a"), Open("somebody owns it", "ALTER b")],
    )
    records: dict[Side, findings.Recording] = {"source": open_, "target": findings.Recording(triggers=["off"])}
    found = findings.judge(MigrationConfig(), {}, [], [], {"forward": 1, "reverse": 0}, records)
    assert [(one.status, one.what, one.detail) for one in found[1:]] == [
        ("fail", "source: triggers", "gone"),
        ("fail", "source: helper schema open to others", "anybody may read it; somebody owns it"),
        ("fail", "target: triggers", "off"),
    ]
    assert found[2].remedy == "REVOKE a; ALTER b"
    assert "1 writes of the source never arrived at the target, the limit is none" in found[0].detail


@pytest.mark.parametrize("changed", ["tasks was added: copy again", "", None])
def test_other_tables_than_were_copied_fail(changed: str | None) -> None:
    """Prevents a status that is fine over a table that nobody copied."""
    found = list(findings.tables(changed))
    assert [(one.status, one.what, one.detail) for one in found] == [("fail", "tables", changed)] * bool(changed)


@pytest.mark.parametrize(
    ("statuses", "grade"), [([], "ok"), (["warn"], "warn"), (["fail"], "fail"), (["warn", "fail", "warn"], "fail")]
)
def test_the_whole_is_as_bad_as_its_worst(statuses: list[Any], grade: str) -> None:
    """Prevents a status of 0 over a finding that fails."""
    assert findings.worst([Finding(status=one, what="w", detail="d", remedy="r") for one in statuses]) == grade


def test_unusual_deletes_fail_with_what_to_do() -> None:
    """Prevents a status that is fine while the Task Service empties a table, there and on the monolith."""
    wrong = findings.Recording(deletes=["the Task Service deleted 9 of 9 rows of t"])
    (found,) = findings.judge(MigrationConfig(), {}, [], [], {}, {"source": findings.Recording(), "target": wrong})
    assert (found.status, found.what) == ("fail", "target: unusual deletes")
    assert "9 of 9 rows" in found.detail
    assert "rollback" in found.remedy


def test_writes_that_a_fence_overtook_fail() -> None:
    """Prevents a status that is fine though a slot was advanced, or made anew, by hand."""
    (found,) = findings.judge(MigrationConfig(), {}, [], [], {"forward": 0, "reverse": 1234}, {})
    assert (found.status, found.what) == ("fail", "reverse: writes that did not arrive")
    assert "1,234 writes of the target never arrived at the source" in found.detail
    assert found.remedy


def test_a_record_of_writes_that_was_taken_away_fails() -> None:
    """Prevents a status that is fine while a side's writes leave no record, or its numbers went back."""
    wrong = findings.Recording(
        triggers=["t has no trigger x"], tables=["t.a was added"], older=["the clock"], unrecorded=["it was off"]
    )
    found = findings.judge(MigrationConfig(), {}, [], [], {}, {"source": findings.Recording(), "target": wrong})
    assert [(entry.status, entry.what, entry.detail) for entry in found] == [
        ("fail", "target: triggers", "t has no trigger x"),
        ("fail", "target: tables altered", "t.a was added"),
        ("fail", "target: an older state", "the clock"),
        ("fail", "target: writes without a record", "it was off"),
    ]
    assert all(entry.remedy for entry in found)
