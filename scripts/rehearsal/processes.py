"""The rehearsal's child processes: each in a session of its own, each stopped by its id."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import httpx

from scripts.support.errors import MigrationError
from scripts.support.process import uninterrupted
from scripts.support.wait import wait_until


class Processes:
    """Starts processes, watches that they live, stops every one of them, the newest first."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path | None = None) -> int:
        """Start ``command`` with its output in ``<logs>/<name>.log``; returns the process id."""
        with uninterrupted():
            process = begin(command, {**os.environ, **environment}, self.logs / f"{name}.log", cwd)
            self._running[name] = process
        return process.pid

    def pids(self) -> dict[str, int]:
        """The process id of each that runs."""
        return {name: process.pid for name, process in self._running.copy().items()}

    def check(self) -> None:
        """Raise MigrationError when one of them ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                tail = (self.logs / f"{name}.log").read_text(errors="replace")[-1500:]
                raise MigrationError(f"{name} ended by itself with status {process.returncode}; its log ends:\n{tail}")

    def serves(self, name: str, url: str) -> None:
        """Wait until ``url`` answers with 200. Raises TimedOut, or MigrationError as :meth:`check`."""

        def answer() -> int | str:
            self.check()
            return http_status(url)

        remedy = f"see {name}.log"
        wait_until(answer, lambda status: status == 200, what=f"{name} serves", timeout=60.0, remedy=remedy)

    def stop(self, name: str, timeout: float = 15.0, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop ``name`` and what it started."""
        process = self._running.get(name)
        if process is not None:
            end(process, timeout, how)
            del self._running[name]  # not before: a Ctrl-C meanwhile leaves it to stop_all

    def stop_all(self) -> None:
        """Stop every process, the newest first."""
        for name in reversed(list(self._running)):
            self.stop(name)


def begin(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path | None,
    cwd: Path | None = None,
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process whose output goes into ``log``, or, but for its errors, where ``stdout`` says. Where a Ctrl-C cannot come between."""
    with (log or Path(os.devnull)).open("ab") as sink:
        return subprocess.Popen(
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout or sink,
            stderr=sink,
            cwd=cwd,
            start_new_session=True,  # Ctrl-C reaches the rehearsal alone, which then stops them in order.
        )


@cache
def local() -> httpx.Client:
    """The client for servers on this machine, made once: to make one takes 25 ms of CPU, for certificates that nobody shows here."""
    return httpx.Client(trust_env=False)


def http_status(url: str) -> int | str:
    """The HTTP status that ``url`` on this machine answers a GET with within 2 s, or why it does not."""
    try:
        return local().get(url, timeout=2.0).status_code
    except httpx.HTTPError as error:
        return type(error).__name__


def end(process: subprocess.Popen[bytes], timeout: float, how: signal.Signals = signal.SIGTERM) -> None:
    """Ask the leader of a session, and what it started in it, to end by ``how``; kill what is left after ``timeout`` seconds."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, how)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout)
    # The session's other processes must not outlive their leader.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
