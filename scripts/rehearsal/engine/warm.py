"""A process that has imported the SDK once and forks for each operation: importing pulumi_aws takes longer than most operations.

``python -m scripts.rehearsal.engine.warm`` reads one JSON line an operation on its standard input and answers with two lines:
the id of the fork, and the fork's exit status. It ends, and a running fork with it, when its input ends.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.support.errors import MigrationError
from scripts.support.settings import PROJECT_ROOT

#: What the program imports. Modules of the SDK are lazy: looking into one imports it.
_SDK = (
    *("apigatewayv2", "appautoscaling", "cloudwatch", "dms", "ec2", "ecr", "ecs", "iam", "kms", "lb", "rds", "s3"),
    *("secretsmanager", "sns", "vpc"),
)

#: Seconds within which it answers, its own imports included; on an idle machine they take two.
_ANSWER_SECONDS = 120.0


class Warm:
    """The client's side: one such process, started when it is first needed. Operations come one after the other."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def run(self, request: Path, result: Path, output: Path, environment: Mapping[str, str], timeout: float) -> int:
        """Run :func:`scripts.rehearsal.engine.run.main` in a fork, which never outlives this call; its exit status.

        Raises:
            TimeoutError: it did not end within ``timeout`` seconds, and was killed.
            MigrationError: the process that forks is gone.
        """
        order = {"request": str(request), "result": str(result), "output": str(output), "env": dict(environment)}
        with self._lock:
            try:
                process = self._started()
                assert process.stdin is not None
                process.stdin.write(json.dumps(order).encode() + b"\n")
                fork = self._number(_ANSWER_SECONDS)
                late = not self._answers(timeout)
                if late:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(fork, signal.SIGKILL)
                status = self._number(_ANSWER_SECONDS)
            except BaseException:
                # Whatever cut the conversation short, an interrupt too: what is still to be answered must not answer the next.
                self.close()
                raise
        if late:
            raise TimeoutError
        return status

    def close(self) -> None:
        """End the process and what it forked; the next operation starts another."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None and process.stdout is not None:
            process.stdin.close()
            process.wait()
            process.stdout.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scripts.rehearsal.engine.warm"],
                cwd=PROJECT_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
            atexit.register(self.close)
            self._number(_ANSWER_SECONDS)
        return self._process

    def _answers(self, timeout: float) -> bool:
        """Whether a line comes within ``timeout`` seconds."""
        assert self._process is not None
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], timeout)[0])

    def _number(self, timeout: float) -> int:
        """The next line."""
        assert self._process is not None
        assert self._process.stdout is not None
        if not self._answers(timeout) or not (line := self._process.stdout.readline()):
            raise MigrationError("the process that runs the embedded engine's operations is gone, or does not answer")
        return int(line)


def _carry_out(order: dict[str, Any]) -> None:
    """In the fork: one operation."""
    from scripts.rehearsal.engine import run

    with contextlib.suppress(PermissionError):  # the other side does the same, whichever comes first
        os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    log = os.open(order["output"], os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = ["engine", order["request"], order["result"]]
    status = 1
    try:
        status = run.main()
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a process
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Import, say 0, then fork for each line until there are no more."""
    gc.disable()
    with warnings.catch_warnings():
        # The SDK warns of its own deprecated classes when a module is imported, whether they are used or not.
        warnings.simplefilter("ignore", DeprecationWarning)
        for name in _SDK:
            getattr(importlib.import_module(f"pulumi_aws.{name}"), "_utilities", None)
    importlib.import_module("scripts.rehearsal.engine.run")
    gc.freeze()
    answers = os.dup(1)
    os.dup2(2, 1)
    os.write(answers, b"0\n")
    orders = open(0, "rb", buffering=0)  # noqa: SIM115 - select knows nothing of a buffer
    while line := orders.readline():
        reading, writing = os.pipe()
        fork = os.fork()
        if fork == 0:
            os.close(answers)
            _carry_out(json.loads(line))  # `writing` stays open as long as it runs
        os.close(writing)
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(fork, fork)
        os.write(answers, f"{fork}\n".encode())
        if 0 in select.select([0, reading], [], [])[0]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(fork, signal.SIGKILL)
        os.close(reading)
        os.write(answers, f"{os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])}\n".encode())


if __name__ == "__main__":
    main()
