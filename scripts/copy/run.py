"""Step 1.1: the initial copy, under the snapshot that the replication slot exported: no hole between copy and replication."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from scripts.copy import build, plan, state, stream
from scripts.copy import slot as slots
from scripts.copy.documents import Copied, Copy, SequenceSet, TableCopied
from scripts.copy.state import Made
from scripts.copy.workers import Assignment, Workers
from scripts.database import catalog, end_mark, engines, helper_schema, strangers
from scripts.database.catalog import Table, parts
from scripts.database.connections import Connection, domain_errors
from scripts.database.error_text import told
from scripts.database.pace import Pace
from scripts.database.sides import open_side, refuse_same
from scripts.schema import choice, role, sequences
from scripts.support.errors import MigrationError, Refused
from scripts.support.events import CopyEvent, Step
from scripts.support.progress import SILENT, Progress
from scripts.support.settings import Settings
from scripts.writes import install as writes
from scripts.writes import record


def run(
    settings: Settings,
    jobs: int = 4,
    dry_run: bool = False,
    progress: Progress = SILENT,
    max_load: str | None = None,
) -> Copy:
    """Copy the configured tables, gapless with the slot that replication starts from.

    Safe to run again after it was killed anywhere: the snapshot died with the run, so what that run left (slot, rows, keys) is
    removed and the copy starts anew, which ``found`` says. A finished copy is left alone and its facts are returned.

    Args:
        jobs: parallel connections to each side, 1 to 64.
        max_load: of the source, as :class:`scripts.database.pace.Pace` takes it, while rows are read.

    Raises:
        Refused: another copy runs, code of others would run, schemas differ, the target holds rows that no copy of ours put there, replication runs.
        DatabaseError: PostgreSQL refused, or the snapshot was lost; the next run starts anew.
        TimedOut: the load stayed past ``max_load``.
    """
    if not 1 <= jobs <= 64:
        raise Refused(f"jobs is {jobs}, the limit is 1 to 64; choose a number within it")
    engines.plugin(settings.config)
    with (
        domain_errors("copy (what it wrote so far does not count: mend the cause, then run it again, it starts anew)"),
        Pace(settings, ("source",), jobs, max_load, progress=progress) as pace,
        open_side(settings, "source", "copy", 2000) as source,
        open_side(settings, "target", "copy", 10_000) as target,
    ):
        refuse_same(source, target)
        return _Copy(settings, source, target, jobs, pace, progress, time.monotonic(), uuid.uuid4().hex).run(dry_run)


@dataclass(frozen=True)
class _Copy:
    """One run, told apart from others by its ``name``."""

    settings: Settings
    source: Connection
    target: Connection
    jobs: int
    pace: Pace
    progress: Progress
    started: float
    name: str

    def run(self, dry_run: bool) -> Copy:
        config = self.settings.config
        state.refuse_ended(self.source, self.target, config)
        if not dry_run:
            helper_schema.install(self.target)
        if helper_schema.installed(self.target):
            state.only_one(self.target, self.name)
            # Before anything is looked at: what they hold locked could not be.
            state.end_leftovers(self.target)
        tables = catalog.read(self.source, config.db_schema, config.tables, "source")
        strangers.refuse(self.source, config, "source")
        strangers.refuse(self.target, config, "target")
        strangers.refuse_any("target", strangers.find_called(self.source, self.target, config))
        earlier = state.find(self.settings, self.source, self.target, tables)
        if earlier.complete is not None:
            return Copy(**dict(earlier.complete), found=earlier.found, status="already-complete")
        state.check(self.settings, self.source, self.target, tables, earlier.made)
        if dry_run:
            estimates = [
                TableCopied(table=t.name, rows=t.rows_estimate, bytes=t.pages * 8192, seconds=0.0)
                for t in tables.values()
            ]
            return Copy(
                slot=config.subscription, lsn=None, snapshot=None, tables=estimates, sequences=[], seconds=0.0,
                found=earlier.found, status="dry-run",
            )  # fmt: skip
        self._record(CopyEvent.STARTED, found=earlier.found, jobs=self.jobs)
        try:
            return Copy(**dict(self._copy(tables, earlier.made)), found=earlier.found, status="complete")
        except Exception as error:
            # The cause must be told, also when the journal is what failed.
            with suppress(MigrationError, OSError):
                self._record(CopyEvent.FAILED, error=told(error))
            raise

    def _record(self, event: str, **facts: Any) -> None:
        self.settings.journal.record(Step.COPY, event, **facts)

    def _copy(self, tables: dict[str, Table], left: Made) -> Copied:
        """From nothing to complete; ``left`` is what an unfinished run added to the target's tables."""
        config = self.settings.config
        self._empty(tables, left)
        theirs = catalog.read(self.target, config.db_schema, list(tables), "target")
        after = build.read(
            self.source, choice.chosen(tables, config, "source"), choice.chosen(theirs, config, "target")
        )
        self._mark(after.made)
        slots.drop_leftover(self.source, config.subscription)
        self._publish()
        slot, totals = self._move(tables, theirs, after)
        sequences = self._sequences(theirs)
        facts = Copied(
            slot=slot.name,
            lsn=slot.lsn,
            snapshot=slot.snapshot,
            tables=totals,
            sequences=sequences,
            seconds=round(time.monotonic() - self.started, 3),
        )
        self._complete(slot, after.made, facts)
        self._record(CopyEvent.COMPLETE, **facts.plain())
        return facts

    def _empty(self, tables: Mapping[str, Table], left: Made) -> None:
        """Empty tables without what an unfinished run added, and a mark before anything is made that it is ours."""
        # Before the mark: until it says otherwise, what a leftover session commits belongs to its own run.
        self._mark(left)
        state.end_leftovers(self.target)
        with self.target.transaction():
            every = sql.SQL(", ").join(table.identifier for table in tables.values())
            self.target.execute("SET LOCAL session_replication_role = replica")
            self.target.execute(sql.SQL("TRUNCATE {}").format(every))
            build.take_away(self.target, self.settings.config.db_schema, left)
        role.withhold_writes(self.target, self.settings.config)

    def _mark(self, made: Made) -> None:
        slot = self.settings.config.subscription
        helper_schema.put(
            self.target, helper_schema.COPY, {"status": "running", "slot": slot, "run": self.name, "made": made}
        )

    def _publish(self) -> None:
        """Every write is recorded from now on, and published: before the slot is made, whose changes begin with its snapshot.

        A trigger waits for the writers before it, so a write that leaves no record has ended by then and is in the snapshot.
        """
        config, source = self.settings.config, self.source
        with open_side(self.settings, "source", "copy", writes.LOCK_MS) as live:
            writes.capture_on(live, config, "source")
            # Of a migration before this one.
            end_mark.put(live, config, None)
        if config.replication_engine == "dms":
            # test_decoding knows no publication; the tasks' table mappings select.
            return
        with source.transaction():
            # As pgoutput looks at the catalog of the slot's time.
            source.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(config.publication)))
            source.execute(slots.publication(config.publication, record.table("source")))

    def _forget_what_is_copied(self, snapshot: str) -> None:
        """Writes that the snapshot shows are in the copy; the slot does not send them."""
        with open_side(self.settings, "source", "copy", autocommit=False) as connection:
            stream.enter_snapshot(connection, snapshot, writes=True)
            connection.execute(sql.SQL("DELETE FROM {}").format(record.table("source")))
            connection.commit()

    def _move(
        self, tables: dict[str, Table], theirs: Mapping[str, Table], after: build.After
    ) -> tuple[slots.Slot, list[TableCopied]]:
        """Rows under a new slot's snapshot, then keys, indexes, foreign keys and statistics, by the workers."""
        config = self.settings.config
        # What a key refers to cannot be emptied alone (PostgreSQL, 'TRUNCATE').
        freezable = frozenset(name for name, table in theirs.items() if not table.children)
        with ExitStack() as view:
            plugin = engines.plugin(config)
            slot = view.enter_context(slots.create(self.settings.source(), config.subscription, plugin))
            self._record(CopyEvent.SLOT, slot=slot.name, lsn=slot.lsn, snapshot=slot.snapshot)
            self._forget_what_is_copied(slot.snapshot)
            sizes = self._guard(view, tables, slot.snapshot)
            steps = plan.steps(
                plan.cut(sizes, self.jobs),
                {table: {n: index.bytes for n, index in some.items()} for table, some in after.indexes.items()},
                after.keys,
                {table: {link.references for link in links} for table, links in after.links.items()},
            )
            by_text = frozenset(part.table.name for part in parts.read(self.source, tables.values()) if part.by_text)
            assignment = Assignment(
                self.settings, tables, after, freezable, by_text, slot.snapshot, self.name, self.jobs, self.pace
            )
            with Workers(assignment, plan.Queue(steps), self._record) as workers:
                workers.wait_for_rows(self.progress, {name: size.bytes for name, size in sizes.items()})
                # The live source need not keep old row versions for us any longer.
                view.close()
                workers.wait_for_all(self.progress)
        return slot, workers.totals()

    def _guard(self, view: ExitStack, tables: dict[str, Table], snapshot: str) -> dict[str, plan.Size]:
        """Hold the tables against rewrites (VACUUM FULL, ALTER) that would move rows between the page ranges."""
        guard = view.enter_context(open_side(self.settings, "source", "copy", autocommit=False))
        stream.enter_snapshot(guard, snapshot)
        for table in tables.values():
            guard.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table.identifier))
        return stream.sizes(guard, tables)

    def _sequences(self, theirs: Mapping[str, Table]) -> list[SequenceSet]:
        """The target's sequences start in their band: above every id that the source will hand out."""
        done = []
        for one in sequences.taken(theirs.values()):
            sequence, start = one.sequence, self.settings.config.sequence_band_start
            # After an abandoned attempt the source holds ids of the band too.
            top, last = self.target.execute(
                sql.SQL("SELECT ({})::bigint, CASE WHEN is_called THEN last_value ELSE 0 END FROM {}").format(
                    sql.SQL(one.top), sequence.identifier
                )
            ).fetchone() or (0, 0)  # fmt: skip
            start = max(start, sequence.minimum, top + 1, 0 if one.numbers else last + 1)
            self.target.execute(
                "SELECT setval(%s::regclass, %s, false)", (sequence.identifier.as_string(self.target), start)
            )
            done.append(SequenceSet(sequence=sequence.name, value=start))
        return done

    def _complete(self, slot: slots.Slot, made: Made, facts: Copied) -> None:
        """Write down that all is there, unless the slot is no longer the one whose snapshot was copied."""
        seen = slots.describe(self.source, slot.name)
        if seen is None or seen.wal_status == "lost" or seen.confirmed_lsn != slot.lsn:
            raise MigrationError(
                f"slot {slot.name} is no longer where it was when its snapshot was copied ({slot.lsn}; now: {seen or 'none'}): changes since "
                "then would be missing; run `task-migration copy` again, it starts anew"
            )
        with self.target.transaction():
            # Flushed whatever the role's default is, and WAL is flushed in order: with this record all before it is on disk.
            self.target.execute("SET LOCAL synchronous_commit = on")
            mark = {"status": "complete", "at": datetime.now(UTC).isoformat(), "made": made, "run": self.name}
            helper_schema.put(self.target, helper_schema.COPY, {**mark, **facts.plain()})
