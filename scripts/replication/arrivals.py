"""Which writes of one side the other has: each record of a write is looked up by its number in the other side's copy."""

from __future__ import annotations

from collections import Counter

from psycopg import sql

from scripts.database.connections import Connection, domain_errors
from scripts.database.sides import open_side
from scripts.replication.directions import Direction, publisher, subscriber
from scripts.support.settings import Settings

#: Records that are looked up with one statement.
BATCH = 10_000
#: The table of each record, by its number.
Records = dict[int, str]


def recorded(sender: Connection, direction: Direction) -> Records:
    """The writes that the publisher's side has recorded, committed by now and not pruned; fences are none."""
    records = sql.Identifier("task_migration", f"{publisher(direction)}_writes")
    there = sender.execute("SELECT to_regclass(%s)", (records.as_string(sender),)).fetchone()
    if there is None or there[0] is None:
        return {}
    query = sql.SQL("SELECT v, table_name FROM {} WHERE kind <> 'fence' ORDER BY v").format(records)
    return {int(v): str(table) for v, table in sender.execute(query)}


def unknown(receiver: Connection, direction: Direction, records: Records) -> Records:
    """Those of the publisher's records that the subscriber's copy of the table lacks; all when it has no such table."""
    copy = sql.Identifier("task_migration", f"{publisher(direction)}_writes")
    there = receiver.execute("SELECT to_regclass(%s)", (copy.as_string(receiver),)).fetchone()
    if there is None or there[0] is None:
        return records
    query = sql.SQL("SELECT v FROM {} WHERE v = ANY(%s)").format(copy)
    numbers, found = list(records), set[int]()
    for start in range(0, len(numbers), BATCH):
        found |= {int(v) for (v,) in receiver.execute(query, (numbers[start : start + BATCH],))}
    return {v: table for v, table in records.items() if v not in found}


def lacking(settings: Settings, direction: Direction) -> dict[str, int]:
    """Writes recorded on the publisher's side that the subscriber's lacks, by table; one that is under way counts.

    What both sides know is pruned on both, so a record that is gone from its own side meanwhile is no loss.
    """
    with (
        domain_errors(f"comparing the records of writes ({direction})"),
        open_side(settings, publisher(direction), "records") as sender,
        open_side(settings, subscriber(direction), "records") as receiver,
    ):
        missing = unknown(receiver, direction, recorded(sender, direction))
        if missing:
            still = recorded(sender, direction)
            missing = {v: table for v, table in missing.items() if v in still}
    return dict(Counter(missing.values()))
