"""The command contract: strict options, exit statuses, one JSON document on standard output, errors with their remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from scripts.cli.app import app

ROOT = Path(__file__).parents[3]
STEPS = {
    *("preflight", "backup", "schema", "copy", "replicate", "verify", "canary", "rollback", "finalize"),
    *("status", "report", "api-check", "shadow", "rehearse", "ci-roles", "init"),
}


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PULUMI", "TASK_", "SOURCE_", "TARGET_"))}
    environment = {**clean, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        [sys.executable, "-m", "scripts", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_step_of_the_plan_is_a_command() -> None:
    assert set(typer.main.get_command(app).commands) == STEPS  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("copy", "--job", "3"), 2, "No such option"),
        (
            ("copy", "--jobs", "0"),
            2,
            "Invalid value for '--jobs': '0' was given; limit: greater than or equal to 1. Give another",
        ),
        (
            ("canary", "step", "--to", "101"),
            2,
            "Invalid value for '--to': '101' was given; limit: less than or equal to 100. Give",
        ),
        (("canary", "step", "--to", "x"), 2, "'x' was given; limit: a valid integer"),
        (
            ("replicate", "wait", "--timeout", "0"),
            2,
            "'0' was given; limit: greater than or equal to 0.1. Give another",
        ),
        (("verify", "--repair", "oldest"), 2, "'oldest' is not one of 'newest', 'source', 'target'. Give another"),
        (("canary", "step", "--force"), 2, "--force and --reason go together"),
        (("rollback", "--scenario", "everything"), 2, "'everything' is not one of 'copy', 'deployment', 'data'"),
        (("rollback", "--scenario", "copy", "--abandon"), 2, "--scenario goes without --abandon"),
        (("rollback", "--force", "--reason", "x"), 2, "--force goes with --abandon and --scenario copy or data only"),
        (("rollback", "--scenario", "deployment"), 2, "no stack is selected"),
        (("nonsense",), 2, "No such command"),
        (("preflight",), 2, "SOURCE_DATABASE_URL is not set"),
        (("preflight", "--stack", "nowhere"), 2, "Pulumi.nowhere.yaml does not exist"),
        (("report",), 2, "report.json does not exist; run first: make rehearsal"),
        (("canary", "status"), 2, "no stack is selected"),
        (("status", "--watch", "--json"), 2, "leave one of them out"),
        (("status", "--watch"), 2, "standard output is none; leave it out, or take --json"),
        (("rehearse", "--replication", "kafka"), 2, "'kafka' is not one of 'native', 'dms'"),
        (
            ("rehearse", "--scenario", "slot-lots"),
            2,
            "Invalid value for '--scenario': 'slot-lots' was given; limit: 'slot-lots' is not one of",
        ),
        (("rehearse", "--scenario", "slot-lost", "--drill"), 2, "is a rehearsal of its own, from another beginning"),
        (("rehearse", "--scenario", "slot-lost", "--wrong", "image"), 2, "run --wrong by itself"),
        (("rehearse", "--scenario", "slot-lost", "--replication", "dms"), 2, "leave --replication dms out"),
    ],
)
def test_bad_input_ends_with_its_status_and_a_remedy(
    tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert said in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://app:s3cr%25t-word@127.0.0.1:1/x"
    done = run("verify", cwd=tmp_path, SOURCE_DATABASE_URL=url, TARGET_DATABASE_URL=url)
    assert done.returncode == 1
    assert "cannot connect" in done.stderr
    assert "s3cr" not in done.stderr + done.stdout


def test_status_prints_one_json_document_and_does_not_call_safe_what_it_has_not_seen(tmp_path: Path) -> None:
    done = run("status", "--json", cwd=tmp_path)
    assert done.returncode == 10
    found = json.loads(done.stdout)
    assert (found["events"], found["stack"], found["state_dir"]) == ([], None, ".task-migration")
    assert (found["safe"], [one["what"] for one in found["unseen"]]) == (False, ["source", "target"])
