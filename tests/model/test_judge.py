"""The judge itself, on histories so small that a person sees what is promised in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from tests.model.judge import Problem, Promise, lost, problems
from tests.model.world import BASE, NAMES, ROW, SOURCE, TARGET, Cell, Row, Rules, Shape, Told, Write

SHAPE = Shape(("a", "b", "t"), (), bookkeeping=("t",))
#: By the source (even numbers) and the target (odd): all in one row unless said.
FIRST = Write(0, 0, "update", (("a", 1),), 0)
BLIND = Write(1, 0, "update", (("a", 2),), 0)
KNOWING = Write(1, 0, "update", (("a", 2),), 1)
DROPPED = Write(0, 0, "delete", (), 0)
OTHER = Write(1, 0, "update", (("b", 2),), 1)
GONE = Write(1, 0, "delete", (), 1)
BACK = Write(2, 0, "insert", (("a", 5), ("b", 5), ("t", 5)), 1)


def cells(a: int, b: int, t: int = 0, by: int = BASE) -> Row:
    return Cell(a, by), Cell(b, by), Cell(t, by)


def test_who_knows_whom() -> None:
    """A side knows what it wrote before, and of the other's writes as many as had arrived."""
    writes = [Write(number, 0, "update", (), knew) for number, knew in ((0, 0), (2, 1), (4, 1), (1, 0), (3, 2))]
    known = {(one.number, other.number) for one in writes for other in writes if one.knows(other)}
    assert known == {(2, 0), (4, 0), (4, 2), (3, 1), (2, 1), (4, 1), (3, 0), (3, 2)}
    assert [one.side for one in writes] == [SOURCE, SOURCE, SOURCE, TARGET, TARGET]


def test_what_a_write_says_and_what_of_it_can_be_lost() -> None:
    assert [one.covers(name) for one in (FIRST, BACK, GONE) for name in ("a", "b")] == [
        True,
        False,
        True,
        True,
        True,
        True,
    ]
    assert [str(one) for one in (FIRST, BACK, GONE)] == [
        "source update 0 a=1",
        "source insert 0 a=5, b=5, t=5",
        "target delete 0",
    ]
    assert [one.items() for one in (FIRST, BACK, GONE)] == [("a",), ("a", "b", "t", ROW), (ROW,)]


@pytest.mark.parametrize(
    ("row", "written", "seen", "found"),
    [
        (cells(1, 0), [FIRST], [], []),
        (cells(2, 0), [FIRST], [], [(FIRST, "a")]),
        (cells(2, 0), [FIRST, KNOWING], [FIRST, KNOWING], []),
        # Who did not know it replaces nothing; nor does one about another column, or another row.
        (cells(2, 0), [FIRST], [BLIND], [(FIRST, "a")]),
        (cells(2, 2), [FIRST], [OTHER], [(FIRST, "a")]),
        (cells(2, 0), [FIRST], [KNOWING._replace(key=1)], [(FIRST, "a")]),
        # A row that goes takes its values along, where the deletion knew them.
        (None, [FIRST], [GONE], []),
        (None, [FIRST, GONE], [GONE._replace(knew=0)], [(FIRST, "a")]),
        (cells(1, 0), [GONE], [], [(GONE, ROW)]),
        (cells(5, 5, 5), [GONE, BACK], [GONE, BACK], []),
        (cells(1, 0), [GONE], [Write(2, 0, "update", (("a", 1),), 1)], [(GONE, ROW)]),
        (cells(1, 0), [GONE], [Write(3, 0, "delete", (), 1)], [(GONE, ROW)]),
        (None, [BACK], [], [(BACK, "a"), (BACK, "b"), (BACK, ROW)]),
        (None, [BACK], [Write(3, 0, "delete", (), 2)], []),
        (cells(5, 6, 7), [BACK], [], [(BACK, "b")]),
    ],
)
def test_what_is_lost(row: Row, written: list[Write], seen: list[Write], found: list[tuple[Write, str]]) -> None:
    assert list(lost(SHAPE, (row, None), written, seen)) == found


@dataclass
class Side:
    """A side at rest: its rows, its log, and whether all that was written in it is proven to be on the other."""

    rows: tuple[Row, ...]
    told: tuple[Told, ...] = ()
    proven: bool = False


class Stands:
    """Rules that say what stands."""

    def rows(self, db: Side) -> tuple[Row, ...]:
        return db.rows

    def told(self, db: Side) -> tuple[Told, ...]:
        return db.told

    def proven(self, left: Side, kept: Side) -> bool:
        return left.proven and not kept.proven


def judged(
    source: Side,
    target: Side,
    writes: tuple[Write, ...],
    shape: Shape = SHAPE,
    got: tuple[int, int] = (9, 9),
    quiet: bool = True,
) -> list[Problem]:
    history: Any = tuple(tuple(one for one in writes if one.side == side) for side in (SOURCE, TARGET))
    return list(problems(cast("Rules", Stands()), shape, (source, target), history, got, quiet))


ONE, TWO = (cells(1, 0, by=0),), (cells(2, 0, by=1),)
LOST = Told("update", 0, "a")
CLAIM = Shape(("u",), (), unique="u")
CLAIMING = (Write(0, 0, "insert", (("u", 7),), 0), Write(1, 1, "insert", (("u", 7),), 0))
OUT = (Told("unique claim", 1, "u"), Told("unique claim", 1, ROW))
FAMILY = Shape(("parent",), (), parent="parent")


def family(*parents: int | None) -> tuple[Row, ...]:
    return tuple(None if parent is None else (Cell(parent, BASE),) for parent in parents)


@pytest.mark.parametrize(
    ("source", "target", "writes", "more", "found"),
    [
        (Side(TWO), Side(TWO), (FIRST, KNOWING), {}, set()),
        (Side(ONE), Side(ONE), (FIRST, KNOWING), {}, {"1 knowledge", "2 columns"}),
        (Side(TWO, (LOST,)), Side(TWO), (FIRST, BLIND), {}, set()),
        (Side(TWO), Side(TWO), (FIRST, BLIND), {}, {"3 unsaid"}),
        (Side(TWO), Side(TWO, (LOST, LOST)), (FIRST, BLIND), {}, {"3 told once"}),
        (Side(TWO, (LOST,)), Side(TWO, (LOST,)), (FIRST, BLIND), {}, {"3 told once"}),
        # Told of the other write, or of another column; told without a conflict, or of what keeps the books.
        (Side(TWO, (Told("update", 1, "a"),)), Side(TWO), (FIRST, BLIND), {}, {"3 unsaid"}),
        (Side(TWO, (LOST,)), Side(TWO), (FIRST, KNOWING), {}, {"2 columns"}),
        (Side(TWO, (LOST,)), Side(TWO), (FIRST,), {}, {"2 columns"}),
        (Side((cells(0, 0, 2),), (Told("update", 0, "t"),)), Side((cells(0, 0, 2),)),
         (Write(0, 0, "update", (("t", 1),), 0), Write(1, 0, "update", (("t", 2),), 0)), {}, {"2 columns"}),
        # Whether the row is there is contested by who makes or deletes it, not by who edits it.
        (Side((None,), (Told("update of deleted", 1, "a"),)), Side((None,)), (DROPPED, BLIND), {}, set()),
        (Side((None,), (Told("update of deleted", 1, "a"), Told("delete", 0, ROW))), Side((None,)), (DROPPED, BLIND), {}, {"2 columns"}),
        (Side((None,), (Told("delete", 0, ROW),)), Side((None,)), (DROPPED, BLIND._replace(kind="delete", values=())), {}, set()),
        # A deletion that is told says nothing of the insert that was lost.
        (Side((None,), (Told("", 1, "a"), Told("", 1, "b"), Told("", 0, ROW))), Side((None,)), (DROPPED, BACK._replace(number=1, knew=0)), {}, {"3 unsaid"}),
        # Under way nothing is asked but what is told.
        (Side(ONE), Side(TWO), (FIRST, BLIND), {"quiet": False}, set()),
        (Side(ONE), Side(TWO), (), {}, {"4 equal"}),
        (Side((None,)), Side(TWO), (), {}, {"4 equal"}),
        # A proof before everything is quiet: of what the left side wrote, whatever the kept one has got of it.
        (Side(ONE, proven=True), Side(ONE), (FIRST,), {"quiet": False}, set()),
        (Side(ONE, proven=True), Side((cells(0, 0),)), (FIRST,), {"quiet": False, "got": (0, 0)}, {"5 proof"}),
        (Side((cells(0, 0),)), Side(TWO, proven=True), (KNOWING,), {"quiet": False, "got": (0, 0)}, {"5 proof"}),
        # Replaced by a later write of the left side, which has arrived, or has not.
        (Side((cells(3, 0),), proven=True), Side((cells(3, 0),)), (FIRST, Write(2, 0, "update", (("a", 3),), 0)), {"quiet": False, "got": (0, 2)}, set()),
        (Side((cells(3, 0),), proven=True), Side((cells(3, 0),)), (FIRST, Write(2, 0, "update", (("a", 3),), 0)), {"quiet": False, "got": (0, 1)}, {"5 proof"}),
        # What PostgreSQL alone would keep; NULL is 0.
        (Side(family(7, 7)), Side(family(7, 7)), (), {"shape": CLAIM}, {"sound"}),
        (Side(family(7, 0, 0, None)), Side(family(7, 0, 0, None)), (), {"shape": CLAIM}, set()),
        (Side(family(0, 1)), Side(family(0, 1)), (), {"shape": FAMILY}, set()),
        (Side(family(None, 1)), Side(family(None, 1)), (), {"shape": FAMILY}, {"sound"}),
        (Side(family(0, 1), proven=True), Side(family(None, 1)), (), {"shape": FAMILY, "quiet": False}, {"5 proof"}),
        # Of two that claim one value one stays, and the other is told whole; where rules undo rows both sides may tell it.
        (Side(family(7, None), OUT), Side(family(7, None), OUT), CLAIMING, {"shape": CLAIM}, set()),
        (Side(family(7, None), OUT[:1]), Side(family(7, None)), CLAIMING, {"shape": CLAIM}, {"2 columns"}),
        (Side(family(None, None), (Told("unique claim", 1, "u"),)), Side(family(None, None), (Told("unique claim", 0, "u"),)),
         CLAIMING, {"shape": CLAIM}, {"3 one wins", "2 columns"}),
    ],
)  # fmt: skip
def test_what_is_not_as_promised(
    source: Side, target: Side, writes: tuple[Write, ...], more: dict[str, Any], found: set[Promise]
) -> None:
    assert {one.promise for one in judged(source, target, writes, **more)} == found


@pytest.mark.parametrize(
    ("source", "target", "writes", "shape", "said"),
    [
        (Side(ONE), Side(TWO), (FIRST, KNOWING), SHAPE, ["row 0: (1, 0, 0), (2, 0, 0)", "a of source update 0 a=1 is there, and a write that knew it is not, on the source", "lost: a of target update 0 a=2, on the source"]),
        (Side(TWO, (LOST, LOST)), Side(TWO), (FIRST, KNOWING), SHAPE, ["told 2 times: a of source update 0 a=1", "told as lost without a conflict: a of source update 0 a=1"]),
        (Side(TWO), Side(TWO), (FIRST, BLIND), SHAPE, [f"lost: a of source update 0 a=1, on the {side}" for side in NAMES]),
        (Side(family(7, 7)), Side((None, None)), (), CLAIM, ["row 0: (7,), None", "row 1: (7,), None", "two rows claim one value, on the source"]),
        (Side((None, None)), Side(family(None, 1)), (), FAMILY, ["row 1: None, (1,)", "a child without its parent, on the target"]),
        (Side(family(None, None), (Told("unique claim", 1, "u"), Told("unique claim", 0, "u"))), Side(family(None, None)), CLAIMING, CLAIM,
         ["rows [0, 1] lost to each other", *(f"lost: row of {one} u=7, on the {side}" for side in NAMES for one in ("source insert 0", "target insert 1"))]),
        (Side(TWO, proven=True), Side((cells(0, 0),)), (BLIND._replace(number=0),), SHAPE,
         ["row 0: (2, 0, 0), (0, 0, 0)", "lost: a of source update 0 a=2, on the target", "proven, but lost: a of source update 0 a=2, on the target"]),
        (Side((None, None)), Side(family(None, 1), proven=True), (), FAMILY, ["row 1: None, (1,)", "a child without its parent, on the target"]),
        (Side(family(None, 1)), Side((None, None), proven=True), (), FAMILY,
         ["row 1: (1,), None", "a child without its parent, on the source", "proven, but a child without its parent, on the source"]),
    ],
)  # fmt: skip
def test_a_broken_promise_is_told_with_the_row_the_write_and_the_side(
    source: Side, target: Side, writes: tuple[Write, ...], shape: Shape, said: list[str]
) -> None:
    """Prevents a failing search of which nobody sees what failed."""
    assert [one.what for one in judged(source, target, writes, shape)] == said


def test_sides_of_another_number_of_rows_are_not_compared() -> None:
    """Prevents rules that forget a row from being called equal."""
    with pytest.raises(ValueError, match="shorter"):
        judged(Side((*TWO, None)), Side(TWO), ())
