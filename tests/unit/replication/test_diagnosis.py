"""What a slot would send is read, and what is said of the row that a worker fails at."""

from __future__ import annotations

import struct
from contextlib import suppress

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.replication import diagnosis, pgoutput
from scripts.support.errors import DatabaseError

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
