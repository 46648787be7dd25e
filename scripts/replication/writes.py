"""The record of writes, looked at: whether what one side wrote has arrived on the other, what was lost and told, how much is kept.

Each side writes its own table (`source_writes`, `target_writes`), the other one's is filled by replication and by nothing else.
So a side's writes have arrived when the other side has the very same records, by number and content.

Records that both sides have decide nothing any more and are pruned. That all of them up to a number `h` are known to both is
not read off a clock alone, as a number is drawn before its transaction commits: first `h` and a transaction id are noted on
both sides; when no transaction older than that runs any more, no further record up to `h` can come; a fence written after
that has then brought them all. A second one brings what was written before they had come: a record that did not know one of
them is not to arrive where that is forgotten, since an insert of a key asks the record whether the key was here before
(scripts/writes/capture.sql). And yet both tables are compared before anything goes. `known` is put on both sides first, so
that a record which is delivered again after its copy went is still seen to be a repeat.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import psycopg
from psycopg import IsolationLevel, sql

from scripts.database import helper_schema, locks, queries
from scripts.database.connections import Connection, domain_errors, session_name
from scripts.database.sides import open_side
from scripts.replication.documents import HeldWrites, LostWrite, ToldKind, WriteCounts
from scripts.support.errors import TimedOut
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side, other
from scripts.writes import record
from scripts.writes.install import LOCK_MS

_QUERIES = queries.load("scripts.replication", "writes.sql")
_DIGEST, _KIND = sql.SQL(_QUERIES["digest"]), sql.SQL(_QUERIES["kind"])
#: Names in the helper schema's settings: what both sides know (both sides), what was pruned (each side, of its own writes), and
#: the next number to prune to (target).
KNOWN, PRUNED, NEXT = "known", "pruned", "prune"
#: Records that are read, compared or deleted with one statement: some ten milliseconds.
BATCH, CHUNK = 10_000, 2_000
#: Seconds in which a commit that the other side has applied becomes visible on its own; a busy machine takes a moment for it.
SEEN = 3.0
#: How long one call of :func:`prune` goes on, seconds; the next one takes up where it ended.
PRUNE_SECONDS = 1.0
#: Records that are named.
LISTED = 100
#: Minutes for which it is known who wrote what on a side, also of pruned records: a job of each night is seen.
REMEMBERED = 24 * 60
STATEMENT_MS = 10_000


class Record(NamedTuple):
    """A record of a side's own write; ``key`` is the JSON array of the key's values, ``cause`` why a rule made it."""

    v: int
    digest: int
    table: str
    key: str
    kind: str
    cause: str | None


class Waiting(NamedTuple):
    """A record that is not on the other side yet, whole but for its time; records of one ``transaction`` arrive at once."""

    v: int
    table: str
    key: str
    kind: str
    vals: str | None
    cause: str | None
    transaction: str = ""


@dataclass(frozen=True)
class Arrival:
    """The writes of a side, ``pruned`` ones included, and those that are not on the other side as they were written, of
    which at most :data:`LISTED` are named. Fences count where they are missing, as they tell of a hole too."""

    written: WriteCounts
    pruned: int
    missing: int
    first: tuple[Record, ...]


def _on(query: str, side: Side) -> sql.Composed:
    """A query over the table of ``side``'s writes, on whichever database."""
    return sql.SQL(_QUERIES[query]).format(writes=record.table(side), digest=_DIGEST, kind=_KIND)


def somebody(query: str, side: Side) -> sql.Composed:
    """A query over somebody's own writes of ``side``, on its own database."""
    return sql.SQL(_QUERIES[query]).format(somebody=_on("somebody", side))


def known(connection: Connection) -> int:
    """The number up to which both sides' records are known to both and pruned; 0 before."""
    return int((helper_schema.get(connection, KNOWN) or {"v": 0})["v"])


def arrival(
    settings: Settings,
    side: Side,
    catch_up: Callable[[], object],
    each: Callable[[Sequence[Record]], object] | None = None,
) -> Arrival:
    """Whether what ``side`` had committed before the call is on the other side after ``catch_up``.

    Args:
        catch_up: returns when the other side has applied what ``side`` had committed before it was called: a fence.
        each: called with the records in batches of :data:`BATCH`, in the order of their numbers.

    Raises:
        DatabaseError: a side cannot be read, or has no record of writes.
        MigrationError: as ``catch_up`` raises.
    """
    with (
        domain_errors(f"looking whether the writes of the {side} have arrived"),
        open_side(settings, side, "arrival") as owner,
        open_side(settings, other(side), "arrival") as peer,
    ):
        owner.isolation_level = IsolationLevel.REPEATABLE_READ
        with owner.transaction(), owner.cursor(name="writes") as cursor:
            # The snapshot is taken here, before the fence, and holds for the records too.
            before = pruned(owner)
            # From the first one on: a pruning that was killed leaves some that are known and not counted as pruned yet.
            cursor.execute(_on("own", side), (0,))
            catch_up()
            kinds, missing, first = Counter[str](), 0, list[Record]()
            while batch := [Record(*row) for row in cursor.fetchmany(BATCH)]:
                if each is not None:
                    each(batch)
                kinds.update(one.kind for one in batch)
                lacking = _lacking(peer, side, batch)
                missing += len(lacking)
                first += lacking[: LISTED - len(first)]
        return Arrival(before.plus(kinds), before.total, missing, tuple(first))


def _lacking(peer: Connection, side: Side, batch: Sequence[Record]) -> list[Record]:
    given = ([one.v for one in batch], [one.digest for one in batch])
    absent = {row[0] for row in peer.execute(_on("absent", side), given).fetchall()}
    if not absent:
        return []
    # Read afterwards: what somebody pruned meanwhile was there, and is known.
    upto = known(peer)
    return [one for one in batch if one.v in absent and one.v > upto]


def waiting(owner: Connection, peer: Connection, side: Side, limit: int) -> list[Waiting]:
    """The first writes of ``side`` that are not on the other one, fences left out, in the order of their commits; at most ``limit``."""
    with closing(_not_there(owner, peer, side)) as all_:
        first = [one.v for one in islice(all_, limit)]
    return [Waiting(*row) for row in owner.execute(_on("whole", side), (first,)).fetchall()]


def lacking(settings: Settings, side: Side) -> dict[int, str]:
    """The writes of ``side`` that are not on the other one by now, under way or lost: table by number, fences left out."""
    with (
        domain_errors(f"looking for writes of the {side}"),
        open_side(settings, side, "arrival") as owner,
        open_side(settings, other(side), "arrival") as peer,
    ):
        return {one.v: one.table for one in _not_there(owner, peer, side)} if helper_schema.installed(owner) else {}


def _not_there(owner: Connection, peer: Connection, side: Side) -> Generator[Record, None, None]:
    # A side from which everything was removed lacks all of them.
    installed = helper_schema.installed(peer)
    with owner.transaction(), owner.cursor(name="waiting") as cursor:
        cursor.execute(_on("own", side), (known(owner),))
        while batch := [Record(*row) for row in cursor.fetchmany(BATCH)]:
            yield from (one for one in (_lacking(peer, side, batch) if installed else batch) if one.kind != "fence")


def forgotten(owner: Connection, peer: Connection, side: Side) -> int:
    """How many of the newest :data:`CHUNK` records of ``side`` that the other side has are not known to ``side`` itself: it is an
    older state of itself then, or its record was tampered with.

    A commit is sent once it is in the log, and seen by others on its own server a moment later (PostgreSQL, src/backend/access/transam/xact.c,
    `CommitTransaction`): what is absent is looked for again, for :data:`SEEN` seconds.
    """
    if not helper_schema.installed(owner) or not helper_schema.installed(peer):
        return 0
    copied = peer.execute(_on("newest", side), (CHUNK,)).fetchall()
    given = ([row[0] for row in copied], [row[1] for row in copied])

    def unknown() -> int:
        absent = [row[0] for row in owner.execute(_on("absent", side), given).fetchall()]
        upto = known(owner) if absent else 0
        return sum(v > upto for v in absent)

    deadline = time.monotonic() + SEEN
    while (found := unknown()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def held(connection: Connection) -> HeldWrites:
    """What a side keeps of both tables, and how many of its own writes were pruned."""
    if not helper_schema.installed(connection):
        return HeldWrites(records=0, bytes=0, pruned=0)
    row = connection.execute(_QUERIES["held"]).fetchone()
    assert row is not None  # a SELECT without FROM gives one row
    return HeldWrites(records=row[0], bytes=row[1], pruned=pruned(connection).total)


def pruned(connection: Connection) -> WriteCounts:
    """The side's own writes that were proven to be on the other side, and pruned since."""
    return WriteCounts.model_validate(helper_schema.get(connection, PRUNED) or {})


def told(connection: Connection) -> int:
    """How many lost writes this side's conflict log tells of."""
    if not helper_schema.installed(connection):
        return 0
    row = connection.execute("SELECT count(*) FROM task_migration.conflicts").fetchone()
    return int(row[0]) if row else 0


def told_by_kind(*connections: Connection) -> list[ToldKind]:
    """The lost writes that these sides' conflict logs tell of, by table and kind."""
    counted: Counter[tuple[str, str]] = Counter()
    for connection in connections:
        if helper_schema.installed(connection):
            for table, kind, count in connection.execute(_QUERIES["told_by_kind"]).fetchall():
                counted[table, kind] += count
    return [ToldKind(table=table, kind=kind, count=count) for (table, kind), count in sorted(counted.items())]


def losses(connection: Connection, limit: int = LISTED) -> list[LostWrite]:
    """The newest lost writes that this side's conflict log tells of, without values."""
    return [
        LostWrite(
            at=at,
            table=table,
            key=[str(part) for part in json.loads(key)],
            kind=kind,
            # The source hands out even numbers, the target odd ones.
            writer=("target" if v % 2 else "source") if v else None,
            columns=columns or [],
        )
        for at, table, key, kind, v, columns in connection.execute(_QUERIES["losses"], (limit,)).fetchall()
    ]


def prune(settings: Settings, seconds: float = PRUNE_SECONDS) -> int:
    """Remove, on both sides, records that both are proven to have, for at most about ``seconds``; called after fences.

    What is not on both sides, record by record the same, stays, and all that comes after it. Safe to run twice at once, and
    again after it was killed anywhere.

    Returns:
        the records pruned, of both sides' writes.

    Raises:
        DatabaseError: a side cannot be reached, or has no record of writes.
    """
    deadline = time.monotonic() + seconds
    with (
        domain_errors("pruning the record of writes"),
        open_side(settings, "source", "prune", LOCK_MS, STATEMENT_MS) as source,
        open_side(settings, "target", "prune", LOCK_MS, STATEMENT_MS) as target,
    ):
        if not (helper_schema.whole(source) and helper_schema.whole(target)):
            return 0  # of a former version, until `replicate start`
        try:
            if locks.take(target, locks.PRUNE, session_name("prune")) is not None:
                return 0
            return _Pruning({"source": source, "target": target}).run(deadline)
        except (psycopg.errors.LockNotAvailable, TimedOut):
            return 0  # somebody changes the tables: next time


class _Pruning:
    """One call's work."""

    def __init__(self, sides: dict[Side, Connection]) -> None:
        self._sides, self._target = sides, sides["target"]

    def run(self, deadline: float) -> int:
        low = min(known(connection) for connection in self._sides.values())
        for connection in self._sides.values():
            connection.execute(_QUERIES["forget"], (REMEMBERED,))
        done = self._delete(low, deadline)  # what a killed call left
        following: dict[str, Any] | None = helper_schema.get(self._target, NEXT)
        if following and following["closed"] and self._fenced(following["closed"]):
            if not following["again"]:
                clocks = {side: clock for side, (_, clock) in self._each("oldest").items()}
                helper_schema.put(self._target, NEXT, {**following, "closed": clocks, "again": True})
                return done
            while low < following["upto"] and time.monotonic() < deadline:
                high = self._chunk_end(low, following["upto"])
                if not self._same(low, high):
                    return done
                for connection in self._sides.values():
                    helper_schema.put(connection, KNOWN, {"v": high})
                done += self._delete(high, deadline)
                low = high
            following = following if low < following["upto"] else None
        helper_schema.put(self._target, NEXT, self._closed(following or self._begun()))
        return done

    def _each(self, query: str) -> dict[Side, tuple[Any, ...]]:
        found: dict[Side, tuple[Any, ...]] = {}
        for side, connection in self._sides.items():
            row = connection.execute(_QUERIES[query]).fetchone()
            assert row is not None  # each of these gives one row
            found[side] = row
        return found

    def _begun(self) -> dict[str, Any]:
        """The next number to prune to, and on each side a transaction that is younger than all with a number up to there; no
        fence has come through yet."""
        seen = self._each("begin")
        return {
            "upto": min(clock for clock, _ in seen.values()),
            "after": {side: transaction for side, (_, transaction) in seen.items()},
            "closed": None,
            "again": False,
        }

    def _closed(self, following: dict[str, Any]) -> dict[str, Any]:
        """With where the clocks stood when no transaction could write a number up to `upto` any more, once that is so."""
        seen = self._each("oldest")
        if not following["closed"] and all(seen[side][0] >= following["after"][side] for side in BOTH):
            return {**following, "closed": {side: seen[side][1] for side in BOTH}}
        return following

    def _fenced(self, closed: dict[str, int]) -> bool:
        """Whether a fence has come through each way that was written after the clocks stood so."""
        rows = [self._sides[other(side)].execute(_on("fenced", side), (closed[side],)).fetchone() for side in BOTH]
        return all(row and row[0] for row in rows)

    def _chunk_end(self, low: int, high: int) -> int:
        given = {"low": low, "high": high, "size": CHUNK}
        rows = [self._sides[side].execute(_on("chunk_end", side), given).fetchone() for side in BOTH]
        return min(int(row[0]) for row in rows if row)

    def _same(self, low: int, high: int) -> bool:
        given = {"low": low, "high": high}
        for side in BOTH:
            here, there = (one.execute(_on("summed", side), given).fetchone() for one in self._sides.values())
            if here != there:
                return False
        return True

    def _delete(self, high: int, deadline: float) -> int:
        """Delete what is known to both sides; each side keeps count of its own writes."""
        done = 0
        for here, connection in self._sides.items():
            for side in BOTH:
                given, gone = {"high": high, "size": CHUNK, "own": side == here}, -1
                while gone and time.monotonic() < deadline:
                    with connection.transaction():
                        counts: dict[str, int] = dict(connection.execute(_on("delete", side), given).fetchall())
                        gone = sum(counts.values())
                        if side == here and gone:
                            done += gone
                            helper_schema.put(connection, PRUNED, pruned(connection).plus(counts).plain())
        return done
