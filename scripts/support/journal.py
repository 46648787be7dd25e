"""The journal: one JSON line per event, in the state directory, for people and as evidence.

What decides stands in the databases. The journal's place can be written by more than this program, so a line that is none of its
events (torn, empty, foreign, too long, dated ahead) is named and passed by.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from scripts.support import private
from scripts.support.console import say
from scripts.support.errors import MigrationError, failure
from scripts.support.events import Step
from scripts.support.redact import redact

#: Longest line, or object, that is read as an event, bytes.
LARGEST = 4 * 2**20
#: So far the clock of another operator's machine may be ahead.
AHEAD = timedelta(hours=1)
#: What the damaged facts of an event raise when they are read, another version's among them; pydantic's ValidationError is a ValueError.
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
#: So many of what is passed by are named.
NAMED = 5


class Journal(Protocol):
    """Append-only events of one migration, in a folder or in S3."""

    def record(self, step: str, event: str, **facts: Any) -> dict[str, Any]:
        """Append one event and return it. ``facts`` must be JSON; passwords in them are redacted."""
        ...

    def events(self, step: str | None = None) -> Iterator[dict[str, Any]]:
        """The events in order, of one step or of all; what is no event is named on standard error and passed by."""
        ...


def entry_of(step: str, event: str, facts: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """One event, and the line of JSON without passwords that is kept of it."""
    entry = {"at": datetime.now(UTC).isoformat(), "step": step, "event": event, **facts}
    line = redact(json.dumps(entry, ensure_ascii=False, default=str))
    if len(line.encode(errors="replace")) >= LARGEST:
        return entry_of(step, event, {"left_out": f"{len(line)} characters of facts, the limit is {LARGEST} bytes"})
    return entry, line


def event_of(line: bytes) -> dict[str, Any]:
    """The event that a line or an object holds. Raises ValueError saying why it is none."""
    if len(line) > LARGEST:
        raise ValueError(f"longer than {LARGEST} bytes")
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):  # also of a character torn in two
        raise ValueError("no JSON" if line.strip() else "empty") from None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("at", "step", "event")):
        raise ValueError("no event")
    if entry["step"] not in set(Step):
        raise ValueError("of no step of this program")
    try:
        at = datetime.fromisoformat(entry["at"])
        ahead = at - datetime.now(UTC)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("without a time") from None
    if ahead > AHEAD:
        raise ValueError("dated ahead of this machine's clock")
    return entry


def moment(event: Mapping[str, Any]) -> float:
    """When an event was, seconds since the epoch."""
    return datetime.fromisoformat(str(event["at"])).timestamp()


_told: set[str] = set()


def passed_by(where: str, found: Iterable[str]) -> None:
    """Name, once in a process, what of the journal at ``where`` is no event: texts ``which: why``."""
    new = [one for one in found if f"{where} {one}" not in _told]
    _told.update(f"{where} {one}" for one in new)
    if new:
        more = f" and {len(new) - NAMED} more" if len(new) > NAMED else ""
        say(
            f"the journal in {where} holds what is no event of this program, passed by: {'; '.join(new[:NAMED])}{more}",
            "yellow",
        )


def note(journal: Journal, step: str, event: str, **facts: Any) -> None:
    """As :meth:`Journal.record`, where what is done must not wait for it: a failure is told and goes no further."""
    try:
        journal.record(step, event, **facts)
    except (MigrationError, OSError) as error:
        say(f"not journaled: {error}", "yellow")


class FileJournal:
    """Append-only events of one migration.

    Each line is written with one ``write`` and flushed to the disk, so a kill leaves at most one torn last line, which
    :meth:`events` passes over.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "journal.jsonl"

    def record(self, step: str, event: str, **facts: Any) -> dict[str, Any]:
        """As :meth:`Journal.record`. Raises Refused when the directory or the file is not the operator's alone, MigrationError when it is full."""
        entry, line = entry_of(step, event, facts)
        private.directory(self.directory, narrow=True)
        descriptor = private.descriptor(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            # A torn last line of a killed run must not swallow this event.
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
            # A half of a surrogate pair, as a damaged text of somebody's may hold, stays as JSON escapes it.
            left = f"{chr(10) if torn else ''}{line}\n".encode(errors="backslashreplace")
            while left:  # a disk that becomes full takes a part, and says so only of the rest
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        except OSError as error:
            raise failure(OSError(error.errno, error.strerror, str(self.path))) from None
        finally:
            os.close(descriptor)
        return entry

    def events(self, step: str | None = None) -> Iterator[dict[str, Any]]:
        """As :meth:`Journal.events`. Raises Refused when the file is not the operator's alone."""
        if not os.path.lexists(self.path):
            return
        foreign = []
        # Bytes, at the line feed alone: str.splitlines() ends a line at U+2028 and U+0085 too, which JSON leaves as they are.
        with os.fdopen(private.descriptor(self.path, os.O_RDONLY), "rb") as file:
            for number, line in enumerate(_lines(file), 1):
                try:
                    entry = event_of(line)
                except ValueError as error:
                    foreign.append(f"line {number}: {error}")
                    continue
                if step is None or entry["step"] == step:
                    yield entry
        passed_by(str(self.path), foreign)


def _lines(file: Any) -> Iterator[bytes]:
    """Lines without their end; of a line that is too long no more is held than shows it to be so."""
    while line := file.readline(LARGEST + 1):
        if len(line) > LARGEST and not line.endswith(b"\n"):
            while (rest := file.readline(LARGEST)) and not rest.endswith(b"\n"):
                pass
        yield line.removesuffix(b"\n")
