"""PostgreSQL's own logical replication, both ways, origin = none: subscriptions, publications and slots."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import conninfo, sql

from scripts.copy import slot as copy_slot
from scripts.database import catalog
from scripts.database import helper_schema as catalog_state
from scripts.database.connections import Connection, connect, domain_errors, keep_out_of_log, parameters
from scripts.database.helper_schema import Side
from scripts.replication import diagnosis as replicate_why
from scripts.replication import engine as replicate_engine
from scripts.replication import yielding as replicate_yield
from scripts.replication.engine import Direction
from scripts.support.errors import Refused
from scripts.support.events import ReplicateEvent, Step
from scripts.support.settings import Settings
from scripts.support.wait import wait_until

#: Parameters of our own session that a server's connection to its peer must not take over.
_OWN = {"options", "application_name", "connect_timeout"}


def names(settings: Settings, direction: Direction) -> tuple[str, str]:
    """``(publication, subscription)`` of a direction; the slot has the subscription's name."""
    config = settings.config
    if direction == "forward":
        return config.publication, config.subscription
    return config.reverse_publication, config.reverse_subscription


def open_side(settings: Settings, side: Side, step: str, lock_timeout_ms: int = 0) -> Connection:
    """A connection to one side's database."""
    url = settings.source() if side == "source" else settings.target()
    return connect(url, step=step, name=f"{side.upper()}_DATABASE_URL", lock_timeout_ms=lock_timeout_ms)


class Native:
    """Logical replication as an engine; see :class:`scripts.replication.engine.Engine`."""

    def check(self, settings: Settings) -> None:
        """The slot of the copy must still be there and, before the first start, where the copy's snapshot was. Raises Refused."""
        name = settings.config.subscription
        with (
            domain_errors("looking at the copy's slot"),
            open_side(settings, "source", "replicate") as source,
            open_side(settings, "target", "replicate") as target,
        ):
            slot = copy_slot.describe(source, name)
            copied = (catalog_state.get(target, "copy") or {}).get("lsn")
            begun = subscription_row(target, name) is not None
        if slot is None or slot["wal_status"] == "lost":
            raise Refused(
                f"the slot {name} of the copy is {'gone' if slot is None else 'lost'}: changes since the copy cannot be had any "
                "more; run `task-migration rollback --abandon`, then `task-migration copy`"
            )
        # Once it is read, it moves; one that was made anew under the name would leave out what came before it.
        if not begun and slot["confirmed_lsn"] != copied:
            raise Refused(
                f"the slot {name} stands at {slot['confirmed_lsn']}, the copy's snapshot was at {copied}: what came between would be "
                "missing; run `task-migration rollback --abandon`, then `task-migration copy`"
            )

    def start(self, settings: Settings) -> list[str]:
        """The way back with its slot first, before the target can take a first write; then forward, from the copy's slot."""
        config, found = settings.config, []
        with (
            domain_errors("starting replication"),
            open_side(settings, "source", "replicate", 1000) as source,
            open_side(settings, "target", "replicate", 1000) as target,
        ):
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
                target.execute(
                    "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (config.reverse_subscription,)
                )
            for connection, role in ((source, config.source_role), (target, config.target_role)):
                for problem in replicate_yield.set_up(connection, role):
                    settings.journal.record(Step.REPLICATE, ReplicateEvent.NO_PREFERRED_VICTIM, reason=problem)
            # The rows of the copy are behind the reverse slot; what forward applies carries an origin, which `none` leaves out.
            for connection, name, publication, peer in (
                (source, config.reverse_subscription, config.reverse_publication, settings.target()),
                (target, config.subscription, config.publication, settings.source()),
            ):
                if _subscription(connection, name, publication, peer):
                    found.append(f"subscription {name}")
        return found

    def enabled(self, settings: Settings) -> bool:
        """Both subscriptions exist and are enabled."""
        for direction in replicate_engine.DIRECTIONS:
            with open_side(settings, replicate_engine.subscriber(direction), "fence") as connection:
                row = subscription_row(connection, names(settings, direction)[1])
            if not row or not row[0]:
                return False
        return True

    def state(self, settings: Settings, direction: Direction) -> dict[str, Any]:
        """Slot, subscription and worker of a direction."""
        with (
            domain_errors("replicate status"),
            open_side(settings, replicate_engine.publisher(direction), "status") as publisher,
            open_side(settings, replicate_engine.subscriber(direction), "status") as subscriber,
        ):
            url = settings.source() if direction == "forward" else settings.target()
            return _state(publisher, subscriber, *names(settings, direction), peer_conninfo(url))

    def stop(self, settings: Settings, timeout: float) -> list[str]:
        """Disable both subscriptions and wait for their workers to end; the slots stay."""
        stopped = []
        for direction in replicate_engine.DIRECTIONS:
            name, side = names(settings, direction)[1], replicate_engine.subscriber(direction)
            with domain_errors(f"stopping {name} on the {side}"), open_side(settings, side, "replicate") as connection:
                row = subscription_row(connection, name)
                if row and row[0]:
                    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(name)))
                    _worker_ended(connection, name, timeout)
                    stopped.append(name)
        return stopped

    def unapplied(self, settings: Settings, direction: Direction) -> list[str]:
        """Read ahead in a copy of the slot, from where the subscriber has applied."""
        publication, name = names(settings, direction)
        with (
            domain_errors(f"reading what is left in the slot {name}"),
            open_side(settings, replicate_engine.publisher(direction), "confirm") as publisher,
            open_side(settings, replicate_engine.subscriber(direction), "confirm") as subscriber,
        ):
            if copy_slot.describe(publisher, name) is None:
                return []
            applied = replicate_why.applied_lsn(subscriber, name)
            steps = replicate_why.waiting(publisher, name, publication, applied, whole=True)
            tables = {(settings.config.db_schema, table) for table in settings.config.tables}
            found = {
                step.change.relation.name
                for step in steps
                if (step.change.relation.schema, step.change.relation.name) in tables
            }
        return sorted(found)

    def drop(self, settings: Settings) -> None:
        """Both subscriptions first, so that nobody reads the slots; then slots and publications."""
        with (
            domain_errors("removing replication"),
            open_side(settings, "source", "remove", 1000) as source,
            open_side(settings, "target", "remove", 1000) as target,
        ):
            sides: dict[Side, Connection] = {"source": source, "target": target}
            for direction in replicate_engine.DIRECTIONS:
                _drop_subscription(sides[replicate_engine.subscriber(direction)], names(settings, direction)[1])
            replicate_yield.take_back(source)
            replicate_yield.take_back(target)
            for direction in replicate_engine.DIRECTIONS:
                publication, slot = names(settings, direction)
                side = sides[replicate_engine.publisher(direction)]
                copy_slot.drop_leftover(side, slot)
                statement = sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(publication))

                def work(side: Connection = side, statement: sql.Composed = statement) -> None:
                    side.execute(statement)

                catalog_state.with_lock_retries(work, f"dropping publication {publication}")

    def leftovers(self, settings: Settings) -> list[str]:
        """Subscriptions, slots, publications and the workers' origins that the catalogs of both sides still show."""
        found = []
        pairs = [names(settings, direction) for direction in replicate_engine.DIRECTIONS]
        given = {"publications": [pair[0] for pair in pairs], "subscriptions": [pair[1] for pair in pairs]}
        sides: tuple[Side, Side] = ("source", "target")
        for side in sides:
            with (
                domain_errors(f"looking for leftovers on the {side}"),
                open_side(settings, side, "leftovers") as server,
            ):
                found += [f"{side}: {row[0]}" for row in server.execute(_LEFTOVERS, given).fetchall()]
                found += [f"{side}: {text}" for text in replicate_yield.leftovers(server)]
        return found


_LEFTOVERS = """
SELECT 'subscription ' || subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = current_database() AND subname = ANY(%(subscriptions)s)
UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots
WHERE database = current_database() AND slot_name = ANY(%(subscriptions)s)
UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname = ANY(%(publications)s)
UNION ALL SELECT 'origin ' || roname || ' of no subscription' FROM pg_replication_origin
WHERE roname ~ '^pg_[0-9]+$' AND NOT EXISTS (SELECT 1 FROM pg_subscription WHERE 'pg_' || oid = roname)
"""


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
    """Make and enable the subscription; returns whether it was there and enabled already."""
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


def _state(publisher: Connection, subscriber: Connection, publication: str, name: str, peer: str) -> dict[str, Any]:
    slot = copy_slot.describe(publisher, name)
    row = subscriber.execute(
        "SELECT s.subenabled, w.pid, e.apply_error_count, pg_blocking_pids(w.pid) FROM pg_subscription s "
        "JOIN pg_database d ON d.oid = s.subdbid "
        "LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL "
        "LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid "
        "WHERE d.datname = current_database() AND s.subname = %s",
        (name,),
    ).fetchone()
    reason: str | None = None
    error: replicate_why.Failure | None = None
    if slot is None:
        reason = f"the slot {name} does not exist: changes since it went cannot be had; abandon and copy again"
    elif slot["wal_status"] == "lost":
        reason = f"the slot {name} is lost (max_slot_wal_keep_size was passed); abandon and copy again"
    elif row is None:
        reason = f"the subscription {name} does not exist; run `task-migration replicate start`"
    elif not row[0]:
        reason = f"the subscription {name} is disabled; run `task-migration replicate start`"
    elif row[1] is None or not slot["active"]:
        kept = _kept_conninfo(subscriber, name) or peer
        why, error = replicate_why.explain(publisher, subscriber, name, publication, kept)
        reason = f"the apply worker of {name} is down (apply errors so far: {row[2] or 0}): {why}"
    return {
        "running": reason is None,
        "lag_bytes": slot["lag_bytes"] if slot else None,
        "lag_seconds": None,
        "reason": reason,
        "apply_errors": int(row[2] or 0) if row else 0,
        "error": error.document() if error else None,
        "blocked_by": list(row[3] or ()) if row else [],
        "slot": slot,
    }


def _kept_conninfo(connection: Connection, name: str) -> str | None:
    """The connection string that the subscription itself keeps, where the role may read it; its password is remembered for
    redaction. It may be another than ours by now: a rotated password, a moved host."""
    try:
        row = connection.execute(
            "SELECT subconninfo FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
            "WHERE d.datname = current_database() AND subname = %s",
            (name,),
        ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    if row is None:
        return None
    parameters(str(row[0]), f"the connection of {name}")
    return str(row[0])


def _worker_ended(connection: Connection, name: str, timeout: float) -> None:
    wait_until(
        lambda: connection.execute(
            "SELECT count(*) FROM pg_stat_subscription WHERE subname = %s AND pid IS NOT NULL", (name,)
        ).fetchone(),
        lambda count: count == (0,),
        what=f"the worker of {name} to end",
        timeout=timeout,
    )


def _drop_subscription(connection: Connection, name: str) -> None:
    if subscription_row(connection, name) is None:
        return
    identifier = sql.Identifier(name)
    # The slot is dropped on its own server: a subscription that still names it would need the peer for its own drop.
    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(identifier))
    connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(identifier))

    def drop() -> bool:
        try:
            connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(identifier))
        except psycopg.errors.ObjectInUse:
            return False
        return True

    wait_until(drop, bool, what=f"subscription {name} to be dropped", timeout=30)
