"""The statement that applies one change, as DMS makes it: by the key, LOBs within the task's limit."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from scripts.database import catalog
from scripts.rehearsal.dms.decoding import Change
from scripts.rehearsal.dms.work import Failed, Work


@dataclass(frozen=True)
class Statement:
    """A change, and how it is applied."""

    change: Change
    query: sql.Composed
    values: list[str | None]


def of_change(work: Work, change: Change) -> Statement:
    """How ``change`` is applied to the table of the same name on the target.

    Raises:
        Failed: a LOB would be truncated, and the source endpoint says that this fails the task.
    """
    table, names = sql.Identifier(*change.table), list(change.values)
    values = [_fitting(work, change, name) for name in names]
    if change.operation == "DELETE":
        where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in names)
        return Statement(change, sql.SQL("DELETE FROM {} WHERE {}").format(table, where), values)
    query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        table, catalog.identifiers(names), sql.SQL(", ").join([sql.Placeholder()] * len(names))
    )
    return Statement(change, query, values)


def _fitting(work: Work, change: Change, name: str) -> str | None:
    """The value as limited LOB mode lets it through."""
    value, metadata = change.values[name], work.settings["TargetMetadata"]
    if value is None or name not in change.lobs or not metadata["LimitedSizeLobMode"]:
        return value
    size, limit = len(value.encode()), int(metadata["LobMaxSize"]) * 1024
    if size <= limit:
        return value
    if work.fail_on_truncation:
        raise Failed(
            f"Last Error LOB of {size} bytes in {'.'.join(change.table)}.{name} would be truncated, it exceeds "
            f"LobMaxSize of {metadata['LobMaxSize']} KB"
        )
    return value.encode()[:limit].decode(errors="ignore")
