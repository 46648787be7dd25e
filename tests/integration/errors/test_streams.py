"""A standard output that takes nothing, and a disk that is full: the work that was done is not told as a crash."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.support.settings import PROJECT_ROOT
from tests.integration.errors.case import State
from tests.integration.errors.conftest import Shell


def command(line: str, output: str = "", *, preexec: Callable[[], None] | None = None) -> tuple[int, str, str]:
    """Its status, what it printed and what it said, in this process's environment; ``output``: where a shell sends what it prints."""
    typed = f"{sys.executable} -m scripts {line} {output}"
    environment = {name: value for name, value in os.environ.items() if name != "PULUMI_STACK"}
    done = subprocess.run(
        ["bash", "-c", typed], cwd=PROJECT_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120, preexec_fn=preexec
    )  # fmt: skip
    return done.returncode, done.stdout, " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        # A reader that has ended before the command writes.
        ("> >(exec >&- <&-); exit $?", "Broken pipe"),
        ("> /dev/full", "No space left on device"),
        (">&-", "Bad file descriptor"),
    ],
    ids=("gone", "full", "closed"),
)
@pytest.mark.parametrize("line", ["status --json", "status"])
def test_a_result_that_cannot_be_written_is_said(
    shell_in: Callable[[State], Shell], output: str, cause: str, line: str
) -> None:
    """Prevents a traceback at the end of work that was done, and a script that takes an empty answer for one."""
    shell_in("nothing")
    status, _, said = command(line, output)
    assert status == 1, said
    assert f"its result could not be written to standard output ({cause})" in said
    assert "task-migration status, or send the output to a file" in said
    assert "Traceback" not in said


def test_a_terminal_of_another_encoding_gets_escapes(shell_in: Callable[[State], Shell]) -> None:
    """Prevents a command that ends in UnicodeEncodeError where the locale knows no Japanese."""
    shell = shell_in("nothing")
    shell.patch.setenv("TASK_MIGRATION_STATE_DIR", str(shell.directory / "状態"))
    shell.patch.setenv("PYTHONIOENCODING", "ascii")
    status, printed, said = command("status --json")
    assert status in (0, 10), said
    assert json.loads(printed)["state_dir"] == str(shell.directory / "状態")
    assert (printed.isascii(), r"/\u72b6\u614b" in printed) == (True, True)


def test_a_full_disk_under_the_journal_names_the_file(shell_in: Callable[[State], Shell]) -> None:
    """Prevents a torn event that nobody hears of: a disk takes a part of a line, and says so of the rest alone."""
    shell = shell_in("schema")
    journal = Path(os.environ["TASK_MIGRATION_STATE_DIR"]) / "journal.jsonl"
    assert shell.run("schema apply --json").status == 0
    whole = journal.read_bytes()

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, resource.RLIM_INFINITY))

    status, _, said = command("schema apply", preexec=full)
    assert status == 1, said
    assert f"{journal}: File too large; free space there, or name another place" in said
    assert shell.run("schema apply --json").status == 0
    events = [json.loads(line) for line in journal.read_bytes().splitlines() if line.endswith(b"}")]
    assert [one["event"] for one in events[-2:]] == ["applied", "applied"]
