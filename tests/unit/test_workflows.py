"""The workflows, as far as they can be judged without GitHub: rights, locks, no input in a script; their scripts are run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from scripts.cli.app import app
from scripts.support.settings import PROJECT_ROOT

WORKFLOWS = PROJECT_ROOT / ".github" / "workflows"
NAMES = ("preview", "deploy", "canary", "drift")
#: What looks alone: for both stacks, where nobody has to approve it.
LOOKS = ("preview", "drift")
RIGHTS = {
    "preview": {"contents": "read", "id-token": "write"},
    "deploy": {"contents": "read", "id-token": "write"},
    "canary": {"contents": "write", "pull-requests": "write", "id-token": "write"},
    "drift": {"contents": "read", "id-token": "write"},
}
ROLES = {"preview": "PREVIEW", "deploy": "DEPLOY", "canary": "OPERATOR", "drift": "DRIFT"}
#: Each action's one commit and its release. Both were read from the tags of the action's own repository.
PINS = {
    "actions/checkout": ("34e114876b0b11c390a56381ad16ebd13914f8d5", "v4.3.1"),
    "actions/setup-python": ("a26af69be951a213d495a4c3e4e4022e16d87065", "v5.6.0"),
    "actions/upload-artifact": ("ea165f8d65b6e75b540449e92b4886f43607fa02", "v4.6.2"),
    "aws-actions/configure-aws-credentials": ("7474bc4690e29a8392af63c5b98e7449536d5c3a", "v4.3.1"),
    "pulumi/actions": ("8582a9e8cc630786854029b4e09281acd6794b58", "v6.6.1"),
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
    assert {path.name for path in WORKFLOWS.iterdir()} == {f"{name}.yml" for name in (*NAMES, "audit")}


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_has_the_rights_it_needs_and_no_other(name: str) -> None:
    """Fails when a token can do more than its workflow does, or a long-lived credential comes back."""
    found = workflow(name)
    assert found["permissions"] == {}  # a job that is added has none, until it says which
    assert [job["permissions"] for job in found["jobs"].values()] == [RIGHTS[name]]
    text = (WORKFLOWS / f"{name}.yml").read_text()
    assert "secrets." not in text  # AWS by OIDC, the databases' passwords from Secrets Manager, by that role
    assert not re.search(r"aws[-_](access[-_]key|secret)", text, re.IGNORECASE)
    roles = [item["with"]["role-to-assume"] for item in steps(name) if "configure-aws" in item.get("uses", "")]
    assert roles == [f"${{{{ vars.AWS_{ROLES[name]}_ROLE_ARN }}}}"]


@pytest.mark.parametrize("name", NAMES)
def test_no_script_of_a_workflow_has_an_expression_in_it(name: str) -> None:
    """Fails when text that somebody typed (an input, a branch's name, a title) becomes part of a script."""
    scripts = [item["run"] for item in steps(name) if "run" in item]
    assert scripts
    assert not [text for text in scripts if "${{" in text]
    for text in scripts:
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("name", [*NAMES, "audit"])
def test_every_action_is_one_commit_and_its_comment_says_which_release(name: str) -> None:
    """Fails when a tag that its owner, or who took his account, moves brings other code to the role and the token."""
    lines = [line.strip() for line in (WORKFLOWS / f"{name}.yml").read_text().splitlines() if "uses:" in line]
    assert len(lines) == len([item for item in steps(name) if "uses" in item])
    for line in lines:
        action, commit, release = re.fullmatch(r"- uses: ([\w/-]+)@([0-9a-f]{40}) # (v[\d.]+)(?:,.*)?", line).groups()  # type: ignore[union-attr]
        assert PINS[action] == (commit, release), line


@pytest.mark.parametrize("name", NAMES)
def test_the_command_is_the_version_that_the_program_was_locked_with(name: str) -> None:
    """Fails when an `up` is done by another engine than the tests ran, or by whatever is newest that day."""
    (locked,) = re.findall(r"^pulumi==([\d.]+)", (PROJECT_ROOT / "requirements.lock").read_text(), re.MULTILINE)
    used = [item["with"]["pulumi-version"] for item in steps(name) if "pulumi/actions" in item.get("uses", "")]
    assert used
    assert set(used) == {locked}


def test_the_engine_of_the_tests_is_not_older_than_the_sdk() -> None:
    """Fails when the lock moves on and the tests go on with the engine of before; not every release can be had as a Go module."""
    lock, module = (PROJECT_ROOT / "requirements.lock").read_text(), (PROJECT_ROOT / ".ci/engine/go.mod").read_text()
    (sdk,) = re.findall(r"^pulumi==(\d+)\.(\d+)", lock, re.MULTILINE)
    engines = re.findall(r"github\.com/pulumi/pulumi/(?:pkg|sdk)/v3 v(\d+)\.(\d+)", module)
    assert len(engines) == 2
    assert len(set(engines)) == 1
    assert engines[0][0] == sdk[0]
    assert int(engines[0][1]) >= int(sdk[1])


@pytest.mark.parametrize("name", NAMES)
def test_what_a_run_leaves_behind_holds_no_secret(name: str) -> None:
    """Fails when an artifact or a summary, which all who read the repository can open, has more than the decision."""
    kept = [item["with"]["path"] for item in steps(name) if "upload-artifact" in item.get("uses", "")]
    assert kept == (["decision.json"] if name == "canary" else [])
    commands = [item["with"] for item in steps(name) if "command" in item.get("with", {})]
    assert all(given["suppress-outputs"] is True for given in commands)  # smokeHeaderValue is an output


@pytest.mark.parametrize("name", NAMES)
def test_every_job_ends_in_time_and_names_its_environment(name: str) -> None:
    """Fails when a hanging deployment holds the environment's lock for six hours, or a job runs without its reviewers."""
    for job in workflow(name)["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert job["environment"] == ("${{ matrix.stack }}-preview" if name in LOOKS else "${{ inputs.stack }}")
        assert name not in LOOKS or job["strategy"]["matrix"]["stack"] == ["staging", "prod"]


def test_the_audit_runs_each_night_without_a_role() -> None:
    """Fails when advisories of what is installed are no longer asked for, or a package that is being looked at gets a right."""
    found = workflow("audit")
    assert found[True]["schedule"]
    assert "requirements.lock" in found[True]["pull_request"]["paths"]
    assert found["permissions"] == {}
    assert [job["permissions"] for job in found["jobs"].values()] == [{"contents": "read"}]
    assert not re.search(r"secrets\.|vars\.|environment:", (WORKFLOWS / "audit.yml").read_text())
    assert [item["run"] for item in steps("audit") if "run" in item] == ["make audit", "make sbom"]


def test_two_operators_never_deploy_one_environment_at_once() -> None:
    """Fails when a deployment and a canary step run beside each other, or one that runs is killed by the next."""
    locks = [workflow(name)["concurrency"] for name in ("deploy", "canary")]
    back = "${{ inputs.action != 'step' && '-back' || '' }}"  # not behind a step that is watched for half an hour
    assert locks == [
        {"group": f"stack-${{{{ inputs.stack }}}}{more}", "cancel-in-progress": False} for more in ("", back)
    ]
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
    preview = job["steps"][-1]["with"]
    assert (preview["command"], preview["comment-on-summary"]) == ("preview", True)
    # To comment takes pull-requests: write, by which the program of the pull request could approve itself.
    assert "comment-on-pr" not in preview


@pytest.mark.parametrize("name", [*NAMES, "audit"])
def test_a_checkout_keeps_no_token(name: str) -> None:
    """Fails when a program or a package of a pull request can read the repository's token from .git/config."""
    checkout = next(item for item in steps(name) if item.get("uses", "").startswith("actions/checkout"))
    assert checkout["with"]["persist-credentials"] is False
    holders = [item.get("name") for item in steps(name) if "github.token" in str(item)]
    assert holders == (["Keep the weight"] if name == "canary" else [])


def test_the_canary_runs_commands_that_exist_the_gate_before_the_step() -> None:
    """Fails when a renamed command is found out at night, or a step goes without its gate."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    said = [line.split("task-migration ")[1] for item in steps("canary") for line in _commands(item)]
    assert all(command.split()[0] in known for command in said)
    order = [" ".join(command.split()[:2]) for command in said]
    assert order == [
        *("replicate status", "verify", "canary step", "canary step", "rollback --reason", "rollback --emergency")
    ]
    assert "--dry-run" in said[2]


def test_an_emergency_needs_nothing_of_pulumi_and_no_journal() -> None:
    """Fails when the way back for a Pulumi that does not answer waits for Pulumi, its backend, or a bucket."""
    asked = workflow("canary")[True]["workflow_dispatch"]["inputs"]["action"]["options"]
    assert asked == ["step", "rollback", "emergency"]
    run = [item for item in steps("canary") if item.get("if") not in ("inputs.action == 'step'",)]
    for item in run:
        if "pulumi" in item.get("uses", "") or item.get("name") in ("The journal has a place", "Back to the monolith"):
            assert item["if"] in ("inputs.action != 'emergency'", "inputs.action == 'rollback'")
    (command,) = [line for line in script("canary", "Back without Pulumi").splitlines() if "task-migration " in line]
    assert command.split()[:3] == [".venv/bin/task-migration", "rollback", "--emergency"]


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
    text = b"config:\r\n  task-migration:canaryWeight: 0 # percent\r\n\r\n\r\n\r\n  a: b\r\n"  # as an editor on Windows leaves it
    (colleague / "Pulumi.staging.yaml").write_bytes(text)
    git(colleague, "add", ".")
    git(colleague, "commit", "--quiet", "--message", "first")
    git(colleague, "push", "--quiet", "origin", "HEAD:main")
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{tmp_path}/origin.git", "runner")
    return {"colleague": colleague, "runner": tmp_path / "runner", "origin": tmp_path / "origin.git"}


def run_step(
    name: str, step: str, directory: Path, variables: dict[str, str], path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A step's script as GitHub runs one (`shell: bash`), in ``directory``; programs in ``path`` come first."""
    places = [str(path)] if path else []
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script(name, step)],
        cwd=directory,
        env={**os.environ, "PATH": ":".join([*places, os.environ["PATH"]]), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def keep_the_weight(
    clones: dict[str, Path], action: str = "step", api: str = "http://127.0.0.1:9"
) -> subprocess.CompletedProcess[str]:
    if not (clones["runner"] / ".venv").exists():
        (clones["runner"] / ".venv").symlink_to(sys.prefix)
    variables = {
        **{"PULUMI_STACK": "staging", "ACTION": action, "ACTOR": "o'operator", "BRANCH": "main"},
        **{"TOKEN": "a-token-of-the-run", "REPOSITORY": "myteacher/tasks", "PROPOSAL": "canary/staging-77"},
        **{"GITHUB_API_URL": api, "no_proxy": "127.0.0.1"},
    }
    return run_step("canary", "Keep the weight", clones["runner"], variables)


def set_weight(directory: Path, before: int, after: int) -> None:
    file = directory / "Pulumi.staging.yaml"
    file.write_bytes(file.read_bytes().replace(b"canaryWeight: %d" % before, b"canaryWeight: %d" % after))


class Pulls:
    """GitHub's `POST /repos/ORG/REPO/pulls`; keeps what it is sent."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, self.headers["Authorization"], body))
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def pulls() -> Iterator[Pulls]:
    made = Pulls()
    yield made
    made.close()


def protect(origin: Path) -> None:
    """As a ruleset of GitHub does: the branch takes no push, others do."""
    hook = origin / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        '#!/bin/sh\ntest "$1" != refs/heads/main || { echo "error: GH013: Repository rule violations"; exit 1; }\n'
    )
    hook.chmod(0o700)


def test_a_protected_branch_gets_the_weight_by_a_pull_request(clones: dict[str, Path], pulls: Pulls) -> None:
    """Fails when the protected branch, which production asks for, leaves git with the old weight after each step."""
    protect(clones["origin"])
    set_weight(clones["runner"], 0, 5)
    done = keep_the_weight(clones, api=pulls.url)
    assert done.returncode == 0, done.stderr
    assert "::warning::main takes no push: merge the pull request of canary/staging-77" in done.stdout
    assert "canaryWeight: 0" in git(clones["origin"], "show", "main:Pulumi.staging.yaml")
    assert "canaryWeight: 5" in git(clones["origin"], "show", "canary/staging-77:Pulumi.staging.yaml")
    ((path, token, body),) = pulls.asked
    assert (path, token) == ("/repos/myteacher/tasks/pulls", "Bearer a-token-of-the-run")
    assert (body["head"], body["base"]) == ("canary/staging-77", "main")
    assert body["title"] == "Canary weight of staging: step"


def test_a_pull_request_that_cannot_be_opened_is_an_error(clones: dict[str, Path]) -> None:
    """Fails when a repository that lets no workflow open pull requests ends in a green run."""
    protect(clones["origin"])
    set_weight(clones["runner"], 0, 5)
    done = keep_the_weight(clones)
    assert done.returncode == 1
    assert "the branch canary/staging-77 has the weight, and no pull request could be opened" in done.stderr
    assert "a-token-of-the-run" not in done.stdout + done.stderr


@pytest.mark.parametrize("action", ["rollback", "emergency"])
def test_a_way_back_is_the_last_word_over_the_step_that_it_took_over(clones: dict[str, Path], action: str) -> None:
    """Fails when the taken-over step commits its weight first, and the file would raise the weight again."""
    for before, after in ((0, 5), (5, 25)):
        set_weight(clones["colleague"], before, after)
        git(clones["colleague"], "commit", "--quiet", "--all", "--message", "Canary weight of staging: step")
        git(clones["colleague"], "push", "--quiet", "origin", "HEAD:main")
        if after == 5:  # what the run of the way back has checked out
            git(clones["runner"], "pull", "--quiet", "--rebase", "origin", "main")
    set_weight(clones["runner"], 5, 0)
    file = clones["runner"] / "Pulumi.staging.yaml"
    before_all = file.read_bytes()
    file.write_bytes(before_all.replace(b"a: b", b"a: stopped"))
    done = keep_the_weight(clones, action)
    assert done.returncode == 0, done.stderr
    git(clones["colleague"], "pull", "--quiet", "--rebase", "origin", "main")
    kept = (clones["colleague"] / "Pulumi.staging.yaml").read_bytes()
    assert kept == before_all.replace(b"a: b", b"a: stopped"), (
        "what the command wrote beside the weight, and every line's end"
    )


@pytest.mark.parametrize("action", ["rollback", "emergency"])
def test_a_way_back_from_the_first_step_is_the_last_word_too(clones: dict[str, Path], action: str) -> None:
    """Fails when the run of the way back, whose checkout says 0 from before the step, sees nothing to keep and leaves the step's weight."""
    for runner_knows in (False, True):
        set_weight(clones["colleague"], 0, 5)
        git(clones["colleague"], "commit", "--quiet", "--all", "--message", "Canary weight of staging: step")
        git(clones["colleague"], "push", "--quiet", "origin", "HEAD:main")
        done = keep_the_weight(clones, action)
        assert done.returncode == 0, done.stderr
        assert "canaryWeight: 0" in git(clones["origin"], "show", "main:Pulumi.staging.yaml"), runner_knows
        git(clones["colleague"], "pull", "--quiet", "--rebase", "origin", "main")
    before = git(clones["origin"], "rev-parse", "main")
    assert keep_the_weight(clones, action).returncode == 0
    assert git(clones["origin"], "rev-parse", "main") == before


def test_a_way_back_that_moved_nobody_keeps_nothing(clones: dict[str, Path]) -> None:
    """Fails when a rollback that was refused leaves a weight of 0 in the file, while requests are where they were."""
    set_weight(clones["colleague"], 0, 100)
    git(clones["colleague"], "commit", "--quiet", "--all", "--message", "Canary weight of staging: step")
    git(clones["colleague"], "push", "--quiet", "origin", "HEAD:main")
    git(clones["runner"], "pull", "--quiet", "--rebase", "origin", "main")
    assert keep_the_weight(clones, "rollback").returncode == 0
    assert "canaryWeight: 100" in git(clones["origin"], "show", "main:Pulumi.staging.yaml")


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
    assert "extraheader" not in (clones["runner"] / ".git" / "config").read_text()


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


def test_a_run_that_ends_before_it_decides_says_so_in_its_summary(tmp_path: Path) -> None:
    """Fails when a red run's page is empty, or one that decided says that it did not."""
    name = "Say that nothing was decided"
    (step,) = [item for item in steps("canary") if item.get("name") == name]
    assert step["if"] == "failure()"
    summary = tmp_path / "summary"
    variables = {"ACTION": "step", "PULUMI_STACK": "prod", "GITHUB_STEP_SUMMARY": str(summary)}
    (tmp_path / "decision.json").write_text("")  # as tee leaves it where the command says nothing
    assert run_step("canary", name, tmp_path, variables).returncode == 0
    assert summary.read_text().startswith("### step of prod ended without a decision; ")
    summary.unlink()
    (tmp_path / "decision.json").write_text("{}")
    assert run_step("canary", name, tmp_path, variables).returncode == 0
    assert not summary.exists()


@pytest.mark.parametrize(("place", "status"), [("s3://myteacher-migration-state", 0), ("", 1), (".task-migration", 1)])
def test_a_journal_that_dies_with_the_runner_is_refused(place: str, status: int) -> None:
    """Fails when the next run does not know of a step that was cut, because its journal lay in the runner's workspace."""
    done = run_step("canary", "The journal has a place", PROJECT_ROOT, {"TASK_MIGRATION_STATE_DIR": place})
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
    said = f"'stack output') echo '{outputs}' ; test -n '{outputs}' ;;\n'config get') echo {declared} ;;"
    done = run_step("deploy", "The weight stays", *stand_in(tmp_path, said))
    assert done.returncode == status, done.stderr
    if status and outputs:
        assert f"staging.yaml says {declared} %; a deployment moves no weight: run canary.yml" in done.stderr


def stand_in(directory: Path, cases: str) -> tuple[Path, dict[str, str], Path]:
    """A `pulumi` that answers as the shell cases of its first two words say and notes them; what :func:`run_step` takes."""
    (directory / "bin").mkdir()
    command = directory / "bin" / "pulumi"
    command.write_text(f'#!/bin/sh\necho "$*" >>{directory}/asked\ncase "$1 $2" in\n{cases}\n*) exit 9 ;;\nesac\n')
    command.chmod(0o700)
    (directory / ".venv").symlink_to(sys.prefix)
    return directory, {"PULUMI_STACK": "staging"}, directory / "bin"


def test_a_deployment_is_previewed_before_it_begins_and_prints_no_output(tmp_path: Path) -> None:
    """Fails when what is protected is refused after everything else was changed, as the action's own `up` has it."""
    assert [item["with"].get("command") for item in steps("deploy") if "pulumi/actions" in item.get("uses", "")] == [
        None
    ]
    done = run_step("deploy", "The deployment", *stand_in(tmp_path, "'up --yes') ;;"))
    assert done.returncode == 0, done.stderr
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert {"--non-interactive", "--suppress-outputs", "staging"} <= set(asked.split())
    assert "--skip-preview" not in asked


KEY = "awskms:///arn:aws:kms:ap-northeast-1:123456789012:key/1?region=ap-northeast-1"
THERE = 'echo \'[{"name": "organization/task-migration/staging"}, {"name": "staging-2"}]\' ;;'
ELSEWHERE = 'echo \'[{"name": "prod"}, {"name": "staging-2"}]\' ;;'


@pytest.mark.parametrize(
    ("stacks", "kept", "provider", "status", "made"),
    [
        (THERE, KEY, KEY, 0, False),
        (ELSEWHERE, KEY, KEY, 0, True),
        ("echo '[]' ;;", KEY, KEY, 0, True),
        (ELSEWHERE, KEY, "awskms://alias/other", 1, False),
        (ELSEWHERE, "", "", 1, False),
        ("exit 1 ;;", KEY, KEY, 1, False),
    ],
)
def test_a_first_deployment_makes_its_stack_under_the_key_of_the_files_secrets(
    tmp_path: Path, stacks: str, kept: str, provider: str, status: int, made: bool
) -> None:
    """Fails when the first deployment ends at a stack that is not there, or makes one that cannot read the file's secrets."""
    text = f"{f'secretsprovider: {kept}' if kept else ''}\r\nconfig:\r\n  a:b: c\r\n"
    (tmp_path / "Pulumi.staging.yaml").write_bytes(text.encode())
    directory, variables, path = stand_in(tmp_path, f"'stack ls') {stacks}\n'stack init') ;;")
    done = run_step("deploy", "The stack is there", directory, {**variables, "PROVIDER": provider}, path)
    assert done.returncode == status, done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[1:] == ([f"stack init staging --secrets-provider {KEY}"] if made else [])
    if kept != provider:
        assert (
            f"the environment's variable PULUMI_SECRETS_PROVIDER says '{provider}'; make them the same" in done.stderr
        )


@pytest.mark.parametrize(
    ("stacks", "refreshed", "status", "says"),
    [
        (THERE, 0, 0, ""),
        (THERE, 255, 1, "::error::staging is otherwise than deployed, or cannot be read"),
        (ELSEWHERE, 0, 0, "::notice::staging was never deployed"),
        ("exit 1 ;;", 0, 1, ""),
    ],
)
def test_drift_of_a_stack_that_is_there_fails_the_night(
    tmp_path: Path, stacks: str, refreshed: int, status: int, says: str
) -> None:
    """Fails when a rule that somebody changed by hand, or a backend that does not answer, ends in a green night."""
    cases = f"'stack ls') {stacks}\n'config get') echo the-smoke-value ;;\n'refresh --preview-only') echo it is the-smoke-value; exit {refreshed} ;;"
    done = run_step("drift", "Nothing differs from what was deployed", *stand_in(tmp_path, cases))
    assert done.returncode == status, done.stderr
    assert says in done.stdout + done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    wanted = [
        "config get task-migration:smokeHeaderValue",
        "refresh --preview-only --expect-no-changes --diff --non-interactive",
    ]
    assert asked[1:] == (wanted if stacks == THERE else [])
    if stacks == THERE:
        # The runner hides it from the first line on (GitHub, 'Workflow commands': add-mask).
        assert done.stdout.startswith("::add-mask::the-smoke-value\n")
