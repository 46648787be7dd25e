"""A Ctrl-C in the midst of a child's start: whoever started the child knows it, and ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.backup import tools
from scripts.deployment.pulumi_cli import Command
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.processes import Processes
from scripts.rehearsal.world import EmulatedAws
from scripts.support.process import uninterrupted

ENDLESS = "import time\nwhile True: time.sleep(1)"


@pytest.fixture
def interrupted_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A process that starts gets us a Ctrl-C before its Popen returns; the ids of those started."""
    started: list[int] = []
    execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def interrupt(child: subprocess.Popen[Any], *arguments: object) -> None:
        execute(child, *arguments)
        started.append(child.pid)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(subprocess.Popen, "_execute_child", interrupt)
    yield started
    signal.signal(signal.SIGINT, before)
    for pid in started:
        if not ended(pid):
            os.kill(pid, signal.SIGKILL)


def ended(pid: int) -> bool:
    """Whether nothing runs under this number: gone, or a child of ours that was not waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_is_taken_once_the_child_is_known(interrupted_start: list[int]) -> None:
    known = None
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        known = subprocess.Popen([sys.executable, "-c", ENDLESS])
    assert known is not None
    known.kill()
    known.wait()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_one_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_child_is_born_deaf_to_what_is_ignored() -> None:
    """Fails when a terminal that closes ends the pg_dump of a backup that was started under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with uninterrupted():
            child = subprocess.Popen([sys.executable, "-c", ENDLESS])
    finally:
        signal.signal(signal.SIGHUP, before)
    ignored = next(line for line in Path(f"/proc/{child.pid}/status").read_text().splitlines() if "SigIgn" in line)
    child.kill()
    child.wait()
    assert int(ignored.split()[1], 16) >> (signal.SIGHUP - 1) & 1


def test_a_process_of_the_rehearsal(interrupted_start: list[int], tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        processes.start("one", [sys.executable, "-c", ENDLESS], {})
    processes.stop_all()
    assert [ended(pid) for pid in interrupted_start] == [True]


def test_the_emulated_account(interrupted_start: list[int]) -> None:
    aws = EmulatedAws()
    with pytest.raises(KeyboardInterrupt):
        aws.start()
    aws.stop()
    assert [ended(pid) for pid in interrupted_start] == [True]


def test_a_server(interrupted_start: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = EmbeddedPostgres(tmp_path, "one")
    monkeypatch.setattr(EmbeddedPostgres, "_initialise", lambda _: server.data.mkdir(parents=True))
    monkeypatch.setattr(EmbeddedPostgres, "_as_system_user", lambda _: {})
    with pytest.raises(KeyboardInterrupt):
        server.start()
    server.stop()
    assert [ended(pid) for pid in interrupted_start] == [True]


def test_the_pulumi_cli(interrupted_start: list[int], tmp_path: Path) -> None:
    cli = tmp_path / "pulumi"
    cli.write_text(f"#!{sys.executable}\n{ENDLESS}\n")
    cli.chmod(0o700)
    command = Command.__new__(Command)  # without the question for its version
    command.command, command.timeout, command.record = str(cli), 60.0, tmp_path / "record"
    with pytest.raises(KeyboardInterrupt):
        command.run(["up"], str(tmp_path), {})
    assert [ended(pid) for pid in interrupted_start] == [True]


def test_a_client_program(interrupted_start: list[int], tmp_path: Path) -> None:
    program = tmp_path / "pg_dump"
    program.write_text(f"#!{sys.executable}\n{ENDLESS}\n")
    program.chmod(0o700)
    with pytest.raises(KeyboardInterrupt):
        tools.run(program, [], "postgresql://someone@127.0.0.1:1/one", lambda _: None)
    assert [ended(pid) for pid in interrupted_start] == [True]
