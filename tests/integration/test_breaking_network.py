"""Servers, the line between them, their disks and their clocks broken on purpose; rows are counted and compared afterwards."""

from __future__ import annotations

import importlib.util
import itertools
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from components.config import MigrationConfig
from scripts.copy import run as copy
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.data.fill import populate
from scripts.rehearsal.data.schema import create_source_schema
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.replication.documents import Status
from scripts.schema import run as schema
from scripts.support.errors import Refused, TimedOut
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.conftest import AWKWARD_PASSWORD, UNSYNCED, Pair, _drop_database, _drop_subscriptions
from tests.integration.conflict_log import told
from tests.integration.proxy import Proxy
from tests.integration.test_chain import MakePair, Writer, count, running

MIB = 1024**2


def _ids(connection: psycopg.Connection[Any]) -> set[int]:
    return {row[0] for row in connection.execute("SELECT id FROM tasks")}


def _equal(pair: Pair, *writers: Writer) -> None:
    """Both sides hold the same rows, and of each writer every row and the last value of each that it wrote again."""
    for writer in writers:
        assert writer.ids
        assert writer.lost(pair.source, pair.target) == []
    found = verify.run(pair.settings)
    assert found.match, found.tables


def _until(settings: Settings, what: str, done: Callable[[Status], bool], timeout: float = 60) -> Status:
    return wait_until(lambda: replicate.status(settings, 0.5), done, what=what, timeout=timeout)


def test_the_line_cut_for_20_seconds_while_both_sides_write(make_pair: MakePair) -> None:
    """Prevents a lost or doubled row after a cut: broken connections one way, a silent line the other."""
    pair = make_pair(rows=100)
    schema.apply(pair.settings)
    copy.run(pair.settings)
    direct = pair.settings
    with Proxy(pair.source_server.port) as to_source, Proxy(pair.target_server.port) as to_target:
        through = Settings(
            config=direct.config,
            stack=None,
            source_url=SecretStr(direct.source().replace(f":{pair.source_server.port}/", f":{to_source.port}/")),
            target_url=SecretStr(direct.target().replace(f":{pair.target_server.port}/", f":{to_target.port}/")),
            state_dir=direct.state_dir,
        )
        # The subscriptions keep these; every other command goes the direct way.
        replicate.start(through)
        with Writer(direct.source()) as monolith, Writer(direct.target()) as service:
            to_source.cut("refused")
            to_target.cut("silent")
            cut = time.monotonic()
            before = len(monolith.ids), len(service.ids)
            seen = _until(direct, "the cut to be told", lambda state: not state.forward.running, 18)
            assert "cannot use the publisher" in str(seen.forward.reason), seen.forward
            assert AWKWARD_PASSWORD not in str(seen)
            with pytest.raises(
                TimedOut, match=r"fence from the target: not through after 1 s .*last seen: .*lag_bytes"
            ):
                fence.reverse(direct, 1)
            # The time itself: a cut of 20 seconds, whatever was looked at meanwhile.
            time.sleep(max(0.0, 20 - (time.monotonic() - cut)))  # noqa: TID251
            to_source.mend()
            to_target.mend()
            assert len(monolith.ids) > before[0]
            assert len(service.ids) > before[1]
            replicate.wait(direct, 90)
        replicate.wait(direct, 30)
        assert min(to_source.accepted, to_target.accepted) > 0
        _equal(pair, monolith, service)
        state = replicate.status(direct)
        assert state.forward.running, state
        assert state.reverse.running, state
        replicate.stop(direct)


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_server_killed_twice_while_both_sides_write(make_pair: MakePair, which: str) -> None:
    """Prevents loss when a server dies by `kill -9`, and again while it catches up."""
    pair = running(make_pair)
    victim, survivor = (
        (pair.source_server, pair.settings.target())
        if which == "source"
        else (pair.target_server, pair.settings.source())
    )
    mine = pair.settings.source() if which == "source" else pair.settings.target()
    acknowledged: list[int] = []
    with Writer(survivor) as writer:
        for _ in range(2):
            with psycopg.connect(mine, autocommit=True) as doomed:
                for _ in range(20):
                    row = doomed.execute(
                        "INSERT INTO tasks (user_id, title) SELECT min(user_id), 'doomed' FROM tasks RETURNING id"
                    ).fetchone()
                    assert row is not None
                    acknowledged.append(row[0])
                victim.kill()
            victim.start()
    replicate.wait(pair.settings, 60)
    with (
        psycopg.connect(pair.settings.source(), autocommit=True) as source,
        psycopg.connect(pair.settings.target(), autocommit=True) as target,
    ):
        assert _ids(source) == _ids(target) >= set(acknowledged)
        assert writer.lost(source, target) == []
    assert verify.run(pair.settings).match


def test_a_slot_dropped_while_replication_runs(make_pair: MakePair) -> None:
    """Prevents a silent hole: a slot that went is said in every command, and no command goes on without its changes."""
    pair = running(make_pair)
    slot = pair.settings.config.subscription
    pair.target.execute(f"ALTER SUBSCRIPTION {slot} DISABLE".encode())
    wait_until(
        lambda: pair.source.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (slot,)).fetchone(),
        lambda row: row == (False,),
        what="the slot to be free",
        timeout=30,
    )
    pair.source.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
    pair.target.execute(f"ALTER SUBSCRIPTION {slot} ENABLE".encode())
    pair.source.execute("INSERT INTO tasks (user_id, title) SELECT min(id), 'in the hole' FROM users")
    state = replicate.status(pair.settings, 0.5)
    assert state.status == "fail"
    assert "does not exist" in str(state.forward.reason)
    with pytest.raises(TimedOut, match="exists': False"):
        fence.forward(pair.settings, 1)
    with pytest.raises(Refused, match="does not exist"):
        replicate.start(pair.settings)
    # A slot made anew by hand, as one is tempted to, does not bridge the hole unseen.
    pair.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))
    pair.source.execute("INSERT INTO tasks (user_id, title) SELECT min(id), 'after the hole' FROM users")
    fence.forward(pair.settings, 30)
    found = verify.run(pair.settings)
    assert [d.kind for table in found.tables for d in table.differences] == ["missing_on_target"]
    assert replicate.status(pair.settings).status == "fail"
    with pytest.raises(Refused, match=r"writes of the source are not on the target.*No slot made by hand"):
        replicate.start(pair.settings)


def test_a_target_read_only_then_out_of_disk(make_pair: MakePair) -> None:
    """Prevents a hole after a target that takes no writes: what stops the worker is named, and mended it goes on by itself.

    The full disk is a limit on the size of the server's files (setrlimit), as a real one needs a file system of its own.
    """
    pair = running(make_pair)
    database = psycopg.sql.Identifier(pair.target.info.dbname)
    # A worker takes the setting up when it starts.
    replicate.stop(pair.settings)
    pair.target.execute(psycopg.sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(database))
    pair.target.execute("SET default_transaction_read_only = off")
    pair.target.execute(f"ALTER SUBSCRIPTION {pair.settings.config.subscription} ENABLE".encode())
    # The worker updates a row all the same (PostgreSQL refuses statements, not what replication applies); the rules' own
    # insert is refused.
    pair.source.execute("INSERT INTO tasks (user_id, title) SELECT min(id), 'while read-only' FROM users")
    state = _until(pair.settings, "read-only to be named", lambda seen: seen.forward.error is not None)
    assert state.forward.error is not None
    assert state.forward.error.sqlstate == "25006", state.forward
    assert "read-only" in str(state.forward.reason)
    pair.target.execute(psycopg.sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(database))
    replicate.start(pair.settings, timeout=60)
    _equal(pair)

    # Nothing that the server writes may grow beyond 17 MiB: segments of the log have 16.
    _restart_target(pair, 17 * MIB)
    for number in range(24):
        # A row of 1 MB that does not compress.
        pair.source.execute(
            "UPDATE tasks SET description = %s WHERE id = (SELECT id FROM tasks ORDER BY id OFFSET %s LIMIT 1)",
            (os.urandom(MIB // 2).hex(), number),
        )
    # A busy machine may cut a look short, as it holds locks for 300 ms at most; the next one says it.
    state = _until(
        pair.settings, "the full disk to be named", lambda seen: "could not extend file" in str(seen.forward.reason), 90
    )
    assert state.forward.error is not None
    assert state.forward.error.table == "tasks", state.forward
    assert len(str(state.forward.reason)) < 2000
    _restart_target(pair, None)
    replicate.wait(pair.settings, 90)
    assert count(pair.target, "SELECT max(length(description)) FROM tasks") == MIB
    _equal(pair)


def _restart_target(pair: Pair, largest_file: int | None) -> None:
    """Stop the target's server and start it under another limit, which it has from this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    pair.target.close()
    pair.target_server.stop()
    try:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
        pair.target_server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    pair.target = psycopg.connect(pair.settings.target(), autocommit=True)


class AheadPostgres(EmbeddedPostgres):
    """A server whose clock is 5 s ahead, by libfaketime."""

    def _environment(self) -> dict[str, str]:
        found = importlib.util.find_spec("libfaketime")
        assert found is not None
        assert found.origin is not None
        library = Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
        return {
            **super()._environment(),
            "LD_PRELOAD": str(library),
            "FAKETIME": "+5s",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.fixture
def ahead(source_server: EmbeddedPostgres, server_directory: Path, tmp_path: Path) -> Iterator[Pair]:
    """A pair whose target's clock is 5 s ahead."""
    name = f"ahead_{next(_numbers)}"
    with AheadPostgres(server_directory, "ahead", settings=UNSYNCED, password=AWKWARD_PASSWORD) as server:
        source_server.start().execute(f"CREATE DATABASE {name}")
        server.execute(f"CREATE DATABASE {name}")
        values = {"replicationEngine": "native", "subscription": f"sub_{name}", "publication": f"pub_{name}"}
        settings = Settings(
            config=MigrationConfig.model_validate(values),
            stack=None,
            source_url=SecretStr(source_server.url(name)),
            target_url=SecretStr(server.url(name)),
            state_dir=tmp_path / "state",
        )
        with (
            psycopg.connect(settings.source(), autocommit=True) as source,
            psycopg.connect(settings.target(), autocommit=True) as target,
        ):
            pair = Pair(settings, source, target, source_server, server)
            create_source_schema(source)
            populate(source, 60, 1)
            yield pair
        for step in (_drop_subscriptions, _drop_database):
            for each in (source_server, server):
                step(each, name)


_numbers = itertools.count(1)


def test_a_clock_5_seconds_apart(ahead: Pair) -> None:
    """Prevents a clock that has a part in what is kept: who knew the other's write replaces it, whatever the clocks say."""
    settings = ahead.settings
    row = ahead.target.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
    assert row is not None
    assert 3 < float(row[0]) - time.time() < 7
    schema.apply(settings)
    copy.run(settings)
    replicate.start(settings)
    ids = [found[0] for found in ahead.source.execute("SELECT id FROM tasks ORDER BY id OFFSET 10 LIMIT 20")]
    update = "UPDATE tasks SET title = %s, updated_at = now() WHERE id = %s"
    with Writer(settings.source()) as monolith, Writer(settings.target()) as service:
        # The source knows of the target's write; by its clock its own is the older one.
        for number in ids[:10]:
            ahead.target.execute(update, ("target", number))
        fence.both(settings, 60)
        for number in ids[:10]:
            ahead.source.execute(update, ("source", number))
        # Columns of their own, written without knowing of each other.
        for number in ids[10:]:
            ahead.source.execute("UPDATE tasks SET title = 'source', updated_at = now() WHERE id = %s", (number,))
            ahead.target.execute("UPDATE tasks SET priority = 2, updated_at = now() WHERE id = %s", (number,))
    fence.both(settings, 60)
    for connection in (ahead.source, ahead.target):
        found = connection.execute("SELECT id FROM tasks WHERE title = 'source' ORDER BY id").fetchall()
        assert [one[0] for one in found] == ids
        assert (
            count(connection, f"SELECT count(*) FROM tasks WHERE priority = 2 AND id >= {ids[10]} AND id <= {ids[-1]}")
            == 10
        )
    assert told(settings) == []
    _equal(ahead, monolith, service)
    state = replicate.status(settings)
    assert (state.forward.apply_errors, state.reverse.apply_errors) == (0, 0)
