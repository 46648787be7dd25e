"""What a DMS task does between two databases, done by this program: reads a test_decoding slot, applies, remembers.

It follows the task's declared settings: selection rules, error policies, limited LOB mode, control schema, the least size of
a transaction and its time-out, and the endpoints' slot and AfterConnectScript. As DMS in transactional apply mode it is one
session, in the order of commits, several source transactions in one of its own, held until they are many or the time-out
passes (AWS DMS, 'Change processing tuning settings'), and without a replication origin. How far it is, it keeps on its own
disk, now and then and behind the rows: whatever kills it, its last transactions come a second time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

import psycopg

from scripts.database.connections import Connection, connect
from scripts.rehearsal.dms import statements
from scripts.rehearsal.dms.control import SQL, Checkpoint, Exceptions
from scripts.rehearsal.dms.decoding import Change, Transaction, transactions
from scripts.rehearsal.dms.work import Failed, Work
from scripts.support.errors import MigrationError

#: Between two looks at the slot, seconds; one reads so many times the least size of a transaction.
LOOK_SECONDS, LOOK_TIMES = 0.1, 10
#: Between two checkpoints, seconds. Each is of where the rows were at the one before it, so that every kill repeats some.
CHECKPOINT_SECONDS = 2.0
#: Before a task goes on after a failure that passes by itself, seconds.
RECOVERY_SECONDS = 0.2
#: What passes by itself and is tried again: other sessions' locks, a server that restarts, a cut line.
_RECOVERABLE = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.SerializationFailure,
    psycopg.errors.ObjectInUse,
    psycopg.OperationalError,
)


@dataclass
class Counts:
    """Of one table, as DescribeTableStatistics has them."""

    inserts: int = 0
    deletes: int = 0


class Applier:
    """Carries one task's changes until it is told to stop. ``checkpoint`` is a file of the task's own; ``lag`` is how many seconds
    after its commit a change is applied at the earliest, as a busy instance lets it wait."""

    def __init__(self, work: Work, checkpoint: Path, lag: float = 0.0) -> None:
        self.work, self._lag = work, lag
        self.counts = {member: Counts() for member in work.selected}
        #: How old the last change was when it was read, and when it was applied; by the source's clock, this machine's too.
        self.source_seconds = self.target_seconds = 0.0
        self._checkpoint = Checkpoint(checkpoint)
        self._exceptions = Exceptions(work)
        #: How far the rows are; the checkpoint is behind it.
        self._reached = ""

    def prepare(self, position: str | None) -> None:
        """Make the control table; with ``position`` begin there, else at the checkpoint.

        Raises:
            Failed: the slot or a selected table is missing, or the position cannot be had.
        """
        with self._target() as target, self._source() as source:
            self._exceptions.make(target)
            if position is not None:
                self._checkpoint.write(position)
            elif self._checkpoint.read() is None:
                raise Failed(f"no checkpoint of the task {self.work.name} to resume from")
            row = source.execute(
                "SELECT plugin, wal_status FROM pg_replication_slots WHERE slot_name = %s", (self.work.slot,)
            ).fetchone()
            if row is None:
                raise Failed(f"replication slot '{self.work.slot}' does not exist")
            if row[0] != "test_decoding" or row[1] == "lost":
                raise Failed(f"replication slot '{self.work.slot}' has plugin {row[0]} and WAL status {row[1]}")
            for side in (source, target):
                for name in (".".join(member) for member in sorted(self.work.selected)):
                    found = side.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()
                    if found != (True,) and self.work.settings["ErrorBehavior"]["FailOnNoTablesCaptured"]:
                        raise Failed(f"no table {name} to capture or to write to")

    def run(self, stop: threading.Event) -> None:
        """Apply until ``stop`` is set. Raises Failed when a policy stops the task."""
        while not stop.is_set():
            try:
                with self._source() as source, self._target() as target:
                    self._carry(source, target, stop)
            except Failed:
                raise
            except (*_RECOVERABLE, MigrationError):
                # RecoverableErrorCount -1 tries for ever.
                stop.wait(RECOVERY_SECONDS)

    def _carry(self, source: Connection, target: Connection, stop: threading.Event) -> None:
        self._reached = self._checkpoint.read() or ""
        saved, behind = time.monotonic(), self._reached
        #: Since when the transactions wait that are to be applied together.
        since: float | None = None
        while True:
            # A task that is told to stop ends what it holds.
            last = stop.is_set()
            there, more = self._read(source)
            held = there if last else list(takewhile(self._ripe, there))
            now = time.monotonic()
            if any(entry.changes for entry in held):
                since = since or now
                self.source_seconds = _age(held[0])
                size = sum(len(entry.changes) for entry in held)
                if last or more or size >= self.work.group or now - since >= self.work.timeout:
                    for together in _gathered(held, self.work.group):
                        self._apply(target, together)
                        self._reached = together[-1].end_lsn
                    since = None
                    self.target_seconds = _age(held[0])
            else:
                self.source_seconds, self.target_seconds = 0.0, _age(there[0]) if there else 0.0
                if held:
                    self._reached = held[-1].end_lsn
            if last:
                self._save(source, self._reached)
                return
            if now - saved >= CHECKPOINT_SECONDS:
                self._save(source, behind)
                saved, behind = now, self._reached
            # What is gathered waits for its time; a look in between would only decode the same again.
            stop.wait(
                LOOK_SECONDS if since is None else max(LOOK_SECONDS, since + self.work.timeout - time.monotonic())
            )

    def _ripe(self, entry: Transaction) -> bool:
        return not entry.changes or _age(entry) >= self._lag

    def _read(self, source: Connection) -> tuple[list[Transaction], bool]:
        """What the slot has after what was applied, and whether it has more. It begins each time where it was last confirmed."""
        end = source.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        limit = LOOK_TIMES * self.work.group
        rows = source.execute(SQL["peek"].encode(), (self.work.slot, limit)).fetchall()
        found = list(transactions(rows, self.work.selected))
        held = [entry for entry in found if _lsn(entry.end_lsn) > _lsn(self._reached)]
        more = len(rows) >= limit
        if not held and not more and end is not None:
            self._reached = max(self._reached, str(end[0]), key=_lsn)
        elif not held:
            # As much as one look reads was applied already; the next look is to begin after it.
            self._save(source, self._reached)
        return held, more

    def _save(self, source: Connection, lsn: str) -> None:
        self._checkpoint.write(lsn)
        source.execute(SQL["advance"].encode(), (lsn, self.work.slot, lsn))

    def _apply(self, target: Connection, held: Sequence[Transaction]) -> None:
        try:
            with target.transaction():
                for entry in held:
                    for change in entry.changes:
                        self._execute(target, change)
        except _RECOVERABLE:
            raise
        except psycopg.Error:
            # As DMS: what cannot be applied together is applied one by one, and judged by the policies.
            for entry in held:
                self._one_by_one(target, entry)

    def _one_by_one(self, target: Connection, entry: Transaction) -> None:
        try:
            with target.transaction():
                for change in entry.changes:
                    try:
                        with target.transaction():
                            self._execute(target, change)
                    except _RECOVERABLE:
                        raise
                    except psycopg.Error as error:
                        self._refused(change, str(error))
        except _RECOVERABLE:
            raise
        except psycopg.Error as error:
            # At the commit, where no one change is to blame.
            self._stopped(entry.changes[0], str(error))

    def _execute(self, target: Connection, change: Change) -> None:
        statement = statements.of_change(self.work, change)
        if target.execute(statement.query, statement.values).rowcount == 0:
            self._refused(change, "0 rows affected")
        elif change.operation == "INSERT":
            self.counts[change.table].inserts += 1
        else:
            self.counts[change.table].deletes += 1

    def _refused(self, change: Change, error: str) -> None:
        """Judge a change that could not be applied. Raises Failed, unless its policy lets the task go on."""
        if self.work.policy(change.operation) != "IGNORE_RECORD":
            self._stopped(change, error)

    def _stopped(self, change: Change, error: str) -> None:
        # In a session of its own: the task's transaction is rolled back, and the exception must stay.
        with self._target() as other:
            self._exceptions.note(other, statements.of_change(self.work, change), error)
        # As little as AWS says there: what it was stands in the control table.
        raise Failed(
            f"Last Error Task error notification received from subtask 0, thread 0; stopped by ApplyError{change.operation.capitalize()}"
            f"Policy on table {'.'.join(change.table)}; Stop Reason FATAL_ERROR Error Level FATAL"
        )

    @contextmanager
    def _source(self) -> Iterator[Connection]:
        with connect(self.work.source_url, step=f"{self.work.name} capture", name="the source endpoint") as connection:
            yield connection

    @contextmanager
    def _target(self) -> Iterator[Connection]:
        with connect(self.work.target_url, step=f"{self.work.name} apply", name="the target endpoint") as connection:
            if self.work.after_connect:
                connection.execute(self.work.after_connect.encode())
            yield connection


def _gathered(held: Sequence[Transaction], least: int) -> Iterator[list[Transaction]]:
    """The transactions, in their order, that one on the target takes each time: until they have so many changes."""
    together: list[Transaction] = []
    for entry in held:
        together.append(entry)
        if sum(len(one.changes) for one in together) >= least:
            yield together
            together = []
    if together:
        yield together


def _age(entry: Transaction) -> float:
    if entry.committed_at is None:
        return 0.0
    return max(0.0, (datetime.now(UTC) - entry.committed_at).total_seconds())


def _lsn(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)
