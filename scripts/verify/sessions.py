"""The sessions that a verification reads with: several a side, pinned, read-only, ended when the command ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeVar

import psycopg

from scripts.database.connections import Connection, connect
from scripts.database.pace import Pace
from scripts.replication import fence
from scripts.replication.directions import Direction
from scripts.support.settings import Settings

S = TypeVar("S")
T = TypeVar("T")
#: Pairs of sessions: this many tables are compared at a time.
PAIRS = 2
#: Set on each session beside the program's pinned settings, so that no setting of a role or database changes what is seen.
PINNED = {
    # A row looked at again must show what was committed since the first time.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "on",
    "idle_in_transaction_session_timeout": "0",
    # Compiling the long expressions takes longer than it saves, and its costs depend on the server.
    "jit": "off",
    # A query whose client was killed ends, and does not go on reading a table for nobody.
    "client_connection_check_interval": "2s",
}


@dataclass(frozen=True)
class Pair:
    """A session on each side, and the threads that use them at once; without threads, one after the other."""

    source: Connection
    target: Connection
    pool: ThreadPoolExecutor | None = None

    def both(self, ask: Callable[[Connection], T]) -> tuple[T, T]:
        """What ``ask`` gives on the source and on the target."""
        return self.each(ask, self.source, self.target)

    def each(self, ask: Callable[[S], T], ours: S, theirs: S) -> tuple[T, T]:
        """What ``ask`` gives for the source's and for the target's part."""
        if self.pool is None:
            return ask(ours), ask(theirs)
        first, second = self.pool.map(ask, (ours, theirs))
        return first, second


@dataclass
class Sessions:
    """Pairs of sessions for as many threads."""

    pairs: list[Pair]
    pace: Pace
    _threads: ThreadPoolExecutor
    _free: SimpleQueue[Pair] = field(default_factory=SimpleQueue)

    def __post_init__(self) -> None:
        for pair in self.pairs:
            self._free.put(pair)

    def each(self, work: Sequence[Callable[[Pair], T]]) -> list[T]:
        """Do all of ``work``, at most one per pair at a time, started in the given order; the results in that order."""
        futures: list[Future[T]] = [self._threads.submit(self._one, item) for item in work]
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            self.cancel()
            raise

    def _one(self, work: Callable[[Pair], T]) -> T:
        pair = self._free.get()
        try:
            self.pace.gate()
            return work(pair)
        finally:
            self._free.put(pair)

    def cancel(self) -> None:
        """Cancel what the sessions run, so that an interrupted command does not wait for it."""
        for pair in self.pairs:
            for connection in (pair.source, pair.target):
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=5)


@contextmanager
def sessions(settings: Settings, pace: Pace) -> Iterator[Sessions]:
    """Open :data:`PAIRS` sessions on each side, all at once. Raises DatabaseError."""
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(2 * PAIRS, thread_name_prefix="verify"))
        urls = [(settings.source(), "SOURCE_DATABASE_URL"), (settings.target(), "TARGET_DATABASE_URL")] * PAIRS
        # So that a session is one, and one core's, for the load that is looked at.
        pinned = PINNED | ({"max_parallel_workers_per_gather": "0"} if pace.limited else {})
        opening = [threads.submit(_open, url, name, pinned) for url, name in urls]
        opened: list[Connection] = []
        failure: BaseException | None = None
        for future in opening:
            try:
                opened.append(stack.enter_context(future.result()))
            except BaseException as error:  # noqa: BLE001 - raised below, when those that did open are in the stack
                failure = failure or error
        if failure is not None:
            raise failure
        pairs = [
            Pair(opened[i], opened[i + 1], stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="verify-side")))
            for i in range(0, len(opened), 2)
        ]
        # Whatever ends this: no thread is waited for that rests or is paused.
        stack.callback(pace.stop)
        yield Sessions(pairs, pace, threads)


def _open(url: str, name: str, pinned: dict[str, str]) -> Connection:
    connection = connect(url, step="verify", name=name)
    connection.execute(
        "SELECT set_config(n, v, false) FROM unnest(%s::text[], %s::text[]) s(n, v)",
        (list(pinned), list(pinned.values())),
    )
    return connection


@dataclass
class CatchUp:
    """Waits until both sides have applied what the other had committed; nothing to wait for when replication is off.

    Several tables ask at once: a fence that was begun after the question answers it.
    """

    settings: Settings
    live: bool
    timeout: float
    _begun: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def one_way(self, direction: Direction) -> None:
        """Waits until what is committed on one side now was applied on the other. Raises TimedOut."""
        if self.live:
            fence.through(self.settings, direction, self.timeout)

    def __call__(self) -> None:
        """Raises TimedOut when a fence does not come through."""
        if not self.live:
            return
        asked = time.monotonic()
        with self._lock:
            if self._begun >= asked:
                return
            begun = time.monotonic()
            fence.both(self.settings, self.timeout)
            self._begun = begun
