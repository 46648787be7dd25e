"""The workers of a copy: each takes the next step, on a connection of its own to either side, until all are done."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg
from psycopg import sql

from scripts.copy import stream as copy_stream
from scripts.copy.build import After
from scripts.copy.plan import Queue, Step
from scripts.copy.progress import Progress
from scripts.copy.state import STATE
from scripts.database import helper_schema as catalog_state
from scripts.database.catalog import Table
from scripts.database.connections import Connection, connect
from scripts.support.errors import Refused
from scripts.support.settings import Settings

#: How often the waiting main thread shows progress, seconds.
TICK_SECONDS = 0.25
#: How long giving up waits for a server to take a cancel request, seconds.
CANCEL_SECONDS = 5.0

Note = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Work:
    """What the workers need to know; ``freezable`` are tables that may be emptied and loaded frozen in one transaction."""

    settings: Settings
    tables: Mapping[str, Table]
    after: After
    freezable: frozenset[str]
    snapshot: str
    run: str
    jobs: int


class Crew:
    """``jobs`` threads on one queue. Use as a context manager: leaving it early cancels what runs and waits for the end."""

    def __init__(self, work: Work, queue: Queue, progress: Progress) -> None:
        self.work, self.queue, self.progress = work, queue, progress
        self.totals: dict[str, dict[str, Any]] = {
            name: {"table": name, "rows": 0, "bytes": 0, "seconds": 0.0} for name in work.tables
        }
        self._turn = threading.Condition()
        self._binding = threading.Lock()
        self._open: list[Connection] = []
        self._notes: deque[Note] = deque()
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"copy-{number}", daemon=True) for number in range(work.jobs)
        ]

    def __enter__(self) -> Crew:
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

    def wait(self, done: Callable[[Queue], bool], note: Callable[[str, dict[str, Any]], None]) -> None:
        """Wait until ``done`` of the queue; ``note`` is called, in this thread, for each thing worth a journal's line.

        Ends by itself: each step ends, or its connection's keepalives find the server gone.

        Raises:
            BaseException: the first error of a worker.
        """
        while True:
            with self._turn:
                over = self._error is not None or done(self.queue)
                if not over and not self._notes:
                    self._turn.wait(TICK_SECONDS)
                notes, error = list(self._notes), self._error
                self._notes.clear()
            for event, facts in notes:
                note(event, facts)
            self.progress.tick()
            if error is not None:
                raise error
            if over:
                return

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                source, target = self._source(stack), self._target(stack)
                while (step := self._next()) is not None:
                    if step.kind != "rows":
                        # All rows are taken, so this session's view of the live source need not be kept any longer.
                        source.close()
                    self._do(step, source, target)
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
                self._notes.append(("rows", {"table": step.table, "rows": self.totals[step.table]["rows"]}))
            elif step.kind in ("key", "links", "statistics"):
                self._notes.append((step.kind, {"table": step.table}))
            self._turn.notify_all()
        self.progress.stepped(step)

    def _fail(self, error: BaseException) -> None:
        with self._turn:
            first, self._error = self._error is None, self._error or error
            self._turn.notify_all()
            connections = list(self._open) if first else []
        for connection in connections:
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_SECONDS)

    def _do(self, step: Step, source: Connection, target: Connection) -> None:
        after, table = self.work.after, step.table
        if step.kind == "rows":
            self._rows(step, source, target)
        elif step.kind == "index":
            with self._turn:
                spare = self.queue.spare(self.work.jobs)
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
            target.execute(sql.SQL("ANALYZE {}").format(self.work.tables[table].identifier))

    def _rows(self, step: Step, source: Connection, target: Connection) -> None:
        part = step.part
        assert part is not None
        moved = copy_stream.move(
            source,
            target,
            self.work.tables[part.table],
            part,
            freeze=part.whole and part.table in self.work.freezable,
            admit=lambda: self._admit(target),
            moved=lambda count: self.progress.moved(part.table, count),
        )
        with self._turn:
            total = self.totals[part.table]
            total["rows"] += moved.rows
            total["bytes"] += moved.bytes
            total["seconds"] = round(total["seconds"] + moved.seconds, 4)

    def _admit(self, target: Connection) -> None:
        state = catalog_state.get(target, STATE) or {}
        if state.get("run") != self.work.run:
            raise Refused(
                f"another `task-migration copy` began on this target (run {state.get('run')}, this one is {self.work.run}): "
                "this one stops; wait for the other, its result counts"
            )

    def _source(self, stack: contextlib.ExitStack) -> Connection:
        connection = self._connect(stack, self.work.settings.source(), "copy read", "SOURCE_DATABASE_URL", False)
        copy_stream.enter_snapshot(connection, self.work.snapshot)
        return connection

    def _target(self, stack: contextlib.ExitStack) -> Connection:
        connection = self._connect(stack, self.work.settings.target(), "copy write", "TARGET_DATABASE_URL", True)
        # Foreign keys and the application's triggers are off: rows come in any order and are consistent as a whole.
        connection.execute("SET session_replication_role = replica")
        # WAL is flushed in order, so the record of completion, committed last and with a flush, makes all of it durable.
        connection.execute("SET synchronous_commit = off")
        memory = max(64, self.work.settings.config.copy_memory_mb // self.work.jobs)
        connection.execute(sql.SQL("SET maintenance_work_mem = {}").format(sql.Literal(f"{memory}MB")))
        return connection

    def _connect(self, stack: contextlib.ExitStack, url: str, step: str, name: str, autocommit: bool) -> Connection:
        connection = stack.enter_context(contextlib.closing(connect(url, step=step, name=name, autocommit=autocommit)))
        with self._turn:
            self._open.append(connection)
        return connection
