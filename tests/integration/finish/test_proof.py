"""finalize proves that the target has every write of the source, from the record of writes, before anything is removed."""

from __future__ import annotations

import itertools

import pytest
from psycopg import sql

from components.config import MigrationConfig
from scripts.database.connections import Connection
from scripts.finish import finalize, removal, rights
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.support.errors import DatabaseError, DataDiffer, Refused
from scripts.support.safety import State
from scripts.support.wait import wait_until
from tests.conftest import Pair, unseen
from tests.integration.test_chain import MakePair, count, running
from tests.journal import last


def _hole(pair: Pair, statement: str) -> None:
    """A write of the source that the slot leaves out, as one that was advanced by hand."""
    name = pair.settings.config.subscription
    pair.target.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(name)))
    pair.source.execute(statement.encode())
    wait_until(
        lambda: count(pair.source, f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}' AND active"),
        lambda active: active == 0,
        what="the slot to be free",
        timeout=30,
    )
    pair.source.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", (name,))
    pair.target.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(name)))


def test_a_write_that_never_arrived_keeps_finalize_though_the_rows_are_equal(make_pair: MakePair) -> None:
    """Prevents an end over a hole in the stream: what else was in it, nobody can say. Nothing is removed."""
    pair = running(make_pair)
    task = count(pair.source, "SELECT min(id) FROM tasks")
    _hole(pair, f"UPDATE tasks SET title = '届かない' WHERE id = {task}")
    with unseen(pair.target):
        pair.target.execute("UPDATE tasks SET title = '届かない' WHERE id = %s", (task,))
    fence.both(pair.settings, 20)
    with pytest.raises(
        DataDiffer,
        match=f"target has every write of the source, after the revoke; .* 1 writes of the source never arrived at the target, none may be "
        f"missing: update of tasks {task}",
    ):
        finalize.run(pair.settings)
    assert count(pair.source, "SELECT count(*) FROM task_migration.source_writes WHERE kind = 'update'") == 1
    assert fence.available(pair.settings)


def test_finalize_revokes_under_replication_alone_and_keeps_its_proof(make_pair: MakePair) -> None:
    """Prevents an end without its evidence: the writes of the monolith by kind, and what was lost to others."""
    pair = running(make_pair)
    looks = itertools.count(1)

    def stopped_at_the_second() -> State:
        """Somebody stops replication between the comparison and the revoke."""
        if next(looks) == 2:
            replicate.stop(pair.settings)
        return State()

    with pytest.raises(Refused, match="replication does not run both ways, so what either side writes stays there"):
        finalize.run(pair.settings, look=stopped_at_the_second)
    assert rights.source_leads(pair.settings), "the monolith may write as before"
    replicate.start(pair.settings)
    pair.source.execute("UPDATE tasks SET span = 9 WHERE id = (SELECT min(id) FROM tasks)")
    pair.source.execute("DELETE FROM task_images WHERE id = (SELECT min(id) FROM task_images)")
    done = finalize.run(pair.settings)
    assert done.proof is not None
    assert (done.proof.side, done.proof.proven, done.proof.told) == ("source", True, 0)
    assert (done.proof.writes.update, done.proof.writes.delete) == (1, 1)
    kept = last(pair.settings.journal, "finalize", "verified")
    assert kept is not None
    assert kept["proof"] == done.proof.plain()


def test_what_was_not_removed_is_said_and_removed_by_the_next_run(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents an end over a helper schema, and a role that logs in, which nobody knows to be left."""
    pair = running(make_pair, rows=10)
    drop = removal._drop

    def on_the_source_alone(connection: Connection, config: MigrationConfig) -> None:
        if connection.info.port == source:
            drop(connection, config)

    source = pair.source_server.port
    with monkeypatch.context() as patch:
        patch.setattr(removal, "_drop", on_the_source_alone)
        with pytest.raises(
            DatabaseError, match=r"still there after the removal: target: .*task_migration.*run the command again"
        ):
            finalize.run(pair.settings)
    assert last(pair.settings.journal, "finalize", "finalized") is None
    assert finalize.run(pair.settings).status == "finalized"
    assert removal.leftovers(pair.settings) == []
