"""Long work beside a live application: slower near a limit, paused past it and while the pause file is there, on real servers."""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from components.config import ConfigError, MigrationConfig
from components.config_values import part
from scripts.backup import run as backup
from scripts.copy import run as copy
from scripts.database import helper_schema, pace
from scripts.database.pace import Pace
from scripts.schema import run as schema
from scripts.support.errors import MigrationError, Refused, TimedOut, UsageError
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.conftest import Pair, Recorder
from tests.integration.test_chain import MakePair, running

NOWHERE = Settings(MigrationConfig(), None, None, None, "nowhere")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LOOK_SECONDS", 0.05)


@contextmanager
def working(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """``work`` in a thread; what it returned or raised, once it ended."""
    ended: list[Any] = []

    def call() -> None:
        try:
            ended.append(work())
        except MigrationError as error:
            ended.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    yield ended
    thread.join(60)
    assert not thread.is_alive()


def paused(told: Recorder, ended: list[Any]) -> str:
    """Why the work stands still; it does for as long as one looks."""
    found = wait_until(
        lambda: [name for name in told.works if name.startswith("paused: ")] or ended,
        bool,
        what="the pause",
        timeout=30,
    )
    assert not ended, ended
    return str(found[0]).removeprefix("paused: ")


@contextmanager
def busy(url: str, sessions: int) -> Iterator[None]:
    """So many sessions of an application that are at work."""
    with ExitStack() as left:
        threads = []
        for _ in range(sessions):
            connection = left.enter_context(psycopg.connect(url, autocommit=True, application_name="myteacher"))

            def sleep(connection: psycopg.Connection[Any] = connection) -> None:
                with pytest.raises(psycopg.errors.QueryCanceled):
                    connection.execute("SELECT pg_sleep(120)")

            threads.append(threading.Thread(target=sleep))
            threads[-1].start()
            left.callback(threads[-1].join)
            left.callback(connection.cancel_safe)
        looking = left.enter_context(psycopg.connect(url, autocommit=True))
        at_work = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'myteacher' AND state = 'active'"
        wait_until(
            lambda: looking.execute(at_work).fetchone(),
            lambda row: row == (sessions,),
            what="the application's sessions",
            timeout=30,
        )
        yield


def test_verify_pauses_while_others_and_itself_are_past_the_limit(make_pair: MakePair) -> None:
    """Prevents a comparison that goes on beside an application which needs the server, and one that never goes on again."""
    pair = running(make_pair, rows=60)
    told, url = Recorder(), pair.settings.target()

    def work() -> Any:
        return verify.run(pair.settings, max_load="sessions=4", progress=told)

    with busy(url, 2), working(work) as ended:
        wait_until(lambda: ended, bool, what="a verification at the limit", timeout=30)
    assert ended[0].match
    assert not [name for name in told.works if name.startswith("paused")]
    with ExitStack() as application:
        application.enter_context(busy(url, 3))
        with working(work) as ended:
            assert paused(told, ended) == "active sessions, ours counted on the target: 5, --max-load is 4"
            application.close()
    assert ended[0].match


@pytest.mark.parametrize("command", ["copy", "verify", "backup"])
def test_the_pause_file_is_obeyed_by(command: str, make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents a command that an operator cannot make stand still without losing its work, nor go on."""
    pair = make_pair(rows=60) if command != "verify" else running(make_pair, rows=60)
    if command == "copy":
        schema.apply(pair.settings)
    told = Recorder()
    works: dict[str, Callable[[], Any]] = {
        "copy": lambda: copy.run(pair.settings, progress=told),
        "verify": lambda: verify.run(pair.settings, progress=told),
        "backup": lambda: backup.run(pair.settings, str(tmp_path / "backup"), progress=told),
    }
    file = pace.pause_file(pair.settings)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.touch()
    with working(works[command]) as ended:
        try:
            assert paused(told, ended) == f"the file {file} is there; remove it to go on"
            rows = {"copy": "copy: rows", "verify": "compare both sides", "backup": "dump the source"}[command]
            work = told.works.get(rows)
            # One piece of each worker was taken before it asked.
            assert work is None or work.done < 1
        finally:
            file.unlink()
    assert not isinstance(ended[0], MigrationError), ended
    assert {"copy": "complete", "verify": True, "backup": True}[command] == {
        "copy": lambda: ended[0].status,
        "verify": lambda: ended[0].match,
        "backup": lambda: ended[0].restore_verified,
    }[command]()


def test_a_slow_commit_pauses(make_pair: MakePair) -> None:
    """Prevents work that takes the disk from the application's own commits, as no session seems to be busy."""
    pair = running(make_pair, rows=60)
    helper_schema.put(pair.source, pace.PACE, {})
    told = Recorder()
    with psycopg.connect(pair.settings.source()) as disk:
        # What a commit waits for takes its time, as a disk that is busy does.
        disk.execute("SELECT 1 FROM task_migration.settings WHERE name = 'pace' FOR UPDATE")
        with working(lambda: verify.run(pair.settings, progress=told, max_load="commit-ms=1500")) as ended:
            why = paused(told, ended)
            disk.rollback()
    assert why.startswith("milliseconds of a commit on the source: 2")
    assert why.endswith(", --max-load is 1500")
    assert ended[0].match


@pytest.mark.parametrize("command", ["copy", "verify"])
def test_an_interrupt_ends_a_pause(command: str, make_pair: MakePair, interruptible: None) -> None:
    """Prevents a Ctrl-C that waits until the load is gone, hours later."""
    pair = make_pair(rows=60) if command == "copy" else running(make_pair, rows=60)
    if command == "copy":
        schema.apply(pair.settings)
    file = pace.pause_file(pair.settings)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.touch()
    told = Recorder()

    def interrupt() -> None:
        paused(told, [])
        # As the kernel does, to the thread that waits: its wait is to end.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    work: Callable[..., Any] = copy.run if command == "copy" else verify.run
    with working(interrupt), pytest.raises(KeyboardInterrupt):
        work(pair.settings, progress=told)
    file.unlink()
    if command == "copy":
        assert copy.run(pair.settings).found.startswith("an unfinished copy")


def test_a_load_that_stays_ends_the_work(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a copy that holds a snapshot of the live source for ever."""
    pair = make_pair(rows=None)
    monkeypatch.setattr(pace, "LONGEST_PAUSE", 0.2)
    with (
        busy(pair.settings.source(), 1),
        Pace(pair.settings, ["source"], 1, "sessions=1") as one,
        pytest.raises(TimedOut, match=r"paused for .* active sessions, ours counted on the source: 2, --max-load is 1"),
    ):
        one.gate()


def test_what_cannot_be_held_is_refused(make_pair: MakePair) -> None:
    """Prevents a limit that is past at once, one that nobody can read, and one beside sessions that the role does not see."""
    for text in ("8", "sessions=0", "sessions=8;commit-ms=1", "cpu=50"):
        with pytest.raises(ConfigError, match="maxLoad"):
            part(MigrationConfig, {"maxLoad": text}, "Pulumi.prod.yaml")
        with pytest.raises(UsageError, match="sessions=8,commit-ms=20"):
            Pace(NOWHERE, ["source"], 1, text)
    with pytest.raises(Refused, match="this command alone works with 4 sessions"):
        Pace(NOWHERE, ["source"], 4, "sessions=3,commit-ms=20")
    pair = make_pair(rows=50)
    url = pair.source_server.url(pair.source.info.dbname, "myteacher_app_user", "secret-of-role")
    blind = dataclasses.replace(pair.settings, source_url=SecretStr(url))
    with (
        Pace(blind, ["source"], 1, "sessions=9") as one,
        pytest.raises(Refused, match="does not see other roles' sessions on the source; GRANT pg_read_all_stats"),
    ):
        one.gate()


def test_near_a_limit_work_rests_as_long_as_it_works(make_pair: MakePair) -> None:
    """Prevents work that goes at full speed until the moment in which it has to stand still."""

    def seconds(one: Pace) -> float:
        one.gate()
        time.sleep(0.2)  # noqa: TID251  # the piece of work, after which the rest is as long
        begun = time.monotonic()
        one.gate()
        return time.monotonic() - begun

    pair = make_pair(rows=None)
    with busy(pair.settings.source(), 3):
        for limit, rests in ((100, False), (5, True)):
            with Pace(pair.settings, ["source"], 1, f"sessions={limit}") as one:
                # A busy machine makes one look long, and not each of them.
                assert all(seconds(one) >= 0.2 for _ in range(5)) == rests, limit
    with Pace(NOWHERE, ["source"], 1, gentle=True) as one:
        assert seconds(one) >= 0.2
        one.stop()
        with pytest.raises(MigrationError, match="the work was ended"):
            one.gate()


def test_a_paced_comparison_finds_what_a_whole_one_finds(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents slices that leave rows out, or count some twice, whatever the key is."""
    pair: Pair = make_pair(rows=None, tables=["one", "two", "word"], referencedTables=[], droppedForeignKeys=[])
    for connection in (pair.source, pair.target):
        for statement in (
            "CREATE TABLE one (id bigint PRIMARY KEY, v text)",
            "CREATE TABLE two (a int, b int, v text, PRIMARY KEY (a, b))",
            "CREATE TABLE word (id text PRIMARY KEY, v text)",
            "INSERT INTO one SELECT i * i - 500, 'v' || i FROM generate_series(0, 99) i",
            "INSERT INTO one VALUES (-9223372036854775808, 'least'), (9223372036854775807, 'most')",
            "INSERT INTO two SELECT i % 4, i, 'v' FROM generate_series(1, 100) i",
            "INSERT INTO word SELECT 'w' || i, 'v' FROM generate_series(1, 60) i",
            "ANALYZE",
        ):
            connection.execute(statement)
    monkeypatch.setattr(pace, "PACED_ROWS", 7)
    monkeypatch.setattr(pace, "REST_SECONDS", 0.001)

    def both() -> Any:
        whole, paced = (verify.run(pair.settings, gentle=gentle) for gentle in (False, True))
        assert paced.tables == whole.tables
        return paced

    assert both().match
    for statement in (
        "DELETE FROM one WHERE id = 9223372036854775807",
        "UPDATE one SET v = 'x' WHERE id IN (-500, 0 - 499, -9223372036854775808)",
        "INSERT INTO two VALUES (3, 5000, 'more'), (-1, 1, 'less')",
        "UPDATE word SET v = 'x' WHERE id = 'w60'",
    ):
        pair.target.execute(statement)
    assert {entry.table: entry.differences_total for entry in both().tables} == {"one": 4, "two": 2, "word": 1}
