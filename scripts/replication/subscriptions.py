"""Subscriptions of PostgreSQL's logical replication: made, switched on and off, dropped, and how their workers stand."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import conninfo, sql

from components.config import MigrationConfig
from scripts.database import queries, secrecy
from scripts.database.connections import Connection, parameters, scalar
from scripts.database.error_text import told
from scripts.database.tls import address, stays_here
from scripts.replication import roles
from scripts.replication.directions import Part
from scripts.support.errors import Refused
from scripts.support.sides import Side
from scripts.support.wait import wait_until
from scripts.writes import record

QUERIES = queries.load("scripts.replication")
#: The longest that a server is given to reach its peer, milliseconds.
REACH_MS = 12_000


@dataclass(frozen=True)
class Link:
    """One direction's subscription: its name, what it reads, between which sides; ``peer`` is the publisher's URL, secret."""

    name: str
    publication: str
    publisher: Side
    subscriber: Side
    peer: str


@dataclass(frozen=True)
class Worker:
    """A subscription and its apply worker; ``pid`` is None when no worker runs, ``blocked_by`` whose locks it waits for."""

    enabled: bool
    pid: int | None
    apply_errors: int
    blocked_by: list[int]


def enabled(connection: Connection, name: str) -> bool | None:
    """Whether this database's subscription is switched on; None when there is none."""
    found: bool | None = scalar(connection, QUERIES["subscription"], (name,))
    return found


def worker(connection: Connection, name: str) -> Worker | None:
    """This database's subscription with its worker; None when there is none."""
    row = connection.execute(QUERIES["worker"], (name,)).fetchone()
    return None if row is None else Worker(bool(row[0]), row[1], int(row[2] or 0), list(row[3] or ()))


def peer_conninfo(subscriber: Connection, url: str, role: str, password: str, root: str | None) -> str:
    """The peer's connection string as the subscriber's server uses it: address and database of ``url``, nobody's password of it.

    Args:
        root: the file of certificates on the subscriber's server, else its own `ssl_ca_file`.

    Raises:
        Refused: the peer is another machine, and no such file is known.
    """
    values = address(parameters(url, "the database URL"))
    values |= {"user": role, "password": password}
    if not stays_here(values):
        root = root or scalar(subscriber, "SELECT current_setting('ssl_ca_file')")
        if not root:
            raise Refused(
                f"the server of {subscriber.info.dbname} has no ssl_ca_file, by which it would know the server at {values.get('host') or values['hostaddr']}: set "
                "serverRootCertificate to a file of certificates on it, or to system"
            )
        values |= {"sslmode": "verify-full", "sslrootcert": root, "gssencmode": "disable"}
    # A cut line is noticed in about 20 s, not in hours.
    values |= {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "2", "connect_timeout": "10"}
    return conninfo.make_conninfo("", **values)


def switch_on(
    subscriber: Connection,
    publisher: Connection,
    link: Link,
    config: MigrationConfig,
    *,
    force: bool = False,
) -> Part:
    """Make and enable a direction's subscription; where it does not log in any more, as the password was changed, it gets a new one.

    Raises:
        Refused: it cannot log in with a new password either, or a password would be shown (see :mod:`scripts.database.secrecy`).
    """
    was_on = enabled(subscriber, link.name)
    if was_on and unreachable(subscriber, publisher, link) is None:
        return Part(f"subscription {link.name}", True)
    name = sql.Identifier(link.name)
    role = config.replication_role

    warnings: list[str] = []

    def hand_over(head: str, tail: sql.Composable) -> None:
        password, shown = roles.set_password(publisher, role, force=force)
        connection = peer_conninfo(subscriber, link.peer, role, password, config.server_root_certificate)
        found = secrecy.execute(subscriber, sql.SQL(head).format(name), connection, tail, force=force)
        warnings.extend(text for text in shown + found if text not in warnings)

    if was_on is None:
        made = sql.SQL(QUERIES["create_subscription"]).format(
            publication=sql.Identifier(link.publication), slot=sql.Literal(link.name)
        )
        # Making it takes the way to the publisher and back. The password that stands in a statement for so long is not kept.
        hand_over("CREATE SUBSCRIPTION {} CONNECTION ", sql.SQL(" ") + made)
    hand_over("ALTER SUBSCRIPTION {} CONNECTION ", sql.SQL(""))
    if not was_on:
        # A removal that was killed has taken it from the subscription (see :func:`drop`); how far that had come stands in its origin.
        keep_slot = sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = {})").format(name, sql.Literal(link.name))
        subscriber.execute(keep_slot)
        subscriber.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(name))
    why = unreachable(subscriber, publisher, link)
    if why is not None:
        raise Refused(
            f"the server of the {link.subscriber} cannot log in to the {link.publisher} as {role}: {why}; let it in (pg_hba.conf, "
            "security group), then run `task-migration replicate start` again"
        )
    return Part(f"subscription {link.name}", bool(was_on), tuple(warnings))


def unreachable(subscriber: Connection, publisher: Connection, link: Link) -> str | None:
    """Why the subscriber's own server cannot use the publisher with what its enabled subscription keeps; None when it can."""
    table = record.table_name(link.publisher)
    there = publisher.execute(QUERIES["published"], (link.publication, table)).fetchone()
    if there != (True,):
        return (
            f"the publication {link.publication} of the {link.publisher} does not carry task_migration.{table} any more"
        )
    before = subscriber.execute("SELECT current_setting('statement_timeout')").fetchone()
    try:
        subscriber.execute("SELECT set_config('statement_timeout', %s, false)", (str(REACH_MS),))
        subscriber.execute(sql.SQL(QUERIES["refresh"]).format(name=sql.Identifier(link.name)))
    except (psycopg.errors.ConnectionFailure, psycopg.errors.QueryCanceled) as error:
        return told(error)
    finally:
        subscriber.execute("SELECT set_config('statement_timeout', %s, false)", before)
    return None


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
