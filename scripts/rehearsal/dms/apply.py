"""What a DMS task does between two databases, done by this program: reads a test_decoding slot, applies, remembers.

It follows the task's declared settings: selection rules, error policies, limited LOB mode, loopback prevention, control
schema, and the endpoints' slot and AfterConnectScript. As DMS in transactional apply mode it is one session, in the order
of commits, several source transactions in one of its own, without a replication origin. How far it is stands in the
target, written with the rows: whatever kills it, each transaction is applied once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from scripts.database import catalog
from scripts.database.connections import Connection, connect
from scripts.rehearsal.dms import statements
from scripts.rehearsal.dms.control import SQL, Control
from scripts.rehearsal.dms.decoding import Change, Transaction, transactions
from scripts.rehearsal.dms.statements import Statement
from scripts.rehearsal.dms.work import Failed, Work
from scripts.support.errors import MigrationError

#: Looks at the slot, seconds: as long as nothing comes, and right after something came.
IDLE_SECONDS, BUSY_SECONDS = 0.05, 0.0
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
    updates: int = 0
    deletes: int = 0
    suspended: bool = False

    def add(self, change: Change) -> None:
        """One more change was applied."""
        if change.operation == "INSERT":
            self.inserts += 1
        elif change.operation == "UPDATE":
            self.updates += 1
        else:
            self.deletes += 1


class _Stop(Exception):
    """Leaves the transaction that a policy stops."""


class Applier:
    """Carries one task's changes until it is told to stop."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.counts = {member: Counts() for member in work.selected}
        #: How old the last change was when it was read, and when it was applied; by the source's clock, this machine's too.
        self.source_seconds = self.target_seconds = 0.0
        self._control = Control(work)
        self._tables: dict[tuple[str, str], catalog.Table] = {}

    def prepare(self, position: str | None) -> None:
        """Make the control tables; with ``position`` begin there, else where the target says that it is.

        Raises:
            Failed: the slot or a selected table is missing, or the position cannot be had.
        """
        with self._target() as target, self._source() as source:
            self._control.make(source, target)
            if position is not None:
                self._control.begin(target, position)
            elif self._control.position(target) is None:
                raise Failed(f"no checkpoint of the task {self.work.name} to resume from")
            row = source.execute(
                "SELECT plugin, wal_status FROM pg_replication_slots WHERE slot_name = %s", (self.work.slot,)
            ).fetchone()
            if row is None:
                raise Failed(f"replication slot '{self.work.slot}' does not exist")
            if row[0] != "test_decoding" or row[1] == "lost":
                raise Failed(f"replication slot '{self.work.slot}' has plugin {row[0]} and WAL status {row[1]}")
            self._read_tables(target)

    def run(self, stop: threading.Event) -> None:
        """Apply until ``stop`` is set. Raises Failed when a policy stops the task."""
        while not stop.is_set():
            try:
                with self._source() as source, self._target() as target:
                    while not stop.is_set():
                        busy = self._round(source, target)
                        stop.wait(BUSY_SECONDS if busy else IDLE_SECONDS)
            except Failed:
                raise
            except (*_RECOVERABLE, MigrationError):
                # RecoverableErrorCount -1 tries for ever.
                stop.wait(RECOVERY_SECONDS)

    def _round(self, source: Connection, target: Connection) -> bool:
        """Apply what the slot has next; whether it had anything."""
        reached = source.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        rows = source.execute(SQL["peek"].encode(), (self.work.slot, self.work.group)).fetchall()
        found = list(transactions(rows))
        if not found:
            self.source_seconds = self.target_seconds = 0.0
            self._advance(source, str(reached[0]) if reached else "")
            return False
        position = self._control.position(target)
        todo = [entry for entry in found if position is None or _lsn(entry.end_lsn) > _lsn(position)]
        if todo:
            self.source_seconds = _age(todo[0])
            self._apply(target, todo)
            self.target_seconds = _age(todo[0])
        self._advance(source, found[-1].end_lsn)
        return True

    def _advance(self, source: Connection, lsn: str) -> None:
        source.execute(SQL["advance"].encode(), (lsn, self.work.slot, lsn))

    def _apply(self, target: Connection, todo: Sequence[Transaction]) -> None:
        own = [(entry, changes) for entry in todo if (changes := self._wanted(entry))]
        if not own:
            # Nothing is written for them, as each task would have to read what the other wrote for nothing, for ever.
            return
        try:
            with target.transaction():
                self._control.mark(target, todo[-1].end_lsn)
                for _, changes in own:
                    for change in changes:
                        self._execute(target, change)
        except _RECOVERABLE:
            raise
        except psycopg.Error:
            # As DMS: what cannot be applied together is applied one by one, and judged by the policies.
            for entry, changes in own:
                self._one_by_one(target, entry, changes)

    def _one_by_one(self, target: Connection, entry: Transaction, changes: Sequence[Change]) -> None:
        stopped: tuple[Change, psycopg.Error] | None = None
        with suppress(_Stop), target.transaction():
            self._control.mark(target, entry.end_lsn)
            for change in changes:
                try:
                    with target.transaction():
                        self._execute(target, change)
                except _RECOVERABLE:
                    raise
                except psycopg.Error as error:
                    if self.work.policy(change.operation) == "STOP_TASK":
                        stopped = (change, error)
                        raise _Stop from error
                    self._refused(target, self._statement(change), str(error))
        if stopped is not None:
            change, cause = stopped
            self._control.note(target, self._statement(change), str(cause))
            raise Failed(
                f"Last Error stopped by ApplyError{change.operation.capitalize()}Policy on table {change.schema}.{change.table}: "
                f"{type(cause).__name__} {cause.sqlstate}"
            )

    def _wanted(self, entry: Transaction) -> list[Change]:
        """The transaction's changes of the selected tables; none when it has the mark of the opposite task."""
        if any(self._control.is_mark(change.schema, change.table) for change in entry.changes):
            return []
        selected = self.work.selected
        return [
            change
            for change in entry.changes
            if (change.schema, change.table) in selected
            and change.operation != "TRUNCATE"
            and not self.counts[change.schema, change.table].suspended
        ]

    def _statement(self, change: Change) -> Statement:
        return statements.of_change(self.work, change, self._tables[change.schema, change.table])

    def _execute(self, target: Connection, change: Change) -> None:
        statement = self._statement(change)
        done = target.execute(statement.query, statement.values).rowcount
        if change.operation != "INSERT" and done == 0:
            if self.work.policy(change.operation) == "STOP_TASK":
                # The transaction is rolled back; the exception must stay.
                with self._target() as other:
                    self._control.note(other, statement, "0 rows affected")
                raise Failed(f"0 rows affected by a {change.operation} on table {change.schema}.{change.table}")
            self._refused(target, statement, "0 rows affected")
        self.counts[change.schema, change.table].add(change)

    def _refused(self, target: Connection, statement: Statement, error: str) -> None:
        change = statement.change
        policy = self.work.policy(change.operation)
        if policy == "IGNORE_RECORD":
            return
        self._control.note(target, statement, error)
        if policy == "SUSPEND_TABLE":
            self.counts[change.schema, change.table].suspended = True

    def _read_tables(self, target: Connection) -> None:
        schemas: dict[str, list[str]] = {}
        for schema, table in sorted(self.work.selected):
            schemas.setdefault(schema, []).append(table)
        for schema, names in schemas.items():
            there = catalog.existing(target, schema, names)
            if len(there) < len(names) and self.work.settings["ErrorBehavior"]["FailOnNoTablesCaptured"]:
                raise Failed(f"tables {', '.join(sorted(set(names) - set(there)))} of {schema} are not on the target")
            for described in catalog.read(target, schema, there, "target").values():
                self._tables[schema, described.name] = described

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


def _age(entry: Transaction) -> float:
    if entry.committed_at is None:
        return 0.0
    return max(0.0, (datetime.now(UTC) - entry.committed_at).total_seconds())


def _lsn(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)
