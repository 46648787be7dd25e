"""Where each sequence stands against the band that the target hands out ids from."""

from __future__ import annotations

from scripts.database import catalog
from scripts.database.connections import Connection
from scripts.database.sides import both
from scripts.replication.documents import Grade, SequenceBand
from scripts.support.settings import Settings
from scripts.support.sides import Side


def read(settings: Settings) -> list[SequenceBand]:
    """:func:`between` with connections of its own. Raises DatabaseError."""
    with both(settings, "status", "looking at the sequence bands") as (source, target):
        return between(settings, source, target)


def between(settings: Settings, source: Connection, target: Connection) -> list[SequenceBand]:
    """Each sequence of the source with its twin on the target, judged."""
    start, warn_percent = settings.config.sequence_band_start, settings.config.sequence_band_warn_percent
    here, there = _last_values(settings, "source", source), _last_values(settings, "target", target)
    found = []
    for (table, column), (sequence, last) in here.items():
        other = there[table, column][1] if (table, column) in there else None
        used = 100.0 * last / start
        status: Grade = "ok" if used < warn_percent else "warn"
        if used >= 100 or other is None or other < start:
            status = "fail"
        found.append(
            SequenceBand(
                table=table,
                column=column,
                sequence=sequence,
                source_last=last,
                target_last=other,
                band_start=start,
                used_percent=round(used, 3),
                status=status,
            )
        )
    return found


def _last_values(settings: Settings, side: Side, connection: Connection) -> dict[tuple[str, str], tuple[str, int]]:
    """``{(table, column): (sequence, last value)}`` of the configured tables."""
    config = settings.config
    found = {}
    names = catalog.existing(connection, config.db_schema, config.tables)
    for table in catalog.read(connection, config.db_schema, names, side).values():
        for sequence in table.sequences:
            found[table.name, sequence.column] = (sequence.name, catalog.last_value(connection, sequence))
    return found
