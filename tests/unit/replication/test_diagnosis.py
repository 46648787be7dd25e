"""What is said of the write that a worker fails at."""

from __future__ import annotations

import psycopg
import pytest

from scripts.replication import diagnosis
from scripts.replication.writes import Waiting

WRITE = Waiting(7, "tasks", '["5", "a b"]', "update", '{"title": "hunter2"}', None)


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
def test_a_failing_write_is_told_without_its_values(error: psycopg.Error, shown: bool) -> None:
    """Prevents a pupil's name in a report: messages that may quote a row are left out, their kind is named."""
    found = diagnosis.failure(WRITE, ("id", "other"), error)
    assert found.key == {"id": "5", "other": "a b"}
    assert (found.table, found.operation, found.v) == ("tasks", "UPDATE", 7)
    assert "hunter2" not in str(found)
    assert type(error).__name__ in str(found)
    assert (str(error) in str(found)) is shown
