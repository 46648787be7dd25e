"""How replication stands, both ways: measured lag, why a worker is stopped, slots and their disk, bands, drift."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psycopg

from components.config import MigrationConfig
from scripts.copy.documents import SlotState
from scripts.copy.state import other_tables
from scripts.database import helper_schema, queries, strangers
from scripts.database.connections import Connection
from scripts.database.sides import both
from scripts.replication import bands, deletes, fence, findings, slot_health, writers, writes
from scripts.replication.by_databases import ByDatabases, Looking
from scripts.replication.directions import DIRECTIONS, Direction, publisher
from scripts.replication.documents import DeletedRows, DirectionState, RecordOfWrites, Runway, Status, ToldConflicts
from scripts.replication.engine import engine_of
from scripts.replication.findings import Recording
from scripts.replication.slot_health import Observation
from scripts.schema import run as schema
from scripts.support.errors import MigrationError
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from scripts.writes import watch

_QUERIES = queries.load("scripts.replication")
#: Longest wait for a lock: a look must not hang behind DDL.
LOCK_MS = 2000


def read(settings: Settings, fence_timeout: float = 5.0, *, by_databases: bool = False) -> Status:
    """The state of both directions; never waits longer than ``fence_timeout`` seconds a direction for a fence.

    Args:
        by_databases: AWS is not asked.

    Raises:
        DatabaseError: one of the databases cannot be reached.
    """
    engine: Looking = (
        ByDatabases() if by_databases and settings.config.replication_engine == "dms" else engine_of(settings)
    )
    states = {direction: engine.state(settings, direction) for direction in DIRECTIONS}
    with both(settings, "status", "replicate status") as (source, target):
        sides: dict[Side, Connection] = {"source": source, "target": target}
        conflicts = ToldConflicts(**{side: writes.told(connection) for side, connection in sides.items()})
        record = RecordOfWrites(**{side: writes.held(connection) for side, connection in sides.items()})
        seen = writers.read(settings.config, sides)
        sequences = bands.between(settings, source, target)
        copied = helper_schema.get(target, helper_schema.COPY)
        for direction, state in states.items():
            stalled, runway = slot_watched(sides[publisher(direction)], direction, state.slot, settings.config)
            states[direction] = state.model_copy(update={"stalled_seconds": stalled, "runway": runway})
    # Before the fences, which bring a clock forward.
    records = _recordings(settings)
    never = dict.fromkeys(DIRECTIONS, 0)
    for direction, state in states.items():
        if state.running:
            states[direction], never[direction] = _measured(engine, settings, direction, state, fence_timeout)
    if all(state.lag_seconds is not None for state in states.values()):
        writes.prune(settings)
    drift = _drift(settings)
    found = [
        *findings.judge(settings.config, states, sequences, drift, never, records),
        *findings.tables(other_tables(copied, settings.config)),
        *writers.judge(settings.config, seen),
    ]
    return Status(
        status=findings.worst(found),
        findings=found,
        forward=states["forward"],
        reverse=states["reverse"],
        sequences=sequences,
        schema_match=not drift,
        drift=drift,
        conflicts=conflicts,
        writes=record,
        writers=list(seen.day),
    )


@dataclass(frozen=True)
class Looked:
    """What one look at running replication shows: the slower fence in seconds, how many writes the fences overtook, which then
    never arrive, how many lost writes both conflict logs tell of, what the Task Service deleted by table and minute, and who writes where
    nobody should."""

    seconds: float
    missing: int
    told: int
    deletes: tuple[DeletedRows, ...] = ()
    writing: tuple[str, ...] = ()


def look(settings: Settings, timeout: float) -> Looked:
    """A fence each way with what it proves; records that both sides have are pruned.

    Raises:
        TimedOut: a fence did not come through in ``timeout`` seconds.
        Refused: there is no replication.
    """
    found = [fence.arrival(settings, direction, timeout) for direction in DIRECTIONS]
    writes.prune(settings)
    with both(settings, "look", "reading the record of writes") as (source, target):
        sides: dict[Side, Connection] = {"source": source, "target": target}
        writing = writers.judge(settings.config, writers.read(settings.config, sides))
        return Looked(
            seconds=max(seconds for seconds, _ in found),
            missing=sum(missing for _, missing in found),
            told=sum(writes.told(connection) for connection in sides.values()),
            deletes=deletes.read(target, settings.config),
            writing=tuple(f"{one.what}: {one.detail}; {one.remedy}" for one in writing if one.status == "fail"),
        )


def _measured(
    engine: Looking, settings: Settings, direction: Direction, state: DirectionState, timeout: float
) -> tuple[DirectionState, int]:
    """With the lag, and how many writes had not arrived when the fence had."""
    try:
        seconds, missing = fence.arrival(settings, direction, timeout)
        return state.model_copy(update={"lag_seconds": seconds}), missing
    except MigrationError as late:
        # A worker that fails again and again is alive for a moment each time: what it fails at is looked for now.
        again = engine.state(settings, direction)
        seen_before = {name: getattr(state, name) for name in ("slot", "stalled_seconds", "runway")}
        return again.model_copy(update={**seen_before, "reason": again.reason or str(late)}), 0


def _drift(settings: Settings) -> list[str]:
    """What differs between the two catalogs, a few words each."""
    try:
        return [
            f"{item.table}: {item.kind} {item.name}: source {item.source or 'has none'}, target {item.target or 'has none'}"
            for item in schema.diff(settings).drift
        ]
    except MigrationError as error:
        return [f"the catalogs cannot be compared: {error}"]


def _recordings(settings: Settings) -> dict[Side, Recording]:
    """How each side's record of writes stands. DDL that is under way holds its table: that ends soon, and is told."""
    found: dict[Side, Recording] = {}
    for side in BOTH:
        try:
            with both(settings, "status", "looking at the record of writes", LOCK_MS, first=side) as (here, there):
                seen = watch.changed(here, settings.config, side)
                forgotten = writes.forgotten(here, there, side)
                others = [f"{one.what} ({one.remedy})" for one in strangers.find(here, settings.config, side)]
                unrecorded = helper_schema.get(here, watch.UNRECORDED) or []
                deleted = deletes.read(here, settings.config) if side == "target" else ()
                exposed = helper_schema.exposed(here, settings.config)
            older = [*seen.clock]
            if forgotten:
                older.append(
                    f"{forgotten:,} writes of its own, of the newest that the other side has, are not known here"
                )
            found[side] = Recording(
                seen.triggers, seen.tables, older, unrecorded, others, exposed,
                deletes.unusual(deleted, settings.config.gates),
            )  # fmt: skip
        except MigrationError as error:
            found[side] = Recording(triggers=[f"cannot be looked at: {error}"])
    return found


def slot_watched(
    sender: Connection, direction: Direction, slot: SlotState | None, config: MigrationConfig
) -> tuple[float, Runway | None]:
    """How long a slot has stood still, in seconds, and how long the disk bears that; what must be remembered is kept beside it."""
    if slot is None or slot.confirmed_lsn is None:
        return 0.0, None
    row = sender.execute(_QUERIES["log_now"], (slot.confirmed_lsn,)).fetchone()
    if row is None:
        return 0.0, None
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
    allowance = int(config.wal_allowance_gb * 1024**3)
    return slot_health.stalled_seconds(before, seen), slot_health.runway(before, seen, allowance)
