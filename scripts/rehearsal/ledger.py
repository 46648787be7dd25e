"""The ledger of the load: every write of a user or a background job, one JSON line each, with what its transaction had read.

A write whose answer never came, or was a 5xx, stands in it too, as not acknowledged: the database may have it or not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Longer values stand in the ledger by their beginning and their hash.
LONG = 80

Values = Mapping[str, str | None]
"""Column -> value as PostgreSQL's text of it, or None for NULL; long ones shortened by :func:`short`."""


@dataclass(frozen=True)
class Row:
    """One row that a transaction wrote. ``key`` is a JSON array of the key's values as text, as in the record of writes.

    ``read`` is what stood in the row before, seen under the row's lock: None where there was no row. ``wrote`` has the
    columns that were written, None where the row was deleted; then ``read`` has all of its columns.
    """

    table: str
    key: str
    read: Values | None
    wrote: Values | None


@dataclass(frozen=True)
class Entry:
    """One write. ``id`` is the task's, None for a creation without an answer and for jobs.

    ``at`` and ``ended`` are seconds since the epoch: sent, and answered (None: never). ``fields`` are as sent; ``status`` is
    0 when no answer came; ``target`` is the answer's ``x-served-by``; ``rows`` its ``x-rows``, None where it says none.
    """

    at: float
    ended: float | None
    op: str
    method: str
    path: str
    id: int | None
    fields: Mapping[str, Any]
    status: int
    acknowledged: bool
    target: str | None
    user: int | None = None
    rows: tuple[Row, ...] | None = None


class Ledger:
    """Appends entries. Each line is one ``write`` to the file, so several processes may share it, and a kill leaves at most
    one torn line a process, its last."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, entry: Entry) -> None:
        """Append one entry."""
        values = vars(entry) | {"rows": None if entry.rows is None else [vars(row) for row in entry.rows]}
        os.write(self._descriptor, (json.dumps(values, ensure_ascii=False) + "\n").encode())

    def close(self) -> None:
        """Make sure that it is on the disk, and close it."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def read_ledger(path: Path) -> Iterator[Entry]:
    """The entries in the order in which they were written; a torn line is passed over."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                values = json.loads(line)
            except json.JSONDecodeError:
                continue
            rows = values.pop("rows")
            yield Entry(**values, rows=None if rows is None else tuple(Row(**row) for row in rows))


def rows_from(header: str | None) -> tuple[Row, ...] | None:
    """The rows of an answer's ``x-rows``, as :func:`header_of` made it; None without one."""
    return None if header is None else tuple(Row(*parts) for parts in json.loads(header))


def header_of(rows: tuple[Row, ...]) -> str:
    """The value of ``x-rows``: ASCII, as headers are."""
    return json.dumps([[row.table, row.key, row.read, row.wrote] for row in rows])


def key_of(*values: Any) -> str:
    """The key of a row as the record of writes has it."""
    return json.dumps([str(value) for value in values])


def short(text: str) -> str:
    """The text itself, or the beginning and the hash of a long one."""
    if len(text) <= LONG:
        return text
    return f"{text[:20]}… {hashlib.sha256(text.encode()).hexdigest()[:20]}"


def text_of(value: Any) -> str | None:
    """A value as it is compared: PostgreSQL's text of it; JSON in a normal form, as its spaces say nothing."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return short(json.dumps(value, ensure_ascii=False, sort_keys=True))
    return short(str(value))
