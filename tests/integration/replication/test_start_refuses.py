"""Slots that are not what they were, clones, and a record of writes that was taken away: refused at the start, failing in status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from scripts.copy import run as copy
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.replication.directions import Direction, publisher, slot_name
from scripts.replication.documents import Status
from scripts.replication.engine import engine_of
from scripts.schema import run as schema
from scripts.support.errors import MigrationError, Refused
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from scripts.writes import record
from tests.conftest import Pair
from tests.integration.test_chain import MakePair, count, running

TWO = {"tables": ["tasks", "task_tag"]}
WAYS: tuple[Direction, Direction] = ("forward", "reverse")
INSERT = "INSERT INTO tasks (user_id, title) SELECT min(user_id), 'gap' FROM tasks"


def _sides(pair: Pair, direction: Direction) -> tuple[psycopg.Connection[Any], psycopg.Connection[Any], str]:
    """The publisher's and the subscriber's session, and the slot's name."""
    sides = (pair.source, pair.target) if direction == "forward" else (pair.target, pair.source)
    return *sides, slot_name(pair.settings, direction)


def _drop_slot(connection: psycopg.Connection[Any], name: str) -> None:
    wait_until(
        lambda: connection.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (name,)).fetchone(),
        lambda row: row == (False,),
        what="the slot to be free",
        timeout=20,
    )
    connection.execute("SELECT pg_drop_replication_slot(%s)", (name,))


def _failing(status: Status) -> dict[str, str]:
    return {finding.what: finding.detail for finding in status.findings if finding.status == "fail"}


@pytest.mark.parametrize("direction", WAYS)
def test_a_slot_that_is_gone_or_made_anew_is_no_way_on(make_pair: MakePair, direction: Direction) -> None:
    """Prevents a hole that is bridged without a word: five acknowledged rows gone and `replicate start` ended with 0."""
    pair = running(make_pair, rows=40, **TWO)
    settings = pair.settings
    sender, receiver, name = _sides(pair, direction)
    # Stopped and started with the slot as it was: what was written meanwhile is in it.
    replicate.stop(settings)
    sender.execute("UPDATE tasks SET title = 'meanwhile' WHERE id = (SELECT min(id) FROM tasks)")
    # Nobody waits out a limit for what cannot come.
    with pytest.raises(
        fence.Halted,
        match=rf"cannot come through: the subscription {name} is disabled; run .task-migration replicate start",
    ):
        fence.through(settings, direction, 60.0)
    assert replicate.start(settings).status == "started"
    assert engine_of(settings).halted(settings, direction) is None
    assert count(receiver, "SELECT count(*) FROM tasks WHERE title = 'meanwhile'") == 1
    replicate.stop(settings)
    for _ in range(5):
        sender.execute(INSERT)
    _drop_slot(sender, name)
    with pytest.raises(Refused, match=rf"the slot {name} does not exist.*rollback --scenario data"):
        replicate.start(settings)
    assert "does not exist" in _failing(replicate.status(settings))[f"{direction}: not running"]
    assert f"the slot {name} does not exist" in str(engine_of(settings).halted(settings, direction))
    sender.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
    sender.execute(INSERT)
    with pytest.raises(Refused, match=rf"5 writes of the {publisher(direction)} are neither on the"):
        replicate.start(settings)
    # Nothing was switched on, so nothing came after the hole.
    assert count(receiver, "SELECT count(*) FROM tasks WHERE title = 'gap'") == 0


@pytest.mark.parametrize("direction", WAYS)
def test_a_slot_that_was_advanced_by_hand_fails_also_behind_our_back(make_pair: MakePair, direction: Direction) -> None:
    """Prevents a hole that only `replicate start` would see: whoever enables a subscription by hand passes it by."""
    pair = running(make_pair, rows=40, **TWO)
    settings = pair.settings
    sender, receiver, name = _sides(pair, direction)
    replicate.stop(settings)
    sender.execute(INSERT)
    wait_until(lambda: _advanced(sender, name), bool, what="the slot to be advanced", timeout=20)
    with pytest.raises(Refused, match=r"1 writes of the .* are neither on the"):
        replicate.start(settings)
    for connection, way in ((pair.target, "forward"), (pair.source, "reverse")):
        statement = sql.SQL("ALTER SUBSCRIPTION {} ENABLE")
        connection.execute(statement.format(sql.Identifier(slot_name(settings, way))))  # type: ignore[arg-type]
    status = wait_until(
        lambda: replicate.status(settings),
        lambda seen: seen.forward.lag_seconds is not None and seen.reverse.lag_seconds is not None,
        what="fences",
        timeout=30,
    )
    found = _failing(status)
    assert set(found) == {f"{direction}: writes that did not arrive"}
    with pytest.raises(Refused, match="though later ones are"):
        replicate.start(settings)
    assert count(receiver, "SELECT count(*) FROM tasks WHERE title = 'gap'") == 0


def _advanced(sender: psycopg.Connection[Any], name: str) -> bool:
    try:
        sender.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (name,))
    except psycopg.errors.ObjectInUse:
        return False
    return True


def test_before_the_first_start_a_slot_stands_where_it_was_made(make_pair: MakePair) -> None:
    """Prevents a first start from a slot that was made anew after the copy."""
    pair = make_pair(rows=20, **TWO)
    schema.apply(pair.settings)
    copy.run(pair.settings)
    pair.source.execute("INSERT INTO tasks (user_id, title) SELECT min(id), 'after the copy' FROM users")
    name = pair.settings.config.subscription
    _drop_slot(pair.source, name)
    pair.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
    with pytest.raises(
        Refused, match=rf"the slot {name} of the source stands at .*, it was made at .* would be missing"
    ):
        replicate.start(pair.settings)
    for connection in (pair.source, pair.target):
        assert count(connection, "SELECT count(*) FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid "
                                 "WHERE datname = current_database() AND subenabled") == 0  # fmt: skip


def test_a_clone_that_takes_the_slot_is_told_and_what_it_took_fails(make_pair: MakePair) -> None:
    """Prevents writes that a restored snapshot of the source reads in the source's place: its subscription comes up enabled."""
    pair = running(make_pair, rows=40, **TWO)
    settings = pair.settings
    name = settings.config.reverse_subscription
    replicate.stop(settings)
    clone = _clone_of_the_source(pair)
    clone_name = clone.info.dbname
    try:
        for _ in range(5):
            pair.target.execute(INSERT)
        wait_until(
            lambda: count(clone, "SELECT count(*) FROM tasks WHERE title = 'gap'"),
            lambda rows: rows == 5,
            what="the clone to take them",
            timeout=30,
        )
        pair.source.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(name)))
        found = wait_until(
            lambda: _failing(replicate.status(settings, fence_timeout=1.0)).get("reverse: not running", ""),
            lambda text: "read by another" in text,
            what="status to tell of the clone",
            timeout=30,
        )
        assert f"ALTER SUBSCRIPTION {name} DISABLE" in found
    finally:
        for action in ("DISABLE", "SET (slot_name = NONE)"):
            clone.execute(sql.SQL("ALTER SUBSCRIPTION {} " + action).format(sql.Identifier(name)))
        clone.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(name)))
        clone.close()
        pair.source_server.execute(f'DROP DATABASE "{clone_name.replace(chr(34), chr(34) * 2)}"')
    with pytest.raises(Refused, match="5 writes of the target are n"):
        wait_until(lambda: _started(pair), bool, what="the slot to be free", timeout=30)
    assert count(pair.source, "SELECT count(*) FROM tasks WHERE title = 'gap'") == 0


def _started(pair: Pair) -> bool:
    try:
        replicate.start(pair.settings, timeout=5)
    except Refused:
        raise
    except MigrationError:
        return False
    return True


def _clone_of_the_source(pair: Pair) -> psycopg.Connection[Any]:
    """A database like the source on the same server, as a restored snapshot would be: its record of writes, its subscription on."""
    database = pair.source.info.dbname
    name = f"{database} clone"
    with psycopg.connect(pair.source_server.url(), autocommit=True) as server:
        pair.source.close()
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
        clone = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        wait_until(
            lambda: _made(server, clone.format(sql.Identifier(name), sql.Identifier(database))),
            bool,
            what="the clone",
            timeout=30,
        )
    pair.source = psycopg.connect(pair.settings.source(), autocommit=True)
    connection = psycopg.connect(pair.source_server.url(name), autocommit=True)
    config = pair.settings.config
    connection.execute(
        sql.SQL(
            "CREATE SUBSCRIPTION {0} CONNECTION {1} PUBLICATION {2} WITH (create_slot = false, slot_name = {0}, copy_data = false)"
        ).format(
            sql.Identifier(config.reverse_subscription),
            sql.Literal(pair.settings.target()),
            sql.Identifier(config.reverse_publication),
        )
    )
    return connection


def _made(server: psycopg.Connection[Any], statement: sql.Composed) -> bool:
    try:
        server.execute(statement)
    except psycopg.errors.ObjectInUse:
        return False
    return True


def _off_and_on(connection: psycopg.Connection[Any]) -> None:
    connection.execute("ALTER TABLE tasks DISABLE TRIGGER ALL")
    connection.execute("ALTER TABLE tasks ENABLE TRIGGER ALL")


def _back_to_always(connection: psycopg.Connection[Any]) -> None:
    _off_and_on(connection)
    for trigger in (record.CAPTURE, record.NO_TRUNCATE):
        connection.execute(sql.SQL("ALTER TABLE tasks ENABLE ALWAYS TRIGGER {}").format(sql.Identifier(trigger)))


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize(
    ("away", "told"),
    [
        (
            lambda c: c.execute("ALTER TABLE tasks DISABLE TRIGGER ALL"),
            f"{record.CAPTURE} of tasks is switched off",
        ),
        (_off_and_on, f"{record.CAPTURE} of tasks is on for local sessions only"),
        (_back_to_always, f"{record.CAPTURE} of tasks was switched off, or made anew, meanwhile"),
        (
            lambda c: c.execute(f'DROP TRIGGER "{record.CAPTURE}" ON tasks'),
            f"tasks has no trigger {record.CAPTURE}",
        ),
        (
            lambda c: c.execute(f'DROP TRIGGER "{record.NO_TRUNCATE}" ON tasks'),
            f"tasks has no trigger {record.NO_TRUNCATE}",
        ),
    ],
    ids=["off", "off and on", "off and always", "dropped", "truncate"],
)
def test_a_trigger_that_was_off_fails_until_both_sides_are_proven_equal(
    make_pair: MakePair, side: str, away: Callable[[psycopg.Connection[Any]], object], told: str
) -> None:
    """Prevents writes that leave no record and are told nowhere: a trigger that was off for a moment looks like the others after."""
    pair = running(make_pair, rows=40, **TWO)
    settings = pair.settings
    connection = getattr(pair, side)
    assert _failing(replicate.status(settings)) == {}
    away(connection)
    # The live application's answers stay its own.
    row = connection.execute(f"{INSERT} RETURNING id").fetchone()
    assert row is not None
    assert told in _failing(replicate.status(settings))[f"{side}: triggers"]
    replicate.start(settings)
    found = _failing(replicate.status(settings))
    assert set(found) == {f"{side}: writes without a record"}
    assert told in found[f"{side}: writes without a record"]
    assert verify.run(settings, repair="newest").match
    assert verify.run(settings).match
    assert _failing(replicate.status(settings)) == {}
    for one in (pair.source, pair.target):
        assert count(one, f"SELECT count(*) FROM tasks WHERE id = {row[0]}") == count(
            connection, f"SELECT count(*) FROM tasks WHERE id = {row[0]}"
        )


def test_what_arrives_is_watched_as_well(make_pair: MakePair) -> None:
    """Prevents records that arrive and are applied to nothing."""
    pair = running(make_pair, rows=20, **TWO)
    pair.target.execute("ALTER TABLE task_migration.source_writes DISABLE TRIGGER task_migration_arrive")
    assert (
        "task_migration_arrive of source_writes is switched off"
        in _failing(replicate.status(pair.settings))["target: triggers"]
    )


@pytest.mark.parametrize("side", ["source", "target"])
def test_truncate_is_refused_while_it_runs(make_pair: MakePair, side: str) -> None:
    """Prevents a table that is empty on one side alone: TRUNCATE fires no trigger for rows."""
    pair = running(make_pair, rows=40, **TWO)
    connection = getattr(pair, side)
    rows = [count(connection, f"SELECT count(*) FROM {table}") for table in ("tasks", "task_tag")]
    for statement in ("TRUNCATE task_tag", "TRUNCATE tasks CASCADE"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="the other side would keep its rows"):
            connection.execute(statement)
    for one in (pair.source, pair.target):
        assert [count(one, f"SELECT count(*) FROM {table}") for table in ("tasks", "task_tag")] == rows
    assert replicate.status(pair.settings).status != "fail"


def test_a_clock_that_went_back_and_a_side_that_forgot(make_pair: MakePair) -> None:
    """Prevents new writes that lose to older ones, and a restored side that hands out numbers that are taken."""
    pair = running(make_pair, rows=20, **TWO)
    settings = pair.settings
    for _ in range(3):
        pair.target.execute(INSERT)
    replicate.wait(settings)
    pair.target.execute("ALTER SEQUENCE task_migration.clock RESTART WITH 1")
    assert "the clock stands at 1, behind the write" in _failing(replicate.status(settings))["target: an older state"]
    pair.target.execute(
        "SELECT setval('task_migration.clock', (SELECT max(v) FROM task_migration.target_writes) + 2000)"
    )
    assert _failing(replicate.status(settings)) == {}
    # A state of before the last writes, of which the other side has records that no prune has taken.
    last = [count(pair.target, f"{INSERT} RETURNING id") for _ in range(3)]
    wait_until(
        lambda: count(pair.source, f"SELECT count(*) FROM tasks WHERE id >= {min(last)}"),
        lambda rows: rows == 3,
        what="three writes to arrive",
        timeout=20,
    )
    gone = pair.target.execute(
        "DELETE FROM task_migration.target_writes WHERE kind = 'insert' AND v > (SELECT (value ->> 'v')::bigint "
        "FROM task_migration.settings WHERE name = 'known')"
    ).rowcount
    assert gone >= 3
    status = replicate.status(settings)
    assert (
        f"{gone} writes of its own, of the newest that the other side has, are not known here"
        in _failing(status)["target: an older state"]
    )
