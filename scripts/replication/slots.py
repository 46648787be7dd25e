"""The slots that directions read: whether one still is what it was, and the sentences about one that is not."""

from __future__ import annotations

import psycopg
from psycopg import sql

from scripts.copy.documents import SlotState
from scripts.copy.slot import describe
from scripts.database import helper_schema, queries
from scripts.database.connections import Connection
from scripts.replication import diagnosis, subscriptions, writes
from scripts.replication.directions import Direction, publisher, slot_name, subscriber
from scripts.support.errors import Refused
from scripts.support.settings import Settings
from scripts.support.sides import Side

_QUERIES = queries.load("scripts.replication")
#: Records that are looked for in a slot, at most: the oldest are those that a slot made anew has left out.
LOOKED_AT = 1_000
REMEDY = "No slot made by hand closes the hole: `task-migration rollback`, then `task-migration rollback --scenario data` and a new copy"


def problem(name: str, slot: SlotState | None) -> str | None:
    """Why changes cannot be read from the slot any more, with what to do; None when they can."""
    if slot is None:
        return f"the slot {name} does not exist: changes since it went cannot be had any more. {REMEDY}"
    if slot.wal_status == "lost":
        return f"the slot {name} is lost (max_slot_wal_keep_size was passed). {REMEDY}"
    return None


def usable(name: str, slot: SlotState | None) -> SlotState:
    """The slot, from which replication is about to go on. Raises Refused when it is gone or lost."""
    wrong = problem(name, slot)
    if slot is None or wrong is not None:
        raise Refused(f"{wrong}. Nothing was changed")
    return slot


def check(settings: Settings, direction: Direction, sender: Connection, receiver: Connection) -> None:
    """Whether a direction goes on without a hole from the slot that is there now; before the first start one may be missing back.

    A slot has no mark of its own, and its position says little, as it advances over what concerns nobody. What it has left out
    shows in the records: those that the subscriber's side lacks must still be in it.

    Raises:
        Refused: it is gone, lost, read by another, or writes are neither on the subscriber's side nor in it.
    """
    name, side = slot_name(settings, direction), publisher(direction)
    publication = settings.config.publication if direction == "forward" else settings.config.reverse_publication
    slot = describe(sender, name)
    worker = subscriptions.worker(receiver, name)
    made = made_at(direction, sender, receiver)
    if slot is None and made is None and worker is None:
        return
    slot = usable(name, slot)
    if worker is None:
        # Nobody has read from it yet: it must be where it was made.
        if made is not None and slot.confirmed_lsn != made:
            raise Refused(
                f"the slot {name} of the {side} stands at {slot.confirmed_lsn}, it was made at {made} and nobody of ours has read from "
                f"it: what came between would be missing; nothing was changed. {REMEDY}"
            )
        return
    if slot.active:
        # It is being read; by whom, and whether it left anything out, shows when the fences have come through.
        return
    applied = diagnosis.applied_lsn(receiver, name)
    row = sender.execute("SELECT pg_current_wal_lsn()::text, %s::pg_lsn > pg_current_wal_lsn()", (applied,)).fetchone()
    if row is not None and row[1]:
        raise Refused(
            f"the {side} stands at {row[0]} of its log, and {name} has applied up to {applied}: the {side} is an older state of itself "
            f"(restored?), whose next writes would be taken for known; nothing was changed. {REMEDY}"
        )
    lost = _left_out(sender, receiver, side, name, publication)
    if lost:
        raise Refused(
            f"{lost:,} writes of the {side} are neither on the {subscriber(direction)} nor in the slot {name}, which "
            f"stands at {slot.confirmed_lsn}: it was made anew, moved by hand, or read by somebody else; nothing was changed. {REMEDY}"
        )


def made_at(direction: Direction, sender: Connection, receiver: Connection) -> str | None:
    """Where our slot stood when it was made, by what the target's settings hold; None when it was not made yet."""
    target = receiver if direction == "forward" else sender
    kept = helper_schema.get(target, helper_schema.COPY if direction == "forward" else helper_schema.SLOT_BACK)
    return None if kept is None else kept.get("lsn")


def _left_out(sender: Connection, receiver: Connection, side: Side, name: str, publication: str) -> int:
    """How many records the subscriber's side lacks that the slot will not send, of the first :data:`LOOKED_AT`; it stays as it is."""
    lacking = [one.v for one in writes.waiting(sender, receiver, side, LOOKED_AT)]
    if not lacking:
        return 0
    try:
        row = sender.execute(
            _QUERIES["left_out"],
            {"slot": name, "publication": sql.Identifier(publication).as_string(sender), "lacking": lacking},
        ).fetchone()
    except psycopg.errors.ObjectInUse:
        # Somebody reads it just now: the records are compared again when the fences have come through.
        return 0
    return int(row[0]) if row else 0


def foreign(sender: Connection, name: str, slot: SlotState) -> str:
    """Who else reads the slot, in words, with what to do."""
    row = sender.execute(_QUERIES["reader"], (slot.active_pid,)).fetchone()
    who = f"{row[0] or 'a session'} of {row[1]} from {row[2] or 'this machine'}" if row else "a session"
    return (
        f"the slot {name} is read by another, {who} (process {slot.active_pid}), and not by our subscription: a restored clone of the "
        f"subscriber's server comes up with its subscription enabled and takes it. There: ALTER SUBSCRIPTION {name} DISABLE; then here: "
        f"SELECT pg_terminate_backend({slot.active_pid}); what it took does not come back, see `task-migration replicate status`"
    )
