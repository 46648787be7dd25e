"""Both applications with their jobs at full speed on the same rows, replication both ways, and the ledger's verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from psycopg import errors

from scripts.rehearsal.app import jobs
from scripts.rehearsal.app.models import ApiError, NewTask, TaskChange
from scripts.rehearsal.app.store import References, TaskStore, make_pool
from scripts.rehearsal.fates import check_ledger, told_losses
from scripts.rehearsal.ledger import Entry
from scripts.replication import fence
from tests.conftest import Pair
from tests.integration.rehearsal.app.app_world import OWNER, PARENT
from tests.integration.replication.dms.test_dms import running as running_with_dms
from tests.integration.test_chain import MakePair, running

SECONDS, WORKERS, HOT = 8.0, 3, 12
#: Each side writes so many times, however busy the machine is.
LEAST = 250
#: What surely left nothing behind.
ROLLED_BACK = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.QueryCanceled,
)
JOBS = ("create", "update", "complete", "approve", "ends", "bulk")


class Board:
    """The tasks that both sides know of, and the ledger."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.tasks: list[int] = []
        self.done = {"monolith": 0, "task-service": 0}

    async def act(self, side: str, op: str, work: Awaitable[Any]) -> Any:
        """One write, noted; what is refused or rolled back, because somebody else was first, is none."""
        begun = time.time()
        with suppress(ApiError, *ROLLED_BACK):
            answer, rows = await work
            entry = Entry(begun, time.time(), op, "", "", None, {}, 200, True, side, rows=rows)
            self.entries += [entry] if rows else []
            self.done[side] += 1
            return answer
        return None

    def steps(self, store: TaskStore, random: Random) -> dict[str, Callable[[int], Awaitable[Any]]]:
        """What a worker may do to a task."""

        def change(task: int) -> Awaitable[Any]:
            word = f"{random.getrandbits(40):x}"
            fields: dict[str, Any] = {
                "title": word, "description": word * 300, "due_date": word, "priority": random.randint(1, 5),
                "tags": random.sample(range(7, 13), 2),
            }  # fmt: skip
            names = random.sample(list(fields), random.randint(1, 3))
            return store.change(PARENT, task, TaskChange.model_validate({name: fields[name] for name in names}))

        def job(name: str) -> Callable[[int], Awaitable[Any]]:
            return lambda task: store.write(
                lambda made: jobs.JOBS[name](made, task), repeatable=name in jobs.REPEATABLE
            )

        return {
            "change": change,
            "complete": lambda task: store.complete(OWNER, task),
            "reject": lambda task: store.reject(PARENT, task),
            "approve": lambda task: store.approve(PARENT, task),
            "delete": lambda task: store.delete(PARENT, task),
            "purge": job("delete"),
            **{f"job:{name}": job(name) for name in JOBS},
        }

    async def work(self, side: str, store: TaskStore, number: int, end: float) -> None:
        random = Random(f"{side}{number}")
        steps = self.steps(store, random)
        weights = [12 if name == "change" else 1 for name in steps]
        while time.monotonic() < end or (self.done[side] < LEAST and time.monotonic() < end + 90):
            if len(self.tasks) < HOT or random.random() < 0.03:
                body = NewTask(title=f"{random.getrandbits(40):x}", user_id=OWNER, tags=[7, 8], images=["a"])
                made = await self.act(side, "create", store.create(PARENT, body))
                self.tasks = [*self.tasks[-HOT:], made["id"]]
            task = random.choice(self.tasks)
            name = random.choices(list(steps), weights)[0]
            await self.act(side, name, steps[name](task))


@pytest.fixture(params=["native", "dms"])
def pair(request: pytest.FixtureRequest, make_pair: MakePair) -> Pair:
    """Two databases between which one of the engines carries writes both ways."""
    if request.param == "native":
        return running(make_pair)
    return running_with_dms(make_pair, request.getfixturevalue("dms_world"))


@pytest.mark.timeout(300)
def test_no_acknowledged_value_of_two_applications_on_the_same_rows_is_lost_unsaid(pair: Pair) -> None:
    """Prevents rules that lose what no comparison of the two sides shows; and an oracle that sees no loss where there are some."""
    board = Board()

    async def main() -> None:
        source, target = (make_pool(url, "two") for url in (pair.settings.source(), pair.settings.target()))
        async with source, target:
            references = References(source)
            stores = {"monolith": TaskStore(source, references), "task-service": TaskStore(target, references)}
            end = time.monotonic() + SECONDS
            await asyncio.gather(
                *(board.work(side, store, number, end) for side, store in stores.items() for number in range(WORKERS))
            )

    asyncio.run(main())
    fence.both(pair.settings, timeout=60.0)
    told = told_losses(pair.source, pair.target)
    assert min(board.done.values()) >= LEAST
    for side in (pair.source, pair.target):
        found = check_ledger(board.entries, side, told)
        assert found.lost_items == []
        assert found.told > 0, "no two writes met: nothing was risked"
        # Without the log each told loss is one unsaid: the oracle sees it.
        assert check_ledger(board.entries, side, {}).lost == found.told
