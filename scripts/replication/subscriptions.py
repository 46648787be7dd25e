"""Subscriptions of PostgreSQL's logical replication: made, switched on and off, dropped, and how their workers stand."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import conninfo, sql

from scripts.database import queries
from scripts.database.connections import Connection, keep_out_of_log, parameters
from scripts.support.wait import wait_until

QUERIES = queries.load("scripts.replication")
#: Parameters of our own session that a server's connection to its peer must not take over.
_OWN = {"options", "application_name", "connect_timeout"}


@dataclass(frozen=True)
class Worker:
    """A subscription and its apply worker; ``pid`` is None when no worker runs, ``blocked_by`` whose locks it waits for."""

    enabled: bool
    pid: int | None
    apply_errors: int
    blocked_by: list[int]


def enabled(connection: Connection, name: str) -> bool | None:
    """Whether this database's subscription is switched on; None when there is none."""
    row = connection.execute(QUERIES["subscription"], (name,)).fetchone()
    return bool(row[0]) if row else None


def worker(connection: Connection, name: str) -> Worker | None:
    """This database's subscription with its worker; None when there is none."""
    row = connection.execute(QUERIES["worker"], (name,)).fetchone()
    return None if row is None else Worker(bool(row[0]), row[1], int(row[2] or 0), list(row[3] or ()))


def peer_conninfo(url: str) -> str:
    """The peer's connection string as a subscription keeps it; quoting is libpq's own."""
    values = {key: value for key, value in parameters(url, "the database URL").items() if key not in _OWN}
    # A cut line is noticed in about 20 s, not in hours.
    values |= {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "2", "connect_timeout": "10"}
    return conninfo.make_conninfo("", **values)


def kept_conninfo(connection: Connection, name: str) -> str | None:
    """The connection string that the subscription itself keeps, where the role may read it; its password is remembered for
    redaction. It may be another than ours by now: a rotated password, a moved host."""
    try:
        row = connection.execute(QUERIES["subscription_connection"], (name,)).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    if row is None:
        return None
    parameters(str(row[0]), f"the connection of {name}")
    return str(row[0])


def switch_on(connection: Connection, name: str, publication: str, peer: str) -> bool:
    """Make and enable the subscription to the publisher at ``peer``, a URL; returns whether it was on already."""
    was_on = enabled(connection, name)
    if was_on is None:
        with connection.transaction():
            keep_out_of_log(connection)
            connection.execute(
                sql.SQL(QUERIES["create_subscription"]).format(
                    name=sql.Identifier(name),
                    connection=sql.Literal(peer_conninfo(peer)),
                    publication=sql.Identifier(publication),
                    slot=sql.Literal(name),
                )
            )
    elif not was_on:
        connection.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(name)))
    return bool(was_on)


def switch_off(connection: Connection, name: str, timeout: float) -> bool:
    """Disable the subscription and wait for its worker to end; returns whether it was on. Raises TimedOut."""
    if not enabled(connection, name):
        return False
    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(name)))
    wait_until(
        lambda: connection.execute(
            "SELECT count(*) FROM pg_stat_subscription WHERE subname = %s AND pid IS NOT NULL", (name,)
        ).fetchone(),
        lambda count: count == (0,),
        what=f"the worker of {name} to end",
        timeout=timeout,
    )
    return True


def drop(connection: Connection, name: str) -> None:
    """Drop the subscription and leave its slot, which is dropped on its own server; none is no error. Raises TimedOut."""
    if enabled(connection, name) is None:
        return
    identifier = sql.Identifier(name)
    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(identifier))
    # A subscription that still names its slot would need the peer for its own drop.
    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(identifier))

    def attempt() -> bool:
        try:
            connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(identifier))
        except psycopg.errors.ObjectInUse:
            return False
        return True

    wait_until(attempt, bool, what=f"subscription {name} to be dropped", timeout=30)
