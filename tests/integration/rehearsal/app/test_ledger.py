"""What the ledger's check reads in a real database: each kind of lost write, no false alarm, and the conflict log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.data.fill import populate
from scripts.rehearsal.data.schema import create_source_schema
from scripts.rehearsal.documents import LedgerCheck
from scripts.rehearsal.fates import EXISTENCE, GONE, THERE, check_ledger, told_losses
from scripts.rehearsal.ledger import Entry, Row, key_of, text_of

DESCRIPTION = "教科書の12ページから15ページまでを読んで、問題を解いてください。\n" * 20
TASK = {"title": "宿題📚", "description": DESCRIPTION, "due_date": None, "priority": 2, "is_completed": False}
ROWS = (
    Row("tasks", key_of(1), None, {name: text_of(value) for name, value in TASK.items()}),
    Row("task_tag", key_of(1, 7), None, {"task_id": "1", "tag_id": "7"}),
    Row("task_images", key_of(900), None, {"task_id": "1", "file_path": "b", "approved_at": "2026-11-26 03:04:05"}),
    Row("scheduled_group_tasks", key_of(1), {"schedules": "x"}, {"schedules": '[{"day": 1, "time": "07:00"}]'}),
    Row("tasks", key_of(2), {"title": "gone"}, None),
)


@pytest.fixture(scope="module")
def filled(source_server: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    source_server.start()
    source_server.execute("CREATE DATABASE app_ledger")
    with psycopg.connect(source_server.url("app_ledger")) as connection:
        create_source_schema(connection)
        populate(connection, rows=20)
        connection.commit()
        yield connection
        connection.rollback()
    source_server.execute("DROP DATABASE app_ledger WITH (FORCE)")


@pytest.fixture
def database(filled: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """As ROWS say; every test's change is rolled back."""
    filled.execute(
        """
        UPDATE tasks SET title = %(title)s, description = %(description)s, due_date = %(due_date)s,
                         priority = %(priority)s, is_completed = %(is_completed)s WHERE id = 1
        """,
        TASK,
    )
    filled.execute("DELETE FROM task_tag WHERE task_id = 1")
    filled.execute("INSERT INTO task_tag VALUES (1, 7)")
    filled.execute(
        "INSERT INTO task_images (id, task_id, file_path, approved_at) VALUES (900, 1, 'b', '2026-11-26 03:04:05')"
    )
    # Spaces of a json column are nobody's loss.
    filled.execute("""UPDATE scheduled_group_tasks SET schedules = '[{"time":"07:00",  "day":1}]' WHERE id = 1""")
    filled.execute("DELETE FROM tasks WHERE id = 2")
    yield filled
    filled.rollback()


@pytest.fixture
def check(database: psycopg.Connection[Any]) -> Callable[[], LedgerCheck]:
    entry = Entry(1.0, 1.1, "create", "POST", "/", 1, {}, 201, True, "monolith", 2, ROWS)
    return lambda: check_ledger([entry], database, told_losses(database))


def test_a_state_that_is_there_is_not_lost(check: Callable[[], LedgerCheck]) -> None:
    """Prevents a false alarm: null, long, boolean, time and JSON values, keys of one and of two columns."""
    assert check().plain() == {"total": 1, "lost": 0, "told": 0, "unknown": 0, "lost_items": []}


@pytest.mark.parametrize(
    ("statement", "table", "column"),
    [
        ("UPDATE tasks SET title = '宿題' WHERE id = 1", "tasks", "title"),
        ("UPDATE tasks SET description = description || '!' WHERE id = 1", "tasks", "description"),
        ("UPDATE tasks SET description = NULL WHERE id = 1", "tasks", "description"),
        ("UPDATE tasks SET due_date = '' WHERE id = 1", "tasks", "due_date"),
        ("UPDATE tasks SET priority = 3 WHERE id = 1", "tasks", "priority"),
        ("UPDATE tasks SET is_completed = true WHERE id = 1", "tasks", "is_completed"),
        ("DELETE FROM task_tag WHERE task_id = 1 AND tag_id = 7", "task_tag", EXISTENCE),
        ("UPDATE task_images SET approved_at = NULL WHERE id = 900", "task_images", "approved_at"),
        ("DELETE FROM task_images WHERE id = 900", "task_images", EXISTENCE),
        ("UPDATE scheduled_group_tasks SET schedules = '[]' WHERE id = 1", "scheduled_group_tasks", "schedules"),
        ("INSERT INTO tasks (id, user_id, title) VALUES (2, 1, 'back')", "tasks", EXISTENCE),
    ],
)
def test_a_value_that_differs_is_a_lost_write(
    check: Callable[[], LedgerCheck], database: psycopg.Connection[Any], statement: str, table: str, column: str
) -> None:
    """Prevents a lost write, a lost delete or a lost row that the report calls kept."""
    database.execute(statement.encode())
    found = check()
    assert (found.total, found.lost) == (1, 1)
    assert (table, column) in {(item.table, item.column) for item in found.lost_items}


def test_the_conflict_log_tells_values_rows_and_deletes(database: psycopg.Connection[Any]) -> None:
    """Prevents a told loss that counts as unsaid, and a log that is not there from being an error."""
    assert told_losses(database) == {}
    database.execute("CREATE SCHEMA task_migration")
    database.execute(
        "CREATE TABLE task_migration.conflicts (id bigserial, at timestamptz, table_name text, key text, kind text, v bigint, "
        "columns text[], lost text, kept text)"
    )
    for key, kind, lost in (
        (key_of(1), "update", '{"title": "宿題📚", "is_completed": "t", "due_date": null}'),
        (key_of(2), "delete of inserted", "{}"),
        (key_of(3), "parent gone", '{"tags": "[1,  2]", "created_at": "2026-11-26 03:04:05"}'),
        (key_of(5), "cascade", '{"tags": [2, 1], "created_at": "2026-11-26T03:04:05", "id": 5, "is_active": false}'),
        (key_of(4), "update of deleted", None),
    ):
        database.execute(
            "INSERT INTO task_migration.conflicts (table_name, key, kind, lost) VALUES ('tasks', %s, %s, %s)",
            (key, kind, lost),
        )
    assert told_losses(database, database) == {
        ("tasks", key_of(1), "title"): {"宿題📚"},
        ("tasks", key_of(1), "is_completed"): {"true"},
        ("tasks", key_of(1), "due_date"): {None},
        ("tasks", key_of(2), EXISTENCE): {GONE},
        ("tasks", key_of(3), EXISTENCE): {THERE},
        ("tasks", key_of(3), "tags"): {"[1, 2]"},
        ("tasks", key_of(3), "created_at"): {"2026-11-26 03:04:05"},
        ("tasks", key_of(5), EXISTENCE): {THERE},
        ("tasks", key_of(5), "tags"): {"[2, 1]"},
        ("tasks", key_of(5), "created_at"): {"2026-11-26 03:04:05"},
        ("tasks", key_of(5), "id"): {"5"},
        ("tasks", key_of(5), "is_active"): {"false"},
    }
