"""Random writers on both sides of all six tables: after a fence every difference is in the log, after the mend there is none."""

from __future__ import annotations

import random
import re
import threading
import time
from typing import Any

import psycopg
import pytest

from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.replication.documents import DmsDirectionState
from scripts.verify import run as verify
from tests.conftest import Pair
from tests.integration.replication.dms.dms_world import DmsWorld
from tests.integration.replication.dms.test_dms import running as running_with_dms
from tests.integration.test_chain import MakePair, running

#: One transaction each; ``{id}`` is one of a few hot tasks, ``{other}`` another, ``{tag}`` one of a few tags.
TASK_WRITES = (
    "UPDATE tasks SET title = '{word}', updated_at = now() WHERE id = {id}",
    "UPDATE tasks SET is_completed = NOT is_completed, completed_at = now(), updated_at = now() WHERE id = {id}",
    "UPDATE tasks SET deleted_at = now(), updated_at = now() WHERE id = {id}",
    # Bulk queries that leave updated_at alone, or empty it.
    "UPDATE tasks SET priority = {n} WHERE id IN ({id}, {other})",
    "UPDATE tasks SET reward = {n}, updated_at = NULL WHERE id = {id}",
    "UPDATE tasks SET description = repeat('{word}', 3000), updated_at = now() WHERE id = {id}",
)
OTHER_WRITES = (
    "INSERT INTO tasks (user_id, title, updated_at) SELECT min(user_id), '{word}', now() FROM tasks",
    "INSERT INTO task_images (task_id, file_path) SELECT id, '{word}' FROM tasks WHERE id = {id}",
    "DELETE FROM task_images WHERE task_id = {id}",
    "DELETE FROM tasks WHERE id = (SELECT max(id) FROM tasks WHERE id < 1000000000 AND id % 7 = {n})",
    # A tag sync: detach all, attach some.
    "DELETE FROM task_tag WHERE task_id = {id}; INSERT INTO task_tag SELECT id, {tag} FROM tasks WHERE id = {id} ON CONFLICT DO NOTHING",
    "INSERT INTO task_tag SELECT id, {tag} FROM tasks WHERE id = {id} ON CONFLICT DO NOTHING",
    "UPDATE scheduled_group_tasks SET tags = '[\"{word}\"]', updated_at = now() WHERE id % 10 = {n}",
    "INSERT INTO scheduled_task_tags (scheduled_task_id, tag_name) SELECT min(id), 'tag {tag}' FROM scheduled_group_tasks "
    "ON CONFLICT DO NOTHING",
    "DELETE FROM scheduled_task_tags WHERE tag_name = 'tag {tag}'",
    "INSERT INTO scheduled_task_executions (scheduled_task_id, executed_at, created_task_id) "
    "SELECT min(s.id), now(), (SELECT id FROM tasks WHERE id = {id}) FROM scheduled_group_tasks s",
    "UPDATE scheduled_task_executions SET note = '{word}', updated_at = now() WHERE id % 10 = {n}",
)


class Storm:
    """Writers on both sides for some seconds."""

    def __init__(self, pair: Pair, hot: list[int], tags: list[int], writes: tuple[str, ...], seed: int) -> None:
        self.pair, self.hot, self.tags, self.writes, self.seed = pair, hot, tags, writes, seed
        self.done = {"source": 0, "target": 0}
        self.failures: list[str] = []

    def blow(self, seconds: float, rate: float | None = None, least: int = 100) -> None:
        """Write for ``seconds`` and until each side did ``least`` transactions, at most ``rate`` a second a side."""
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._write, args=(side, url, end, rate, least))
            for side, url in (("source", self.pair.settings.source()), ("target", self.pair.settings.target()))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.failures == []

    def _write(self, side: str, url: str, end: float, rate: float | None, least: int) -> None:
        chance = random.Random(f"{self.seed}{side}")
        with psycopg.connect(url, autocommit=True) as connection:
            started = time.monotonic()
            # A busy machine gets the time that it needs: the contention counts, not the second.
            while time.monotonic() < end or (self.done[side] < least and time.monotonic() < end + 90):
                statement = chance.choice(self.writes).format(
                    id=chance.choice(self.hot),
                    other=chance.choice(self.hot),
                    tag=chance.choice(self.tags),
                    n=chance.randrange(10),
                    word=f"{side}{self.done[side]}",
                )
                try:
                    with connection.transaction():
                        connection.execute(statement.encode())
                except (psycopg.errors.DeadlockDetected, psycopg.errors.ForeignKeyViolation):
                    # As in any application: the parent went, or two bulk updates met.
                    continue
                except psycopg.Error as error:
                    self.failures.append(f"{side}: {statement}: {error}")
                    return
                self.done[side] += 1
                if rate is not None:
                    time.sleep(max(0.0, started + self.done[side] / rate - time.monotonic()))


def _keys(table: str, key: dict[str, Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
    return table, tuple(sorted((name, str(value)) for name, value in key.items()))


def apply_errors(pair: Pair) -> list[str]:
    """The errors of this pair's apply workers, from the logs of both servers."""
    origins = [
        row[0]
        for connection in (pair.source, pair.target)
        for row in connection.execute(
            "SELECT 'pg_' || s.oid FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
            "WHERE d.datname = current_database()"
        )
    ]
    logs = "\n".join(server.log.read_text(errors="replace") for server in (pair.source_server, pair.target_server))
    # One error: its own line, then those of the same process that explain it; the last names the origin.
    found = re.findall(
        r"\[(\d+)\] ERROR:  (.*)\n(?:.*\[\1\] (?:DETAIL|HINT):.*\n|\t.*\n)*.*\[\1\] CONTEXT:  (?:.*\n\t)*?.*"
        r'processing remote data for replication origin "(\w+)"',
        logs,
    )
    return [message for _, message, origin in found if origin in origins]


def check_and_mend(pair: Pair) -> int:
    """Differences before the mend: all of them logged; none after it. Returns their number."""
    replicate.wait(pair.settings, timeout=60)
    status = replicate.status(pair.settings)
    # With AWS DMS nothing may be passed by.
    directions = (status.forward, status.reverse)
    refused = [one.apply_errors if isinstance(one, DmsDirectionState) else 0 for one in directions]
    assert refused == [0, 0], status
    # A worker that meets an application's bulk update in the other order loses one of the deadlocks, and tries again.
    gave_way = {"deadlock detected", "canceling statement due to lock timeout"}
    assert set(apply_errors(pair)) <= gave_way, apply_errors(pair)
    assert status.forward.running, status
    assert status.reverse.running, status
    logged = {_keys(entry["table"], entry["key"]) for entry in replicate.told(pair.settings)}
    found = verify.run(pair.settings)
    differing = {_keys(table.table, difference.key) for table in found.tables for difference in table.differences}
    assert differing - logged == set()
    mended = verify.run(pair.settings, repair="newest")
    assert mended.match, [table for table in mended.tables if not table.match]
    fence.both(pair.settings)
    assert verify.run(pair.settings).match
    return len(differing)


def test_the_longer_text_of_the_winner_survives(make_pair: MakePair) -> None:
    """Prevents a row mixed of two versions: a long value that an update leaves alone is not sent along."""
    pair = running(make_pair)
    number = pair.source.execute("SELECT min(id) FROM tasks").fetchone()
    fill = "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i"
    pair.source.execute(f"UPDATE tasks SET description = ({fill}) WHERE id = %s".encode(), number)
    fence.both(pair.settings)
    replicate.stop(pair.settings)
    late = "UPDATE tasks SET title = 'late', updated_at = '2032-01-01' WHERE id = %s"
    pair.target.execute(late, number)
    pair.source.execute("UPDATE tasks SET description = 'short', updated_at = '2031-01-01' WHERE id = %s", number)
    replicate.start(pair.settings)
    check_and_mend(pair)


@pytest.mark.parametrize("seed", range(3))
def test_storm_on_all_tables(make_pair: MakePair, seed: int) -> None:
    """Prevents rules that lose a row silently, stop a worker or decide differently on the two sides."""
    pair = running(make_pair, rows=300)
    hot = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 20")]
    tags = [row[0] for row in pair.source.execute("SELECT id FROM tags ORDER BY id LIMIT 4")]
    storm = Storm(pair, hot, tags, TASK_WRITES + OTHER_WRITES, seed)
    storm.blow(4)
    check_and_mend(pair)
    assert min(storm.done.values()) >= 100


@pytest.mark.parametrize("writes", [TASK_WRITES + OTHER_WRITES, TASK_WRITES[:2]], ids=["all tables", "hot rows"])
def test_storm_with_dms(make_pair: MakePair, dms_world: DmsWorld, writes: tuple[str, ...]) -> None:
    """Prevents rules that, without replication origins, take DMS for a local writer or a local writer for DMS."""
    pair = running_with_dms(make_pair, dms_world, rows=300)
    hot = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 20")]
    tags = [row[0] for row in pair.source.execute("SELECT id FROM tags ORDER BY id LIMIT 4")]
    storm = Storm(pair, hot, tags, writes, 11)
    storm.blow(4, rate=300)
    check_and_mend(pair)
    assert min(storm.done.values()) >= 100
    # Both kinds of writer were met, and the list of applying transactions is cut as beats arrive.
    assert {entry["decision"] for entry in replicate.told(pair.settings)} >= {"applied", "skipped"}
    fence.both(pair.settings)


def test_storm_of_the_design(make_pair: MakePair) -> None:
    """Both sides update the same 200 rows about 650 times a second each."""
    pair = running(make_pair, rows=2111)
    hot = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 200")]
    storm = Storm(pair, hot, [1], TASK_WRITES[:2], 7)
    storm.blow(6, rate=650, least=400)
    check_and_mend(pair)
    # Two writes a row at the least; an idle machine does 3,900.
    assert min(storm.done.values()) >= 400


def test_the_tie_of_one_user(make_pair: MakePair) -> None:
    """Prevents the loss of an update that followed the other side's within the same second, and knew of it."""
    pair = running(make_pair)
    ids = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 50")]
    for number in ids:
        pair.source.execute("UPDATE tasks SET title = 'first', updated_at = '2031-01-01' WHERE id = %s", (number,))
    fence.forward(pair.settings)
    for number in ids:
        pair.target.execute("UPDATE tasks SET title = 'second', updated_at = '2031-01-01' WHERE id = %s", (number,))
    # One beat brings the ties, the next settles them by the order of their commits; no mend is needed.
    fence.both(pair.settings)
    assert {entry["settled"] for entry in replicate.told(pair.settings)} <= {
        "by commit time",
        "stands",
    }
    assert verify.run(pair.settings).match
    for connection in (pair.source, pair.target):
        assert connection.execute("SELECT count(*) FROM tasks WHERE title = 'second'").fetchone() == (50,)
