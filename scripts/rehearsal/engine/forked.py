"""Operations in forks of a process that has imported the SDK once: importing pulumi_aws takes longer than most of them.

The process is the standard library's fork server (multiprocessing, 'Contexts and start methods'), which ends with ours.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from scripts.support.process import uninterrupted

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["scripts.rehearsal.engine.preload"])


@contextmanager
def telling(module: str, argument: Any, output: Path, environment: Mapping[str, str], timeout: float) -> Iterator[Any]:
    """What ``main`` of a module of this room tells, in a fork, which never outlives this context. A process's first waits for the imports.

    Args:
        module: its ``main`` is called with ``argument`` and with what it tells by.
        output: a file, to which the fork's output is appended.
        timeout: seconds until it has told.

    Raises:
        TimeoutError: it did not tell in time.
        EOFError: it ended instead; ``output`` says why.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    fork = _CONTEXT.Process(target=_become, args=(str(output), dict(environment), module, argument, theirs))
    with ours, ExitStack() as ending:
        with uninterrupted():
            fork.start()
            ending.callback(_end, fork)
        theirs.close()
        if not ours.poll(timeout):
            raise TimeoutError
        yield ours.recv()


def _end(fork: ForkServerProcess) -> None:
    fork.kill()
    fork.join()


def _become(
    output: str, environment: dict[str, str], module: str, argument: Any, answers: connection.Connection
) -> None:
    """In the fork: what it needs to be before it acts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt ends whoever waits for it, who ends it then
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.clear()
    os.environ.update(environment)
    importlib.import_module(f"scripts.rehearsal.engine.{module}").main(argument, answers.send)


def _end_with_parent() -> None:
    """Not even a `kill -9` of the caller leaves an operation behind that goes on alone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
