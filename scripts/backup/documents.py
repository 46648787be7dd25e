"""What `backup` prints and stores beside the dump."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document


class TableSum(Document):
    """A table's rows and the sum of their hashes, in hex."""

    table: str
    rows: int
    checksum: str


class Dump(Document):
    """What was dumped, under the dump's own snapshot. ``objects`` counts what the database has of each kind."""

    database: str
    server_version: str
    server_major: int
    client_version: int
    tables: list[TableSum]
    objects: dict[str, int]


class Verified(Dump):
    """The manifest of a backup that was restored and compared. One that was not has ``reason``, and no more is relied on."""

    created_at: str
    file: str
    inserts: bool
    sha256: str
    bytes: int
    location: str
    restore_verified: Literal[True]
    seconds: float


class Backup(Verified):
    """A verified backup, and where its manifest lies."""

    manifest: str


class Restored(Document):
    """A backup put back into ``database``, whole, and compared with its manifest."""

    location: str
    sha256: str
    database: str
    tables: list[TableSum]
    restored: Literal[True] = True
