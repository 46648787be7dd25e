"""The canary on two real servers: one operator at a time, what a rollback needs, what it proves, and a real kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from components.config import GateLimits
from scripts.canary import operator_lock, readiness, ready, rollback
from scripts.canary import step as canary
from scripts.canary.documents import CanaryStep, Unfinished
from scripts.canary.operator_lock import Operation
from scripts.canary.stage import Stage
from scripts.canary.status import status
from scripts.replication import fence
from scripts.support.errors import DataDiffer, MigrationError, Refused
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from scripts.verify import rollback_proof
from scripts.verify import run as verify
from tests.conftest import Pair
from tests.integration.test_chain import MakePair, count, running
from tests.unit.canary.test_step import HEALTHY, Cloud, stepped

_HOLD = """
import json, sys, time
from pathlib import Path
from pydantic import SecretStr
from components.config import MigrationConfig
from scripts.canary import operator_lock
from scripts.support.settings import Settings
given = json.load(sys.stdin)
config = MigrationConfig.model_validate(given["config"])
settings = Settings(config, None, SecretStr(given["source"]), SecretStr(given["target"]), Path(given["state"]))
"""
HOLD = (
    _HOLD
    + "with operator_lock.locked(settings, operator_lock.Operation.STEP):\n    print('held', flush=True)\n    time.sleep(120)\n"
)
STEP = (
    _HOLD
    + """
from scripts.canary import step as canary
from scripts.canary.stage import Stage
from tests.unit.canary.test_step import SILENT, Cloud
cloud = Cloud(observed=SILENT)
canary.step(Stage(settings, cloud, cloud, cloud, None, cloud))
"""
)


def elsewhere(program: str, settings: Settings) -> subprocess.Popen[str]:
    """``program`` in a process of its own, as another operator's machine would run it."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    given = {
        "config": settings.config.model_dump(by_alias=True),
        "source": settings.source(),
        "target": settings.target(),
        "state": str(settings.state_dir),
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(given, default=list))
    process.stdin.close()
    return process


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_one_operator_moves_the_weight_and_a_killed_one_leaves_no_lock(make_pair: MakePair) -> None:
    """Prevents two operators on two machines who raise and lower one weight, and a lock that outlives its holder."""
    pair = make_pair(rows=None)
    other = elsewhere(HOLD, pair.settings)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(
                Refused, match=rf"another operator .*task-migration canary step .*:{other.pid} from .*--take-over"
            ),
            operator_lock.locked(pair.settings, Operation.STEP),
        ):
            pass
        # Another migration's canary is none of its business.
        with operator_lock.locked(make_pair(rows=None).settings, Operation.STEP):
            pass
    finally:
        killed(other)

    def free() -> bool:
        try:
            with operator_lock.locked(pair.settings, Operation.STEP):
                return True
        except Refused:
            return False

    wait_until(free, bool, what="the killed operator's lock to be gone", timeout=20)


def test_a_taken_over_operator_stops_and_a_restarted_server_is_no_take_over(make_pair: MakePair) -> None:
    """Prevents a step that goes on after another operator took over, and one that stops at a failover."""
    pair = make_pair(rows=None)
    with operator_lock.locked(pair.settings, Operation.RUN) as first:
        first.check()
        with operator_lock.locked(pair.settings, Operation.ROLLBACK, take_over=True) as second:
            with pytest.raises(Refused, match="taken over by task-migration rollback"):
                first.check()
            second.check()
    assert pair.settings.journal.last("canary", "lock-taken-over") is not None
    with operator_lock.locked(pair.settings, Operation.RUN) as lock:
        pair.source.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        lock.check()
        with pytest.raises(Refused, match="another operator"), operator_lock.locked(pair.settings, Operation.STEP):
            pass


def _stage(settings: Settings, cloud: Cloud) -> Stage:
    return Stage(settings, cloud, cloud, cloud, None, cloud)  # type: ignore[arg-type]


def verdict(pair: Pair) -> list[str]:
    """Why no weight may go up; empty when it may."""
    seen = readiness.observe(_stage(pair.settings, Cloud()))
    decision = ready.ready(seen, pair.settings.config.gates, pair.settings.config.rollback_limit_seconds)
    return [] if decision.verdict == "promote" else list(decision.reasons)


def _mend(connection: psycopg.Connection[Any], statement: str) -> None:
    """A write that does not travel to the other side, as a mend's does not."""
    with connection.transaction():
        connection.execute("SELECT pg_replication_origin_session_setup('canary test')")
        connection.execute(statement.encode())
    connection.execute("SELECT pg_replication_origin_session_reset()")


@pytest.fixture
def pair(make_pair: MakePair) -> Any:
    made = running(make_pair, gates=GateLimits(replication_lag_seconds=2.0, minimum_requests=100), watch_seconds=0.05,
                   period_seconds=0.01, metric_delay_seconds=0.0, drain_seconds=0.1)  # fmt: skip
    for connection in (made.source, made.target):
        connection.execute("SELECT pg_replication_origin_create('canary test')")
    yield made
    for connection in (made.source, made.target):
        connection.execute("SELECT pg_replication_origin_drop('canary test')")


def test_readiness_sees_each_thing_that_would_cost_writes(pair: Pair) -> None:
    """Prevents a weight that goes up while the way back is cut, on servers where it really is."""
    assert verdict(pair) == []
    verify.run(pair.settings)
    rows = count(pair.source, "SELECT count(*) FROM tasks"), count(pair.target, "SELECT count(*) FROM tasks")
    assert readiness.probe(pair.settings, 2.0) is not None
    assert rows == (count(pair.source, "SELECT count(*) FROM tasks"), count(pair.target, "SELECT count(*) FROM tasks"))

    # A row that both sides claim and that is not the same: logged as a conflict, and really different.
    task = count(pair.source, "SELECT min(id) FROM tasks")
    pair.source.execute(
        "INSERT INTO task_migration.conflicts (table_name, key, kind, decision) "
        "VALUES ('tasks', jsonb_build_object('id', %s::bigint), 'update_update', 'skipped')",
        (task,),
    )
    assert verdict(pair) == [], "an open entry of the log whose row is the same on both sides needs no mend"
    _mend(pair.target, f"UPDATE tasks SET title = 'もう一つ' WHERE id = {task}")
    assert f"for one tasks {task}" in " ".join(verdict(pair))
    _mend(pair.source, f"UPDATE tasks SET title = 'もう一つ' WHERE id = {task}")
    assert verdict(pair) == []

    pair.settings.journal.record("verify", "compared", match=False)
    assert "the last verification found differences" in " ".join(verdict(pair))
    pair.settings.journal.record("verify", "compared", match=True)

    pair.target.execute("ALTER TABLE task_images ADD COLUMN drifted int")
    assert "the two catalogs differ" in " ".join(verdict(pair))
    pair.target.execute("ALTER TABLE task_images DROP COLUMN drifted")

    name = sql.Identifier(pair.settings.config.reverse_subscription)
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
    wait_until(
        lambda: " ".join(verdict(pair)), lambda why: "reverse direction" in why, what="the cut way back", timeout=20
    )
    assert "synthetic write on the target was not read" in " ".join(verdict(pair))
    assert canary.step(_stage(pair.settings, Cloud())).decision == "refused"
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(name))
    wait_until(lambda: verdict(pair), lambda why: why == [], what="the way back", timeout=20)


def test_a_rollback_compares_every_row_that_the_task_service_wrote(pair: Pair) -> None:
    """Prevents a proof that looks at counts only, or at rows that replication brought."""
    # Else the copy, a moment ago, counts as written since: a second of margin is taken.
    time.sleep(1.1)
    since = rollback_proof.now_on_target(pair.settings)
    pair.source.execute("UPDATE tasks SET span = 7 WHERE id % 2 = 0")
    pair.target.execute("UPDATE tasks SET description = '戻す前に書いた' WHERE id % 10 = 1")
    pair.target.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), '戻す前に作った' FROM tasks")
    wrote = count(pair.target, "SELECT count(*) FROM tasks WHERE id % 10 = 1 AND title <> '戻す前に作った'") + 1
    fence.both(pair.settings, 10)
    found = rollback_proof.prove(pair.settings, since, 10)
    assert (found.different, found.unsettled) == ([], 0)
    assert wrote <= found.equal == found.checked
    assert found.checked < count(pair.target, "SELECT count(*) FROM tasks")
    later = rollback_proof.now_on_target(pair.settings)
    time.sleep(1.1)  # the margin by which a commit may be older than its place in the log
    assert rollback_proof.prove(pair.settings, rollback_proof.now_on_target(pair.settings), 10).checked == 0
    assert later > since

    _mend(pair.source, "DELETE FROM tasks WHERE title = '戻す前に作った'")
    cloud = Cloud(weight=25)
    with pytest.raises(DataDiffer, match="1 rows that the Task Service wrote .* missing_on_source"):
        rollback.run(_stage(pair.settings, cloud))
    assert cloud.live == 0
    verify.run(pair.settings, repair="target")
    document = rollback.run(_stage(pair.settings, cloud))
    assert document.rows.different == []
    assert document.rows.checked >= wrote


def test_a_step_killed_by_the_system_in_its_watch_is_watched_again(pair: Pair) -> None:
    """Prevents a `kill -9` from leaving a lock, a weight that nobody watches, or a step that is taken for done."""
    process = elsewhere(STEP, pair.settings)
    try:
        wait_until(
            lambda: pair.settings.journal.last("canary", "moved") or process.poll(),
            lambda moved: moved is not None,
            what="the other process to move the weight",
            timeout=60,
        )
    finally:
        killed(process)
    assert pair.settings.journal.last("canary", "moved") is not None
    cloud = Cloud(weight=5, observed=HEALTHY)  # what its `up` left behind
    at = _stage(pair.settings, cloud)
    assert status(at).unfinished == Unfinished(from_=0, to=5)

    def again() -> CanaryStep | str:
        try:
            return stepped(at)
        except (Refused, MigrationError) as error:
            return str(error)

    document = wait_until(
        again, lambda seen: isinstance(seen, CanaryStep), what="the lock of the killed process", timeout=20
    )
    assert isinstance(document, CanaryStep)
    assert (document.from_, document.to, document.decision) == (0, 5, "promote")
    assert Path(str(document.document)).exists()
