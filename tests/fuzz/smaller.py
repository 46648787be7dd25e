"""The smallest island that still fails: what can be left out is left out, statement by statement, then part by part."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from tests.fuzz.case import Island, Round

_T = TypeVar("_T")
#: Seconds for one island, at most.
PATIENCE = 90.0
#: What a statement may do without.
CLAUSES = (
    r" ON (?:DELETE|UPDATE) (?:CASCADE|SET NULL|RESTRICT|SET DEFAULT)(?: \([^)]*\))?",
    r" ON CONFLICT .*",
    r" DEFERRABLE(?: INITIALLY DEFERRED)?",
    r" MATCH FULL",
    r" NOT NULL",
    r" DEFAULT '[^']*'",
    r" STORAGE EXTERNAL",
    r' COLLATE "C"',
    r" INCLUDE \([^)]*\)",
    r" NOT VALID",
)


class Smaller:
    """One search.

    Args:
        fails: carries a chain out, so each call takes seconds.
    """

    def __init__(self, island: Island, fails: Callable[[Island], bool], patience: float = PATIENCE) -> None:
        self.island, self._fails = island, fails
        self._until = time.monotonic() + patience

    def search(self) -> Island:
        """Each thing is tried once, the greatest first, then each statement's parts."""
        self._try(rounds=())
        inserts = [one for one in self.island.source if not one.startswith("INSERT")]
        self._try(source=tuple(inserts))
        self._each(lambda: self.island.rounds, lambda some: self._try(rounds=some))
        for at in reversed(range(len(self.island.rounds))):
            self._round(at)
        self._each(lambda: self.island.source, lambda some: self._try(source=some))
        self._each(lambda: self.island.both, lambda some: self._try(both=some))
        for at in reversed(range(len(self.island.source))):
            for fewer in _parts(self.island.source[at]):
                self._try(source=(*self.island.source[:at], fewer, *self.island.source[at + 1 :]))
        return self.island

    def _try(self, **changes: object) -> bool:
        one = replace(self.island, **changes)  # type: ignore[arg-type]  # fields of the island
        if one == self.island or time.monotonic() > self._until or not self._fails(one):
            return False
        self.island = one
        return True

    @staticmethod
    def _each(now: Callable[[], tuple[_T, ...]], take: Callable[[tuple[_T, ...]], bool]) -> None:
        for at in reversed(range(len(now()))):
            take(_cut(now(), at))

    def _round(self, at: int) -> None:
        def put(one: Round) -> bool:
            return self._try(rounds=(*self.island.rounds[:at], one, *self.island.rounds[at + 1 :]))

        self._each(lambda: self.island.rounds[at], put)
        for inner in reversed(range(len(self.island.rounds[at]))):
            before, after = self.island.rounds[at][:inner], self.island.rounds[at][inner + 1 :]
            for place in reversed(range(len(self.island.rounds[at][inner].statements))):
                mine = self.island.rounds[at][inner]
                if len(mine.statements) > 1:
                    put((*before, mine._replace(statements=_cut(mine.statements, place)), *after))
            put((*before, self.island.rounds[at][inner]._replace(isolation="READ COMMITTED"), *after))


def _cut(things: tuple[_T, ...], at: int) -> tuple[_T, ...]:
    return things[:at] + things[at + 1 :]


def _parts(statement: str) -> Iterator[str]:
    """A CREATE TABLE without one of its lines; a statement without one of its clauses."""
    head, *lines = statement.split("\n")
    for at in range(len(lines) - 1):
        rest = [line.rstrip(",") for line in _cut(tuple(lines[:-1]), at)]
        yield "\n".join((head, ",\n".join(rest), lines[-1]))
    for clause in CLAUSES:
        without = re.sub(clause, "", statement, count=1)
        if without != statement:
            yield without
