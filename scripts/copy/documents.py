"""What `copy` prints."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document


class TableCopied(Document):
    """One table: rows, bytes as they went over the line, seconds of all its parts together. In a dry run the catalog's estimates."""

    table: str
    rows: int
    bytes: int
    seconds: float


class SequenceSet(Document):
    """A sequence of the target and the number that it hands out next."""

    sequence: str
    value: int


class Copied(Document):
    """The facts of a copy, which the target keeps as well."""

    slot: str
    lsn: str | None
    snapshot: str | None
    tables: list[TableCopied]
    sequences: list[SequenceSet]
    seconds: float


class Copy(Copied):
    """``found`` is what an earlier run had left."""

    found: str
    status: Literal["complete", "already-complete", "dry-run"]
