"""`verify --repair`: what one side lost outside of everything comes back as a recorded write, and what people write meanwhile stays."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from psycopg import sql

from scripts.copy import run as copy
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import Refused
from scripts.support.sides import Side
from scripts.support.wait import wait_until
from scripts.verify import repair as repairing
from scripts.verify import run as verify
from tests.conftest import Pair, unseen
from tests.integration.conflict_log import told
from tests.integration.test_chain import MakePair, count, running
from tests.integration.verify.test_verify import bare, flow

SIX = "SELECT count(*) FROM task_migration.{}_writes WHERE cause = 'repair'"


def damaged(pair: Pair, side: Side) -> None:
    """Of every kind, on one side: rows gone, rows that nobody made, values changed, in parents and children."""
    with unseen(pair.source if side == "source" else pair.target) as one:
        one.execute("DELETE FROM tasks WHERE id IN (SELECT id FROM tasks ORDER BY id LIMIT 3)")
        one.execute("DELETE FROM task_images WHERE id IN (SELECT id FROM task_images ORDER BY id LIMIT 2)")
        one.execute(
            "UPDATE tasks SET title = 'つくりかえ', reward = 77 WHERE id IN (SELECT id FROM tasks ORDER BY id DESC LIMIT 2)"
        )
        one.execute(
            "UPDATE scheduled_group_tasks SET schedules = '[]' WHERE id = (SELECT min(id) FROM scheduled_group_tasks)"
        )
        one.execute(
            "INSERT INTO tasks (id, user_id, title) SELECT 7000000000, min(user_id), 'nobody made me' FROM tasks"
        )
        one.execute("INSERT INTO task_images (id, task_id, file_path) VALUES (7000000001, 7000000000, 'a.png')")
        one.execute("INSERT INTO task_tag (task_id, tag_id) SELECT 7000000000, min(tag_id) FROM task_tag")


@pytest.mark.parametrize("damage", ["source", "target"])
@pytest.mark.parametrize("rule", ["source", "target", "newest"])
def test_every_kind_of_difference_is_repaired_for_either_side(make_pair: MakePair, damage: Side, rule: Any) -> None:
    """Prevents a repair that leaves a difference, or that the rules of replication take for a conflict and undo."""
    pair = running(make_pair, rows=60)
    damaged(pair, damage)
    first = verify.run(pair.settings)
    assert not first.match
    mended = verify.run(pair.settings, repair=rule)
    assert mended.match, [table.differences for table in mended.tables if not table.match]
    assert sum(table.repaired for table in mended.tables) >= 8
    assert verify.run(pair.settings).match
    right = damage != rule
    for connection in (pair.source, pair.target):
        stays = 0 if right and rule != "newest" else 1
        assert count(connection, "SELECT count(*) FROM tasks WHERE id = 7000000000") == stays
    # The winner's rows are as they were: a repair writes nothing there but its record.
    assert replicate.status(pair.settings).status != "fail"


def test_unique_values_that_rows_swapped_are_repaired(make_pair: MakePair) -> None:
    """Prevents a repair that makes a row vanish on both sides as another one still holds its unique value."""
    pair = make_pair(
        rows=20, tables=["tasks", "scheduled_group_tasks", "scheduled_task_tags", "scheduled_task_executions"]
    )
    schema.apply(pair.settings)
    copy.run(pair.settings)
    replicate.start(pair.settings)
    pair.source.execute(
        "INSERT INTO scheduled_task_tags (scheduled_task_id, tag_name) SELECT min(id), t FROM scheduled_group_tasks, "
        "unnest(ARRAY['あ', 'い', 'う']) t GROUP BY t"
    )
    replicate.wait(pair.settings)
    before = pair.source.execute("SELECT * FROM scheduled_task_tags ORDER BY id").fetchall()
    with unseen(pair.target) as one:
        for name, other in (("あ", "x"), ("い", "あ"), ("う", "い"), ("x", "う")):
            one.execute("UPDATE scheduled_task_tags SET tag_name = %s WHERE tag_name = %s", (other, name))
    assert verify.run(pair.settings, repair="source").match
    for connection in (pair.source, pair.target):
        assert connection.execute("SELECT * FROM scheduled_task_tags ORDER BY id").fetchall() == before
    assert told(pair.settings) == []


def test_a_repair_without_fences_is_refused(make_pair: MakePair) -> None:
    """Prevents a deleted row that comes back: its deletion was under way when the rows were compared."""
    pair = running(make_pair, rows=40)
    pair.target.execute(f"ALTER SUBSCRIPTION {pair.settings.config.subscription} DISABLE".encode())
    gone = count(pair.source, "DELETE FROM tasks WHERE id = (SELECT min(id) FROM tasks) RETURNING id")
    for rule in ("source", "target", "newest"):
        with pytest.raises(Refused, match=r"replication does not run both ways.*replicate start"):
            verify.run(pair.settings, repair=rule)
    assert count(pair.source, f"SELECT count(*) FROM tasks WHERE id = {gone}") == 0
    replicate.start(pair.settings)
    assert verify.run(pair.settings, repair="newest").match
    for connection in (pair.source, pair.target):
        assert count(connection, f"SELECT count(*) FROM tasks WHERE id = {gone}") == 0


@pytest.mark.parametrize("writer", ["source", "target"])
@pytest.mark.parametrize("what", ["delete", "update"])
def test_what_is_written_while_a_repair_runs_stays(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, writer: Side, what: str
) -> None:
    """Prevents a row that comes back, or a value that is lost, as somebody wrote it between comparison and repair: before, while and
    after the repair sends it."""
    pair = running(make_pair, rows=40)
    ids = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 30")]
    with unseen(pair.target) as one:
        one.execute("UPDATE tasks SET title = 'damaged' WHERE id = ANY(%s)", (ids,))
    url = pair.settings.url(writer)
    statement = (
        "DELETE FROM tasks WHERE id = %s"
        if what == "delete"
        else "UPDATE tasks SET title = 'mine', reward = 5 WHERE id = %s"
    )

    def write(some: list[int]) -> None:
        with psycopg.connect(url, autocommit=True) as session:
            for number in some:
                session.execute(statement, (number,))

    forward = sql.Identifier(pair.settings.config.subscription)

    def write_and_let_in(some: list[int]) -> None:
        write(some)
        with psycopg.connect(pair.settings.target(), autocommit=True) as session:
            session.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(forward))

    # Ten before the repair holds them, ten that wait for it, ten when it has let go.
    real = repairing._Batch._statements
    threads: list[threading.Thread] = []

    def meanwhile(self: repairing._Batch, rows: Any) -> Any:
        if not threads:
            threads.append(threading.Thread(target=write_and_let_in, args=(ids[10:20],)))
            threads[0].start()
            wait_until(
                lambda: count(
                    pair.source if writer == "source" else pair.target,
                    "SELECT count(*) FROM pg_locks WHERE NOT granted",
                ),
                bool,
                what="the writer to wait for the repair",
                timeout=20,
            )
            # A number far above the other side's, which hears of it by nothing that arrives before the writer has written.
            pair.source.execute("SELECT nextval('task_migration.clock') FROM generate_series(1, 1000)")
            pair.target.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(forward))
            wait_until(
                lambda: count(pair.target, "SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL"),
                lambda left: left == 0,
                what="the worker to end",
                timeout=20,
            )
        return real(self, rows)

    real_repair = repairing.repair

    def written_before(*given: Any) -> repairing.Repaired:
        if not threads:
            write(ids[:10])
        return real_repair(*given)

    monkeypatch.setattr(verify, "repair_rows", written_before)
    monkeypatch.setattr(repairing._Batch, "_statements", meanwhile)
    verify.run(pair.settings, repair="source")
    threads[0].join()
    write(ids[20:])
    replicate.wait(pair.settings)
    assert verify.run(pair.settings).match
    for connection in (pair.source, pair.target):
        if what == "delete":
            assert count(connection, f"SELECT count(*) FROM tasks WHERE id = ANY(ARRAY{ids})") == 0
        else:
            assert count(connection, "SELECT count(*) FROM tasks WHERE title = 'mine' AND reward = 5") == 30


def test_a_key_that_is_inserted_while_its_deletion_is_sent_stays(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a row that somebody inserts on the winning side and that the repair's deletion takes away."""
    pair = running(make_pair, rows=20)
    with unseen(pair.target) as one:
        one.execute(
            "INSERT INTO tasks (id, user_id, title) SELECT 7000000000, min(user_id), 'nobody made me' FROM tasks"
        )
    inserted = threading.Thread(target=_insert, args=(pair.settings.source(),))
    real = repairing._Batch._statements

    def meanwhile(self: repairing._Batch, rows: Any) -> Any:
        inserted.start()
        wait_until(
            lambda: count(pair.source, "SELECT count(*) FROM pg_locks WHERE NOT granted"),
            bool,
            what="the insert to wait",
            timeout=20,
        )
        return real(self, rows)

    monkeypatch.setattr(repairing._Batch, "_statements", meanwhile)
    verify.run(pair.settings, repair="source")
    inserted.join()
    replicate.wait(pair.settings)
    assert verify.run(pair.settings).match
    for connection in (pair.source, pair.target):
        assert count(connection, "SELECT count(*) FROM tasks WHERE id = 7000000000 AND title = 'mine'") == 1


def _insert(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("INSERT INTO tasks (id, user_id, title) SELECT 7000000000, min(user_id), 'mine' FROM tasks")


def test_values_whose_text_depends_on_the_session_are_repaired(make_pair: MakePair) -> None:
    """Prevents a worker that stays down at a repair: a relation's name without its schema, money in another country's form."""
    pair = bare(
        make_pair,
        ["priced"],
        "CREATE TABLE priced (id regclass PRIMARY KEY, price money, gap interval, at timestamptz, ratio float8)",
        "INSERT INTO priced VALUES ('priced', 12.5, '1 month 2 days', '2026-11-26 03:00+09', 0.1)",
    )
    pair.target.execute("UPDATE priced SET price = 0, gap = '0', at = NULL, ratio = 0.3")
    pair.target.execute("INSERT INTO priced VALUES ('pg_class', 1)")
    flow(pair)
    assert verify.run(pair.settings, repair="source").match
    rows = [
        one.execute("SELECT id::text, price::numeric, gap, at, ratio FROM priced").fetchall()
        for one in (pair.source, pair.target)
    ]
    assert rows[0] == rows[1]
    assert rows[0][0][0] == "priced"
