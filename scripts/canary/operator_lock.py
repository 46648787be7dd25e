"""One operator at a time, whatever machine each one sits at: a lock that lives and dies with a database session.

A row of the helper schema on the source (scripts/database/locks.py): both operators must reach that database anyhow, it needs no clock
and no expiry, and nobody has it any more when the holder's process or machine is gone (TCP keepalives of the server notice within
about 20 s). Before `copy` there is no schema and no weight to move: then there is no lock either.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum

import psycopg
from psycopg import conninfo

from scripts.database import helper_schema, locks
from scripts.database.connections import Connection, connect, domain_errors, session_name
from scripts.database.locks import Holder
from scripts.support.errors import Refused
from scripts.support.events import CanaryEvent, Step
from scripts.support.journal import note
from scripts.support.settings import Settings
from scripts.support.wait import wait_until

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
    ABANDON = "rollback --abandon"
    START_OVER = "rollback --scenario"
    FINALIZE = "finalize"


def operation(held: Holder) -> Operation | None:
    """What the holder does; None when he does not say."""
    named = [one for one in Operation if held.name.startswith(f"{session_name(one)} ")]
    return max(named, key=len, default=None)  # the name of one begins that of another


def _who(held: Holder) -> str:
    return f"{held.name} from {held.address} since {held.since} (session {held.pid} of the source)"


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
        return self.by is not None and operation(self.by) in (Operation.ROLLBACK, Operation.EMERGENCY)


class Lock:
    """A lock while it is held. This one, which nobody loses, stands in where no source can be reached, as a rollback must not wait
    for a database that is down, and before `copy`."""

    def check(self) -> None:
        """Make sure that it still is. Raises TakenOver when another operator has it, DatabaseError without the source."""


class _SessionLock(Lock):
    """Its session may end by a failover as well as by another operator: what counts is who has had the lock since."""

    def __init__(self, settings: Settings, name: str, connection: Connection) -> None:
        self._settings, self._name = settings, name
        self.connection, self._pid = connection, connection.info.backend_pid

    def check(self) -> None:
        try:
            self.connection.execute("SELECT 1")
            return
        except psycopg.Error:
            self.connection.close()
        time.sleep(YIELD_SECONDS)
        fresh = _session(self._settings)
        with ExitStack() as left, domain_errors("the lock on the canary"):
            left.callback(fresh.close)
            other = locks.take(fresh, locks.CANARY, self._name, lost=self._pid)
            if other is None:
                left.pop_all()
                self.connection, self._pid = fresh, fresh.info.backend_pid
                return
        raise TakenOver(
            f"the lock on the canary was taken over by {_who(other)}: this command stops here; see "
            "task-migration canary status",
            other,
        )


def _name(operation: Operation) -> str:
    return f"{session_name(operation)} {_user()}@{socket.gethostname()}:{os.getpid()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a container's user without a name


def _session(settings: Settings) -> Connection:
    return connect(
        conninfo.make_conninfo(settings.source(), options=_KEEPALIVES), step="lock", name="SOURCE_DATABASE_URL"
    )


@contextmanager
def locked(settings: Settings, operation: Operation, *, take_over: bool = False) -> Iterator[Lock]:
    """Hold the lock for ``operation``.

    Args:
        take_over: end the session of whoever holds it; that operator's command stops at its next look.

    Raises:
        Refused: another operator holds it; naming user, host, process and since when, and how to take it over.
        TimedOut: the session that was ended did not let go.
        DatabaseError: the source cannot be reached.
    """
    name = _name(operation)
    lock = _SessionLock(settings, name, _session(settings))
    try:
        with domain_errors("the lock on the canary"):
            there = helper_schema.installed(lock.connection)
            if there:
                # What a former version lacks.
                helper_schema.install(lock.connection)
                _acquire(settings, lock.connection, name, operation, take_over)
        yield lock if there else Lock()
    finally:
        lock.connection.close()


def _acquire(settings: Settings, connection: Connection, name: str, operation: Operation, take_over: bool) -> None:
    other = locks.take(connection, locks.CANARY, name)
    if other is None:
        return
    if not take_over:
        hangs = (
            "run again with --take-over"
            if operation in (Operation.STEP, Operation.RUN)
            else f"end its session (SELECT pg_terminate_backend({other.pid}) on the source) and run again"
        )
        raise Refused(
            f"another operator moves the weight: {_who(other)}; wait for it, or, when you know that it hangs, {hangs}"
        )
    note(settings.journal, Step.CANARY, CanaryEvent.LOCK_TAKEN_OVER, by=name, holder=_who(other))
    locks.end(connection, locks.CANARY, other)
    wait_until(
        lambda: locks.take(connection, locks.CANARY, name),
        lambda left: left is None,
        what="the lock on the canary",
        timeout=RELEASE_SECONDS,
    )
