"""The journal: one JSON line per event, in the state directory, so that a killed step can be taken up again."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from scripts.support.aws import bucket_and_prefix, client
from scripts.support.errors import MigrationError
from scripts.support.redact import redact


class Journal(Protocol):
    """Append-only events of one migration, in a folder or in S3."""

    def record(self, step: str, event: str, **facts: Any) -> dict[str, Any]:
        """Append one event and return it. ``facts`` must be JSON; passwords in them are redacted."""
        ...

    def events(self, step: str | None = None) -> Iterator[dict[str, Any]]:
        """The events in order, of one step or of all."""
        ...

    def last(self, step: str, event: str) -> dict[str, Any] | None:
        """The newest such event, or None."""
        ...


def open_journal(location: str) -> Journal:
    """The journal at a folder's path or at ``s3://bucket/prefix``. Raises UsageError for another URL."""
    if "://" not in location:
        return FileJournal(Path(location))
    return S3Journal(*bucket_and_prefix(location))


def _entry(step: str, event: str, facts: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    entry = {"at": datetime.now(UTC).isoformat(), "step": step, "event": event, **facts}
    return entry, redact(json.dumps(entry, ensure_ascii=False, default=str))


def _last(events: Iterable[dict[str, Any]], event: str) -> dict[str, Any] | None:
    found = None
    for entry in events:
        if entry["event"] == event:
            found = entry
    return found


class S3Journal:
    """One object an event, as S3 cannot append; the keys sort by time. S3 is strongly consistent after a write (Amazon
    S3, 'Amazon S3 data consistency model'), so the next command sees every event."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, "/".join(part for part in (prefix, "journal") if part)
        self._client = client("s3")

    def record(self, step: str, event: str, **facts: Any) -> dict[str, Any]:
        """As :meth:`Journal.record`. Raises MigrationError when S3 refuses."""
        entry, line = _entry(step, event, facts)
        key = f"{self.prefix}/{entry['at']}-{uuid.uuid4().hex[:8]}.json"
        with self._named():
            self._client.put_object(Bucket=self.bucket, Key=key, Body=line.encode())
        return entry

    def events(self, step: str | None = None) -> Iterator[dict[str, Any]]:
        """As :meth:`Journal.events`. Raises MigrationError when S3 refuses."""
        with self._named():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/")
            keys = sorted(item["Key"] for page in pages for item in page.get("Contents", []))
            bodies = [self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys]
        for body in bodies:
            entry = json.loads(body)
            if step is None or entry.get("step") == step:
                yield entry

    def last(self, step: str, event: str) -> dict[str, Any] | None:
        """As :meth:`Journal.last`."""
        return _last(self.events(step), event)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise MigrationError(
                f"the journal s3://{self.bucket}/{self.prefix} cannot be used: {error}; check TASK_MIGRATION_STATE_DIR and rights"
            ) from None


class FileJournal:
    """Append-only events of one migration.

    Each line is written with one ``write`` and flushed to the disk, so a kill leaves at most one torn last line, which
    :meth:`events` passes over.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "journal.jsonl"

    def record(self, step: str, event: str, **facts: Any) -> dict[str, Any]:
        """Append one event and return it. ``facts`` must be JSON; passwords in them are redacted."""
        entry, line = _entry(step, event, facts)
        line += "\n"
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # A torn last line of a killed run must not swallow this event.
            if self.path.stat().st_size and not self._ends_with_newline():
                line = "\n" + line
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return entry

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def events(self, step: str | None = None) -> Iterator[dict[str, Any]]:
        """The events in order, of one step or of all; a torn line is passed over."""
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if step is None or entry.get("step") == step:
                yield entry

    def last(self, step: str, event: str) -> dict[str, Any] | None:
        """The newest such event, or None."""
        return _last(self.events(step), event)
