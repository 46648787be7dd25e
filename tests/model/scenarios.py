"""What is searched: rows, what is written in them, and how far to go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.model.judge import Promise
from tests.model.search import Choices, Limits
from tests.model.world import BASE, Cell, Row, Shape

Choice = tuple[tuple[int, Any, tuple[tuple[str, int], ...]], ...]


def row(*values: int) -> Row:
    """A row that both sides start with."""
    return tuple(Cell(value, BASE) for value in values)


def one_row(*updates: tuple[str, ...], columns: tuple[str, ...] = ("a", "b")) -> Choices:
    """Writes of row 0: an update of each of these groups of columns; delete; insert where it is gone."""

    def choices(rows: tuple[Row, ...], number: int) -> Iterator[Choice]:
        if rows[0] is None:
            yield ((0, "insert", tuple((name, 10 + number) for name in columns)),)
            return
        for names in updates:
            yield ((0, "update", tuple((name, 10 + number) for name in names)),)
        yield ((0, "delete", ()),)

    return choices


def grouped(rows: tuple[Row, ...], number: int) -> Iterator[Choice]:
    """Either column of a group is changed, and the other goes with it."""
    if rows[0] is not None:
        yield ((0, "update", (("a", 10 + number), ("b", rows[0][1].value))),)
        yield ((0, "update", (("a", rows[0][0].value), ("b", 10 + number))),)


def claims(rows: tuple[Row, ...], number: int) -> Iterator[Choice]:
    """Rows that claim 1 or 2, as a unique constraint lets one side do it."""
    taken = {there[0].value for there in rows if there is not None}
    for key, there in enumerate(rows):
        for value in {1, 2} - taken:
            yield ((key, "insert" if there is None else "update", (("u", value),)),)
        if there is not None:
            yield ((key, "delete", ()),)


def came_back(rows: tuple[Row, ...], number: int) -> Iterator[Choice]:
    """As ``claims``, each side with a row of its own: the source's (0) gives up its value and takes it again."""
    side = number % 2
    for choice in claims(rows, number):
        if choice[0][0] == side:
            yield choice


def family(on_delete: str) -> Choices:
    """Row 0 is the parent that row 1 may name, as a foreign key lets one side do it."""

    def choices(rows: tuple[Row, ...], number: int) -> Iterator[Choice]:
        parent, child = rows
        named = child is not None and child[0].value
        if parent is None:
            yield ((0, "insert", (("parent", 0), ("a", 100 + number))),)
        elif named and on_delete == "cascade":
            yield ((0, "delete", ()), (1, "delete", ()))
        elif named:
            yield ((0, "delete", ()), (1, "update", (("parent", 0),)))
        else:
            yield ((0, "delete", ()),)
        if child is None:
            if parent is not None:
                yield ((1, "insert", (("parent", 1), ("a", 100 + number))),)
            return
        yield ((1, "update", (("a", 100 + number),)),)
        yield ((1, "delete", ()),)
        if named:
            yield ((1, "update", (("parent", 0),)),)
        elif parent is not None:
            yield ((1, "update", (("parent", 1),)),)

    return choices


def chain(rows: tuple[Row, ...], number: int) -> Iterator[Choice]:
    """Each row hangs on the one before, and goes with it."""

    def gone(key: int) -> Choice:
        below = tuple(
            one
            for child, there in enumerate(rows)
            if there is not None and there[0].value == key + 1
            for one in gone(child)
        )
        return ((key, "delete", ()), *below)

    for key, there in enumerate(rows):
        if there is not None:
            yield gone(key)
        elif key == 0 or rows[key - 1] is not None:
            yield ((key, "insert", (("parent", key), ("a", 100 + number))),)
    if rows[-1] is not None:
        yield ((len(rows) - 1, "update", (("a", 100 + number),)),)


def claims_with_child(rows: tuple[Row, ...], number: int) -> Iterator[Choice]:
    """Rows 0 and 1 claim 1 or 2; row 2 hangs on one of them."""
    *claimants, child = rows
    taken = {there[0].value for there in claimants if there is not None}
    for key, there in enumerate(claimants):
        if there is None:
            if 1 not in taken:
                yield ((key, "insert", (("u", 1), ("parent", 0))),)
            continue
        for value in {1, 2} - taken:
            yield ((key, "update", (("u", value),)),)
        if child is not None and child[1].value == key + 1:
            yield ((key, "delete", ()), (2, "delete", ()))
        else:
            yield ((key, "delete", ()),)
        if child is None:
            yield ((2, "insert", (("u", 0), ("parent", key + 1))),)
        elif child[1].value != key + 1:
            yield ((2, "update", (("parent", key + 1),)),)
    if child is not None:
        yield ((2, "delete", ()),)


class Scenario(NamedTuple):
    """Rows, what is written in them, and how far to go."""

    shape: Shape
    choices: Choices
    limits: Limits
    #: How far each side's clock is ahead at the start, so that either of two writes has the higher number.
    ahead: tuple[int, int] = (0, 0)


EACH = one_row(("a",), ("b",))
BOTH = one_row(("a",), ("b",), ("a", "b"))
A_ALONE = one_row(("a",))
TWO_COLUMNS = Shape(("a", "b"), (row(0, 0),))
CHILD = ("parent", "a")

SCENARIOS = {
    "four writes": Scenario(TWO_COLUMNS, EACH, Limits(4)),
    "four writes, the source's clock ahead": Scenario(TWO_COLUMNS, A_ALONE, Limits(4), (5, 0)),
    "four writes, the target's clock ahead": Scenario(TWO_COLUMNS, EACH, Limits(4), (0, 5)),
    "a row that is not there": Scenario(Shape(("a", "b"), (None,)), BOTH, Limits(3)),
    "kills that repeat": Scenario(TWO_COLUMNS, BOTH, Limits(3, repeats=1)),
    "kills that repeat, and prunes": Scenario(TWO_COLUMNS, A_ALONE, Limits(3, repeats=1, prunes=1)),
    "prunes": Scenario(TWO_COLUMNS, A_ALONE, Limits(3, prunes=2)),
    "transactions that stay open or roll back": Scenario(TWO_COLUMNS, BOTH, Limits(3, opens=True)),
    "open, the target's clock ahead": Scenario(TWO_COLUMNS, EACH, Limits(3, opens=True), (0, 5)),
    "open and pruned, the target's clock ahead": Scenario(
        TWO_COLUMNS, A_ALONE, Limits(3, prunes=1, opens=True), (0, 5)
    ),
    "a group of columns": Scenario(TWO_COLUMNS, grouped, Limits(3)),
    "updated_at": Scenario(
        Shape(("a", "b", "t"), (row(0, 0, 0),), bookkeeping=("t",)),
        one_row(("a", "t"), ("b", "t"), ("t",), columns=("a", "b", "t")),
        Limits(3),
    ),
    "two new rows claim": Scenario(Shape(("u",), (None, None), unique="u"), claims, Limits(3)),
    "a claim that comes back": Scenario(Shape(("u",), (None, None), unique="u"), came_back, Limits(4)),
    "two old rows claim": Scenario(Shape(("u",), (row(1), row(2)), unique="u"), claims, Limits(3)),
    "a new row claims an old one's": Scenario(Shape(("u",), (row(1), None), unique="u"), claims, Limits(3), (0, 5)),
    "a parent without a child": Scenario(
        Shape(CHILD, (row(0, 0), None), parent="parent"), family("cascade"), Limits(4)
    ),
    "a parent and a child": Scenario(
        Shape(CHILD, (row(0, 0), row(1, 0)), parent="parent"), family("cascade"), Limits(3)
    ),
    "a chain of three": Scenario(Shape(CHILD, (row(0, 0), row(1, 0), None), parent="parent"), chain, Limits(4)),
    "claims with a child": Scenario(
        Shape(("u", "parent"), (row(1, 0), None, None), unique="u", parent="parent"), claims_with_child, Limits(3)
    ),
    "a child that is set to null": Scenario(
        Shape(CHILD, (row(0, 0), row(1, 0)), parent="parent", on_delete="set null"), family("set null"), Limits(3)
    ),
}

#: For each fault what sees it: a scenario and the promise that it breaks there.
SEEN: dict[str, tuple[str, Promise]] = {
    "clock stands still on apply": ("four writes", "1 knowledge"),
    "target's clock not lifted": ("four writes", "4 equal"),
    "source wins": ("four writes", "4 equal"),
    "whole row wins": ("four writes", "2 columns"),
    "group not carried whole": ("a group of columns", "3 unsaid"),
    "edit resurrects": ("four writes", "4 equal"),
    "insert forgets own later edits": ("four writes, the target's clock ahead", "4 equal"),
    "told on both sides": ("four writes", "3 told once"),
    "not told": ("four writes", "3 unsaid"),
    "looks before it locks": ("transactions that stay open or roll back", "4 equal"),
    "absent row not locked": ("open, the target's clock ahead", "4 equal"),
    "repeat applied again": ("kills that repeat", "3 told once"),
    "pruned without a mark": ("kills that repeat, and prunes", "3 told once"),
    "pruned unarrived": ("prunes", "4 equal"),
    "pruned after one round of fences": ("open and pruned, the target's clock ahead", "4 equal"),
    "pruned under an open transaction": ("open and pruned, the target's clock ahead", "4 equal"),
    "parent not looked for": ("a parent and a child", "sound"),
    "children not looked for": ("a parent and a child", "5 proof"),
    "rules' writes stay here": ("a parent without a child", "4 equal"),
    "newer claim loses": ("a claim that comes back", "3 one wins"),
    "claim not looked for": ("two new rows claim", "sound"),
    "proof by equal rows": ("four writes", "5 proof"),
}
