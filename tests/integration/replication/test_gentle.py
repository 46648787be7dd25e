"""What the program puts on a live table, and takes from it, keeps no request waiting for longer than 300 ms."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from scripts.database import helper_schema
from scripts.finish import removal
from scripts.replication import run as replicate
from scripts.support.errors import MigrationError
from scripts.support.wait import wait_until
from tests.conftest import Pair
from tests.integration.replication.test_diagnosis import PATIENCE, Requests
from tests.integration.test_chain import MakePair, count, running


def _start(pair: Pair) -> None:
    removal.remove(pair.settings)  # as at the first start: triggers and rules are to be made
    for side in (pair.source, pair.target):
        helper_schema.install(side)  # as a copy leaves it
    replicate._install(pair.settings)


def _remove(pair: Pair) -> None:
    removal.remove(pair.settings)


@pytest.mark.parametrize("work", [_start, _remove])
def test_a_long_transaction_makes_the_program_wait_and_no_request(
    make_pair: MakePair, work: Callable[[Pair], None]
) -> None:
    """Prevents CREATE and DROP TRIGGER from queueing behind a report, and every request of the application behind them."""
    pair = running(make_pair)
    task = count(pair.source, "SELECT min(id) FROM tasks")
    failed: list[MigrationError] = []

    def run() -> None:
        try:
            work(pair)
        except MigrationError as error:
            failed.append(error)

    asking = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock')"
    )
    thread = threading.Thread(target=run)
    with psycopg.connect(pair.settings.target()) as report:
        report.execute("UPDATE tasks SET span = 1 WHERE id = %s", (task + 1,))
        with Requests(pair, task) as requests:
            thread.start()
            for _ in range(3):
                # It asks for the lock, lets go, and asks again.
                wait_until(
                    lambda: count(pair.target, asking),
                    bool,
                    what="the lock to be asked for",
                    timeout=60,
                    interval=0.005,
                )
                wait_until(
                    lambda: count(pair.target, asking),
                    lambda asked: not asked,
                    what="the lock let go",
                    timeout=5,
                    interval=0.005,
                )
            before = requests.made
            wait_until(lambda: requests.made, lambda made: made > before + 1, what="two requests more", timeout=5)
            assert thread.is_alive()
        report.rollback()
        thread.join(120)
    assert failed == []
    assert requests.longest < PATIENCE
