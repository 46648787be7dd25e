"""What differs between two sides' answers to one question, field by field. Pure.

The monolith is asked before the Task Service and after it: where its two answers differ something changed meanwhile, or changes by
itself, and nothing is judged there. Lists of objects are matched by `id`, so that one row more does not shift the rest; the order of
a list counts where the contract has one; a field `*_at` is a moment, however it is written (Laravel gives six digits of a second,
JavaScript's toISOString three).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

Kind = Literal["status", "type", "value", "time", "missing", "extra", "length", "order"]
#: The newest task is the first (scripts/api/shapes.py); tags and images have no order in the contract.
ORDERED = frozenset({"tasks"})
#: Less than a date with its time: what is shorter is no moment.
MOMENT = len("2026-11-26T00:00:00")


@dataclass(frozen=True)
class Answer:
    """One answer: its status, None where none came, and its JSON, or the text that is none."""

    status: int | None
    body: Any = None

    @property
    def says_something(self) -> bool:
        """Whether it is the application's: not an error of its own, and not a throttled one (429)."""
        return self.status is not None and self.status < 500 and self.status != 429


@dataclass(frozen=True)
class Difference:
    """One field of one row that differs; ``detail`` says how, without the values."""

    name: str
    kind: Kind
    #: The id of the row, empty where there is none.
    row: str
    detail: str

    @property
    def about(self) -> tuple[str, str]:
        """What differs, whichever row shows it: while users write, another page size is a row that is missing the next time."""
        return self.name, "rows" if self.kind in ("missing", "extra", "length", "order") else self.kind


@dataclass
class Compared:
    """What the comparison of one answer showed. All but the differences are names of fields."""

    differences: set[Difference] = field(default_factory=set)
    #: Every field that an answer of the monolith had, and those that had a value which held still.
    named: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    #: The same moment, written otherwise.
    respelled: set[str] = field(default_factory=set)

    def add(self, name: str, kind: Kind, row: str, detail: str) -> None:
        """Something differs."""
        self.differences.add(Difference(name or "body", kind, row, detail))

    def value(self, name: str, row: str, first: Any, other: Any, again: Any) -> None:
        """Compare what stands under ``name`` in the monolith's two answers and, ``other``, in the Task Service's."""
        if isinstance(first, dict) and isinstance(other, dict) and isinstance(again, dict):
            self._object(name, row, first, other, again)
        elif isinstance(first, list) and isinstance(other, list) and isinstance(again, list):
            self._list(name, row, first, other, again)
        else:
            self._scalar(name, row, first, other, again)

    def _scalar(self, name: str, row: str, first: Any, other: Any, again: Any) -> None:
        self.named.add(name or "body")
        if _kind(first) != _kind(again):
            return  # it moves
        if not isinstance(first, dict | list):
            if _apart(name, first, again):
                return
            if first is not None:
                self.seen.add(name or "body")
        if apart := _apart(name, first, other):
            self.add(name, apart[0], row, apart[1])
        elif first != other:
            self.respelled.add(name)

    def _object(self, name: str, row: str, first: dict[str, Any], other: dict[str, Any], again: dict[str, Any]) -> None:
        for key in first.keys() | other.keys():
            here = f"{name}.{key}" if name else key
            if key in first and key in again:
                if key in other:
                    self.value(here, row, first[key], other[key], again[key])
                else:
                    self.add(here, "missing", row, "missing, the monolith has it")
            elif key not in first and key not in again:
                self.add(here, "extra", row, "the monolith has no such field")

    def _list(self, name: str, row: str, first: list[Any], other: list[Any], again: list[Any]) -> None:
        each = f"{name}[]"
        mine, theirs, later = _keyed(first), _keyed(other), _keyed(again)
        self.named.add(each)
        held = [key for key in mine if key in later]
        ordered = name in ORDERED and held == [key for key in later if key in mine]
        missing = [key for key in held if key not in theirs]
        extra = [key for key in theirs if key not in mine and key not in later]
        shared = [key for key in theirs if key in held]
        if ordered and len(held) == len(mine) == len(later) != len(theirs):
            # Rows that are there, or not, only because the page ends elsewhere.
            behind = slice(held.index(shared[-1]) + 1 if shared else 0, None)
            beyond = slice(list(theirs).index(shared[-1]) + 1 if shared else 0, None)
            if set(missing) <= set(held[behind]) and set(extra) <= set(list(theirs)[beyond]):
                self.add(each, "length", row, f"{len(theirs)} entries where the monolith has {len(mine)}")
                missing = extra = []
        for key in missing:
            self.add(each, "missing", _row(key) or row, f"{_kind(mine[key])} is missing, the monolith has it")
        for key in extra:
            self.add(each, "extra", _row(key) or row, f"{_kind(theirs[key])} that the monolith does not have")
        if ordered and shared != [key for key in held if key in theirs]:
            self.add(each, "order", row, "in another order")
        if held:
            self.seen.add(each)
        for key in shared:
            self.value(each, _row(key) or row, mine[key], theirs[key], later[key])


def compare(first: Answer, other: Answer, again: Answer) -> Compared | None:
    """What the Task Service's answer (``other``) differs in from both of the monolith's; None where those say nothing or not the same.

    Below an answer that is no 200 only the status counts: its texts are each side's own.
    """
    if first.status != again.status or not first.says_something:
        return None
    found = Compared()
    if other.status != first.status:
        told = "no answer" if other.status is None else str(other.status)
        found.add("status", "status", "", f"{told} where the monolith answers {first.status}")
    elif first.status == 200:
        found.value("", "", first.body, other.body, again.body)
    return found


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return kinds[type(value)]


def _apart(name: str, value: Any, other: Any) -> tuple[Kind, str] | None:
    """How two values differ, in words that hold neither; None where they are the same."""
    kind = _kind(value)
    if kind != _kind(other):
        return "type", f"{_kind(other)} where the monolith has {kind}"
    if value == other:
        return None
    moment, another = _moment(name, value), _moment(name, other)
    if moment is None or another is None:
        return "value", f"another value, {kind} as well"
    if (moment.tzinfo is None) != (another.tzinfo is None):
        return "time", "only one side names a time zone"
    shift = another - moment
    return ("time", f"{abs(shift)} {'later' if shift > timedelta() else 'earlier'}") if shift else None


def _moment(name: str, value: Any) -> datetime | None:
    if not (name.endswith("_at") and isinstance(value, str) and len(value) >= MOMENT):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _keyed(items: list[Any]) -> dict[Hashable, Any]:
    """The entries of a list by what tells them apart: an object's id, else all of it; and its number among equal ones."""
    found: dict[Hashable, Any] = {}
    count = Counter[Hashable]()
    for item in items:
        number = item.get("id") if isinstance(item, dict) else None
        named = isinstance(number, int | str) and not isinstance(number, bool)
        key = ("id", str(number)) if named else ("all", _text(item))
        count[key] += 1
        found[(*key, count[key])] = item
    return found


def _text(item: Any) -> str:
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    return json.dumps(item, sort_keys=True)


def _row(key: Any) -> str:
    """The row's id, if it is one: a text may say more than a number."""
    return key[1] if key[0] == "id" and key[1].isdecimal() else ""
