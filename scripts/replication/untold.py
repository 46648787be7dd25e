"""Writes of the source that were lost to others without a word, as nothing brought them to the target, where that is told.

A loss is told where the losing write arrives. Once the forward slot is gone it never does, while the later write of the Task Service, which
could not know of it, has arrived on the source and taken its place.
"""

from __future__ import annotations

import psycopg

from scripts.copy import slot as copy_slot
from scripts.database import queries
from scripts.database.connections import scalar
from scripts.database.sides import both
from scripts.replication import diagnosis, slots, writes
from scripts.replication.directions import slot_name
from scripts.support.settings import Settings

_QUERIES = queries.load("scripts.replication")
#: Writes that are looked at, at most: those of some hours.
WRITES = 100_000


def tell(settings: Settings) -> int:
    """Tell on the source what the target would have told of its writes, if their slot is gone: they are brought to the target as its worker
    would, which is rolled back. How many losses were told now; 0 while the slot is there.

    Raises:
        DatabaseError: one of the databases cannot be reached.
    """
    with both(settings, "untold", "looking for losses that nobody told") as (source, target):
        name = slot_name(settings, "forward")
        if slots.problem(name, copy_slot.describe(source, name)) is None:
            return 0
        waiting = writes.waiting(source, target, "source", WRITES)
        with target.transaction(force_rollback=True):
            target.execute("SET LOCAL session_replication_role = replica")
            before = scalar(target, "SELECT coalesce(max(id), 0) FROM task_migration.conflicts")
            for write in waiting:
                try:
                    with target.transaction():
                        diagnosis.bring(target, "source", write)
                except psycopg.Error as error:
                    if error.sqlstate is None:
                        raise  # ours, and not the server's: nobody knows what was lost
                    continue  # what cannot be applied there has lost nothing here
            losses = target.execute(_QUERIES["told_since"], (before,)).fetchall()
        return sum(source.execute(_QUERIES["tell_once"], loss).rowcount for loss in losses)
