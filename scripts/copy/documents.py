"""What `copy` prints."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document


class SlotState(Document):
    """A slot as its server shows it (PostgreSQL, 'pg_replication_slots'); bytes of WAL kept for it, and not yet confirmed."""

    active: bool
    active_pid: int | None
    wal_status: str | None
    confirmed_lsn: str | None
    retained_bytes: int | None
    lag_bytes: int | None

    def __str__(self) -> str:
        used = f"in use by process {self.active_pid}" if self.active else "not in use"
        kept = "" if self.retained_bytes is None else f", {self.retained_bytes / 2**20:.1f} MiB kept"
        return f"{used}, confirmed up to {self.confirmed_lsn}, its WAL is {self.wal_status}{kept}"


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
