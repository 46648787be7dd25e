"""The ledger's check finds each kind of lost write in a real database, and no lost write where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.data.fill import create_source_schema, populate
from scripts.rehearsal.documents import LedgerCheck
from scripts.rehearsal.ledger import Entry, Ledger, check_ledger

Write = tuple[str, dict[str, Any], bool]
TASK = 1
FIELDS = {"title": "宿題📚", "description": "", "due_date": None, "priority": 2, "tags": [13, 7], "images": ["b", "a"]}


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
    """The task of the ledger as FIELDS say; every test's change is rolled back."""
    filled.execute(
        """
        UPDATE tasks SET title = '宿題📚', description = '', due_date = NULL, priority = 2, is_completed = false,
                         approved_at = NULL, deleted_at = NULL, updated_at = NULL WHERE id = 1
        """
    )
    filled.execute("DELETE FROM task_tag WHERE task_id = 1")
    filled.execute("DELETE FROM task_images WHERE task_id = 1")
    filled.execute("INSERT INTO task_tag SELECT 1, unnest('{7,13}'::bigint[])")
    filled.execute("INSERT INTO task_images (task_id, file_path) VALUES (1, 'a'), (1, 'b')")
    yield filled
    filled.rollback()


@pytest.fixture
def check(database: psycopg.Connection[Any], tmp_path: Path) -> Callable[..., LedgerCheck]:
    """Writes a ledger of a creation and these writes, and checks it."""

    def run(*writes: Write, task: int | None = TASK) -> LedgerCheck:
        ledger = Ledger(tmp_path / "ledger.jsonl")
        for sequence, (op, fields, acknowledged) in enumerate([("create", FIELDS, True), *writes], start=1):
            status = 200 if acknowledged else 0
            ledger.write(Entry(0.0, op, "POST", "/", task, sequence, fields, status, acknowledged, "monolith"))
        ledger.close()
        return check_ledger(tmp_path / "ledger.jsonl", database)

    return run


def test_a_state_that_is_there_is_not_lost(check: Callable[..., LedgerCheck]) -> None:
    """Prevents a false alarm: order of tags, images without an order, empty and null values."""
    assert check().plain() == {"total": 1, "lost": 0, "lost_items": []}


@pytest.mark.parametrize(
    ("statement", "field"),
    [
        ("UPDATE tasks SET title = '宿題' WHERE id = 1", "title"),
        ("UPDATE tasks SET description = NULL WHERE id = 1", "description"),
        ("UPDATE tasks SET priority = 3 WHERE id = 1", "priority"),
        ("DELETE FROM task_tag WHERE task_id = 1 AND tag_id = 13", "tags"),
        ("DELETE FROM task_images WHERE task_id = 1 AND file_path = 'b'", "images"),
        ("UPDATE tasks SET deleted_at = now() WHERE id = 1", "deleted"),
        ("UPDATE tasks SET is_completed = true WHERE id = 1", "is_completed"),
    ],
)
def test_a_field_that_differs_is_a_lost_write(
    check: Callable[..., LedgerCheck], database: psycopg.Connection[Any], statement: str, field: str
) -> None:
    """Prevents a lost write that the report calls kept."""
    database.execute(statement.encode())
    found = check()
    assert (found.total, found.lost) == (1, 1)
    assert [(item.id, item.sequence, item.op, item.field) for item in found.lost_items] == [(TASK, 1, "create", field)]


def test_a_missing_row_loses_all_its_writes(
    check: Callable[..., LedgerCheck], database: psycopg.Connection[Any]
) -> None:
    """Prevents a lost creation that counts as one lost write, or as none."""
    database.execute("DELETE FROM tasks WHERE id = 1")
    found = check(("update", {"priority": 4}, True), ("complete", {}, True))
    assert (found.total, found.lost) == (3, 3)
    assert found.lost_items[0].field == "id"


def test_the_write_that_is_lost_is_the_one_that_set_the_field_last(check: Callable[..., LedgerCheck]) -> None:
    """Prevents a report that blames the wrong write."""
    found = check(("update", {"priority": 4}, True), ("update", {"title": "別"}, True), ("complete", {}, True))
    assert (found.total, found.lost) == (4, 3)
    assert {(item.sequence, item.field) for item in found.lost_items} == {
        (2, "priority"), (3, "title"), (4, "is_completed")
    }  # fmt: skip


@pytest.mark.parametrize(
    "unknown", [("update", {"priority": 5, "title": "x"}, False), ("delete", {}, False), ("complete", {}, False)]
)
@pytest.mark.parametrize("applied", [False, True])
def test_a_write_without_an_answer_may_be_there_or_not(
    check: Callable[..., LedgerCheck], database: psycopg.Connection[Any], unknown: Write, applied: bool
) -> None:
    """Prevents a false alarm after a write whose outcome nobody knows."""
    if applied:
        effects = {
            "update": "priority = 5, title = 'x'",
            "delete": "deleted_at = now()",
            "complete": "is_completed = true",
        }
        database.execute(f"UPDATE tasks SET {effects[unknown[0]]} WHERE id = 1".encode())
    assert check(unknown).lost == 0


def test_an_acknowledged_write_after_an_unknown_one_settles_the_field(check: Callable[..., LedgerCheck]) -> None:
    """Prevents an unknown write that excuses everything after it."""
    assert check(("update", {"priority": 5}, False), ("update", {"priority": 4}, True)).lost == 1


def test_a_creation_without_an_answer_is_not_looked_for(check: Callable[..., LedgerCheck]) -> None:
    """Prevents a crash on an entry that has no id."""
    assert check(("update", {"priority": 5}, False), task=None).lost == 0
