"""Writes of the monolith that lose to others once nothing carries them: the rollback tells of them, and nobody else could."""

from __future__ import annotations

from scripts.canary import rollback
from scripts.replication import fence, untold, writes
from scripts.replication.directions import slot_name
from scripts.support.wait import wait_until
from tests.cloud import Cloud, short, stage_of
from tests.integration.test_chain import MakePair, count, running


def test_a_loss_that_never_arrives_where_it_would_be_told_is_told_on_the_source(make_pair: MakePair) -> None:
    """Prevents an acknowledged write of the monolith that is overwritten by one that could not know of it, and no word of it."""
    pair = running(make_pair, rows=40, tables=["tasks", "task_tag"])
    settings, name = pair.settings, slot_name(pair.settings, "forward")
    assert untold.tell(settings) == 0

    def dropped() -> bool:
        pair.source.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active", (name,)
        )
        row = pair.source.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active",
            (name,),
        ).fetchone()
        return row is not None

    wait_until(dropped, bool, what="the forward slot is dropped", timeout=30.0, interval=0.01)
    first = count(pair.source, "SELECT min(id) FROM tasks")
    pair.source.execute("UPDATE tasks SET title = 'unseen' WHERE id = %s", (first,))
    # Another column, which the later write leaves alone, is nobody's loss.
    pair.source.execute("UPDATE tasks SET reward = 7 WHERE id = %s", (first,))
    with pair.target.transaction():
        # Its clock goes ahead, as of a side that writes more: the write to the same column has the higher number.
        pair.target.execute("UPDATE tasks SET title = 'other' WHERE id > %s", (first,))
        pair.target.execute("UPDATE tasks SET title = 'later' WHERE id = %s", (first,))
    fence.reverse(settings, 30.0)
    assert pair.source.execute("SELECT title, reward FROM tasks WHERE id = %s", (first,)).fetchone() == ("later", 7)
    assert writes.told(pair.source) == 0
    # A way back tells it before it proves.
    document = rollback.run(stage_of(short(settings), Cloud(25)))
    assert (document.rows.proven, document.rows.told) == (True, 1)
    assert [(loss.table, loss.key, loss.columns) for loss in document.rows.losses] == [
        ("tasks", [str(first)], ["title"])
    ]
    query = "SELECT table_name, kind, columns, lost::jsonb ->> 'title' FROM task_migration.conflicts"
    assert pair.source.execute(query).fetchall() == [("tasks", "update", ["title"], "unseen")]
    assert untold.tell(settings) == 0, "told once"
    # The target is as it was: nothing was applied there.
    assert pair.target.execute("SELECT reward IS DISTINCT FROM 7 FROM tasks WHERE id = %s", (first,)).fetchone() == (
        True,
    )
    assert writes.told(pair.target) == 0
