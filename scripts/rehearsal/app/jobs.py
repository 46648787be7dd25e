"""The background jobs of the stand-in applications: what follows from users' writes on the side that took them, and what a scheduler
does by itself, on the side whose turn it is.

With the endpoints they write all six tables: evidence and points, hard deletes with what hangs on them, runs of schedules,
bulk updates; points and bulk updates leave `updated_at` alone, as queries that go past Laravel's models do. Each notes what it
wrote and had read in the load's ledger.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Literal

import psycopg
from psycopg import sql
from psycopg_pool import PoolTimeout

from scripts.database import queries
from scripts.rehearsal.app.models import ApiError
from scripts.rehearsal.app.store import ONE, TaskStore
from scripts.rehearsal.app.transaction import NOW, Transaction
from scripts.rehearsal.ledger import Entry, Ledger
from scripts.support.console import say

QUERIES = queries.load("scripts.rehearsal.app")
Job = Callable[[Transaction, int], Awaitable[None]]
#: Share of the users' writes, by operation, that a job follows; a bulk job follows every so many writes.
SHARE: Mapping[str, float] = {"create": 0.4, "update": 0.3, "complete": 0.6, "approve": 0.8, "delete": 0.5}
BULK_EVERY = 40
BULK_ROWS = 100
WORKERS, QUEUED = 2, 200
SCHEDULE_SECONDS = 1.0
#: Seconds for what is under way when the application ends.
LAST_SECONDS = 5.0
#: What hangs on a task and on a schedule, and what their foreign keys do (schema.sql).
OF_TASK: tuple[tuple[str, str, Literal["cascade", "set null"]], ...] = (
    ("task_images", "task_id", "cascade"),
    ("task_tag", "task_id", "cascade"),
    ("scheduled_task_executions", "created_task_id", "set null"),
    ("scheduled_task_executions", "deleted_task_id", "set null"),
)
OF_SCHEDULE: tuple[tuple[str, str, Literal["cascade", "set null"]], ...] = (
    ("scheduled_task_executions", "scheduled_task_id", "cascade"),
    ("scheduled_task_tags", "scheduled_task_id", "cascade"),
)
SCHEDULE_TAGS = ("宿題", "毎日", "家事", "運動")
#: How the title of a schedule begins that a job made, and may delete.
COPIED = "複写 "


class Jobs:
    """A queue with its workers; use it as a context manager. What finds no room in the queue is left out."""

    def __init__(self, store: TaskStore, ledger: Ledger, side: str) -> None:
        self._store, self._ledger, self._side = store, ledger, side
        self._random = Random(side)
        self._queue: asyncio.Queue[tuple[str, int] | None] = asyncio.Queue(QUEUED)
        self._writes = 0

    async def __aenter__(self) -> Jobs:
        self._workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
        for _worker in self._workers:
            self._queue.put_nowait(None)
        await asyncio.wait(self._workers, timeout=LAST_SECONDS)

    def after(self, op: str, task: int) -> None:
        """A user's write to this task was acknowledged."""
        self._writes += 1
        names = [op] if self._random.random() < SHARE.get(op, 0.0) else []
        names += ["bulk", "ends"] if self._writes % BULK_EVERY == 0 else []
        for name in names:
            with suppress(asyncio.QueueFull):
                self._queue.put_nowait((name, task))

    async def _work(self) -> None:
        while (item := await self._queue.get()) is not None:
            await self.run(*item)

    async def run(self, name: str, task: int = 0) -> None:
        """One job in one transaction, and its note."""
        made: list[Transaction] = []

        async def work(transaction: Transaction) -> None:
            made.append(transaction)
            await JOBS[name](transaction, task)

        begun, acknowledged = time.time(), True
        try:
            await self._store.write(work, repeatable=name in REPEATABLE)
        except (ApiError, PoolTimeout):
            return  # refused: nothing was written
        except psycopg.Error as error:
            say(f"{self._side}: the job after {name} of task {task}: {type(error).__name__}", "yellow")
            if error.sqlstate is not None and not error.sqlstate.startswith(("08", "57")):
                return
            # The connection ended: the commit may have come through.
            acknowledged = False
        rows = tuple(made[-1].rows) if made else ()
        if rows:
            ended, status = (time.time(), 200) if acknowledged else (None, 0)
            self._ledger.write(
                Entry(begun, ended, f"job:{name}", "", "", None, {}, status, acknowledged, self._side, rows=rows)
            )


class Scheduler:
    """Runs a schedule every :data:`SCHEDULE_SECONDS` while the file ``turn`` names its side; use it as a context manager.

    Its ``jobs`` are its own, with sessions that call themselves a scheduler's, as those of `schedule:run` or a cron do.
    """

    def __init__(self, jobs: Jobs, turn: Path, side: str) -> None:
        self._jobs, self._turn, self._side = jobs, turn, side
        self._over = asyncio.Event()

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._work())

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await asyncio.wait([self._task], timeout=LAST_SECONDS)

    async def _work(self) -> None:
        while not self._over.is_set():
            if self._turn.exists() and self._side in self._turn.read_text().split():
                await self._jobs.run("schedule")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), SCHEDULE_SECONDS)


def _unique() -> int:
    """A number that no other write has, so that what a write had read can be told."""
    return secrets.randbits(30)


async def _points(made: Transaction, task: int) -> None:
    await made.update("tasks", ONE, {"task": task}, {"span": _unique()}, stamped=False)


async def _evidence(made: Transaction, task: int) -> None:
    there = await made.all(sql.SQL("SELECT 1 FROM tasks t WHERE t.id = %(task)s FOR UPDATE"), {"task": task})
    if there:
        await made.insert("task_images", {"task_id": task, "file_path": f"task_approvals/{uuid.uuid4()}.jpg"})
        await made.update("tasks", ONE, {"task": task}, {"reward": _unique()}, stamped=True)


async def _approved(made: Transaction, task: int) -> None:
    of_task = sql.SQL("t.task_id = %(task)s")
    await made.update("task_images", of_task, {"task": task}, {"approved_at": NOW}, stamped=True)
    await made.delete("task_images", sql.SQL(QUERIES["newest_image"]), {"task": task})


async def _purge(made: Transaction, task: int) -> None:
    await made.cascade("tasks", task, OF_TASK)


async def _scheduled(made: Transaction, task: int) -> None:
    """A schedule ran and made the task; now and then schedules come and go."""
    found = await made.all(sql.SQL(QUERIES["some_schedule"]), {"place": task // 4 % 8})
    if not found:
        return
    schedule, kind = found[0], task % 4
    one, key = sql.SQL("t.id = %(id)s"), {"id": schedule["id"]}
    await made.update("scheduled_group_tasks", one, key, {"due_duration_hours": _unique()}, stamped=True)
    values = {
        "scheduled_task_id": schedule["id"],
        "executed_at": NOW,
        "created_task_id": task,
        "note": str(uuid.uuid4()),
    }
    await made.insert("scheduled_task_executions", values)
    tag = {"scheduled_task_id": schedule["id"], "tag_name": SCHEDULE_TAGS[_unique() % len(SCHEDULE_TAGS)]}
    if kind == 0:
        same = sql.SQL("t.scheduled_task_id = %(scheduled_task_id)s AND t.tag_name = %(tag_name)s")
        await made.delete("scheduled_task_tags", same, tag)
    elif kind == 1:
        kept = {name: value for name, value in schedule.items() if name not in ("id", "created_at", "updated_at")}
        copied = await made.insert("scheduled_group_tasks", {**kept, "title": f"{COPIED}{_unique()}"})
        assert copied is not None  # an INSERT without ON CONFLICT gives its row
        await made.insert("scheduled_task_tags", {**tag, "scheduled_task_id": copied["id"]})
    else:
        await made.insert("scheduled_task_tags", tag, ignore=True)


async def _schedule_runs(made: Transaction, _: int) -> None:
    (newest,) = await made.all(sql.SQL("SELECT max(id) AS id FROM tasks"))
    if newest["id"] is not None:
        await _scheduled(made, int(newest["id"]))


async def _schedule_ends(made: Transaction, _: int) -> None:
    found = await made.all(sql.SQL(QUERIES["copied_schedule"]), {"copied": f"{COPIED}%"})
    if found:
        await made.cascade("scheduled_group_tasks", int(found[0]["id"]), OF_SCHEDULE)


async def _bulk(made: Transaction, _: int) -> None:
    newest = sql.SQL("t.id IN (SELECT n.id FROM tasks n ORDER BY n.id DESC LIMIT %(rows)s)")
    await made.update("tasks", newest, {"rows": BULK_ROWS}, {"span": _unique()}, stamped=False)


JOBS: Mapping[str, Job] = {
    "create": _scheduled,
    "update": _points,
    "complete": _evidence,
    "approve": _approved,
    "delete": _purge,
    "bulk": _bulk,
    "ends": _schedule_ends,
    "schedule": _schedule_runs,
}
REPEATABLE = frozenset({"delete", "ends"})
