"""What a command imports before it does anything: `--help` and a usage error start no Pulumi, no AWS, no database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"pulumi", "boto3", "botocore", "psycopg", "pydantic_settings", "rich", "scripts.database"}
#: Of the rehearsal: what its option may say, and no more.
NAMES = {"scripts.rehearsal", "scripts.rehearsal.plan"}
#: Runs a command line and writes the modules that it had imported at its end.
TELL = (
    "import sys\nfrom scripts.__main__ import main\ntry:\n    main()\n"
    "finally:\n    sys.stderr.write('\\nimported: ' + ' '.join(sys.modules))\n"
)
#: Nothing listens on it: the command ends with its first connection.
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1"


def run(tmp_path: Path, *arguments: str) -> tuple[int, set[str]]:
    """The exit status of a command line, and the modules that it had imported."""
    environment = os.environ | {
        "SOURCE_DATABASE_URL": NOWHERE,
        "TARGET_DATABASE_URL": NOWHERE,
        "TASK_MIGRATION_STATE_DIR": str(tmp_path),
    }
    ended = subprocess.run(
        [sys.executable, "-c", TELL, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )
    return ended.returncode, set(ended.stderr.rpartition("imported: ")[2].split())


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--help",), 0),
        (("canary", "step", "--help"), 0),
        (("verify", "--no-such-option"), 2),
        (("canary", "step", "--to", "101"), 2),
        (("no-such-command",), 2),
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(arguments: tuple[str, ...], status: int, tmp_path: Path) -> None:
    """Prevents a `--help` that takes seconds because a module of a command imports what its step needs."""
    ended, imported = run(tmp_path, *arguments)
    assert ended == status
    assert "scripts.cli.app" in imported
    assert not imported & HEAVY
    assert {name for name in imported if name.startswith("scripts.rehearsal")} <= NAMES


@pytest.mark.parametrize(
    "arguments", [("preflight",), ("schema", "diff"), ("copy",), ("verify",), ("status",)], ids="-".join
)
def test_a_database_command_imports_neither_pulumi_nor_boto3(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Prevents a database command that starts with the SDKs of Pulumi and AWS, which it does not ask."""
    ended, imported = run(tmp_path, *arguments)
    assert ended in (1, 10)
    assert "psycopg" in imported
    assert not imported & {"pulumi", "boto3", "botocore"}
    assert {name for name in imported if name.startswith("scripts.rehearsal")} <= NAMES


def test_an_interrupt_within_a_text_of_code_ends_by_its_status(tmp_path: Path) -> None:
    """Prevents -2 where 130 was said: CPython remembers an interrupt that came while `exec` ran, as a dataclass is made by."""
    (tmp_path / "pressed.py").write_text(
        "import sys\nfrom scripts import __main__ as entry\nentry._say('', '')\n"
        "try:\n    exec('raise KeyboardInterrupt')\nexcept KeyboardInterrupt:\n    sys.exit(entry._stopped())\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    ended = subprocess.run(
        [sys.executable, "-m", "pressed"], env=os.environ | {"PYTHONPATH": path}, capture_output=True, check=False
    )
    assert ended.returncode == 130
