"""A TCP proxy between two servers, whose line can be cut in both ways that a line is lost: refused, or silent."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Literal, Self


class Proxy:
    """Forwards 127.0.0.1:``port`` to 127.0.0.1:``upstream``. Use as a context manager."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.accepted = 0
        self._state: Literal["open", "refused", "silent"] = "open"
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="proxy")

    def cut(self, how: Literal["refused", "silent"]) -> None:
        """``refused``: connections break and new ones are closed at once; ``silent``: bytes stay away, nobody is told."""
        with self._lock:
            self._state = how
            if how == "refused":
                for end in list(self._pairs):
                    self._close(end)

    def mend(self) -> None:
        """The line is whole again; what a silent cut held back goes on."""
        with self._lock:
            self._state = "open"

    def _close(self, end: socket.socket) -> None:
        other = self._pairs.pop(end, None)
        for one in (end, other):
            if one is not None:
                self._pairs.pop(one, None)
                one.close()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if self._state == "refused":
            near.close()
            return
        self.accepted += 1
        far = socket.create_connection(("127.0.0.1", self.upstream), timeout=10)
        self._pairs[near], self._pairs[far] = far, near

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock, selectors.DefaultSelector() as waiting:
                waiting.register(self._listener, selectors.EVENT_READ)
                if self._state == "open":
                    for end in self._pairs:
                        waiting.register(end, selectors.EVENT_READ)
                for key, _ in waiting.select(0.02):
                    ready = key.fileobj
                    with contextlib.suppress(OSError):
                        if ready is self._listener:
                            self._accept()
                        elif isinstance(ready, socket.socket) and ready in self._pairs:
                            self._forward(ready)
            # Others may take the lock.
            self._stop.wait(0.001)

    def _forward(self, end: socket.socket) -> None:
        try:
            data = end.recv(1 << 16)
            if data:
                self._pairs[end].sendall(data)
                return
        except OSError:
            pass
        self._close(end)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for end in list(self._pairs):
            self._close(end)
        self._listener.close()
