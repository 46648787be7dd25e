"""The decisions of `replicate status`: stalled or not, hours left, what is said of a failing row, what counts as a finding."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import MigrationConfig
from scripts.replication import diagnosis, findings, pgoutput, slot_health
from scripts.replication.directions import Direction
from scripts.replication.dms import answers
from scripts.replication.documents import DirectionState, SequenceBand
from scripts.replication.slot_health import Mark, Observation, advance, runway, stalled_seconds
from scripts.support.errors import DatabaseError

GIB = 1024**3


def seen(at: float, wal: int, confirmed: int, retained: int = 0, **more: Any) -> Observation:
    return Observation(at, wal, confirmed, retained, more.get("average_rate"), more.get("keep_bytes"))


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        # The first look knows nothing of before.
        ([(0, 100, 50)], 0),
        # It stands while the log grows: since the first look that saw it there.
        ([(0, 100, 50), (30, 200, 50), (70, 300, 50)], 70),
        # It stands, and so does the log: an idle server is no stall.
        ([(0, 100, 50), (300, 100, 50)], 0),
        # It advanced in between, however little.
        ([(0, 100, 50), (50, 200, 51), (90, 300, 51)], 40),
        # It advances with every look.
        ([(0, 100, 50), (50, 200, 60), (90, 300, 70)], 0),
    ],
)
def test_a_slot_is_stalled_only_while_the_log_grows(looks: list[tuple[float, int, int]], expected: float) -> None:
    """Prevents an alarm on an idle server, and none on a slot that stands still."""
    mark: Mark | None = None
    stalled = 0.0
    for look in looks:
        stalled = stalled_seconds(mark, seen(*look))
        mark = advance(mark, seen(*look))
    assert stalled == expected


@given(st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 1000), st.integers(0, 5)), min_size=1, max_size=30))
def test_a_slot_that_moved_since_the_last_look_is_never_stalled(steps: list[tuple[float, int, int]]) -> None:
    """Prevents a count that goes on after the slot has advanced, and one longer than the watch."""
    at, wal, confirmed, mark = 0.0, 1000, 0, None
    for seconds, written, read in steps:
        at, wal = at + seconds, wal + written
        confirmed = min(wal, confirmed + read)
        look = seen(at, wal, confirmed)
        found = stalled_seconds(mark, look)
        assert 0 <= found <= at + 0.1
        if mark is not None and mark.confirmed != confirmed:
            assert found == 0
        mark = advance(mark, look)
        assert slot_health.mark_of(mark.document()) == mark


def test_the_runway_takes_the_smaller_limit_and_the_present_rate() -> None:
    """Prevents hours computed from last week's rate, or past the size after which the server drops the slot."""
    mark = Mark(confirmed=0, confirmed_since=0, wal_then=0, window_at=0, window_wal=0)
    # 100 MiB in 100 s; 1 GiB may be kept, a quarter of it is used.
    look = seen(100, 100 * 2**20, 0, GIB // 4, average_rate=1.0, keep_bytes=GIB)
    found = runway(mark, look, 10 * GIB)
    assert found.limit == "max_slot_wal_keep_size"
    assert found.rate_bytes_per_second == 2**20
    assert found.hours == pytest.approx(768 / 3600, abs=0.01)
    # Too short a window: the server's own average, until there is more.
    early = runway(mark, seen(5, 100 * 2**20, 0, 0, average_rate=1000.0), GIB)
    assert (early.limit, early.rate_bytes_per_second, early.measured_over_seconds) == (
        "walAllowanceGb",
        1000.0,
        None,
    )
    assert runway(None, seen(5, 1, 0, 0), GIB).hours is None
    assert runway(mark, seen(100, 100 * 2**20, 0, 2 * GIB), GIB).hours == 0
    # The window begins anew, so that a quiet night does not hide a busy morning.
    assert advance(mark, seen(4000, 5, 0)).window_at == 4000


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
    found = findings.judge(MigrationConfig(), directions, bands, drift)
    assert [(entry.status, entry.what) for entry in found] == expected
    assert all(entry.detail and entry.remedy for entry in found)


RELATION = pgoutput.Relation("public", 'we"ird', ("id", "a b", "long"), ("id",))


def _row(*values: bytes | str | None) -> bytes:
    parts = [struct.pack(">h", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, str):
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack(">i", len(value)) + value)
    return b"".join(parts)


def _messages(*changes: bytes) -> list[bytes]:
    columns = b"".join(
        struct.pack(">b", int(name == "id")) + name.encode() + b"\0" + struct.pack(">Ii", 25, -1)
        for name in RELATION.columns
    )
    relation = b"R" + struct.pack(">I", 7) + b"public\0" + b'we"ird\0' + b"d" + struct.pack(">h", 3) + columns
    begin = b"B" + struct.pack(">QqI", 0x1_0000_00AB, 0, 42)
    return [begin, relation, *changes, b"C" + b"\0" * 25]


def test_the_slots_messages_are_read() -> None:
    """Prevents a wrong row named: keys sent alone, long values left out, NULLs, a changed key."""
    number = struct.pack(">I", 7)
    steps = list(
        pgoutput.read(
            _messages(
                b"I" + number + b"N" + _row(b"1", "あ".encode(), None),
                b"U" + number + b"N" + _row(b"1", b"x", "unchanged"),
                b"U" + number + b"K" + _row(b"1", None, None) + b"N" + _row(b"2", b"x", "unchanged"),
                b"D" + number + b"O" + _row(b"2", None, b"z"),
            )
        )
    )
    assert {(step.lsn, step.xid) for step in steps} == {("1/AB", 42)}
    insert, update, moved, delete = (step.change for step in steps)
    assert insert == pgoutput.Change("INSERT", RELATION, None, {"id": "1", "a b": "あ", "long": None})
    assert update.new == {"id": "1", "a b": "x"}
    assert (moved.old, moved.before) == ({"id": "1"}, {"id": "1"})
    assert delete.before == {"id": "2", "a b": None, "long": "z"}
    statements = [diagnosis.statement(change, ("id",)) for change in (insert, update, moved, delete)]
    assert [(query.as_string(None), values) for query, values in statements] == [
        (
            'INSERT INTO "public"."we""ird" ("id", "a b", "long") OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s)',
            ["1", "あ", None],
        ),
        ('UPDATE "public"."we""ird" SET "id" = %s, "a b" = %s WHERE "id" = %s', ["1", "x", "1"]),
        ('UPDATE "public"."we""ird" SET "id" = %s, "a b" = %s WHERE "id" = %s', ["2", "x", "1"]),
        ('DELETE FROM "public"."we""ird" WHERE "id" = %s', ["2"]),
    ]


@given(st.binary(max_size=60))
def test_a_message_that_is_none_is_named_not_guessed(data: bytes) -> None:
    """Prevents a crash, or a row made up, on bytes that are no message of the plugin."""
    with suppress(DatabaseError):
        for step in pgoutput.read([data]):
            raise AssertionError(step)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (psycopg.errors.CheckViolation('violates check constraint "positive"'), True),
        (psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE in a read-only transaction"), True),
        (psycopg.errors.UndefinedColumn('column "x" does not exist'), True),
        (psycopg.errors.InvalidTextRepresentation('invalid input syntax for type integer: "hunter2"'), False),
        (psycopg.errors.RaiseException("the user hunter2 is too young"), False),
    ],
)
def test_a_failing_row_is_told_without_its_values(error: psycopg.Error, shown: bool) -> None:
    """Prevents a pupil's name in a report: messages that may quote a row are left out, their kind is named."""
    step = pgoutput.Step("0/1", 1, pgoutput.Change("UPDATE", RELATION, None, {"id": "5", "a b": "hunter2"}))
    found = diagnosis.failure(step, ("id",), error)
    assert found.key == {"id": "5"}
    assert "hunter2" not in str(found)
    assert type(error).__name__ in str(found)
    assert (str(error) in str(found)) is shown


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
