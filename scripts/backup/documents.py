"""What `backup` prints and stores beside the dump."""

from __future__ import annotations

from typing import Literal

from scripts.support.document import Document


class TableSum(Document):
    """A table's rows, and the sum of their hashes in hex."""

    #: With its schema, unless that is public.
    table: str
    rows: int
    checksum: str


class Dump(Document):
    """What was dumped, under the dump's own snapshot."""

    #: The source's database.
    database: str
    server_version: str
    server_major: int
    #: Major version of pg_dump; an archive is read by it or a newer one.
    client_version: int
    #: Of the source's database; another one would hold other bytes.
    encoding: str = "UTF8"
    tables: list[TableSum]
    #: How many the database has of each kind, without those of extensions.
    objects: dict[str, int]


class Verified(Dump):
    """The manifest of a backup that was restored and compared. One that was not has ``reason``, and no more is relied on."""

    #: When the backup began, ISO 8601.
    created_at: str
    #: Name of the dump beside the manifest.
    file: str
    #: Whether the dump holds INSERT statements instead of COPY.
    inserts: bool
    #: Of the dump.
    sha256: str
    #: Size of the dump.
    bytes: int
    #: Where the dump lies: a path, or s3://bucket/key.
    location: str
    restore_verified: Literal[True]
    seconds: float


class Backup(Verified):
    """A verified backup."""

    #: Where its manifest lies; `backup restore` takes it.
    manifest: str


class Restored(Document):
    """A backup put back, whole, and compared with its manifest."""

    #: Where the dump lies.
    location: str
    sha256: str
    #: What it was restored into.
    database: str
    tables: list[TableSum]
    restored: Literal[True]
