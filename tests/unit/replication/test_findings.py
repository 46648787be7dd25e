"""What counts as a finding of `replicate status`."""

from __future__ import annotations

from typing import Any

import pytest

from components.config import MigrationConfig
from scripts.replication import findings
from scripts.replication.directions import Direction
from scripts.replication.documents import DirectionState, SequenceBand


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
        ({"runway": {**ROOM, "hours": 25.0}}, "ok", [], []),
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
