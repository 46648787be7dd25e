"""What was written since the last match, and a part of the rest: what no record, no copy of it and no clock may hide from it."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from scripts.database import helper_schema
from scripts.database.pace import Pace
from scripts.replication import fence, status
from scripts.replication import run as replicate
from scripts.support.errors import Refused
from scripts.support.progress import SILENT
from scripts.support.sides import BOTH, Side
from scripts.verify import compare as verify_compare
from scripts.verify import run as verify
from scripts.verify import verdict
from scripts.verify.documents import Verification
from scripts.verify.sessions import PAIRS, sessions
from scripts.writes import watch
from tests.conftest import Pair
from tests.integration.test_chain import MakePair, count, running
from tests.integration.verify.test_verify import bare, flow, unseen

TASK = "UPDATE tasks SET title = 'unseen' WHERE id = {}"


def sides(pair: Pair) -> tuple[psycopg.Connection[Any], psycopg.Connection[Any]]:
    return pair.source, pair.target


def put(both: Pair, **change: Any) -> None:
    """Something else in the verdict of both sides."""
    for side in sides(both):
        helper_schema.put(side, verdict.VERIFIED, {**helper_schema.get(side, verdict.VERIFIED), **change})


def base(pair: Pair) -> None:
    """A match of every row; of what follows nothing is found by the part whose turn it is: small ids are the first part."""
    assert verify.run(pair.settings).match
    put(pair, turn=1)


def incremental(pair: Pair) -> Verification:
    return verify.run(pair.settings, incremental=True)


def differing(found: Verification, table: str = "tasks") -> dict[int, str]:
    (entry,) = [entry for entry in found.tables if entry.table == table]
    return {int(one.key["id"]): one.kind for one in entry.differences}


def pruned(pair: Pair) -> None:
    """Until the record of writes holds nothing but fences."""
    for _ in range(20):
        fence.both(pair.settings, 20)
        left = "SELECT count(*) FROM task_migration.{} WHERE kind <> 'fence'"
        if not any(count(pair.source, left.format(f"{side}_writes")) for side in BOTH):
            return
    raise AssertionError("the record is not pruned")


def kept(side: psycopg.Connection[Any]) -> int:
    return count(side, "SELECT count(*) FROM task_migration.written")


@pytest.fixture
def pair(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setattr(verify_compare, "SMALL", -1)
    return running(make_pair, rows=60)


def test_what_was_written_is_compared_whatever_became_of_its_record(pair: Pair) -> None:
    """Prevents an incremental verification that forgets deletes, changed keys, and writes whose records are gone or came on no other side."""
    assert incremental(pair).written is None  # nothing to build on
    base(pair)
    assert [kept(side) for side in sides(pair)] == [0, 0]
    ids = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id")]
    ours, theirs, gone, lost, deleted = ids[10:15]
    moved = count(
        pair.source, "INSERT INTO tasks (user_id, title) SELECT min(user_id), 'no children' FROM tasks RETURNING id"
    )
    pair.source.execute("UPDATE tasks SET span = 77 WHERE id = %s", (ours,))
    pair.target.execute("UPDATE tasks SET span = 88 WHERE id = %s", (theirs,))
    pair.target.execute("DELETE FROM tasks WHERE id = %s", (gone,))
    pair.source.execute("UPDATE tasks SET id = 200 WHERE id = %s", (moved,))
    pruned(pair)
    assert incremental(pair).match
    # Without the part that has them all, what no record tells of is not seen; with one of before the base neither.
    with unseen(pair.target):
        pair.target.execute(TASK.format(ids[30]).encode())
    put(pair, turn=1)
    assert incremental(pair).match
    for one in (ours, theirs, 200):
        pair.source.execute("UPDATE tasks SET span = 99 WHERE id = %s", (one,))
    pair.source.execute(
        "INSERT INTO tasks (id, user_id, title) SELECT %s, min(user_id), 'once more' FROM tasks", (gone,)
    )
    pair.source.execute("DELETE FROM tasks WHERE id = %s", (gone,))
    pruned(pair)
    with unseen(pair.target):
        for one in (ours, theirs):
            pair.target.execute(TASK.format(one).encode())
    with unseen(pair.source):
        pair.source.execute("DELETE FROM tasks WHERE id = 200")
        pair.source.execute(
            "INSERT INTO tasks (id, user_id, title) SELECT %s, min(user_id), 'back' FROM tasks", (gone,)
        )
    # A record that the other side never got: the reverse stream was set past it.
    pair.target.execute("UPDATE tasks SET span = 5 WHERE id = %s", (lost,))
    fence.both(pair.settings, 20)
    for query in (
        "DELETE FROM task_migration.target_writes WHERE kind <> 'fence'",
        "DELETE FROM task_migration.written",
    ):
        pair.source.execute(query.encode())
    with unseen(pair.source):
        pair.source.execute(TASK.format(lost).encode())
    # Records that go on both sides by another hand than that which prunes: a former version's, AWS DMS's, a person's.
    pair.source.execute("UPDATE tasks SET span = 6 WHERE id = %s", (deleted,))
    fence.forward(pair.settings, 20)
    for side in sides(pair):
        side.execute("DELETE FROM task_migration.source_writes WHERE kind <> 'fence'")
    with unseen(pair.target):
        pair.target.execute(TASK.format(deleted).encode())
    put(pair, turn=1)
    found = incremental(pair)
    assert found.written == 6
    assert differing(found) == {
        ours: "different", theirs: "different", gone: "missing_on_target", 200: "missing_on_source",
        lost: "different", deleted: "different",
    }  # fmt: skip
    # What did not match answers for nothing: the next one compares all.
    again = incremental(pair)
    assert again.written is None
    assert len(differing(again)) == 7
    with pytest.raises(Refused, match="repairs nothing"):
        verify.run(pair.settings, repair="newest", incremental=True)


@pytest.mark.parametrize("first", ["every row", "a part"])
def test_a_write_beside_the_last_match_belongs_to_the_next(
    pair: Pair, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents rows that were written after the last match had passed them, and before it ended, from counting as compared; also where
    a clock or the record's number would say that they were written before it began."""
    base(pair)
    ids = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 2")]
    once = threading.Event()
    under_way = psycopg.connect(pair.settings.source())
    under_way.execute("UPDATE tasks SET span = 66 WHERE id = %s", (ids[0],))

    def late(original: Callable[..., Any], self: verify_compare.TableComparison, *how: Any) -> Any:
        compared = original(self, *how)
        if self.table.name == "tasks" and not once.is_set():
            once.set()
            under_way.commit()
            pair.source.execute("UPDATE tasks SET span = 77 WHERE id = %s", (ids[1],))
            pruned(pair)
        return compared

    for name in ("run", "part"):
        original = getattr(verify_compare.TableComparison, name)
        monkeypatch.setattr(
            verify_compare.TableComparison, name, lambda self, *how, original=original: late(original, self, *how)
        )
    found = verify.run(pair.settings, incremental=first == "a part")
    under_way.close()
    assert found.match
    assert (found.written is None) == (first == "every row")
    assert once.is_set()
    put(pair, turn=1)
    with unseen(pair.target):
        for one in ids:
            pair.target.execute(TASK.format(one).encode())
    assert differing(incremental(pair)) == dict.fromkeys(ids, "different")


def test_a_match_that_cannot_be_built_on_leads_to_every_row(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a part from standing for the whole where the whole was another copy, other servers, an older state, or had a hole."""
    base(pair)
    assert incremental(pair).written == 0
    older = helper_schema.get(pair.target, verdict.VERIFIED)
    base(pair)
    copied = helper_schema.get(pair.target, helper_schema.COPY)
    bound = helper_schema.get(pair.source, verdict.VERIFIED)["pair"]
    # Every row was compared again, and is a base anew.
    for spoil in (
        lambda: helper_schema.put(pair.target, helper_schema.COPY, {**copied, "run": "another"}),
        lambda: helper_schema.put(pair.target, verdict.VERIFIED, older),  # the target, set back to before the base
        lambda: put(
            pair, pair=bound.replace(str(count(pair.source, "SELECT system_identifier FROM pg_control_system()")), "1")
        ),
        lambda: put(pair, pair=None),  # a match while replication stood still, or of a former version
        lambda: pair.target.execute("VACUUM FULL task_images"),  # the rows of another file: so does TRUNCATE
        lambda: [side.execute("ALTER TABLE task_images ADD COLUMN more int DEFAULT 5") for side in sides(pair)],
        lambda: pair.config(tables=[name for name in pair.settings.config.tables if name != "task_images"]),
        lambda: monkeypatch.setattr(verdict, "MOST", -1),
    ):
        assert incremental(pair).written is not None
        spoil()
        assert incremental(pair).written is None


def past_the_record(pair: Pair, side: Side) -> int:
    """A task's id: it is written while the side's trigger is off for a moment, and `replicate start` has looked since."""
    connection = pair.source if side == "source" else pair.target
    first = count(connection, "SELECT min(id) FROM tasks")
    connection.execute("ALTER TABLE tasks DISABLE TRIGGER USER")
    connection.execute(TASK.format(first).encode())
    connection.execute("ALTER TABLE tasks ENABLE TRIGGER USER")
    replicate.start(pair.settings)
    return first


def test_every_row_is_compared_where_the_source_left_no_record(pair: Pair) -> None:
    """Prevents a part that stands for the whole though the monolith wrote past the record: a trigger of the source was off for a moment."""
    base(pair)
    first = past_the_record(pair, "source")
    found = incremental(pair)
    assert (found.written, differing(found)) == (None, {first: "different"})
    assert verify.run(pair.settings, repair="source").match


def test_a_part_ends_no_finding_of_writes_that_left_no_record(pair: Pair) -> None:
    """Prevents a trigger that was off for a moment from being forgotten as the part whose turn it was matched."""
    base(pair)
    first = past_the_record(pair, "target")
    found = incremental(pair)
    assert (found.written, differing(found)) == (None, {first: "different"})
    # The same beside a comparison of every row: what was told of after it began stays told of.
    begun = verdict.bound(verdict.begin(pair.source, pair.target), pair.source, pair.target, ([], []), live=True)
    told = helper_schema.get(pair.target, watch.UNRECORDED)
    assert told
    helper_schema.put(pair.target, watch.UNRECORDED, [*told, "and another"])
    verdict.keep(pair.source, pair.target, begun, match=True, incremental=False)
    assert helper_schema.get(pair.target, watch.UNRECORDED) == [*told, "and another"]
    assert verify.run(pair.settings, repair="source").match
    assert [one.what for one in status.read(pair.settings).findings if one.status == "fail"] == []
    base(pair)
    # Without fences there is no part, and what matched meanwhile is nothing to build on.
    replicate.stop(pair.settings)
    assert incremental(pair).written is None
    replicate.start(pair.settings)
    assert incremental(pair).written is None
    assert incremental(pair).written == 0


def test_a_match_takes_no_place_of_a_verdict_that_came_since_it_began(pair: Pair) -> None:
    """Prevents two at once of which the one that passed the row before it was spoilt has the last word."""
    base(pair)
    first = count(pair.target, "SELECT min(id) FROM tasks")
    begun = verdict.begin(pair.source, pair.target)
    with unseen(pair.target):
        pair.target.execute(TASK.format(first).encode())
    assert not verify.run(pair.settings).match
    for part in (True, False):
        verdict.keep(pair.source, pair.target, begun, match=True, incremental=part)
        last = verdict.newest(pair.source, pair.target)
        assert last is not None
        assert not last.match
    # And an incremental match is as old as what it builds on where every row is asked for.
    assert verify.run(pair.settings, repair="source").match
    put(pair, whole="2026-01-01T00:00:00+00:00")
    assert incremental(pair).written is not None
    last = verdict.newest(pair.source, pair.target)
    assert last is not None
    assert last.match
    assert last.age_seconds < 60
    assert last.whole_seconds > 86400


def test_so_many_turns_see_each_row_once_whatever_its_key(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents damage that no record tells of from never being looked at: by far ids, texts, several columns, a table that grows."""
    pair = bare(
        make_pair,
        ["dense", "far", "named", "two"],
        "CREATE TABLE dense (k bigint PRIMARY KEY, v int)",
        "CREATE TABLE far (k bigint PRIMARY KEY, v int)",
        "CREATE TABLE named (k text PRIMARY KEY, v int)",
        "CREATE TABLE two (b text, a int, v int, PRIMARY KEY (a, b))",
        "INSERT INTO dense SELECT i, i FROM generate_series(1, 9000) i",
        "INSERT INTO far SELECT i * 4611686018427 * (CASE WHEN i % 2 = 0 THEN 1 ELSE -1 END), i FROM generate_series(1, 600) i",
        "INSERT INTO far VALUES (9223372036854775807, 1), (-9223372036854775808, 1), (0, 1), (-1, 1), (255, 1), (256, 1)",
        "INSERT INTO named SELECT 'Name %''' || i, i FROM generate_series(1, 600) i",
        "INSERT INTO two SELECT 'x' || i, i % 7, i FROM generate_series(1, 600) i",
        "ANALYZE",
    )
    flow(pair)
    helper_schema.put(pair.target, helper_schema.COPY, {"status": "complete", "run": "test"})
    assert verify.run(pair.settings).match
    tables = pair.settings.config.tables
    with unseen(pair.target):
        for table in tables:
            pair.target.execute(f"UPDATE {table} SET v = -1 WHERE v IN (300, 599)".encode())
    # Keys as the records have them, of rows that are no part of the turn too.
    with unseen(pair.source):
        pair.source.execute("DELETE FROM two WHERE v = 77")
    pair.source.execute(
        "INSERT INTO task_migration.written (table_name, key) VALUES ('two', '[\"0\", \"x77\"]'), ('named', '[\"gone\"]')"
    )
    monkeypatch.setattr(verify_compare, "SMALL", -1)
    rows, found = Counter[str](), defaultdict[str, list[Any]](list)
    with (
        Pace(pair.settings, BOTH, PAIRS) as pace,
        sessions(pair.settings, pace) as opened,
    ):
        verifier = verify.Verifier.begin(pair.settings, opened, "hash", False, 100, 20.0, SILENT, True)
        assert verifier.written == {"two": {("0", "x77")}, "named": {("gone",)}}
        for turn in range(verify_compare.TURNS):
            # The number of buckets is another one when the table has grown.
            grown = {n: replace(t, rows_estimate=100_000 * (turn % 3)) for n, t in verifier.tables.items()}
            begun = replace(verifier.begun, before={"turn": 5 + turn})
            compared, _ = replace(verifier, tables=grown, begun=begun).compare([])
            for table, one in compared.items():
                rows[table] += one.target_rows
                found[table] += [difference.key for difference in one.differences]
        # A key that is not today's names no row: the whole table.
        verifier.written["named"].add(("gone", "with"))
        compared, _ = verifier.compare([])
        assert compared["named"].target_rows == 600
    assert rows == {"dense": 9000, "far": 606, "named": 600, "two": 600}
    lost = found["two"].count(("0", "x77"))
    assert lost == verify_compare.TURNS
    for table in tables:
        others = [key for key in found[table] if key != ("0", "x77")]
        assert len(others) == len(set(others)) == 2
