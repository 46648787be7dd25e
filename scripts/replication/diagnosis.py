"""Why an apply worker is down: the write and the error, without a look into the subscriber's log.

The worker's error stands in the log of its server only, which SQL does not reach on most systems. But what it failed at is
known: one of the first writes that have not arrived. They are brought to the subscriber as the worker would bring them, in a
transaction that is rolled back and that ends, with all its locks, after :data:`LIMIT_MS` whatever happens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from scripts.database import catalog, queries
from scripts.database.connections import Connection, scalar
from scripts.database.error_text import primary, told
from scripts.replication import writes
from scripts.replication.documents import FailingRow
from scripts.replication.writes import Waiting
from scripts.support.sides import Side
from scripts.writes import record

_QUERIES = queries.load("scripts.replication")
#: Writes that are tried at most, and the longest that the attempt may hold locks on the live side, in all.
WRITES, LIMIT_MS = 1_000, 300


@dataclass(frozen=True)
class Attempt:
    """What bringing the waiting writes came to: the one that cannot be applied, how many were tried, and whether the time was
    over before the last."""

    failing: FailingRow | None
    tried: int
    cut: bool


def failure(write: Waiting, key: Sequence[str], error: psycopg.Error) -> FailingRow:
    """The failure of one write. ``key``: the names of the key's columns. Pure."""
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
    )


def attempt(subscriber: Connection, side: Side, waiting: Sequence[Waiting], schema: str) -> Attempt:
    """Bring the writes of ``side`` to the subscriber as its worker would, for :data:`LIMIT_MS` at most, and roll back."""
    query = arrival_of(side)
    deadline = time.monotonic() + LIMIT_MS / 1000
    tried, cut = 0, len(waiting) >= WRITES
    failed: tuple[Waiting, psycopg.Error] | None = None
    try:
        with subscriber.transaction(force_rollback=True):
            # As the worker's session is; each change of it makes PostgreSQL plan every statement of the rules anew.
            subscriber.execute("SET LOCAL session_replication_role = replica")
            # The server itself ends the session should this process stand still.
            _limit(subscriber, "idle_in_transaction_session_timeout", LIMIT_MS)
            for write in waiting:
                left = int(1000 * (deadline - time.monotonic()))
                cut = cut or left <= 0
                if left <= 0:
                    break
                _limit(subscriber, "statement_timeout", left)
                tried += 1
                try:
                    subscriber.execute(query, write)
                except psycopg.Error as error:
                    # Where one takes most of the time alone, it waits for a lock; else there were too many.
                    cut = isinstance(error, psycopg.errors.QueryCanceled) and left < LIMIT_MS / 2
                    failed = None if cut else (write, error)
                    break
    except psycopg.errors.IdleInTransactionSessionTimeout:
        return Attempt(None, tried, cut=True)
    return Attempt(
        failure(failed[0], _key(subscriber, schema, failed[0].table), failed[1]) if failed else None, tried, cut
    )


def arrival_of(side: Side) -> sql.Composed:
    """What brings one :class:`Waiting` write of ``side`` to the other one, in a session of the worker's kind."""
    statement = "INSERT INTO {} (v, table_name, key, kind, vals, cause) VALUES (%s, %s, %s, %s, %s, %s)"
    return sql.SQL(statement).format(record.table(side))


def _limit(connection: Connection, name: str, milliseconds: int) -> None:
    connection.execute("SELECT set_config(%s, %s, true)", (name, str(milliseconds)))


def _key(connection: Connection, schema: str, table: str) -> list[str]:
    """The names of a table's key columns, in their order."""
    rows = connection.execute(_QUERIES["primary_key"], (catalog.quoted(schema, table),)).fetchall()
    return [str(row[0]) for row in rows]


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
        "restart) or shows at the transaction's end alone; the worker starts again within wal_retrieve_retry_interval",
        None,
    )
