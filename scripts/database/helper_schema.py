"""The program's own schema, ``task_migration``, on both databases: the record of writes, state of the copy, conflict log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg.types.json import Jsonb

from scripts.database.catalog import QUERIES
from scripts.database.connections import Connection
from scripts.database.error_text import told
from scripts.support.errors import TimedOut

HELPER_SCHEMA = "task_migration"
#: What the settings hold, by name: how far the copy is (on the target); that both sides were equal with the source read-only (on
#: the target); SQL that gives the monolith its rights back (on the source). An engine adds what it was started with (`engines`), the
#: record of writes what it was made for (`scripts.writes`).
COPY = "copy"
FINALIZE = "finalize"
REVOKED = "revoked"
#: Where the slot of the way back stood when it was made (on the target).
SLOT_BACK = "slot_back"
#: Of a `rollback --abandon` that was killed in its removal: the target's newest write, which the source has.
DRAINED = "drained"
T = TypeVar("T")


def install(connection: Connection) -> None:
    """Make the helper schema if it is not there. Safe to run again."""
    with connection.transaction():
        # Two commands at once would race on IF NOT EXISTS.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('task_migration install'))")
        if not installed(connection):
            connection.execute(QUERIES["install"])


def installed(connection: Connection) -> bool:
    """Whether the helper schema is there, whole."""
    row = connection.execute("SELECT to_regclass('task_migration.conflicts') IS NOT NULL").fetchone()
    return bool(row and row[0])


def get(connection: Connection, name: str) -> Any:
    """A value kept in the helper schema, or None."""
    if not installed(connection):
        return None
    row = connection.execute("SELECT value FROM task_migration.settings WHERE name = %s", (name,)).fetchone()
    return row[0] if row else None


def put(connection: Connection, name: str, value: Any) -> None:
    """Keep a JSON value in the helper schema."""
    connection.execute(
        "INSERT INTO task_migration.settings (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, Jsonb(value)),
    )


def with_lock_retries(work: Callable[[], T], what: str, timeout: float = 60.0) -> T:
    """Run ``work``, whose session has a ``lock_timeout``, again until it gets its locks: a live table is never queued on.

    Raises:
        TimedOut: the locks were not to be had within ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    pause = 0.1
    while True:
        try:
            return work()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"{what}: no lock after {timeout:g} s (the limit); last seen: {told(error)}; end the long transaction that holds it "
                    "(SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start) and run the command again"
                ) from None
            # Long enough for the queue that built up behind the attempt to pass.
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
