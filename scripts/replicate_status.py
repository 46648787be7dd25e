"""How replication stands, both ways: measured lag, why a worker is stopped, slots and their disk, bands, drift."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from scripts import catalog, catalog_state, fence, replicate_engine, schema
from scripts.catalog_state import Side
from scripts.support.errors import MigrationError, TimedOut
from scripts.support.postgres import Connection, connect, domain_errors
from scripts.support.settings import Settings


def read(settings: Settings, fence_timeout: float = 5.0) -> dict[str, Any]:
    """The state of both directions; never waits longer than ``fence_timeout`` seconds a direction.

    Returns:
        ``{"forward": D, "reverse": D, "sequences": [...], "schema_match": bool, "conflicts": {"source": n, "target": n}}``
        where D is ``{"running", "lag_bytes", "lag_seconds", "reason", "apply_errors", "slot"}``: ``lag_seconds`` is a
        fence's time, None when it did not come through, ``reason`` says why it is not running, else None.
    """
    engine = replicate_engine.of(settings)
    forward, reverse = (engine.state(settings, direction) for direction in replicate_engine.DIRECTIONS)
    with (
        domain_errors("replicate status"),
        connect(settings.source(), step="status", name="SOURCE_DATABASE_URL") as source,
        connect(settings.target(), step="status", name="TARGET_DATABASE_URL") as target,
    ):
        conflicts = {side: _open_conflicts(c) for side, c in (("source", source), ("target", target))}
        bands = sequences(settings, source, target)
    for direction, measure in ((forward, fence.forward), (reverse, fence.reverse)):
        if not direction["running"]:
            continue
        try:
            direction["lag_seconds"] = measure(settings, fence_timeout)
        except TimedOut as late:
            direction["reason"] = str(late)
    try:
        schema_match = bool(schema.diff(settings)["match"])
    except MigrationError:
        schema_match = False
    return {
        "forward": forward,
        "reverse": reverse,
        "sequences": bands,
        "schema_match": schema_match,
        "conflicts": conflicts,
    }


def _open_conflicts(connection: Connection) -> int:
    if not catalog_state.installed(connection):
        return 0
    row = connection.execute("SELECT count(*) FROM task_migration.conflicts WHERE settled IS NULL").fetchone()
    return int(row[0]) if row else 0


def sequences(settings: Settings, source: Connection, target: Connection) -> list[dict[str, Any]]:
    """Each sequence of both sides against the band: ok, warn (the source is near it), fail (it reached it, or the
    target's stands below it)."""
    config = settings.config
    found = []
    sides: dict[Side, Connection] = {"source": source, "target": target}
    lasts: dict[tuple[Side, str, str], tuple[str, int]] = {}
    for side, connection in sides.items():
        names = catalog.existing(connection, config.db_schema, config.tables)
        for table in catalog.read(connection, config.db_schema, names, side).values():
            for sequence in table.sequences:
                row = connection.execute(sql.SQL("SELECT last_value FROM {}").format(sequence.identifier)).fetchone()
                lasts[side, table.name, sequence.column] = (sequence.name, int(row[0]) if row else 0)
    for (side, table_name, column), (sequence_name, last) in lasts.items():
        if side != "source":
            continue
        other = lasts.get(("target", table_name, column))
        used = 100.0 * last / config.sequence_band_start
        state = "ok" if used < config.sequence_band_warn_percent else "warn"
        if used >= 100 or other is None or other[1] < config.sequence_band_start:
            state = "fail"
        found.append(
            {
                "table": table_name,
                "column": column,
                "sequence": sequence_name,
                "source_last": last,
                "target_last": other[1] if other else None,
                "band_start": config.sequence_band_start,
                "used_percent": round(used, 3),
                "status": state,
            }
        )
    return found
