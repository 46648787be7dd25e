"""Processes and ports of this machine."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: What an operator, a shell or a terminal that closes ends a command by.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Those signals wait for the end of the block, and are taken then: for a child's start, which nobody knows before it ends.

    Python raises KeyboardInterrupt wherever it is, also between a fork and the assignment of its id (Python documentation,
    'signal', 'Note on Signal Handlers and Exceptions').
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are taken in the main thread alone
        return
    came: list[int] = []
    # One that is ignored (nohup, a job in the background) stays so: the child takes that over (POSIX, execve), and nothing else.
    heard = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in heard}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in came:
            signal.raise_signal(number)


def ignore_interrupts() -> None:
    """From here on those signals do nothing: everything is being stopped, or has been, and an impatient second Ctrl-C must neither
    leave half of it running nor take the exit status away."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
