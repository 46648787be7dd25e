"""Moving rows: parts of tables, read under one snapshot and written by COPY, binary where all values allow it, with flat memory."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.pq import ExecStatus

from scripts.copy.plan import Part, Size
from scripts.copy.slot import QUERIES
from scripts.database.catalog import Table, identifiers
from scripts.database.connections import Connection
from scripts.database.error_text import told
from scripts.support.errors import DatabaseError

#: Bytes that are gathered before they are handed on; memory per job stays near this, or near the largest row.
CHUNK_BYTES = 128 * 1024


@dataclass(frozen=True)
class Moved:
    """What one part came to."""

    rows: int
    bytes: int
    seconds: float


def enter_snapshot(connection: Connection, snapshot: str, *, writes: bool = False) -> None:
    """Begin the session's transaction with exactly the exported view; it reads only, unless ``writes``.

    Raises:
        DatabaseError: the snapshot is gone, as the connection that exported it ended.
    """
    # The reader and the guard are idle in their transactions for as long as the others need.
    connection.execute("SET idle_in_transaction_session_timeout = 0")
    connection.commit()
    connection.execute(f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ {'WRITE' if writes else 'ONLY'}")
    try:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
    except (
        psycopg.errors.ObjectNotInPrerequisiteState,
        psycopg.errors.InvalidParameterValue,
        psycopg.errors.UndefinedObject,
    ) as error:
        raise DatabaseError(
            f"the snapshot {snapshot} is lost, as the connection that exported it ended ({told(error)}): what was copied "
            "under it cannot be completed; run `task-migration copy` again, it starts over with a new slot and snapshot"
        ) from None


def sizes(guard: Connection, tables: dict[str, Table]) -> dict[str, Size]:
    """How large the tables are on the source."""
    rows = guard.execute(QUERIES["sizes"], ([table.oid for table in tables.values()],)).fetchall()
    found = {int(oid): Size(int(pages), int(size)) for oid, pages, size in rows}
    return {name: found[table.oid] for name, table in tables.items()}


def statements(table: Table, part: Part, freeze: bool, by_text: bool) -> tuple[sql.Composed, sql.Composed]:
    """The COPY that reads the part, and the one that writes it; ``by_text``: some of its values come over as themselves so alone."""
    names = identifiers(table.stored)
    pages = sql.SQL("WHERE ctid >= {}::tid").format(sql.Literal(f"({part.first},0)"))
    if part.last is not None:
        pages += sql.SQL(" AND ctid < {}::tid").format(sql.Literal(f"({part.last},0)"))
    form = sql.SQL("TEXT" if by_text else "BINARY")
    out = sql.SQL("COPY (SELECT {} FROM {} {}) TO STDOUT (FORMAT {})").format(
        names, table.identifier, sql.SQL("") if part.whole else pages, form
    )
    into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {}{})").format(
        table.identifier, names, form, sql.SQL(", FREEZE") if freeze else sql.SQL("")
    )
    return out, into


def move(
    source: Connection,
    target: Connection,
    table: Table,
    part: Part,
    *,
    freeze: bool,
    by_text: bool,
    admit: Callable[[], None],
    moved: Callable[[int], None],
) -> Moved:
    """Copy one part; committed on the target as a whole, together with the emptying of a table that is loaded frozen.

    Args:
        by_text: as :func:`statements` takes it.
        admit: called once the table is locked on the target; raises when this run may not write any more.
        moved: called with the number of bytes of each chunk that was handed on.
    """
    started = time.monotonic()
    out, into = statements(table, part, freeze, by_text)
    with target.transaction(), source.cursor() as reader, target.cursor() as writer:
        lock = "TRUNCATE {}" if freeze else "LOCK TABLE {} IN ROW EXCLUSIVE MODE"
        target.execute(sql.SQL(lock).format(table.identifier))
        admit()
        size = 0
        with reader.copy(out), writer.copy(into) as sink:

            def hand_on(data: bytes) -> None:
                nonlocal size
                sink.write(data)
                size += len(data)
                moved(len(data))

            read = _pass_on(source, hand_on)
        if read != writer.rowcount:
            raise DatabaseError(
                f"{table.name}: {read} rows read, {writer.rowcount} written; run `task-migration copy` again"
            )
    return Moved(read, size, time.monotonic() - started)


def _pass_on(source: Connection, hand_on: Callable[[bytes], None]) -> int:
    """Read what the source sends until its end, gathered into chunks; returns the rows that the source counted.

    The server sends a message a row, and psycopg's own loop costs more than 1 µs for each: with millions of rows, as much as
    a server's work. So this reads libpq's messages itself (psycopg, 'pq - libpq wrapper module').
    """
    connection = source.pgconn
    take = connection.get_copy_data
    gathered = bytearray()
    waiting = select.poll()
    waiting.register(connection.socket, select.POLLIN)
    while True:
        length, data = take(1)
        if length > 0:
            gathered += data
            if len(gathered) >= CHUNK_BYTES:
                hand_on(bytes(gathered))
                gathered.clear()
        elif length == 0:
            # A dead line is noticed by the keepalives of the connection, which then counts as readable.
            waiting.poll()
            connection.consume_input()
        else:
            break
    rows, failed = 0, None
    while (result := connection.get_result()) is not None:
        if result.status == ExecStatus.COMMAND_OK:
            rows = result.command_tuples or 0
        else:
            failed = result
    if failed is not None:
        raise psycopg.errors.error_from_result(failed)
    if gathered:
        hand_on(bytes(gathered))
    return rows
