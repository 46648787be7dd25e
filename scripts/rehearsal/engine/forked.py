"""Operations in forks of a process that has imported the SDK once: importing pulumi_aws takes longer than most of them.

The process is the standard library's fork server (multiprocessing, 'Contexts and start methods'), which ends with ours.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from scripts.support.process import uninterrupted

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["scripts.rehearsal.engine.preload"])
Tell = Callable[[Any], object]


@contextmanager
def telling(
    action: Callable[[Any, Tell], object], argument: Any, output: Path, environment: Mapping[str, str], timeout: float
) -> Iterator[Any]:
    """What ``action`` tells, in a fork, which never outlives this context. The first one of a process waits for the imports.

    Args:
        action: a function of a module, called with ``argument`` and with what it tells by.
        output: a file, to which the fork's output is appended.
        timeout: seconds until it has told.

    Raises:
        TimeoutError: it did not tell in time.
        EOFError: it ended instead; ``output`` says why.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=False)
    fork = _CONTEXT.Process(target=_become, args=(str(output), dict(environment), action, argument, theirs))
    with ours, ExitStack() as ending:
        with uninterrupted():
            fork.start()
            ending.callback(_end, fork)
        theirs.close()
        if not ours.poll(timeout):
            raise TimeoutError
        yield ours.recv()


def carry_out(request: dict[str, Any], tell: Tell) -> None:
    """Tell the answer of :func:`scripts.rehearsal.engine.run.answer`."""
    from scripts.rehearsal.engine import run

    tell(run.answer(request))


def serve(program: Path, tell: Tell) -> None:
    """Tell the ports of :func:`scripts.rehearsal.engine.hosted.serve`, and serve."""
    from scripts.rehearsal.engine import hosted

    hosted.serve(program, tell)


def _end(fork: ForkServerProcess) -> None:
    fork.kill()
    fork.join()


def _become(
    output: str,
    environment: dict[str, str],
    action: Callable[[Any, Tell], object],
    argument: Any,
    answers: connection.Connection,
) -> None:
    """In the fork: what it needs to be before it acts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt ends whoever waits for it, who ends it then
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.clear()
    os.environ.update(environment)
    action(argument, answers.send)


def _end_with_parent() -> None:
    """Not even a `kill -9` of the caller leaves an operation behind that goes on alone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
