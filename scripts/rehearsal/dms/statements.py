"""The statement that applies one change, as DMS makes it: by the key, LOBs within the task's limit."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from scripts.database import catalog
from scripts.rehearsal.dms.decoding import Change, Field, Unchanged
from scripts.rehearsal.dms.work import Failed, Work

LOB_TYPES = frozenset({"text", "json", "jsonb", "bytea", "xml"})


@dataclass(frozen=True)
class Statement:
    """A change, and how it is applied."""

    change: Change
    query: sql.Composed
    values: list[str | None]


def of_change(work: Work, change: Change, described: catalog.Table) -> Statement:
    """How ``change`` is applied to the target's table as ``described``.

    Raises:
        Failed: a LOB would be truncated, and the source endpoint says that this fails the task.
    """
    table = sql.Identifier(change.schema, change.table)
    new = [_fitting(work, change, entry) for entry in change.new if entry.name in described.stored]
    given = [(entry.name, entry.value) for entry in new if not isinstance(entry.value, Unchanged)]
    if change.operation == "INSERT":
        query = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            table,
            catalog.identifiers([name for name, _ in given]),
            sql.SQL(", ").join([sql.Placeholder()] * len(given)),
        )
        return Statement(change, query, [value for _, value in given])
    before = {entry.name: entry.value for entry in (change.old or change.new)}
    where = _equals(described.key, " AND ")
    keys: list[str | None] = [str(before[name]) for name in described.key]
    if change.operation == "DELETE":
        return Statement(change, sql.SQL("DELETE FROM {} WHERE {}").format(table, where), keys)
    given = [(name, value) for name, value in given if described.column(name).identity != "a"]
    sets = _equals([name for name, _ in given], ", ")
    query = sql.SQL("UPDATE {} SET {} WHERE {}").format(table, sets, where)
    return Statement(change, query, [*(value for _, value in given), *keys])


def _equals(names: list[str] | tuple[str, ...], between: str) -> sql.Composed:
    return sql.SQL(between).join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in names)


def _fitting(work: Work, change: Change, entry: Field) -> Field:
    """The field as limited LOB mode lets it through."""
    metadata = work.settings["TargetMetadata"]
    if not isinstance(entry.value, str) or entry.type not in LOB_TYPES or not metadata["LimitedSizeLobMode"]:
        return entry
    size = len(entry.value) // 2 if entry.type == "bytea" else len(entry.value.encode())
    limit = int(metadata["LobMaxSize"]) * 1024
    if size <= limit:
        return entry
    if work.fail_on_truncation:
        raise Failed(
            f"Last Error LOB of {size} bytes in {change.schema}.{change.table}.{entry.name} would be truncated, it exceeds "
            f"LobMaxSize of {metadata['LobMaxSize']} KB"
        )
    return Field(entry.name, entry.type, entry.value[:limit])
