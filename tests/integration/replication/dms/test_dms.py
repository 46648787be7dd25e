"""The data plane with AWS DMS as its engine: the program's own calls, the declared settings, real slots and rows."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from typing import Any

import psycopg
import pytest

from scripts.copy import run as copy
from scripts.finish import abandon, finalize, removal
from scripts.preflight import dms as preflight_dms
from scripts.preflight import run as preflight
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.replication.dms import api as dms_api
from scripts.replication.documents import DmsDirectionState
from scripts.schema import run as schema
from scripts.status.look import look
from scripts.support import commands
from scripts.support.errors import Refused, TimedOut
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.conftest import Pair
from tests.integration.conflict_log import told
from tests.integration.replication.dms.dms_world import DmsWorld
from tests.integration.test_chain import MakePair, Writer, count


def prepared(make_pair: MakePair, world: DmsWorld, rows: int = 200, **declared: Any) -> Pair:
    """A pair whose target has the schema, and whose DMS is declared."""
    size = declared.get("lob_max_size_kb", 4096)
    pair = make_pair(rows=rows, replicationEngine="dms", dmsLobMaxSizeKb=size)
    world.declare(pair, **declared)
    schema.apply(pair.settings)
    return pair


def running(make_pair: MakePair, world: DmsWorld, rows: int = 200, **declared: Any) -> Pair:
    """A pair between which DMS carries changes both ways."""
    pair = prepared(make_pair, world, rows, **declared)
    copy.run(pair.settings)
    replicate.start(pair.settings)
    return pair


def test_the_plan_with_dms_from_copy_to_finalize(
    make_pair: MakePair, dms_world: DmsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a hole between copy and DMS, a change that comes back, and a slot that is left behind."""
    pair = prepared(make_pair, dms_world, rows=1000)
    settings = pair.settings
    with Writer(settings.source()) as first:
        first.more()
        copy.run(settings, jobs=2)
        first.more()
        started = replicate.start(settings)
        with Writer(settings.target()) as second:
            second.more()
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
        assert direction.apply_errors == 0
        # Its one table is the record of the side that it reads; nothing that it brought goes back.
        (carried,) = direction.tables or []
        assert carried.table == f"task_migration.{'source' if direction is state.forward else 'target'}_writes"
        assert carried.inserts >= 20
    found = verify.run(settings)
    assert found.match, found
    # Without a word of AWS the two databases say the same, and that a stopped task lets nothing through.
    with monkeypatch.context() as away:
        away.setattr(dms_api, "build", None)
        seen = look(settings)
        assert (seen.place.step, seen.safe, seen.next) == ("verify", True, commands.STEP), seen.findings
    # Stopped and started again: nothing is missing, nothing comes twice.
    assert len(replicate.stop(settings).stopped) == 2
    assert not replicate.status(settings).forward.running
    with monkeypatch.context() as away:
        away.setattr(dms_api, "build", None)
        gates = settings.config.gates.model_copy(update={"replication_lag_seconds": 2.0})
        soon = dataclasses.replace(settings, config=settings.config.model_copy(update={"gates": gates}))
        failing = {one.what for one in look(soon).findings if one.status == "fail"}
        assert {"forward fence", "reverse fence"} <= failing
    pair.source.execute("UPDATE tasks SET title = 'while stopped' WHERE id = %s", (first.ids[0],))
    replicate.start(settings)
    assert verify.run(settings).match
    done = finalize.run(settings)
    assert done.status == "finalized"
    assert removal.leftovers(settings) == []
    assert finalize.run(settings).status == "already-finalized"
    with pytest.raises(Refused, match="`finalize` ended on .* replication was removed for good"):
        replicate.start(settings)


def test_a_killed_dms_loses_nothing_and_what_it_repeats_changes_nothing(
    make_pair: MakePair, dms_world: DmsWorld
) -> None:
    """Prevents a start position or checkpoint that loses what was under way when the instance died, and an old write that
    comes a second time and takes back a newer one."""
    pair = running(make_pair, dms_world)
    (first,) = pair.source.execute("SELECT min(id) FROM tasks").fetchone() or (0,)
    for number in range(4):
        pair.source.execute("UPDATE tasks SET title = %s, span = %s WHERE id = %s", (f"{number}", number, first))
        fence.forward(pair.settings)
        # Known here, so newer than what the source wrote: a repeat of that must not take it back.
        pair.target.execute("UPDATE tasks SET title = %s WHERE id = %s", (f"{number} there", first))
        dms_world.kill()
        pair.source.execute("UPDATE tasks SET reward = %s WHERE id = %s", (number, first))
        dms_world.start()
        fence.forward(pair.settings)
        state = replicate.status(pair.settings).forward
        assert isinstance(state, DmsDirectionState)
        # A new process counts from nothing; one write and one fence are new, the others came once more.
        assert (state.tables or [])[0].inserts > 2
    fence.both(pair.settings)
    for connection in (pair.source, pair.target):
        row = connection.execute("SELECT title, span, reward FROM tasks WHERE id = %s", (first,)).fetchone()
        assert row == ("3 there", 3, 3)
    assert told(pair.settings) == []
    assert verify.run(pair.settings).match


def test_what_both_sides_know_is_pruned_and_does_not_come_back(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a task that stops at the DELETE of a record which is gone, and records that a repeat brings back for good."""
    pair = running(make_pair, dms_world)
    settings = pair.settings
    known = (
        "SELECT k.v, (SELECT count(*) FROM task_migration.source_writes WHERE v <= k.v) + "
        "(SELECT count(*) FROM task_migration.target_writes WHERE v <= k.v) "
        "FROM (SELECT (value ->> 'v')::bigint AS v FROM task_migration.settings WHERE name = 'known') k"
    )

    def looked(connection: psycopg.Connection[Any]) -> tuple[int, int]:
        """The number up to which all is known, and the records up to there that are kept all the same."""
        # Each look fences both ways, and prunes.
        replicate.status(settings)
        row = connection.execute(known.encode()).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    for number in range(3):
        before, _ = looked(pair.source)
        pair.source.execute("UPDATE tasks SET span = %s", (number,))
        pair.target.execute("UPDATE tasks SET reward = %s", (number,))
        # 200 writes, each of which takes every second number.
        wait_until(
            partial(looked, pair.source),
            partial(lambda least, found: found[0] >= least, before + 400),
            what="both sides' records to be known",
            timeout=90,
        )
        dms_world.kill()
        dms_world.start()
        fence.both(settings)
    for connection in (pair.source, pair.target):
        wait_until(
            partial(looked, connection),
            lambda found: found[1] == 0,
            what="what came once more to be gone again",
            timeout=60,
        )
    state = replicate.status(settings)
    assert (state.forward.running, state.reverse.running) == (True, True), state
    assert (state.forward.apply_errors, state.reverse.apply_errors) == (0, 0)
    assert verify.run(settings).match
    for connection in (pair.source, pair.target):
        assert count(connection, "SELECT count(*) FROM tasks WHERE span = 2 AND reward = 2") >= 200
    assert told(settings) == []


def test_a_refused_record_stops_the_task_until_it_can_be_applied(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a refused record from being dropped, and a row that both sides deleted from stopping anything."""
    pair = running(make_pair, dms_world)
    settings = pair.settings
    replicate.stop(settings)
    for connection in (pair.source, pair.target):
        connection.execute("DELETE FROM task_tag WHERE task_id = (SELECT min(task_id) FROM task_tag)")
    replicate.start(settings)
    forward = replicate.status(settings).forward
    assert forward.running, forward.reason
    assert forward.apply_errors == 0
    assert verify.run(settings).match
    # A row that the target cannot take: the task stops before it, and goes on once it can.
    pair.target.execute("ALTER TABLE task_images ADD CONSTRAINT no_dots CHECK (file_path NOT LIKE '%..%') NOT VALID")
    pair.source.execute("INSERT INTO task_images (task_id, file_path) SELECT min(id), '../x' FROM tasks")
    with pytest.raises(TimedOut):
        fence.forward(settings, timeout=4)
    state = replicate.status(settings, fence_timeout=1).forward
    assert not state.running
    # AWS names no cause; the control table does, whose details have the row.
    assert "ApplyErrorInsertPolicy" in str(state.reason)
    assert 'violates check constraint "no_dots"' in str(state.reason)
    assert "../x" not in str(state)
    pair.target.execute("ALTER TABLE task_images DROP CONSTRAINT no_dots")
    replicate.start(settings)
    assert replicate.status(settings).forward.running
    assert verify.run(settings).match
    assert count(pair.target, "SELECT count(*) FROM task_images WHERE file_path = '../x'") == 1


def test_values_of_a_column_that_is_new_on_one_side_wait_until_it_is_taken_in(
    make_pair: MakePair, dms_world: DmsWorld
) -> None:
    """Prevents a value that arrives as a default, and a task that cannot go on once both sides have the column."""
    pair = running(make_pair, dms_world)
    settings = pair.settings
    (first,) = pair.source.execute("SELECT min(id) FROM tasks").fetchone() or (0,)
    pair.source.execute("ALTER TABLE tasks ADD COLUMN colour text DEFAULT 'red'")
    pair.source.execute("UPDATE tasks SET colour = 'blue', span = 5 WHERE id = %s", (first,))
    pair.target.execute("UPDATE tasks SET reward = 6 WHERE id = %s", (first,))
    with pytest.raises(TimedOut):
        fence.forward(settings, timeout=4)
    state = replicate.status(settings, fence_timeout=1)
    assert state.status == "fail"
    assert "columns that are not known here: colour" in str(state.forward.reason)
    pair.target.execute("ALTER TABLE tasks ADD COLUMN colour text DEFAULT 'red'")
    replicate.start(settings)
    fence.both(settings)
    for connection in (pair.source, pair.target):
        row = connection.execute("SELECT colour, span, reward FROM tasks WHERE id = %s", (first,)).fetchone()
        assert row == ("blue", 5, 6)
    assert verify.run(settings).match


def test_a_row_above_the_lob_size_stops_the_task_uncut(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a record that is cut at LobMaxSize without a word; its bound is the row as JSON text, not its largest value."""
    pair = running(make_pair, dms_world, lob_max_size_kb=32)
    # 30,000 bytes fit; 28,000 do not, as JSON has a backslash before each of their 7,000 quotes.
    (first,) = pair.source.execute("SELECT min(id) FROM tasks").fetchone() or (0,)
    pair.source.execute("UPDATE tasks SET description = repeat('あ', 10000) WHERE id = %s", (first,))
    fence.forward(pair.settings)
    pair.source.execute("UPDATE tasks SET description = repeat('\"あ', 7000) WHERE id = %s", (first,))
    with pytest.raises(TimedOut):
        fence.forward(pair.settings, timeout=4)
    state = replicate.status(pair.settings, fence_timeout=1).forward
    assert "raise that above what `task-migration preflight` measures" in str(state.reason)
    kept = pair.target.execute("SELECT description = repeat('あ', 10000) FROM tasks WHERE id = %s", (first,))
    assert kept.fetchone() == (True,)


def test_starts_that_would_leave_a_hole_are_refused(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents DMS on a slot of the other plugin, without a copy, without its slot, or on endpoints out of reach."""
    pair = prepared(make_pair, dms_world, rows=50)
    settings = pair.settings
    with pytest.raises(Refused, match="no complete copy"):
        replicate.start(settings)
    copy.run(settings)
    pair.source.execute("SELECT pg_drop_replication_slot(%s)", (settings.config.subscription,))
    with pytest.raises(Refused, match="does not exist"):
        replicate.start(settings)
    pair.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (settings.config.subscription,))
    with pytest.raises(Refused, match="plugin pgoutput"):
        replicate.start(settings)
    abandon.run(settings)
    abandon.start_over(settings, "copy", 0, "copied anew", force=True)
    # It took the role of replication away with the rest.
    replicate.make_roles(settings)
    copy.run(settings)
    secrets = dms_world.aws.client("secretsmanager")
    good = secrets.get_secret_value(SecretId="target/dms")["SecretString"]
    secrets.put_secret_value(SecretId="target/dms", SecretString=good.replace('"port": ', '"port": 1'))
    with pytest.raises(Refused, match=r"task-service-target cannot be reached.*access role"):
        replicate.start(settings)
    secrets.put_secret_value(SecretId="target/dms", SecretString=good)
    replicate.start(settings)
    replicate.stop(settings, drain=False)
    # A slot made anew by hand, either way, has not what was written before it.
    for here, own, name in (
        (pair.target, "target_writes", settings.config.reverse_subscription),
        (pair.source, "source_writes", settings.config.subscription),
    ):
        here.execute("UPDATE tasks SET title = %s WHERE id = (SELECT min(id) FROM tasks)", (f"before, {own}",))
        here.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        with pytest.raises(Refused, match="does not exist"):
            replicate.start(settings)
        here.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (name,))
        with pytest.raises(Refused, match=r"no longer holds 1 writes .* lacks \(tasks\).* made anew"):
            replicate.start(settings)
        here.execute(f"DELETE FROM task_migration.{own} WHERE kind <> 'fence'".encode())
    # As a restored older state: what it lacks stands on the other side, and its next writes would be taken for known.
    pair.source.execute("DELETE FROM task_migration.source_writes")
    with pytest.raises(Refused, match="older state of itself"):
        replicate.start(settings)
    pair.source.execute("SELECT pg_drop_replication_slot(%s)", (settings.config.subscription,))
    with pytest.raises(Refused, match="was started but no good copy"):
        copy.run(settings)


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


def test_a_password_that_dms_refuses_is_named_before_it_is_given_to_a_role(
    make_pair: MakePair, dms_world: DmsWorld
) -> None:
    """Prevents a test of an endpoint that says no more than that it cannot log in; the value is in no message."""
    pair = prepared(make_pair, dms_world, rows=50)
    secrets = dms_world.aws.client("secretsmanager")
    good = secrets.get_secret_value(SecretId="target/dms")["SecretString"]
    secrets.put_secret_value(SecretId="target/dms", SecretString=good.replace("made-up-target", "made;up%target"))
    with pytest.raises(Refused, match=r"holds ; %, the limit is none of \{ \} ; \+ %") as caught:
        replicate.make_roles(pair.settings)
    assert "made;up" not in str(caught.value)
    failed = preflight_dms.role_of_secret(pair.settings, "target", "somebody")
    assert (failed.status, "holds ; %" in failed.detail) == ("fail", True)
    with pytest.raises(Refused, match="task-service-target cannot be reached.*password authentication failed"):
        dms_api.build(pair.settings).test_connections(["task-service-target"])


def test_a_secret_without_a_value_gets_one_that_dms_logs_in_with(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a role without the password that its secret has, and a value of a team's that is written over."""
    pair = prepared(make_pair, dms_world, rows=50, filled=False)
    secrets = dms_world.aws.client("secretsmanager")
    kept = secrets.get_secret_value(SecretId="target/dms")["SecretString"]
    shown = replicate.make_roles(pair.settings)
    assert secrets.get_secret_value(SecretId="target/dms")["SecretString"] == kept
    made = json.loads(secrets.get_secret_value(SecretId="target/dms")["SecretString"])
    assert made["username"] == pair.settings.config.replication_role
    assert made["password"] not in str(shown)
    assert dms_api.build(pair.settings).test_connections(["task-service-target"]) == {
        "task-service-target": "successful"
    }


def test_a_way_that_no_security_group_opens_keeps_dms_from_a_database(make_pair: MakePair, dms_world: DmsWorld) -> None:
    """Prevents a rehearsal that passes where AWS's instance would knock in vain: the account's rules decide here too."""
    pair = prepared(make_pair, dms_world, rows=50)
    ec2, rds, dms = (dms_world.aws.client(name) for name in ("ec2", "rds", "dms"))
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ours, theirs = (
        ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"] for name in ("dms", "target")
    )
    (instance,) = dms.describe_replication_instances()["ReplicationInstances"]
    dms.modify_replication_instance(
        ReplicationInstanceArn=instance["ReplicationInstanceArn"], VpcSecurityGroupIds=[ours], ApplyImmediately=True
    )
    rds.create_db_instance(
        DBInstanceIdentifier="target",
        DBInstanceClass="db.t3.medium",
        Engine="postgres",
        DBName=pair.target.info.dbname,
        AllocatedStorage=20,
        MasterUsername="x",
        ManageMasterUserPassword=True,
        VpcSecurityGroupIds=[theirs],
    )
    with pytest.raises(
        Refused, match=r"(?s)task-service-target cannot be reached.*timeout.*security group has no way in"
    ):
        dms_api.build(pair.settings).test_connections(["task-service-target", "myteacher-source"])
    way = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": ours}]}
    ec2.authorize_security_group_ingress(GroupId=theirs, IpPermissions=[way])
    assert set(dms_api.build(pair.settings).test_connections(["task-service-target"]).values()) == {"successful"}


def test_what_a_task_was_made_with_and_what_was_copied_must_be_what_is_configured(
    make_pair: MakePair, dms_world: DmsWorld
) -> None:
    """Prevents a task that keeps policies or a size of before, as no deployment changes one, and tables without rows or record."""
    pair = prepared(make_pair, dms_world, rows=50)
    copy.run(pair.settings)
    other = pair.config(dmsLobMaxSizeKb=8)
    with pytest.raises(Refused, match=r"made with LobMaxSize 4096, declared is 8\. No deployment changes a task"):
        replicate.start(other)
    fewer = pair.config(dmsLobMaxSizeKb=4096, tables=[name for name in other.config.tables if name != "task_images"])
    for refused in (replicate.start, copy.run):
        with pytest.raises(Refused, match=r"the copy took .*task_images.*`tables` names"):
            refused(fewer)
    settings = pair.config(tables=list(other.config.tables))
    replicate.start(settings)
    pair.config(tables=list(fewer.config.tables))
    (finding,) = [one for one in replicate.status(pair.settings).findings if one.what == "tables"]
    assert (finding.status, "task_images" in finding.detail) == ("fail", True)
    ended = pair.config(tables=list(other.config.tables), replicationEngine="none")
    for command in (replicate.start, replicate.stop, replicate.status, replicate.make_roles, copy.run, preflight.run):
        with pytest.raises(Refused, match="replicationEngine is none: replication was ended by `finalize`"):
            command(ended)
