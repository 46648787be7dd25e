"""Where each sequence stands against the band that the target hands out ids from."""

from __future__ import annotations

from psycopg import sql

from scripts.database import catalog
from scripts.database.connections import Connection, domain_errors
from scripts.database.sides import open_side
from scripts.replication.documents import Grade, SequenceBand
from scripts.support.settings import Settings
from scripts.support.sides import Side


def read(settings: Settings) -> list[SequenceBand]:
    """:func:`between` with connections of its own. Raises DatabaseError."""
    with (
        domain_errors("looking at the sequence bands"),
        open_side(settings, "source", "status") as source,
        open_side(settings, "target", "status") as target,
    ):
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
            row = connection.execute(sql.SQL("SELECT last_value FROM {}").format(sequence.identifier)).fetchone()
            found[table.name, sequence.column] = (sequence.name, int(row[0]) if row else 0)
    return found
