"""Preflight of the rows: one reading of each table finds its largest, as the text in which its record of writes travels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from scripts.database.catalog import Table
from scripts.database.connections import Connection
from scripts.database.error_text import told
from scripts.preflight.documents import Check, LargestRow
from scripts.preflight.tables import named
from scripts.support.settings import Settings

#: pgoutput builds a change in memory whole; larger rows than this want a look first.
LARGE_ROW_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Measured:
    """What a table's rows hold."""

    table: str
    #: Of the largest row's values as JSON text.
    largest: int = 0
    #: Why it was not read to its end, else None.
    unread: str | None = None


def measure(connection: Connection, tables: Mapping[str, Table]) -> list[Measured]:
    """Read each table once. One that cannot be read in the session's statement_timeout says so."""
    return [_measure(connection, table) for table in tables.values()]


def _measure(connection: Connection, table: Table) -> Measured:
    # As scripts/writes/capture.sql writes it when a row is inserted: each value as text, escaped for JSON.
    row = sql.SQL("json_object(ARRAY[{}]::text[], ARRAY[{}]::text[])").format(
        sql.SQL(", ").join(sql.Literal(name) for name in table.stored),
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in table.stored),
    )
    query = sql.SQL("SELECT coalesce(max(octet_length({}::text)), 0) FROM {}").format(row, table.identifier)
    try:
        with connection.transaction():
            found = connection.execute(query).fetchone()
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
        return Measured(table.name, unread=told(error))
    return Measured(table.name, int(found[0]) if found else 0)


def largest(found: list[Measured]) -> list[LargestRow]:
    """The largest row of each table."""
    return [LargestRow(table=entry.table, bytes=entry.largest) for entry in found]


def judge(settings: Settings, found: list[Measured]) -> Iterator[Check]:
    """The verdicts: what PostgreSQL's own replication carries is a note, what DMS would stop at is a failure. Pure."""
    dms = settings.config.replication_engine == "dms"
    limit = settings.config.dms_lob_max_size_kb * 1024 if dms else LARGE_ROW_BYTES
    yield named(
        "source: tables read",
        [f"{entry.table}: {entry.unread}" for entry in found if entry.unread],
        f"{len(found)}, every row",
        "warn",
        "its rows are not known: run it again, or look yourself with SET statement_timeout = 0",
    )
    large = [f"{entry.table} ({entry.largest} bytes)" for entry in found if entry.largest > limit]
    near = [f"{entry.table} ({entry.largest} bytes)" for entry in found if limit // 2 < entry.largest <= limit]
    tops = "; ".join(f"{entry.table} {entry.largest} bytes" for entry in found)
    says = f"dmsLobMaxSizeKb {settings.config.dms_lob_max_size_kb}" if dms else f"{LARGE_ROW_BYTES} bytes"
    remedy = (
        "a larger row, as JSON text, stops the task: raise dmsLobMaxSizeKb above twice it and deploy"
        if dms
        else "each such change is built in memory, on both servers; see that there is room for a few at once"
    )
    yield Check(
        "source: largest rows",
        ("fail" if dms else "warn") if large else ("warn" if near and dms else "pass"),
        f"{', '.join(large or near)}, the limit is {says}"
        if large or (near and dms)
        else f"the limit is {says}; {tops}",
        remedy,
    )
