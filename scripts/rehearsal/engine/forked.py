"""Operations in forks of a process that has imported the SDK once: importing pulumi_aws takes longer than most of them.

The process is the standard library's fork server (multiprocessing, 'Contexts and start methods'), which ends with ours.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

#: Seconds that a fork has to serve; the first one of a process waits for the imports.
SERVING = 120.0
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["scripts.rehearsal.engine.preload"])


def run(request: Path, result: Path, output: Path, environment: Mapping[str, str], timeout: float) -> int:
    """Run :func:`scripts.rehearsal.engine.run.main` in a fork, which never outlives this call; its exit status.

    Args:
        output: a file, to which the fork's output is appended.
        timeout: seconds that it may take.

    Raises:
        TimeoutError: it did not end in time, and was killed.
    """
    with _fork(output, environment, _carry_out, str(request), str(result)) as fork:
        fork.join(timeout)
        if fork.exitcode is None:
            raise TimeoutError
        return fork.exitcode


@contextmanager
def serving(program: Path, output: Path, environment: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """Ports of :mod:`scripts.rehearsal.engine.hosted` in a fork, which never outlives this context; arguments as of :func:`run`.

    Raises:
        TimeoutError: it did not serve in time.
        EOFError: it ended instead; ``output`` says why.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    with ours, _fork(output, environment, _serve, str(program), theirs):
        theirs.close()
        if not ours.poll(SERVING):
            raise TimeoutError
        yield ours.recv()


@contextmanager
def _fork(
    output: Path, environment: Mapping[str, str], action: Callable[..., None], *arguments: Any
) -> Iterator[ForkServerProcess]:
    fork = _CONTEXT.Process(target=_become, args=(str(output), dict(environment), action, arguments))
    fork.start()
    try:
        yield fork
    finally:
        fork.kill()
        fork.join()


def _become(output: str, environment: dict[str, str], action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """In the fork: what it needs to be before it acts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt ends whoever waits for it, who ends it then
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.clear()
    os.environ.update(environment)
    action(*arguments)


def _carry_out(request: str, result: str) -> None:
    from scripts.rehearsal.engine import run as operation

    raise SystemExit(operation.main(request, result))


def _serve(program: str, ports: connection.Connection) -> None:
    from scripts.rehearsal.engine import hosted

    hosted.serve(Path(program), ports.send)


def _end_with_parent() -> None:
    """Not even a `kill -9` of the caller leaves an operation behind that goes on alone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
