"""The slots that directions read, and the sentences about one that is gone or lost."""

from __future__ import annotations

from dataclasses import asdict

from scripts.copy import slot as copy_slot
from scripts.database.connections import Connection
from scripts.replication.documents import Slot
from scripts.support.errors import Refused


def read(connection: Connection, name: str) -> Slot | None:
    """The slot as its server shows it; None when it is not there. Raises Refused when it is another database's."""
    found = copy_slot.describe(connection, name)
    return None if found is None else Slot.model_validate(asdict(found))


def problem(name: str, slot: Slot | None) -> str | None:
    """Why changes cannot be read from the slot any more, with what to do; None when they can."""
    if slot is None:
        return f"the slot {name} does not exist: changes since it went cannot be had; abandon and copy again"
    if slot.wal_status == "lost":
        return f"the slot {name} is lost (max_slot_wal_keep_size was passed); abandon and copy again"
    return None


def usable(name: str, slot: Slot | None) -> Slot:
    """The copy's slot, from which replication is about to start. Raises Refused when it is gone or lost."""
    if slot is None or slot.wal_status == "lost":
        raise Refused(
            f"the slot {name} of the copy is {'gone' if slot is None else 'lost'}: changes since the copy cannot be had any "
            "more; run `task-migration rollback --abandon`, then `task-migration copy`"
        )
    return slot
