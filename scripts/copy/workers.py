"""The workers of a copy: each takes the next step, on a connection of its own to either side, until all are done."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg
from psycopg import sql

from scripts.copy import stream
from scripts.copy.build import After
from scripts.copy.documents import TableCopied
from scripts.copy.plan import Queue, Step
from scripts.database import helper_schema
from scripts.database.catalog import Table
from scripts.database.connections import COPY_WRITER, Connection
from scripts.database.pace import Pace
from scripts.database.sides import open_side
from scripts.support.errors import Refused
from scripts.support.events import CopyEvent
from scripts.support.progress import Progress
from scripts.support.settings import Settings
from scripts.support.sides import Side

#: How often the waiting main thread brings what is shown up to date, seconds.
TICK_SECONDS = 0.25
#: How long giving up waits for a server to take a cancel request, seconds.
CANCEL_SECONDS = 5.0
#: Seconds until the journal is told of rows moved, at first and at most: after each time the pause doubles.
TOLD_SECONDS, TOLD_SECONDS_MOST = 2.0, 60.0
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Assignment:
    """What the workers need to know; ``freezable`` are tables that may be emptied and loaded frozen in one transaction,
    ``by_text`` those with values that have no binary form of their own."""

    settings: Settings
    tables: Mapping[str, Table]
    after: After
    freezable: frozenset[str]
    by_text: frozenset[str]
    snapshot: str
    run: str
    jobs: int
    pace: Pace


class Workers:
    """``jobs`` threads on one queue. Use as a context manager: leaving it early cancels what runs and waits for the end.

    Args:
        note: called, in the waiting thread, with each thing worth a journal's line: event and facts.
    """

    def __init__(self, assignment: Assignment, queue: Queue, note: Callable[..., None]) -> None:
        self.assignment, self.queue, self._note = assignment, queue, note
        self._rows_moved, self._bytes, self._seconds = Counter[str](), Counter[str](), dict[str, float]()
        #: Bytes on their way, those of unfinished parts too.
        self._sent = Counter[str]()
        #: Cost of what comes after the rows, and of what of it was done.
        self._cost, self._done = sum(step.cost for step in queue.todo if step.kind != "rows"), 0
        self._turn = threading.Condition()
        self._binding = threading.Lock()
        self._open: list[Connection] = []
        self._notes: deque[tuple[str, dict[str, Any]]] = deque()
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"copy-{number}", daemon=True) for number in range(assignment.jobs)
        ]

    def __enter__(self) -> Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._fail(error)
        for thread in self._threads:
            thread.join()

    def totals(self) -> list[TableCopied]:
        """What was moved of each table so far."""
        with self._turn:
            return [
                TableCopied(
                    table=name,
                    rows=self._rows_moved[name],
                    bytes=self._bytes[name],
                    seconds=round(self._seconds.get(name, 0.0), 4),
                )
                for name in self.assignment.tables
            ]

    def wait_for_rows(self, progress: Progress, sizes: Mapping[str, int]) -> None:
        """Wait until no row is left to be read; ``sizes`` are the tables' bytes on the source, which the stream comes near to.

        Raises:
            BaseException: the first error of a worker.
        """
        with contextlib.ExitStack() as shown:
            rows = shown.enter_context(progress.work("copy: rows", sum(sizes.values()) / MEBIBYTE, "MiB"))
            tables = {
                name: shown.enter_context(progress.work(f"  {name}", size / MEBIBYTE, "MiB", detail=True))
                for name, size in sizes.items()
            }

            pause, told = TOLD_SECONDS, time.monotonic()

            def show() -> None:
                nonlocal pause, told
                if time.monotonic() - told >= pause:
                    pause, told = min(2 * pause, TOLD_SECONDS_MOST), time.monotonic()
                    self._notes.append((CopyEvent.MOVED, {"rows": dict(self._rows_moved)}))
                rows.at(self._sent.total() / MEBIBYTE)
                for name, work in tables.items():
                    work.at(self._sent[name] / MEBIBYTE)

            self._wait(lambda: not self.queue.open("rows"), show)

    def wait_for_all(self, progress: Progress) -> None:
        """Wait until every step is done. Raises as :meth:`wait_for_rows`."""
        with self._turn:
            before = self._done
        with progress.work("keys, indexes, statistics", (self._cost - before) / MEBIBYTE, "MiB") as work:
            self._wait(lambda: self.queue.finished, lambda: work.at((self._done - before) / MEBIBYTE))

    def _wait(self, done: Callable[[], bool], show: Callable[[], None]) -> None:
        """Ends by itself: each step ends, or its connection's keepalives find the server gone."""
        while True:
            with self._turn:
                over = self._error is not None or done()
                if not over and not self._notes:
                    self._turn.wait(TICK_SECONDS)
                notes, error = list(self._notes), self._error
                self._notes.clear()
                show()
            for event, facts in notes:
                self._note(event, **facts)
            if error is not None:
                raise error
            if over:
                return

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                target, source = self._target(stack), None
                while (step := self._next()) is not None:
                    if step.kind == "rows":
                        # Not before: the snapshot is there as long as a step of rows is in somebody's hands, and no longer.
                        source = source or self._source(stack)
                        self._rows(step, source, target)
                    else:
                        if source is not None:
                            # All rows are taken, so this session's view of the live source need not be kept any longer.
                            source.close()
                        self._build(step, target)
                    self._finish(step)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the main thread
            self._fail(error)

    def _next(self) -> Step | None:
        with self._turn:
            while self._error is None and not self.queue.finished:
                step = self.queue.take()
                if step is not None:
                    return step
                self._turn.wait()
            return None

    def _finish(self, step: Step) -> None:
        with self._turn:
            self.queue.finish(step)
            if step.kind == "rows" and not self.queue.open("rows", step.table):
                self._notes.append((CopyEvent.ROWS, {"table": step.table, "rows": self._rows_moved[step.table]}))
            elif step.kind in ("key", "links", "statistics"):
                self._notes.append((step.kind, {"table": step.table}))
            self._done += step.cost if step.kind != "rows" else 0
            self._turn.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._turn:
            first, self._error = self._error is None, self._error or error
            self._turn.notify_all()
            connections = list(self._open) if first else []
        self.assignment.pace.stop()
        for connection in connections:
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_SECONDS)

    def _build(self, step: Step, target: Connection) -> None:
        after, table = self.assignment.after, step.table
        if step.kind == "index":
            with self._turn:
                spare = self.queue.spare(self.assignment.jobs)
            target.execute(sql.SQL("SET max_parallel_maintenance_workers = {}").format(sql.Literal(spare)))
            target.execute(after.indexes[table][step.name[2]].statement)
        elif step.kind == "key":
            with target.transaction():
                for statement in after.keys[table]:
                    target.execute(statement)
        elif step.kind == "bind":
            # Two that take the locks of two tables in opposite order would shut each other out.
            with self._binding, target.transaction():
                for link in after.links[table]:
                    target.execute(link.bind)
        elif step.kind == "links":
            for check in [link.check for link in after.links[table] if link.check is not None]:
                with target.transaction():
                    # Both keys are there in order: merging them costs a third of the CPU of hashing every key.
                    target.execute("SET LOCAL enable_hashjoin = off")
                    target.execute(check)
        else:
            target.execute(sql.SQL("ANALYZE {}").format(self.assignment.tables[table].identifier))

    def _rows(self, step: Step, source: Connection, target: Connection) -> None:
        part = step.part
        assert part is not None
        moved = stream.move(
            source,
            target,
            self.assignment.tables[part.table],
            part,
            freeze=part.whole and part.table in self.assignment.freezable,
            by_text=part.table in self.assignment.by_text,
            admit=lambda: self._admit(target),
            moved=lambda count: self._passed(part.table, count),
        )
        with self._turn:
            self._rows_moved[part.table] += moved.rows
            self._bytes[part.table] += moved.bytes
            self._seconds[part.table] = self._seconds.get(part.table, 0.0) + moved.seconds

    def _passed(self, table: str, count: int) -> None:
        with self._turn:
            self._sent[table] += count
        # What is not taken here waits on the source, whose session then sleeps.
        self.assignment.pace.gate()

    def _admit(self, target: Connection) -> None:
        state = helper_schema.get(target, helper_schema.COPY) or {}
        if state.get("run") != self.assignment.run:
            raise Refused(
                f"another `task-migration copy` began on this target (run {state.get('run')}, this one is {self.assignment.run}): "
                "this one stops; wait for the other, its result counts"
            )

    def _source(self, stack: contextlib.ExitStack) -> Connection:
        connection = self._connect(stack, "source", "copy read", autocommit=False)
        stream.enter_snapshot(connection, self.assignment.snapshot)
        return connection

    def _target(self, stack: contextlib.ExitStack) -> Connection:
        connection = self._connect(stack, "target", COPY_WRITER)
        # Foreign keys and the application's triggers are off: rows come in any order and are consistent as a whole.
        connection.execute("SET session_replication_role = replica")
        # WAL is flushed in order, so the record of completion, committed last and with a flush, makes all of it durable.
        connection.execute("SET synchronous_commit = off")
        memory = max(64, self.assignment.settings.config.copy_memory_mb // self.assignment.jobs)
        connection.execute(sql.SQL("SET maintenance_work_mem = {}").format(sql.Literal(f"{memory}MB")))
        return connection

    def _connect(self, stack: contextlib.ExitStack, side: Side, step: str, *, autocommit: bool = True) -> Connection:
        opened = open_side(self.assignment.settings, side, step, autocommit=autocommit)
        connection = stack.enter_context(contextlib.closing(opened))
        with self._turn:
            self._open.append(connection)
        return connection
