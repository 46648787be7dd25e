"""Reads what `test_decoding` writes: one line of text for each change (PostgreSQL, contrib/test_decoding).

A slot has the changes of every table of its database. Only those of the tables that the task carries are read, which hold
numbers, text and times; all others are passed over, as their lines begin otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from scripts.rehearsal.dms.work import Failed

_COMMITTED = re.compile(r"\(at (.+)\)$")
_FIELD = re.compile(r" (\w+)\[([\w ]+)\]:(?:(null)|'([^']*(?:''[^']*)*)'|([^' ]\S*))(?= |$)")
#: A table by its schema and name, neither of which needs quotes.
Name = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """One changed row: all columns of a row that was inserted, the key of one that was deleted, as text."""

    table: Name
    operation: str
    values: dict[str, str | None]
    #: Columns that DMS takes for LOBs.
    lobs: frozenset[str] = frozenset()


@dataclass
class Transaction:
    """One source transaction; ``end_lsn`` is where the log goes on after its commit."""

    #: By the source's clock; None without the plugin's option include-timestamp.
    committed_at: datetime | None = None
    changes: list[Change] = field(default_factory=list)
    end_lsn: str = ""


def transactions(rows: Iterable[tuple[str, str]], tables: Collection[Name]) -> Iterator[Transaction]:
    """Whole transactions of ``(lsn, data)`` rows of pg_logical_slot_peek_changes, in the order of their commits.

    Raises:
        Failed: a line of one of ``tables`` is none of the plugin's.
    """
    heads = {f"table {schema}.{name}: ": (schema, name) for schema, name in tables}
    current = Transaction()
    for lsn, data in rows:
        if data.startswith("BEGIN"):
            current = Transaction()
        elif data.startswith("COMMIT"):
            current.end_lsn = lsn
            found = _COMMITTED.search(data)
            current.committed_at = datetime.fromisoformat(found[1]) if found else None
            yield current
        else:
            head = next((head for head in heads if data.startswith(head)), None)
            # DMS carries no TRUNCATE (AWS DMS, 'Limitations on using a PostgreSQL database as a DMS source').
            if head is not None and not data.startswith(head + "TRUNCATE:"):
                current.changes.append(_change(heads[head], data.removeprefix(head)))


def _change(table: Name, text: str) -> Change:
    operation, _, rest = text.partition(":")
    values: dict[str, str | None] = {}
    lobs = set()
    at = 0
    while at < len(rest):
        found = _FIELD.match(rest, at)
        if found is None:
            raise Failed(f"test_decoding wrote {rest[at : at + 20]!r} where a column should stand")
        name, kind, null, quoted, bare = found.groups()
        values[name] = None if null else (quoted.replace("''", "'") if quoted is not None else bare)
        if kind == "text":
            lobs.add(name)
        at = found.end()
    if operation not in ("INSERT", "DELETE") or not values:
        raise Failed(f"a record of writes is inserted and deleted alone; test_decoding wrote {text[:60]!r}")
    return Change(table, operation, values, frozenset(lobs))
