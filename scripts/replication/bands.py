"""Where each sequence stands against the band that the target hands out ids from."""

from __future__ import annotations

from scripts.database import catalog
from scripts.database.catalog import Sequence
from scripts.database.connections import Connection
from scripts.database.sides import both
from scripts.replication.documents import Grade, SequenceBand
from scripts.schema import choice
from scripts.schema.sequences import taken
from scripts.support.settings import Settings
from scripts.support.sides import Side

#: Table, column, and the sequence's schema and name.
Taker = tuple[str, str, tuple[str, str] | None]


def read(settings: Settings) -> list[SequenceBand]:
    """:func:`between` with connections of its own. Raises DatabaseError."""
    with both(settings, "status", "looking at the sequence bands") as (source, target):
        return between(settings, source, target)


def between(settings: Settings, source: Connection, target: Connection) -> list[SequenceBand]:
    """Each sequence of the source with its twin on the target, judged."""
    start, warn_percent = settings.config.sequence_band_start, settings.config.sequence_band_warn_percent
    here, there = _last_values(settings, "source", source), _last_values(settings, "target", target)
    found = []
    for taker, (sequence, last) in here.items():
        other = there[taker][1] if taker in there else None
        used = 100.0 * last / start
        status: Grade = "ok" if used < warn_percent else "warn"
        if used >= 100 or other is None or other < start:
            status = "fail"
        found.append(
            SequenceBand(
                table=taker[0],
                column=sequence.column,
                sequence=sequence.name,
                source_last=last,
                target_last=other,
                band_start=start,
                used_percent=round(used, 3),
                status=status,
            )
        )
    return found


def _last_values(settings: Settings, side: Side, connection: Connection) -> dict[Taker, tuple[Sequence, int]]:
    """Each sequence with its last value, by who takes from it, of the configured tables."""
    config = settings.config
    names = catalog.existing(connection, config.db_schema, config.tables)
    tables = choice.chosen(catalog.read(connection, config.db_schema, names, side), config, side)
    values = {
        (one.sequence.schema, one.sequence.name): catalog.last_value(connection, one.sequence)
        for one in taken(tables.values())
    }
    return {
        _taker(table.name, sequence): (sequence, values[sequence.schema, sequence.name])
        for table in tables.values()
        for sequence in table.sequences
    }


def _taker(table: str, sequence: Sequence) -> Taker:
    """An identity's own sequence has PostgreSQL's name, which the other side's need not have."""
    return table, sequence.column, None if sequence.identity else (sequence.schema, sequence.name)
