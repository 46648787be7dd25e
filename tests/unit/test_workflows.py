"""The workflows, as far as they can be judged without GitHub: rights, locks, no input in a script; their scripts are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from scripts.cli.app import app
from scripts.support.settings import PROJECT_ROOT

WORKFLOWS = PROJECT_ROOT / ".github" / "workflows"
NAMES = ("preview", "deploy", "canary")
RIGHTS = {
    "preview": {"contents": "read", "id-token": "write", "pull-requests": "write"},
    "deploy": {"contents": "read", "id-token": "write"},
    "canary": {"contents": "write", "id-token": "write"},
}


def workflow(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text())
    return found


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in workflow(name)["jobs"].values():
        yield from job["steps"]


def script(name: str, step: str) -> str:
    return str(next(item["run"] for item in steps(name) if item.get("name") == step))


def test_there_is_no_workflow_beside_these() -> None:
    """Fails when a workflow is added that no test looks at."""
    assert {path.name for path in WORKFLOWS.iterdir()} == {f"{name}.yml" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_has_the_rights_it_needs_and_no_other(name: str) -> None:
    """Fails when a token can do more than its workflow does, or a long-lived credential comes back."""
    found = workflow(name)
    assert found["permissions"] == RIGHTS[name]
    assert not [job for job in found["jobs"].values() if "permissions" in job]
    text = (WORKFLOWS / f"{name}.yml").read_text()
    assert "secrets." not in text  # AWS by OIDC, the databases' passwords from Secrets Manager, by that role
    assert not re.search(r"aws[-_](access[-_]key|secret)", text, re.IGNORECASE)
    roles = [item["with"]["role-to-assume"] for item in steps(name) if "configure-aws" in item.get("uses", "")]
    assert roles == ["${{ vars.AWS_%s_ROLE_ARN }}" % ("PREVIEW" if name == "preview" else "DEPLOY")]


@pytest.mark.parametrize("name", NAMES)
def test_no_script_of_a_workflow_has_an_expression_in_it(name: str) -> None:
    """Fails when text that somebody typed (an input, a branch's name, a title) becomes part of a script."""
    scripts = [item["run"] for item in steps(name) if "run" in item]
    assert scripts
    assert not [text for text in scripts if "${{" in text]
    for text in scripts:
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_job_ends_in_time_names_its_environment_and_pins_its_actions(name: str) -> None:
    """Fails when a hanging deployment holds the environment's lock for six hours, or an action is whatever is newest."""
    for job in workflow(name)["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert ("matrix.stack" if name == "preview" else "inputs.stack") in job["environment"]
        for item in job["steps"]:
            assert "run" in item or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", item["uses"])


def test_two_operators_never_deploy_one_environment_at_once() -> None:
    """Fails when a deployment and a canary step run beside each other, or one that runs is killed by the next."""
    locks = [workflow(name)["concurrency"] for name in ("deploy", "canary")]
    assert locks == [{"group": "stack-${{ inputs.stack }}", "cancel-in-progress": False}] * 2
    for name in ("deploy", "canary"):
        # YAML 1.1 reads the key `on` as true.
        assert workflow(name)[True]["workflow_dispatch"]["inputs"]["stack"]["options"] == ["staging", "prod"]
        checkout = next(item for item in steps(name) if item.get("uses", "").startswith("actions/checkout"))
        assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"


def test_a_pull_request_shows_both_stacks_and_a_strangers_gets_no_role() -> None:
    """Fails when a fork's program runs with our role, or the preview of one stack is missing."""
    found = workflow("preview")
    job = found["jobs"]["preview"]
    assert set(found[True]) == {"pull_request"}  # never pull_request_target, which runs with the repository's secrets
    assert job["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
    assert job["strategy"]["matrix"]["stack"] == ["staging", "prod"]
    preview = job["steps"][-1]["with"]
    assert (preview["command"], preview["comment-on-pr"]) == ("preview", True)


@pytest.mark.parametrize("name", ["preview", "deploy"])
def test_a_checkout_that_pushes_nothing_keeps_no_token(name: str) -> None:
    """Fails when a program or a package of a pull request can read the repository's token from .git/config."""
    checkout = next(item for item in steps(name) if item.get("uses", "").startswith("actions/checkout"))
    assert checkout["with"]["persist-credentials"] is False


def test_the_canary_runs_commands_that_exist_the_gate_before_the_step() -> None:
    """Fails when a renamed command is found out at night, or a step goes without its gate."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    said = [line.split("task-migration ")[1] for item in steps("canary") for line in _commands(item)]
    assert all(command.split()[0] in known for command in said)
    order = [" ".join(command.split()[:2]) for command in said]
    assert order == ["replicate status", "verify", "canary step", "canary step", "rollback --reason"]
    assert "--dry-run" in said[2]


def _commands(step: dict[str, Any]) -> list[str]:
    return [line for line in step.get("run", "").splitlines() if "bin/task-migration " in line]


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def clones(tmp_path: Path) -> dict[str, Path]:
    """A repository with the stack's file, a shallow clone as actions/checkout makes it, and a colleague's."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
    git(tmp_path, "clone", "--quiet", "origin.git", "colleague")
    colleague = tmp_path / "colleague"
    (colleague / "Pulumi.staging.yaml").write_text("config:\n  task-migration:canaryWeight: 0\n\n\n\n  a: b\n")
    git(colleague, "add", ".")
    git(colleague, "commit", "--quiet", "--message", "first")
    git(colleague, "push", "--quiet", "origin", "HEAD:main")
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{tmp_path}/origin.git", "runner")
    return {"colleague": colleague, "runner": tmp_path / "runner", "origin": tmp_path / "origin.git"}


def keep_the_weight(clones: dict[str, Path]) -> subprocess.CompletedProcess[str]:
    variables = {"PULUMI_STACK": "staging", "ACTION": "step", "ACTOR": "o'operator", "BRANCH": "main"}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script("canary", "Keep the weight")],
        cwd=clones["runner"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_weight_is_committed_although_somebody_pushed_meanwhile(clones: dict[str, Path]) -> None:
    """Fails when a push during the 30 minutes' watch leaves git with the old weight, which the next deployment restores."""
    assert keep_the_weight(clones).returncode == 0  # nothing moved, nothing to commit
    assert git(clones["origin"], "log", "--format=%s", "main") == "first"
    (clones["colleague"] / "README.md").write_text("x")
    git(clones["colleague"], "add", ".")
    git(clones["colleague"], "commit", "--quiet", "--message", "second")
    git(clones["colleague"], "push", "--quiet", "origin", "HEAD:main")
    file = clones["runner"] / "Pulumi.staging.yaml"
    file.write_text(file.read_text().replace("canaryWeight: 0", "canaryWeight: 5"))
    done = keep_the_weight(clones)
    assert done.returncode == 0, done.stderr
    log = git(clones["origin"], "log", "--format=%an: %s", "main").splitlines()
    assert log == ["o'operator: Canary weight of staging: step", "t: second", "t: first"]
    assert "canaryWeight: 5" in git(clones["origin"], "show", "main:Pulumi.staging.yaml")


def test_a_weight_that_cannot_be_committed_is_an_error_that_shows_it(clones: dict[str, Path]) -> None:
    """Fails when two weights in conflict end in a half-done rebase, or in a green run."""
    file = clones["colleague"] / "Pulumi.staging.yaml"
    file.write_text(file.read_text().replace("canaryWeight: 0", "canaryWeight: 50"))
    git(clones["colleague"], "commit", "--quiet", "--all", "--message", "by hand")
    git(clones["colleague"], "push", "--quiet", "origin", "HEAD:main")
    file = clones["runner"] / "Pulumi.staging.yaml"
    file.write_text(file.read_text().replace("canaryWeight: 0", "canaryWeight: 5"))
    done = keep_the_weight(clones)
    assert done.returncode == 1
    assert "commit this by hand" in done.stderr
    assert "+  task-migration:canaryWeight: 5" in done.stderr
    assert "canaryWeight: 50" in git(clones["origin"], "show", "main:Pulumi.staging.yaml")


@pytest.mark.parametrize(("place", "status"), [("s3://myteacher-backups/state", 0), ("", 1), (".task-migration", 1)])
def test_a_journal_that_dies_with_the_runner_is_refused(place: str, status: int) -> None:
    """Fails when the next run does not know of a step that was cut, because its journal lay in the runner's workspace."""
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script("canary", "The journal has a place")],
        env={"PATH": os.environ["PATH"], "TASK_MIGRATION_STATE_DIR": place},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert status == 0 or f"TASK_MIGRATION_STATE_DIR is '{place}'; set" in done.stderr


@pytest.mark.parametrize(
    ("outputs", "declared", "status"),
    [
        ("{}", "0", 0),
        ('{"canaryWeight": 25, "smokeHeaderValue": "[secret]"}', "25", 0),
        ('{"canaryWeight": 25}', "0", 1),
        ('{"canaryWeight": 0}', "5", 1),
        ("", "0", 1),
    ],
)
def test_a_deployment_that_would_move_the_weight_is_stopped(
    tmp_path: Path, outputs: str, declared: str, status: int
) -> None:
    """Fails when a deployment from a stale file takes every request back, or hands them over, without gate or fence."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "pulumi"
    command.write_text(
        '#!/bin/sh\ncase "$1 $2" in\n'
        f"'stack output') echo '{outputs}' ; test -n '{outputs}' ;;\n'config get') echo {declared} ;;\n*) exit 9 ;;\nesac\n"
    )
    command.chmod(0o700)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script("deploy", "The weight stays")],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PULUMI_STACK": "staging"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    if status and outputs:
        assert f"staging.yaml says {declared} %; a deployment moves no weight: run canary.yml" in done.stderr
