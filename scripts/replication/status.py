"""How replication stands, both ways: measured lag, why a worker is stopped, slots and their disk, bands, drift."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import catalog
from scripts.database import helper_schema as catalog_state
from scripts.database.connections import Connection, connect, domain_errors
from scripts.database.helper_schema import Side
from scripts.replication import engine as replicate_engine
from scripts.replication import fence
from scripts.replication import watch as replicate_watch
from scripts.replication.engine import Direction
from scripts.replication.watch import Observation
from scripts.schema import run as schema
from scripts.support.errors import MigrationError
from scripts.support.settings import Settings


def read(settings: Settings, fence_timeout: float = 5.0) -> dict[str, Any]:
    """The state of both directions; never waits longer than ``fence_timeout`` seconds a direction for a fence.

    Returns:
        ``{"status": "ok"|"warn"|"fail", "findings": [{"status", "what", "detail", "remedy"}], "forward": D, "reverse": D,
        "sequences": [...], "schema_match": bool, "drift": [what drifted], "conflicts": {"source": n, "target": n}}``
        where D is ``{"running", "lag_bytes", "lag_seconds", "reason", "apply_errors", "error", "blocked_by", "slot",
        "stalled_seconds", "runway"}``: ``lag_seconds`` is a fence's time, None when it did not come through, ``reason`` says
        why it is not running or late, ``error`` is the row that cannot be applied, ``runway`` is described in
        :func:`scripts.replication.watch.runway`.

    Raises:
        DatabaseError: one of the databases cannot be reached.
    """
    engine = replicate_engine.of(settings)
    directions: dict[Direction, dict[str, Any]] = {}
    for direction in replicate_engine.DIRECTIONS:
        directions[direction] = engine.state(settings, direction)
    with (
        domain_errors("replicate status"),
        connect(settings.source(), step="status", name="SOURCE_DATABASE_URL") as source,
        connect(settings.target(), step="status", name="TARGET_DATABASE_URL") as target,
    ):
        sides: dict[Side, Connection] = {"source": source, "target": target}
        conflicts = {side: _open_conflicts(connection) for side, connection in sides.items()}
        bands = sequences(settings, source, target)
        for direction, state in directions.items():
            state |= {"stalled_seconds": 0.0, "runway": None}
            if state["slot"] is not None:
                state |= _watched(sides[replicate_engine.publisher(direction)], direction, state["slot"], settings)
    measures: dict[Direction, Callable[..., float]] = {"forward": fence.forward, "reverse": fence.reverse}
    for direction, state in directions.items():
        if not state["running"]:
            continue
        try:
            state["lag_seconds"] = measures[direction](settings, fence_timeout)
        except MigrationError as late:
            # A worker that fails again and again is alive for a moment each time: what it fails at is looked for now.
            again = engine.state(settings, direction)
            state |= {name: again[name] for name in again if name not in ("lag_seconds", "slot")}
            state["reason"] = again["reason"] or str(late)
    drift = _drift(settings)
    findings = judge(settings.config, directions, bands, drift)
    grades = {finding["status"] for finding in findings}
    return {
        "status": "fail" if "fail" in grades else "warn" if grades else "ok",
        "findings": findings,
        "forward": directions["forward"],
        "reverse": directions["reverse"],
        "sequences": bands,
        "schema_match": not drift,
        "drift": drift,
        "conflicts": conflicts,
    }


def judge(
    config: MigrationConfig,
    directions: dict[Direction, dict[str, Any]],
    bands: list[dict[str, Any]],
    drift: list[str],
) -> list[dict[str, str]]:
    """What is wrong (fail) or will be (warn), each with the value, the limit and the remedy. Pure."""
    found: list[dict[str, str]] = []

    def say(status: str, what: str, detail: str, remedy: str) -> None:
        found.append({"status": status, "what": what, "detail": detail, "remedy": remedy})

    for name, state in directions.items():
        if not state["running"]:
            say("fail", f"{name}: not running", str(state["reason"]), "as the detail says")
        elif state["reason"]:
            blocked = ", ".join(map(str, state.get("blocked_by") or ()))
            remedy = (
                f"end the sessions that it waits for: SELECT pg_terminate_backend({blocked})"
                if blocked
                else "wait, and look again"
            )
            say("fail" if blocked else "warn", f"{name}: late", str(state["reason"]), remedy)
        if state["stalled_seconds"] >= config.slot_stalled_seconds:
            detail = f"the slot has not advanced for {state['stalled_seconds']:g} s while the log grew; the limit is {config.slot_stalled_seconds:g} s"
            say("fail", f"{name}: slot stalled", detail, "mend what keeps the apply worker; its reason stands above")
        runway = state["runway"]
        if runway and runway["retained_bytes"] >= runway["limit_bytes"]:
            detail = f"the slot holds {runway['retained_bytes']} bytes of log, the limit ({runway['limit']}) is {runway['limit_bytes']}"
            say("fail", f"{name}: log runway", detail, "mend the apply worker, or `task-migration rollback --abandon`")
        elif runway and runway["hours"] is not None and runway["hours"] < config.wal_runway_warn_hours:
            detail = (
                f"{runway['hours']:g} h until the log kept for the slot reaches {runway['limit_bytes']} bytes ({runway['limit']}) should "
                f"it stand still, at {runway['rate_bytes_per_second']:g} bytes/s; {config.wal_runway_warn_hours:g} h are wanted"
            )
            say("warn", f"{name}: log runway", detail, "give the disk more room and raise walAllowanceGb")
    for band in bands:
        if band["status"] != "ok":
            say(
                band["status"],
                f"sequence band: {band['sequence']}",
                f"the source stands at {band['source_last']} ({band['used_percent']:g} % of the way), the target at "
                f"{band['target_last']}; the band begins at {band['band_start']}, {config.sequence_band_warn_percent} % is the limit",
                "before the source reaches the band: `rollback --abandon`, raise sequenceBandStart, copy again",
            )
    if drift:
        say(
            "fail",
            "schema drift",
            "; ".join(drift[:10]) + (f"; and {len(drift) - 10} more" if len(drift) > 10 else ""),
            "`task-migration schema diff` has the SQL that mends each; no step is promoted before",
        )
    return found


def _drift(settings: Settings) -> list[str]:
    """What differs between the two catalogs, a few words each."""
    try:
        return [
            f"{item['table']}: {item['kind']} {item['name']}: source {item['source'] or 'has none'}, target {item['target'] or 'has none'}"
            for item in schema.diff(settings)["differences"]
        ]
    except MigrationError as error:
        return [f"the catalogs cannot be compared: {error}"]


_OBSERVE = """
SELECT extract(epoch FROM clock_timestamp())::float8, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,
       (SELECT nullif(setting::bigint, -1) * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
       (SELECT wal_bytes::float8 / nullif(extract(epoch FROM clock_timestamp() - stats_reset), 0)::float8 FROM pg_stat_wal),
       pg_wal_lsn_diff(%s::pg_lsn, '0/0')::bigint
"""


def _watched(publisher: Connection, direction: Direction, slot: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """How long the slot has stood still and how long the disk bears that; what must be remembered is kept beside it."""
    row = publisher.execute(_OBSERVE, (slot["confirmed_lsn"],)).fetchone()
    if row is None or slot["confirmed_lsn"] is None:
        return {}
    seen = Observation(
        at=row[0],
        wal=row[1],
        confirmed=row[4],
        retained=max(0, int(slot["retained_bytes"] or 0)),
        average_rate=row[3],
        keep_bytes=row[2],
    )
    name = f"watched_{direction}"
    before = replicate_watch.mark_of(catalog_state.get(publisher, name))
    after = replicate_watch.advance(before, seen)
    if catalog_state.installed(publisher) and after != before:
        # A server that takes no write is told of elsewhere; what it shows is shown all the same.
        with suppress(psycopg.Error):
            catalog_state.put(publisher, name, after.document())
    return {
        "stalled_seconds": replicate_watch.stalled_seconds(before, seen),
        "runway": replicate_watch.runway(before, seen, int(settings.config.wal_allowance_gb * 1024**3)),
    }


def _open_conflicts(connection: Connection) -> int:
    if not catalog_state.installed(connection):
        return 0
    row = connection.execute("SELECT count(*) FROM task_migration.conflicts WHERE settled IS NULL").fetchone()
    return int(row[0]) if row else 0


def bands(settings: Settings) -> list[dict[str, Any]]:
    """:func:`sequences` with connections of its own."""
    with (
        domain_errors("looking at the sequence bands"),
        connect(settings.source(), step="status", name="SOURCE_DATABASE_URL") as source,
        connect(settings.target(), step="status", name="TARGET_DATABASE_URL") as target,
    ):
        return sequences(settings, source, target)


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
