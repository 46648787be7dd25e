"""The whole data plane in order, on two real servers with an awkward password and database name."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
import pytest

from scripts.backup import run as backup
from scripts.copy import run as copy
from scripts.finish import abandon, finalize, removal
from scripts.preflight import run as preflight
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import DataDiffer, Refused
from scripts.support.progress import Progress, Work
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from scripts.verify.documents import RowDifference
from tests.conftest import AWKWARD_PASSWORD, Pair
from tests.integration.conflict_log import told

MakePair = Callable[..., Pair]


def running(make_pair: MakePair, rows: int = 200, **config: Any) -> Pair:
    """A pair whose replication runs both ways."""
    pair = make_pair(rows=rows, **config)
    schema.apply(pair.settings)
    copy.run(pair.settings)
    replicate.start(pair.settings)
    return pair


def count(connection: psycopg.Connection[Any], query: str) -> int:
    """The one number that ``query`` answers."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


class Told(Progress):
    """Remembers each piece of work that was told of."""

    def __init__(self) -> None:
        self.works: list[Work] = []

    @contextmanager
    def work(self, name: str, total: float | None, unit: str, *, detail: bool = False) -> Iterator[Work]:
        with super().work(name, total, unit, detail=detail) as work:
            self.works.append(work)
            yield work


class Writer:
    """Inserts tasks, and updates its side's own column of ten tasks that were there, as fast as it can until stopped.

    It remembers each acknowledged id, and the last acknowledged value of each of the ten. `reward` is the monolith's column, `span` the
    Task Service's.
    """

    def __init__(self, url: str) -> None:
        self.url, self.ids, self.values = url, list[int](), dict[int, int]()
        self.column = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            here = self.url_has_users(connection)
            self.column = "reward" if here else "span"
            users = "min(id), '書く', now() FROM users" if here else "min(user_id), '書く', now() FROM tasks"
            insert = f"INSERT INTO tasks (user_id, title, updated_at) SELECT {users} RETURNING id"
            update = f"UPDATE tasks SET {self.column} = %s WHERE id = %s"
            edited = [row[0] for row in connection.execute("SELECT id FROM tasks ORDER BY id LIMIT 10")]
            while not self._stop.wait(0.001):
                row = connection.execute(insert.encode()).fetchone()
                assert row is not None
                self.ids.append(row[0])
                for number in edited[len(self.ids) % 10 :][:1]:
                    if connection.execute(update.encode(), (len(self.ids), number)).rowcount:
                        self.values[number] = len(self.ids)

    def lost(self, *connections: psycopg.Connection[Any]) -> list[str]:
        """What was acknowledged and is not on one of these sides, in words."""
        found = []
        for connection in connections:
            there = {row[0] for row in connection.execute("SELECT id FROM tasks")}
            found += [f"task {number} is missing" for number in self.ids if number not in there]
            query = f"SELECT id, {self.column or 'span'} FROM tasks WHERE id = ANY(%s)"
            values = dict(connection.execute(query.encode(), (list(self.values),)).fetchall())
            found += [
                f"task {number}: {self.column} {value} acknowledged, {values.get(number)} is there"
                for number, value in self.values.items()
                if values.get(number) != value
            ]
        return found

    def url_has_users(self, connection: psycopg.Connection[Any]) -> bool:
        row = connection.execute("SELECT to_regclass('users') IS NOT NULL").fetchone()
        return bool(row and row[0])

    def more(self, rows: int = 20) -> None:
        """Wait until so many more rows are acknowledged."""
        enough = len(self.ids) + rows
        wait_until(lambda: len(self.ids), lambda count: count >= enough, what="rows of the writer", timeout=60)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_the_plan_from_preflight_to_finalize(make_pair: MakePair, tmp_path: Any) -> None:
    """Prevents a step that works alone and not after the one before it."""
    pair = make_pair(rows=300)
    settings = pair.settings
    checked = preflight.run(settings)
    assert checked.passed, [check for check in checked.checks if check.status == "fail"]
    saved = backup.run(settings, str(tmp_path / "backup"))
    assert saved.restore_verified is True
    assert saved.objects == {
        "constraints": 30,
        "functions": 0,
        "indexes": 23,
        "sequences": 9,
        "tables": 10,
        "triggers": 0,
    }
    assert {"location", "sha256", "bytes", "restore_verified", "tables"} <= set(saved.plain())
    made = schema.apply(settings)
    assert made.match
    assert made.created == list(settings.config.tables)
    copied = copy.run(settings, jobs=2)
    assert schema.diff(settings).match
    assert {table.table: table.rows for table in copied.tables}["tasks"] == 300
    replicate.start(settings)
    state = replicate.status(settings)
    assert state.forward.running
    assert state.reverse.running
    assert state.forward.lag_seconds is not None
    assert state.forward.lag_seconds < 5
    found = verify.run(settings)
    assert found.match, found
    assert finalize.run(settings, dry_run=True).status == "dry-run"
    progress = Told()
    done = finalize.run(settings, progress=progress)
    assert done.status == "finalized"
    assert [work.name for work in progress.works] == [
        "compare both sides",
        "wait for the monolith's last writes",
        "bring the last writes over",
        "compare both sides",
        "stop replication",
    ]
    assert removal.leftovers(settings) == []
    assert AWKWARD_PASSWORD not in str(list(settings.journal.events()))


def test_no_hole_between_copy_and_replication(make_pair: MakePair) -> None:
    """Prevents the plan's third mistake: rows written while the copy runs, or before replication starts, are lost."""
    pair = make_pair(rows=2000)
    schema.apply(pair.settings)
    with Writer(pair.settings.source()) as writer:
        writer.more(21)
        copy.run(pair.settings, jobs=4)
        copied = len(writer.ids)
        writer.more()
        replicate.start(pair.settings)
        writer.more()
    assert copied > 20
    assert len(writer.ids) > copied
    fence.forward(pair.settings)
    assert writer.lost(pair.target) == []
    assert verify.run(pair.settings).match


def test_both_directions_without_loop(make_pair: MakePair) -> None:
    """Prevents a change that comes back to where it was made, and one that never arrives."""
    pair = running(make_pair)
    with Writer(pair.settings.source()) as first, Writer(pair.settings.target()) as second:
        first.more(100)
        second.more(100)
    fence.both(pair.settings)
    for connection in (pair.source, pair.target):
        assert first.lost(connection) + second.lost(connection) == []
        # Each side has its own columns of the ten rows that both write: nothing conflicts, and a loop would show here.
        assert count(connection, "SELECT count(*) FROM task_migration.conflicts") == 0
    assert min(second.ids) >= pair.settings.config.sequence_band_start
    assert max(first.ids) < pair.settings.config.sequence_band_start
    assert verify.run(pair.settings).match


def test_duplicate_tag_on_both_sides_does_not_stop_apply(make_pair: MakePair) -> None:
    """Prevents an apply worker that stops for ever on the same (task, tag) inserted on both sides."""
    pair = running(make_pair)
    replicate.stop(pair.settings)
    query = "INSERT INTO task_tag SELECT min(id), 4242 FROM tasks"
    pair.source.execute("INSERT INTO tags (id, user_id, name) SELECT 4242, min(id), 'x' FROM users") if count(
        pair.source,
        "SELECT count(*) FROM information_schema.columns WHERE table_name = 'tags' AND column_name = 'user_id'",
    ) else pair.source.execute("INSERT INTO tags (id, name) VALUES (4242, 'x')")
    for connection in (pair.source, pair.target):
        connection.execute(query)
    # The second unique key: the same tag name of one schedule, under ids of their own.
    named = "INSERT INTO scheduled_task_tags (scheduled_task_id, tag_name) SELECT min(id), 'twice' FROM scheduled_group_tasks"
    for connection in (pair.source, pair.target):
        connection.execute(named)
    replicate.start(pair.settings)
    status = replicate.status(pair.settings)
    assert status.forward.apply_errors == 0
    assert status.reverse.apply_errors == 0
    # The same tag twice is what both wanted; of the two names one stays, and the other is told.
    (lost,) = told(pair.settings)
    assert (lost["table"], lost["kind"]) == ("scheduled_task_tags", "unique claim")
    assert verify.run(pair.settings).match
    # The smaller key stays, which is the monolith's.
    band = pair.settings.config.sequence_band_start
    assert count(pair.target, f"SELECT count(*) FROM scheduled_task_tags WHERE tag_name = 'twice' AND id < {band}") == 1


def test_cascades_take_children_of_the_other_side_along(make_pair: MakePair) -> None:
    """Prevents orphans: a task deleted on one side while the other gives it a child."""
    pair = running(make_pair)
    replicate.stop(pair.settings)
    row = pair.source.execute("SELECT min(id), max(id) FROM tasks").fetchone()
    assert row is not None
    first, last = row
    pair.source.execute("DELETE FROM tasks WHERE id = %s", (first,))
    pair.target.execute("DELETE FROM tasks WHERE id = %s", (last,))
    pair.target.execute("INSERT INTO task_images (task_id, file_path) VALUES (%s, 'x')", (first,))
    pair.source.execute("INSERT INTO task_images (task_id, file_path) VALUES (%s, 'x')", (last,))
    replicate.start(pair.settings)
    fence.both(pair.settings)
    assert verify.run(pair.settings).match
    for connection in (pair.source, pair.target):
        assert count(connection, f"SELECT count(*) FROM task_images WHERE task_id IN ({first}, {last})") == 0
        assert count(connection, f"SELECT count(*) FROM tasks WHERE id IN ({first}, {last})") == 0
    assert [(one["table"], one["kind"]) for one in told(pair.settings)] == [("task_images", "parent gone")] * 2


def test_verify_finds_every_kind_and_repairs_it(make_pair: MakePair) -> None:
    """Prevents a verification that passes over a difference, and a repair that is told as somebody's lost write."""
    pair = running(make_pair)
    target = pair.target
    # Damage from outside: it leaves no record.
    target.execute("SET session_replication_role = replica")
    target.execute("SET task_migration.applying = 'on'")
    ids = [row[0] for row in target.execute("SELECT id FROM tasks ORDER BY id LIMIT 3")]
    target.execute("DELETE FROM tasks WHERE id = %s", (ids[0],))
    target.execute("UPDATE tasks SET title = title || '!' WHERE id = %s", (ids[1],))
    target.execute(
        "UPDATE scheduled_group_tasks SET schedules = '{\"a\":  1}' WHERE id = (SELECT min(id) FROM scheduled_group_tasks)"
    )
    target.execute("INSERT INTO task_tag VALUES (%s, 987654)", (ids[2],))
    found = verify.run(pair.settings, show_values=False)
    assert not found.match
    by_table = {table.table: table.differences for table in found.tables}
    assert by_table["tasks"] == [
        RowDifference(key={"id": ids[0]}, kind="missing_on_target", columns=[], values=None),
        RowDifference(key={"id": ids[1]}, kind="different", columns=["title"], values=None),
    ]
    assert by_table["scheduled_group_tasks"][0].columns == ["schedules"]
    assert by_table["task_tag"] == [
        RowDifference(key={"task_id": ids[2], "tag_id": 987654}, kind="missing_on_source", columns=[], values=None)
    ]
    assert found.orphans[0].constraint == "task_tag_tag_id_foreign"
    assert not verify.run(pair.settings, algorithm="md5").match
    before = count(pair.source, "SELECT count(*) FROM task_migration.conflicts")
    mended = verify.run(pair.settings, repair="source")
    assert mended.match
    assert sum(table.repaired for table in mended.tables) == 4
    fence.both(pair.settings)
    assert count(pair.source, "SELECT count(*) FROM task_migration.conflicts") == before
    assert verify.run(pair.settings).match


def test_finalize_refuses_differences_and_leaves_nothing(make_pair: MakePair) -> None:
    """Prevents an end that loses a write of the monolith or leaves a slot that fills its disk."""
    pair = running(make_pair)
    pair.target.execute("SET session_replication_role = replica")
    pair.target.execute("ALTER SUBSCRIPTION " + pair.settings.config.subscription + " DISABLE")
    with pytest.raises(Refused, match="replicate start"):
        finalize.run(pair.settings)
    replicate.start(pair.settings)
    pair.source.execute("ALTER TABLE tasks OWNER TO myteacher_app_user")
    # The monolith could put code on it, and give itself the rights again.
    with pytest.raises(Refused, match=r"public.tasks belongs to myteacher_app_user") as refused:
        finalize.run(pair.settings)
    pair.source.execute(re.findall(r"BEGIN; .*?; COMMIT", str(refused.value))[0].encode())
    with Writer(pair.settings.target()) as service:
        service.more()
        before = list(service.ids)
        done = finalize.run(pair.settings)
        assert len(service.ids) > len(before)
    assert done.leftovers == []
    assert all(entry.select and not entry.insert and not entry.update for entry in done.privileges)
    pair.source.execute("SET ROLE myteacher_app_user")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        pair.source.execute("UPDATE tasks SET title = 'x'")
    # Read while the target wrote on: what it had acknowledged before is there.
    assert set(before) <= {row[0] for row in pair.source.execute("SELECT id FROM tasks")}
    pair.source.execute("RESET ROLE")
    assert finalize.run(pair.settings).status == "already-finalized"
    with pytest.raises(Refused, match="not emptied"):
        abandon.start_over(pair.settings, "copy", 0)
    # Who empties the target now, as a refusal of any other copy says, has the rows nowhere.
    kept = pair.target.execute("SELECT id, title FROM tasks ORDER BY id").fetchall()
    ended = r"`finalize` ended on \S+ \S+ UTC, the Task Service has the current rows: "
    with pytest.raises(Refused, match=ended + "a copy would put the source's older rows in the place of those of the"):
        copy.run(pair.settings)
    with pytest.raises(Refused, match=ended + "replication was removed for good"):
        replicate.start(pair.settings)
    assert removal.leftovers(pair.settings) == []
    assert pair.target.execute("SELECT id, title FROM tasks ORDER BY id").fetchall() == kept
    # Whatever was run since, `finalize` says that it ended, and leaves nothing.
    schema.apply(pair.settings)
    again = finalize.run(pair.settings)
    assert (again.status, again.removed) == ("already-finalized", ["target: schema task_migration"])
    assert removal.leftovers(pair.settings) == []


def test_finalize_stops_at_a_difference(make_pair: MakePair) -> None:
    """Prevents an end with a row that only the source has."""
    pair = running(make_pair)
    pair.target.execute("SET session_replication_role = replica")
    with pair.target.transaction():
        pair.target.execute("SET LOCAL task_migration.applying = 'on'")
        pair.target.execute("DELETE FROM task_images WHERE id = (SELECT min(id) FROM task_images)")
    with pytest.raises(DataDiffer, match="nothing was changed"):
        finalize.run(pair.settings)
    assert fence.available(pair.settings)
    pair.source.execute("SET ROLE myteacher_app_user")
    pair.source.execute("UPDATE tasks SET title = title")


def test_abandon_brings_writes_back_and_copy_starts_again(make_pair: MakePair) -> None:
    """Prevents an abandoned attempt that keeps writes of the Task Service, or blocks the next attempt."""
    pair = running(make_pair)
    with Writer(pair.settings.target()) as writer:
        writer.more()
    done = abandon.run(pair.settings)
    assert done.drained
    assert done.leftovers == []
    assert writer.lost(pair.source) == []
    assert abandon.run(pair.settings).status == "nothing-there"
    abandon.start_over(pair.settings, "copy", 0, "a new attempt", force=True)
    again = copy.run(pair.settings)
    # Ids of the first attempt's band are on the source now; the next band begins above them.
    assert {entry.value for entry in again.sequences} >= {max(writer.ids) + 1}
    replicate.start(pair.settings)
    assert verify.run(pair.settings).match
