"""The operator's lock and what a step looks at, each by itself, on two real servers that replicate both ways."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from components.config_gates import GateLimits
from scripts.canary import history, operator_lock, readiness
from scripts.canary.operator_lock import Lock, Operation, TakenOver
from scripts.canary.ready import Readiness, Shadowed
from scripts.database import helper_schema, locks
from scripts.replication import run as replicate
from scripts.replication import writers
from scripts.replication.documents import Status, ToldConflicts
from scripts.support.errors import DatabaseError, Refused, TimedOut
from scripts.support.events import Step
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from scripts.verify import verdict as verdicts
from tests.cloud import Cloud, short, stage_of
from tests.conftest import Pair
from tests.integration.test_chain import count
from tests.unit.canary.test_rollback import Clock

END = "SELECT pg_terminate_backend(pid) FROM task_migration.locks WHERE name = 'canary'"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'task-migration%' AND query NOT LIKE '%pg_stat%' AND application_name LIKE '%lock%'"
ME = f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else needs time to take the lock."""
    monkeypatch.setattr(operator_lock, "YIELD_SECONDS", 0.01)


def who(pair: Pair) -> str:
    """Who has the lock, as it is said."""
    held = locks.holder(pair.source, locks.CANARY)
    assert held is not None
    return f"{held.name} from 127.0.0.1 since {held.since} (session {held.pid} of the source)"


def pid(lock: Lock) -> int:
    return lock.connection.info.backend_pid  # type: ignore[attr-defined, no-any-return]


# The lock.


def test_a_lock_that_was_taken_over_yields_and_names_who_has_it(pair: Pair) -> None:
    """Prevents two operators who move one weight: the plainest case, as `make test` puts a fault into it."""
    with operator_lock.locked(pair.settings, Operation.RUN) as first:
        before = who(pair)
        assert before.startswith(f"task-migration canary run {ME} from ")
        with operator_lock.locked(pair.settings, Operation.EMERGENCY, take_over=True) as second:
            with pytest.raises(TakenOver) as lost:
                first.check()
            assert str(lost.value) == (
                f"the lock on the canary was taken over by {who(pair)}: this command stops here; see task-migration canary status"
            )
            assert lost.value.by == locks.holder(pair.source, locks.CANARY)
            assert lost.value.by is not None
            assert (lost.value.by.pid, lost.value.goes_back) == (pid(second), True)
            second.check()
            # Nor is the session left that looked.
            wait_until(lambda: count(pair.source, SESSIONS), lambda left: left == 1, what="one session", timeout=5)
    wait_until(lambda: count(pair.source, SESSIONS), lambda left: left == 0, what="no session", timeout=5)
    (taken,) = pair.settings.journal.events("canary")
    assert {key: taken[key] for key in ("event", "by", "holder")} == {
        "event": "lock-taken-over",
        "by": f"task-migration rollback --emergency {ME}",
        "holder": before,
    }


@pytest.mark.parametrize("operation", Operation)
def test_who_meets_a_lock_is_told_whose_it_is_and_what_to_do(pair: Pair, operation: Operation) -> None:
    """Prevents an option in a remedy that the command does not have."""
    with operator_lock.locked(pair.settings, Operation.STEP) as first:
        with pytest.raises(Refused) as refused, operator_lock.locked(pair.settings, operation):
            pass
        hangs = (
            "run again with --take-over"
            if operation in ("canary step", "canary run")
            else f"end its session (SELECT pg_terminate_backend({pid(first)}) on the source) and run again"
        )
        assert str(refused.value) == (
            f"another operator moves the weight: {who(pair)}; wait for it, or, when you know that it hangs, {hangs}"
        )
        first.check()
    assert list(pair.settings.journal.events()) == []


def test_a_session_that_ended_without_another_operator_has_the_lock_again(pair: Pair) -> None:
    """Prevents a step that stops at a failover of the source, and one that goes on without the lock after it."""
    with operator_lock.locked(pair.settings, Operation.RUN) as lock:
        pids = {pid(lock)}
        for _ in range(2):
            pair.source.execute(END)
            lock.check()
            pids.add(pid(lock))
            lock.check()
        # An error that leaves the session there: it must not stand in its own way.
        lock.connection.execute("BEGIN")  # type: ignore[attr-defined]
        with pytest.raises(psycopg.Error):
            lock.connection.execute("SELECT 1 / 0")  # type: ignore[attr-defined]
        lock.check()
        pids.add(pid(lock))
        assert len(pids) == 4
        assert f"(session {pid(lock)} of the source)" in who(pair)
        names = ("idle", "interval", "count")
        session = lock.connection  # type: ignore[attr-defined]
        shown = [session.execute(f"SHOW tcp_keepalives_{name}").fetchone()[0] for name in names]
        assert shown == ["10", "5", "2"]
        with pytest.raises(Refused), operator_lock.locked(pair.settings, Operation.STEP):
            pass


def test_who_lost_the_session_waits_before_taking_the_lock_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(operator_lock, "time", clock)
    monkeypatch.setattr(operator_lock, "YIELD_SECONDS", 2.0)
    with operator_lock.locked(pair.settings, Operation.RUN) as lock:
        began = clock.now
        lock.check()
        assert clock.now == began
        pair.source.execute(END)
        lock.check()
        assert clock.now - began == 2.0


def test_a_container_s_user_without_a_name_is_told_by_number(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    with operator_lock.locked(pair.settings, Operation.STEP):
        assert who(pair).startswith(
            f"task-migration canary step {os.getuid()}@{socket.gethostname()}:{os.getpid()} from "
        )


def test_before_copy_there_is_no_lock_and_what_a_former_version_lacks_is_made(pair: Pair) -> None:
    url = SecretStr(pair.source_server.url("postgres"))
    with (
        operator_lock.locked(replace(pair.settings, source_url=url), Operation.STEP) as one,
        operator_lock.locked(replace(pair.settings, source_url=url), Operation.STEP) as two,
    ):
        assert (type(one), type(two)) == (Lock, Lock)
        two.check()
    pair.source.execute('DROP TRIGGER "00_task_migration_guard" ON task_migration.writers')
    with operator_lock.locked(pair.settings, Operation.STEP):
        assert helper_schema.whole(pair.source) is True


@contextmanager
def unwritable(pair: Pair) -> Iterator[None]:
    """The row of the lock takes no holder."""
    pair.source.execute("ALTER TABLE task_migration.locks ADD CONSTRAINT nobody CHECK (false) NOT VALID")
    try:
        yield
    finally:
        pair.source.execute("ALTER TABLE task_migration.locks DROP CONSTRAINT nobody")


def test_what_the_server_refuses_of_a_lock_is_an_error_of_ours(pair: Pair) -> None:
    with operator_lock.locked(pair.settings, Operation.STEP) as lock:
        pair.source.execute(END)
        with unwritable(pair), pytest.raises(DatabaseError, match="^the lock on the canary: "):
            lock.check()
    with (
        unwritable(pair),
        pytest.raises(DatabaseError, match="^the lock on the canary: "),
        operator_lock.locked(pair.settings, Operation.STEP),
    ):
        pass
    wait_until(lambda: count(pair.source, SESSIONS), lambda left: left == 0, what="no session", timeout=5)


def test_a_session_that_does_not_let_go_is_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_lock, "RELEASE_SECONDS", 0.1)
    # As of a backend that is held up in a system call: its end is asked for, and does not come.
    monkeypatch.setattr(locks, "end", lambda *_: None)
    with (
        operator_lock.locked(pair.settings, Operation.STEP),
        pytest.raises(
            TimedOut, match=r"^the lock on the canary: not so after 0.1 s \(the limit\); last seen: Holder\("
        ),
        operator_lock.locked(pair.settings, Operation.RUN, take_over=True),
    ):
        pass


# What a step looks at.


def seen(pair: Pair, status: Status, *, nobody_there: bool = True, **config: Any) -> Readiness:
    settings = short(pair.settings, gates=GateLimits(minimum_requests=100, replication_lag_seconds=5.0), **config)
    return readiness.by_databases(settings, status, nobody_there)


def test_everything_that_the_gate_judges_is_what_the_databases_say(pair: Pair) -> None:
    """Prevents a figure of one side, or of one rule, that is judged as another one's."""
    status = replicate.status(pair.settings, 5.0)
    assert (status.forward.lag_seconds, status.reverse.lag_seconds) != (None, None)
    status = status.model_copy(
        update={
            "reverse": status.reverse.model_copy(update={"lag_seconds": 0.25}),
            "conflicts": ToldConflicts.model_validate({**status.conflicts.plain(), "source": 2, "target": 3}),
        }
    )
    history.keep(pair.settings, Step.CANARY, "moved", {"to": 5, "seconds": 7.0})
    found = seen(pair, status, drain_seconds=2.0)
    newest = verdicts.newest(pair.source, pair.target)
    assert found.verified is not None
    assert newest is not None
    assert 0 <= newest.age_seconds - found.verified.age_seconds < 60
    assert found == Readiness(
        forward=status.forward,
        reverse=status.reverse,
        probe_seconds=found.probe_seconds,
        schema_match=True,
        failing=(),
        told=5,
        verified=found.verified,
        service=None,
        rollback_seconds=7.0 + 2.0 + 2 * 0.25,
        shadowed=None,
        not_switched=(),
    )
    assert 0 < (found.probe_seconds or 0) < 5
    assert found.probe_seconds == round(found.probe_seconds or 0, 4)
    cut = status.model_copy(
        update={"reverse": status.reverse.model_copy(update={"lag_seconds": None}), "schema_match": False}
    )
    blind = seen(pair, cut)
    assert (blind.probe_seconds, blind.rollback_seconds, blind.schema_match) == (None, None, False)


def test_a_scheduler_on_the_monolith_is_seen(pair: Pair) -> None:
    with pair.source.transaction():
        pair.source.execute("SET LOCAL application_name = 'php artisan schedule:run'")
        pair.source.execute("UPDATE tasks SET priority = 2 WHERE id = (SELECT max(id) FROM tasks)")
    status = replicate.status(pair.settings, 5.0)
    (why,) = seen(pair, status).not_switched
    assert (why,) == writers.not_switched(pair.settings.config, status.writers)
    assert why.startswith("the scheduler still runs on the monolith: ")


@pytest.mark.parametrize(
    ("side", "role", "said"),
    [
        ("source", "source_role", "the monolith's role cannot write on the source"),
        ("target", "target_role", "the Task Service's role cannot write on the target"),
    ],
)
def test_a_role_that_cannot_write_fails(pair: Pair, side: str, role: str, said: str) -> None:
    """Prevents requests for an application whose writes are refused, on the side that it uses."""
    name = getattr(pair.settings.config, role)
    tables = sql.SQL(", ").join(map(sql.Identifier, pair.settings.config.tables))
    change = sql.SQL("{} INSERT, UPDATE, DELETE ON {} {} {}")
    connection, status = getattr(pair, side), replicate.status(pair.settings, 5.0)
    there = connection.execute("SELECT has_table_privilege(%s, 'tasks', 'INSERT')", (name,)).fetchone() == (True,)
    give = change.format(sql.SQL("GRANT"), tables, sql.SQL("TO"), sql.Identifier(name))
    take = change.format(sql.SQL("REVOKE"), tables, sql.SQL("FROM"), sql.Identifier(name))
    connection.execute(give)
    assert seen(pair, status).failing == ()
    connection.execute(take)
    try:
        (why,) = seen(pair, status).failing
    finally:
        if there:
            connection.execute(give)
    assert why.startswith(said)


def test_the_newest_shadow_counts_as_what_it_was(pair: Pair) -> None:
    """Prevents answers of another copy, of a day ago, or of another definition of the service that count as today's."""
    status, mine = replicate.status(pair.settings, 5.0), verdicts.begin(pair.source, pair.target).copy

    def look(**facts: Any) -> Shadowed | None:
        helper_schema.put(pair.source, helper_schema.SHADOWED, facts or None)
        found = seen(pair, status, require_shadow=True).shadowed
        assert found is not None
        return replace(found, hours=round(found.hours, 2))

    began = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    whole = {"match": True, "began": began, "definition": "task-service:7", "copy": mine}
    assert look(**whole) == Shadowed(True, 3.0, definition="task-service:7")
    assert look(**{**whole, "match": False}) == Shadowed(False, 3.0, definition="task-service:7")
    assert look(**{**whole, "copy": "another"}) == Shadowed(True, 3.0, same_copy=False, definition="task-service:7")
    assert look(**{**whole, "copy": None}) == Shadowed(True, 3.0, same_copy=False, definition="task-service:7")
    assert look(**{**whole, "definition": None}) == Shadowed(True, 3.0)
    assert look() == Shadowed(None)
    helper_schema.put(pair.source, helper_schema.SHADOWED, whole)
    assert seen(pair, status, nobody_there=False, require_shadow=True).shadowed is None
    assert seen(pair, status, require_shadow=False).shadowed is None
    helper_schema.put(pair.source, helper_schema.SHADOWED, {"match": True})
    assert seen(pair, status, require_shadow=True).shadowed == Shadowed(None)
    helper_schema.put(pair.source, helper_schema.SHADOWED, None)


def test_a_look_asks_whether_the_declared_service_answered_where_users_would_be_new_to_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud, real, limits = Cloud(), replicate.status, list[float]()
    at = stage_of(short(pair.settings, require_shadow=True, gates=GateLimits(replication_lag_seconds=7.0)), cloud)

    def status(settings: Settings, fence_timeout: float) -> Status:
        limits.append(fence_timeout)
        return real(settings, fence_timeout)

    monkeypatch.setattr(replicate, "status", status)
    helper_schema.put(
        pair.source,
        helper_schema.SHADOWED,
        {"match": True, "began": datetime.now(UTC).isoformat(), "definition": "task-service:7", "copy": None},
    )
    try:
        for cloud.definition, same in (("task-service:7", True), ("task-service:8", False)):
            found = readiness.observe(at)
            assert found.shadowed is not None
            assert (found.shadowed.same_service, found.service) == (same, cloud.health())
        found = readiness.observe(replace(at, service=None))
        assert found.shadowed is not None
        assert (found.shadowed.same_service, found.service) == (False, None)
        cloud.declared = 5
        assert readiness.observe(at).shadowed is None
        assert limits == [7.0] * 4, "a fence is waited for as long as the gate lets it take"
    finally:
        helper_schema.put(pair.source, helper_schema.SHADOWED, None)


def test_a_synthetic_write_is_looked_for_ever_more_slowly_until_its_limit(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a look that keeps the source busy, and one that takes another record for its own."""
    clock = Clock()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(clock, "sleep", sleep)
    name = sql.Identifier(pair.settings.config.reverse_subscription)
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
    gone = f"SELECT count(*) FROM pg_stat_subscription WHERE subname = '{pair.settings.config.reverse_subscription}' AND pid IS NOT NULL"
    wait_until(lambda: count(pair.source, gone), lambda left: left == 0, what="the worker to end", timeout=20)
    monkeypatch.setattr(readiness, "time", clock)
    try:
        assert readiness.probe(pair.settings, 1.0) is None
        assert slept[:3] == pytest.approx([0.002, 0.003, 0.0045])
        assert max(slept) == 0.1
        assert 1.0 <= sum(slept) < 1.1
        number = count(pair.target, "SELECT max(v) FROM task_migration.target_writes")
        pair.source.execute(
            "INSERT INTO task_migration.target_writes (v, table_name, key, kind, at)"
            " SELECT v, '', '', 'fence', '2026-01-01' FROM generate_series(%s::bigint + 1, %s + 100) v",
            (number, number),
        )
        slept.clear()
        assert readiness.probe(pair.settings, 1.0) is None
        assert slept == [], "a record of that number that says something else is an answer, and not the one"
    finally:
        pair.source.execute("DELETE FROM task_migration.target_writes WHERE at = '2026-01-01'")
        pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(name))
