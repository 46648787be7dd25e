"""Rows that differ when they are looked at, sorted out without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from scripts.replication.directions import Direction
from scripts.verify.rows import Found, Key, Observations, Pair, Reader, Recheck

LAG = 5.0
ROW: Key = ("1",)


class Wire:
    """A row that is written again and again on ``publisher``; the other side has each state of it ``LAG`` seconds later."""

    def __init__(self, publisher: str, every: float, wrong: int = 0) -> None:
        self.now, self.publisher, self.every, self.wrong = 1000.0, publisher, every, wrong

    def observations(self, side: Any, keys: Sequence[Key]) -> Observations:
        late = side != self.publisher
        version = int((self.now - (LAG if late else 0.0)) // self.every)
        return dict.fromkeys(keys, (f"{side}{version}", version + (self.wrong if late else 0)))

    def wait(self, direction: Direction) -> None:
        self.now += LAG if (direction == "forward") == (self.publisher == "source") else 0.1

    def catch_up(self) -> None:
        self.wait("forward")
        self.wait("reverse")

    def sorted_out(self, *, one_way: bool) -> Found:
        pair = Pair(cast("Any", "source"), cast("Any", "target"))
        reader = cast("Reader", self)
        recheck = Recheck(pair, reader, self.catch_up, Found(0), one_way=self.wait if one_way else None)
        return recheck.rows([ROW])


@pytest.mark.parametrize("publisher", ["source", "target"])
def test_a_row_that_is_written_within_the_lag_is_equal_when_it_came_over_as_it_was(publisher: str) -> None:
    """Prevents a canary that waits for ever for a row which a scheduler writes each second, behind a replication of some seconds."""
    assert Wire(publisher, 1.0).sorted_out(one_way=False).moving == 1, "a look at both sides at once cannot tell"
    found = Wire(publisher, 1.0).sorted_out(one_way=True)
    assert (found.moving, found.total) == (0, 0)


@pytest.mark.parametrize("publisher", ["source", "target"])
@pytest.mark.parametrize("every", [1.0, 30.0, 10_000.0])
def test_a_row_that_came_over_otherwise_is_never_equal(publisher: str, every: float) -> None:
    """Prevents a lost column from passing where the row is written all the time."""
    found = Wire(publisher, every, wrong=1_000_000).sorted_out(one_way=True)
    assert found.moving + found.total == 1
    assert every < LAG or found.total == 1
