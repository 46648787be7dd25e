"""Two writers per row, through the commands as people use them: no acknowledged value is lost unsaid.

The oracle is the last acknowledged value of each column, on both sides, with both sides equal without a repair and nothing
in the conflict log where nothing conflicts. The first seven are the table at the top of issue 10, in its order.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.support.sides import BOTH, Side
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.conftest import pairs
from tests.integration.replication.writers import RandomWriter, Told, TwoWriters
from tests.integration.test_chain import count, running

SIDES = pytest.mark.parametrize("side", BOTH)


def other(side: Side) -> Side:
    """The side across."""
    return "target" if side == "source" else "source"


@pytest.fixture(scope="module")
def running_world(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoWriters]:
    """One chain for the whole module: copied, and replicated both ways."""
    directory: Path = tmp_path_factory.mktemp("two-writers")
    with pairs(source_server, target_server, directory) as make:
        world = TwoWriters(running(make, rows=100))
        yield world
        world.close()


@pytest.fixture
def world(running_world: TwoWriters) -> TwoWriters:
    """The chain with a new ledger; each test writes tasks of its own."""
    running_world.fence()
    running_world.begin()
    return running_world


def arrives(world: TwoWriters, side: Side, number: int, **values: Any) -> None:
    """Wait until a task with these values is there, as its reader there would see it."""
    wait_until(
        lambda: world.row(side, "tasks", number),
        lambda row: row is not None and all(row[name] == value for name, value in values.items()),
        what=f"task {number} on the {side}",
        timeout=30,
        interval=0.002,
    )


def winner_of(world: TwoWriters, told: list[Told], column: str, values: dict[int, tuple[Any, Any]]) -> None:
    """Of each task's two values one stands, and the other was told, once, with both."""
    by_key = {int(entry.key[0]): entry for entry in told}
    assert len(told) == len(by_key) == len(values), told
    for number, pair in values.items():
        row = world.both("tasks", number)
        assert row is not None
        (loser,) = set(pair) - {row[column]}
        entry = by_key[number]
        assert (entry.table, entry.kind) == ("tasks", "update")
        assert entry.lost[column] == str(loser)
        assert entry.kept[column] == str(row[column])


def test_an_edit_as_soon_as_the_row_is_there(world: TwoWriters) -> None:
    """The monolith creates, the Task Service edits on arrival, the monolith edits another column at once, or 1.6 s later."""
    made: list[int] = []
    for _ in range(24):
        with world.transaction("source") as monolith:
            row = monolith.execute(
                "INSERT INTO tasks (user_id, title, updated_at) SELECT min(id), 'new', now() FROM users RETURNING id"
            ).fetchone()
            assert row is not None
            monolith.wrote("tasks", row[0], title="new")
        made.append(row[0])
        arrives(world, "target", row[0])
        with world.transaction("target") as service:
            service.execute("UPDATE tasks SET reward = 7, updated_at = now() WHERE id = %s", row[0])
            service.wrote("tasks", row[0], reward=7)
        if len(made) % 2:
            with world.transaction("source") as monolith:
                monolith.execute("UPDATE tasks SET span = 3, updated_at = now() WHERE id = %s", row[0])
                monolith.wrote("tasks", row[0], span=3)
    time.sleep(1.6)  # noqa: TID251  # the gap of the issue: the columns of `updated_at` have seconds
    for number in made[1::2]:
        with world.transaction("source") as monolith:
            monolith.execute("UPDATE tasks SET span = 3, updated_at = now() WHERE id = %s", number)
            monolith.wrote("tasks", number, span=3)
    world.check()


def test_two_columns_at_once(world: TwoWriters) -> None:
    """Each side updates a column of its own; neither knew of the other."""
    for number in world.tasks(50):
        with world.at_once() as (monolith, service):
            monolith.update("tasks", number, title=f"monolith {number}")
            service.update("tasks", number, reward=number % 1000)
    world.check()


@SIDES
def test_an_upsert_and_an_update(world: TwoWriters, side: Side) -> None:
    """`ON CONFLICT DO UPDATE` on one side, an update of another column on the other."""
    upsert = (
        "INSERT INTO tasks (id, user_id, title, reward) SELECT %s, min(user_id), 'never', %s FROM tasks "
        "ON CONFLICT (id) DO UPDATE SET reward = excluded.reward RETURNING title"
    )
    for number in world.tasks(20):
        with world.at_once() as both:
            upserting, updating = both if side == "source" else reversed(both)
            # As the application sees it: the row that was there, not the one that it offered.
            assert upserting.execute(upsert, number, 41).fetchone() == ("new",)
            upserting.wrote("tasks", number, reward=41)
            updating.update("tasks", number, span=12)
    world.check()


def test_savepoints_on_both_sides(world: TwoWriters) -> None:
    """Values of released subtransactions are kept, those of rolled back ones leave no trace."""
    columns = {"source": ("title", "priority", "due_date"), "target": ("description", "reward", "span")}
    values = {"title": "kept", "priority": 2, "description": "kept", "reward": 5, "due_date": "undone", "span": 99}
    for number in world.tasks(20, due_date="before", span=1):
        with world.at_once() as both:
            for transaction, (first, second, undone) in zip(both, columns.values(), strict=True):
                transaction.update("tasks", number, **{first: values[first]})
                with transaction.savepoint():
                    transaction.update("tasks", number, **{second: values[second]})
                    with transaction.savepoint(undo=True):
                        transaction.update("tasks", number, **{undone: values[undone]})
    world.check()


#: Each column is written by one side only; the tables' other columns stay.
OWNED: dict[Side, dict[str, tuple[str, ...]]] = {
    "source": {
        "tasks": ("title", "reward", "description"),
        "task_images": ("file_path",),
        "scheduled_group_tasks": ("reward", "title"),
        "scheduled_task_executions": ("note",),
        "scheduled_task_tags": ("tag_name",),
    },
    "target": {
        "tasks": ("due_date", "span", "priority"),
        "task_images": ("updated_at",),
        "scheduled_group_tasks": ("due_duration_days", "description"),
        "scheduled_task_executions": ("error_message",),
        "scheduled_task_tags": ("updated_at",),
    },
}


def random_writers(world: TwoWriters, tasks: list[int], seed: int) -> tuple[RandomWriter, RandomWriter]:
    """A writer a side: of the given tasks and of some rows of the other tables."""
    found = []
    for side in BOTH:
        cells: list[tuple[str, tuple[Any, ...], str]] = []
        for table, columns in OWNED[side].items():
            keys = [(number,) for number in tasks] if table == "tasks" else sorted(world.rows(side, table))[:4]
            cells += [(table, key, column) for key in keys for column in columns if column != "updated_at"]
        found.append(RandomWriter(world, side, cells, seed))
    return found[0], found[1]


def test_random_updates_of_own_columns(world: TwoWriters) -> None:
    """Each column is written by one side only, in any order and at any moment: nothing conflicts."""
    monolith, service = random_writers(world, world.tasks(6), 5)
    with monolith, service:
        for writer in (monolith, service):
            writer.more(240)
    world.check()


def test_a_long_text_and_another_column_at_once(world: TwoWriters) -> None:
    """A TOASTed description, which an update of another column leaves out of the stream, is not emptied by it."""
    long = secrets.token_hex(20_000)
    for index, number in enumerate(world.tasks(20, description=long)):
        with world.at_once() as both:
            writing, beside = both if index % 2 else reversed(both)
            writing.update("tasks", number, description=secrets.token_hex(20_000))
            beside.update("tasks", number, title="beside")
    for number in world.tasks(4, description=long):
        with world.at_once() as (monolith, service):
            monolith.update("tasks", number, title="left alone")
            service.update("tasks", number, reward=3)
    world.check()


def test_a_write_that_knew_the_other_always_wins(world: TwoWriters) -> None:
    """One column, turn by turn: whoever has seen the other's value replaces it, whatever `updated_at` says."""
    (number,) = world.tasks(1)
    side: Side = "source"
    for turn in range(12):
        side = other(side)
        with world.transaction(side) as writing:
            # A clock that goes backwards, an application that empties the column, one that leaves it alone.
            stamp = ("2031-01-01", "2020-01-01", None)[turn % 3]
            writing.update("tasks", number, title=f"turn {turn}", **({} if turn % 4 == 3 else {"updated_at": stamp}))
            writing.writes[-1][1].pop("updated_at", None)  # type: ignore[union-attr]
        arrives(world, other(side), number, title=f"turn {turn}")
    world.check()


def test_one_column_at_once(world: TwoWriters) -> None:
    """One wins, the same on both sides; the other is told once, with both values; the rest of the two writes is kept."""
    numbers = world.tasks(20)
    values = {}
    for index, number in enumerate(numbers):
        with world.at_once() as both:
            for transaction in both if index % 2 else reversed(both):
                side = "monolith" if transaction is both[0] else "service"
                transaction.update("tasks", number, title=f"{side} {number}")
            both[0].update("tasks", number, reward=1)
            both[1].update("tasks", number, span=2)
        values[number] = (f"monolith {number}", f"service {number}")
        del world.expected["tasks", (number,)]["title"]  # type: ignore[union-attr]
    told = world.check(told=20)
    assert {entry.columns for entry in told} == {("title",)}
    winner_of(world, told, "title", values)


def test_the_same_value_at_once_is_no_conflict_of_two_values(world: TwoWriters) -> None:
    """Both sides mark a task as done: what both wanted stands."""
    for number in world.tasks(5):
        with world.at_once() as both:
            for transaction in both:
                transaction.update("tasks", number, priority=1)
    world.check()


def test_updated_at_alone_is_never_told(world: TwoWriters) -> None:
    """Every Laravel write touches `updated_at`; two columns at once are no conflict for that."""
    for number in world.tasks(10):
        with world.at_once() as (monolith, service):
            monolith.update("tasks", number, title="monolith", updated_at="2030-01-01T00:00:00")
            service.update("tasks", number, reward=4, updated_at="2031-01-01T00:00:00")
        del world.expected["tasks", (number,)]["updated_at"]  # type: ignore[union-attr]
    world.check()


def test_a_group_of_columns_is_decided_whole(world: TwoWriters) -> None:
    """`is_completed` with `completed_at`, `approved_at` with `approved_by_user_id`: never one's flag with the other's time."""
    approver = count(world.pair.source, "SELECT min(id) FROM users")
    numbers = world.tasks(10, is_completed=True, completed_at="2029-01-01T00:00:00")
    for number in numbers[:5]:
        with world.at_once() as (monolith, service):
            monolith.update("tasks", number, completed_at="2030-01-01T00:00:00")
            service.update("tasks", number, is_completed=False, completed_at=None)
            service.update("tasks", number, span=8)
    for number in numbers[5:]:
        with world.at_once() as (monolith, service):
            monolith.update("tasks", number, approved_at="2030-01-01T00:00:00", approved_by_user_id=approver)
            service.update("tasks", number, approved_at="2031-01-01T00:00:00", approved_by_user_id=approver + 1)
    for number in numbers:
        kept = {name: 8 for name in ("span",) if number in numbers[:5]}
        world.expected["tasks", (number,)] = {"title": "new", **kept}
    told = world.check(told=10)
    for number in numbers[:5]:
        row = world.both("tasks", number)
        assert row is not None
        assert (row["is_completed"], row["completed_at"]) in ((True, "2030-01-01T00:00:00"), (False, None))
    for number in numbers[5:]:
        row = world.both("tasks", number)
        assert row is not None
        assert (row["approved_at"], row["approved_by_user_id"]) in (
            ("2030-01-01T00:00:00", approver),
            ("2031-01-01T00:00:00", approver + 1),
        )
    assert {entry.columns for entry in told} == {
        ("completed_at", "is_completed"),
        ("approved_at", "approved_by_user_id"),
    }


@SIDES
def test_an_edit_against_a_delete(world: TwoWriters, side: Side) -> None:
    """A row deleted on one side and edited on the other stays deleted on both, and the edit is told with its values."""
    numbers = world.tasks(5)
    for number in numbers:
        with world.at_once() as both:
            deleting, editing = both if side == "source" else reversed(both)
            deleting.delete("tasks", number)
            editing.update("tasks", number, title="for nobody", reward=9)
        world.expected["tasks", (number,)] = None
    told = world.check(told=5)
    assert {(int(entry.key[0]), entry.kind) for entry in told} == {(number, "update of deleted") for number in numbers}
    assert all((entry.lost["title"], entry.lost["reward"]) == ("for nobody", "9") for entry in told)


@SIDES
def test_a_delete_that_knew_the_edit_and_the_reverse(world: TwoWriters, side: Side) -> None:
    """Nothing conflicts where one came after the other had arrived."""
    for number in world.tasks(3):
        with world.transaction(side) as editing:
            editing.update("tasks", number, title="last words")
        arrives(world, other(side), number, title="last words")
        with world.transaction(other(side)) as deleting:
            deleting.delete("tasks", number)
    world.check()


@SIDES
def test_deleted_and_made_anew(world: TwoWriters, side: Side) -> None:
    """A row deleted and inserted again under its key, in one transaction or two, known and unknown to an edit across."""
    tasks = world.tasks(1)
    user = count(world.pair.target, "SELECT min(user_id) FROM tasks")
    once, twice, known = world.tasks(3, reward=1)
    for number, at_once in ((once, True), (known, False)):
        with world.at_once() as both:
            remaking, editing = both if side == "source" else reversed(both)
            remaking.delete("tasks", number)
            remaking.insert("tasks", number, user_id=user, title="anew")
            if at_once:
                editing.update("tasks", number, reward=6)
    with world.transaction(side) as deleting:
        deleting.delete("tasks", twice)
    with world.transaction(side) as making:
        making.insert("tasks", twice, user_id=user, title="anew")
    # The edit across knew nothing of the new row: it stands or it is told.
    world.expected["tasks", (once,)].pop("reward", None)  # type: ignore[union-attr]
    told = world.check(told=None)
    row = world.both("tasks", once)
    assert row is not None
    if row["reward"] == 6:
        assert told == []
    else:
        (entry,) = told
        assert entry.lost == {"reward": "6"}
    for number in (known, twice):
        row = world.both("tasks", number)
        assert row is not None
        assert row["reward"] is None
    # Detach all, attach some: what a tag sync does, on both sides at once, with tags of their own.
    tags = [row[0] for row in world.pair.source.execute("SELECT id FROM tags ORDER BY id LIMIT 4")]
    for tag in tags[:2]:
        with world.transaction("source") as monolith:
            monolith.insert("task_tag", tasks[0], tag)
    world.fence()
    with world.at_once() as (monolith, service):
        monolith.delete("task_tag", tasks[0], tags[0])
        monolith.insert("task_tag", tasks[0], tags[2])
        service.delete("task_tag", tasks[0], tags[1])
        service.insert("task_tag", tasks[0], tags[3])
    world.check(told=len(told))
    assert {key for key in world.rows("target", "task_tag") if key[0] == tasks[0]} == {
        (tasks[0], tags[2]),
        (tasks[0], tags[3]),
    }


def test_one_key_inserted_on_both_sides(world: TwoWriters) -> None:
    """The same tag attached on both sides is no loss; two different tasks under one key are: one is told whole."""
    (task,) = world.tasks(1)
    tag = count(world.pair.source, "SELECT min(id) FROM tags")
    user = count(world.pair.source, "SELECT min(id) FROM users")
    number = 900_000_001
    with world.at_once() as both:
        for transaction, side in zip(both, BOTH, strict=True):
            transaction.insert("task_tag", task, tag)
            transaction.insert("tasks", number, user_id=user, title=side, reward=3)
    world.expected["tasks", (number,)] = {"reward": 3}
    (told,) = world.check(told=1)
    row = world.both("tasks", number)
    assert row is not None
    assert {told.lost["title"], told.kept["title"]} == set(BOTH)
    assert told.kept["title"] == row["title"]
    assert (told.table, told.key) == ("tasks", (str(number),))


def test_one_unique_value_claimed_on_both_sides(world: TwoWriters) -> None:
    """The same name of one schedule under two ids: the row with the smaller key stays on both sides, the other is told whole
    (docs/architecture.md, 'Two writers of one row')."""
    schedule = count(world.pair.source, "SELECT min(id) FROM scheduled_group_tasks")
    with world.at_once() as both:
        for number, transaction in zip((900_000_002, 900_000_003), both, strict=True):
            transaction.insert("scheduled_task_tags", number, scheduled_task_id=schedule, tag_name="claimed")
    world.expected.clear()
    (told,) = world.check(told=1)
    assert told.kind == "unique claim"
    assert told.table == "scheduled_task_tags"
    (stays,) = (key[0] for key, row in world.rows("target", told.table).items() if row["tag_name"] == "claimed")
    assert (stays, told.key) == (900_000_002, ("900000003",))
    assert told.lost["tag_name"] == "claimed"


@SIDES
def test_a_parent_deleted_while_it_gets_children(world: TwoWriters, side: Side) -> None:
    """No orphan stays on any side: what cascades is gone and told, what is set to NULL is told with what it was."""
    (number,) = world.tasks(1)
    tag = count(world.pair.source, "SELECT min(id) FROM tags")
    schedule = count(world.pair.source, "SELECT min(id) FROM scheduled_group_tasks")
    image, execution = (900_000_010, 900_000_011) if side == "source" else (900_000_012, 900_000_013)
    with world.at_once() as both:
        deleting, adding = both if side == "source" else reversed(both)
        deleting.delete("tasks", number)
        adding.insert("task_images", image, task_id=number, file_path="x.png")
        adding.insert("task_tag", number, tag)
        adding.insert(
            "scheduled_task_executions",
            execution,
            scheduled_task_id=schedule,
            executed_at="2030-01-01T00:00:00",
            created_task_id=number,
            note="kept",
        )
    world.expected = {
        ("tasks", (number,)): None,
        ("task_images", (image,)): None,
        ("task_tag", (number, tag)): None,
        ("scheduled_task_executions", (execution,)): {"created_task_id": None, "note": "kept"},
    }
    told = world.check(told=3)
    assert {entry.kind for entry in told} == {"parent gone"}
    lost = {entry.table: entry.lost for entry in told}
    assert lost["task_images"]["file_path"] == "x.png"
    assert lost["scheduled_task_executions"]["created_task_id"] == str(number)
    assert set(lost) == {"task_images", "task_tag", "scheduled_task_executions"}


def test_what_arrives_in_one_transaction(world: TwoWriters) -> None:
    """AWS DMS commits once a second: a child and what the other side's rules made of it come at once, and it is told all the same.

    Delivered by hand here, in one transaction; the worker, switched on again, delivers it once more.
    """
    (number,) = world.tasks(1)
    source, target = world.admin("source"), world.admin("target")
    schedule = count(source, "SELECT min(id) FROM scheduled_group_tasks")
    image, execution = 900_000_040, 900_000_041
    before = count(target, "SELECT last_value FROM task_migration.clock")
    name = world.pair.settings.config.reverse_subscription
    source.execute(f"ALTER SUBSCRIPTION {name} DISABLE".encode())
    with world.transaction("target") as service:
        service.insert("task_images", image, task_id=number, file_path="x.png")
        service.insert(
            "scheduled_task_executions",
            execution,
            scheduled_task_id=schedule,
            executed_at="2030-01-01T00:00:00",
            created_task_id=number,
        )
    with world.transaction("source") as monolith:
        monolith.delete("tasks", number)
    fence.forward(world.pair.settings, 60)
    columns = "v, table_name, key, kind, vals, cause, at"
    records = target.execute(
        f"SELECT {columns} FROM task_migration.target_writes WHERE v > {before} ORDER BY v".encode()
    ).fetchall()
    assert [record[3] for record in records if record[5] is None] == ["insert", "insert"]
    assert len([record for record in records if record[5] == "cascade"]) == 2
    with source.transaction():
        for record in records:
            source.execute(
                f"INSERT INTO task_migration.target_writes ({columns}) VALUES (%s, %s, %s, %s, %s, %s, %s)".encode(),
                record,
            )
    source.execute(f"ALTER SUBSCRIPTION {name} ENABLE".encode())
    world.expected |= {
        ("task_images", (image,)): None,
        ("scheduled_task_executions", (execution,)): {"created_task_id": None},
    }
    told = {entry.table: entry.lost for entry in world.check(told=2)}
    assert told["task_images"]["file_path"] == "x.png"
    assert told["scheduled_task_executions"] == {"created_task_id": str(number)}


@SIDES
def test_cascades_that_nobody_contests(world: TwoWriters, side: Side) -> None:
    """A hard delete takes its known children along on both sides; nobody lost anything."""
    (number,) = world.tasks(1)
    tag = count(world.pair.source, "SELECT min(id) FROM tags")
    schedule = count(world.pair.source, "SELECT min(id) FROM scheduled_group_tasks")
    image, execution = (900_000_020, 900_000_021) if side == "source" else (900_000_022, 900_000_023)
    with world.transaction(other(side)) as adding:
        adding.insert("task_images", image, task_id=number, file_path="x.png")
        adding.insert("task_tag", number, tag)
        adding.insert(
            "scheduled_task_executions",
            execution,
            scheduled_task_id=schedule,
            executed_at="2030-01-01T00:00:00",
            created_task_id=number,
            deleted_task_id=number,
        )
    world.fence()
    with world.transaction(side) as deleting:
        deleting.delete("tasks", number)
    world.expected |= {
        ("task_images", (image,)): None,
        ("task_tag", (number, tag)): None,
        ("scheduled_task_executions", (execution,)): {"created_task_id": None, "deleted_task_id": None},
    }
    world.check()


@SIDES
def test_a_key_that_is_changed(world: TwoWriters, side: Side) -> None:
    """An update of a key takes the row's other values along, and one that meets the other side's insert stops nothing."""
    (task, second) = world.tasks(2)
    tags = [row[0] for row in world.pair.source.execute("SELECT id FROM tags ORDER BY id LIMIT 3")]
    image = 900_000_030 if side == "source" else 900_000_034
    with world.transaction("source") as monolith:
        monolith.insert("task_tag", task, tags[0])
        monolith.insert("task_images", image, task_id=task, file_path="moved.png")
    world.fence()
    with world.at_once() as both:
        moving, inserting = both if side == "source" else reversed(both)
        moving.execute("UPDATE task_tag SET tag_id = %s WHERE task_id = %s AND tag_id = %s", tags[1], task, tags[0])
        moving.execute("UPDATE task_images SET id = %s WHERE id = %s", image + 1, image)
        # The other side attaches that very tag, and another.
        inserting.insert("task_tag", task, tags[1])
        inserting.insert("task_tag", second, tags[2])
    world.expected |= {
        ("task_tag", (task, tags[0])): None,
        ("task_tag", (task, tags[1])): {},
        ("task_images", (image,)): None,
        ("task_images", (image + 1,)): {"task_id": task, "file_path": "moved.png"},
    }
    world.check()
    assert {key[1] for key in world.rows("target", "task_tag") if key[0] == task} == {tags[1]}


def test_updates_that_change_nothing(world: TwoWriters) -> None:
    """A form that saves all its columns, most of them as they were, takes nothing of the other side's edit away."""
    for index, number in enumerate(world.tasks(10, reward=1, description="as it was")):
        with world.at_once() as both:
            saving, editing = both if index % 2 else reversed(both)
            saving.execute(
                "UPDATE tasks SET title = title, reward = reward, description = description WHERE id = %s", number
            )
            saving.execute("UPDATE tasks SET title = 'new', description = 'as it was', span = 5 WHERE id = %s", number)
            saving.wrote("tasks", number, span=5)
            editing.update("tasks", number, title="edited", reward=2, description="edited")
    world.check()


def test_merge_copy_and_inserts_that_do_nothing(world: TwoWriters) -> None:
    """`ON CONFLICT DO NOTHING` writes nothing, MERGE and COPY write as INSERT and UPDATE do."""
    user = count(world.pair.target, "SELECT min(user_id) FROM tasks")
    numbers = world.tasks(6)
    for index, number in enumerate(numbers):
        with world.at_once() as both:
            merging, editing = both if index % 2 else reversed(both)
            merging.execute(
                "INSERT INTO tasks (id, user_id, title, reward) VALUES (%s, %s, 'nothing', 77) ON CONFLICT DO NOTHING",
                number,
                user,
            )
            fresh = 910_000_000 + number
            merging.execute(
                "MERGE INTO tasks t USING (VALUES (%s::bigint, 4), (%s, 4)) v (id, span) ON t.id = v.id "
                "WHEN MATCHED THEN UPDATE SET span = v.span WHEN NOT MATCHED THEN "
                "INSERT (id, user_id, title, span) VALUES (v.id, %s, 'merged', v.span)",
                number,
                fresh,
                user,
            )
            merging.wrote("tasks", number, span=4)
            merging.wrote("tasks", fresh, title="merged", span=4)
            editing.update("tasks", number, reward=8)
            image = 920_000_000 + number
            with editing.connection.cursor().copy("COPY task_images (id, task_id, file_path) FROM STDIN") as copy:
                copy.write_row((image, number, "コピー\t.png"))
            editing.wrote("task_images", image, task_id=number, file_path="コピー\t.png")
    world.check()


@SIDES
def test_a_session_that_switches_triggers_off(world: TwoWriters, side: Side) -> None:
    """A person's `session_replication_role = replica`: the writes travel as any other."""
    (number, gone) = world.tasks(2)
    with (
        world.transaction(other(side)) as application,
        world.transaction(side, world.admin(side)) as person,
    ):
        person.execute("SET LOCAL session_replication_role = replica")
        person.update("tasks", number, title="by hand")
        person.delete("tasks", gone)
        application.update("tasks", number, reward=6)
    world.check()


def test_a_row_written_more_than_once_in_a_transaction(world: TwoWriters) -> None:
    """The last value of each column counts, also of a row that was made or removed on the way."""
    user = count(world.pair.target, "SELECT min(user_id) FROM tasks")
    for index, number in enumerate(world.tasks(5)):
        with world.at_once() as both:
            several, one = both if index % 2 else reversed(both)
            for turn in range(3):
                several.update("tasks", number, title=f"turn {turn}")
            several.update("tasks", number, title="last", due_date="last")
            one.update("tasks", number, reward=1)
            one.update("tasks", number, reward=2)
            fresh, never = 930_000_000 + number, 940_000_000 + number
            one.insert("tasks", fresh, user_id=user, title="made")
            one.update("tasks", fresh, title="made and edited")
            one.insert("tasks", never, user_id=user, title="made and removed")
            one.delete("tasks", never)
    world.check()


def test_soft_deleted_while_it_is_edited(world: TwoWriters) -> None:
    """`deleted_at` is a column as any other: the edit is kept for whoever restores the task."""
    for number in world.tasks(5):
        with world.at_once() as (monolith, service):
            monolith.update("tasks", number, deleted_at="2030-01-01T00:00:00")
            service.update("tasks", number, title="edited")
    world.check()


def _switch(world: TwoWriters, action: str) -> None:
    """ALTER SUBSCRIPTION of both directions."""
    config = world.pair.settings.config
    for side, name in (("target", config.subscription), ("source", config.reverse_subscription)):
        world.admin(side).execute(f"ALTER SUBSCRIPTION {name} {action}".encode())


def test_workers_stopped_in_between(world: TwoWriters) -> None:
    """What both sides wrote while nothing travelled is decided column by column, however long that was."""
    numbers = world.tasks(20)
    _switch(world, "DISABLE")
    for number in numbers:
        for turn in range(2):
            with world.transaction("source") as monolith:
                monolith.update("tasks", number, title=f"monolith {turn}")
            with world.transaction("target") as service:
                service.update("tasks", number, reward=turn + 5)
    for number in numbers[:6]:
        for side in BOTH:
            with world.transaction(side) as writing:
                writing.update("tasks", number, due_date=f"{side} {number}")
        world.expected["tasks", (number,)].pop("due_date")  # type: ignore[union-attr]
    _switch(world, "ENABLE")
    told = world.check(told=6)
    winner_of(world, told, "due_date", {number: (f"source {number}", f"target {number}") for number in numbers[:6]})


def test_workers_and_servers_killed_halfway(world: TwoWriters) -> None:
    """An apply that is cut off and repeated loses nothing and doubles nothing; nor does a server that dies by `kill -9`."""
    monolith, service = random_writers(world, world.tasks(6), 8)
    with monolith, service:
        for _ in range(4):
            for writer in (monolith, service):
                writer.more(20)
            for side in BOTH:
                world.admin(side).execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'logical replication apply worker' "
                    "AND datname = current_database()"
                )
        for server in (world.pair.source_server, world.pair.target_server):
            monolith.more(20)
            service.more(20)
            server.kill()
            server.start()
        monolith.more(20)
        service.more(20)
    for connection in (world.pair.source, world.pair.target):
        connection.close()
    world.connect()
    assert monolith.broken
    assert service.broken
    world.check()


def test_a_bulk_update_on_both_sides(world: TwoWriters) -> None:
    """6,000 rows updated on both sides at once: a fence stays below the gate's 10 s, one-row requests wait little."""
    first = 950_000_000
    with world.transaction("source") as monolith:
        monolith.execute(
            "INSERT INTO tasks (id, user_id, title) SELECT n, (SELECT min(id) FROM users), 'bulk' "
            "FROM generate_series(%s, %s) n",
            first,
            first + 5999,
        )
    numbers = world.tasks(6)
    with ExitStack() as stack:
        sessions = {side: stack.enter_context(world.session(side)) for side in BOTH}
        writers = random_writers(world, numbers, 9)
        for writer in writers:
            stack.enter_context(writer)
        with (
            world.transaction("source", sessions["source"]) as over_there,
            world.transaction("target", sessions["target"]) as over_here,
        ):
            for bulk, column in ((over_there, "reward"), (over_here, "span")):
                query = f"UPDATE tasks SET {column} = 11 WHERE id BETWEEN %s AND %s"
                bulk.connection.execute(query.encode(), (first, first + 5999))
                for number in range(first, first + 6000):
                    bulk.wrote("tasks", number, **{column: 11})
        seconds = fence.both(world.pair.settings, 60)
        longest = max(writer.longest for writer in writers)
    assert max(seconds.values()) < 10, seconds
    assert longest < 2, longest
    world.check()


def test_both_sides_are_equal_in_the_end(world: TwoWriters) -> None:
    """After all of this `verify` finds nothing, and no worker has met an error that it had to pass by."""
    found = verify.run(world.pair.settings)
    assert found.match, [table for table in found.tables if not table.match]
    state = replicate.status(world.pair.settings)
    assert state.forward.running, state
    assert state.reverse.running, state
