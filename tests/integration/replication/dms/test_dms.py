"""The data plane with AWS DMS as its engine: the program's own calls, the declared settings, real slots and rows."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from scripts.copy import run as copy
from scripts.database import helper_schema
from scripts.finish import abandon, finalize, removal
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.replication.dms import api as dms_api
from scripts.replication.documents import DmsDirectionState, DmsExceptions
from scripts.schema import run as schema
from scripts.support.errors import Refused, TimedOut
from scripts.verify import run as verify
from tests.conftest import Pair
from tests.integration.replication.dms.dms_world import DmsWorld
from tests.integration.test_chain import MakePair, Writer, count


def prepared(make_pair: MakePair, world: DmsWorld, rows: int = 200, **declared: Any) -> Pair:
    """A pair whose target has the schema, and whose DMS is declared."""
    pair = make_pair(rows=rows, replicationEngine="dms")
    world.declare(pair, **declared)
    schema.apply(pair.settings)
    return pair


def running(make_pair: MakePair, world: DmsWorld, rows: int = 200, **declared: Any) -> Pair:
    """A pair between which DMS carries changes both ways."""
    pair = prepared(make_pair, world, rows, **declared)
    copy.run(pair.settings)
    replicate.start(pair.settings)
    return pair


def test_the_plan_with_dms_from_copy_to_finalize(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a hole between copy and DMS, a change that comes back, and a slot that is left behind."""
    pair = prepared(make_pair, dms_world, rows=1000)
    settings = pair.settings
    with Writer(settings.source()) as first:
        while len(first.ids) < 20:
            time.sleep(0.01)
        copy.run(settings, jobs=2)
        copied = len(first.ids)
        while len(first.ids) < copied + 20:
            time.sleep(0.01)
        started = replicate.start(settings)
        with Writer(settings.target()) as second:
            while len(second.ids) < 20:
                time.sleep(0.01)
    # One side alone writes a row again and again, and leaves updated_at: no writer was local where it arrived.
    for number in range(5):
        pair.source.execute("UPDATE tasks SET title = %s WHERE id = %s", (f"{number}", first.ids[0]))
        pair.target.execute("UPDATE tasks SET title = %s WHERE id = %s", (f"{number}", second.ids[0]))
        fence.both(settings)
    assert started.status == "started"
    assert replicate.start(settings).status == "already-running"
    fence.both(settings)
    for connection in (pair.source, pair.target):
        ids = {row[0] for row in connection.execute("SELECT id FROM tasks")}
        assert set(first.ids) | set(second.ids) <= ids
        # A loop would show as a duplicate insert in the log.
        assert count(connection, "SELECT count(*) FROM task_migration.conflicts") == 0
    state = replicate.status(settings)
    for direction in (state.forward, state.reverse):
        assert isinstance(direction, DmsDirectionState)
        assert direction.running, direction
        assert direction.task == "running"
        assert direction.exceptions == DmsExceptions(expected=0, unexpected=0)
        written = {entry.table: entry.inserts for entry in direction.tables or ()}
        assert written["public.tasks"] >= 20
    found = verify.run(settings)
    assert found.match, found
    # Stopped and started again: nothing is missing, nothing comes twice.
    assert len(replicate.stop(settings).stopped) == 2
    assert not replicate.status(settings).forward.running
    pair.source.execute("UPDATE tasks SET title = 'while stopped' WHERE id = %s", (first.ids[0],))
    replicate.start(settings)
    assert verify.run(settings).match
    done = finalize.run(settings)
    assert done.status == "finalized"
    assert removal.leftovers(settings) == []
    assert finalize.run(settings).status == "already-finalized"
    with pytest.raises(Refused, match="no complete copy"):
        replicate.start(settings)


def test_a_killed_dms_applies_each_transaction_once(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a start position or checkpoint that loses or repeats what was under way when the instance died."""
    pair = running(make_pair, dms_world)
    counted = "UPDATE tasks SET reward = coalesce(reward, 0) + 1 WHERE id = (SELECT min(id) FROM tasks)"
    pair.target.execute(
        "CREATE TABLE seen (n bigint); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
        "$$ BEGIN INSERT INTO public.seen VALUES (NEW.reward); RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION note();"
        "ALTER TABLE tasks ENABLE REPLICA TRIGGER note"
    )
    pair.source.execute("UPDATE tasks SET reward = 0 WHERE id = (SELECT min(id) FROM tasks)")
    for number in range(300):
        pair.source.execute(counted)
        if number % 100 == 50:
            dms_world.kill()
            dms_world.start()
    fence.both(pair.settings)
    assert [row[0] for row in pair.target.execute("SELECT n FROM seen ORDER BY n")] == list(range(301))
    assert verify.run(pair.settings).match


def test_rows_that_are_gone_are_passed_by_and_a_refused_row_stops_the_task(
    make_pair: MakePair, dms_world: DmsWorld
) -> None:
    """Prevents two deletions of one row from stopping replication, and a refused insert from being dropped."""
    pair = running(make_pair, dms_world)
    settings = pair.settings
    replicate.stop(settings)
    for connection in (pair.source, pair.target):
        connection.execute("DELETE FROM task_tag WHERE task_id = (SELECT min(task_id) FROM task_tag)")
    (last,) = pair.source.execute("SELECT max(id) FROM tasks").fetchone() or (0,)
    pair.target.execute("DELETE FROM tasks WHERE id = %s", (last,))
    pair.source.execute("UPDATE tasks SET title = 'gone there' WHERE id = %s", (last,))
    replicate.start(settings)
    forward = replicate.status(settings).forward
    assert isinstance(forward, DmsDirectionState)
    assert forward.running, forward.reason
    assert forward.exceptions.expected >= 2
    assert verify.run(settings).match
    # A row that the target cannot take: the task stops before it, and goes on once it can.
    pair.target.execute("ALTER TABLE task_images ADD CONSTRAINT no_dots CHECK (file_path NOT LIKE '%..%') NOT VALID")
    pair.source.execute("INSERT INTO task_images (task_id, file_path) SELECT min(id), '../x' FROM tasks")
    with pytest.raises(TimedOut):
        fence.forward(settings, timeout=4)
    state = replicate.status(settings, fence_timeout=1).forward
    assert not state.running
    assert "ApplyErrorInsertPolicy" in str(state.reason)
    assert "../x" not in str(state)
    pair.target.execute("ALTER TABLE task_images DROP CONSTRAINT no_dots")
    replicate.start(settings)
    assert replicate.status(settings).forward.running
    assert verify.run(settings).match
    assert count(pair.target, "SELECT count(*) FROM task_images WHERE file_path = '../x'") == 1


def test_a_value_above_the_lob_size_stops_the_task_uncut(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a description that is cut at LobMaxSize without a word."""
    pair = running(make_pair, dms_world, lob_max_size_kb=32)
    pair.source.execute("UPDATE tasks SET description = repeat('あ', 20000) WHERE id = (SELECT min(id) FROM tasks)")
    with pytest.raises(TimedOut):
        fence.forward(pair.settings, timeout=3)
    state = replicate.status(pair.settings, fence_timeout=1).forward
    assert "raise that above what `task-migration preflight` measures" in str(state.reason)
    longest = "SELECT max(length(description)) FROM tasks WHERE description LIKE 'ああ%'"
    assert pair.target.execute(longest.encode()).fetchone() == (None,)


def test_starts_that_would_leave_a_hole_are_refused(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents DMS on a slot of the other plugin, without a copy, without its slot, or on endpoints out of reach."""
    pair = prepared(make_pair, dms_world, rows=50)
    settings = pair.settings
    with pytest.raises(Refused, match="no complete copy"):
        replicate.start(settings)
    copy.run(settings)
    pair.source.execute("SELECT pg_drop_replication_slot(%s)", (settings.config.subscription,))
    with pytest.raises(Refused, match="is gone"):
        replicate.start(settings)
    pair.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (settings.config.subscription,))
    with pytest.raises(Refused, match="plugin pgoutput"):
        replicate.start(settings)
    abandon.run(settings, truncate_target=True)
    copy.run(settings)
    secrets = dms_world.aws.client("secretsmanager")
    good = secrets.get_secret_value(SecretId="target/dms")["SecretString"]
    secrets.put_secret_value(SecretId="target/dms", SecretString=good.replace('"port": ', '"port": 1'))
    with pytest.raises(Refused, match=r"task-service-target cannot be reached.*access role"):
        replicate.start(settings)
    secrets.put_secret_value(SecretId="target/dms", SecretString=good)
    replicate.start(settings)
    replicate.stop(settings, drain=False)
    pair.source.execute("SELECT pg_drop_replication_slot(%s)", (settings.config.subscription,))
    with pytest.raises(Refused, match="was started but no good copy"):
        copy.run(settings)


def test_who_wrote_a_row(make_pair: MakePair) -> None:
    """Prevents an applied row in a subtransaction from passing for a local one, and a local one for an applied."""
    pair = make_pair(rows=20, replicationEngine="dms")
    replicate.start(pair.settings)
    local, (first, second, third) = (
        pair.source,
        [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 3").fetchall()],
    )
    helper_schema.put(local, "copied_at", "2020-01-01")
    # Else the rule keeps the local rows, and nothing is applied.
    helper_schema.put(local, "tie_winner", "target")
    write = "UPDATE tasks SET title = 'x' WHERE id = %s"
    asked = "SELECT (task_migration.local_write(xmin)).roident FROM tasks WHERE id = %s"

    def is_local(number: int) -> bool:
        return local.execute(asked, (number,)).fetchone() == (0,)

    with psycopg.connect(pair.settings.source(), autocommit=True) as applying:
        applying.execute("SET session_replication_role = replica")
        with applying.transaction():
            applying.execute(write, (first,))
            for number in (second, third):
                with applying.transaction():
                    applying.execute(write, (number,))
                    # Its own transaction's rows are nothing to decide about, whoever asks.
                    assert applying.execute(asked, (number,)).fetchone() == (None,)
        assert not any(is_local(number) for number in (first, second, third))
        with applying.transaction() as rolled_back:
            applying.execute(write, (first,))
            raise psycopg.Rollback(rolled_back)
        local.execute(write, (second,))
        assert [is_local(number) for number in (first, second, third)] == [False, True, False]
        kept = count(local, "SELECT count(*) FROM task_migration.applied")
        applying.execute(
            "UPDATE task_migration.heartbeat SET beat = beat + 1, peer_beat_at = clock_timestamp() WHERE side = 'target'"
        )
        # Known until a second before the beat: nothing is old enough yet, then all of it is.
        assert count(local, "SELECT count(*) FROM task_migration.applied") == kept
        late = "UPDATE task_migration.heartbeat SET beat = beat + 1, peer_beat_at = clock_timestamp() + interval '1 hour' WHERE side = 'target'"
        applying.execute(late.encode())
        assert count(local, "SELECT count(*) FROM task_migration.applied") == 0


@pytest.mark.parametrize(
    ("short", "near", "full"),
    [
        (100, 105, 100),
        (105, 100, 105),
        (4294967290, 2 * 2**32 + 5, 2**32 + 4294967290),
        (5, 2**32 + 4294967290, 2 * 2**32 + 5),
        (4294967290, 5, None),
    ],
)
def test_a_short_transaction_id_is_the_nearest(make_pair: MakePair, short: int, near: int, full: int | None) -> None:
    """Prevents a transaction before the counter's turn from passing for one after it."""
    pair = make_pair(rows=20, replicationEngine="dms")
    replicate.start(pair.settings)
    row = pair.source.execute(
        "SELECT task_migration.full_xid(%s::text::xid, %s::text::xid8)::text", (short, near)
    ).fetchone()
    assert row == (None if full is None else str(full),)


def test_the_tie_of_one_user_and_a_mend(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents the loss of an update that followed the other side's within the same second, and a mend that comes back as
    a change of its own."""
    pair = running(make_pair, dms_world)
    settings = pair.settings
    ids = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 50")]
    write = "UPDATE tasks SET title = %s, updated_at = '2031-01-01' WHERE id = %s"
    for number in ids:
        pair.source.execute(write, ("first", number))
    fence.forward(settings)
    for number in ids:
        pair.target.execute(write, ("second", number))
    # The beat brings the ties, and the fence settles them by the order of their commits.
    fence.both(settings)
    logged = replicate.told(settings)
    assert {entry["settled"] for entry in logged} <= {"by commit time", "stands"}
    assert {entry["kind"] for entry in logged} <= {"tie"}
    assert verify.run(settings).match
    for connection in (pair.source, pair.target):
        assert connection.execute("SELECT count(*) FROM tasks WHERE title = 'second'").fetchone() == (50,)

    def conflicts_now() -> list[int]:
        return [count(side, "SELECT count(*) FROM task_migration.conflicts") for side in (pair.source, pair.target)]

    # Damage that nobody's log tells: found, mended, and neither it nor the mend travels.
    before = conflicts_now()
    with psycopg.connect(settings.target(), autocommit=True) as damage:
        damage.execute("SET session_replication_role = replica")
        damage.execute("SET task_migration.mend = 'on'")
        damage.execute("UPDATE tasks SET title = 'damaged' WHERE id = %s", (ids[0],))
        damage.execute("DELETE FROM tasks WHERE id = %s", (ids[1],))
    fence.both(settings)
    assert verify.run(settings).tables[0].differences_total == 2
    assert verify.run(settings, repair="source").match
    fence.both(settings)
    assert verify.run(settings).match
    assert count(pair.source, "SELECT count(*) FROM tasks WHERE title = 'damaged'") == 0
    assert conflicts_now() == before


def test_without_a_deployment_the_error_says_what_to_do(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a trace where the stack was never deployed."""
    assert dms_world.aws.pid
    operator = dms_api.build(make_pair(rows=None, replicationEngine="dms").settings)
    assert operator.find("forward") is None
    with pytest.raises(Refused, match="pulumi up"):
        operator.task("forward")
    with pytest.raises(Refused, match="pulumi up"):
        operator.instance()
    with pytest.raises(Refused, match="pulumi up"):
        operator.endpoint("myteacher-source")
