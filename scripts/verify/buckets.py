"""How a table is cut into buckets, the same on both sides. Pure: builds SQL, does no I/O.

One integer as the key: a bucket is a range of :data:`WIDTH` key values, so that the rows of a few buckets are read by the
primary key's index; ranges repeat every ``number`` buckets, so that sparse ids make no more groups than dense ones. Any other
key: a bucket is what a hash of the key leaves, and its rows are found by reading the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from scripts.database.catalog import Table
from scripts.verify.hash import hash_of

#: Key values in a range, a power of two: about as many rows are read again for one row that differs.
WIDTH_BITS = 8
WIDTH = 1 << WIDTH_BITS
#: At most as many buckets, so that memory stays flat: two sides times this many sums are held.
MOST = 1 << 15
#: More index probes than this are slower than reading the table once.
PROBES = 20_000
INT8_MIN, INT8_MAX = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Buckets:
    """The cut of one table into ``number`` buckets, a power of two."""

    table: Table
    theirs: Table
    number: int

    @classmethod
    def of(cls, table: Table, theirs: Table, rows: int) -> Buckets:
        """Buckets of about :data:`WIDTH` rows, for a table of about ``rows`` rows."""
        number = 16
        while number < MOST and number * WIDTH < rows * 2:
            number *= 2
        return cls(table, theirs, number)

    @property
    def by_range(self) -> bool:
        """Whether a bucket is made of ranges of the key."""
        return self.table.numeric_key is not None and self.theirs.numeric_key == self.table.numeric_key

    @property
    def expression(self) -> sql.Composable:
        """The bucket of a row ``t``, from 0 to ``number`` - 1."""
        if self.by_range:
            return sql.SQL("(t.{}::int8 >> {}) & {}").format(
                sql.Identifier(self.table.key[0]), sql.Literal(WIDTH_BITS), sql.Literal(self.number - 1)
            )
        return sql.SQL("{} & {}").format(hash_of(self.table, self.table.key, self.theirs), sql.Literal(self.number - 1))

    def ranges(self, buckets: Sequence[int], lowest: int, highest: int) -> list[tuple[int, int]] | None:
        """The key ranges, both ends included and in order, that make up ``buckets`` between two key values.

        None when there are more than :data:`PROBES`: the table is then better read as a whole.
        """
        first, last = (end >> WIDTH_BITS for end in (lowest, highest))
        turns = range(first // self.number, last // self.number + 1)
        if len(turns) * len(buckets) > PROBES:
            return None
        found: list[tuple[int, int]] = []
        for turn in turns:
            for bucket in sorted(buckets):
                low = (turn * self.number + bucket) << WIDTH_BITS
                high = low + WIDTH - 1
                if high < lowest or low > highest:
                    continue
                if found and found[-1][1] + 1 == low:
                    found[-1] = (found[-1][0], high)
                else:
                    found.append((low, high))
        return [(max(low, INT8_MIN), min(high, INT8_MAX)) for low, high in found]

    def rows(self, buckets: Sequence[int] | None, bounds: tuple[int, int] | None) -> sql.Composable:
        """FROM and WHERE that give the rows ``t`` of ``buckets``, or of all; ``bounds`` are those of the keys."""
        if buckets is None:
            return sql.SQL("FROM {} t").format(self.table.identifier)
        ranges = self.ranges(buckets, *bounds) if self.by_range and bounds is not None else None
        if ranges is None:
            return sql.SQL("FROM {} t WHERE {} = ANY({}::bigint[])").format(
                self.table.identifier, self.expression, sql.Literal(list(buckets))
            )
        return sql.SQL(
            "FROM unnest({}::bigint[], {}::bigint[]) r(low, high) JOIN {} t ON t.{} BETWEEN r.low AND r.high"
        ).format(
            sql.Literal([low for low, _ in ranges]),
            sql.Literal([high for _, high in ranges]),
            self.table.identifier,
            sql.Identifier(self.table.key[0]),
        )
