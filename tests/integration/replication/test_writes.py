"""The record of writes on two real servers: what never arrived is counted, what both sides have is pruned and nothing else.

Replication is done by hand here, record by record, so that each can come late, twice or never.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from scripts.database import helper_schema
from scripts.replication import fence, writes
from scripts.replication.directions import Direction
from scripts.support.progress import Work
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side, other
from scripts.support.wait import wait_until
from scripts.writes.install import QUERIES
from tests.conftest import Pair
from tests.integration.test_chain import MakePair, count, running

Connection = psycopg.Connection[Any]


class Wire:
    """Both sides with the tables of records, and by hand what replication does between them."""

    def __init__(self, pair: Pair) -> None:
        self.settings = pair.settings
        self.sides: dict[Side, Connection] = {"source": pair.source, "target": pair.target}
        for side, connection in self.sides.items():
            helper_schema.install(connection)
            clock = sql.SQL(QUERIES["clock"])
            connection.execute(clock.format(start=sql.Literal(2 if side == "source" else 1)))

    def write(self, side: Side, number: int = 1, kind: str = "update", connection: Connection | None = None) -> None:
        (connection or self.sides[side]).execute(
            f"INSERT INTO task_migration.{side}_writes (v, table_name, key, kind, vals) "
            "SELECT nextval('task_migration.clock'), 'tasks', format('[\"%%s\"]', i), %s, '{\"title\": \"題\"}' "
            "FROM generate_series(1, %s) i".encode(),
            (kind, number),
        )

    def deliver(self, side: Side, but: int | None = None) -> None:
        """Bring what ``side`` wrote to the other one, which advances its clock; ``but``: without the record of that number."""
        here, there = self.sides[side], self.sides[other(side)]
        table = f"task_migration.{side}_writes"
        upto = count(there, f"SELECT greatest((SELECT max(v) FROM {table}), {writes.known(there)}, 0)")
        found = here.execute(f"SELECT * FROM {table} WHERE v > {upto} AND v IS DISTINCT FROM %s".encode(), (but,))
        values = ", ".join(["%s"] * len(found.description or ()))
        with there.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({values})".encode(), found)
        there.execute(
            f"SELECT nextval('task_migration.clock') FROM generate_series(1, (SELECT greatest(0, max(v) - "
            f"(SELECT last_value FROM task_migration.clock)) / 2 + 1 FROM {table}))".encode()
        )

    def fence(self) -> None:
        for side in BOTH:
            self.write(side, kind="fence")
            self.deliver(side)

    def prune(self) -> int:
        return writes.prune(self.settings)

    def kept(self) -> list[int]:
        return [
            count(self.sides[side], f"SELECT count(*) FROM task_migration.{table}_writes WHERE kind <> 'fence'")
            for side in BOTH
            for table in BOTH
        ]

    def missing(self, side: Side) -> int:
        return writes.arrival(self.settings, side, lambda: None).missing


@pytest.fixture
def wire(make_pair: MakePair) -> Wire:
    return Wire(make_pair(rows=None))


def test_what_both_sides_have_is_pruned_at_the_third_fence_and_counted(wire: Wire) -> None:
    """Prevents a table of records that grows for two weeks, and a proof that forgets what was pruned."""
    wire.write("source", 5000, "insert")
    wire.write("target", 3, "delete")
    for side in BOTH:
        wire.deliver(side)
    assert wire.prune() == 0, "no fence has come through since anything was noted"
    wire.fence()
    assert wire.prune() == 0, "what did not know of them may be under way"
    wire.fence()
    wire.write("source", 7)
    assert wire.prune() > 5000
    assert wire.kept() == [7, 0, 0, 0]
    found = {side: writes.pruned(connection) for side, connection in wire.sides.items()}
    assert (found["source"].insert, found["target"].delete, found["target"].total) == (5000, 3, 3)
    assert [writes.known(connection) for connection in wire.sides.values()] == [writes.known(wire.sides["source"])] * 2
    assert [wire.missing(side) for side in BOTH] == [7, 0]


def test_a_record_that_never_arrived_is_counted_and_never_pruned(wire: Wire) -> None:
    """Prevents a slot that was advanced by hand from losing a write of which both sides then forget."""
    wire.write("target", 10)
    lost = count(wire.sides["target"], "SELECT min(v) + 8 FROM task_migration.target_writes")
    wire.deliver("target", but=lost)
    wire.fence()
    for _ in range(4):
        wire.prune()
        wire.fence()
    assert wire.missing("target") == 1
    found = writes.arrival(wire.settings, "target", lambda: None)
    assert [one.v for one in found.first] == [lost]
    assert found.written.total == 10
    assert count(wire.sides["target"], f"SELECT count(*) FROM task_migration.target_writes WHERE v = {lost}") == 1
    assert all(writes.known(connection) < lost for connection in wire.sides.values())


def test_a_record_that_arrived_otherwise_is_counted(wire: Wire) -> None:
    """Prevents a value that an engine cut short (a LOB limit) from counting as arrived."""
    wire.write("source", 3)
    wire.deliver("source")
    assert wire.missing("source") == 0
    wire.sides["target"].execute("UPDATE task_migration.source_writes SET vals = '{}' WHERE v = (SELECT max(v) FROM "
                                 "task_migration.source_writes)")  # fmt: skip
    assert wire.missing("source") == 1


def test_a_number_drawn_long_before_its_commit_is_waited_for(wire: Wire) -> None:
    """Prevents pruning by the clock alone: a transaction that drew its number early commits late, and must arrive."""
    with psycopg.connect(wire.settings.source()) as late:
        wire.write("source", connection=late)
        wire.write("source", 5)
        for _ in range(4):
            wire.fence()
            wire.prune()
        assert wire.kept()[0] == 5, "nothing is pruned while an older transaction runs"
        late.commit()
    wire.sides["target"].execute("DELETE FROM task_migration.source_writes")  # so that all is brought again, in order
    wire.deliver("source")
    for _ in range(5):
        wire.fence()
        wire.prune()
    assert wire.kept() == [0, 0, 0, 0]
    assert writes.pruned(wire.sides["source"]).total == 6


def test_a_fence_that_was_on_its_way_when_the_number_was_noted_proves_nothing(wire: Wire) -> None:
    """Prevents a fence written before the last old transaction ended from standing for what that one wrote."""
    with psycopg.connect(wire.settings.source()) as late:
        wire.write("source", connection=late)
        wire.prune()  # notes a number above the late one's
        wire.fence()
        late.commit()
    wire.prune()  # the old transaction has ended, but no fence was written since
    assert wire.kept() == [1, 0, 0, 0]
    assert wire.prune() == 0
    # The fence came first, so that a copy which looks at the newest number alone leaves the late record out.
    wire.deliver("source")
    wire.fence()
    assert wire.prune() == 0
    assert wire.missing("source") == 1


def test_what_did_not_know_a_record_arrives_before_that_is_pruned(wire: Wire) -> None:
    """Prevents a write of the other side from arriving for a row that was deleted here, where nothing shows any more that it was."""
    wire.write("target", 5, kind="fence")
    wire.deliver("target")
    wire.write("source", kind="delete")
    wire.write("target", kind="fence")
    wire.prune()
    wire.write("target", kind="fence")
    wire.deliver("target")
    wire.write("target", kind="update")  # it does not have the delete
    wire.write("source", kind="fence")
    wire.deliver("source")
    wire.prune()
    assert wire.prune() == 0
    assert wire.kept()[0] == 1, "both have it, but the update is under way"
    wire.fence()
    assert wire.prune() > 0
    assert wire.kept() == [0, 1, 0, 1]


@pytest.mark.parametrize("dies_at", range(1, 9))
def test_a_pruning_that_dies_anywhere_leaves_a_state_that_the_next_one_ends(
    wire: Wire, dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a record that went on one side alone, or a count that is wrong, after a kill between any two transactions."""
    for side in BOTH:
        wire.write(side, 3000, "insert")
        wire.deliver(side)
    first = {table: count(wire.sides[table], f"SELECT min(v) FROM task_migration.{table}_writes") for table in BOTH}
    for _ in range(2):
        wire.prune()
        wire.fence()
    done = 0
    original = helper_schema.put

    def put(connection: Connection, name: str, value: Any) -> None:
        nonlocal done
        done += 1
        if done == dies_at:
            raise KeyboardInterrupt
        original(connection, name, value)

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(helper_schema, "put", put)
        wire.prune()
    assert done >= dies_at, "the pruning ended before it was killed"
    # Whatever went is known to the side where it went, so that a repeat is ignored there.
    for side, connection in wire.sides.items():
        for table in BOTH:
            oldest = count(connection, f"SELECT coalesce(min(v), {1 << 40}) FROM task_migration.{table}_writes")
            assert oldest <= first[table] or writes.known(connection) >= first[table], (side, table)
    seen = [writes.arrival(wire.settings, side, lambda: None) for side in BOTH]
    assert [(one.missing, one.written.insert) for one in seen] == [(0, 3000), (0, 3000)]
    for _ in range(5):
        wire.fence()
        wire.prune()
    assert wire.kept() == [0, 0, 0, 0]
    assert [writes.pruned(connection).insert for connection in wire.sides.values()] == [3000, 3000]


def test_many_prune_at_once_while_both_sides_write(wire: Wire) -> None:
    """Prevents two commands that prune at once from counting twice, and an arrival check that takes pruned for missing."""
    wrong: list[int] = []
    rounds = 0
    ends = time.monotonic() + 4

    def caught_up() -> None:
        begun = rounds
        wait_until(
            lambda: rounds, lambda seen: seen >= begun + 2, what="a round begun after this", timeout=20, interval=0.005
        )

    def work(look: bool) -> None:
        while time.monotonic() < ends:
            if look:
                wrong.extend(n for side in BOTH if (n := writes.arrival(wire.settings, side, caught_up).missing))
            else:
                writes.prune(wire.settings, seconds=0.2)

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work, look) for look in (False, False, True)]
        while not all(future.done() for future in futures):
            for side in BOTH:
                wire.write(side, 50)
                wire.deliver(side)
            wire.fence()
            rounds += 1
        for future in futures:
            future.result()
    assert wrong == []
    for _ in range(5):
        wire.fence()
        wire.prune()
    assert wire.kept() == [0, 0, 0, 0]
    assert sum(writes.pruned(connection).update for connection in wire.sides.values()) == 100 * rounds


def test_a_fence_that_is_pruned_while_somebody_waits_for_it_has_come_through(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a fence that times out, and a gate that rolls back, as other commands pruned its record between two looks."""
    post = fence.post

    def posted(connection: Connection, side: Side) -> int:
        number = post(connection, side)
        wire.deliver(side)
        while writes.known(wire.sides["target"]) < number:
            wire.prune()
            wire.fence()
        return number

    monkeypatch.setattr(fence, "post", posted)
    assert fence.through(wire.settings, "forward", 20.0) > 0


def test_a_commit_that_is_seen_at_home_later_than_abroad_is_not_taken_for_a_restore(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a busy server, which sends a commit before its own sessions see it, is called an older state and each step refused."""
    pair = make_pair(rows=None)
    wire = Wire(pair)
    source, target = wire.sides["source"], wire.sides["target"]
    wire.write("source", 3)
    with psycopg.connect(pair.settings.url("source")) as late:
        wire.write("source", 2, connection=late)
        sent = late.execute("SELECT * FROM task_migration.source_writes").fetchall()
        with target.cursor() as cursor:
            values = ", ".join(["%s"] * len(sent[0]))
            cursor.executemany(f"INSERT INTO task_migration.source_writes VALUES ({values})", sent)
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: late.commit())
        monkeypatch.setattr(writes, "time", clock)
        assert writes.forgotten(source, target, "source") == 0
    source.execute(
        "DELETE FROM task_migration.source_writes WHERE v = (SELECT max(v) FROM task_migration.source_writes)"
    )
    monkeypatch.setattr(writes, "SEEN", 0.0)
    assert writes.forgotten(source, target, "source") == 1


def test_the_log_still_to_come_is_the_progress(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a bar of a quick fence, and one that runs back or ahead while more is written; PostgreSQL's own positions say how far it is."""
    monkeypatch.setattr(fence, "LOOK_SECONDS", 0.0)
    source, slot = wire.sides["source"], wire.settings.config.subscription
    source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))

    def written() -> str:
        source.execute("SELECT pg_logical_emit_message(true, 'x', repeat('y', 1048576)) FROM generate_series(1, 3)")
        row = source.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert row is not None
        return str(row[0])

    def read(upto: str) -> str:
        row = source.execute("SELECT end_lsn::text FROM pg_replication_slot_advance(%s, %s)", (slot, upto)).fetchone()
        assert row is not None
        return str(row[0])

    def apart(later: str, earlier: str) -> float:
        return count(source, f"SELECT pg_wal_lsn_diff('{later}', '{earlier}')::bigint") / 2**20

    begun: list[Work] = []

    def begin() -> Work:
        begun.append(Work("forward", None, "MiB"))
        return begun[-1]

    begin_at, halfway, goal = read(written()), written(), written()
    backlog = fence._Backlog(source, slot, begin)
    assert not begun
    for upto, more in ((begin_at, False), (halfway, True), (goal, True)):
        at = read(upto) if upto != begin_at else begin_at
        if more:
            written()  # which the fence does not wait for
        backlog.tell()
        assert (begun[0].done, begun[0].total) == (apart(at, begin_at), apart(goal, begin_at))
    assert apart(goal, begin_at) > 6
    assert len(begun) == 1
    assert backlog.look()[0]["lag_bytes"] >= 6 * 2**20


def test_what_the_rules_wrote_meanwhile_is_waited_for_too(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a comparison right after a fence that finds on one side alone what a rule wrote as the fence came through."""
    pair = running(make_pair, rows=10)
    task = count(pair.source, "SELECT min(id) FROM tasks")
    through, ways = fence.through, list[str]()

    def and_a_rule_writes(settings: Settings, direction: Direction, *more: Any) -> float:
        seconds = through(settings, direction, *more)
        ways.append(direction)
        if ways == ["forward", "reverse"]:
            pair.source.execute(
                "INSERT INTO task_migration.source_writes (v, table_name, key, kind, vals, cause) SELECT nextval('task_migration.clock'), "
                "'tasks', %s, 'update', '{\"title\": \"規則\"}', 'claim'",
                (f'["{task}"]',),
            )
        return seconds

    monkeypatch.setattr(fence, "through", and_a_rule_writes)
    fence.both(pair.settings, 20)
    assert ways == ["forward", "reverse"] * 2
    assert count(pair.target, f"SELECT count(*) FROM tasks WHERE id = {task} AND title = '規則'") == 1
