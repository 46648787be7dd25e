"""Random writers on both sides of all six tables: every acknowledged value stands, was replaced by a write that had read it, or is told.

Each write reads what it is about to replace, with a lock, in its own transaction. So for each value that is no longer there the test
knows whether somebody decided to replace it. Nothing else may be missing, and both sides are equal without a repair.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from scripts.replication import run as replicate
from scripts.support.sides import BOTH, Side
from scripts.verify import run as verify
from tests.conftest import Pair
from tests.integration.replication.dms.dms_world import DmsWorld
from tests.integration.replication.dms.test_dms import running as running_with_dms
from tests.integration.replication.writers import TwoWriters
from tests.integration.test_chain import MakePair, running

Key = tuple[Any, ...]
Cell = tuple[str, Key, str]
#: Columns that one side alone writes; nothing about them may ever be told.
OWN: dict[Side, tuple[str, ...]] = {"source": ("reward", "description"), "target": ("span", "due_date")}
WORDS = ("title", "description", "due_date", "file_path", "note")


def as_told(value: Any) -> str:
    """A value of a row's JSON as the conflict log has it: a timestamp with a space."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T", r"\1 ", str(value))


class Storm:
    """Writers on both sides for some seconds, and what each of them wrote and had read."""

    def __init__(self, world: TwoWriters, hot: list[int], *, everything: bool, seed: int) -> None:
        self.world, self.hot, self.seed = world, hot, seed
        self.tags = [row[0] for row in world.pair.source.execute("SELECT id FROM tags ORDER BY id LIMIT 4")]
        self.done: dict[Side, int] = dict.fromkeys(BOTH, 0)
        self.written: list[tuple[Cell, Any]] = []
        self.read: set[tuple[Cell, str]] = set()
        self.failures: list[str] = []
        self._noting = threading.Lock()
        self._writes: list[Callable[[_Session], None]] = [_own, _own, _contested, _complete, _bulk, _long_text]
        if everything:
            self._writes += [_image, _delete_image, _delete_task, _new_task, _tags, _execution, _note, _schedule, _name]

    def blow(self, seconds: float, rate: float | None = None, least: int = 100) -> None:
        """Write for ``seconds`` and until each side did ``least`` transactions, at most ``rate`` a second a side."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._write, args=(side, end, rate, least)) for side in BOTH]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.failures == []

    def _write(self, side: Side, end: float, rate: float | None, least: int) -> None:
        chance = random.Random(f"{self.seed}{side}")
        number = 0
        with self.world.session(side) as connection:
            connection.autocommit = True
            started = time.monotonic()
            # A busy machine gets the time that it needs: the contention counts, not the second.
            while time.monotonic() < end or (self.done[side] < least and time.monotonic() < end + 90):
                number += 1
                mine = _Session(self, side, connection, chance, number)
                write = chance.choice(self._writes)
                try:
                    with connection.transaction():
                        write(mine)
                except (psycopg.errors.DeadlockDetected, psycopg.errors.ForeignKeyViolation):
                    # As in any application: the parent went, or two bulk updates met.
                    continue
                except psycopg.Error as error:
                    self.failures.append(f"{side}: {write.__name__}: {error}")
                    return
                self.done[side] += 1
                with self._noting:
                    self.written += mine.written
                    self.read |= mine.read
                if rate is not None:  # the rate itself
                    time.sleep(max(0.0, started + self.done[side] / rate - time.monotonic()))  # noqa: TID251

    def check(self) -> int:
        """No acknowledged value is lost unsaid, and both sides are equal. Returns how many lost writes were told."""
        pair = self.world.pair
        replicate.wait(pair.settings, timeout=60)
        told = self.world.told()
        said = {
            ((entry.table, tuple(int(part) for part in entry.key), column), as_told(value))
            for entry in told
            for column, value in entry.lost.items()
        }
        rows = {side: {table: self.world.rows(side, table) for table in self.world.keys} for side in BOTH}
        lost = []
        for cell, value in self.written:
            table, key, column = cell
            there = [(rows[side][table].get(key) or {}).get(column) for side in BOTH]
            if all(seen == value for seen in there) or (cell, as_told(value)) in self.read | said:
                continue
            lost.append(f"{cell}: {value!r:.40}, there {there!r:.80}")
        assert not lost, f"{len(lost)} of {len(self.written)} acknowledged values lost unsaid: {lost[:5]}"
        differing = self.world.differences()
        assert not differing, f"{len(differing)} rows differ: {differing[:5]}"
        # Where nothing conflicts nothing is told: a row's own columns are lost with the row alone.
        own = {name for names in OWN.values() for name in names}
        assert not [one for one in told if one.table == "tasks" and one.kind == "update" and own & set(one.columns)]
        found = verify.run(pair.settings)
        assert found.match, [table for table in found.tables if not table.match]
        assert found.orphans == []
        status = replicate.status(pair.settings)
        # A worker that meets an application's bulk update in the other order loses one of the deadlocks, and tries again.
        gave_way = {"deadlock detected", "canceling statement due to lock timeout"}
        assert set(apply_errors(pair)) <= gave_way, apply_errors(pair)
        assert status.forward.running, status
        assert status.reverse.running, status
        if self.world.pair.settings.config.replication_engine == "dms":
            # Nothing is passed by, and DMS gives way to nobody.
            assert (status.forward.apply_errors, status.reverse.apply_errors) == (0, 0)
        return len(told)


class _Session:
    """One transaction of the storm."""

    def __init__(
        self, storm: Storm, side: Side, connection: psycopg.Connection[Any], chance: random.Random, number: int
    ) -> None:
        self.storm, self.side, self.connection, self.chance = storm, side, connection, chance
        #: Unlike any of the other side, and of this one's last 15,000.
        self.number = (2 * number + (side == "target")) % 30000
        self.word = f"{side} {number}"
        self.written: list[tuple[Cell, Any]] = []
        self.read: set[tuple[Cell, str]] = set()

    def task(self) -> int:
        """One of the hot ones."""
        return self.chance.choice(self.storm.hot)

    def value(self, column: str) -> Any:
        """A new value, unlike all others."""
        if column.endswith("_at"):
            return f"2030-01-01T{self.number // 3600:02}:{self.number // 60 % 60:02}:{self.number % 60:02}"
        return self.word if column in WORDS else self.number

    def _read(self, table: str, key: Key, row: dict[str, Any]) -> None:
        self.read |= {((table, key, column), as_told(value)) for column, value in row.items() if value is not None}

    def edit(self, table: str, *key: Any, **values: Any) -> None:
        """Read the row's values, then replace them; nothing when the row is gone."""
        row = self._locked(table, key)
        if row is None:
            return
        self._read(table, key, {column: row[column] for column in values})
        changes = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in values)
        self.connection.execute(
            sql.SQL("UPDATE {} SET {} WHERE {}").format(sql.Identifier(table), changes, self.storm.world.where(table)),
            [*values.values(), *key],
        )
        self.written += [((table, key, column), value) for column, value in values.items()]

    def insert(self, table: str, **values: Any) -> None:
        """A new row, with an id of the side's sequence."""
        row = self.connection.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(sql.Placeholder() * len(values)),
            ),
            list(values.values()),
        ).fetchone()
        assert row is not None
        self.written += [((table, (row[0],), column), value) for column, value in values.items()]

    def delete(self, table: str, *key: Any) -> None:
        """A row with all that hangs on it, read before."""
        row = self._locked(table, key)
        if row is None:
            return
        self._read(table, key, row)
        if table == "tasks":
            for child, column in (("task_images", "task_id"), ("scheduled_task_executions", "created_task_id")):
                query = sql.SQL("SELECT to_jsonb(t) FROM {} t WHERE {} = %s FOR UPDATE").format(
                    sql.Identifier(child), sql.Identifier(column)
                )
                for (found,) in self.connection.execute(query, key).fetchall():
                    only = found if child == "task_images" else {column: found[column]}
                    self._read(child, (found["id"],), only)
        self.connection.execute(
            sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table), self.storm.world.where(table)), key
        )

    def _locked(self, table: str, key: Key) -> dict[str, Any] | None:
        query = sql.SQL("SELECT to_jsonb(t) FROM {} t WHERE {} FOR UPDATE")
        found = self.connection.execute(
            query.format(sql.Identifier(table), self.storm.world.where(table)), key
        ).fetchone()
        return found[0] if found else None

    def one(self, query: str) -> Any:
        """The one value of a query, or None."""
        row = self.connection.execute(query.encode()).fetchone()
        return row[0] if row else None


def _own(mine: _Session) -> None:
    column = mine.chance.choice(OWN[mine.side])
    mine.edit("tasks", mine.task(), **{column: mine.value(column)})


def _contested(mine: _Session) -> None:
    """As Laravel writes it, or as a bulk query that leaves updated_at alone or empties it does."""
    mine.edit("tasks", mine.task(), title=mine.value("title"))
    mine.edit("tasks", mine.task(), priority=mine.number)
    stamp = mine.chance.choice(("now()", "NULL", "updated_at"))
    mine.connection.execute(f"UPDATE tasks SET updated_at = {stamp} WHERE id = {mine.task()}".encode())


def _complete(mine: _Session) -> None:
    mine.edit("tasks", mine.task(), completed_at=mine.value("completed_at"))


def _bulk(mine: _Session) -> None:
    for number in sorted({mine.task() for _ in range(3)}):
        mine.edit("tasks", number, priority=mine.number, **{OWN[mine.side][0]: mine.number})


def _long_text(mine: _Session) -> None:
    """Longer than a page: an update that leaves it alone does not find it in the log of the server."""
    if mine.side == "source":
        mine.edit("tasks", mine.task(), description=f"{mine.word} {mine.chance.randbytes(9000).hex()}")
    else:
        mine.edit("tasks", mine.task(), title=mine.value("title"), due_date=mine.value("due_date"))


def _cold(mine: _Session) -> int | None:
    """A task that may go."""
    return mine.one(f"SELECT max(id) FROM tasks WHERE id < 1000000000 AND id % 7 = {mine.chance.randrange(7)}")  # type: ignore[no-any-return]


def _image(mine: _Session) -> None:
    number = mine.chance.choice((mine.task(), _cold(mine)))
    mine.insert("task_images", task_id=number, file_path=mine.word)


def _delete_image(mine: _Session) -> None:
    image = mine.one(f"SELECT min(id) FROM task_images WHERE task_id = {mine.task()}")
    if image is not None:
        mine.delete("task_images", image)


def _delete_task(mine: _Session) -> None:
    number = _cold(mine)
    if number is not None and number not in mine.storm.hot:
        mine.delete("tasks", number)


def _new_task(mine: _Session) -> None:
    mine.insert("tasks", user_id=mine.one("SELECT min(user_id) FROM tasks"), title=mine.word)


def _tags(mine: _Session) -> None:
    """A tag sync: detach all, attach some."""
    number = mine.task()
    mine.connection.execute("DELETE FROM task_tag WHERE task_id = %s", (number,))
    for tag in sorted(mine.chance.sample(mine.storm.tags, 2)):
        mine.connection.execute("INSERT INTO task_tag VALUES (%s, %s) ON CONFLICT DO NOTHING", (number, tag))


def _execution(mine: _Session) -> None:
    mine.insert(
        "scheduled_task_executions",
        scheduled_task_id=mine.one("SELECT min(id) FROM scheduled_group_tasks"),
        executed_at=mine.value("executed_at"),
        created_task_id=mine.chance.choice((mine.task(), _cold(mine))),
        note=mine.word,
    )


def _note(mine: _Session) -> None:
    number = mine.one(f"SELECT max(id) FROM scheduled_task_executions WHERE id % 5 = {mine.chance.randrange(5)}")
    if number is not None:
        mine.edit("scheduled_task_executions", number, note=mine.word)


def _schedule(mine: _Session) -> None:
    number = mine.one("SELECT min(id) FROM scheduled_group_tasks")
    mine.edit("scheduled_group_tasks", number, title=mine.word)
    mine.connection.execute(
        "UPDATE scheduled_group_tasks SET tags = to_json(%s::text) WHERE id = %s", (mine.word, number)
    )


def _name(mine: _Session) -> None:
    """A name that only one row of a schedule may have, set and taken away on both sides."""
    name = f"tag {mine.chance.randrange(4)}"
    if mine.chance.random() < 0.5:
        mine.connection.execute("DELETE FROM scheduled_task_tags WHERE tag_name = %s", (name,))
        return
    mine.connection.execute(
        "INSERT INTO scheduled_task_tags (scheduled_task_id, tag_name) SELECT min(id), %s FROM scheduled_group_tasks "
        "ON CONFLICT DO NOTHING",
        (name,),
    )


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


def blown(pair: Pair, hot: int, *, everything: bool, seed: int, **how: Any) -> tuple[Storm, int]:
    """A storm over so many hot tasks, checked; and how many lost writes were told."""
    world = TwoWriters(pair)
    ids = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT %s", (hot,))]
    storm = Storm(world, ids, everything=everything, seed=seed)
    try:
        storm.blow(**how)
        return storm, storm.check()
    finally:
        world.close()


@pytest.mark.parametrize("seed", range(2))
def test_storm_on_all_tables(make_pair: MakePair, seed: int) -> None:
    """Prevents rules that lose a value silently, stop a worker or decide differently on the two sides."""
    storm, told = blown(running(make_pair, rows=300), 20, everything=True, seed=seed, seconds=3)
    assert min(storm.done.values()) >= 100
    # Twenty tasks and two writers that know no pause: some did meet, else this proves nothing.
    assert told > 0


@pytest.mark.parametrize("everything", [True, False], ids=["all tables", "hot rows"])
def test_storm_with_dms(make_pair: MakePair, dms_world: DmsWorld, everything: bool) -> None:
    """Prevents rules that hold with one engine only: here transactions arrive late, whole, and some of them twice."""
    pair = running_with_dms(make_pair, dms_world, rows=300)
    storm, told = blown(pair, 20, everything=everything, seed=11, seconds=3, rate=200)
    assert min(storm.done.values()) >= 100
    assert told > 0


def test_storm_of_the_design(make_pair: MakePair) -> None:
    """Both sides update the same 200 rows about 650 times a second each."""
    storm, _ = blown(running(make_pair, rows=2111), 200, everything=False, seed=7, seconds=4, rate=650, least=400)
    # Two writes a row at the least.
    assert min(storm.done.values()) >= 400
