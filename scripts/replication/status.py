"""How replication stands, both ways: measured lag, why a worker is stopped, slots and their disk, bands, drift."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from scripts.database import helper_schema, queries
from scripts.database.connections import Connection, domain_errors
from scripts.database.sides import open_side
from scripts.replication import bands, fence, findings, slot_health
from scripts.replication.directions import DIRECTIONS, Direction, publisher
from scripts.replication.documents import DirectionState, OpenConflicts, Status
from scripts.replication.engine import Engine, engine_of
from scripts.replication.slot_health import Observation
from scripts.schema import run as schema
from scripts.support.errors import MigrationError
from scripts.support.settings import Settings
from scripts.support.sides import Side

_QUERIES = queries.load("scripts.replication")


def read(settings: Settings, fence_timeout: float = 5.0) -> Status:
    """The state of both directions; never waits longer than ``fence_timeout`` seconds a direction for a fence.

    Raises:
        DatabaseError: one of the databases cannot be reached.
    """
    engine = engine_of(settings)
    states = {direction: engine.state(settings, direction) for direction in DIRECTIONS}
    with (
        domain_errors("replicate status"),
        open_side(settings, "source", "status") as source,
        open_side(settings, "target", "status") as target,
    ):
        sides: dict[Side, Connection] = {"source": source, "target": target}
        conflicts = OpenConflicts(source=_told(source), target=_told(target))
        sequences = bands.between(settings, source, target)
        for direction, state in states.items():
            states[direction] = _with_slot_health(sides[publisher(direction)], direction, state, settings)
    for direction, state in states.items():
        if state.running:
            states[direction] = _with_lag(engine, settings, direction, state, fence_timeout)
    drift = _drift(settings)
    found = findings.judge(settings.config, states, sequences, drift)
    return Status(
        status=findings.worst(found),
        findings=found,
        forward=states["forward"],
        reverse=states["reverse"],
        sequences=sequences,
        schema_match=not drift,
        drift=drift,
        conflicts=conflicts,
    )


def _with_lag(
    engine: Engine, settings: Settings, direction: Direction, state: DirectionState, timeout: float
) -> DirectionState:
    try:
        return state.model_copy(update={"lag_seconds": fence.through(settings, direction, timeout)})
    except MigrationError as late:
        # A worker that fails again and again is alive for a moment each time: what it fails at is looked for now.
        again = engine.state(settings, direction)
        seen_before = {name: getattr(state, name) for name in ("slot", "stalled_seconds", "runway")}
        return again.model_copy(update={**seen_before, "reason": again.reason or str(late)})


def _drift(settings: Settings) -> list[str]:
    """What differs between the two catalogs, a few words each."""
    try:
        return [
            f"{item.table}: {item.kind} {item.name}: source {item.source or 'has none'}, target {item.target or 'has none'}"
            for item in schema.diff(settings).differences
        ]
    except MigrationError as error:
        return [f"the catalogs cannot be compared: {error}"]


def _with_slot_health(
    sender: Connection, direction: Direction, state: DirectionState, settings: Settings
) -> DirectionState:
    """How long the slot has stood still and how long the disk bears that; what must be remembered is kept beside it."""
    slot = state.slot
    if slot is None or slot.confirmed_lsn is None:
        return state
    row = sender.execute(_QUERIES["log_now"], (slot.confirmed_lsn,)).fetchone()
    if row is None:
        return state
    seen = Observation(
        at=row[0],
        wal=row[1],
        confirmed=row[4],
        retained=max(0, slot.retained_bytes or 0),
        average_rate=row[3],
        keep_bytes=row[2],
    )
    name = f"watched_{direction}"
    before = slot_health.mark_of(helper_schema.get(sender, name))
    after = slot_health.advance(before, seen)
    if helper_schema.installed(sender) and after != before:
        # A server that takes no write is told of elsewhere; what it shows is shown all the same.
        with suppress(psycopg.Error):
            helper_schema.put(sender, name, after.document())
    return state.model_copy(
        update={
            "stalled_seconds": slot_health.stalled_seconds(before, seen),
            "runway": slot_health.runway(before, seen, int(settings.config.wal_allowance_gb * 1024**3)),
        }
    )


def _told(connection: Connection) -> int:
    if not helper_schema.installed(connection):
        return 0
    row = connection.execute("SELECT count(*) FROM task_migration.conflicts").fetchone()
    return int(row[0]) if row else 0
