"""The whole rehearsal, end to end, in a process of its own: what it proves, and what it leaves when it is interrupted."""

from __future__ import annotations

import html
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from scripts.rehearsal.engine.pulumi_cli import search_path
from scripts.rehearsal.ledger import read_ledger
from scripts.support.wait import wait_until
from tests.rehearsal.told import assert_differences_are_found, differences, journaled

ROOT = Path(__file__).parents[2]
WEIGHTS = [5, 25, 50, 0, 5, 25, 50, 100]


def command(output: Path, engine: str = "embedded") -> list[str]:
    return [
        *(sys.executable, "-m", "scripts", "rehearse", "--engine", engine, "--output", str(output)),
        *("--rows", "300", "--users", "50", "--watch", "6", "--json"),
    ]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The run's own directory for temporary files, which PostgreSQL's user may enter; what was started is known by it."""
    path = Path(tempfile.mkdtemp(prefix="rehearsed-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def data_directories(temporary: Path) -> set[Path]:
    """Where servers put their data when the output's directory is closed to PostgreSQL's user, as pytest's are."""
    return {path for side in ("source", "target") for path in temporary.glob(f"task-migration-{side}-*")}


def environment(temporary: Path) -> dict[str, str]:
    hidden = ("AWS_", "PULUMI", "TASK_", "SOURCE_DATABASE_URL", "TARGET_DATABASE_URL")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    return {**kept, "TMPDIR": str(temporary)}


def left_behind(temporary: Path) -> list[str]:
    """Processes that were started for this rehearsal and still run."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(temporary) in word for word in words):
            found.append(f"{process.pid} {process.cmdline()[:4]}")
    return found


def two_writers(ledger: Path) -> tuple[int, int]:
    """How many tasks two users wrote, and how often a row was written on the other side within a second."""
    writers: dict[str, set[int]] = {}
    made: dict[tuple[str, str], list[tuple[float, str | None]]] = {}
    for entry in read_ledger(ledger):
        for row in entry.rows or ():
            made.setdefault((row.table, row.key), []).append((entry.at, entry.target))
            if row.table == "tasks" and entry.user is not None:
                writers.setdefault(row.key, set()).add(entry.user)
    close = 0
    for moments in made.values():
        moments.sort(key=lambda one: one[0])
        close += sum(b[0] - a[0] < 1.0 and a[1] != b[1] for a, b in pairwise(moments))
    return sum(len(users) > 1 for users in writers.values()), close


@pytest.mark.timeout(900)
def test_every_criterion_passes_and_no_acknowledged_write_is_lost(tmp_path: Path, temporary: Path) -> None:
    output = tmp_path / "rehearsal"
    done = subprocess.run(
        command(output), cwd=ROOT, env=environment(temporary), capture_output=True, text=True, check=False
    )
    report = json.loads((output / "report.json").read_text())
    failed = [criterion for criterion in report["criteria"] if not criterion["passed"]]
    # The latency limit is the machine's to miss when it is busy with other tests; everything else must hold.
    assert [criterion for criterion in failed if criterion["name"] != "load test passed"] == [], done.stderr[-3000:]
    # Other tests beside it may take the verdict away, and no more than that.
    assert done.returncode == (0 if report["passed"] else 10 if report["judged"] else 13)
    assert report["passed"] or failed or not report["judged"]
    assert report["machine"]["under_load"]["ours_percent"] > 0
    assert {"monolith", "task-service", "gateway", "locust", "commands"} < set(report["machine"]["cpu_seconds"])
    assert json.loads(done.stdout) == report
    assert report["requests"]["failed"] == 0
    assert report["requests"]["total"] > 1000
    assert report["acknowledged_writes"]["lost"] == 0
    assert report["acknowledged_writes"]["total"] > 100
    assert report["rollback"]["acknowledged_writes_lost"] == 0
    assert report["acknowledged_writes"]["told"] is not None
    writers, sides = two_writers(output / "ledger.jsonl")
    assert writers > 10, "hardly a task had two users: nothing was risked"
    assert sides > 10, "hardly a row was written on both sides within a second: nothing was risked"
    assert {one["side"] for one in report["load"]["stale_reads"]} == {"monolith", "task-service"}
    watched = [step for step in report["steps"] if step["decision"] == "promote"]
    assert all(step["cookies"]["reads"] > step["cookies"]["stale"] for step in watched)
    assert sum(step["no_cookies"]["reads"] for step in watched) > 0
    # Without stickiness every request is divided by the weight.
    assert [step["new_share"] for step in watched] == [step["share"] for step in watched]
    assert 0 < report["rollback"]["seconds"] < 300
    assert [step["weight"] for step in report["steps"]] == WEIGHTS
    assert report["steps"][-1]["share"] == 100.0
    assert differences(report, journaled(output)) == []
    assert_differences_are_found(report, journaled(output))
    page = (output / "report.html").read_text()
    assert all(criterion["evidence"].split(";")[0] in html.unescape(page) for criterion in report["criteria"])
    assert left_behind(temporary) == []
    tokens = [item["token"] for item in json.loads((output / "tokens.json").read_text())]
    written = done.stdout + done.stderr + "".join(log.read_text() for log in (output / "logs").iterdir())
    assert len(tokens) == 50
    assert not [token for token in tokens if token in written]


@pytest.mark.timeout(900)
def test_a_drill_rolls_back_from_every_weight_and_loses_no_write(tmp_path: Path, temporary: Path) -> None:
    """Prevents a way back that is too slow, or loses a write, from a weight that no other test leaves: on the real engine where
    there is one, which .ci/run demands."""
    output = tmp_path / "drill"
    words = [*command(output, "auto"), "--drill", "--users", "20", "--rate", "20", "--watch", "3"]
    done = subprocess.run(words, cwd=ROOT, env=environment(temporary), capture_output=True, text=True, check=False)
    report = json.loads((output / "report.json").read_text())
    assert [one for one in report["criteria"] if not one["passed"]] == [], done.stderr[-3000:]
    assert report["engine"] == ("pulumi" if shutil.which("pulumi", path=search_path({})) else "embedded")
    assert [one["from"] for one in report["drills"]] == [5, 25, 50, 100]
    assert [one["from"] for one in report["story"]["rollbacks"]] == [5, 25, 50, 100]
    assert differences(report, journaled(output)) == []
    assert (output / "report.html").exists()
    for one in report["drills"]:
        assert one["lost"] == 0
        assert 0 < one["last_request_seconds"] <= one["proof_seconds"] < 300
    assert report["requests"]["failed"] == 0


def test_an_interrupt_while_servers_start_and_impatient_ones_leave_nothing(tmp_path: Path, temporary: Path) -> None:
    output = tmp_path / "rehearsal"
    with subprocess.Popen(
        command(output), cwd=ROOT, env=environment(temporary), stderr=subprocess.PIPE, text=True
    ) as running:
        wait_until(
            lambda: len(left_behind(temporary)),
            lambda servers: servers >= 2 or running.poll() is not None,
            what="two servers of the rehearsal",
            timeout=120,
            interval=0.05,
        )
        assert running.poll() is None, running.communicate()
        # Again and again until it has ended: the last ones come while Python itself ends.
        while running.poll() is None:
            running.send_signal(signal.SIGINT)
            time.sleep(0.001)  # noqa: TID251  # their pace
    assert running.returncode == 130
    assert left_behind(temporary) == []
    assert data_directories(temporary) == set()


@pytest.mark.engine
def test_an_interrupt_while_the_real_engine_deploys_leaves_no_process(tmp_path: Path, temporary: Path) -> None:
    """Prevents a CLI, a provider or a program that deploys on after everybody has gone, into an account that is gone too."""
    output = tmp_path / "rehearsal"
    with subprocess.Popen(
        command(output, "pulumi"), cwd=ROOT, env=environment(temporary), stderr=subprocess.PIPE, text=True
    ) as running:
        state = output / "engine" / "pulumi" / "backend" / ".pulumi" / "stacks" / "task-migration" / "rehearsal.json"
        wait_until(
            lambda: running.poll() is not None or (state.exists() and "aws:ec2/" in state.read_text()),
            bool,
            what="resources of the program in the engine's state",
            timeout=120,
        )
        assert running.poll() is None, running.communicate()
        (cli,) = (one for one in psutil.Process(running.pid).children(recursive=True) if one.name() == "pulumi")
        assert "up" in cli.cmdline()
        assert len(left_behind(temporary)) > 4, "the servers, the account, the CLI, its program and provider"
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopped by the operator" in errors
    assert not psutil.pid_exists(cli.pid)
    assert left_behind(temporary) == []
    assert data_directories(temporary) == set()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_under_load_leaves_no_process_and_no_database(
    tmp_path: Path, temporary: Path, how: signal.Signals
) -> None:
    output = tmp_path / "rehearsal"
    with subprocess.Popen(
        command(output), cwd=ROOT, env=environment(temporary), stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "preflight:" in line:
                break
        wait_until(
            lambda: list(temporary.glob("task-migration-backup-*/scratch/data/postmaster.pid")),
            bool,
            what="the backup's scratch server, the command's own child",
            timeout=90,
        )
        assert left_behind(temporary), "nothing was running: the test would prove nothing"
        running.send_signal(how)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopped by the operator" in errors
    assert left_behind(temporary) == []
    assert not (output / "postgres").exists()
    assert data_directories(temporary) == set()
    assert not (output / "report.json").exists()
