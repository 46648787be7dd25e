"""Single rows on both sides: which differ, and which of these differences are real while both sides take writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from psycopg import sql

from scripts.database.catalog import Table, identifiers
from scripts.database.connections import Connection
from scripts.replication.directions import Direction
from scripts.verify.documents import Kind
from scripts.verify.hash import Algorithm, as_text, row_hash, shared
from scripts.verify.sessions import CatchUp, Pair
from scripts.writes import record

Key = tuple[str, ...]
#: What was seen of a row: its version (xmin) and its hash.
Observation = tuple[str, int]
Observations = dict[Key, Observation]
Values = dict[str, str | None]
_NUMBER = re.compile(r"-?[0-9]{1,19}")
#: How often a row that keeps changing is looked at.
ROUNDS = 8
#: Keys looked up with one statement.
BATCH = 2000
#: A value shown is cut here, so that a row of megabytes does not fill memory and screen.
SHOWN = 2000


@dataclass(frozen=True)
class Difference:
    """One row that is not the same; key values as text. What was observed is what a repair checks before it writes."""

    key: Key
    kind: Kind
    columns: tuple[str, ...] = ()
    source_seen: Observation | None = field(default=None, repr=False)
    target_seen: Observation | None = field(default=None, repr=False)
    source_values: Values | None = field(default=None, repr=False)
    target_values: Values | None = field(default=None, repr=False)


@dataclass
class Found:
    """The differences of one table: all counted, the first ``limit`` kept."""

    limit: int
    listed: list[Difference] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    #: Rows that were changed between any two looks at them.
    moved: list[Key] = field(default_factory=list)

    @property
    def moving(self) -> int:
        """How many rows were changed between any two looks at them."""
        return len(self.moved)

    @property
    def total(self) -> int:
        """How many rows differ, listed or not."""
        return sum(self.kinds.values())


@dataclass(frozen=True)
class Reader:
    """Reads rows of one table, in the same way on both sides."""

    table: Table
    theirs: Table
    algorithm: Algorithm

    @property
    def head(self) -> sql.Composable:
        """What is selected of a row ``t``: the key's parts as text, its version, its hash."""
        keys = sql.SQL(", ").join(as_text(self.table.column(name)) for name in self.table.key)
        return sql.SQL("{}, t.xmin::text, {}").format(keys, row_hash(self.table, self.algorithm, self.theirs))

    def split(self, row: Sequence[Any]) -> tuple[Key, Observation]:
        """A selected row as its key and what was seen of it."""
        parts = len(self.table.key)
        return tuple(row[:parts]), (row[parts], row[parts + 1])

    def observations(self, connection: Connection, keys: Sequence[Key]) -> Observations:
        """The rows of ``keys`` that are there."""
        return dict(self.split(row) for row in self._by_key(connection, self.head, keys))

    def texts(
        self, connection: Connection, keys: Sequence[Key], values: bool
    ) -> dict[Key, tuple[Observation, list[Any]]]:
        """Of each row of ``keys`` what was observed and, by column, the value cut at :data:`SHOWN`, or else a hash of the value."""
        shown = []
        for name in shared(self.table, self.theirs):
            text = as_text(self.table.column(name))
            form = 'hashtextextended({0} COLLATE "C", 0)::text'
            if values:
                form = (
                    "CASE WHEN length({0}) > {1} THEN left({0}, {1}) || '... [' || length({0}) || ' characters, hash ' || "
                    "hashtextextended({0} COLLATE \"C\", 0) || ']' ELSE {0} END"
                )
            shown.append(sql.SQL(form).format(text, sql.Literal(SHOWN)))
        what = sql.SQL("{}, ARRAY[{}]").format(self.head, sql.SQL(", ").join(shown))
        found = {}
        for row in self._by_key(connection, what, keys):
            key, seen = self.split(row)
            found[key] = (seen, row[-1])
        return found

    def _by_key(self, connection: Connection, what: sql.Composable, keys: Sequence[Key]) -> Iterator[Sequence[Any]]:
        for start in range(0, len(keys), BATCH):
            query = sql.SQL("SELECT {} {}").format(what, at_keys(self.table, keys[start : start + BATCH]))
            yield from connection.execute(query).fetchall()


def at_keys(table: Table, keys: Sequence[Key]) -> sql.Composed:
    """FROM that gives the rows ``t`` of ``keys``."""
    names = [f"k{i}" for i in range(len(table.key))]
    match = record.at(table, [sql.Identifier("k", name) for name in names])
    # Literals, not parameters: with parameters a percent sign in a column's name would count as one.
    columns = [sql.Literal([key[i] for key in keys]) + sql.SQL("::text[]") for i in range(len(names))]
    return sql.SQL("FROM unnest({}) k({}) JOIN {} t ON {}").format(
        sql.SQL(", ").join(columns), identifiers(names), table.identifier, match
    )


def differing(before: tuple[Observations, Observations]) -> list[Key]:
    """The keys whose rows are not the same on both sides, a row that is not there included."""
    ours, theirs = before
    return [key for key in ours.keys() | theirs.keys() if _digest(ours.get(key)) != _digest(theirs.get(key))]


@dataclass(frozen=True)
class Recheck:
    """Looks again at rows that differed, until each difference is real or gone."""

    pair: Pair
    reader: Reader
    catch_up: CatchUp
    found: Found
    values: bool = False

    def rows(self, keys: Sequence[Key]) -> Found:
        """The real differences among the rows ``keys``."""
        for start in range(0, len(keys), BATCH):
            self.differences(
                differing(self.pair.both(partial(self.reader.observations, keys=keys[start : start + BATCH])))
            )
        return self.found

    def differences(self, waiting: list[Key]) -> set[Key]:
        """Sort out the keys ``waiting``, whose rows differed when they were first looked at; what is real goes into ``found``.

        A fence between two observations of a row that neither side changed in between has brought everything that was under
        way; so a row that differs in both differs. A row that changed meanwhile is looked at again, :data:`ROUNDS` times; one
        that is written all the time is equal when it came over as it was.

        Returns:
            the keys whose difference is real, or that kept changing.
        """
        known: set[Key] = set()
        for _ in range(ROUNDS):
            waiting = self._not_met(waiting)
            if not waiting:
                break
            look = partial(self.reader.observations, keys=waiting)
            before = self.pair.both(look)
            self.catch_up()
            after = self.pair.both(look)
            still, moving = _told_apart(waiting, before, after)
            real = self._take(still, after)
            known |= real
            waiting = moving + [key for key in still if key not in real]
        self.found.moved += waiting
        return known | set(waiting)

    def _not_met(self, keys: list[Key]) -> list[Key]:
        """Those of ``keys`` whose row was not on one side what it had been on the other when a fence of just then arrived there: the
        same moment of a row, however long the lag."""
        ways: tuple[tuple[Direction, Connection, Connection], ...] = (
            ("forward", self.pair.source, self.pair.target),
            ("reverse", self.pair.target, self.pair.source),
        )
        for direction, publisher, subscriber in ways:
            if keys:
                left = self.reader.observations(publisher, keys)
                self.catch_up.one_way(direction)
                unequal = set(differing((left, self.reader.observations(subscriber, keys))))
                keys = [key for key in keys if key in unequal]
        return keys

    def _take(self, keys: list[Key], seen: tuple[Observations, Observations]) -> set[Key]:
        """Count the differences, list the first of them with their columns. Returns the keys without those that were
        written since they were looked at."""
        described = keys[: max(0, self.found.limit - len(self.found.listed))]
        listed = list(self._described(described, seen))
        self.found.listed += listed
        counted = keys[len(described) :]
        self.found.kinds.update([one.kind for one in listed] + [_kind(seen, key) for key in counted])
        return {one.key for one in listed} | set(counted)

    def _described(self, keys: list[Key], seen: tuple[Observations, Observations]) -> Iterator[Difference]:
        """Each difference with its columns, but those of rows that were written since they were looked at."""
        if not keys:
            return
        ours, theirs = self.pair.both(lambda side: self.reader.texts(side, keys, self.values))
        names = shared(self.reader.table, self.reader.theirs)
        for key in keys:
            sides = (ours.get(key), theirs.get(key))
            if tuple(side and side[0] for side in sides) != _of(seen, key):
                continue
            left, right = (dict(zip(names, side[1], strict=True)) if side else None for side in sides)
            columns = tuple(name for name in names if left[name] != right[name]) if left and right else ()
            shown = (left, right) if self.values else (None, None)
            yield Difference(key, _kind(seen, key), columns, *_of(seen, key), *shown)


def _told_apart(
    keys: list[Key], before: tuple[Observations, Observations], after: tuple[Observations, Observations]
) -> tuple[list[Key], list[Key]]:
    """Of the rows that differ still: those that neither side changed in between, in order, and those that one did."""
    still: list[Key] = []
    moving: list[Key] = []
    for key in keys:
        if _digest(after[0].get(key)) == _digest(after[1].get(key)):
            continue
        (still if _of(before, key) == _of(after, key) else moving).append(key)
    return sorted(still, key=order), moving


def _of(seen: tuple[Observations, Observations], key: Key) -> tuple[Observation | None, Observation | None]:
    return seen[0].get(key), seen[1].get(key)


def _kind(seen: tuple[Observations, Observations], key: Key) -> Kind:
    if key not in seen[1]:
        return "missing_on_target"
    return "missing_on_source" if key not in seen[0] else "different"


def _digest(seen: Observation | None) -> int | None:
    return seen[1] if seen else None


def order(key: Key) -> tuple[tuple[int, str], ...]:
    """What keys are sorted by: numbers as numbers."""
    return tuple((int(part), "") if _NUMBER.fullmatch(part) else (0, part) for part in key)
