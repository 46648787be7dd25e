"""PostgreSQL's own logical replication, both ways, of the record of writes: subscriptions, publications and slots."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from scripts.copy import slot as copy_slot
from scripts.copy.documents import SlotState
from scripts.database import helper_schema
from scripts.database.connections import Connection
from scripts.database.sides import both, open_side, session
from scripts.replication import diagnosis, roles, slots, subscriptions
from scripts.replication.directions import DIRECTIONS, Direction, Login, Part, publisher, slot_name, subscriber
from scripts.replication.documents import DirectionState, FailingRow
from scripts.replication.subscriptions import Link
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from scripts.writes import record
from scripts.writes.install import LOCK_MS


def names(settings: Settings, direction: Direction) -> tuple[str, str]:
    """``(publication, subscription)`` of a direction; the slot has the subscription's name."""
    config = settings.config
    publication = config.publication if direction == "forward" else config.reverse_publication
    return publication, slot_name(settings, direction)


class Native:
    """Logical replication as an engine; see :class:`scripts.replication.engine.Engine`."""

    def check(self, settings: Settings) -> None:
        """Both slots must be those from which replication began, with every write in them that did not arrive. Raises Refused."""
        with both(settings, "replicate", "looking at the slots") as (source, target):
            slots.check(settings, "forward", source, target)
            slots.check(settings, "reverse", target, source)

    def start(self, settings: Settings, force: bool = False) -> list[Part]:
        """The way back with its slot first, before the target can take a first write; then forward, from the copy's slot."""
        with both(settings, "replicate", "starting replication", LOCK_MS) as (source, target):
            sides: dict[Side, Connection] = {"source": source, "target": target}
            for side, connection in sides.items():
                roles.refuse_readers(connection, settings.config, side)
                roles.ensure(connection, settings.config, side)
            parts = [_publish_back(settings, target), _slot_back(settings, target)]
            for direction in reversed(DIRECTIONS):
                link = _link(settings, direction)
                ends = sides[link.subscriber], sides[link.publisher]
                parts.append(subscriptions.switch_on(*ends, link, settings.config, force=force))
        return parts

    def logins(self, settings: Settings) -> Mapping[Side, Login]:  # noqa: ARG002 - passwords are made at the start
        """None: each subscription's password is random."""
        return {}

    def fill_secret(self, settings: Settings) -> bool:  # noqa: ARG002 - nobody else logs in
        """It has none."""
        return False

    def enabled(self, settings: Settings) -> bool:
        """Both subscriptions exist and are enabled."""
        for direction in DIRECTIONS:
            with open_side(settings, subscriber(direction), "fence") as connection:
                if not subscriptions.enabled(connection, slot_name(settings, direction)):
                    return False
        return True

    def halted(self, settings: Settings, direction: Direction) -> str | None:
        """Without its slot, or with its subscription switched off."""
        name = slot_name(settings, direction)
        with both(settings, "fence", "looking at replication", first=publisher(direction)) as (sender, receiver):
            return _halted(name, copy_slot.describe(sender, name), subscriptions.worker(receiver, name))

    def state(self, settings: Settings, direction: Direction) -> DirectionState:
        """Slot, subscription and worker of a direction."""
        with both(settings, "status", "replicate status", first=publisher(direction)) as (sender, receiver):
            return _state(sender, receiver, settings, direction)

    def stop(self, settings: Settings, timeout: float) -> list[str]:
        """Disable both subscriptions and wait for their workers to end; the slots stay."""
        stopped = []
        for direction in DIRECTIONS:
            name, side = slot_name(settings, direction), subscriber(direction)
            with session(settings, side, "replicate", f"stopping {name} on the {side}") as connection:
                if subscriptions.switch_off(connection, name, timeout):
                    stopped.append(name)
        return stopped

    def drop(self, settings: Settings) -> None:
        """Both subscriptions first, so that nobody reads the slots; then slots and publications."""
        with both(settings, "remove", "removing replication", LOCK_MS) as (source, target):
            sides: dict[Side, Connection] = {"source": source, "target": target}
            for direction in DIRECTIONS:
                subscriptions.drop(sides[subscriber(direction)], slot_name(settings, direction))
            for direction in DIRECTIONS:
                publication, slot = names(settings, direction)
                side = sides[publisher(direction)]
                copy_slot.drop_leftover(side, slot)
                statement = sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(publication))

                def work(side: Connection = side, statement: sql.Composed = statement) -> None:
                    side.execute(statement)

                helper_schema.with_lock_retries(work, f"dropping publication {publication}")

    def leftovers(self, settings: Settings) -> list[str]:
        """Subscriptions, slots, publications and the workers' origins that the catalogs of both sides still show."""
        found = []
        pairs = [names(settings, direction) for direction in DIRECTIONS]
        given = {"publications": [pair[0] for pair in pairs], "subscriptions": [pair[1] for pair in pairs]}
        for side in BOTH:
            with session(settings, side, "leftovers", f"looking for leftovers on the {side}") as server:
                rows = server.execute(subscriptions.QUERIES["leftovers"], given).fetchall()
                found += [f"{side}: {row[0]}" for row in rows]
        return found


def _link(settings: Settings, direction: Direction) -> Link:
    publication, name = names(settings, direction)
    sender = publisher(direction)
    return Link(name, publication, sender, subscriber(direction), settings.url(sender))


def _publish_back(settings: Settings, target: Connection) -> Part:
    name = settings.config.reverse_publication
    was_on = target.execute("SELECT 1 FROM pg_publication WHERE pubname = %s", (name,)).fetchone() is not None
    if not was_on:
        statement = copy_slot.publication(name, record.table("target"))
        helper_schema.with_lock_retries(lambda: target.execute(statement), "publishing the target's writes")
    return Part(f"publication {name}", was_on)


def _slot_back(settings: Settings, target: Connection) -> Part:
    name = settings.config.reverse_subscription
    was_on = helper_schema.get(target, helper_schema.SLOT_BACK) is not None
    if not was_on:
        # One of a killed start: nobody has read from it, and nothing was written that it would hold.
        copy_slot.drop_leftover(target, name)
        row = target.execute(
            "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, 'pgoutput')", (name,)
        ).fetchone()
        helper_schema.put(target, helper_schema.SLOT_BACK, {"lsn": row[0] if row else None})
    return Part(f"slot {name}", was_on)


def _halted(name: str, slot: SlotState | None, worker: subscriptions.Worker | None) -> str | None:
    if (reason := slots.problem(name, slot)) is not None:
        return reason
    if worker is None or not worker.enabled:
        what = "does not exist" if worker is None else "is disabled"
        return f"the subscription {name} {what}; run `task-migration replicate start`"
    return None


def _state(sender: Connection, receiver: Connection, settings: Settings, direction: Direction) -> DirectionState:
    name = slot_name(settings, direction)
    slot = copy_slot.describe(sender, name)
    worker = subscriptions.worker(receiver, name)
    error: FailingRow | None = None
    reason = _halted(name, slot, worker)
    if reason is None and worker and slot and slot.active and worker.pid is None:
        reason = slots.foreign(sender, name, slot)
    elif reason is None and worker and (worker.pid is None or not (slot and slot.active)):
        why, error = diagnosis.explain(
            sender,
            receiver,
            publisher(direction),
            schema=settings.config.db_schema,
            unreachable=lambda: subscriptions.unreachable(receiver, sender, _link(settings, direction)),
        )
        reason = f"the apply worker of {name} is down (apply errors so far: {worker.apply_errors}): {why}"
    return DirectionState(
        running=reason is None,
        lag_bytes=slot.lag_bytes if slot else None,
        reason=reason,
        apply_errors=worker.apply_errors if worker else 0,
        error=error,
        blocked_by=worker.blocked_by if worker else [],
        slot=slot,
    )
