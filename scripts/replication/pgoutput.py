"""Reads what a slot would send: the messages of PostgreSQL's own output plugin, protocol version 1, values as text.

Source of the formats: PostgreSQL 16, 'Logical Replication Message Formats'. Pure: bytes in, transactions out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from scripts.support.errors import DatabaseError

#: A value as text, None for NULL. A long value that an update left alone is not sent, and so is not in the mapping.
Row = dict[str, str | None]
Operation = Literal["INSERT", "UPDATE", "DELETE"]


@dataclass(frozen=True)
class Relation:
    """A published table as the publisher describes it; ``identity`` are the columns of its replica identity."""

    schema: str
    name: str
    columns: tuple[str, ...]
    identity: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """One row's change. ``old`` holds the replica identity, or the whole old row; None where the key did not change."""

    operation: Operation
    relation: Relation
    old: Row | None
    new: Row | None

    @property
    def before(self) -> Row:
        """The row as it is to be found: the old one where it was sent, else the new one."""
        return self.old if self.old is not None else (self.new or {})


@dataclass(frozen=True)
class Step:
    """One change and the transaction it belongs to; ``lsn`` is where that transaction's commit stands ('0/14A8A10')."""

    lsn: str
    xid: int
    change: Change


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += size
        return int(value)

    def letter(self) -> str:
        self.at += 1
        return chr(self.data[self.at - 1])

    def text(self) -> str:
        end = self.data.index(0, self.at)
        value = self.data[self.at : end].decode()
        self.at = end + 1
        return value

    def row(self, columns: tuple[str, ...]) -> Row:
        found: Row = {}
        for index in range(self.number(">h")):
            kind = self.letter()
            if kind == "t":
                size = self.number(">i")
                found[columns[index]] = self.data[self.at : self.at + size].decode()
                self.at += size
            elif kind == "n":
                found[columns[index]] = None
            elif kind != "u":
                raise ValueError(f"value of kind {kind!r}")
        return found


def lsn_text(value: int) -> str:
    """A log position as PostgreSQL writes it."""
    return f"{value >> 32:X}/{value & 0xFFFFFFFF:X}"


def read(messages: Iterable[bytes]) -> Iterator[Step]:
    """The row changes of the messages, in order.

    Raises:
        DatabaseError: a message is none of protocol version 1.
    """
    relations: dict[int, Relation] = {}
    lsn, xid = "0/0", 0
    for data in messages:
        reader = _Reader(data)
        try:
            kind = reader.letter()
            if kind == "B":
                lsn = lsn_text(reader.number(">Q"))
                reader.number(">q")
                xid = reader.number(">I")
            elif kind == "R":
                number, relation = _relation(reader)
                relations[number] = relation
            elif kind in "IUD":
                yield Step(lsn, xid, _change(kind, reader, relations))
            elif kind not in "COYTM":
                raise ValueError(f"message of kind {kind!r}")
        except (ValueError, IndexError, KeyError, struct.error) as error:
            raise DatabaseError(
                f"a message of the slot cannot be read ({error}); the publisher must run PostgreSQL 16"
            ) from None


def _relation(reader: _Reader) -> tuple[int, Relation]:
    number = reader.number(">I")
    schema, name = reader.text() or "pg_catalog", reader.text()
    reader.letter()
    columns, identity = [], []
    for _ in range(reader.number(">h")):
        flags = reader.number(">b")
        column = reader.text()
        reader.number(">I")
        reader.number(">i")
        columns.append(column)
        if flags & 1:
            identity.append(column)
    return number, Relation(schema, name, tuple(columns), tuple(identity))


def _change(kind: str, reader: _Reader, relations: dict[int, Relation]) -> Change:
    relation = relations[reader.number(">I")]
    old: Row | None = None
    part = reader.letter()
    if part in "KO":
        old = reader.row(relation.columns)
        if part == "K":
            # Columns outside the key are sent as NULL, which they are not.
            old = {name: value for name, value in old.items() if name in relation.identity}
        if kind == "D":
            return Change("DELETE", relation, old, None)
        part = reader.letter()
    if part != "N":
        raise ValueError(f"row of kind {part!r}")
    return Change("INSERT" if kind == "I" else "UPDATE", relation, old, reader.row(relation.columns))
