"""Reads what `test_decoding` writes: one line of text for each change (PostgreSQL, contrib/test_decoding)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Literal

from scripts.support.errors import MigrationError

_COMMITTED = re.compile(r"\(at (.+)\)$")
Operation = Literal["INSERT", "UPDATE", "DELETE", "TRUNCATE"]


class Unchanged(Enum):
    """The one value that says: a long value that this update left alone, and that is not in the log."""

    TOAST = "unchanged-toast-datum"


#: Text as the type's output function wrote it, None for NULL.
Value = str | None | Unchanged


@dataclass(frozen=True)
class Field:
    """One column of a change."""

    name: str
    type: str
    value: Value


@dataclass(frozen=True)
class Change:
    """One changed row. ``old`` is the old key where an update changed it, or what the replica identity keeps of a
    deleted row; ``new`` is the row that an insert or update wrote."""

    schema: str
    table: str
    operation: Operation
    new: tuple[Field, ...] = ()
    old: tuple[Field, ...] = ()


@dataclass
class Transaction:
    """One source transaction; ``end_lsn`` is where the log goes on after its commit."""

    xid: str
    #: By the source's clock; None without the plugin's option include-timestamp.
    committed_at: datetime | None = None
    changes: list[Change] = field(default_factory=list)
    end_lsn: str = ""


def transactions(rows: Iterable[tuple[str, str, str]]) -> Iterator[Transaction]:
    """Whole transactions of ``(lsn, xid, data)`` rows of pg_logical_slot_peek_changes, in the order of their commits.

    Raises:
        MigrationError: a line is none of the plugin's.
    """
    current: Transaction | None = None
    for lsn, xid, data in rows:
        if data.startswith("BEGIN"):
            current = Transaction(xid)
        elif data.startswith("COMMIT"):
            if current is None:
                raise MigrationError(f"a COMMIT without BEGIN at {lsn}: the slot was read by someone else")
            current.end_lsn = lsn
            found = _COMMITTED.search(data)
            current.committed_at = datetime.fromisoformat(found[1]) if found else None
            yield current
            current = None
        elif data.startswith("table "):
            if current is None:
                raise MigrationError(f"a change outside a transaction at {lsn}: the slot was read by someone else")
            current.changes.append(parse(data))
        elif not data.startswith("message:"):
            raise MigrationError(f"test_decoding wrote an unknown line at {lsn}: {data[:60]!r}")


def parse(data: str) -> Change:
    """The change of one ``table ...`` line. Raises MigrationError when it is none."""
    scanner = _Scanner(data)
    scanner.expect("table ")
    schema = scanner.identifier()
    scanner.expect(".")
    table = scanner.identifier()
    # A TRUNCATE of several tables lists them; none is replicated, so that the first says enough.
    scanner.until(": ")
    operation = scanner.until(":")
    if operation not in ("INSERT", "UPDATE", "DELETE", "TRUNCATE"):
        raise MigrationError(f"test_decoding wrote an unknown change: {data[:60]!r}")
    if operation == "TRUNCATE" or scanner.skip(" (no-tuple-data)"):
        return Change(schema, table, operation)  # type: ignore[arg-type]
    old: tuple[Field, ...] = ()
    if scanner.skip(" old-key:"):
        old = tuple(scanner.fields(stop=" new-tuple:"))
    fields = tuple(scanner.fields())
    if operation == "DELETE":
        return Change(schema, table, "DELETE", old=fields)
    return Change(schema, table, operation, new=fields, old=old)  # type: ignore[arg-type]


_BARE = re.compile(r"[^\s.\[\]:\"]+")
_NUMBER = re.compile(r"\S+")


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def _wrong(self, wanted: str) -> MigrationError:
        return MigrationError(
            f"test_decoding wrote {self._text[self._at : self._at + 20]!r} at column {self._at} where {wanted} should stand"
        )

    def skip(self, word: str) -> bool:
        if self._text.startswith(word, self._at):
            self._at += len(word)
            return True
        return False

    def expect(self, word: str) -> None:
        if not self.skip(word):
            raise self._wrong(repr(word))

    def until(self, word: str) -> str:
        end = self._text.find(word, self._at)
        if end < 0:
            raise self._wrong(repr(word))
        found, self._at = self._text[self._at : end], end + len(word)
        return found

    def _quoted(self, mark: str) -> str:
        """What stands between two ``mark``, one of which stands doubled inside."""
        self.expect(mark)
        parts: list[str] = []
        while True:
            end = self._text.find(mark, self._at)
            if end < 0:
                raise self._wrong(f"a closing {mark}")
            parts.append(self._text[self._at : end])
            self._at = end + 1
            if not self.skip(mark):
                return mark.join(parts)

    def identifier(self) -> str:
        if self._text.startswith('"', self._at):
            return self._quoted('"')
        found = _BARE.match(self._text, self._at)
        if found is None:
            raise self._wrong("a name")
        self._at = found.end()
        return found[0]

    def _type(self) -> str:
        """The type between brackets, which may hold brackets (arrays) and quoted names itself."""
        self.expect("[")
        start, depth = self._at, 1
        while depth:
            if self._at >= len(self._text):
                raise self._wrong("a closing ]")
            letter = self._text[self._at]
            if letter == '"':
                self._quoted('"')
                continue
            depth += (letter == "[") - (letter == "]")
            self._at += 1
        return self._text[start : self._at - 1]

    def _value(self) -> Value:
        if self._text.startswith("'", self._at):
            return self._quoted("'")
        if self._text.startswith("B'", self._at):
            self._at += 1
            return self._quoted("'")
        found = _NUMBER.match(self._text, self._at)
        if found is None:
            raise self._wrong("a value")
        self._at = found.end()
        if found[0] == "null":
            return None
        return Unchanged.TOAST if found[0] == Unchanged.TOAST.value else found[0]

    def fields(self, stop: str | None = None) -> Iterator[Field]:
        while self._at < len(self._text):
            if stop is not None and self.skip(stop):
                return
            self.expect(" ")
            name = self.identifier()
            kind = self._type()
            self.expect(":")
            yield Field(name, kind, self._value())
