"""Why an apply worker is down: the write and the error, without a look into the subscriber's log.

The worker's error stands in the log of its server only, which SQL does not reach on most systems. But what it failed at is
known: one of the first writes that have not arrived. They are brought to the subscriber as the worker would bring them, in a
transaction that is rolled back and that ends, with all its locks, after :data:`LIMIT_MS` whatever happens.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import psycopg
from psycopg import sql

from scripts.database import catalog, queries
from scripts.database.connections import Connection, scalar
from scripts.database.error_text import primary, told
from scripts.database.helper_schema import HELPER_SCHEMA
from scripts.replication import writes
from scripts.replication.documents import FailingRow
from scripts.replication.writes import Waiting
from scripts.support.sides import Side
from scripts.writes import record

_QUERIES = queries.load("scripts.replication")
#: Writes that are tried at most, and the longest that the attempt may hold locks on the live side, in all.
WRITES, LIMIT_MS = 1_000, 300
#: A function of ours for a table, as an error's context has it.
_OURS = re.compile(r"\btask_migration\.[a-z]+_([0-9a-f]{12})\(")


@dataclass(frozen=True)
class Attempt:
    """What bringing the waiting writes came to: the one that cannot be applied, how many were tried, and whether the time was
    over before the last."""

    failing: FailingRow | None
    tried: int
    cut: bool


def failure(write: Waiting, key: Sequence[str], error: psycopg.Error, at_end: bool = False) -> FailingRow:
    """The failure of one write. ``key``: the names of the key's columns; ``at_end``: of its transaction. Pure."""
    values = [str(value) for value in json.loads(write.key)]
    return FailingRow(
        table=write.table,
        operation=write.kind.upper(),
        key=dict(zip(key, values, strict=False)),
        sqlstate=error.sqlstate or "?????",
        condition=type(error).__name__,
        message=primary(error),
        constraint=error.diag.constraint_name,
        column=error.diag.column_name,
        v=write.v,
        at_end=at_end,
    )


def attempt(subscriber: Connection, side: Side, waiting: Sequence[Waiting], schema: str) -> Attempt:
    """Bring the writes of ``side`` to the subscriber as its worker would, for :data:`LIMIT_MS` at most, and roll back."""
    trial = _Trial(subscriber, side, schema, time.monotonic() + LIMIT_MS / 1000)
    try:
        with subscriber.transaction(force_rollback=True):
            # Each change of how the session is makes PostgreSQL plan every statement of the rules anew.
            subscriber.execute(_QUERIES["as_worker"], (catalog.quoted(HELPER_SCHEMA, record.table_name(side)),))
            # The server itself ends the session should this process stand still.
            _limit(subscriber, "idle_in_transaction_session_timeout", LIMIT_MS)
            trial.run(waiting)
    except psycopg.errors.IdleInTransactionSessionTimeout:
        return Attempt(None, trial.tried, cut=True)
    if trial.failed is None:
        return Attempt(None, trial.tried, trial.cut or len(waiting) >= WRITES)
    write, error, at_end = trial.failed
    return Attempt(failure(write, _key(subscriber, schema, write.table), error, at_end), trial.tried, cut=False)


@dataclass
class _Trial:
    """Writes that are brought until one fails or the time is over."""

    subscriber: Connection
    side: Side
    schema: str
    deadline: float
    tried: int = 0
    cut: bool = False
    #: The write, its error, and whether that came at its transaction's end.
    failed: tuple[Waiting, psycopg.Error, bool] | None = None

    def run(self, waiting: Sequence[Waiting]) -> None:
        """Transaction by transaction, as they arrive; of the last one more may wait than was read, then its end is not tried."""
        for transaction, writes_ in groupby(waiting, lambda write: write.transaction):
            made: list[Waiting] = []
            for write in writes_:
                made.append(write)
                if not self._one(partial(bring, self.subscriber, self.side, write), [write], at_end=False):
                    return
                self.tried += 1
            if len(waiting) >= WRITES and transaction == waiting[-1].transaction:
                return
            if not self._one(self._end, made, at_end=True):
                return

    def _end(self) -> None:
        # What is checked at a commit is checked at once, what was put off included (PostgreSQL, 'SET CONSTRAINTS').
        self.subscriber.execute("SET CONSTRAINTS ALL IMMEDIATE")
        self.subscriber.execute("SET CONSTRAINTS ALL DEFERRED")

    def _one(self, work: Callable[[], object], made: Sequence[Waiting], at_end: bool) -> bool:
        left = int(1000 * (self.deadline - time.monotonic()))
        if left <= 0:
            self.cut = True
            return False
        _limit(self.subscriber, "statement_timeout", left)
        try:
            work()
        except psycopg.Error as error:
            # Where one takes most of the time alone, it waits for a lock; else there were too many.
            self.cut = isinstance(error, psycopg.errors.QueryCanceled) and left < LIMIT_MS / 2
            if not self.cut:
                self.failed = (_at_fault(made, self.schema, error), error, at_end)
            return False
        return True


def _at_fault(made: Sequence[Waiting], schema: str, error: psycopg.Error) -> Waiting:
    """Of a transaction's writes the last one of the table whose rules failed, by their function's name in the error's context; else of the
    table that the server names; else the last."""
    called = _OURS.findall(error.diag.context or "")
    of_rules = [write for write in made if called and record.digest(schema, write.table) == called[-1]]
    return (of_rules or [write for write in made if write.table == error.diag.table_name] or made)[-1]


def bring(subscriber: Connection, side: Side, write: Waiting) -> None:
    """Bring one write of ``side`` to the other one, in a session of the worker's kind.

    Raises:
        psycopg.Error: it cannot be applied there.
    """
    statement = "INSERT INTO {} (v, table_name, key, kind, vals, cause) VALUES (%s, %s, %s, %s, %s, %s)"
    values = (write.v, write.table, write.key, write.kind, write.vals, write.cause)
    subscriber.execute(sql.SQL(statement).format(record.table(side)), values)


def _limit(connection: Connection, name: str, milliseconds: int) -> None:
    connection.execute("SELECT set_config(%s, %s, true)", (name, str(milliseconds)))


def _key(connection: Connection, schema: str, table: str) -> list[str]:
    """The names of a table's key columns, in their order; none of a table that is not there."""
    there = catalog.existing(connection, schema, [table])
    return [name for one in catalog.read(connection, schema, there, "subscriber").values() for name in one.key]


def applied_lsn(subscriber: Connection, subscription: str) -> str | None:
    """Up to where the subscriber has applied, or None when the role may not read that."""
    try:
        lsn: str | None = scalar(subscriber, _QUERIES["applied"], (subscription,))
        return lsn
    except psycopg.errors.InsufficientPrivilege:
        return None


def explain(
    publisher: Connection,
    subscriber: Connection,
    side: Side,
    *,
    schema: str,
    unreachable: Callable[[], str | None],
) -> tuple[str, FailingRow | None]:
    """Why the worker that brings the writes of ``side`` is down, in words, and the write at fault when it is one.

    Nothing stays changed on either side. ``unreachable`` has the subscriber's server itself connect to the publisher.
    """
    try:
        found = attempt(subscriber, side, writes.waiting(publisher, subscriber, side, WRITES), schema)
    except psycopg.Error as error:
        return f"the write at fault could not be looked for: {told(error)}", None
    if found.failing is not None:
        return (
            f"{found.failing}; tried on the subscriber and rolled back. Mend the cause and the worker goes on by itself",
            found.failing,
        )
    try:
        why = unreachable()
    except psycopg.Error as error:
        why = told(error)
    if why is not None:
        return f"the subscriber's server cannot use the publisher: {why}", None
    if found.cut:
        return (
            f"the first {found.tried:,} writes that wait can be applied and the publisher be reached; the others were not tried, as "
            f"that holds locks on the live side: {LIMIT_MS} ms is the limit. The server's log names what the worker failed at",
            None,
        )
    if found.tried == 0:
        return "no write waits and the publisher can be reached; the worker is about to start", None
    return (
        f"the {found.tried:,} writes that wait can be applied and the publisher be reached: the cause has passed (a deadlock, a "
        "restart); the worker starts again within wal_retrieve_retry_interval",
        None,
    )
