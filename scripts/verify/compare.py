"""Comparing one table: one sum on each side, then sums of buckets, then the rows of the buckets that differ.

A table that is equal costs one pass over it on each side, both at once. What differs is narrowed down by buckets (see
:mod:`scripts.verify.buckets`) to single rows (:mod:`scripts.verify.rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

from psycopg import ServerCursor, sql
from psycopg.rows import TupleRow

from scripts.database.catalog import Table
from scripts.database.connections import Connection
from scripts.support.errors import Refused
from scripts.verify.buckets import Buckets
from scripts.verify.hash import Algorithm
from scripts.verify.hash import row_hash as row_hash  # `backup` makes its checksums with it
from scripts.verify.rows import Difference, Found, Key, Looks, Pair, Reader, differing, order, settled

#: How often the buckets that differ are passed over until their sums come out equal, while rows are under way.
PASSES = 5
#: Rows that differ, sorted out with one fence; rows read from a side at a time. Both bound the memory.
TOGETHER = 10_000
FETCH = 5_000
_numbers = count(1)
#: Of a bucket, or of the whole table: rows, sum of their hashes, rows whose references look lost.
Sum = tuple[int, int, int]


@dataclass(frozen=True)
class Task:
    """What is to be compared, and how."""

    table: Table
    theirs: Table
    algorithm: Algorithm
    #: A condition on a row ``t`` of the target that is true when a reference leads nowhere, or None.
    lost: sql.Composable | None
    #: Sum by bucket at once: for a table that a second pass over would cost too much.
    at_once: bool
    #: Differences kept; the others are counted.
    limit: int
    values: bool


@dataclass(frozen=True)
class Compared:
    """What comparing one table came to."""

    source_rows: int
    target_rows: int
    source_checksum: str
    target_checksum: str
    found: Found
    #: The target's rows for which the condition of references was true.
    lost: int

    @property
    def differences(self) -> list[Difference]:
        """Those that are kept, by key."""
        return self.found.listed


def compare(pair: Pair, task: Task, settle: Callable[[], None]) -> Compared:
    """Compare a table on both sides; ``settle`` waits until both have applied what the other had committed.

    Counts and sums are those of the last pass over each bucket: with rows under way they agree when a pass met a moment in
    which they did.

    Raises:
        Refused: the table has no primary key, or not the same on both sides.
    """
    table, theirs = task.table, task.theirs
    if not table.key or set(table.key) - set(theirs.stored):
        raise Refused(
            f"{table.name}: rows are told apart by the primary key, which is {table.key or 'missing'} on the source and "
            f"{theirs.key or 'missing'} on the target; make it the same (see `task-migration schema diff`), then verify again"
        )
    found = Found(task.limit)
    if not task.at_once:
        ours, others = pair.both(lambda side: _sums(side, task, None, None, lost=side is pair.target))
        if ours[0][:2] == others[0][:2]:
            return _compared(ours, others, found)
        rows = max(ours[0][0], others[0][0])
    else:
        rows = max(_about(table), _about(theirs))
    buckets = Buckets.of(table, theirs, rows)
    reader = Reader(table, theirs, task.algorithm)
    ours, others = pair.both(lambda side: _sums(side, task, buckets, None, lost=side is pair.target))
    bounds: tuple[int, int] | None = None
    explained: set[int] = set()
    for _ in range(PASSES):
        suspect = sorted(b for b in ours.keys() | others.keys() if ours.get(b, _NONE)[:2] != others.get(b, _NONE)[:2])
        open_ = [b for b in suspect if b not in explained]
        if not open_:
            break
        if buckets.by_range:
            bounds = _bounds(pair, table)
        chosen = buckets.rows(open_, bounds)
        with pair.source.transaction(), pair.target.transaction():
            for places, looks in _together(_streams(pair, reader, buckets, chosen)):
                explained.update(places[key] for key in settled(pair, reader, looks, settle, found, task.values))
        again = pair.both(partial(_sums_again, pair, task, buckets, chosen))
        for sums, fresh in zip((ours, others), again, strict=True):
            for bucket in open_:
                sums.pop(bucket, None)
            sums.update(fresh)
    found.listed.sort(key=lambda difference: order(difference.key))
    return _compared(ours, others, found)


_NONE: Sum = (0, 0, 0)


def _about(table: Table) -> int:
    # Never analysed: a row takes 24 bytes at least, and usually four times as much.
    return max(table.rows_estimate, table.pages * 80)


def _compared(ours: dict[int, Sum], others: dict[int, Sum], found: Found) -> Compared:
    rows = [sum(entry[0] for entry in sums.values()) for sums in (ours, others)]
    totals = [f"{sum(entry[1] for entry in sums.values()) % 2**64:016x}" for sums in (ours, others)]
    return Compared(rows[0], rows[1], totals[0], totals[1], found, sum(entry[2] for entry in others.values()))


def _sums(
    side: Connection, task: Task, buckets: Buckets | None, chosen: sql.Composable | None, lost: bool
) -> dict[int, Sum]:
    """Rows and sums by bucket, or in one (0) without ``buckets``."""
    rows = chosen if chosen is not None else sql.SQL("FROM {} t").format(task.table.identifier)
    digest = row_hash(task.table, task.algorithm, task.theirs)
    gone: sql.Composable = sql.SQL("0::bigint")
    if buckets is None:
        if lost and task.lost is not None:
            gone = sql.SQL("count(*) FILTER (WHERE {})").format(task.lost)
        query = sql.SQL("SELECT 0, count(*), coalesce(sum({}), 0), {} {}").format(digest, gone, rows)
    else:
        flag: sql.Composable = sql.SQL("false")
        if lost and task.lost is not None:
            flag, gone = task.lost, sql.SQL("count(*) FILTER (WHERE x.lost)")
        # OFFSET 0 keeps the planner from pulling the expressions up: it would take every row for a group and sort them all.
        query = sql.SQL(
            "SELECT x.bucket, count(*), sum(x.digest), {} FROM (SELECT {} AS bucket, {} AS digest, {} AS lost {} OFFSET 0) x GROUP BY 1"
        ).format(gone, buckets.expression, digest, flag, rows)
    return {int(row[0]): (int(row[1]), int(row[2]), int(row[3])) for row in side.execute(query).fetchall()}


def _sums_again(pair: Pair, task: Task, buckets: Buckets, chosen: sql.Composable, side: Connection) -> dict[int, Sum]:
    return _sums(side, task, buckets, chosen, lost=side is pair.target)


def _bounds(pair: Pair, table: Table) -> tuple[int, int] | None:
    query = sql.SQL("SELECT min({0}), max({0}) FROM {1}").format(sql.Identifier(table.key[0]), table.identifier)
    ends = [row for row in pair.both(lambda side: side.execute(query).fetchone()) if row and row[0] is not None]
    return (min(int(low) for low, _ in ends), max(int(high) for _, high in ends)) if ends else None


def _streams(
    pair: Pair, reader: Reader, buckets: Buckets, chosen: sql.Composable
) -> Iterator[tuple[int, tuple[Looks, Looks]]]:
    """The rows of the chosen buckets, bucket by bucket in order, both sides side by side, however many there are."""
    query = sql.SQL("SELECT {}, {} {} ORDER BY 1").format(buckets.expression, reader.head, chosen)

    def begin(cursor: ServerCursor[TupleRow]) -> Iterator[tuple[int, Looks]]:
        cursor.execute(query)
        return _started(_by_bucket(reader, iter(lambda: cursor.fetchmany(FETCH), [])))

    with (
        pair.source.cursor(name=f"verify_{next(_numbers)}") as one,
        pair.target.cursor(name=f"verify_{next(_numbers)}") as other,
    ):
        ours, theirs = pair.each(begin, one, other)
        left, right = next(ours, None), next(theirs, None)
        while left or right:
            at = min(side[0] for side in (left, right) if side)
            both: tuple[Looks, Looks] = ({}, {})
            if left and left[0] == at:
                both, left = (left[1], both[1]), next(ours, None)
            if right and right[0] == at:
                both, right = (both[0], right[1]), next(theirs, None)
            yield at, both


def _started(rows: Iterator[tuple[int, Looks]]) -> Iterator[tuple[int, Looks]]:
    """The same iterator with its first item fetched, so that both servers sort at once."""
    first = next(rows, None)

    def again() -> Iterator[tuple[int, Looks]]:
        if first is not None:
            yield first
            yield from rows

    return again()


def _by_bucket(reader: Reader, batches: Iterator[Sequence[Sequence[object]]]) -> Iterator[tuple[int, Looks]]:
    at: int | None = None
    looks: Looks = {}
    for batch in batches:
        for row in batch:
            bucket = int(str(row[0]))
            if at is not None and bucket != at:
                yield at, looks
                looks = {}
            at = bucket
            key, look = reader.split(row[1:])
            looks[key] = look
    if at is not None:
        yield at, looks


def _together(
    streams: Iterator[tuple[int, tuple[Looks, Looks]]],
) -> Iterator[tuple[dict[Key, int], tuple[Looks, Looks]]]:
    """What differs, by as many rows as are sorted out at once, and each row's bucket; no other row is held."""
    places: dict[Key, int] = {}
    held: tuple[Looks, Looks] = ({}, {})
    for bucket, looks in streams:
        keys = differing(looks)
        places.update(dict.fromkeys(keys, bucket))
        for side, seen in zip(held, looks, strict=True):
            side.update((key, seen[key]) for key in keys if key in seen)
        if len(places) >= TOGETHER:
            yield places, held
            places, held = {}, ({}, {})
    if places:
        yield places, held
