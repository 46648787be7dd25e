"""The generated rows: the plan's sizes, the kinds of docs/plan.md ('Real rows'), and the same rows for the same seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from components.config import DEFAULT_DROPPED_FOREIGN_KEYS, DEFAULT_REFERENCED_TABLES, DEFAULT_TABLES
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.data.fill import populate
from scripts.rehearsal.data.schema import create_source_schema
from scripts.support.errors import UsageError
from tests.conftest import Pair

TABLES = (*DEFAULT_REFERENCED_TABLES, *DEFAULT_TABLES)


def _digest(connection: psycopg.Connection[Any]) -> str:
    found = hashlib.sha256()
    for table in TABLES:
        with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
            for chunk in copy:
                found.update(chunk)
    return found.hexdigest()


@pytest.fixture(scope="module")
def kinds(source_server: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    """One filled database for all kinds of rows."""
    source_server.start()
    source_server.execute("CREATE DATABASE app_data_kinds")
    with psycopg.connect(source_server.url("app_data_kinds"), autocommit=True) as connection:
        create_source_schema(connection)
        populate(connection, rows=1000)
        yield connection
    source_server.execute("DROP DATABASE app_data_kinds WITH (FORCE)")


def _value(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_two_runs_of_a_seed_make_the_same_bytes_and_another_seed_others(make_pair: Callable[..., Pair]) -> None:
    """Prevents a rehearsal that cannot be repeated."""
    first, second, other = make_pair(rows=300, seed=7), make_pair(rows=300, seed=7), make_pair(rows=300, seed=8)
    assert _digest(first.source) == _digest(second.source)
    assert _digest(first.source) != _digest(other.source)


def test_default_sizes_are_the_plans(make_pair: Callable[..., Pair]) -> None:
    """Prevents a rehearsal on fewer rows than the plan names."""
    source = make_pair(rows=1000).source
    least = dict(zip(DEFAULT_TABLES, (1000, 500, 1500, 50, 200, 100), strict=True))
    counts = {table: _value(source, f'SELECT count(*) FROM "{table}"') for table in TABLES}
    assert all(counts[table] >= limit for table, limit in least.items()), counts
    assert counts["users"] >= 100


def test_all_foreign_keys_hold_and_bear_laravels_names(make_pair: Callable[..., Pair]) -> None:
    """Prevents orphans from the start: the rows are loaded without the checks, so all keys are made anew here."""
    source = make_pair(rows=500).source
    keys = source.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'"
    ).fetchall()
    names = {name for _, name, _ in keys}
    assert set(DEFAULT_DROPPED_FOREIGN_KEYS) <= names
    assert {"task_images_task_id_foreign", "scheduled_task_executions_created_task_id_foreign"} <= names
    for table, name, definition in keys:
        source.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"'.encode())
        source.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}'.encode())


@pytest.mark.parametrize(
    "condition",
    [
        "title ~ '[\U0001f300-\U0001faff]'",
        "char_length(title) = 255",
        "due_date = '2025年度末'",
        r"due_date ~ '^\d{4}-\d\d-\d\d$'",
        "due_date IS NULL",
        "description IS NULL",
        "description = ''",
        "octet_length(description) > 20000",
        r"description LIKE E'%\\\\%' AND description LIKE E'%\t%'",
        "updated_at IS NULL",
        "updated_at = created_at AND completed_at > created_at",
        "deleted_at IS NOT NULL",
        "group_task_id IS NOT NULL",
        "approved_at IS NOT NULL",
        "id > (SELECT count(*) FROM tasks)",
    ],
)
def test_there_are_rows_of_each_kind_that_the_schema_describes(kinds: psycopg.Connection[Any], condition: str) -> None:
    """Prevents a rehearsal on rows that are tamer than production's."""
    assert _value(kinds, f"SELECT count(*) FROM tasks WHERE {condition}") > 0


def test_sequences_stand_ahead_of_the_greatest_id(make_pair: Callable[..., Pair]) -> None:
    """Prevents a sequence check that never meets the usual case."""
    source = make_pair(rows=100).source
    for table in TABLES:
        if table != "task_tag":
            greatest = _value(source, f'SELECT max(id) FROM "{table}"')
            assert _value(source, f"SELECT last_value FROM {table}_id_seq") > greatest


def test_less_than_one_row_is_refused(make_pair: Callable[..., Pair]) -> None:
    """Prevents an empty rehearsal that passes."""
    with pytest.raises(UsageError, match="rows is 0, the limit is 1"):
        populate(make_pair(rows=None).source, rows=0)
