"""The replication slot: made with an exported snapshot, described, dropped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from scripts.copy.documents import SlotState
from scripts.database import queries
from scripts.database.connections import Connection, connect, scalar
from scripts.support.errors import Refused, TimedOut
from scripts.support.wait import wait_until

QUERIES = queries.load("scripts.copy")
#: Making a logical slot waits for every transaction that runs at the time (PostgreSQL, 'Logical Decoding Concepts').
SLOT_SECONDS = 60.0


@dataclass(frozen=True)
class Slot:
    """A slot and the snapshot that shows the database as it was exactly at ``lsn``, where its changes begin."""

    name: str
    lsn: str
    snapshot: str


def publication(name: str, writes: sql.Composable) -> sql.Composed:
    """CREATE PUBLICATION for a side's record of writes: it only grows, and what is pruned on one side stays on the other."""
    return sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish = 'insert')").format(sql.Identifier(name), writes)


def describe(connection: Connection, name: str) -> SlotState | None:
    """The slot on this server, or None. Raises Refused when it is another database's."""
    row = connection.execute(QUERIES["slot"], (name,)).fetchone()
    if row is None:
        return None
    if not row[6]:
        raise Refused(f"the slot {name} belongs to another database of this server; choose another `subscription` name")
    return SlotState(**dict(zip(SlotState.model_fields, row, strict=False)))


def drop_leftover(connection: Connection, name: str, timeout: float = 15.0) -> bool:
    """Drop the slot if it is there; a killed run's connection may need a moment to be noticed. Returns whether it was.

    Raises:
        TimedOut: it stays in use for ``timeout`` seconds.
    """
    if describe(connection, name) is None:
        return False
    wait_until(
        lambda: describe(connection, name),
        lambda slot: slot is None or not slot.active,
        what=f"slot {name} to be free",
        timeout=timeout,
        remedy="end the process that uses it, then run the command again",
    )
    connection.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (name,)
    )
    return True


@contextmanager
def copied(connection: Connection, name: str) -> Iterator[str]:
    """A temporary copy of the slot, under another name, which can be read in while the slot itself stays as it is.

    Raises:
        psycopg.Error: no slot is free on the server (SQLSTATE 53400), or the role may not make one.
    """
    copy = str(scalar(connection, "SELECT 'task_migration_why_' || pg_backend_pid()"))
    connection.execute("SELECT pg_copy_logical_replication_slot(%s, %s, true)", (name, copy))
    try:
        yield copy
    finally:
        if not connection.closed and not connection.broken:
            connection.execute("SELECT pg_drop_replication_slot(%s)", (copy,))


@contextmanager
def create(url: str, name: str, plugin: str = "pgoutput") -> Iterator[Slot]:
    """Make the slot, with the output plugin that the engine reads. Inside, its exported snapshot can be used by other
    sessions. The slot itself stays afterwards.

    Raises:
        TimedOut: transactions older than the slot did not end within :data:`SLOT_SECONDS`.
    """
    with connect(url, step="slot", name="SOURCE_DATABASE_URL", replication=True) as connection:
        # The session that exports the snapshot is idle in its transaction for as long as others import it.
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        timer = threading.Timer(SLOT_SECONDS, connection.cancel)
        timer.start()
        try:
            row = connection.execute(
                sql.SQL("CREATE_REPLICATION_SLOT {} LOGICAL {} (SNAPSHOT 'export')").format(
                    sql.Identifier(name), sql.Identifier(plugin)
                )
            ).fetchone()
        except psycopg.errors.QueryCanceled:
            raise TimedOut(
                f"slot {name}: older transactions did not end within {SLOT_SECONDS:g} s (the limit); end them: "
                "SELECT pid, xact_start, query FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start"
            ) from None
        finally:
            timer.cancel()
        if row is None:
            raise Refused(f"slot {name}: the server answered nothing; look at its log")
        yield Slot(name=str(row[0]), lsn=str(row[1]), snapshot=str(row[2]))
