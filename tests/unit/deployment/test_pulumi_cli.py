"""What is made of the CLI's words and of what a kill left, without a CLI: the real one is asked by the tests marked `engine`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil
import pytest
from pulumi import automation
from pulumi.automation.errors import create_command_error

from scripts.deployment import pulumi_cli
from scripts.deployment.errors import CannotDeploy, Killed
from scripts.deployment.pulumi_cli import Command, Run, cause, left_behind, named
from scripts.rehearsal.emulated.routes import forwards
from scripts.support.errors import MigrationError, Refused, TimedOut
from scripts.support.process import is_alive
from scripts.support.wait import wait_until

NOW = Run(1, "here", "boot-1")
BEGUN = Run(77, "here", "boot-1")


def lock(*holders: tuple[str, int]) -> str:
    return "the stack is locked by" + "".join(
        f"\n  s3://x/l.json: created by root@{host} (pid {pid}) at 2026-01-01T00:00:00Z" for host, pid in holders
    )


@pytest.mark.parametrize(
    ("message", "begun", "now", "alive", "expected"),
    [
        (lock(("here", 77)), BEGUN, NOW, False, True),
        (lock(("here", 77)), BEGUN, NOW, True, False),  # it still runs, or its number was given anew
        (lock(("here", 77)), None, NOW, False, False),  # nothing of ours was begun here
        (lock(("here", 78)), BEGUN, NOW, False, False),  # another process of this machine, or of its namesake
        (lock(("there", 77)), BEGUN, NOW, False, False),
        (lock(("here", 77), ("there", 5)), BEGUN, NOW, False, False),  # one of two is a colleague's
        (lock(("here", 77)), BEGUN, Run(1, "here", "boot-2"), False, False),
        ("[409] Conflict: Another update is currently in progress.", BEGUN, NOW, False, False),
    ],
)
def test_only_a_lock_that_is_surely_ours_and_dead_is_taken_away(
    message: str, begun: Run | None, now: Run, alive: bool, expected: bool
) -> None:
    """Fails when a colleague's running deployment loses its lock to ours."""
    assert left_behind(message, begun, now, lambda pid: pid != 77 or alive) == expected


def failed(stderr: str, stdout: str = "") -> automation.CommandError:
    return create_command_error(automation.CommandResult(stdout=stdout, stderr=stderr, code=1))


@pytest.mark.parametrize(
    ("error", "kind", "why", "said"),
    [
        (
            failed('error: unable to open state directory "file:///x": no such file'),
            CannotDeploy,
            "backend",
            "s3://state",
        ),
        (failed("error: could not list bucket: NoSuchBucket"), CannotDeploy, "backend", "pulumi whoami -v"),
        (
            failed('error: performing HTTP request: Get "https://x": dial tcp: i/o timeout'),
            CannotDeploy,
            "backend",
            "x",
        ),
        (failed("error: PULUMI_ACCESS_TOKEN must be set for login"), CannotDeploy, "backend", "credentials"),
        (
            failed("error: the stack is currently locked by 1 lock(s).\n  f: created by a@b (pid 3) at 2026"),
            CannotDeploy,
            "locked",
            "created by a@b (pid 3)",
        ),
        (failed("error: no stack named 'x' found"), Refused, None, "pulumi stack init"),
        (
            failed(
                "", "Updating\nDiagnostics:\n  aws (x):\n    error: cannot create: dial tcp: refused\n\nResources:\n 1"
            ),
            MigrationError,
            None,
            "aws (x): | error: cannot create: dial tcp: refused",
        ),
    ],
)
def test_a_failure_names_cause_and_remedy(
    error: automation.CommandError, kind: type[MigrationError], why: str | None, said: str
) -> None:
    """Fails when a backend that is away looks like a failed deployment, or a failed deployment like nothing happened."""
    with pytest.raises(MigrationError) as caught, named("pulumi up", "s3://state"):
        raise error
    assert type(caught.value) is kind
    assert getattr(caught.value, "why", None) == why
    assert said in str(caught.value)
    assert "stderr:" not in str(caught.value)


def test_the_trace_of_an_interrupted_program_is_left_out_and_a_failed_programs_is_kept() -> None:
    """Fails when the resource that failed is hidden behind forty lines of a program that was only stopped."""
    interrupted = (
        "x\nDiagnostics:\n  aws:s3 (b):\n    error: exists\n  pulumi:Stack:\n    warning: w\n    Traceback (most recent call last):\n"
        "      File x\n    KeyboardInterrupt\n\nResources:\n    1"
    )
    assert cause(failed("", interrupted)) == "aws:s3 (b): | error: exists | pulumi:Stack:"
    own = "x\nDiagnostics:\n  pulumi:Stack:\n    error: Program failed with an unhandled exception:\n    Traceback\n    ValueError: v\n"
    assert cause(failed("", own)).endswith("ValueError: v")


TWICE = "x\nDiagnostics:\n  first:\n\nx\nDiagnostics:\n  aws:s3 (b):\n    error: exists\n\n"
MANY = "Diagnostics:\n" + "".join(f"  error: {number}\n" for number in range(25))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        *(
            (failed("", f"{TWICE}{part}:\n  1"), "aws:s3 (b): | error: exists")
            for part in ("Outputs", "Resources", "Duration", "Policies")
        ),
        (failed("warning: old\nERROR: no way\nerror: update failed\nbye"), "ERROR: no way"),
        (failed("", "x\n" + MANY), " | ".join(f"error: {number}" for number in range(20))),
        (
            failed("error: the stack is currently locked by 1 lock(s).\n  f: created by a@b (pid 3)\n  bye"),
            "error: the stack is currently locked by 1 lock(s). | f: created by a@b (pid 3)",
        ),
    ],
)
def test_a_cause_is_what_the_last_diagnostics_say_or_the_lines_that_name_an_error(
    error: automation.CommandError, told: str
) -> None:
    """Prevents a cause among a hundred lines of progress, or one that is cut off with them."""
    assert cause(error) == told


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command whose `pulumi` is a program of this test: it starts a child in a group of its own and does as it is told."""
    program = tmp_path / "bin" / "pulumi"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport os, signal, subprocess, sys, time\n"
        "if 'version' in sys.argv: print('v3.259.0'); sys.exit()\n"
        "child = subprocess.Popen(['sleep', '300'], process_group=0)\n"
        "open(os.environ['CHILD'], 'w').write(str(child.pid))\n"
        "print('working', flush=True)\n"
        "what = os.environ['WHAT']\n"
        "if what == 'die': os.kill(os.getpid(), signal.SIGKILL)\n"
        "if what == 'deaf': signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "time.sleep(300)\n"
    )
    program.chmod(0o700)
    monkeypatch.setenv("CHILD", str(tmp_path / "child"))
    monkeypatch.setattr(pulumi_cli, "GRACE", 1.0)
    return Command(str(program), 3.0, tmp_path / "state" / "run.json")


def test_a_killed_cli_leaves_a_note_and_no_child(command: Command, tmp_path: Path) -> None:
    """Fails when the language host of a killed engine runs on, or nobody knows afterwards whose the lock is."""
    with pytest.raises(Killed, match="pulumi up was ended by SIGKILL; .* last words: working"):
        command.run(["up", "--yes"], str(tmp_path), {"WHAT": "die"})
    pid = json.loads((tmp_path / "state" / "run.json").read_text())["pid"]
    assert command.begun() == Run.of(pid)
    assert not is_alive(pid)
    _gone(tmp_path)


def test_a_cli_that_hangs_ends_at_its_deadline_and_takes_its_children_along(command: Command, tmp_path: Path) -> None:
    """Fails when a backend that never answers holds a rollback up for ever."""
    with pytest.raises(
        TimedOut, match=r"pulumi preview did not end within 3 s; its last words: working; .*--emergency"
    ):
        command.run(["preview"], str(tmp_path), {"WHAT": "deaf"})
    assert command.begun() is None  # a preview holds no lock
    _gone(tmp_path)


def _gone(directory: Path) -> None:
    pid = int((directory / "child").read_text())

    def running() -> bool:
        return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE

    wait_until(running, lambda still: not still, what=f"the CLI's child {pid} is gone", timeout=20)


def test_the_forms_of_one_rule_mean_the_same() -> None:
    """Fails when a refresh takes AWS's longer form of the declared rule for a change behind the program's back."""

    def forward(*groups: tuple[str, int], sticky: dict[str, object] | None = None) -> dict[str, object]:
        listed = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in groups]
        config: dict[str, object] = {"TargetGroups": listed}
        return {
            "Type": "forward",
            "ForwardConfig": {**config, **({"TargetGroupStickinessConfig": sticky} if sticky else {})},
        }

    alone: dict[str, object] = {"Type": "forward", "TargetGroupArn": "a"}
    assert forwards([alone]) == forwards([forward(("a", 1))]) == forwards([{**forward(("a", 100)), "Order": 1}])
    assert forwards([forward(("a", 1), sticky={"Enabled": False})]) == forwards([alone])
    assert forwards([forward(("a", 95), ("b", 5))]) != forwards([forward(("a", 60), ("b", 40))])
    assert forwards([forward(("a", 1), ("b", 0))]) != forwards([alone])
    assert forwards([forward(("a", 1), sticky={"Enabled": True, "DurationSeconds": 60})]) != forwards([alone])
