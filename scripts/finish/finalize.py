"""Step 4: the source's tables become read-only, replication ends, nothing of ours is left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from psycopg import sql

from scripts.database import catalog, end_mark, helper_schema, locks, strangers
from scripts.database.connections import Connection
from scripts.database.sides import session
from scripts.finish import removal, rights
from scripts.finish.documents import Finalization, Privileges, TableRows
from scripts.replication import fence, writers, writes
from scripts.replication.engine import engine_of
from scripts.schema import ownership
from scripts.support import safety
from scripts.support.errors import DataDiffer, MigrationError, Refused
from scripts.support.events import FinalizeEvent, Step
from scripts.support.progress import SILENT, Progress
from scripts.support.safety import State, Transition
from scripts.support.settings import Settings
from scripts.verify import rollback_proof
from scripts.verify import run as verify
from scripts.verify.documents import WritesProof
from scripts.writes.install import LOCK_MS

#: Seconds that replication may take to stop.
STOP_SECONDS = 30.0


def run(
    settings: Settings,
    dry_run: bool = False,
    timeout: float = 60.0,
    progress: Progress = SILENT,
    look: Callable[[], State] = State,
) -> Finalization:
    """Verify, revoke writes on the source, bring the last ones over, verify, stop, confirm, remove replication.

    The plan stops replication first and revokes then; a write of the monolith in between would be in no database but the
    old one, so the order is turned round: after the revoke nothing of the monolith can come any more, a fence brings over
    what had, and only then replication stops. That nothing came later, from whomever, is confirmed by the record of writes before
    it is dropped. Past the revoke a failure never gives the rights back: run it again, it goes on from where
    it was.

    Args:
        timeout: seconds that the monolith's last writes, and each fence, may take.
        look: at the weights and what the source has kept, under the operator's lock; called before the revoke and before the removal.

    Raises:
        Refused: replication does not run both ways, code of others would run, somebody still writes on the source at 100 %,
            the role cannot be made read-only, or another role wrote at the end.
        DataDiffer: the sides differ; nothing was removed.
        TimedOut: a fence did not come through, or a writer did not end.
    """
    config = settings.config
    with session(settings, "source", "finalize", "finalize", lock_timeout_ms=LOCK_MS) as source:
        tables = catalog.read(source, config.db_schema, config.tables, "source")
        finalizer = _Finalizer(
            settings=settings,
            tables=tables,
            warnings=rights.check_role(source, config, tables),
            statements=_statements(tables, config.source_role),
            privileges=rights.privileges(source, config.source_role, tables),
            timeout=timeout,
            progress=progress,
            look=look,
            ended=end_mark.found(source, config) is not None,
        )
        safety.require(Transition.REVOKE, look())
        if finalizer.read_only and _verified(settings):
            return finalizer.end(dry_run)
        if not fence.available(settings):
            return finalizer.without_replication(dry_run)
        strangers.refuse_both(settings, "finalize")
        writers.refuse(settings)
        rights.try_revoke(source, config.source_role, tables, finalizer.statements)
        finalizer.compare("before the revoke; nothing was changed")
        if dry_run:
            return finalizer.document("dry-run", removed=removal.leftovers(settings))
        finalizer.revoke(source)
    finalizer.bring_over()
    return finalizer.end()


@dataclass
class _Finalizer:
    """One finalization: what is to be revoked, and each step of the end."""

    settings: Settings
    tables: dict[str, catalog.Table]
    warnings: list[str]
    statements: list[sql.Composed]
    privileges: list[Privileges]
    timeout: float
    progress: Progress
    look: Callable[[], State]
    #: Whether the source's tables say that an earlier run came to its end.
    ended: bool

    @property
    def read_only(self) -> bool:
        """Whether the monolith's role can write to none of the tables any more."""
        return not any(entry.writes for entry in self.privileges)

    def document(
        self,
        status: Literal["finalized", "already-finalized", "dry-run"],
        removed: Sequence[str] = (),
        rows: Sequence[TableRows] = (),
        proof: WritesProof | None = None,
        handed_over: Sequence[str] = (),
    ) -> Finalization:
        """What is answered at the end."""
        return Finalization(
            status=status,
            statements=[statement.as_string(None) for statement in self.statements],
            privileges=self.privileges,
            rows=list(rows),
            proof=proof,
            removed=list(removed),
            leftovers=[],
            handed_over=list(handed_over),
            warnings=self.warnings,
        )

    def without_replication(self, dry_run: bool) -> Finalization:
        """It was finalized before, all but the handing over perhaps; anything else is refused."""
        left = removal.leftovers(self.settings)
        if self.read_only and (self.ended or not left):
            if left and not dry_run:
                # Of a command that was run after the end, such as `schema apply`.
                removal.remove(self.settings)
                removal.prove(self.settings)
            return self.document("already-finalized", left, handed_over=[] if dry_run else self.hand_over())
        raise Refused(
            "replication does not run both ways, so nothing proves that the target has every write; "
            "run `task-migration replicate start`, then finalize again"
        )

    def compare(self, when: str) -> list[TableRows]:
        """The rows of each table. Raises DataDiffer when the sides are not equal."""
        found = verify.run(self.settings, progress=self.progress)
        if not found.match:
            differing = {t.table: t.differences_total + t.unsettled for t in found.tables if not t.match}
            schema = sorted(f"{item.table}.{item.name}" for item in found.schema_differences)
            raise DataDiffer(
                f"the sides differ {when}: rows by table {differing or 'none'}, orphans {len(found.orphans)}, schema "
                f"{schema or 'the same'}, our triggers and functions {found.recording or 'as they were made'}; look at "
                "`task-migration verify`, repair with `verify --repair newest`, then finalize again"
            )
        return [TableRows(table=entry.table, rows=entry.source_rows) for entry in found.tables]

    def revoke(self, source: Connection) -> None:
        """Take the role's rights to write, and wait until its last statement has ended."""
        role = self.settings.config.source_role
        self.settings.journal.record(Step.FINALIZE, FinalizeEvent.REVOKING, role=role)
        with source.transaction():
            # Whoever takes the operator's lock over waits for this, and gives back what he then sees taken.
            locks.hold(source, locks.CANARY)
            safety.require(Transition.REVOKE, replace(self.look(), carried=fence.available(self.settings)))
            rights.keep(source, role, self.tables)
            for statement in self.statements:
                source.execute(statement)
        self.privileges = rights.privileges(source, role, self.tables)
        what = "the monolith's last writes"
        with self.progress.work(f"wait for {what}", self.timeout, "s"):
            # A statement that had begun before the revoke goes on; a lock that waits for writers shows when the last has ended.
            helper_schema.with_lock_retries(lambda: self._wait_for_writers(source), what, self.timeout)

    def _wait_for_writers(self, source: Connection) -> None:
        with source.transaction():
            names = sql.SQL(", ").join(table.identifier for table in self.tables.values())
            source.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(names))

    def bring_over(self) -> None:
        """Fence both ways, compare for the last time, prove each write of the source, and keep that both sides were equal."""
        with self.progress.work("bring the last writes over", self.timeout, "s"):
            fence.both(self.settings, self.timeout)
        when = "after the revoke; writes stay revoked and replication goes on"
        rows = [entry.plain() for entry in self.compare(when)]
        proof = rollback_proof.prove(self.settings, "source", self.timeout)
        if not proof.proven:
            raise DataDiffer(
                f"it is not proven that the target has every write of the source, {when}: {proof.problem()}; look at "
                "`task-migration replicate status`, mend what it says, then finalize again"
            )
        _mark(self.settings, {"status": "verified", "rows": rows, "proof": proof.plain()})
        self.settings.journal.record(Step.FINALIZE, FinalizeEvent.VERIFIED, rows=rows, proof=proof.plain())

    def end(self, dry_run: bool = False) -> Finalization:
        """Stop, confirm, remove, prove; begun anew after a kill anywhere in it."""
        mark = _verified(self.settings) or {}
        rows = [TableRows.model_validate(entry) for entry in mark.get("rows", [])]
        proof = WritesProof.model_validate(mark["proof"]) if "proof" in mark else None
        removed = removal.leftovers(self.settings)
        if dry_run:
            return self.document("dry-run", removed, rows, proof)
        strangers.refuse_both(self.settings, "finalize")
        if not self.ended:  # else it was killed in the removal: the source has no record left to look at
            self._stop()
        removal.remove(self.settings)
        removal.prove(self.settings)
        self.settings.journal.record(Step.FINALIZE, FinalizeEvent.FINALIZED, removed=removed)
        return self.document("finalized", removed, rows, proof, self.hand_over())

    def _stop(self) -> None:
        """Stop replication for good. Raises as :meth:`_still_over`; it goes on then."""
        engine = engine_of(self.settings)
        with self.progress.work("stop replication", STOP_SECONDS, "s"):
            engine.stop(self.settings, timeout=STOP_SECONDS)
        try:
            self._still_over()
        except MigrationError:
            # Nothing is lost: the slots have what was written. What the monolith's role may do stays as it is.
            _mark(self.settings, None)
            engine.start(self.settings)
            raise
        self._write_end()

    def _still_over(self) -> None:
        """Replication has stopped. Raises Refused when a rollback has begun meanwhile, or somebody wrote after the last comparison."""
        config = self.settings.config
        safety.require(Transition.END, replace(self.look(), monolith_writes=rights.source_leads(self.settings)))
        after = writes.arrival(self.settings, "source", lambda: None)
        late = sorted({one.table for one in after.first if one.kind != "fence"})
        if late:
            raise Refused(
                f"{', '.join(late)}: written on the source after the last comparison, by another role than "
                f"{config.source_role}; replication goes on and nothing was removed. Find who writes (SELECT usename, "
                "query FROM pg_stat_activity), revoke that, then finalize again"
            )

    def hand_over(self) -> list[str]:
        """The very last act, as a table's owner can have code run by whoever writes to it: nobody of ours does any more."""
        return ownership.hand_over(self.settings) if self.settings.config.hand_over_ownership else []

    def _write_end(self) -> None:
        """Have the source's tables say that the current rows are the Task Service's; it counts when the helper schema is gone."""
        config = self.settings.config
        with session(self.settings, "source", "finalize", "finalize", lock_timeout_ms=LOCK_MS) as source:
            end_mark.put(
                source, config, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, the Task Service has the current rows"
            )


def _mark(settings: Settings, value: dict[str, Any] | None) -> None:
    """Keep on the target that both sides were equal with the source read-only: from there only removal is left."""
    with session(settings, "target", "finalize", "finalize") as target:
        helper_schema.put(target, helper_schema.FINALIZE, value)


def _verified(settings: Settings) -> dict[str, Any] | None:
    with session(settings, "target", "finalize", "finalize") as target:
        mark = helper_schema.get(target, helper_schema.FINALIZE)
    return dict(mark) if mark else None


def _statements(tables: dict[str, catalog.Table], role: str) -> list[sql.Composed]:
    names = sql.SQL(", ").join(table.identifier for table in tables.values())
    identifier = sql.Identifier(role)
    return [
        # TRUNCATE would write as well, and be seen by nobody.
        sql.SQL("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {} FROM {}").format(names, identifier),
        sql.SQL("GRANT SELECT ON {} TO {}").format(names, identifier),
    ]
