"""One operator at a time, whatever machine each one sits at: a lock that lives and dies with a database session.

An advisory lock on the source (PostgreSQL, 'Explicit Locking', advisory locks): both operators must reach that database
anyhow, it needs no clock and no expiry, and the server itself lets go of it when the holder's process or machine is gone
(TCP keepalives of the server notice within about 20 s). Who holds it stands in the session's application_name.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import psycopg
from psycopg import conninfo

from scripts.database import queries
from scripts.database.connections import Connection, connect, domain_errors, session_name
from scripts.support.errors import Refused
from scripts.support.events import CanaryEvent, Step
from scripts.support.journal import note
from scripts.support.settings import Settings
from scripts.support.wait import wait_until

QUERIES = queries.load("scripts.canary")
KEY = "task_migration canary"
#: Seconds until a session that was ended has let go.
RELEASE_SECONDS = 10.0
#: Who lost the session leaves this to who took it over, in seconds, before trying to have it back.
YIELD_SECONDS = 2.0
#: PostgreSQL, 'Connections and Authentication': seconds after which the server gives a silent client up, about 20.
_KEEPALIVES = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2"


class Operation(StrEnum):
    """What the lock is held for, as the command line calls it."""

    STEP = "canary step"
    RUN = "canary run"
    ROLLBACK = "rollback"
    EMERGENCY = "rollback --emergency"


@dataclass(frozen=True)
class Holder:
    """Who has the lock: ``name`` is what the session calls itself (:func:`_name`), ``since`` is when it began."""

    pid: int
    name: str
    address: str
    since: str

    @property
    def operation(self) -> Operation | None:
        """What it does; None for a session that is none of this program's."""
        found = [one for one in Operation if self.name.startswith(f"{session_name(one)} ")]
        return found[0] if found else None

    def __str__(self) -> str:
        return f"{self.name} from {self.address} since {self.since} (session {self.pid} of the source)"


class TakenOver(Refused):
    """Another operator acts now: this command stops, and what is left is the other one's.

    Args:
        by: who has the lock, where that is known.
    """

    def __init__(self, text: str, by: Holder | None = None) -> None:
        super().__init__(text)
        self.by = by

    @property
    def goes_back(self) -> bool:
        """Whether the other one rolls back."""
        return self.by is not None and self.by.operation in (Operation.ROLLBACK, Operation.EMERGENCY)


class Held(Protocol):
    """A lock while it is held."""

    def check(self) -> None:
        """Make sure that it still is. Raises TakenOver when another operator has it, DatabaseError without the source."""


class _Lock:
    """Its session may end by a failover as well as by another operator: what counts is who has the lock afterwards."""

    def __init__(self, settings: Settings, name: str, connection: Connection) -> None:
        self._settings, self._name = settings, name
        self.connection = connection

    def check(self) -> None:
        try:
            self.connection.execute("SELECT 1")
            return
        except psycopg.Error:
            self.connection.close()
        time.sleep(YIELD_SECONDS)
        fresh = _session(self._settings, self._name)
        with domain_errors("the lock on the canary"):
            if _taken(fresh):
                self.connection = fresh
                return
            other = holder(fresh)
            fresh.close()
        raise TakenOver(
            f"the lock on the canary was taken over by {other or 'another operator'}: this command stops here; see "
            "task-migration canary status",
            other,
        )


class NoLock:
    """Stands in where no source can be reached: a rollback must not wait for a database that is down."""

    def check(self) -> None:
        """Nothing to lose."""


def _name(operation: Operation) -> str:
    # application_name is cut at 63 bytes (PostgreSQL, 'Error Reporting and Logging').
    return f"{session_name(operation)} {_user()[:16]}@{socket.gethostname()[:20]}:{os.getpid()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a container's user without a name


def holder(connection: Connection) -> Holder | None:
    """Who holds the lock of this database, or None."""
    row = connection.execute(QUERIES["lock_holder"], (KEY,)).fetchone()
    return Holder(int(row[0]), str(row[1]), str(row[2]), str(row[3])) if row else None


def _session(settings: Settings, name: str) -> Connection:
    connection = connect(
        conninfo.make_conninfo(settings.source(), options=_KEEPALIVES), step="lock", name="SOURCE_DATABASE_URL"
    )
    with domain_errors("the lock on the canary"):
        connection.execute("SELECT set_config('application_name', %s, false)", (name,))
    return connection


@contextmanager
def locked(settings: Settings, operation: Operation, *, take_over: bool = False) -> Iterator[Held]:
    """Hold the lock for ``operation``.

    Args:
        take_over: end the session of whoever holds it; that operator's command stops at its next look.

    Raises:
        Refused: another operator holds it; naming user, host, process and since when, and how to take it over.
        TimedOut: the session that was ended did not let go.
        DatabaseError: the source cannot be reached.
    """
    name = _name(operation)
    lock = _Lock(settings, name, _session(settings, name))
    try:
        with domain_errors("the lock on the canary"):
            _acquire(settings, lock.connection, name, take_over)
        yield lock
    finally:
        lock.connection.close()


def _acquire(settings: Settings, connection: Connection, name: str, take_over: bool) -> None:
    if _taken(connection):
        return
    other = holder(connection)
    if not take_over:
        raise Refused(
            f"another operator moves the weight: {other or 'one who has just ended'}; wait for it, or, when you know that it "
            "hangs, run again with --take-over"
        )
    if other is not None:
        note(settings.journal, Step.CANARY, CanaryEvent.LOCK_TAKEN_OVER, by=name, holder=str(other))
        connection.execute("SELECT pg_terminate_backend(%s)", (other.pid,))
    wait_until(
        lambda: _taken(connection) or holder(connection),
        lambda seen: seen is True,
        what="the lock on the canary",
        timeout=RELEASE_SECONDS,
    )


def _taken(connection: Connection) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (KEY,)).fetchone()
    return bool(row and row[0])
