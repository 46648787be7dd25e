"""Operations in forks of a process that has imported the SDK once: importing pulumi_aws takes longer than most of them.

The process is the standard library's fork server (multiprocessing, 'Contexts and start methods'), which ends with ours.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing import connection
from pathlib import Path

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
    fork = _CONTEXT.Process(target=_carry_out, args=(str(request), str(result), str(output), dict(environment)))
    fork.start()
    try:
        fork.join(timeout)
        if fork.exitcode is None:
            raise TimeoutError
        return fork.exitcode
    finally:
        fork.kill()
        fork.join()


def _carry_out(request: str, result: str, output: str, environment: dict[str, str]) -> None:
    """In the fork: one operation."""
    from scripts.rehearsal.engine import run as operation

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt ends whoever waits for it, who ends it then
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.clear()
    os.environ.update(environment)
    raise SystemExit(operation.main(request, result))


def _end_with_parent() -> None:
    """Not even a `kill -9` of the caller leaves an operation behind that goes on alone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
