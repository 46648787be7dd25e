"""Comparing one table: one sum on each side, then sums of buckets, then the rows of the buckets that differ.

A table that is equal costs one pass over it on each side, both at once. What differs is narrowed down by buckets (see
:mod:`scripts.verify.buckets`) to single rows (:mod:`scripts.verify.rows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

from psycopg import ServerCursor, sql
from psycopg.rows import TupleRow

from scripts.database.catalog import Table
from scripts.database.connections import Connection
from scripts.database.pace import Pace
from scripts.support.errors import Refused
from scripts.support.progress import Work
from scripts.verify.buckets import WIDTH, Buckets
from scripts.verify.hash import Algorithm, row_hash
from scripts.verify.rows import BATCH, Difference, Found, Key, Observations, Reader, Recheck, at_keys, differing, order
from scripts.verify.sessions import CatchUp, Pair
from scripts.verify.slices import about, slices

#: How often the buckets that differ are passed over until their sums come out equal, while rows are under way.
PASSES = 2
#: Rows that differ, sorted out with one fence; rows read from a side at a time. Both bound the memory.
TOGETHER = 10_000
FETCH = 5_000
#: An incremental verification compares one in so many of the rows that nobody wrote, a power of two; after so many each was seen. And so
#: many rows are a table that is compared whole all the same.
TURNS = 16
SMALL = 50_000
#: Of a bucket, or of the whole table: rows, sum of their hashes.
Sum = tuple[int, int]
Sums = dict[int, Sum]
_NONE: Sum = (0, 0)


@dataclass(frozen=True)
class Compared:
    """What comparing one table came to."""

    source_rows: int
    target_rows: int
    source_checksum: str
    target_checksum: str
    found: Found

    @classmethod
    def of(cls, sums: tuple[Sums, Sums], found: Found) -> Compared:
        """From the sums of both sides and the differences found."""
        rows = [sum(entry[0] for entry in side.values()) for side in sums]
        totals = [f"{sum(entry[1] for entry in side.values()) % 2**64:016x}" for side in sums]
        return cls(rows[0], rows[1], totals[0], totals[1], found)

    @property
    def differences(self) -> list[Difference]:
        """Those that are kept, by key."""
        return self.found.listed


@dataclass(frozen=True)
class TableComparison:
    """One table to be compared, and how.

    Counts and sums are those of the last pass over each bucket: with rows under way they agree when a pass met a moment in
    which they did.
    """

    pair: Pair
    table: Table
    theirs: Table
    algorithm: Algorithm
    #: Sum by bucket at once: for a table that a second pass over would cost too much.
    at_once: bool
    #: Differences kept; the others are counted.
    limit: int
    values: bool
    catch_up: CatchUp
    told: Work
    pace: Pace

    def run(self) -> Compared:
        """Compare the table on both sides.

        Raises:
            Refused: the table has no primary key, or not the same on both sides.
        """
        self._check_key()
        found = Found(self.limit)
        rows = max(about(self.table), about(self.theirs))
        if not self.at_once:
            sums = self._pass(None, self._slices())
            if sums[0][0] == sums[1][0]:
                return Compared.of(sums, found)
            rows = max(sums[0][0][0], sums[1][0][0])
        buckets = Buckets.of(self.table, self.theirs, rows)
        sums = self._pass(buckets, self._slices(), again=not self.at_once)
        self._narrow_down(buckets, sums, found)
        found.listed.sort(key=lambda difference: order(difference.key))
        return Compared.of(sums, found)

    def part(self, written: Sequence[Key], turn: int) -> Compared:
        """Compare the rows of the keys ``written``, and one in :data:`TURNS` of all rows: with each ``turn`` other ones, told by the key
        alone. A small table is compared whole. Counts and checksums are those of that part. Raises as :meth:`run`."""
        self._check_key()
        rows = max(about(self.table), about(self.theirs))
        # What was recorded by another key names no row of today.
        if rows <= SMALL or any(len(key) != len(self.table.key) for key in written):
            return self.run()
        found = Found(self.limit)
        buckets = Buckets.of(self.table, self.theirs, rows)
        sums = self._pass(buckets, self._turn(buckets, turn % TURNS))
        self._narrow_down(buckets, sums, found)
        seen = {difference.key for difference in found.listed}
        reader = Reader(self.table, self.theirs, self.algorithm)
        recheck = Recheck(self.pair, reader, self.catch_up, found, self.values)
        for start in range(0, len(written), BATCH):
            self.pace.gate()
            batch = written[start : start + BATCH]
            ours, others = self.pair.both(partial(self._sums, None, at_keys(self.table, batch)))
            if ours[0] != others[0]:
                recheck.rows([key for key in batch if key not in seen])
            self.told.advance(ours[0][0] + others[0][0])
        found.listed.sort(key=lambda difference: order(difference.key))
        return Compared.of(sums, found)

    def _check_key(self) -> None:
        table, theirs = self.table, self.theirs
        if not table.key or set(table.key) - {column.name for column in theirs.columns}:
            raise Refused(
                f"{table.name}: rows are told apart by the primary key, which is {table.key or 'missing'} on the source and "
                f"{theirs.key or 'missing'} on the target; make it the same (see `task-migration schema diff`), then verify again"
            )

    def _slices(self) -> Iterator[sql.Composable]:
        """FROM and WHERE of all rows, in pieces."""
        for slice_ in slices([(self.pair.source, self.table), (self.pair.target, self.theirs)], self.pace.rows):
            yield sql.SQL("FROM {} t WHERE {}").format(self.table.identifier, slice_)

    def _turn(self, buckets: Buckets, turn: int) -> Iterator[sql.Composable]:
        """FROM and WHERE of the rows whose turn it is, in pieces. It is told by the buckets' last bits, however many buckets there are."""
        chosen = range(turn, buckets.number, TURNS)
        bounds = self._bounds() if buckets.by_range else None
        if bounds is not None and buckets.ranges(chosen, *bounds) is not None:
            size = max(1, self.pace.rows // WIDTH)
            for start in range(0, len(chosen), size):
                yield buckets.rows(chosen[start : start + size], bounds)
        else:
            ours = sql.SQL(" AND {} & {} = {}").format(buckets.expression, sql.Literal(TURNS - 1), sql.Literal(turn))
            yield from (piece + ours for piece in self._slices())

    def _pass(
        self, buckets: Buckets | None, pieces: Iterable[sql.Composable], *, again: bool = False
    ) -> tuple[Sums, Sums]:
        """The sums of both sides, piece by piece; the first time the rows that were read are told as progress."""

        def one(chosen: sql.Composable, side: Connection) -> Sums:
            sums = self._sums(buckets, chosen, side)
            self.told.advance(0 if again else sum(entry[0] for entry in sums.values()))
            return sums

        whole: tuple[Sums, Sums] = ({}, {})
        for chosen in pieces:
            self.pace.gate()
            for side, found in zip(whole, self.pair.both(partial(one, chosen)), strict=True):
                for bucket, (rows, digest) in found.items():
                    before = side.get(bucket, _NONE)
                    side[bucket] = (before[0] + rows, before[1] + digest)
        return whole

    def _narrow_down(self, buckets: Buckets, sums: tuple[Sums, Sums], found: Found) -> None:
        """From the buckets whose sums differ to their rows; ``sums`` are brought up to date with each pass."""
        ours, others = sums
        reader = Reader(self.table, self.theirs, self.algorithm)
        recheck = Recheck(self.pair, reader, self.catch_up, found, self.values)
        bounds: tuple[int, int] | None = None
        explained: set[int] = set()
        for _ in range(PASSES):
            suspect = sorted(b for b in ours.keys() | others.keys() if ours.get(b, _NONE) != others.get(b, _NONE))
            open_ = [b for b in suspect if b not in explained]
            if not open_:
                break
            if buckets.by_range:
                bounds = self._bounds()
            chosen = buckets.rows(open_, bounds)
            with self.pair.source.transaction(), self.pair.target.transaction():
                for places in _together(_streams(self.pair, reader, buckets, chosen)):
                    explained.update(places[key] for key in recheck.differences(list(places)))
            again = self.pair.both(partial(self._sums, buckets, chosen))
            for side, fresh in zip(sums, again, strict=True):
                for bucket in open_:
                    side.pop(bucket, None)
                side.update(fresh)

    def _sums(self, buckets: Buckets | None, rows: sql.Composable, side: Connection) -> Sums:
        """Of ``rows`` (FROM and WHERE) count and sum by bucket, or in one (0) without ``buckets``."""
        digest = row_hash(self.table, self.algorithm, self.theirs)
        if buckets is None:
            query = sql.SQL("SELECT 0, count(*), coalesce(sum({}), 0) {}").format(digest, rows)
        else:
            # OFFSET 0 keeps the planner from pulling the expressions up: it would take every row for a group and sort them all.
            query = sql.SQL(
                "SELECT x.bucket, count(*), sum(x.digest) FROM (SELECT {} AS bucket, {} AS digest {} OFFSET 0) x GROUP BY 1"
            ).format(buckets.expression, digest, rows)
        return {int(bucket): (int(number), int(digest)) for bucket, number, digest in side.execute(query).fetchall()}

    def _bounds(self) -> tuple[int, int] | None:
        """The lowest and the highest key of both sides."""
        query = sql.SQL("SELECT min({0}), max({0}) FROM {1}").format(
            sql.Identifier(self.table.key[0]), self.table.identifier
        )
        ends = [
            row for row in self.pair.both(lambda side: side.execute(query).fetchone()) if row and row[0] is not None
        ]
        return (min(int(low) for low, _ in ends), max(int(high) for _, high in ends)) if ends else None


def _streams(
    pair: Pair, reader: Reader, buckets: Buckets, chosen: sql.Composable
) -> Iterator[tuple[int, tuple[Observations, Observations]]]:
    """The rows of the chosen buckets, bucket by bucket in order, both sides side by side, however many there are."""
    query = sql.SQL("SELECT {}, {} {} ORDER BY 1").format(buckets.expression, reader.head, chosen)

    def begin(cursor: ServerCursor[TupleRow]) -> Iterator[tuple[int, Observations]]:
        cursor.execute(query)
        return _started(_by_bucket(reader, iter(lambda: cursor.fetchmany(FETCH), [])))

    with (
        pair.source.cursor(name="verify") as one,
        pair.target.cursor(name="verify") as other,
    ):
        ours, theirs = pair.each(begin, one, other)
        left, right = next(ours, None), next(theirs, None)
        while left or right:
            at = min(side[0] for side in (left, right) if side)
            both: tuple[Observations, Observations] = ({}, {})
            if left and left[0] == at:
                both, left = (left[1], both[1]), next(ours, None)
            if right and right[0] == at:
                both, right = (both[0], right[1]), next(theirs, None)
            yield at, both


def _started(rows: Iterator[tuple[int, Observations]]) -> Iterator[tuple[int, Observations]]:
    """The same iterator with its first item fetched, so that both servers sort at once."""
    first = next(rows, None)

    def again() -> Iterator[tuple[int, Observations]]:
        if first is not None:
            yield first
            yield from rows

    return again()


def _by_bucket(reader: Reader, batches: Iterator[Sequence[Sequence[Any]]]) -> Iterator[tuple[int, Observations]]:
    for bucket, rows in groupby(chain.from_iterable(batches), itemgetter(0)):
        yield int(bucket), dict(reader.split(row[1:]) for row in rows)


def _together(
    streams: Iterator[tuple[int, tuple[Observations, Observations]]],
) -> Iterator[dict[Key, int]]:
    """The keys whose rows differ, by as many as are sorted out at once, with each one's bucket; no other row is held."""
    places: dict[Key, int] = {}
    for bucket, observed in streams:
        places.update(dict.fromkeys(differing(observed), bucket))
        if len(places) >= TOGETHER:
            yield places
            places = {}
    if places:
        yield places
