"""The verdict that a verification keeps, rows that differ, and a row by its records: two databases with the helper schema, which no worker connects."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import psycopg
import pytest

from scripts.database import catalog, helper_schema
from scripts.database.helper_schema import COPY
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.support.sides import Side, other
from scripts.verify import verdict
from scripts.verify.replay import unexplained
from scripts.verify.rows import ROUNDS, Found, Key, Reader, Recheck
from scripts.verify.sessions import CatchUp, Pair
from scripts.verify.verdict import VERIFIED, Begun
from scripts.writes import watch

Sides = tuple[psycopg.Connection[Any], psycopg.Connection[Any]]
COMPLETE = {"status": "complete", "run": "run 7"}


@pytest.fixture(scope="module")
def opened(source_server: EmbeddedPostgres) -> Iterator[Sides]:
    names = ("kept_source", "kept_target")
    for name in names:
        source_server.execute(f"CREATE DATABASE {name}")
    source, target = (psycopg.connect(source_server.url(name), autocommit=True) for name in names)
    for side in (source, target):
        side.execute(
            'CREATE TABLE t (k text, n int, v text, "w %s" text, PRIMARY KEY (k, n)); CREATE TABLE u (id int PRIMARY KEY)'
        )
        helper_schema.install(side)
    yield source, target
    for side, name in zip((source, target), names, strict=True):
        side.close()
        source_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sides(opened: Sides) -> Sides:
    """Both sides with a complete copy and nothing else."""
    for side in opened:
        side.execute(
            "TRUNCATE t, u, task_migration.written, task_migration.source_writes, task_migration.target_writes"
        )
        side.execute("DELETE FROM task_migration.settings")
    helper_schema.put(opened[1], COPY, COMPLETE)
    return opened


def began(sides: Sides, live: bool = True) -> Begun:
    source, target = sides
    oids = tuple([side.execute("SELECT 't'::regclass::oid::int").fetchone()[0]] for side in sides)  # type: ignore[index]
    return verdict.bound(verdict.begin(source, target), source, target, (oids[0], oids[1]), live)


def record(
    side: psycopg.Connection[Any], of: str, v: int, table: str, key: list[str], kind: str = "update", vals: Any = None
) -> None:
    """A record of a side's writes, as it stands on ``side``."""
    side.execute(
        f"INSERT INTO task_migration.{of}_writes (v, table_name, key, kind, vals) VALUES (%s, %s, %s, %s, %s)".encode(),
        (v, table, json.dumps(key, ensure_ascii=False), kind, None if vals is None else json.dumps(vals)),
    )


def test_a_verdict_is_as_old_as_its_begin_and_as_what_it_builds_on(sides: Sides) -> None:
    """Prevents a canary that rests on a comparison of last week, or on that of another copy."""
    source, target = sides
    assert verdict.newest(source, target) is None
    ((now,),) = source.execute("SELECT clock_timestamp()").fetchall()
    then = {name: (now - timedelta(seconds=seconds)).isoformat() for name, seconds in (("began", 100), ("whole", 5000))}
    helper_schema.put(source, VERIFIED, {"match": True, "copy": "run 7", **then})
    found = verdict.newest(source, target)
    assert found is not None
    assert (found.match, found.of_this_copy) == (True, True)
    assert 100 <= found.age_seconds < 160
    assert 5000 <= found.whole_seconds < 5060
    # A former version's compared every row, or does not say when it began.
    helper_schema.put(source, VERIFIED, {"match": False, "copy": "run 7", "began": then["began"]})
    found = verdict.newest(source, target)
    assert found is not None
    assert not found.match
    assert 100 <= found.whole_seconds < 160
    helper_schema.put(source, VERIFIED, {"match": True})
    for state in (COMPLETE, {"status": "rows", "run": "run 7"}, {"status": "complete"}, None):
        helper_schema.put(target, COPY, state)
        found = verdict.newest(source, target)
        assert found is not None
        assert not found.of_this_copy
        assert min(found.age_seconds, found.whole_seconds) > 1e9
    helper_schema.put(source, VERIFIED, {"match": True, "copy": "run 7"})
    helper_schema.put(target, COPY, {"status": "rows", "run": "run 7"})
    found = verdict.newest(source, target)
    assert found is not None
    assert not found.of_this_copy


def test_what_a_match_is_bound_to(sides: Sides) -> None:
    """Prevents a part that builds on another copy, on another file of the rows, or on a moment without fences."""
    _, target = sides
    first = began(sides)
    assert (first.copy, first.live, first.before) == ("run 7", True, None)
    assert first.pair == began(sides).pair
    assert first.pair is not None
    for side in sides:
        ((server,),) = side.execute(
            "SELECT system_identifier || ' ' || (SELECT oid FROM pg_database WHERE datname = current_database()) FROM pg_control_system()"
        ).fetchall()
        assert server in first.pair
    for side in sides:
        side.execute("TRUNCATE t")
        assert began(sides).pair not in (None, first.pair)
        first = began(sides)
    still = began(sides, live=False)
    assert (still.live, still.pair) == (False, None)
    # By the source's clock, so that it is told from another host's.
    ((then,),) = sides[0].execute("SELECT clock_timestamp()").fetchall()
    assert then - timedelta(seconds=60) < datetime.fromisoformat(still.began) < then
    # A former version kept no keys of what is deleted, so nothing is known of since when.
    for side in sides:
        side.execute("ALTER TABLE task_migration.written RENAME TO former")
        assert (began(sides).oldest, began(sides).pair) == (None, None)
        side.execute("ALTER TABLE task_migration.former RENAME TO written")
    helper_schema.put(target, COPY, {"status": "rows", "run": "run 7"})
    assert (began(sides).copy, began(sides).pair) == (None, None)
    helper_schema.put(target, COPY, COMPLETE)
    # A transaction that runs: what it writes is of after the begin.
    for number, side in enumerate(sides):
        with psycopg.connect(side.info.dsn, password=side.info.password) as under_way:
            ((xid,),) = under_way.execute("SELECT pg_current_xact_id()::text::bigint").fetchall()
            assert (began(sides).oldest or ())[number] == xid
    for number, side in enumerate(sides):
        helper_schema.put(side, watch.UNRECORDED, [f"why {number}"])
    assert began(sides).unrecorded == (["why 0"], ["why 1"])


def test_what_was_written_since_a_base_is_known_or_every_row_is_asked_for(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a part for the whole where one thing of the base is not as it was, and a written row that is not compared."""
    source, target = sides
    tables = ["t", "u"]
    verdict.keep(source, target, began(sides), match=True, incremental=False)
    assert verdict.written(source, target, began(sides), tables) == {}
    record(source, "source", 2, "t", ["a", "1"])
    record(source, "target", 3, "t", ["b", "1"])
    record(target, "source", 4, "u", ["5"])
    record(target, "target", 5, "other", ["5"])
    target.execute(
        "INSERT INTO task_migration.written (table_name, key) VALUES ('t', '[\"c\", \"2\"]'), ('t', '[\"b\", \"1\"]')"
    )
    keys = {"t": {("a", "1"), ("b", "1"), ("c", "2")}, "u": {("5",)}}
    begun = began(sides)
    assert verdict.written(source, target, begun, tables) == keys
    assert verdict.written(source, target, begun, ["u"]) == {"u": {("5",)}}
    base = helper_schema.get(source, VERIFIED)
    for spoilt in (
        replace(begun, before=None),
        replace(begun, before={**base, "pair": "another"}),
        replace(begun, unrecorded=("why", None)),
        replace(begun, unrecorded=(None, "why")),
    ):
        assert verdict.written(source, target, spoilt, tables) is None
    helper_schema.put(target, VERIFIED, {**base, "turn": 9})
    assert verdict.written(source, target, begun, tables) is None
    # As both sides have it.
    for change, pair in (({"match": False}, begun.pair), ({"pair": None}, None)):
        helper_schema.put(target, VERIFIED, {**base, **change})
        spoilt = replace(begun, before={**base, **change}, pair=pair)
        assert verdict.written(source, target, spoilt, tables) is None
    helper_schema.put(target, VERIFIED, base)
    # Three keys on the target, by table and key; on the source two.
    for most, found in ((3, keys), (2, None)):
        monkeypatch.setattr(verdict, "MOST", most)
        assert verdict.written(source, target, begun, tables) == found


def test_what_of_a_verdict_is_kept_and_what_it_answers(sides: Sides) -> None:
    """Prevents a match in the place of a difference that came since, keys forgotten that nobody compared, and writes without a record
    that a part is taken to have answered."""
    source, target = sides
    begun = began(sides)
    verdict.keep(source, target, begun, match=True, incremental=False)
    first = helper_schema.get(source, VERIFIED)
    assert first == {
        "match": True,
        "began": begun.began,
        "copy": "run 7",
        "whole": begun.began,
        "turn": 0,
        "pair": begun.pair,
    }
    assert helper_schema.get(target, VERIFIED) == first
    part = began(sides)
    assert part.before == first
    verdict.keep(source, target, part, match=True, incremental=True)
    second = helper_schema.get(source, VERIFIED)
    assert second == {**first, "began": part.began, "turn": 1}
    assert verdict.turn(began(sides)) == 1
    # It began before the second: what that one says stays, and a difference is kept whoever came since.
    verdict.keep(source, target, part, match=True, incremental=False)
    assert helper_schema.get(source, VERIFIED) == helper_schema.get(target, VERIFIED) == second
    verdict.keep(source, target, part, match=False, incremental=False)
    third = helper_schema.get(source, VERIFIED)
    assert third == {**first, "match": False, "began": part.began, "whole": None, "turn": 0}
    assert helper_schema.get(target, VERIFIED) == third

    def kept(change: Callable[[Begun], Begun], match: bool = True) -> tuple[list[int], list[Any]]:
        """How many keys are left on the sides, and what is told of writes without a record."""
        for number, side in enumerate(sides):
            side.execute("TRUNCATE task_migration.written")
            side.execute("INSERT INTO task_migration.written (table_name, key) VALUES ('t', '[\"a\"]')")
            helper_schema.put(side, watch.UNRECORDED, [f"why {number}"])
        now = change(began(sides))
        for side in sides:
            side.execute("INSERT INTO task_migration.written (table_name, key) VALUES ('t', '[\"since\"]')")
        verdict.keep(source, target, now, match=match, incremental=False)
        counts = [side.execute("SELECT count(*)::int FROM task_migration.written").fetchall()[0][0] for side in sides]
        return counts, [helper_schema.get(side, watch.UNRECORDED) for side in sides]

    told = [["why 0"], ["why 1"]]
    assert kept(lambda now: now) == ([1, 1], [None, None])
    assert kept(lambda now: now, match=False) == ([2, 2], told)
    assert kept(lambda now: replace(now, pair=None)) == ([2, 2], [None, None])
    assert kept(lambda now: replace(now, oldest=None)) == ([2, 2], [None, None])
    assert kept(lambda now: replace(now, live=False)) == ([1, 1], told)
    assert kept(lambda now: replace(now, unrecorded=(["other"], ["why 1"]))) == ([1, 1], [["why 0"], None])
    assert kept(lambda now: replace(now, unrecorded=(["why 0"], None))) == ([1, 1], [None, ["why 1"]])


def test_a_row_that_is_written_all_the_time_is_explained_by_its_records(sides: Sides) -> None:
    """Prevents a rollback that waits for ever for a hot row, and one that is proven though a write of the side that is left was lost."""
    source, target = sides
    table = catalog.read(source, "public", ["t"], "source")["t"]

    def rows(side: psycopg.Connection[Any], *values: tuple[str, int, str | None, str | None]) -> None:
        with side.cursor() as cursor:
            cursor.executemany("INSERT INTO t VALUES (%s, %s, %s, %s)", values)

    def both(v: int, key: list[str], kind: str, vals: dict[str, str | None] | None) -> None:
        for side in sides:
            record(side, "target", v, "t", key, kind, vals)

    # The target is left: "é" got its own edit and the monolith's two later ones, of which it has one.
    rows(target, ("é", 1, "own", "first"), ("gone", 1, "x", "x"), ("lost", 1, "own", "w"), ("odd %s", 1, "a", "b"))
    rows(source, ("é", 1, "own", "second"), ("lost", 1, "before", "w"), ("odd %s", 1, "a", "c"), ("new", 1, "n", None))
    both(1, ["é", "1"], "update", {"v": "own"})
    both(3, ["lost", "1"], "update", {"v": "own"})
    record(target, "source", 2, "t", ["é", "1"], "update", {"w %s": "first"})
    record(source, "source", 2, "t", ["é", "1"], "update", {"w %s": "first"})
    record(source, "source", 4, "t", ["é", "1"], "update", {"w %s": "second"})
    record(source, "source", 6, "t", ["gone", "1"], "delete")
    record(source, "source", 8, "t", ["odd %s", "1"], "update", {"w %s": "c"})
    record(source, "source", 10, "t", ["new", "1"], "insert", {"k": "new", "n": "1", "v": "n", "w %s": None})
    keys = [("é", "1"), ("gone", "1"), ("lost", "1"), ("odd %s", "1"), ("new", "1"), ("nowhere", "1")]
    assert unexplained(target, source, "target", table, keys) == [("lost", "1")]
    assert unexplained(target, source, "target", table, []) == []
    # By the other side's names nothing of it is explained but what is the same.
    assert unexplained(target, source, "source", table, keys) == [
        ("é", "1"),
        ("gone", "1"),
        ("lost", "1"),
        ("odd %s", "1"),
        ("new", "1"),
    ]
    # A record of what both sides know is no missing one: below the mark nothing counts.
    helper_schema.put(source, "known", {"v": 8})
    assert unexplained(target, source, "target", table, keys) == [
        ("é", "1"),
        ("gone", "1"),
        ("lost", "1"),
        ("odd %s", "1"),
    ]


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_record_that_was_received_is_not_played_over_what_was_written_after_it(sides: Sides, side: Side) -> None:
    """Prevents a rollback that waits for ever for a row whose newest record both sides know already."""
    left, stays = sides if side == "source" else sides[::-1]
    # The source's numbers are even.
    theirs, own = (9, 10) if side == "source" else (10, 11)
    for one in sides:
        one.execute("INSERT INTO t VALUES ('m', 1, 'newest', 'w')")
        record(one, other(side), theirs, "t", ["m", "1"], "update", {"v": "before"})
    record(left, side, own, "t", ["m", "1"], "update", {"v": "newest"})
    helper_schema.put(left, "known", {"v": own})
    table = catalog.read(left, "public", ["t"], "source")["t"]
    assert unexplained(left, stays, side, table, [("m", "1")]) == []
    # Had it not been received, it would be missing.
    left.execute(f"DELETE FROM task_migration.{other(side)}_writes".encode())
    assert unexplained(left, stays, side, table, [("m", "1")]) == [("m", "1")]


class Fences:
    """In the place of replication: what is done at each wait, the last one again and again."""

    def __init__(self, *work: Callable[[], object]) -> None:
        self.work, self.waits, self.ways = list(work), 0, list[str]()

    def __call__(self) -> None:
        self.waits += 1
        if self.work:
            self.work.pop(0)() if len(self.work) > 1 else self.work[0]()

    def one_way(self, direction: str) -> None:
        self.ways.append(direction)


def rechecking(sides: Sides, fences: Fences, limit: int, values: bool = False) -> Recheck:
    tables = [catalog.read(side, "public", ["t"], "source")["t"] for side in sides]
    return Recheck(Pair(*sides), Reader(tables[0], tables[1], "hash"), cast("CatchUp", fences), Found(limit), values)


def rechecked(sides: Sides, fences: Fences, keys: list[Key], limit: int = 100, values: bool = False) -> Found:
    return rechecking(sides, fences, limit, values).rows(keys)


def filled(sides: Sides) -> None:
    """Rows 1 to 5: equal, another v, another w, on the source alone, on the target alone."""
    for number, side in enumerate(sides):
        with side.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO t VALUES (%s, %s, %s, %s)",
                [
                    ("r", 1, "v", "w"),
                    ("r", 2, f"v{number}", "w"),
                    ("r", 3, None, f"w{number}"),
                    ("r", 4 + number, "v", None),
                ],
            )


KEYS: list[Key] = [("r", str(number)) for number in range(1, 7)]


def test_what_differs_is_named_counted_and_shown(sides: Sides) -> None:
    """Prevents a difference that is told of the wrong row, side or column, and more of them in memory than are shown."""
    filled(sides)
    fences = Fences()
    found = rechecked(sides, fences, KEYS)
    assert [(one.key, one.kind, one.columns, one.source_values) for one in found.listed] == [
        (("r", "2"), "different", ("v",), None),
        (("r", "3"), "different", ("w %s",), None),
        (("r", "4"), "missing_on_target", (), None),
        (("r", "5"), "missing_on_source", (), None),
    ]
    assert (found.total, found.moving) == (4, 0)
    assert dict(found.kinds) == {"different": 2, "missing_on_target": 1, "missing_on_source": 1}
    # One wait both ways settled it, after one each way.
    assert (fences.waits, fences.ways) == (1, ["forward", "reverse"])
    for place, side in enumerate(sides):
        versions = dict(side.execute("SELECT n::text, xmin::text FROM t").fetchall())
        seen = {one.key[1]: (one.source_seen, one.target_seen)[place] for one in found.listed}
        assert {n: one[0] if one else None for n, one in seen.items()} == {n: versions.get(n) for n in seen}
    shown = rechecked(sides, Fences(), KEYS, values=True).listed
    assert [(one.source_values, one.target_values) for one in shown[:1] + shown[2:]] == [
        ({"k": "r", "n": "2", "v": "v0", "w %s": "w"}, {"k": "r", "n": "2", "v": "v1", "w %s": "w"}),
        ({"k": "r", "n": "4", "v": "v", "w %s": None}, None),
        (None, {"k": "r", "n": "5", "v": "v", "w %s": None}),
    ]
    for limit in (0, 1, 3):
        some = rechecked(sides, Fences(), KEYS, limit)
        assert [one.key[1] for one in some.listed] == ["2", "3", "4"][:limit]
        assert (some.total, some.kinds) == (4, found.kinds)


def test_a_row_that_is_written_meanwhile_is_looked_at_again(sides: Sides) -> None:
    """Prevents an alarm about a row under way, a difference that is passed over as its row was written once, and a wait without an end."""
    filled(sides)
    source, target = sides
    late = Fences(lambda: target.execute("UPDATE t SET v = 'v0' WHERE n = 2"), lambda: None)
    found = rechecked(sides, late, KEYS[:3])
    assert [one.key[1] for one in found.listed] == ["3"]
    target.execute("UPDATE t SET v = 'unlike' WHERE n = 2")
    # Written between two looks, and still another: seen on the next look. Row 3 waits for nobody.
    once = Fences(lambda: source.execute("UPDATE t SET v = 'other' WHERE n = 2"), lambda: None)
    found = rechecked(sides, once, KEYS[:3])
    assert [(one.key[1], one.columns) for one in found.listed] == [("3", ("w %s",)), ("2", ("v",))]
    assert once.waits == 2
    # Written at every look, and never the same: it moves, after so many rounds.
    numbers = itertools.count()
    always = Fences(lambda: source.execute("UPDATE t SET v = %s WHERE n = 2", (f"again {next(numbers)}",)))
    found = rechecked(sides, always, KEYS[:2])
    assert (found.total, found.moved, found.moving, always.waits) == (0, [("r", "2")], 1, ROUNDS)


def test_differences_of_several_looks_are_counted_listed_and_told_together(sides: Sides) -> None:
    """Prevents a table of two batches of which the second one's differences, or the first one's, are not told."""
    for number, side in enumerate(sides):
        with side.cursor() as cursor:
            rows = [("r", 1, "same", None), *(("r", n, f"v{number}", None) for n in range(8, 13))]
            cursor.executemany("INSERT INTO t VALUES (%s, %s, %s, %s)", rows)
    counted = itertools.count()
    # Rows 8 and 12 are written at each look.
    always = Fences(lambda: sides[0].execute("UPDATE t SET v = %s WHERE n IN (8, 12)", (f"again {next(counted)}",)))
    recheck = rechecking(sides, always, limit=2)
    assert recheck.differences([]) == set()
    assert recheck.differences([("r", "1")]) == set()
    # Listed in the keys' order, as numbers; what is returned is real, or moves.
    assert recheck.differences([("r", "10"), ("r", "9"), ("r", "8")]) == {("r", "10"), ("r", "9"), ("r", "8")}
    assert [one.key[1] for one in recheck.found.listed] == ["9", "10"]
    assert recheck.differences([("r", "12"), ("r", "11")]) == {("r", "12"), ("r", "11")}
    assert [one.key[1] for one in recheck.found.listed] == ["9", "10"]
    assert (recheck.found.total, recheck.found.moved) == (3, [("r", "8"), ("r", "12")])


def test_a_row_that_is_written_as_it_is_described_is_looked_at_again(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a difference whose columns are those of a later moment than its versions, which a repair would trust."""
    filled(sides)
    source, _ = sides
    original, once = Reader.texts, iter([True])

    def written(self: Reader, connection: Any, keys: Any, values: bool) -> Any:
        if next(once, False):
            source.execute(b"UPDATE t SET \"w %s\" = 'now' WHERE n = 2")
        return original(self, connection, keys, values)

    monkeypatch.setattr(Reader, "texts", written)
    found = rechecked(sides, Fences(), KEYS[:3])
    assert [(one.key[1], one.columns) for one in found.listed] == [("3", ("w %s",)), ("2", ("v", "w %s"))]
    assert found.total == 2
