"""Rows that differ when they are looked at, sorted out without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from scripts.replication.directions import Direction
from scripts.verify.rows import Found, Key, Observations, Reader, Recheck, _told_apart, order
from scripts.verify.sessions import CatchUp, Pair

LAG = 5.0
ROW: Key = ("1",)


class Wire:
    """A row that is written again and again on ``publisher``; the other side has each state of it ``LAG`` seconds later."""

    def __init__(self, publisher: str, every: float, wrong: int = 0, *, one_way: bool = True) -> None:
        self.now, self.publisher, self.every, self.wrong = 1000.0, publisher, every, wrong
        self.told_one_way = one_way

    def observations(self, side: Any, keys: Sequence[Key]) -> Observations:
        late = side != self.publisher
        version = int((self.now - (LAG if late else 0.0)) // self.every)
        return dict.fromkeys(keys, (f"{side}{version}", version + (self.wrong if late else 0)))

    def wait(self, direction: Direction) -> None:
        self.now += LAG if (direction == "forward") == (self.publisher == "source") else 0.1

    def one_way(self, direction: Direction) -> None:
        if self.told_one_way:
            self.wait(direction)

    def __call__(self) -> None:
        self.wait("forward")
        self.wait("reverse")

    def sorted_out(self) -> Found:
        pair = Pair(cast("Any", "source"), cast("Any", "target"))
        reader = cast("Reader", self)
        return Recheck(pair, reader, cast("CatchUp", self), Found(0)).rows([ROW])


@pytest.mark.parametrize("publisher", ["source", "target"])
def test_a_row_that_is_written_within_the_lag_is_equal_when_it_came_over_as_it_was(publisher: str) -> None:
    """Prevents a canary that waits for ever for a row which a scheduler writes each second, behind a replication of some seconds."""
    assert Wire(publisher, 1.0, one_way=False).sorted_out().moving == 1, "a look at both sides at once cannot tell"
    found = Wire(publisher, 1.0).sorted_out()
    assert (found.moving, found.total) == (0, 0)


@pytest.mark.parametrize("publisher", ["source", "target"])
@pytest.mark.parametrize("every", [1.0, 30.0, 10_000.0])
def test_a_row_that_came_over_otherwise_is_never_equal(publisher: str, every: float) -> None:
    """Prevents a lost column from passing where the row is written all the time."""
    found = Wire(publisher, every, wrong=1_000_000).sorted_out()
    assert found.moving + found.total == 1
    assert every < LAG or found.total == 1


def test_keys_are_in_the_order_of_their_numbers() -> None:
    """Prevents 10 before 9; a text stands beside 0."""
    wanted = [("-10",), ("-9",), ("0",), ("a",), ("b",), ("1",), ("9",), ("10",), ("10", "2"), ("10", "10")]
    shuffled = [wanted[place] for place in (7, 3, 9, 0, 5, 1, 8, 2, 6, 4)]
    assert sorted(shuffled, key=order) == wanted


def test_each_row_is_told_apart_by_itself() -> None:
    """Prevents differences that nobody reports, as a row which was looked at before them has come over meanwhile."""
    came, gone, moves, here, there = (("1",), ("2",), ("10",), ("3",), ("4",))
    before: tuple[Observations, Observations] = (
        {came: ("7", 1), moves: ("7", 1), here: ("7", 1), there: ("7", 1)},
        {came: ("8", 2), gone: ("8", 1), moves: ("8", 2), there: ("8", 2)},
    )
    after: tuple[Observations, Observations] = (
        {came: ("7", 1), moves: ("9", 3), here: ("7", 1), there: ("7", 1)},
        {came: ("9", 1), moves: ("8", 2), there: ("8", 2)},
    )
    assert _told_apart([came, gone, moves, there, here], before, after) == ([here, there], [moves])
