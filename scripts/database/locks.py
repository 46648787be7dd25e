"""Locks that nobody but the operator can hold: rows of the helper schema.

An advisory lock may be taken by any login. A row may be locked and written by its table's owner, and by a member of pg_write_all_data,
whose writes are refused. Who holds a lock for long stands in its row, with the session that it lives and dies with; the row itself is locked for an instant only.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from scripts.database.connections import Connection
from scripts.database.queries import QUERIES
from scripts.support.errors import TimedOut

#: How long somebody else may hold the row of a lock, milliseconds.
ROW_MS = 2000
#: The locks: of who moves the weight (source), of `copy` and of the pruning (target), of who replaces functions (each side).
CANARY, COPY, PRUNE, INSTALL = "canary", "copy", "prune", "install"


@dataclass(frozen=True)
class Holder:
    """Who has a lock: ``name`` is what the session says it is, ``since`` is when it began."""

    pid: int
    name: str
    address: str
    since: str


def take(connection: Connection, lock: str, name: str, *, lost: int | None = None) -> Holder | None:
    """Hold ``lock`` for as long as this session lasts, unless somebody else does. None: it is held now.

    Args:
        lost: the process of an earlier session, under this ``name``, that had it: it is taken again only if nobody had it in between.

    Returns:
        who holds it.

    Raises:
        TimedOut: somebody has locked the row itself.
    """
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(ROW_MS)))
            hold(connection, lock)
            # Looked at with the row in hand: whoever had it before has said who he is.
            other = holder(connection, lock)
            if other is None and lost is not None and (before := _holder(connection, "lock_last", lock)) is not None:
                other = before if (before.pid, before.name) != (lost, name) else None
            if other is None:
                connection.execute(QUERIES["lock_take"], {"name": lock, "holder": name})
            return None if other is None or other.pid == connection.info.backend_pid else other
    except psycopg.errors.LockNotAvailable:
        raise TimedOut(
            f"the row of the lock '{lock}' was locked by somebody for {ROW_MS / 1000:g} s (the limit), which this program never does: end that "
            "session (SELECT pid, usename, query FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE relation = "
            "'task_migration.locks'::regclass)"
        ) from None


def hold(connection: Connection, lock: str) -> None:
    """Hold ``lock`` until the present transaction ends; with the session's `lock_timeout`."""
    connection.execute("INSERT INTO task_migration.locks (name) VALUES (%s) ON CONFLICT DO NOTHING", (lock,))
    connection.execute(QUERIES["lock_row"], (lock,))


def holder(connection: Connection, lock: str) -> Holder | None:
    """The session that holds ``lock``, if it is still there."""
    return _holder(connection, "lock_holder", lock)


def _holder(connection: Connection, query: str, lock: str) -> Holder | None:
    row = connection.execute(QUERIES[query], (lock,)).fetchone()
    return Holder(int(row[0]), str(row[1]), str(row[2]), str(row[3])) if row else None


def end(connection: Connection, lock: str, other: Holder) -> None:
    """End the session of who holds ``lock``: one of the same role, so that no further right is needed."""
    connection.execute(QUERIES["lock_end"], {"name": lock, "pid": other.pid})
