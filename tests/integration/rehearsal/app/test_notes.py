"""The applications note every row that they write with what they had read: endpoints and background jobs, in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from scripts.rehearsal.app import jobs
from scripts.rehearsal.app.models import NewTask, TaskChange
from scripts.rehearsal.app.store import References, TaskStore, make_pool
from scripts.rehearsal.fates import check_ledger
from scripts.rehearsal.ledger import Entry, Row
from tests.integration.rehearsal.app.app_world import OWNER, PARENT, AppWorld

TABLES = {
    "tasks",
    "task_images",
    "task_tag",
    "scheduled_group_tasks",
    "scheduled_task_executions",
    "scheduled_task_tags",
}
Work = Callable[[TaskStore], Awaitable[None]]


@pytest.fixture
def database(app_world: AppWorld) -> psycopg.Connection[Any]:
    return app_world.databases["monolith"]


@pytest.fixture
def notes(database: psycopg.Connection[Any]) -> list[Entry]:
    """A life of a task with every endpoint and every job, each with what it noted."""
    found: list[Entry] = []

    def note(op: str, begun: float, rows: tuple[Row, ...]) -> None:
        found.append(Entry(begun, time.time(), op, "", "", None, {}, 200, True, "monolith", rows=rows))

    async def life(store: TaskStore) -> None:
        for round_ in range(6):
            begun = time.time()
            made, rows = await store.create(
                PARENT, NewTask(title=f"課題📚{round_}", user_id=OWNER, tags=[7, 8], images=["a"])
            )
            note("create", begun, rows)
            task = made["id"]
            steps: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
                (
                    "update",
                    partial(store.change, PARENT, task, TaskChange(title="改", tags=[8, 9], priority=1)),
                ),
                ("complete", partial(store.complete, OWNER, task)),
                ("reject", partial(store.reject, PARENT, task)),
                ("complete", partial(store.complete, OWNER, task)),
                ("approve", partial(store.approve, PARENT, task)),
                ("bulk", partial(_job, store, "bulk", task)),
                ("delete", partial(store.delete, PARENT, task)),
                ("ends", partial(_job, store, "ends", task)),
            ]
            await _job_noted(store, "create", task, note)
            for op, step in steps:
                begun = time.time()
                _, rows = await step()
                note(op, begun, rows)
                if op in jobs.SHARE:
                    await _job_noted(store, op, task, note)

    async def main() -> None:
        pool = make_pool(_url(database), "notes")
        async with pool:
            await life(TaskStore(pool, References(pool)))

    asyncio.run(main())
    return found


async def _job(store: TaskStore, name: str, task: int) -> Any:
    return await store.write(lambda made: jobs.JOBS[name](made, task), repeatable=name in jobs.REPEATABLE)


async def _job_noted(
    store: TaskStore, name: str, task: int, note: Callable[[str, float, tuple[Row, ...]], None]
) -> None:
    begun = time.time()
    _, rows = await _job(store, name, task)
    note(f"job:{name}", begun, rows)


def _url(connection: psycopg.Connection[Any]) -> str:
    info = connection.info
    return psycopg.conninfo.make_conninfo(
        host=info.host, port=info.port, user=info.user, password=info.password or "", dbname=info.dbname
    )


def test_every_table_is_written_and_every_value_is_there_or_was_replaced_by_who_had_read_it(
    notes: list[Entry], database: psycopg.Connection[Any]
) -> None:
    """Prevents a note that leaves out what was read or written: one writer alone never loses anything."""
    written = {(row.table, row.read is None, row.wrote is None) for entry in notes for row in entry.rows or ()}
    assert {table for table, _, _ in written} == TABLES
    for table in ("tasks", "task_images", "task_tag", "scheduled_group_tasks", "scheduled_task_tags"):
        assert (table, True, False) in written, f"no insert into {table}"
        if table not in ("scheduled_task_tags", "scheduled_group_tasks"):
            assert (table, False, True) in written, f"no delete from {table}"
    assert ("scheduled_task_executions", False, False) in written, "a deleted task leaves its executions without it"
    found = check_ledger(notes, database, {})
    assert (found.lost, found.lost_items) == (0, [])
    assert found.total == len(notes)


def test_a_value_that_something_else_took_away_is_missed(notes: list[Entry], database: psycopg.Connection[Any]) -> None:
    """Prevents notes so generous that nothing is ever lost."""
    database.execute("UPDATE tasks SET span = NULL WHERE id = (SELECT max(id) FROM tasks)")
    found = check_ledger(notes, database, {})
    assert {(item.op, item.column) for item in found.lost_items} == {("bulk", "span")}


def test_jobs_leave_updated_at_alone_where_models_are_passed_by(notes: list[Entry]) -> None:
    """Prevents a load in which every write moves `updated_at`, as no real application's does."""
    by_op: dict[str, set[bool]] = {}
    for entry in notes:
        for row in entry.rows or ():
            if row.table == "tasks" and row.read is not None and row.wrote is not None:
                by_op.setdefault(entry.op, set()).add("updated_at" in row.wrote)
    assert by_op["bulk"] == {False}
    assert by_op["job:update"] == {False}
    assert by_op["update"] == {True}
