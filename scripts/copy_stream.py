"""Moving rows: page ranges of tables, read under one snapshot and written by binary COPY, with flat memory."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import psycopg
from psycopg import sql

from scripts.catalog import Table, identifiers
from scripts.support.postgres import Connection, connect

#: Bytes that are gathered before they are handed on; memory per job stays near this.
CHUNK_BYTES = 256 * 1024
#: Below this many pages (8 KiB each) a table is one part.
SMALLEST_PART_PAGES = 1024


@dataclass(frozen=True)
class Part:
    """The pages ``first`` to ``last`` (exclusive; None: to the end) of a table."""

    table: Table
    first: int
    last: int | None
    pages: int


@dataclass(frozen=True)
class Moved:
    """What one part came to."""

    rows: int
    bytes: int
    seconds: float


def enter_snapshot(connection: Connection, snapshot: str) -> None:
    """Begin the session's transaction with exactly the exported view."""
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))


def cut(guard: Connection, tables: list[Table], jobs: int) -> list[Part]:
    """Cut the tables into parts of about equal size, the largest first.

    Rows visible to the snapshot do not move between pages while the guard's locks keep rewrites out, so page ranges hold
    each row once, with or without gaps in the keys. The last part is open: pages added since hold no visible row or hold it.
    """
    parts = []
    for table in tables:
        row = guard.execute(
            "SELECT pg_relation_size(%s::oid) / current_setting('block_size')::int", (table.oid,)
        ).fetchone()
        pages = int(row[0]) if row else 0
        # Two parts a job even out differences between parts.
        size = max(SMALLEST_PART_PAGES, -(-pages // (jobs * 2)))
        starts = list(range(0, max(pages, 1), size))
        for start in starts:
            last = None if start == starts[-1] else start + size
            parts.append(Part(table, start, last, (last or max(pages, 1)) - start))
    return sorted(parts, key=lambda part: -part.pages)


class Workers:
    """One pair of connections a thread, kept for all parts that the thread moves."""

    def __init__(self, source_url: str, target_url: str, snapshot: str) -> None:
        self._source_url, self._target_url, self._snapshot = source_url, target_url, snapshot
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[Connection] = []

    def move(self, part: Part) -> Moved:
        """Copy one part; committed on the target as a whole."""
        started = time.monotonic()
        source, target = self._pair()
        table = part.table
        names = identifiers(table.stored)
        pages = sql.SQL("WHERE ctid >= {}::tid").format(sql.Literal(f"({part.first},0)"))
        if part.last is not None:
            pages += sql.SQL(" AND ctid < {}::tid").format(sql.Literal(f"({part.last},0)"))
        # Types made by CREATE TYPE have other oids on the other server, which binary arrays would carry along.
        form = "BINARY" if all(column.builtin for column in table.columns) else "TEXT"
        out = sql.SQL("COPY (SELECT {} FROM {} {}) TO STDOUT (FORMAT {})").format(
            names, table.identifier, pages, sql.SQL(form)
        )
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(table.identifier, names, sql.SQL(form))
        size = 0
        gathered = bytearray()
        with target.transaction(), source.cursor() as reader, target.cursor() as writer:
            with reader.copy(out) as rows, writer.copy(into) as sink:
                for data in rows:
                    gathered += data
                    if len(gathered) >= CHUNK_BYTES:
                        size += len(gathered)
                        sink.write(bytes(gathered))
                        gathered.clear()
                size += len(gathered)
                sink.write(bytes(gathered))
            if reader.rowcount != writer.rowcount:
                raise psycopg.DataError(
                    f"{table.name}: {reader.rowcount} rows read, {writer.rowcount} written; run `task-migration copy` again"
                )
            return Moved(writer.rowcount, size, time.monotonic() - started)

    def _pair(self) -> tuple[Connection, Connection]:
        if not hasattr(self._local, "pair"):
            source = connect(self._source_url, step="copy read", name="SOURCE_DATABASE_URL", autocommit=False)
            target = connect(self._target_url, step="copy write", name="TARGET_DATABASE_URL")
            with self._lock:
                self._open += [source, target]
            enter_snapshot(source, self._snapshot)
            # Foreign keys and the application's triggers are off: rows come in any order and are consistent as a whole.
            target.execute("SET session_replication_role = replica")
            # The record of completion, written last with a real flush, makes all of it durable.
            target.execute("SET synchronous_commit = off")
            self._local.pair = (source, target)
        pair: tuple[Connection, Connection] = self._local.pair
        return pair

    def cancel(self) -> None:
        """Stop what runs, so that a failure of one part does not wait for the others."""
        with self._lock:
            for connection in self._open:
                connection.cancel()

    def close(self) -> None:
        """Close all connections; call it when no part is being moved any more."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
