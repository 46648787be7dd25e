"""Operators whose commands are stopped at any of their points: each statement that they send, each call of the cloud.

A point is what a `kill -9`, another operator, a request or a server's restart comes before. A killed command sends nothing more, neither
from its `finally` blocks nor from its threads; PostgreSQL sees its sessions end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

#: Longest that a command may last, in seconds, whatever is done to it.
COMMAND_SECONDS = 120.0


class Killed(BaseException):
    """As a kill: no handler of errors sees it."""


@dataclass
class Operator:
    """One command of one person."""

    name: str
    #: At which point something happens, by number (from 1) or how it begins, and what; None: nothing.
    at: int | str | None = None
    happens: Callable[[Operator], object] = lambda _: None
    points: list[str] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)
    dead: bool = False
    #: How many points there had been when somebody else acted last.
    interfered: int | None = None
    #: Whether a way back has ended since this command began.
    overtaken: bool = False
    error: BaseException | None = None
    result: object = None
    began: float = field(default_factory=time.monotonic)
    _parked: threading.Event = field(default_factory=threading.Event)
    _resumed: threading.Event = field(default_factory=threading.Event)
    _standing: bool = False
    _thread: threading.Thread | None = None

    def is_at(self, name: str) -> bool:
        """Whether this is the point at which something happens."""
        return name.startswith(self.at) if isinstance(self.at, str) else len(self.points) == self.at

    def park(self, _: object = None) -> None:
        """Stand still where it is until :meth:`resume`."""
        self._standing = True
        self._parked.set()
        assert self._resumed.wait(COMMAND_SECONDS), "nobody went on"

    def begin(self, work: Callable[[], object]) -> None:
        """Run until it has parked or ended."""

        def whole() -> None:
            try:
                self.result = work()
            except BaseException as error:  # noqa: BLE001 - judged by who began it
                self.error = error
            finally:
                self._parked.set()

        self._thread = threading.Thread(target=whole, name=self.name, daemon=True)
        self._thread.start()
        assert self._parked.wait(COMMAND_SECONDS), f"{self.name} hangs at {self.points[-1:]}"
        if not self._standing:
            self._thread.join()

    @property
    def ended(self) -> bool:
        """Whether it has come to its end."""
        return self._thread is not None and not self._thread.is_alive()

    def end(self) -> None:
        """Go on, to the end."""
        self._resumed.set()
        assert self._thread is not None
        self._thread.join(COMMAND_SECONDS)
        assert not self._thread.is_alive(), f"{self.name} hangs at {self.points[-1:]}"

    def let_go(self) -> None:
        """Where it stands still it dies."""
        self.dead = True
        if self._thread is not None:
            self.end()


class Watched:
    """Sees every point of whoever acts in the thread that comes to it: a command's threads are those begun by it."""

    def __init__(self) -> None:
        self._of = threading.local()
        self._one = threading.Lock()

    @property
    def acting(self) -> Operator | None:
        """Whose thread this is."""
        return getattr(self._of, "operator", None)

    @contextmanager
    def as_(self, operator: Operator | None) -> Iterator[None]:
        """What happens in here, and in the threads that begin here, is ``operator``'s; of None it is nobody's."""
        before, self._of.operator = self.acting, operator
        try:
            yield
        finally:
            self._of.operator = before

    def point(self, name: str) -> None:
        """Somebody is about to do this."""
        mine = self.acting
        if mine is None:
            return
        if mine.dead:
            raise Killed
        with self._one:  # of its threads
            if mine.points and mine.points[-1] == name:
                return  # a wait that looks again
            mine.points.append(name)
            now = mine.interfered is None and mine.is_at(name)
            if now:
                mine.interfered = len(mine.points)
        if now:
            with self.as_(None):
                mine.happens(mine)
            if mine.dead:
                raise Killed

    @contextmanager
    def statements(self) -> Iterator[None]:
        """Each statement of anybody in this process is a point."""
        execute, copy = psycopg.Cursor.execute, psycopg.Cursor.copy

        def told(cursor: psycopg.Cursor[Any], query: Any) -> None:
            if self.acting is None:
                return
            self.acting.pids.add(cursor.connection.info.backend_pid)
            text = query if isinstance(query, (str, bytes)) else query.as_string(cursor)
            self.point(" ".join((text.decode() if isinstance(text, bytes) else text).split())[:90])

        def executed(cursor: psycopg.Cursor[Any], query: Any, *rest: Any, **more: Any) -> Any:
            told(cursor, query)
            return execute(cursor, query, *rest, **more)

        def copied(cursor: psycopg.Cursor[Any], query: Any, *rest: Any, **more: Any) -> Any:
            told(cursor, query)
            return copy(cursor, query, *rest, **more)

        start, hook = threading.Thread.start, threading.excepthook

        def started(thread: threading.Thread) -> None:
            begun_by, run = self.acting, thread.run

            def whole() -> None:
                with self.as_(begun_by):
                    run()

            thread.run = whole  # type: ignore[method-assign]
            start(thread)

        psycopg.Cursor.execute, psycopg.Cursor.copy = executed, copied  # type: ignore[method-assign,assignment]
        threading.Thread.start = started  # type: ignore[method-assign,assignment]
        threading.excepthook = lambda given: None if given.exc_type is Killed else hook(given)
        try:
            yield
        finally:
            psycopg.Cursor.execute, psycopg.Cursor.copy = execute, copy  # type: ignore[method-assign]
            threading.Thread.start = start  # type: ignore[method-assign]
            threading.excepthook = hook
