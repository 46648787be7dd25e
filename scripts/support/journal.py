"""The journal: one JSON line per event, in the state directory, so that a killed step can be taken up again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

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


def entry_of(step: str, event: str, facts: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """One event, and the line of JSON without passwords that is kept of it."""
    entry = {"at": datetime.now(UTC).isoformat(), "step": step, "event": event, **facts}
    return entry, redact(json.dumps(entry, ensure_ascii=False, default=str))


def last_of(events: Iterable[dict[str, Any]], event: str) -> dict[str, Any] | None:
    """The newest such event, or None."""
    found = None
    for entry in events:
        if entry["event"] == event:
            found = entry
    return found


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
        entry, line = entry_of(step, event, facts)
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
        # Bytes, at the line feed alone: str.splitlines() ends a line at U+2028 and U+0085 too, which JSON leaves as they are.
        for line in self.path.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
            except ValueError:  # also of a character torn in two
                continue
            if step is None or entry.get("step") == step:
                yield entry

    def last(self, step: str, event: str) -> dict[str, Any] | None:
        """The newest such event, or None."""
        return last_of(self.events(step), event)
