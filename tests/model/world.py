"""Rows, writes and what a set of rules must answer to be searched."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

#: Sides; the other one is ``1 - side``.
SOURCE, TARGET = 0, 1
SIDES = (SOURCE, TARGET)
NAMES = ("source", "target")

Kind = Literal["insert", "update", "delete"]

#: ``Cell.by`` of a value that was there before, and of one that the rules put there.
BASE, RULES = -1, -2
#: The name under which the existence of a row is judged like a column.
ROW = "row"


class Cell(NamedTuple):
    """A column's value and the write that put it there."""

    value: int
    by: int


#: Cells in the order of ``Shape.columns``; None: no such row.
Row = tuple[Cell, ...] | None


class Write(NamedTuple):
    """What somebody wrote. Its number is ``2 * n + side`` for the n-th write of a side, whatever happened in between."""

    number: int
    key: int
    kind: Kind
    #: (column, value); all columns of an insert, the changed ones of an update, with the whole group of each.
    values: tuple[tuple[str, int], ...]
    #: How many writes of the other side had arrived. Only the judge may look at it.
    knew: int

    @property
    def side(self) -> int:
        return self.number % 2

    def knows(self, other: Write) -> bool:
        """Whether this side had ``other`` when it wrote this."""
        if other.side == self.side:
            return other.number < self.number
        return other.number // 2 < self.knew

    def covers(self, column: str) -> bool:
        """Whether it says something about a column of its row, or :data:`ROW`; inserts and deletes do about each."""
        return self.kind != "update" or any(name == column for name, _ in self.values)

    def items(self) -> tuple[str, ...]:
        """What of it can be lost."""
        names = tuple(name for name, _ in self.values)
        return names if self.kind == "update" else (*names, ROW)

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.values)
        return f"{NAMES[self.side]} {self.kind} {self.key}" + (f" {values}" if values else "")


class Told(NamedTuple):
    """One line of the conflict log: what of which write was lost."""

    kind: str
    write: int
    item: str


class Shape(NamedTuple):
    """One table: its columns, the rows that both sides start with, and what must hold in it."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    #: Column whose values (but 0, for NULL) no two rows share.
    unique: str | None = None
    #: Column that holds the number of another row (0: NULL), and what becomes of it when that row goes.
    parent: str | None = None
    on_delete: Literal["cascade", "set null"] = "cascade"
    #: Columns that are decided alike but never told by themselves (updated_at).
    bookkeeping: tuple[str, ...] = ()


class Message(NamedTuple):
    """One transaction on its way to the other side."""

    records: tuple[Any, ...]
    #: How many writes of people are in it.
    writes: int


class Rules(Protocol):
    """What the search needs of a set of rules. ``Any`` is a side's database as these rules keep it: an immutable value."""

    def start(self, side: int) -> Any:
        """The database of ``side`` before the first write."""

    def begin(self, db: Any, writes: tuple[Write, ...], second: int) -> tuple[Any, Message]:
        """A local transaction has written and is not committed: what it has taken for good (numbers), and what it will send."""

    def commit(self, db: Any, message: Message) -> tuple[Any, Message]:
        """It commits: its rows are there, and what travels."""

    def waits(self, db: Any, message: Message, opened: Message) -> bool:
        """Whether applying ``message`` waits for a lock of the local transaction that is ``opened``."""

    def look(self, db: Any) -> Any | None:
        """What an apply function looks at before it has its lock; None when it looks at nothing then."""

    def receive(self, db: Any, message: Message, looked: Any | None) -> tuple[Any, Message | None]:
        """The other side's transaction applied; with it what the rules wrote themselves, which travels back."""

    def rows(self, db: Any) -> tuple[Row, ...]:
        """What a reader sees."""

    def told(self, db: Any) -> tuple[Told, ...]:
        """The conflict log."""

    def proven(self, left: Any, kept: Any) -> bool:
        """Whether everything written in ``left`` is proven to be in ``kept``."""

    def prune(self, db: Any, peer: Any, opened: tuple[Message, ...]) -> Any | None:
        """The database without what both sides know; None when there is nothing to prune. ``opened`` is not committed."""
