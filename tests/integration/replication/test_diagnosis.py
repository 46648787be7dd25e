"""Why a worker is down is found out gently: the live side waits for no lock of ours longer than 300 ms."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
from psycopg import sql

from scripts.database.sides import open_side
from scripts.replication import diagnosis, writes
from scripts.replication.writes import Waiting
from scripts.support.wait import wait_until
from tests.conftest import Pair
from tests.integration.test_chain import MakePair, count, running

#: What a request that meets the attempt may take beside its own work, seconds: the limit, and room for a busy machine.
PATIENCE = 0.3 + 0.3


class Requests:
    """Requests of the application on one row of the target, one after the other."""

    def __init__(self, pair: Pair, task: int) -> None:
        self._url, self._task = pair.settings.target(), task
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.made, self._longest, self._idle = 0, 0.0, 0.0

    @property
    def longest(self) -> float:
        """Seconds by which the longest request went beyond the longest statement that nothing can hold: both suffer on a busy machine."""
        return self._longest - self._idle

    def _run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._over.wait(0.002):
                begun = time.monotonic()
                connection.execute("SELECT 1")
                asked = time.monotonic()
                connection.execute("UPDATE tasks SET span = span + 1 WHERE id = %s", (self._task,))
                self._idle, self._longest = max(self._idle, asked - begun), max(self._longest, time.monotonic() - asked)
                self.made += 1

    def __enter__(self) -> Requests:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_large_transaction_is_tried_for_no_longer_than_the_limit(make_pair: MakePair) -> None:
    """Prevents a status that replays a night's bulk job on the live side, with the locks of all its rows."""
    pair = running(make_pair, rows=4000)
    config = pair.settings.config
    pair.target.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(config.subscription)))
    worker = "SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL"
    wait_until(lambda: count(pair.target, worker), lambda left: left == 0, what="the worker to end", timeout=20)
    task = count(pair.source, "SELECT min(id) FROM tasks")
    pair.source.execute("UPDATE tasks SET description = repeat('長い', 5000), title = '一括'")
    assert len(writes.waiting(pair.source, pair.target, "source", 10_000)) == 4000
    with Requests(pair, task) as requests, open_side(pair.settings, "target", "status") as subscriber:
        before = requests.made
        why, error = diagnosis.explain(
            pair.source,
            subscriber,
            "source",
            schema="public",
            unreachable=lambda: "port 1 failed",
        )
        # The row that the transaction begins with is free again when the attempt ends.
        wait_until(lambda: requests.made, lambda made: made > before + 1, what="two requests more", timeout=5)
    assert error is None
    assert "port 1 failed" in why, "what it tried can be applied, so the way to the publisher is looked at"
    assert requests.longest < PATIENCE
    found = diagnosis.attempt(
        pair.target, "source", writes.waiting(pair.source, pair.target, "source", 10_000), "public"
    )
    assert found.cut
    assert 0 < found.tried < 4000


def _waiting(pair: Pair, number: int) -> list[Waiting]:
    ids = [row[0] for row in pair.target.execute("SELECT id FROM tasks ORDER BY id LIMIT %s", (number,)).fetchall()]
    clock = count(pair.source, "SELECT last_value FROM task_migration.clock") + 2
    return [
        Waiting(clock + 2 * place, "tasks", f'["{key}"]', "update", '{"span": "5"}', None)
        for place, key in enumerate(ids)
    ]


def test_the_server_ends_an_attempt_that_stands_still(make_pair: MakePair) -> None:
    """Prevents a process that is stopped in the middle, or cut off, from holding locks of live rows."""
    pair = running(make_pair)
    first, *rest = _waiting(pair, 3)

    class Stopped(list[Waiting]):
        def __iter__(self) -> Iterator[Waiting]:
            yield first
            # The server's limit is what is tested: it has to be over.
            time.sleep(2.5)  # noqa: TID251
            yield from rest

    with Requests(pair, int(first.key[2:-2])) as requests, open_side(pair.settings, "target", "status") as subscriber:
        found = diagnosis.attempt(subscriber, "source", Stopped([first, *rest]), "public")
    assert (found.failing, found.tried, found.cut) == (None, 1, True)
    assert requests.longest < PATIENCE
    assert requests.made > 50


def test_a_row_that_somebody_holds_is_named_and_not_waited_for(make_pair: MakePair) -> None:
    """Prevents a look that queues on a live row, in front of the application's next request."""
    pair = running(make_pair)
    write = _waiting(pair, 1)
    with psycopg.connect(pair.settings.target()) as holder, open_side(pair.settings, "target", "status") as subscriber:
        holder.execute("UPDATE tasks SET span = 1 WHERE id = %s", (int(write[0].key[2:-2]),))
        begun = time.monotonic()
        found = diagnosis.attempt(subscriber, "source", write, "public")
        assert time.monotonic() - begun < PATIENCE
        holder.rollback()
        assert found.failing is not None
        assert found.failing.key == {"id": write[0].key[2:-2]}
        assert found.failing.condition in ("QueryCanceled", "LockNotAvailable")
        # Nothing stays of it, and the same write goes through once the row is free.
        assert diagnosis.attempt(subscriber, "source", write, "public") == diagnosis.Attempt(None, 1, cut=False)
        assert writes.waiting(pair.source, subscriber, "source", 10) == []
