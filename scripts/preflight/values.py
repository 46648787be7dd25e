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
from scripts.writes import record

#: pgoutput builds a change in memory whole; larger rows than this want a look first.
LARGE_ROW_BYTES = 16 * 1024 * 1024
#: What applies a write reads it as jsonb, whose strings and objects end here (PostgreSQL, its `JENTRY_OFFLENMASK`).
JSONB_BYTES = 2**28 - 1
#: No value of PostgreSQL is longer, the text of a record neither ('Limits': field size).
FIELD_BYTES = 2**30 - 1


@dataclass(frozen=True)
class Measured:
    """What a table's rows hold."""

    table: str
    #: Of the largest row's values as JSON text; more than :data:`FIELD_BYTES` where there can be no such text.
    largest: int = 0
    #: Columns with text that UTF8, in which all commands read, has no characters for.
    unsayable: tuple[str, ...] = ()
    #: Why it was not read to its end, else None.
    unread: str | None = None


def measure(connection: Connection, tables: Mapping[str, Table]) -> list[Measured]:
    """Read each table once. One that cannot be read in the session's statement_timeout says so."""
    return [_measure(connection, table) for table in tables.values()]


def _measure(connection: Connection, table: Table) -> Measured:
    # As scripts/writes/capture.sql writes it when a row is inserted: each value as text, escaped for JSON.
    row = sql.SQL("json_object(ARRAY[{}]::text[], ARRAY[{}]::text[])").format(
        sql.SQL(", ").join(sql.Literal(name) for name in table.stored),
        record.texts(table, table.stored, "t"),
    )
    query = sql.SQL("SELECT coalesce(max(octet_length({}::text)), 0) FROM {} t").format(row, table.identifier)
    try:
        with connection.transaction():
            found = connection.execute(query).fetchone()
            unsayable = _unsayable(connection, table)
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable) as error:
        return Measured(table.name, unread=told(error))
    except (psycopg.errors.ProgramLimitExceeded, psycopg.errors.InternalError_):
        # 54000 for the text, XX000 for what is asked of memory before it comes to that.
        return Measured(table.name, FIELD_BYTES + 1)
    return Measured(table.name, int(found[0]) if found else 0, unsayable)


def _unsayable(connection: Connection, table: Table) -> tuple[str, ...]:
    """Columns with text that cannot be converted to UTF8; a database of UTF8 has none, and of SQL_ASCII nothing is converted."""
    if connection.info.parameter_status("server_encoding") in ("UTF8", "SQL_ASCII"):
        return ()
    wrong = []
    for name in table.stored:
        query = sql.SQL("SELECT count(convert_to({}::text, 'UTF8')) FROM {}").format(
            sql.Identifier(name), table.identifier
        )
        try:
            with connection.transaction():
                connection.execute(query)
        except psycopg.errors.UntranslatableCharacter:
            wrong.append(name)
    return tuple(wrong)


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
    yield named(
        "source: text that UTF8 can say",
        [f"{entry.table}.{name}" for entry in found for name in entry.unsayable],
        "all of it",
        "fail",
        "every command reads text as UTF8: write these values in characters that it has; which rows they are, a conversion says: "
        "SELECT convert_to(column, 'UTF8') FROM table, by ranges of the key until one fails",
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
    broken = [f"{entry.table} ({_size(entry)})" for entry in found if entry.largest > JSONB_BYTES]
    if broken:
        yield Check(
            "source: largest rows",
            "fail",
            f"{', '.join(broken)}, the limit is {JSONB_BYTES} bytes as JSON text, which is jsonb's",
            "a write of such a row could not be applied, or not even be made: move its content out of the row (into rows of parts, or to S3), "
            "or take the table out of `tables`",
        )
        return
    yield Check(
        "source: largest rows",
        ("fail" if dms else "warn") if large else ("warn" if near and dms else "pass"),
        f"{', '.join(large or near)}, the limit is {says}"
        if large or (near and dms)
        else f"the limit is {says}; {tops}",
        remedy,
    )


def _size(entry: Measured) -> str:
    return f"more than {FIELD_BYTES} bytes" if entry.largest > FIELD_BYTES else f"{entry.largest} bytes"
