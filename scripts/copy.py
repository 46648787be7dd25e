"""Step 1.1: the initial copy, under the snapshot that the replication slot exported: no hole between copy and replication."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from scripts import catalog, catalog_state, copy_slot, copy_stream, dms, schema, schema_statements
from scripts.support.errors import Refused, TimedOut
from scripts.support.postgres import Connection, connect, domain_errors
from scripts.support.settings import Settings
from scripts.support.wait import wait_until

#: Called with ``(table, rows, bytes)`` as each part of a table is through; from several threads, one at a time.
Progress = Callable[[str, int, int], None]
STATE = "copy"
#: How long a copy that was just killed may hold its lock.
LOCK_SECONDS = 10.0


def run(settings: Settings, jobs: int = 4, dry_run: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Copy the configured tables, gapless with the slot that replication starts from.

    Safe to run again after it was killed anywhere: the snapshot died with the run, so what that run left (slot, rows) is
    removed and the copy starts anew, which ``found`` says. A finished copy is left alone and its facts are returned.

    Args:
        jobs: parallel connections, 1 to 64.

    Returns:
        ``{"slot", "lsn", "snapshot", "found", "status", "tables": [{"table", "rows", "bytes", "seconds"}], "sequences":
        [{"sequence", "value"}], "seconds"}``; ``status`` is complete, already-complete or dry-run.

    Raises:
        Refused: another copy runs, schemas differ, the target holds rows that no copy of ours put there, replication runs.
        DatabaseError: PostgreSQL refused; the next run starts anew.
    """
    if not 1 <= jobs <= 64:
        raise Refused(f"jobs is {jobs}, the limit is 1 to 64; choose a number within it")
    config = settings.config
    started = time.monotonic()
    with (
        domain_errors("copy"),
        connect(settings.source(), step="copy", name="SOURCE_DATABASE_URL", lock_timeout_ms=2000) as source,
        connect(settings.target(), step="copy", name="TARGET_DATABASE_URL", lock_timeout_ms=10_000) as target,
    ):
        _only_one(target)
        tables = catalog.read(source, config.db_schema, config.tables, "source")
        found, done = _find(settings, source, target, tables)
        if done is not None:
            return {**done, "found": found, "status": "already-complete"}
        _check(settings, source, tables)
        if dry_run:
            names = [
                {"table": t.name, "rows": t.rows_estimate, "bytes": t.pages * 8192, "seconds": 0}
                for t in tables.values()
            ]
            return {"slot": config.subscription, "lsn": None, "snapshot": None, "found": found, "status": "dry-run",
                    "tables": names, "sequences": [], "seconds": 0.0}  # fmt: skip
        settings.journal.record(STATE, "started", found=found, jobs=jobs)
        # Marked before anything is made, so that whatever a kill leaves is known to be ours.
        catalog_state.install(target)
        catalog_state.put(target, STATE, {"status": "running", "slot": config.subscription})
        copy_slot.drop_leftover(source, config.subscription)
        catalog_state.with_lock_retries(
            lambda: _prepare_source(settings, source, tables), "publishing the source's tables"
        )
        with target.transaction():
            every = sql.SQL(", ").join(table.identifier for table in tables.values())
            target.execute(sql.SQL("TRUNCATE {}").format(every))
        known_at = source.execute("SELECT clock_timestamp()").fetchone()
        plugin = dms.PLUGIN if config.replication_engine == "dms" else "pgoutput"
        with copy_slot.create(settings.source(), config.subscription, plugin) as slot:
            figures = _rows(settings, tables, slot.snapshot, jobs, progress)
        sequences = _sequences(settings, target, tables)
        _after_rows(settings, tables, target, jobs)
        _analyze(settings, tables, jobs)
        _remember_what_is_known(source, target, known_at[0] if known_at else None)
        facts = {
            "slot": slot.name,
            "lsn": slot.lsn,
            "snapshot": slot.snapshot,
            "tables": figures,
            "sequences": sequences,
            "seconds": round(time.monotonic() - started, 3),
        }
        catalog_state.put(target, STATE, {"status": "complete", "at": datetime.now(UTC).isoformat(), **facts})
        settings.journal.record(STATE, "complete", **facts)
        return {**facts, "found": found, "status": "complete"}


def _only_one(target: Connection) -> None:
    # A copy that was killed holds its lock until its server process notices, which ends with the statement it runs.
    try:
        wait_until(
            lambda: target.execute(
                "SELECT pg_try_advisory_lock(hashtext('task_migration'), hashtext('copy'))"
            ).fetchone(),
            lambda row: row == (True,),
            what="the lock of `copy`",
            timeout=LOCK_SECONDS,
        )
    except TimedOut:
        raise Refused(
            f"another `task-migration copy` is at work on this target (for {LOCK_SECONDS:g} s at least); wait for it, or end that "
            "process"
        ) from None


def _find(
    settings: Settings, source: Connection, target: Connection, tables: dict[str, catalog.Table]
) -> tuple[str, dict[str, Any] | None]:
    """What an earlier run left, in words, and its facts when it is complete and still good."""
    config = settings.config
    state = catalog_state.get(target, STATE)
    slot = copy_slot.describe(source, config.subscription)
    subscribed = target.execute(
        "SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
        "WHERE d.datname = current_database() AND subname = %s",
        (config.subscription,),
    ).fetchone() or dms.started(target)
    complete = state is not None and state.get("status") == "complete"
    if complete and slot is not None and slot["wal_status"] != "lost":
        facts = {key: value for key, value in state.items() if key not in ("status", "at")}
        running = (
            "replication runs from its slot" if subscribed else "its slot waits for `task-migration replicate start`"
        )
        return f"a copy complete since {state['at']}; {running}; nothing was changed", facts
    if subscribed:
        raise Refused(
            f"replication from {config.subscription} was started but no good copy with its slot is there (slot: {slot}); "
            "the target may hold writes of its own: run `task-migration rollback --abandon` first, then copy again"
        )
    there = catalog.existing(target, config.db_schema, config.tables)
    filled = [
        name
        for name in there
        if target.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(sql.Identifier(config.db_schema, name))).fetchone()
    ]
    if filled and state is None:
        raise Refused(
            f"the target's {', '.join(filled)} hold rows that no copy of this program put there; the limit is empty tables: "
            f"look at them, then TRUNCATE {', '.join(tables)} on the target yourself"
        )
    if complete:
        return f"a complete copy whose slot is gone (slot: {slot}): its snapshot is lost, so the copy starts anew", None
    if state is not None:
        left = f"slot {'left over' if slot else 'not there'}, rows in {', '.join(filled) or 'no table'}"
        return f"an unfinished copy ({left}): its snapshot is lost with it, so the copy starts anew", None
    return "nothing of an earlier copy" + (f"; a leftover slot {config.subscription} is dropped" if slot else ""), None


def _check(settings: Settings, source: Connection, tables: dict[str, catalog.Table]) -> None:
    config = settings.config
    found = schema.diff(settings)
    keyless = [table.name for table in tables.values() if not table.key]
    if keyless:
        raise Refused(f"{', '.join(keyless)}: no primary key, so updates cannot be replicated; add one on the source")
    if not found["match"] and not _only_after_rows(found):
        raise Refused(f"the two schemas differ, no row was moved; mend them, then copy again:\n{found['text']}")
    for table in tables.values():
        for sequence in table.sequences:
            row = source.execute(sql.SQL("SELECT last_value FROM {}").format(sequence.identifier)).fetchone()
            last = int(row[0]) if row else 0
            if last >= config.sequence_band_start:
                raise Refused(
                    f"sequence {sequence.name} stands at {last} on the source, the limit is below sequenceBandStart "
                    f"({config.sequence_band_start}); raise sequenceBandStart"
                )
            if sequence.maximum <= config.sequence_band_start:
                raise Refused(
                    f"sequence {sequence.name} ends at {sequence.maximum}, the limit is above sequenceBandStart "
                    f"({config.sequence_band_start}); lower sequenceBandStart or widen the column"
                )


def _only_after_rows(found: dict[str, Any]) -> bool:
    # After a lost slot the state still says complete, so keys dropped since are differences that this copy mends itself.
    return all(d["kind"] in ("constraint", "index") and d["target"] is None for d in found["differences"])


def _prepare_source(settings: Settings, source: Connection, tables: dict[str, catalog.Table]) -> None:
    """Heartbeat and publication; both must be there before the slot, as pgoutput looks at the catalog of the slot's time."""
    config = settings.config
    catalog_state.install(source)
    if config.replication_engine == "dms":
        # test_decoding knows no publication; the tasks' table mappings select.
        return
    members = [table.identifier for table in tables.values()] + [sql.Identifier("task_migration", "heartbeat")]
    with source.transaction():
        source.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(config.publication)))
        source.execute(copy_slot.publication(config.publication, members))


def _rows(
    settings: Settings, tables: dict[str, catalog.Table], snapshot: str, jobs: int, progress: Progress | None
) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        # Holds the tables against rewrites (VACUUM FULL, ALTER) that would move rows between the page ranges.
        guard = stack.enter_context(
            connect(settings.source(), step="copy", name="SOURCE_DATABASE_URL", autocommit=False)
        )
        copy_stream.enter_snapshot(guard, snapshot)
        for table in tables.values():
            guard.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table.identifier))
        parts = copy_stream.cut(guard, list(tables.values()), jobs)
        totals: dict[str, dict[str, Any]] = {
            name: {"table": name, "rows": 0, "bytes": 0, "seconds": 0.0} for name in tables
        }
        pool = stack.enter_context(ThreadPoolExecutor(jobs, thread_name_prefix="copy"))
        workers = copy_stream.Workers(settings.source(), settings.target(), snapshot)
        stack.callback(workers.close)
        waiting = {pool.submit(workers.move, part): part for part in parts}
        try:
            for future in as_completed(waiting):
                moved = future.result()
                total = totals[waiting[future].table.name]
                total["rows"] += moved.rows
                total["bytes"] += moved.bytes
                total["seconds"] = round(total["seconds"] + moved.seconds, 4)
                if progress is not None:
                    progress(total["table"], total["rows"], total["bytes"])
        except BaseException:
            for future in waiting:
                future.cancel()
            workers.cancel()
            raise
    return list(totals.values())


def _sequences(settings: Settings, target: Connection, tables: dict[str, catalog.Table]) -> list[dict[str, Any]]:
    """The target's sequences start in their band: above every id that the source will hand out."""
    theirs = catalog.read(target, settings.config.db_schema, list(tables), "target")
    done = []
    for table in theirs.values():
        for sequence in table.sequences:
            # After an abandoned attempt the source holds ids of the band too.
            top = target.execute(
                sql.SQL("SELECT coalesce(max({}), 0) FROM {}").format(sql.Identifier(sequence.column), table.identifier)
            ).fetchone()
            start = max(settings.config.sequence_band_start, sequence.minimum, int(top[0]) + 1 if top else 0)
            target.execute("SELECT setval(%s::regclass, %s, false)", (sequence.identifier.as_string(target), start))
            done.append({"sequence": sequence.name, "value": start})
    return done


def _after_rows(settings: Settings, tables: dict[str, catalog.Table], target: Connection, jobs: int) -> None:
    """Keys, then indexes, then foreign keys, each kind in parallel."""
    theirs = catalog.read(target, settings.config.db_schema, list(tables), "target")
    todo = [
        item for name, table in tables.items() for item in schema_statements.after_rows(table, theirs[name], tables)
    ]

    def build(statement: sql.Composed | sql.SQL) -> None:
        with connect(settings.target(), step="copy keys", name="TARGET_DATABASE_URL") as connection:
            connection.execute(statement)

    for stage in (0, 1, 2):
        with ThreadPoolExecutor(jobs if stage < 2 else 1, thread_name_prefix="keys") as pool:
            list(pool.map(build, [statement for at, _, statement in todo if at == stage]))


def _analyze(settings: Settings, tables: dict[str, catalog.Table], jobs: int) -> None:
    def one(table: catalog.Table) -> None:
        with connect(settings.target(), step="copy analyze", name="TARGET_DATABASE_URL") as connection:
            connection.execute(sql.SQL("ANALYZE {}").format(table.identifier))

    with ThreadPoolExecutor(jobs, thread_name_prefix="analyze") as pool:
        list(pool.map(one, tables.values()))


def _remember_what_is_known(source: Connection, target: Connection, slot_time: Any) -> None:
    """Rows from before the slot are known to both sides: no later change of them can be a conflict with them."""
    row = target.execute("SELECT clock_timestamp()").fetchone()
    copied_at = row[0] if row else None
    # Exact, as nobody else writes to the target yet; a beat needs its margin.
    catalog_state.put(target, "copied_at", copied_at.isoformat() if copied_at else None)
    for connection in (source, target):
        for side, at in (("target", slot_time), ("source", copied_at)):
            connection.execute("UPDATE task_migration.heartbeat SET peer_beat_at = %s WHERE side = %s", (at, side))
