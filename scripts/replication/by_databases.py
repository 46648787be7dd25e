"""How AWS DMS stands by the two databases alone: for a look that asks nothing of AWS."""

from __future__ import annotations

from typing import Protocol

from scripts.copy import slot as copy_slot
from scripts.database.sides import session
from scripts.replication import slots
from scripts.replication.directions import Direction, publisher, slot_name
from scripts.replication.documents import DirectionState
from scripts.support.settings import Settings

#: A lock that is held is not waited for, milliseconds.
LOCK_MS = 2000


class Looking(Protocol):
    """What of an engine a look needs."""

    def state(self, settings: Settings, direction: Direction) -> DirectionState:
        """As :meth:`scripts.replication.engine.Engine.state`."""
        ...


class ByDatabases:
    """Whether each slot is what it was. That its task runs and applies what it reads shows by the fence that follows: a task that has
    stopped, or stands at a record, lets none through, and `replicate status` asks AWS why."""

    def state(self, settings: Settings, direction: Direction) -> DirectionState:
        """One direction, without its fence."""
        name, side = slot_name(settings, direction), publisher(direction)
        with session(settings, side, "status", "replicate status", LOCK_MS) as reader:
            slot = copy_slot.describe(reader, name)
        reason = slots.problem(name, slot)
        return DirectionState(
            running=reason is None,
            lag_bytes=slot.lag_bytes if slot else None,
            reason=reason,
            apply_errors=0,
            slot=slot,
        )
