"""Step 1.2, the native engine: both directions of logical replication, origin = none, from the copy's slot."""

from __future__ import annotations

from typing import Any

from psycopg import conninfo, sql

from scripts import catalog, catalog_state, conflicts, copy_slot, fence, replicate_status
from scripts.catalog_state import Side
from scripts.support.errors import Refused
from scripts.support.postgres import Connection, connect, domain_errors, parameters
from scripts.support.settings import Settings
from scripts.support.wait import wait_until

#: Parameters of our own session that a server's connection to its peer must not take over.
_OWN = {"options", "application_name", "connect_timeout"}


def start(settings: Settings, timeout: float = 60.0) -> dict[str, Any]:
    """Start both directions; safe to run again, it completes what is missing.

    Order: rules on both sides; the way back with its slot, before the target can take a first write; then forward, from
    the copy's slot; ready when a fence has come through both ways.

    Returns:
        ``{"status": "started"|"already-running", "found": [what was there], "forward_seconds", "reverse_seconds"}``.

    Raises:
        Refused: no complete copy, or its slot is lost.
        TimedOut: a fence did not come through in ``timeout`` seconds, or a table's lock was not to be had.
    """
    config = settings.config
    with (
        domain_errors("replicate start"),
        connect(settings.source(), step="replicate", name="SOURCE_DATABASE_URL", lock_timeout_ms=1000) as source,
        connect(settings.target(), step="replicate", name="TARGET_DATABASE_URL", lock_timeout_ms=1000) as target,
    ):
        state = catalog_state.get(target, "copy")
        slot = copy_slot.describe(source, config.subscription)
        if not state or state.get("status") != "complete":
            raise Refused("no complete copy on the target, so nothing to go on from; run `task-migration copy` first")
        if slot is None or slot["wal_status"] == "lost":
            raise Refused(
                f"the slot {config.subscription} of the copy is {'gone' if slot is None else 'lost'}: changes since the copy cannot "
                "be had any more; run `task-migration rollback --abandon`, then `task-migration copy`"
            )
        found = []
        settings.journal.record("replicate", "starting", slot=config.subscription)
        conflicts.install(settings, "source")
        conflicts.install(settings, "target")
        tables = catalog.read(target, config.db_schema, config.tables, "target")
        members = [table.identifier for table in tables.values()] + [sql.Identifier("task_migration", "heartbeat")]
        if _exists(target, "pg_publication", "pubname", config.reverse_publication):
            found.append(f"publication {config.reverse_publication}")
        else:
            statement = copy_slot.publication(config.reverse_publication, members)
            catalog_state.with_lock_retries(lambda: target.execute(statement), "publishing the target's tables")
        if copy_slot.describe(target, config.reverse_subscription) is not None:
            found.append(f"slot {config.reverse_subscription}")
        else:
            target.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (config.reverse_subscription,))
        # The rows of the copy are behind the reverse slot; what forward applies carries an origin, which `none` leaves out.
        for connection, name, publication, peer in (
            (source, config.reverse_subscription, config.reverse_publication, settings.target()),
            (target, config.subscription, config.publication, settings.source()),
        ):
            if _subscription(connection, name, publication, peer):
                found.append(f"subscription {name}")
    lag = fence.both(settings, timeout)
    status = "already-running" if len(found) == 4 else "started"
    settings.journal.record("replicate", status, found=found, **lag)
    return {"status": status, "found": found, **lag}


def _exists(connection: Connection, relation: str, column: str, name: str) -> bool:
    query = sql.SQL("SELECT 1 FROM {} WHERE {} = %s").format(sql.Identifier(relation), sql.Identifier(column))
    return connection.execute(query, (name,)).fetchone() is not None


def subscription_row(connection: Connection, name: str) -> tuple[bool, str | None] | None:
    """``(enabled, slot name)`` of this database's subscription, or None."""
    row = connection.execute(
        "SELECT subenabled, subslotname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
        "WHERE d.datname = current_database() AND subname = %s",
        (name,),
    ).fetchone()
    return (bool(row[0]), row[1]) if row else None


def peer_conninfo(url: str) -> str:
    """The peer's connection string as a subscription keeps it; quoting is libpq's own."""
    values = {key: value for key, value in parameters(url, "the database URL").items() if key not in _OWN}
    # A cut line is noticed in about 20 s, not in hours.
    values |= {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "2", "connect_timeout": "10"}
    return conninfo.make_conninfo("", **values)


def _subscription(connection: Connection, name: str, publication: str, peer: str) -> bool:
    """Make and enable the subscription; returns whether it was there already."""
    row = subscription_row(connection, name)
    if row is None:
        with connection.transaction():
            keep_out_of_log(connection)
            connection.execute(
                sql.SQL(
                    "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} "
                    "WITH (create_slot = false, slot_name = {}, copy_data = false, origin = none, enabled = true)"
                ).format(
                    sql.Identifier(name),
                    sql.Literal(peer_conninfo(peer)),
                    sql.Identifier(publication),
                    sql.Literal(name),
                )
            )
        return False
    if not row[0]:
        connection.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(sql.Identifier(name)))
        return False
    return True


def keep_out_of_log(connection: Connection) -> None:
    """Keep the transaction's statements, which carry a password, out of the server's log, where the role may."""
    row = connection.execute(
        "SELECT rolsuper OR has_parameter_privilege(current_user, 'log_statement', 'SET') FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    if row and row[0]:
        for name in ("log_statement = 'none'", "log_min_error_statement = 'panic'", "log_min_duration_statement = -1"):
            connection.execute(sql.SQL("SET LOCAL " + name))


def status(settings: Settings, fence_timeout: float = 5.0) -> dict[str, Any]:
    """How both directions stand; see :func:`scripts.replicate_status.read`."""
    return replicate_status.read(settings, fence_timeout)


def wait(settings: Settings, timeout: float = 60.0, max_lag_seconds: float | None = None) -> dict[str, float]:
    """Wait until a fence comes through both ways, quicker than ``max_lag_seconds`` when given.

    Returns:
        ``{"forward_seconds", "reverse_seconds"}`` of the last fences.

    Raises:
        TimedOut: not within ``timeout`` seconds; with the last observation.
    """
    limit = max_lag_seconds if max_lag_seconds is not None else timeout
    return wait_until(
        lambda: fence.both(settings, timeout),
        lambda lag: max(lag.values()) <= limit,
        what=f"replication lag of at most {limit:g} s both ways",
        timeout=timeout,
    )


def stop(settings: Settings, timeout: float = 60.0, drain: bool = True) -> dict[str, Any]:
    """Drain both directions by a fence, then stop their workers; slots stay, so that ``start`` can go on without a hole.

    Returns:
        ``{"status": "stopped"|"not-running", "drained": bool, "stopped": [subscriptions]}``.

    Raises:
        TimedOut: what was committed before the call did not come through in ``timeout`` seconds; nothing was stopped.
    """
    config = settings.config
    drained = False
    if drain and fence.available(settings):
        fence.both(settings, timeout)
        drained = True
    stopped = []
    sides: list[tuple[Side, str, str]] = [
        ("target", settings.target(), config.subscription),
        ("source", settings.source(), config.reverse_subscription),
    ]
    for side, url, name in sides:
        with domain_errors(f"stopping {name} on the {side}"), connect(url, step="replicate") as connection:
            row = subscription_row(connection, name)
            if row and row[0]:
                connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(name)))
                _worker_ended(connection, name, timeout)
                stopped.append(name)
    settings.journal.record("replicate", "stopped", stopped=stopped, drained=drained)
    return {"status": "stopped" if stopped else "not-running", "drained": drained, "stopped": stopped}


def _worker_ended(connection: Connection, name: str, timeout: float) -> None:
    wait_until(
        lambda: connection.execute(
            "SELECT count(*) FROM pg_stat_subscription WHERE subname = %s AND pid IS NOT NULL", (name,)
        ).fetchone(),
        lambda count: count == (0,),
        what=f"the worker of {name} to end",
        timeout=timeout,
    )
