"""The canary on two real servers: one operator at a time, what a rollback needs, what it proves, and a real kill."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from components.config_gates import GateLimits
from scripts.canary import gates, history, operator_lock, readiness, ready, rollback
from scripts.canary import step as canary
from scripts.canary.documents import CanaryRun, CanaryStep, Unfinished
from scripts.canary.operator_lock import Lock, Operation, TakenOver
from scripts.canary.ready import ServiceHealth
from scripts.canary.stage import Stage
from scripts.canary.status import status
from scripts.canary.watch import Watch
from scripts.copy import run as copy
from scripts.database import catalog, helper_schema
from scripts.finish import finalize
from scripts.replication import fence, writes
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import DataDiffer, MigrationError, Refused
from scripts.support.events import Step
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from scripts.verify import replay, rollback_proof
from scripts.verify import run as verify
from scripts.verify import verdict as verdicts
from scripts.verify.documents import WritesProof
from tests.cloud import HEALTHY, Cloud, stepped
from tests.conftest import Pair, unseen
from tests.integration.test_chain import MakePair, count, running
from tests.journal import last

NOBODY_COMPARED = (
    "nobody has compared the two sides' answers yet; remedy: task-migration shadow --base-url URL --token-file FILE"
)
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
from tests.cloud import SILENT, Cloud
cloud = Cloud(observed=SILENT)
canary.step(Stage(settings, cloud, cloud, None, cloud, metrics=cloud))
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
    pair, another = make_pair(rows=None), make_pair(rows=None)
    for one in (pair, another):
        helper_schema.install(one.source)
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
        with operator_lock.locked(another.settings, Operation.STEP):
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


def test_a_taken_over_operator_stops_and_a_restarted_server_is_no_take_over(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a step that goes on after another operator took over, or takes the lock back, and one that stops at a failover."""
    pair = make_pair(rows=None)
    helper_schema.install(pair.source)
    end = "SELECT pg_terminate_backend(pid) FROM task_migration.locks WHERE name = 'canary'"
    with operator_lock.locked(pair.settings, Operation.RUN) as first, ExitStack() as held:
        first.check()
        pair.source.execute(end)
        looked = ThreadPoolExecutor(1).submit(first.check)
        # Who ended the session takes the lock some time after that, and the other one looks at once: the time is what is tested.
        time.sleep(0.2)  # noqa: TID251
        second = held.enter_context(operator_lock.locked(pair.settings, Operation.ROLLBACK))
        with pytest.raises(TakenOver, match="taken over by task-migration rollback .* this command stops here") as lost:
            looked.result(30)
        assert lost.value.goes_back
        second.check()
    monkeypatch.setattr(operator_lock, "YIELD_SECONDS", 0.01)
    with operator_lock.locked(pair.settings, Operation.RUN) as lock:
        keepalives = lock.connection.execute("SHOW tcp_keepalives_idle").fetchone()  # type: ignore[attr-defined]
        assert keepalives == ("10",)
        pair.source.execute(end)
        lock.check()
        with pytest.raises(Refused, match="another operator"), operator_lock.locked(pair.settings, Operation.STEP):
            pass
        with operator_lock.locked(pair.settings, Operation.ROLLBACK, take_over=True), pytest.raises(TakenOver):
            lock.check()
    taken = last(pair.settings.journal, "canary", "lock-taken-over")
    assert taken is not None
    assert taken["by"].startswith("task-migration rollback ")
    assert taken["holder"].startswith("task-migration canary run ")


def _stage(settings: Settings, cloud: Cloud) -> Stage:
    return Stage(settings, cloud, cloud, None, cloud, metrics=cloud)  # type: ignore[arg-type]


def verdict(pair: Pair) -> list[str]:
    """Why no weight may go up; empty when it may."""
    seen = readiness.observe(_stage(pair.settings, Cloud()))
    decision = ready.ready(seen, pair.settings.config)
    return [] if decision.verdict == "promote" else list(decision.reasons)


def _scheduled(side: psycopg.Connection[Any]) -> None:
    """A write of the scheduler on that side."""
    with side.transaction():
        side.execute("SET LOCAL application_name = 'php artisan schedule:run'")
        side.execute("UPDATE tasks SET priority = 2 WHERE id = (SELECT max(id) FROM tasks)")


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return running(make_pair, gates=GateLimits(replication_lag_seconds=2.0, minimum_requests=100), watch_seconds=0.05,
                   period_seconds=0.01, metric_delay_seconds=0.0, drain_seconds=0.1)  # fmt: skip


def test_readiness_sees_each_thing_that_would_cost_writes(pair: Pair) -> None:
    """Prevents a weight that goes up while the way back is cut, on servers where it really is."""
    assert verdict(pair) == ["nothing was verified yet; remedy: task-migration verify"]
    assert verify.run(pair.settings).match
    assert verdict(pair) == []
    rows = count(pair.source, "SELECT count(*) FROM tasks"), count(pair.target, "SELECT count(*) FROM tasks")
    assert readiness.probe(pair.settings, 2.0) is not None
    assert rows == (count(pair.source, "SELECT count(*) FROM tasks"), count(pair.target, "SELECT count(*) FROM tasks"))

    # Two writes of one column that did not know of each other: one is lost, told and counted, and keeps no weight down.
    _at_once(pair, "title")
    assert verdict(pair) == []
    told = readiness.observe(_stage(pair.settings, Cloud())).told
    assert told == 1

    kept = helper_schema.get(pair.source, verdicts.VERIFIED)
    for change, said in (
        ({"match": False}, "the last verification found differences"),
        ({"began": "2026-01-01T00:00:00+00:00"}, "h ago, the limit is below 24 h (verifyMaxAgeHours)"),
        ({"copy": "another"}, "the last verification began before this copy was complete"),
        ({"whole": "2026-01-01T00:00:00+00:00"}, "the last verification of every row began"),
    ):
        helper_schema.put(pair.source, verdicts.VERIFIED, {**kept, **change})
        assert said in " ".join(verdict(pair))
    helper_schema.put(pair.source, verdicts.VERIFIED, kept)

    pair.config(requireShadow=True)
    assert verdict(pair) == [NOBODY_COMPARED]
    assert readiness.observe(_stage(pair.settings, Cloud(5))).shadowed is None
    mine = verdicts.begin(pair.source, pair.target).copy
    for match, hours, definition, run, said in (
        (False, 0, None, mine, "answers differed when they were compared 0.0 h ago"),
        (True, 25, None, mine, "answers were compared 25.0 h ago, the limit is below 24 h"),
        (True, 0, "task-service:6", mine, "compared with another task definition than the stack declares"),
        (True, 0, None, "another", "compared before this copy was complete"),
        (True, 23, None, mine, ""),
    ):
        began = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
        kept = {"match": match, "began": began, "definition": definition, "copy": run}
        helper_schema.put(pair.source, helper_schema.SHADOWED, kept)
        assert said in " ".join(verdict(pair))
    assert verdict(pair) == []

    # Of a former version, which kept no begin.
    helper_schema.put(pair.source, helper_schema.SHADOWED, {"match": True})
    assert verdict(pair) == [NOBODY_COMPARED]
    helper_schema.put(pair.source, helper_schema.SHADOWED, kept)

    pair.target.execute("ALTER TABLE task_images ADD COLUMN drifted int")
    assert "the two catalogs differ" in " ".join(verdict(pair))
    pair.target.execute("ALTER TABLE task_images DROP COLUMN drifted")

    name = sql.Identifier(pair.settings.config.reverse_subscription)
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
    wait_until(
        lambda: " ".join(verdict(pair)), lambda why: "reverse direction" in why, what="the cut way back", timeout=20
    )
    assert "synthetic write on the target was not read" in " ".join(verdict(pair))
    cloud = Cloud()
    refused = stepped(_stage(pair.settings, cloud))
    assert (refused.decision, cloud.ups, cloud.declared) == ("refused", [], 0)
    assert "synthetic write on the target was not read" in " ".join(refused.reasons)
    # A record of that number that says something else is not the one that was written.
    before = count(pair.target, "SELECT max(v) FROM task_migration.target_writes")
    with ThreadPoolExecutor(1) as aside:
        probed = aside.submit(readiness.probe, pair.settings, 10.0)
        number = wait_until(
            lambda: count(pair.target, "SELECT max(v) FROM task_migration.target_writes"),
            lambda newest: newest > before,
            what="the synthetic write",
            timeout=10,
        )
        pair.source.execute(
            "INSERT INTO task_migration.target_writes (v, table_name, key, kind, at) VALUES (%s, '', '', 'fence', '2026-01-01')",
            (number,),
        )
        assert probed.result() is None
    pair.source.execute("DELETE FROM task_migration.target_writes WHERE v = %s", (number,))
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(name))
    wait_until(lambda: verdict(pair), lambda why: why == [], what="the way back", timeout=20)

    # A service without a healthy target, deployments that took long, and a scheduler that still writes on the monolith.
    cloud = Cloud()
    cloud.healthy = 0
    _scheduled(pair.source)
    history.keep(pair.settings, Step.CANARY, "moved", {"to": 0, "seconds": 45.0})
    seen = readiness.observe(replace(_stage(pair.settings, cloud), service=cloud))  # type: ignore[arg-type]
    assert seen.service == ServiceHealth(2, 2, 0, 0, "COMPLETED")
    assert 45.1 < (seen.rollback_seconds or 0) < 45.1 + 2 * 2.0, "the slowest deployment, the drain, two fences"
    (runs,) = seen.not_switched
    assert "the scheduler still runs on the monolith" in runs


def test_a_verification_of_an_earlier_copy_is_none_of_this_one(make_pair: MakePair) -> None:
    """Prevents a weight that goes up on what was compared before the rows were copied anew."""
    pair = make_pair(rows=50)
    schema.apply(pair.settings)
    copy.run(pair.settings)
    assert verify.run(pair.settings).match
    first = verdicts.newest(pair.source, pair.target)
    assert first is not None
    assert (first.match, first.of_this_copy) == (True, True)
    assert 0 < first.age_seconds < 60
    pair.source.execute("SELECT pg_drop_replication_slot(%s)", (pair.settings.config.subscription,))
    copy.run(pair.settings)
    again = verdicts.newest(pair.source, pair.target)
    assert again is not None
    assert (again.match, again.of_this_copy) == (True, False)
    verify.run(pair.settings)
    assert (verdicts.newest(pair.source, pair.target) or again).of_this_copy
    # Of a former version of this program, which kept no begin.
    helper_schema.put(pair.source, verdicts.VERIFIED, {"match": True, "at": "2026-11-26T00:00:00+00:00"})
    former = verdicts.newest(pair.source, pair.target)
    assert former is not None
    assert not former.of_this_copy


def test_an_unattended_ladder_stops_where_the_sides_came_apart(pair: Pair) -> None:
    """Prevents a `canary run` that goes on to 100 % over rows which no replication brings, as each figure is good."""
    cloud = Cloud(observed=HEALTHY)

    def spoil(name: str) -> None:
        if name == "up done" and cloud.live == 25:
            with unseen(pair.target) as one:
                one.execute("UPDATE tasks SET title = '別の題' WHERE id = (SELECT min(id) FROM tasks)")

    cloud.at = spoil
    document = canary.run(_stage(pair.settings, cloud))
    assert isinstance(document, CanaryRun)
    assert [(one.to, one.decision) for one in document.steps][:2] == [(5, "promote"), (25, "hold")]
    assert cloud.live == 25
    assert "the last verification found differences" in document.reasons[0]


def _at_once(pair: Pair, column: str) -> int:
    """Both sides write ``column`` of the same task without knowing of each other; returns its id."""
    task = count(pair.source, "SELECT min(id) FROM tasks")
    statement = sql.SQL("UPDATE tasks SET {} = %s WHERE id = %s").format(sql.Identifier(column))
    reverse = sql.Identifier(pair.settings.config.reverse_subscription)
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(reverse))
    pair.target.execute(statement, ("目標", task))
    pair.source.execute(statement, ("源", task))
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(reverse))
    fence.both(pair.settings, 20)
    return task


def _proof(pair: Pair) -> WritesProof:
    return rollback_proof.prove(pair.settings, "target", 10)


def test_a_side_that_goes_on_writing_is_not_proven(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a proof of what a moment ago was all, over writes that were acknowledged since."""
    arrival = writes.arrival

    def and_one_more(*given: Any) -> writes.Arrival:
        pair.target.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), '続き' FROM tasks")
        return arrival(*given)

    with monkeypatch.context() as patch:
        patch.setattr(writes, "arrival", and_one_more)
        proof = _proof(pair)
    assert (proof.proven, proof.missing, proof.different_total, proof.unsettled) == (False, 0, 0, 1)
    assert _proof(pair).proven


def test_rows_that_the_monolith_writes_all_the_time_are_judged_by_their_records(pair: Pair) -> None:
    """Prevents a rollback that is never proven while people are at work on the monolith, and one that overlooks a hot row's loss."""
    first = count(pair.target, "SELECT min(id) FROM tasks")
    edited, gone, silent, kept = (str(first + place) for place in range(4))
    pair.target.execute("UPDATE tasks SET title = '残す', priority = 1 WHERE id < %s", (first + 4,))
    fence.both(pair.settings, 20)
    name = sql.Identifier(pair.settings.config.subscription)
    pair.target.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
    for word in ("忙", "しい"):
        pair.source.execute("UPDATE tasks SET title = %s WHERE id IN (%s, %s)", (word, edited, silent))
    pair.source.execute("DELETE FROM tasks WHERE id = %s", (gone,))
    table = catalog.read(pair.source, "public", ["tasks"], "source")["tasks"]
    keys = [(edited,), (gone,), (silent,), (kept,)]
    assert replay.unexplained(pair.target, pair.source, "target", table, keys) == []
    with unseen(pair.source):
        pair.source.execute("UPDATE tasks SET priority = 5 WHERE id = %s", (silent,))
        pair.source.execute("DELETE FROM tasks WHERE id = %s", (kept,))
    assert replay.unexplained(pair.target, pair.source, "target", table, keys) == [(silent,), (kept,)]
    pair.target.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(name))
    assert not _proof(pair).proven


def test_a_rollback_proves_every_insert_update_and_delete_of_the_task_service(pair: Pair) -> None:
    """Prevents a proof that looks at counts only, at rows that are still there only, or at what the monolith wrote."""
    pair.source.execute("UPDATE tasks SET span = 7 WHERE id % 2 = 0")
    pair.target.execute("UPDATE tasks SET description = '戻す前に書いた' WHERE id % 10 = 1")
    updated = count(pair.target, "SELECT count(*) FROM tasks WHERE description = '戻す前に書いた'")
    pair.target.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), '戻す前に作った' FROM tasks")
    pair.target.execute("DELETE FROM task_images WHERE id = (SELECT min(id) FROM task_images)")
    found = _proof(pair)
    assert found.proven, found
    assert (found.writes.insert, found.writes.update, found.writes.delete) == (1, updated, 1)
    assert found.equal == found.checked == updated + 2
    # Pruned meanwhile: they count as before.
    for _ in range(4):
        fence.both(pair.settings, 10)
    pruned = _proof(pair)
    assert pruned.proven
    assert (pruned.writes, pruned.pruned, pruned.checked) == (found.writes, found.writes.total, 0)

    task = _at_once(pair, "title")
    after = _proof(pair)
    assert after.proven
    assert after.told == 1
    (loss,) = after.losses
    assert (loss.table, loss.key, loss.kind, loss.columns) == ("tasks", [str(task)], "update", ["title"])
    assert [one.plain() for one in after.told_by_kind] == [{"table": "tasks", "kind": "update", "count": 1}]
    assert "源" not in after.json_text() and "目標" not in after.json_text(), "no values in the document"  # noqa: PT018
    cloud = Cloud(weight=25)
    document = rollback.run(_stage(pair.settings, cloud))
    assert document.rows.proven
    assert document.rows.told == 1
    # A watch promotes all the same, and says how many were lost.
    observed = Watch(_stage(pair.settings, Cloud(5)), Lock(), 5).run()
    decision = gates.decide(observed, pair.settings.config.gates, 0.05)
    assert (observed.told, decision.verdict) == (1, "promote")
    assert "1 writes lost to others in all, each told in a conflict log" in decision.reasons


@pytest.mark.parametrize(
    ("write", "undone", "said"),
    [
        ("DELETE FROM task_images WHERE id = {image}", "INSERT INTO task_images SELECT * FROM kept WHERE id = {image}", "missing_on_target"),
        ("UPDATE tasks SET title = '新しい題' WHERE id = {task}", "UPDATE tasks SET title = '古い題' WHERE id = {task}", "different"),
        ("INSERT INTO task_images (id, task_id, file_path) VALUES (2000000000, {task}, 'a')",
         "DELETE FROM task_images WHERE id = 2000000000", "missing_on_source"),
    ],
)  # fmt: skip
def test_a_rollback_fails_on_a_write_whose_row_did_not_stay(pair: Pair, write: str, undone: str, said: str) -> None:
    """Prevents a proof for a delete, an update or an insert that arrived as a record and is not in the monolith's row."""
    values = {
        "task": count(pair.source, "SELECT min(id) FROM tasks"),
        "image": count(pair.source, "SELECT min(id) FROM task_images"),
    }
    pair.source.execute("CREATE TABLE kept AS SELECT * FROM task_images")
    pair.target.execute(write.format(**values).encode())
    fence.reverse(pair.settings, 10)
    with unseen(pair.source) as one:
        one.execute(undone.format(**values).encode())
    found = _proof(pair)
    assert not found.proven
    assert [one.kind for one in found.different] == [said]
    cloud = Cloud(weight=25)
    with pytest.raises(DataDiffer, match=f"1 rows that the target wrote are not the same on the source.*{said}"):
        rollback.run(_stage(pair.settings, cloud))
    assert cloud.live == 0


def test_a_rollback_fails_on_writes_that_a_slot_advanced_by_hand_left_out(pair: Pair) -> None:
    """Prevents a proof, a status and a gate that are content with a stream that has a hole in it."""
    assert replicate.status(pair.settings).status != "fail"
    name = pair.settings.config.reverse_subscription
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(name)))
    gone = f"SELECT count(*) FROM pg_stat_subscription WHERE subname = '{name}' AND pid IS NOT NULL"
    wait_until(lambda: count(pair.source, gone), lambda left: left == 0, what="the worker to end", timeout=20)
    image = count(pair.target, "SELECT min(id) FROM task_images")
    pair.target.execute("DELETE FROM task_images WHERE id = %s", (image,))
    wait_until(
        lambda: count(pair.target, f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}' AND active"),
        lambda active: active == 0,
        what="the slot to be free",
        timeout=20,
    )
    pair.target.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (name,))
    pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(name)))
    fence.reverse(pair.settings, 20)

    # A watch goes back at once, and tells how many.
    cloud = Cloud(5)
    observed = Watch(_stage(pair.settings, cloud), Lock(), 5).run()
    decision = gates.decide(observed, pair.settings.config.gates, 0.05)
    assert (observed.missing, decision.verdict) == (1, "rollback")
    assert "1 writes never arrived on the other side, the limit is none" in decision.reasons[0]
    seen = replicate.status(pair.settings)
    assert seen.status == "fail"
    (finding,) = [one for one in seen.findings if one.what == "reverse: writes that did not arrive"]
    assert "1 writes of the target never arrived at the source" in finding.detail
    assert "1 writes of the target never arrived at the source" in " ".join(verdict(pair))
    for _ in range(3):
        fence.both(pair.settings, 10)
    found = _proof(pair)
    assert (found.proven, found.missing, found.pruned) == (False, 1, 0)
    assert [(one.table, one.key, one.kind) for one in found.missing_writes] == [("task_images", [str(image)], "delete")]
    with pytest.raises(DataDiffer, match="1 writes of the target never arrived at the source.* delete of task_images"):
        rollback.run(_stage(pair.settings, Cloud(weight=25)))
    with pytest.raises(DataDiffer, match="sides differ|not proven"):
        finalize.run(pair.settings)


def test_a_step_killed_by_the_system_in_its_watch_is_watched_again(pair: Pair) -> None:
    """Prevents a `kill -9` from leaving a lock, a weight that nobody watches, or a step that is taken for done."""
    assert verify.run(pair.settings).match
    process = elsewhere(STEP, pair.settings)
    try:
        wait_until(
            lambda: last(pair.settings.journal, "canary", "moved") or process.poll(),
            lambda moved: moved is not None,
            what="the other process to move the weight",
            timeout=60,
        )
    finally:
        killed(process)
    assert last(pair.settings.journal, "canary", "moved") is not None
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
