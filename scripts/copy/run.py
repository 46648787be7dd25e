"""Step 1.1: the initial copy, under the snapshot that the replication slot exported: no hole between copy and replication."""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from scripts.copy import build as copy_build
from scripts.copy import plan as copy_plan
from scripts.copy import slot as copy_slot
from scripts.copy import state as copy_state
from scripts.copy import stream as copy_stream
from scripts.copy.crew import Crew, Work
from scripts.copy.progress import Meter, Progress
from scripts.copy.state import STATE
from scripts.database import catalog
from scripts.database import helper_schema as catalog_state
from scripts.database.connections import Connection, connect, domain_errors
from scripts.database.engines import PLUGINS
from scripts.support.errors import MigrationError, Refused
from scripts.support.events import CopyEvent, Step
from scripts.support.settings import Settings


def run(settings: Settings, jobs: int = 4, dry_run: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Copy the configured tables, gapless with the slot that replication starts from.

    Safe to run again after it was killed anywhere: the snapshot died with the run, so what that run left (slot, rows, keys) is
    removed and the copy starts anew, which ``found`` says. A finished copy is left alone and its facts are returned.

    Args:
        jobs: parallel connections to each side, 1 to 64.
        progress: is told how far it is.

    Returns:
        ``{"slot", "lsn", "snapshot", "found", "status", "tables": [{"table", "rows", "bytes", "seconds"}], "sequences":
        [{"sequence", "value"}], "seconds"}``; ``status`` is complete, already-complete or dry-run.

    Raises:
        Refused: another copy runs, schemas differ, the target holds rows that no copy of ours put there, replication runs.
        DatabaseError: PostgreSQL refused, or the snapshot was lost; the next run starts anew.
    """
    if not 1 <= jobs <= 64:
        raise Refused(f"jobs is {jobs}, the limit is 1 to 64; choose a number within it")
    with (
        domain_errors("copy (what it wrote so far does not count: mend the cause, then run it again, it starts anew)"),
        connect(settings.source(), step="copy", name="SOURCE_DATABASE_URL", lock_timeout_ms=2000) as source,
        connect(settings.target(), step="copy", name="TARGET_DATABASE_URL", lock_timeout_ms=10_000) as target,
    ):
        copy = _Copy(settings, source, target, jobs, progress or Meter(), time.monotonic())
        try:
            return copy.run(dry_run)
        finally:
            copy.progress.end()


@dataclass
class _Copy:
    """One run."""

    settings: Settings
    source: Connection
    target: Connection
    jobs: int
    progress: Progress
    started: float

    def run(self, dry_run: bool) -> dict[str, Any]:
        config = self.settings.config
        copy_state.only_one(self.target)
        # Before anything is looked at: what they hold locked could not be.
        copy_state.end_leftovers(self.target)
        tables = catalog.read(self.source, config.db_schema, config.tables, "source")
        found, done, left = copy_state.find(self.settings, self.source, self.target, tables)
        if done is not None:
            return {**done, "found": found, "status": "already-complete"}
        copy_state.check(self.settings, self.source, self.target, tables, left)
        if dry_run:
            names = [
                {"table": t.name, "rows": t.rows_estimate, "bytes": t.pages * 8192, "seconds": 0}
                for t in tables.values()
            ]
            return {"slot": config.subscription, "lsn": None, "snapshot": None, "found": found, "status": "dry-run",
                    "tables": names, "sequences": [], "seconds": 0.0}  # fmt: skip
        self.settings.journal.record(Step.COPY, CopyEvent.STARTED, found=found, jobs=self.jobs)
        try:
            return {**self._all(tables, left), "found": found, "status": "complete"}
        except Exception as error:
            # The cause must be told, also when the journal is what failed.
            with suppress(MigrationError, OSError):
                self.settings.journal.record(Step.COPY, CopyEvent.FAILED, error=str(error))
            raise

    def _all(self, tables: dict[str, catalog.Table], left: list[list[str]]) -> dict[str, Any]:
        config, journal = self.settings.config, self.settings.journal
        name = uuid.uuid4().hex
        theirs, after = self._empty(tables, left, name)
        copy_slot.drop_leftover(self.source, config.subscription)
        catalog_state.with_lock_retries(lambda: self._publish(tables), "publishing the source's tables")
        row = self.source.execute("SELECT clock_timestamp()").fetchone()
        known_at = row[0] if row else None
        freezable = frozenset(tables) - copy_build.referenced(self.target, theirs)
        with ExitStack() as view:
            plugin = PLUGINS[config.replication_engine]
            slot = view.enter_context(copy_slot.create(self.settings.source(), config.subscription, plugin))
            journal.record(Step.COPY, CopyEvent.SLOT, slot=slot.name, lsn=slot.lsn, snapshot=slot.snapshot)
            sizes = self._guard(view, tables, slot.snapshot)
            steps = copy_plan.steps(
                copy_plan.cut(sizes, self.jobs),
                {table: {n: index.bytes for n, index in some.items()} for table, some in after.indexes.items()},
                after.keys,
                {table: {link.references for link in links} for table, links in after.links.items()},
            )
            work = Work(self.settings, tables, after, freezable, slot.snapshot, name, self.jobs)
            self.progress.begin({table: size.bytes for table, size in sizes.items()}, steps)
            with Crew(work, copy_plan.Queue(steps), self.progress) as crew:

                def note(event: str, facts: dict[str, Any]) -> None:
                    journal.record(Step.COPY, event, **facts)

                crew.wait(lambda queue: not queue.open("rows"), note)
                # The live source need not keep old row versions for us any longer.
                view.close()
                crew.wait(lambda queue: queue.finished, note)
        sequences = self._sequences(theirs)
        self._remember_what_is_known(known_at)
        facts = {
            "slot": slot.name,
            "lsn": slot.lsn,
            "snapshot": slot.snapshot,
            "tables": list(crew.totals.values()),
            "sequences": sequences,
            "seconds": round(time.monotonic() - self.started, 3),
        }
        self._complete(slot, {"made": after.made, "run": name, **facts})
        journal.record(Step.COPY, CopyEvent.COMPLETE, **facts)
        return facts

    def _empty(
        self, tables: dict[str, catalog.Table], left: list[list[str]], name: str
    ) -> tuple[dict[str, catalog.Table], copy_build.After]:
        """Empty tables without what an unfinished run added, and a mark before anything is made that it is ours."""
        config, target = self.settings.config, self.target
        catalog_state.install(target)
        # Before the mark: until it says otherwise, what a leftover session commits belongs to its own run.
        mark = {"status": "running", "slot": config.subscription, "run": name, "made": left}
        catalog_state.put(target, STATE, mark)
        copy_state.end_leftovers(target)
        with target.transaction():
            every = sql.SQL(", ").join(table.identifier for table in tables.values())
            target.execute(sql.SQL("TRUNCATE {}").format(every))
            copy_build.take_away(target, config.db_schema, left)
        theirs = catalog.read(target, config.db_schema, list(tables), "target")
        after = copy_build.read(self.source, tables, theirs)
        catalog_state.put(target, STATE, {**mark, "made": after.made})
        return theirs, after

    def _publish(self, tables: dict[str, catalog.Table]) -> None:
        """Heartbeat and publication; both must be there before the slot, as pgoutput looks at the catalog of the slot's time."""
        config, source = self.settings.config, self.source
        catalog_state.install(source)
        if config.replication_engine == "dms":
            # test_decoding knows no publication; the tasks' table mappings select.
            return
        members = [table.identifier for table in tables.values()] + [sql.Identifier("task_migration", "heartbeat")]
        with source.transaction():
            source.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(config.publication)))
            source.execute(copy_slot.publication(config.publication, members))

    def _guard(self, view: ExitStack, tables: dict[str, catalog.Table], snapshot: str) -> dict[str, copy_plan.Size]:
        """Hold the tables against rewrites (VACUUM FULL, ALTER) that would move rows between the page ranges."""
        guard = view.enter_context(
            connect(self.settings.source(), step="copy", name="SOURCE_DATABASE_URL", autocommit=False)
        )
        copy_stream.enter_snapshot(guard, snapshot)
        for table in tables.values():
            guard.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table.identifier))
        return copy_stream.sizes(guard, tables)

    def _sequences(self, theirs: dict[str, catalog.Table]) -> list[dict[str, Any]]:
        """The target's sequences start in their band: above every id that the source will hand out."""
        done = []
        for table in theirs.values():
            for sequence in table.sequences:
                # After an abandoned attempt the source holds ids of the band too.
                top = self.target.execute(
                    sql.SQL("SELECT coalesce(max({}), 0) FROM {}").format(
                        sql.Identifier(sequence.column), table.identifier
                    )
                ).fetchone()
                start = max(self.settings.config.sequence_band_start, sequence.minimum, int(top[0]) + 1 if top else 0)
                self.target.execute(
                    "SELECT setval(%s::regclass, %s, false)", (sequence.identifier.as_string(self.target), start)
                )
                done.append({"sequence": sequence.name, "value": start})
        return done

    def _remember_what_is_known(self, slot_time: Any) -> None:
        """Rows from before the slot are known to both sides: no later change of them can be a conflict with them."""
        row = self.target.execute("SELECT clock_timestamp()").fetchone()
        copied_at = row[0] if row else None
        # Exact, as nobody else writes to the target yet; a beat needs its margin.
        catalog_state.put(self.target, "copied_at", copied_at.isoformat() if copied_at else None)
        for connection in (self.source, self.target):
            for side, at in (("target", slot_time), ("source", copied_at)):
                connection.execute("UPDATE task_migration.heartbeat SET peer_beat_at = %s WHERE side = %s", (at, side))

    def _complete(self, slot: copy_slot.Slot, facts: dict[str, Any]) -> None:
        """Write down that all is there, unless the slot is no longer the one whose snapshot was copied."""
        seen = copy_slot.describe(self.source, slot.name)
        if seen is None or seen["wal_status"] == "lost" or seen["confirmed_lsn"] != slot.lsn:
            raise MigrationError(
                f"slot {slot.name} is no longer where it was when its snapshot was copied ({slot.lsn}; now: {seen}): changes since "
                "then would be missing; run `task-migration copy` again, it starts anew"
            )
        with self.target.transaction():
            # Flushed whatever the role's default is, and WAL is flushed in order: with this record all before it is on disk.
            self.target.execute("SET LOCAL synchronous_commit = on")
            state = {"status": "complete", "at": datetime.now(UTC).isoformat(), **facts}
            catalog_state.put(self.target, STATE, state)
