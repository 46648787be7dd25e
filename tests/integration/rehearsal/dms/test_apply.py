"""The stand-in's data path between two real servers: as hostile as AWS DMS says that it is itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from components import dms_settings
from scripts.embedded import decoding
from scripts.rehearsal.dms import apply
from scripts.rehearsal.dms.work import Failed, Work
from scripts.support.wait import wait_until
from tests.conftest import Pair
from tests.integration.test_chain import MakePair

TABLE = """
CREATE SCHEMA task_migration;
CREATE TABLE task_migration.source_writes (v bigint PRIMARY KEY, key text, vals text, at timestamptz DEFAULT now())
"""
#: What arrives a second time takes the place of the first, and is counted.
AGAIN = """
CREATE TABLE arrived (n bigint GENERATED ALWAYS AS IDENTITY, v bigint, xid xid8 DEFAULT pg_current_xact_id());
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  DELETE FROM task_migration.source_writes WHERE v = NEW.v;
  INSERT INTO public.arrived (v) VALUES (NEW.v);
  RETURN NEW;
END $$;
CREATE TRIGGER again BEFORE INSERT ON task_migration.source_writes FOR EACH ROW EXECUTE FUNCTION again();
ALTER TABLE task_migration.source_writes ENABLE ALWAYS TRIGGER again
"""
ADD = "INSERT INTO task_migration.source_writes (v, vals) VALUES (%s, %s)"


class Killed(Exception):
    """Ends a task where a kill would."""


class Task:
    """One task between the two databases, in this process."""

    def __init__(self, pair: Pair, directory: Path, **declared: Any) -> None:
        self.pair, self.checkpoint = pair, directory / "task.checkpoint"
        self.ended: Exception | None = None
        self.lag = 0.0
        self.work = Work(
            name="task",
            source_url=pair.settings.source(),
            target_url=pair.settings.target(),
            slot="task",
            after_connect=dms_settings.AFTER_CONNECT_SCRIPT,
            fail_on_truncation=True,
            rules=json.loads(dms_settings.table_mappings("source_writes"))["rules"],
            settings=json.loads(dms_settings.task_settings(lob_max_size_kb=declared.get("lob_max_size_kb", 64))),
        )
        for connection in (pair.source, pair.target):
            connection.execute(TABLE.encode())
        pair.target.execute(AGAIN.encode())
        pair.source.execute(sql.SQL("SET dynamic_library_path = {}").format(sql.Literal(decoding.search_path())))
        pair.source.execute(
            sql.SQL("ALTER DATABASE {} SET dynamic_library_path = {}").format(
                sql.Identifier(pair.source.info.dbname), sql.Literal(decoding.search_path())
            )
        )
        row = pair.source.execute("SELECT lsn::text FROM pg_create_logical_replication_slot('task', 'test_decoding')")
        self.start: str | None = str((row.fetchone() or ("",))[0])

    @contextmanager
    def running(self) -> Iterator[apply.Applier]:
        """It runs inside, from where its checkpoint is; what ended it by itself is :attr:`ended`."""
        stop = threading.Event()
        applier = apply.Applier(self.work, self.checkpoint, self.lag)
        applier.prepare(self.start)
        self.start, self.ended = None, None

        def run() -> None:
            try:
                applier.run(stop)
            except (Failed, Killed) as error:
                self.ended = error

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield applier
        finally:
            stop.set()
            thread.join()

    def failure(self) -> str:
        """Why the task stopped, once it has."""
        with self.running():
            return str(
                wait_until(lambda: self.ended, lambda error: error is not None, what="the task to stop", timeout=30)
            )

    def arrived(self, least: int) -> list[tuple[int, str]]:
        """Number and transaction of what arrived, once it is so many."""
        rows: list[Any] = wait_until(
            lambda: self.pair.target.execute("SELECT v, xid::text FROM arrived ORDER BY n").fetchall(),
            lambda found: len(found) >= least,
            what=f"{least} changes on the target",
            timeout=30,
        )
        return rows

    def drop(self) -> None:
        self.pair.source.execute("SELECT pg_drop_replication_slot('task')")


@pytest.fixture
def task(make_pair: MakePair, tmp_path: Path) -> Iterator[Task]:
    """A task that has not run yet."""
    found = Task(make_pair(rows=None), tmp_path)
    yield found
    found.drop()


def test_a_busy_task_applies_late_what_it_read_and_at_once_what_it_holds_at_its_end(task: Task) -> None:
    """Prevents a lag that nobody sees or that a stop loses: users of both sides meet it, as a real DMS is seconds behind."""
    task.lag = 2.0
    with task.running() as applier:
        began = time.monotonic()
        task.pair.source.execute(ADD, (1, "x"))
        wait_until(
            lambda: applier.target_seconds, lambda seconds: seconds > 0.5, what="a latency", timeout=10, interval=0.05
        )
        assert task.arrived(1)
        assert time.monotonic() - began >= 2.0
        task.pair.source.execute(ADD, (2, "x"))
    assert len(task.arrived(2)) == 2


def test_transactions_wait_for_the_time_out_and_share_one(task: Task) -> None:
    """Prevents rules that need each transaction by itself, or at once: DMS gathers them for CommitTimeout seconds."""
    with task.running():
        began = time.monotonic()
        for number in range(3):
            task.pair.source.execute(ADD, (number, "x"))
        found = task.arrived(3)
        assert time.monotonic() - began >= 1
    assert [v for v, _ in found] == [0, 1, 2]
    assert len({xid for _, xid in found}) == 1


def test_many_changes_do_not_wait(task: Task) -> None:
    """Prevents a bulk update that waits for a time-out which DMS does not take when MinTransactionSize is reached."""
    with task.running() as applier:
        with task.pair.source.transaction():
            for number in range(applier.work.group + 1):
                task.pair.source.execute(ADD, (number, ""))
        found = task.arrived(applier.work.group + 1)
    assert [v for v, _ in found] == list(range(applier.work.group + 1))


def test_a_backlog_is_applied_without_a_time_out_between(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a stand-in that is slower than DMS: what waits in the log is applied at once, in transactions of the least size."""
    monkeypatch.setattr(apply, "LOOK_TIMES", 1)
    for number in range(3 * task.work.group // 2):
        task.pair.source.execute(ADD, (number, ""))
    with task.running():
        found = task.arrived(3 * task.work.group // 2)
    assert [v for v, _ in found] == list(range(3 * task.work.group // 2))


def test_a_kill_repeats_what_was_applied_since_the_checkpoint(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a stand-in that is kinder than DMS: its checkpoint is apart from the rows, so they come a second time."""

    def kill(*_: object) -> None:
        raise Killed

    task.pair.source.execute(ADD, (1, "x"))
    with monkeypatch.context() as killing:
        killing.setattr(apply.Applier, "_save", kill)
        with task.running():
            task.arrived(1)
    assert isinstance(task.ended, Killed)
    task.pair.source.execute(ADD, (2, "x"))
    with task.running():
        assert [v for v, _ in task.arrived(3)] == [1, 1, 2]
    # An orderly end repeats nothing.
    task.pair.source.execute(ADD, (3, "x"))
    with task.running():
        assert [v for v, _ in task.arrived(4)] == [1, 1, 2, 3]


def test_what_is_deleted_on_both_sides_stops_nothing_and_a_refused_record_does(task: Task) -> None:
    """Prevents a task that fails at a record which both sides have deleted, and one that goes on without a record."""
    with task.running():
        for number in (1, 2):
            task.pair.source.execute(ADD, (number, "x"))
        task.arrived(2)
        task.pair.target.execute("DELETE FROM task_migration.source_writes WHERE v = 1")
        task.pair.source.execute("DELETE FROM task_migration.source_writes")
        task.pair.source.execute(ADD, (3, "x"))
        task.arrived(3)
    assert task.pair.target.execute("SELECT v FROM task_migration.source_writes").fetchall() == [(3,)]
    task.pair.target.execute("ALTER TABLE task_migration.source_writes ADD CONSTRAINT odd CHECK (v <> 5)")
    for number in (4, 5, 6):
        task.pair.source.execute(ADD, (number, "secret"))
    failure = task.failure()
    assert "ApplyErrorInsertPolicy on table task_migration.source_writes" in failure
    assert "secret" not in failure
    # What came before it is applied; the task stands at it, and the exception outlives the transaction.
    assert [v for v, _ in task.arrived(4)] == [1, 2, 3, 4]
    assert task.pair.target.execute("SELECT FROM task_migration.awsdms_apply_exceptions").rowcount == 1
    task.pair.target.execute("ALTER TABLE task_migration.source_writes DROP CONSTRAINT odd")
    with task.running():
        # The checkpoint was behind what had been applied.
        assert [v for v, _ in task.arrived(7)][4:] == [4, 5, 6]


def test_a_change_that_does_nothing_is_refused(task: Task) -> None:
    """Prevents rules that answer a record with no row: whether DMS takes that for applied, nothing documents."""
    task.pair.target.execute(
        "CREATE OR REPLACE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    )
    task.pair.source.execute(ADD, (1, "x"))
    assert "ApplyErrorInsertPolicy" in task.failure()
    noted = task.pair.target.execute('SELECT "ERROR" FROM task_migration.awsdms_apply_exceptions').fetchall()
    assert noted == [("0 rows affected",)]


def test_awkward_text_of_a_real_server_comes_over_and_a_long_one_stops_the_task(task: Task) -> None:
    """Prevents a parser that knows only the text its author thought of, and a text that is cut."""
    texts = [
        'it\'s\n"quoted" \\ back',
        "日本語 🎌",
        "",
        " vals[text]:null",
        "null",
        '["1", "x\'y"]',
        None,
        "あ" * 20000,
    ]
    with task.running():
        for number, text in enumerate(texts):
            task.pair.source.execute(ADD, (number, text))
        task.pair.source.execute(
            "CREATE TABLE other (a text[], j json, b bytea); INSERT INTO other VALUES ('{a,NULL}', '{}', '\\x00')"
        )
        task.arrived(len(texts))
    rows = "SELECT v, vals, at FROM task_migration.source_writes ORDER BY v"
    assert task.pair.target.execute(rows.encode()).fetchall() == task.pair.source.execute(rows.encode()).fetchall()
    task.pair.source.execute(ADD, (99, "あ" * 22000))
    assert "LOB of 66000 bytes in task_migration.source_writes.vals would be truncated" in task.failure()
    assert task.pair.target.execute(rows.encode()).rowcount == len(texts)


def test_a_deadlock_is_tried_again_whole(task: Task) -> None:
    """Prevents half of a transaction that a deadlock ended."""
    task.pair.target.execute("CREATE TABLE hot (id int PRIMARY KEY); INSERT INTO hot VALUES (1), (2)")
    task.pair.target.execute(
        "CREATE OR REPLACE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM FROM public.hot WHERE id = NEW.v FOR UPDATE; DELETE FROM task_migration.source_writes WHERE v = NEW.v; "
        "INSERT INTO public.arrived (v) VALUES (NEW.v); RETURN NEW; END $$"
    )
    with psycopg.connect(task.pair.settings.target()) as local:
        local.execute("SET deadlock_timeout = '1min'")
        local.execute("SELECT FROM hot WHERE id = 2 FOR UPDATE")
        with task.running():
            with task.pair.source.transaction():
                for number in (1, 2):
                    task.pair.source.execute(ADD, (number, "x"))
            wait_until(
                lambda: task.pair.target.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone(),
                lambda row: row == (1,),
                what="the task to wait",
                timeout=30,
            )
            local.execute("SELECT FROM hot WHERE id = 1 FOR UPDATE")
            local.rollback()
            found = task.arrived(2)
    assert [v for v, _ in found] == [1, 2]
