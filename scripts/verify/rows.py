"""Single rows on both sides: which differ, and which of these differences are real while both sides take writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from psycopg import sql

from scripts.database.catalog import Table, identifiers
from scripts.database.connections import Connection
from scripts.verify.documents import Kind
from scripts.verify.hash import Algorithm, as_text, row_hash, shared

Key = tuple[str, ...]
#: What was seen of a row: its version (xmin) and its hash.
Look = tuple[str, int]
Looks = dict[Key, Look]
Values = dict[str, str | None]
S = TypeVar("S")
T = TypeVar("T")
_NUMBER = re.compile(r"-?[0-9]{1,19}")
#: How often a row that keeps changing is looked at.
ROUNDS = 8
#: Keys looked up with one statement.
BATCH = 2000
#: A value shown is cut here, so that a row of megabytes does not fill memory and screen.
SHOWN = 2000


@dataclass(frozen=True)
class Pair:
    """A session on each side, and the threads that use them at once; without threads, one after the other."""

    source: Connection
    target: Connection
    pool: ThreadPoolExecutor | None = None

    def both(self, ask: Callable[[Connection], T]) -> tuple[T, T]:
        """What ``ask`` gives on the source and on the target."""
        return self.each(ask, self.source, self.target)

    def each(self, ask: Callable[[S], T], ours: S, theirs: S) -> tuple[T, T]:
        """What ``ask`` gives for the source's and for the target's part."""
        if self.pool is None:
            return ask(ours), ask(theirs)
        first, second = self.pool.map(ask, (ours, theirs))
        return first, second


@dataclass(frozen=True)
class Difference:
    """One row that is not the same; key values as text. The looks are what a mend checks before it writes."""

    key: Key
    kind: Kind
    columns: tuple[str, ...] = ()
    source_look: Look | None = field(default=None, repr=False)
    target_look: Look | None = field(default=None, repr=False)
    source_values: Values | None = field(default=None, repr=False)
    target_values: Values | None = field(default=None, repr=False)


@dataclass
class Found:
    """The differences of one table: all counted, the first ``limit`` kept."""

    limit: int
    listed: list[Difference] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    unsettled: int = 0

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

    def split(self, row: Sequence[Any]) -> tuple[Key, Look]:
        """A selected row as its key and what was seen of it."""
        parts = len(self.table.key)
        return tuple(row[:parts]), (row[parts], row[parts + 1])

    def looks(self, connection: Connection, keys: Sequence[Key]) -> Looks:
        """The rows of ``keys`` that are there."""
        return dict(self.split(row) for row in self._by_key(connection, self.head, keys))

    def texts(self, connection: Connection, keys: Sequence[Key], values: bool) -> dict[Key, tuple[Look, list[Any]]]:
        """Of each row of ``keys`` its look and, by column, the value cut at :data:`SHOWN`, or else a hash of the value."""
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
            key, look = self.split(row)
            found[key] = (look, row[-1])
        return found

    def _by_key(self, connection: Connection, what: sql.Composable, keys: Sequence[Key]) -> Iterator[Sequence[Any]]:
        names = [f"k{i}" for i in range(len(self.table.key))]
        match = sql.SQL(" AND ").join(
            sql.SQL("t.{} = k.{}::{}").format(
                sql.Identifier(name), sql.Identifier(place), sql.SQL(self.table.column(name).type)
            )
            for name, place in zip(self.table.key, names, strict=True)
        )
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            # Literals, not parameters: with parameters a percent sign in a column's name would count as one.
            columns = [sql.Literal([key[i] for key in batch]) + sql.SQL("::text[]") for i in range(len(names))]
            query = sql.SQL("SELECT {} FROM unnest({}) k({}) JOIN {} t ON {}").format(
                what, sql.SQL(", ").join(columns), identifiers(names), self.table.identifier, match
            )
            yield from connection.execute(query).fetchall()


def recheck(
    pair: Pair, table: Table, keys: Sequence[Key], algorithm: Algorithm, settle: Callable[[], None]
) -> tuple[list[Difference], int]:
    """The differences among the rows ``keys`` that are real, and how many rows kept changing."""
    reader = Reader(table, table, algorithm)
    found = Found(len(keys))
    for start in range(0, len(keys), BATCH):
        before = pair.both(partial(_looks, reader, list(keys[start : start + BATCH])))
        settled(pair, reader, before, settle, found, values=False)
    return found.listed, found.unsettled


def _looks(reader: Reader, keys: list[Key], side: Connection) -> Looks:
    return reader.looks(side, keys)


def differing(before: tuple[Looks, Looks]) -> list[Key]:
    """The keys whose rows are not the same in two looks, a row that is not there included."""
    ours, theirs = before
    return [key for key in ours.keys() | theirs.keys() if _digest(ours.get(key)) != _digest(theirs.get(key))]


def settled(
    pair: Pair, reader: Reader, before: tuple[Looks, Looks], settle: Callable[[], None], found: Found, values: bool
) -> set[Key]:
    """Sort out what differed in the look ``before``; what is real goes into ``found``. Returns the keys real or unsettled.

    A fence between two looks at a row that neither side changed in between has brought everything that was under way; so
    a row that differs in both looks differs. A row that changed meanwhile is looked at again, :data:`ROUNDS` times.
    """
    waiting = differing(before)
    real: set[Key] = set()
    for _ in range(ROUNDS):
        if not waiting:
            break
        settle()
        after: tuple[Looks, Looks] = pair.both(partial(_looks, reader, waiting))
        still: list[Key] = []
        moving: list[Key] = []
        for key in waiting:
            if _digest(after[0].get(key)) == _digest(after[1].get(key)):
                continue
            same = all(b.get(key) == a.get(key) for b, a in zip(before, after, strict=True))
            (still if same else moving).append(key)
        still.sort(key=order)
        described = still[: max(0, found.limit - len(found.listed))]
        for difference in _described(pair, reader, described, after, values):
            if difference is None:
                continue
            found.listed.append(difference)
            found.kinds[difference.kind] += 1
            real.add(difference.key)
        moving += [key for key in described if key not in real]
        for key in still[len(described) :]:
            found.kinds[_kind(after, key)] += 1
            real.add(key)
        waiting, before = moving, after
    found.unsettled += len(waiting)
    return real | set(waiting)


def _described(
    pair: Pair, reader: Reader, keys: list[Key], looks: tuple[Looks, Looks], values: bool
) -> Iterator[Difference | None]:
    """Each difference with its columns; None for a row that was written since it was looked at."""
    if not keys:
        return
    ours, theirs = pair.both(lambda side: reader.texts(side, keys, values))
    names = shared(reader.table, reader.theirs)
    for key in keys:
        sides = (ours.get(key), theirs.get(key))
        if any((side[0] if side else None) != look.get(key) for side, look in zip(sides, looks, strict=True)):
            yield None
            continue
        columns = (
            tuple(name for name, a, b in zip(names, sides[0][1], sides[1][1], strict=True) if a != b)
            if sides[0] and sides[1]
            else ()
        )
        shown = [dict(zip(names, side[1], strict=True)) if side and values else None for side in sides]
        yield Difference(key, _kind(looks, key), columns, looks[0].get(key), looks[1].get(key), shown[0], shown[1])


def _kind(looks: tuple[Looks, Looks], key: Key) -> Kind:
    if key not in looks[1]:
        return "missing_on_target"
    return "missing_on_source" if key not in looks[0] else "different"


def _digest(look: Look | None) -> int | None:
    return look[1] if look else None


def order(key: Key) -> tuple[tuple[int, str], ...]:
    """What keys are sorted by: numbers as numbers."""
    return tuple((int(part), "") if _NUMBER.fullmatch(part) else (0, part) for part in key)
