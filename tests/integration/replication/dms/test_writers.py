"""Two writers of one row with AWS DMS between them: each side has columns of its own, and each acknowledged value must be there."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg

from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.support.sides import BOTH, Side
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.conftest import Pair
from tests.integration.conflict_log import told
from tests.integration.replication.dms.dms_world import DmsWorld
from tests.integration.replication.dms.test_dms import running
from tests.integration.test_chain import MakePair

#: ``(side, id, column) -> value`` as it was acknowledged last.
Acknowledged = dict[tuple[Side, int, str], Any]
#: Columns of `tasks` that one side alone writes; with none of them in a column group.
OWN: dict[Side, tuple[str, ...]] = {"source": ("title", "span"), "target": ("reward", "description")}


def connection_of(pair: Pair, side: Side) -> psycopg.Connection[Any]:
    return pair.source if side == "source" else pair.target


def ids_of(pair: Pair, rows: int) -> list[int]:
    return [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT %s", (rows,))]


def write(
    connection: psycopg.Connection[Any], side: Side, number: int, column: str, value: Any, into: Acknowledged
) -> None:
    """One acknowledged write, with the `updated_at` that an application sets."""
    connection.execute(f"UPDATE tasks SET {column} = %s, updated_at = now() WHERE id = %s".encode(), (value, number))
    into[side, number, column] = value


def lost(pair: Pair, acknowledged: Acknowledged) -> list[str]:
    """What of it is not there, on either side, after a fence both ways; and whatever differs between the sides."""
    fence.both(pair.settings)
    found = []
    for (writer, number, column), value in acknowledged.items():
        for side in BOTH:
            row = (
                connection_of(pair, side)
                .execute(f"SELECT {column} FROM tasks WHERE id = %s".encode(), (number,))
                .fetchone()
            )
            if row != (value,):
                found.append(f"{column} of {number}, {value!r} by the {writer}: {row} on the {side}")
    assert verify.run(pair.settings).match
    return found


def at_once(works: dict[Side, Callable[[], None]]) -> None:
    """Do both at the same time. Raises what one of them raised."""
    with ThreadPoolExecutor(len(works)) as threads:
        for done in [threads.submit(work) for work in works.values()]:
            done.result()


def test_one_user_on_both_sides_in_turn(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents the loss of an edit that the Task Service made as soon as it had the row, to the monolith's next one."""
    pair = running(make_pair, dms_world, rows=40)
    acknowledged: Acknowledged = {}
    made = "INSERT INTO tasks (user_id, title, updated_at) SELECT min(id), 'made', now() FROM users RETURNING id"
    ids = []
    for _ in range(24):
        row = pair.source.execute(made.encode()).fetchone()
        assert row is not None
        ids.append(row[0])
    for number in ids:
        wait_until(
            partial(pair.target.execute, "SELECT FROM tasks WHERE id = %s", (number,)),
            lambda there: there.fetchone() is not None,
            what="the task on the target",
            timeout=30,
        )
        write(pair.target, "target", number, "reward", 7, acknowledged)
    # The monolith's next edits, whether or not what the Task Service wrote is there by then.
    for number in ids:
        write(pair.source, "source", number, "span", 3, acknowledged)
    assert lost(pair, acknowledged) == []
    assert told(pair.settings) == []


def test_different_columns_at_once(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a whole row that wins over another column's write of the same second."""
    pair = running(make_pair, dms_world, rows=60)
    acknowledged: Acknowledged = {}
    ids = ids_of(pair, 50)

    def one_side(side: Side) -> Callable[[], None]:
        def work() -> None:
            for number in ids:
                column = OWN[side][number % 2]
                value = f"by {side}" if column in ("title", "description") else number
                write(connection_of(pair, side), side, number, column, value, acknowledged)

        return work

    at_once({side: one_side(side) for side in BOTH})
    assert lost(pair, acknowledged) == []
    assert told(pair.settings) == []


class OneSide:
    """Writes one side's own columns of a few hot tasks so many times, in every way that an application has."""

    def __init__(self, pair: Pair, side: Side, ids: list[int], times: int) -> None:
        self.side, self.ids, self.times = side, ids, times
        self.url = pair.settings.source() if side == "source" else pair.settings.target()
        self.drawn = random.Random(f"dms {side}")
        self.acknowledged: Acknowledged = {}

    def value(self, column: str) -> Any:
        number = self.drawn.randrange(10**6)
        if column == "title":
            return f"題 {number}"
        # Long ones are stored out of line, and left out of what another update writes to the log.
        return f"{number} " * self.drawn.choice([1, 3000]) if column == "description" else number

    def __call__(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for _ in range(self.times):
                done: Acknowledged = {}
                # As an application that is told of a deadlock: the next request comes, this one is not acknowledged.
                try:
                    with connection.transaction():
                        self.once(connection, done)
                except psycopg.errors.DeadlockDetected:
                    continue
                self.acknowledged.update(done)
                time.sleep(0.01)  # noqa: TID251  # the pace of requests

    def once(self, connection: psycopg.Connection[Any], done: Acknowledged) -> None:
        number, column = self.drawn.choice(self.ids), self.drawn.choice(OWN[self.side])
        value = self.value(column)
        match self.drawn.choice(["update", "savepoint", "upsert", "bulk", "nothing"]):
            case "savepoint":
                with connection.transaction():
                    write(connection, self.side, number, column, value, done)
            case "upsert":
                given = f"INSERT INTO tasks (id, user_id, title{'' if column == 'title' else ', ' + column}) "
                taken = "%(value)s" if column == "title" else "title, %(value)s"
                connection.execute(
                    f"{given} SELECT id, user_id, {taken} FROM tasks WHERE id = %(id)s "
                    f"ON CONFLICT (id) DO UPDATE SET {column} = excluded.{column}".encode(),
                    {"id": number, "value": value},
                )
                done[self.side, number, column] = value
            case "bulk":
                for one in sorted(self.drawn.sample(self.ids, 4)):
                    write(connection, self.side, one, column, value, done)
            case "nothing":
                connection.execute("UPDATE tasks SET updated_at = updated_at WHERE id = %s", (number,))
            case _:
                write(connection, self.side, number, column, value, done)


def test_random_writes_of_own_columns(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a loss that needs an order nobody thought of."""
    pair = running(make_pair, dms_world, rows=60)
    sides: dict[Side, OneSide] = {side: OneSide(pair, side, ids_of(pair, 12), 300) for side in BOTH}
    at_once(dict(sides))
    acknowledged = {key: value for side in sides.values() for key, value in side.acknowledged.items()}
    assert len(acknowledged) >= 30
    assert lost(pair, acknowledged) == []


def test_an_edit_against_a_delete(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a row that comes back on one side, and an edit that vanishes unsaid."""
    pair = running(make_pair, dms_world, rows=60)
    ids = ids_of(pair, 20)
    replicate.stop(pair.settings)
    for number in ids:
        pair.source.execute("DELETE FROM tasks WHERE id = %s", (number,))
        write(pair.target, "target", number, "reward", 5, {})
    replicate.start(pair.settings)
    fence.both(pair.settings)
    assert verify.run(pair.settings).match
    for side in BOTH:
        left = "SELECT count(*) FROM tasks WHERE id = ANY(%s)"
        assert connection_of(pair, side).execute(left.encode(), (ids,)).fetchone() == (0,)
    edits = {entry["key"] for entry in told(pair.settings) if entry["kind"] == "update of deleted"}
    assert edits == {f'["{number}"]' for number in ids}


def test_a_child_added_while_its_parent_is_deleted_on_the_other_side(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents an orphan on either side, and a child that vanishes unsaid."""
    pair = running(make_pair, dms_world, rows=60)
    ids = ids_of(pair, 10)
    replicate.stop(pair.settings)
    for number in ids:
        pair.source.execute("DELETE FROM tasks WHERE id = %s", (number,))
        pair.target.execute("INSERT INTO task_images (task_id, file_path) VALUES (%s, 'late.png')", (number,))
    replicate.start(pair.settings)
    fence.both(pair.settings)
    assert verify.run(pair.settings).match
    for side in BOTH:
        orphans = "SELECT count(*) FROM task_images WHERE task_id = ANY(%s)"
        assert connection_of(pair, side).execute(orphans.encode(), (ids,)).fetchone() == (0,)
    gone = [entry for entry in told(pair.settings) if entry["table"] == "task_images"]
    assert len(gone) == len(ids), gone


def test_a_bulk_update_larger_than_one_transaction_of_dms(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a transaction that DMS applies in parts, or one that holds back the writes of the other side."""
    pair = running(make_pair, dms_world, rows=1500)
    acknowledged: Acknowledged = {}
    ids = ids_of(pair, 1500)

    def bulk() -> None:
        pair.source.execute("UPDATE tasks SET span = 77, updated_at = now()")
        acknowledged.update({("source", number, "span"): 77 for number in ids})

    def single() -> None:
        for number in ids[::50]:
            write(pair.target, "target", number, "reward", number, acknowledged)

    at_once({"source": bulk, "target": single})
    assert lost(pair, acknowledged) == []
