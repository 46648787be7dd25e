"""Tables that are altered while it runs: values travel, or status fails and the gate refuses until `replicate start` has taken them in."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from scripts.canary import readiness, ready
from scripts.canary.stage import Stage
from scripts.replication import run as replicate
from scripts.support.errors import TimedOut
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.cloud import Cloud
from tests.conftest import Pair
from tests.integration.conflict_log import told
from tests.integration.replication.test_start_refuses import TWO, _failing
from tests.integration.test_chain import MakePair, count, running


def gate(pair: Pair) -> list[str]:
    """Why no weight may go up; empty when it may."""
    cloud: Any = Cloud()
    seen = readiness.observe(Stage(pair.settings, cloud, cloud, None, cloud, metrics=cloud))
    decision = ready.ready(seen, pair.settings.config)
    return [] if decision.verdict == "promote" else list(decision.reasons)


def both(pair: Pair) -> tuple[psycopg.Connection[Any], psycopg.Connection[Any]]:
    return pair.source, pair.target


def test_columns_added_on_both_sides_travel_once_they_are_taken_in(make_pair: MakePair) -> None:
    """Prevents values of a new column that arrive as its default, with status ok, and a repair that spreads the loss."""
    pair = running(make_pair, rows=40, **TWO)
    settings = pair.settings
    ids = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 10")]
    for connection in reversed(both(pair)):
        connection.execute("ALTER TABLE tasks ADD COLUMN mood text NOT NULL DEFAULT 'none'")
    pair.source.execute("UPDATE tasks SET mood = 'good' WHERE id = ANY(%s)", (ids[:5],))
    pair.target.execute("UPDATE tasks SET mood = 'bad', reward = 9 WHERE id = ANY(%s)", (ids[5:],))
    pair.source.execute("INSERT INTO tasks (user_id, title, mood) SELECT min(id), 'moody', 'so so' FROM users")
    found = _failing(replicate.status(settings, fence_timeout=2.0))
    assert "tasks.mood was added" in found["source: tables altered"]
    assert "tasks.mood was added" in found["target: tables altered"]
    assert any("mood" in reason for reason in gate(pair))
    replicate.start(settings)
    assert _failing(replicate.status(settings)) == {}
    for connection in both(pair):
        moods = connection.execute("SELECT mood, count(*) FROM tasks GROUP BY mood ORDER BY mood").fetchall()
        assert moods == [("bad", 5), ("good", 5), ("none", 30), ("so so", 1)]
    assert verify.run(settings).match
    assert gate(pair) == []


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_column_that_one_side_lacks_keeps_its_values_waiting(make_pair: MakePair, side: str) -> None:
    """Prevents values that are dropped as the other side has no such column yet."""
    pair = running(make_pair, rows=20, **TWO)
    settings = pair.settings
    assert verify.run(settings).match  # without it the gate has a reason of its own
    here, there = both(pair) if side == "source" else both(pair)[::-1]
    here.execute("ALTER TABLE tasks ADD COLUMN mood text")
    changed = count(here, "UPDATE tasks SET mood = 'good' WHERE id = (SELECT min(id) FROM tasks) RETURNING id")
    found = _failing(replicate.status(settings, fence_timeout=1.0))
    assert {"schema drift", f"{side}: tables altered"} <= set(found)
    assert gate(pair)
    # Not taken in while the sides differ: what waits does not arrive.
    with pytest.raises(TimedOut):
        replicate.start(settings, timeout=2)
    there.execute("ALTER TABLE tasks ADD COLUMN mood text")
    replicate.start(settings)
    assert count(there, f"SELECT count(*) FROM tasks WHERE id = {changed} AND mood = 'good'") == 1
    assert _failing(replicate.status(settings)) == {}
    assert verify.run(settings).match


def test_columns_renamed_and_dropped(make_pair: MakePair) -> None:
    """Prevents a live write that fails as our trigger asks for a column that is gone, and a value that a rename loses on its way."""
    pair = running(make_pair, rows=20, **TWO)
    settings = pair.settings
    first = count(pair.source, "SELECT min(id) FROM tasks")
    replicate.stop(settings)
    # Recorded under the old name, and one of a column that will be gone.
    pair.source.execute("UPDATE tasks SET due_date = '来週', span = 4 WHERE id = %s", (first,))
    for connection in both(pair):
        connection.execute("ALTER TABLE tasks RENAME COLUMN due_date TO due")
        connection.execute("ALTER TABLE tasks DROP COLUMN span")
    # The live application goes on, on both sides, before anything was taken in.
    pair.source.execute("UPDATE tasks SET due = 'あした' WHERE id = %s", (first + 1,))
    pair.target.execute("UPDATE tasks SET due = 'きょう' WHERE id = %s", (first + 2,))
    row = pair.source.execute(
        "INSERT INTO tasks (user_id, title, due) SELECT min(id), 'n', 'd' FROM users RETURNING due"
    )
    assert row.fetchone() == ("d",)
    found = _failing(replicate.status(settings))
    for side in ("source", "target"):
        assert "tasks.due_date was renamed to due" in found[f"{side}: tables altered"]
        assert "tasks.span was dropped" in found[f"{side}: tables altered"]
    replicate.start(settings)
    assert _failing(replicate.status(settings)) == {}
    for connection in both(pair):
        told = connection.execute(
            "SELECT due FROM tasks WHERE id BETWEEN %s AND %s ORDER BY id", (first, first + 2)
        ).fetchall()
        assert told == [("来週",), ("あした",), ("きょう",)]
    assert verify.run(settings).match


def test_a_type_that_was_changed_is_told(make_pair: MakePair) -> None:
    """Prevents functions that cast to a type that a column no longer has."""
    pair = running(make_pair, rows=20, **TWO)
    assert verify.run(pair.settings).match
    for connection in both(pair):
        connection.execute("ALTER TABLE tasks ALTER COLUMN span TYPE bigint")
    found = _failing(replicate.status(pair.settings))
    assert "tasks.span was integer and is bigint" in found["source: tables altered"]
    assert gate(pair)
    replicate.start(pair.settings)
    pair.source.execute("UPDATE tasks SET span = 5000000000 WHERE id = (SELECT min(id) FROM tasks)")
    replicate.wait(pair.settings)
    assert count(pair.target, "SELECT count(*) FROM tasks WHERE span = 5000000000") == 1
    assert gate(pair) == []


def test_a_key_update_meets_the_other_sides_insert(make_pair: MakePair) -> None:
    """Prevents a worker that stays down: a row takes the key that the other side has just given to another."""
    pair = running(make_pair, rows=20, **TWO)
    settings = pair.settings
    replicate.stop(settings)
    moved = count(pair.source, "SELECT max(id) FROM tasks WHERE id NOT IN (SELECT task_id FROM task_tag)")
    pair.source.execute("DELETE FROM task_images WHERE task_id = %s", (moved,))
    pair.source.execute("UPDATE scheduled_task_executions SET created_task_id = NULL, deleted_task_id = NULL")
    pair.source.execute("UPDATE tasks SET id = 7000000000, title = 'moved here' WHERE id = %s", (moved,))
    pair.target.execute(
        "INSERT INTO tasks (id, user_id, title) SELECT 7000000000, min(user_id), 'born here' FROM tasks"
    )
    replicate.start(settings)
    status = wait_until(
        lambda: replicate.status(settings),
        lambda seen: seen.forward.lag_seconds is not None and seen.reverse.lag_seconds is not None,
        what="fences",
        timeout=30,
    )
    assert (status.forward.apply_errors, status.reverse.apply_errors) == (0, 0)
    assert verify.run(settings).match
    for connection in both(pair):
        assert count(connection, "SELECT count(*) FROM tasks WHERE id = 7000000000") == 1
        assert count(connection, f"SELECT count(*) FROM tasks WHERE id = {moved}") == 0
    assert told(settings), "one of the two titles lost, and is told"
