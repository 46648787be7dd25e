"""The ledger of the load: every acknowledged write, one JSON line each, and the proof that the database still has them.

A write whose answer never came, or was a 5xx, stands in it too, as not acknowledged: the database may have it or not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from scripts.database import queries
from scripts.rehearsal.documents import LedgerCheck, LostWrite

BATCH = 1000
SQL = queries.load("scripts.rehearsal")
#: What a write without a body of its own makes of the task.
EFFECTS: Mapping[str, Mapping[str, Any]] = {
    "create": {"is_completed": False, "approved": False, "deleted": False, "tags": [], "images": []},
    "complete": {"is_completed": True},
    "approve": {"approved": True},
    "reject": {"is_completed": False},
    "delete": {"deleted": True},
}


@dataclass(frozen=True)
class Entry:
    """One write. ``id`` is None for a creation without an answer; ``sequence`` counts the writes to one task from 1.

    ``fields`` are as sent; ``status`` is 0 when no answer came; ``target`` is the answer's ``x-served-by``.
    """

    at: float
    op: str
    method: str
    path: str
    id: int | None
    sequence: int
    fields: Mapping[str, Any]
    status: int
    acknowledged: bool
    target: str | None
    user: int | None = None


class Ledger:
    """Appends entries. Each line is one ``write`` to the file, so a kill leaves at most one torn line, the last."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, entry: Entry) -> None:
        """Append one entry."""
        line = json.dumps(vars(entry) | {"fields": dict(entry.fields)}, ensure_ascii=False) + "\n"
        os.write(self._descriptor, line.encode())

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
            yield Entry(**values)


@dataclass
class _Allowed:
    """Values that a field may have, and which acknowledged write set it last (its op and sequence)."""

    values: list[Any]
    write: tuple[int, str]


@dataclass
class _Task:
    """What the ledger knows of one task."""

    acknowledged: int = 0
    fields: dict[str, _Allowed] = field(default_factory=dict)

    def take(self, entry: Entry) -> None:
        """Entries come in the order of ``sequence``, as one user sends the writes to a task one after the other."""
        changes = {**EFFECTS.get(entry.op, {}), **entry.fields}
        for name in ("tags", "images"):
            if name in changes:
                changes[name] = sorted(changes[name])
        self.acknowledged += entry.acknowledged
        for name, value in changes.items():
            if entry.acknowledged:
                self.fields[name] = _Allowed([value], (entry.sequence, entry.op))
            elif name in self.fields:
                self.fields[name].values.append(value)
            # A field that no acknowledged write set is not ours to judge.


def _collect(path: Path, until: float | None) -> tuple[dict[int, _Task], int]:
    entries: dict[int, list[Entry]] = {}
    total = 0
    for written in read_ledger(path):
        late = until is not None and written.at > until
        entry = replace(written, acknowledged=False) if late else written
        total += entry.acknowledged
        if entry.id is not None:
            entries.setdefault(entry.id, []).append(entry)
    tasks: dict[int, _Task] = {}
    for key, writes in entries.items():
        task = tasks[key] = _Task()
        for entry in sorted(writes, key=lambda item: item.sequence):
            task.take(entry)
    return tasks, total


def _rows(connection: psycopg.Connection[Any], keys: list[int]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(keys), BATCH):
        with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            yield from cursor.execute(SQL["task_states"].encode(), (keys[start : start + BATCH],))


def check_ledger(ledger_path: Path, connection: psycopg.Connection[Any], *, until: float | None = None) -> LedgerCheck:
    """Compare the last acknowledged state of each task in the ledger with the database.

    Replication must have caught up (a fence) when the database is not the one that took the writes. Under live load, give
    ``until`` (seconds since the epoch): what was acknowledged later may be in the database or not. The connection's
    snapshot must be taken after ``until``, and the ledger be read some seconds later, so that no write is in the snapshot
    but not yet in the ledger.

    Returns:
        what was acknowledged and what of it the database does not have. A missing row loses all its writes.

    Raises:
        OSError: there is no ledger.
    """
    tasks, total = _collect(ledger_path, until)
    lost = 0
    items: list[LostWrite] = []
    missing = {key for key, task in tasks.items() if task.acknowledged}
    for row in _rows(connection, sorted(tasks)):
        key = int(row["id"])
        missing.discard(key)
        writes = set()
        for name, allowed in tasks[key].fields.items():
            if name in row and row[name] not in allowed.values:
                sequence, op = allowed.write
                writes.add(sequence)
                items.append(
                    LostWrite(id=key, sequence=sequence, op=op, field=name, expected=allowed.values, found=row[name])
                )
        lost += len(writes)
    for key in sorted(missing):
        lost += tasks[key].acknowledged
        items.append(LostWrite(id=key, sequence=1, op="create", field="id", expected=[key], found=None))
    return LedgerCheck(total=total, lost=lost, lost_items=items)
