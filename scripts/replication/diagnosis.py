"""Why an apply worker is down: the row and the error, without a look into the subscriber's log.

The worker's error stands in the log of its server only, which SQL does not reach on most systems. But what it failed at is
known: the first transaction of the slot that the subscriber has not applied. A temporary copy of the slot (PostgreSQL,
`pg_copy_logical_replication_slot`) can be peeked into while the slot itself stays where it is, and the transaction's rows
are tried on the subscriber, as the worker would apply them, in a transaction that is rolled back.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import psycopg
from psycopg import sql

from scripts.copy import slot as copy_slot
from scripts.database import queries
from scripts.database.connections import Connection, keep_out_of_log
from scripts.replication import pgoutput
from scripts.replication.documents import FailingRow
from scripts.support.errors import DatabaseError
from scripts.support.redact import redact

_QUERIES = queries.load("scripts.replication")
#: Rows of the transaction that are tried at most: the attempt holds their locks, shortly.
ROWS = 10_000
#: The attempt gives way to anything live: far below `deadlock_timeout` (1 s), so that no application is a deadlock's victim.
LOCK_MS, STATEMENT_MS, PROBE_MS = 300, 5_000, 12_000
#: SQLSTATE classes whose message names tables, columns and constraints, never a row's values: integrity, transaction
#: state, rollback, syntax or access, resources, limits, object state, system and internal errors (PostgreSQL, 'PostgreSQL Error Codes').
_NO_VALUES = ("23", "25", "40", "42", "53", "54", "55", "57", "58", "XX")


def failure(step: pgoutput.Step, key: tuple[str, ...], error: psycopg.Error) -> FailingRow:
    """The failure of one step. Pure. Messages that may quote a value of the row are left out, their condition is named."""
    state = error.sqlstate or "?????"
    diag = error.diag
    condition = type(error).__name__
    if state[:2] in _NO_VALUES:
        message = redact(diag.message_primary or str(error)).strip()
    else:
        message = "the server's text is left out, as it may quote the row; it stands in the subscriber's log"
    row = step.change.before
    return FailingRow(
        table=step.change.relation.name,
        operation=step.change.operation,
        key={name: row.get(name) for name in key},
        sqlstate=state,
        condition=condition,
        message=message,
        constraint=diag.constraint_name,
        column=diag.column_name,
        lsn=step.lsn,
    )


def statement(change: pgoutput.Change, key: tuple[str, ...]) -> tuple[sql.Composed, list[str | None]]:
    """The statement that does what the apply worker would do with ``change``, and its values as text. Pure."""
    table = sql.Identifier(change.relation.schema, change.relation.name)
    new = change.new or {}
    where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in key)
    located = [change.before.get(name) for name in key]
    if change.operation == "DELETE":
        return sql.SQL("DELETE FROM {} WHERE {}").format(table, where), located
    if change.operation == "UPDATE":
        sets = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in new)
        return sql.SQL("UPDATE {} SET {} WHERE {}").format(table, sets, where), [*new.values(), *located]
    return (
        sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            table, sql.SQL(", ").join(map(sql.Identifier, new)), sql.SQL(", ").join(sql.Placeholder() for _ in new)
        ),
        list(new.values()),
    )


def waiting(
    publisher: Connection,
    slot: str,
    publication: str,
    applied_lsn: str | None,
    limit: int = ROWS,
    whole: bool = False,
) -> Iterator[pgoutput.Step]:
    """The rows of the first transaction that the slot's reader has not applied; the slot itself is not touched.

    Args:
        applied_lsn: up to where the subscriber has applied; None when it does not say, the slot's own position then.
        limit: rows at most.
        whole: of all transactions up to now, not of the first alone.

    Raises:
        psycopg.Error: no free slot on the publisher (SQLSTATE 53400), or no right to copy one.
    """
    with copy_slot.copied(publisher, slot) as name:
        if applied_lsn is not None:
            publisher.execute(_QUERIES["skip_applied"], {"lsn": applied_lsn, "slot": name})
        # A transaction may be larger than our memory: it is fetched in parts.
        with publisher.transaction(), publisher.cursor(name="diagnosis") as cursor:
            cursor.itersize = 500
            names = sql.Identifier(publication).as_string(publisher)
            given = {"slot": name, "transactions": None if whole else 1, "publication": names}
            cursor.execute(_QUERIES["peek"], given)
            yield from islice(pgoutput.read(bytes(part[0]) for part in cursor), limit)


def attempt(subscriber: Connection, steps: Iterator[pgoutput.Step]) -> tuple[FailingRow | None, int]:
    """Apply the rows as the worker would, roll back; the first failure, if any, and how many rows were tried."""
    keys: dict[str, tuple[str, ...]] = {}
    tried = 0
    with subscriber.transaction(force_rollback=True):
        subscriber.execute("SET LOCAL session_replication_role = replica")
        for setting, value in (("lock_timeout", LOCK_MS), ("statement_timeout", STATEMENT_MS)):
            subscriber.execute("SELECT set_config(%s, %s, true)", (setting, str(value)))
        for step in steps:
            relation = step.change.relation
            identifier = sql.Identifier(relation.schema, relation.name).as_string(subscriber)
            if identifier not in keys:
                keys[identifier] = _primary_key(subscriber, identifier) or relation.identity
            tried += 1
            query, values = statement(step.change, keys[identifier])
            try:
                subscriber.execute(query, values)
            except psycopg.Error as error:
                return failure(step, keys[identifier], error), tried
    return None, tried


def _primary_key(connection: Connection, table: str) -> tuple[str, ...]:
    rows = connection.execute(_QUERIES["primary_key"], (table,)).fetchall()
    return tuple(row[0] for row in rows)


def applied_lsn(subscriber: Connection, subscription: str) -> str | None:
    """Up to where the subscriber has applied, or None when the role may not read that."""
    try:
        row = subscriber.execute(_QUERIES["applied"], (subscription,)).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return str(row[0]) if row and row[0] is not None else None


def explain(
    publisher: Connection, subscriber: Connection, subscription: str, publication: str, conninfo: str
) -> tuple[str, FailingRow | None]:
    """Why the worker of ``subscription`` is down, in words, and the row at fault when it is one.

    Nothing stays changed on either side. ``conninfo`` is the publisher's, as a subscription would use it.
    """
    try:
        found, tried = attempt(
            subscriber,
            waiting(publisher, subscription, publication, applied_lsn(subscriber, subscription)),
        )
    except (psycopg.Error, DatabaseError) as error:
        return f"the row at fault could not be looked for: {_short(error)}", None
    if found is not None:
        return (
            f"{found}; tried on the subscriber and rolled back. Mend the cause and the worker goes on by itself; to leave that "
            f"whole transaction out, which loses its rows until `verify --repair`: ALTER SUBSCRIPTION {subscription} SKIP (lsn = "
            f"'{found.lsn}')",
            found,
        )
    unreachable = probe(subscriber, publication, conninfo)
    if unreachable is not None:
        return f"the subscriber's server cannot use the publisher: {unreachable}", None
    if tried == 0:
        return "nothing waits in the slot and the publisher can be reached; the worker is about to start", None
    return (
        f"the next transaction ({tried} rows tried) can be applied and the publisher be reached: the cause has passed (a deadlock, "
        "a restart) or is not of a row; the worker starts again within wal_retrieve_retry_interval",
        None,
    )


def probe(subscriber: Connection, publication: str, conninfo: str) -> str | None:
    """Have the subscriber's own server connect to the publisher, as only a rolled back CREATE SUBSCRIPTION does; the error,
    or None. Not done by a role that may not keep the statement, which holds a password, out of the server's log."""
    try:
        with subscriber.transaction(force_rollback=True):
            if not keep_out_of_log(subscriber):
                return None
            subscriber.execute("SELECT set_config('statement_timeout', %s, true)", (str(PROBE_MS),))
            subscriber.execute(
                sql.SQL(_QUERIES["probe_subscription"]).format(
                    connection=sql.Literal(conninfo), publication=sql.Identifier(publication)
                )
            )
    except psycopg.Error as error:
        return _short(error)
    return None


def _short(error: Exception) -> str:
    text = redact(str(error)).strip().splitlines()
    return text[0] if text else type(error).__name__
