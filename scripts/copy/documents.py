"""What `copy` prints."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document


class TableCopied(Document):
    """One table; in a dry run the catalog's estimates."""

    table: str
    rows: int
    #: As they went over the line.
    bytes: int
    #: Of all its parts together, which may have run beside each other.
    seconds: float


class SequenceSet(Document):
    """A sequence of the target."""

    sequence: str
    #: The number that it hands out next.
    value: int


class Copied(Document):
    """The facts of a copy, which the target keeps as well."""

    slot: str
    #: Where the slot's changes begin; null in a dry run.
    lsn: str | None
    #: The slot's exported snapshot, under which the rows were read; null in a dry run.
    snapshot: str | None
    tables: list[TableCopied]
    sequences: list[SequenceSet]
    seconds: float


class Copy(Copied):
    """A copy, complete, of an earlier run, or tried only."""

    #: What an earlier run had left.
    found: str
    status: Literal["complete", "already-complete", "dry-run"]
