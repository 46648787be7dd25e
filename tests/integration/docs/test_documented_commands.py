"""Every command of README and docs/ is carried out with its very words; what the runbook says is seen is then seen."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.config import PROJECT
from components.config_values import migration_config, read_stack_file
from scripts import __main__ as command_line
from scripts.copy import run as copy
from scripts.deployment.stack_file import StackFile
from scripts.finish import finalize
from scripts.rehearsal.engine.pulumi_cli import make_deployer, search_path
from scripts.rehearsal.gateway.routes import BALANCER
from scripts.rehearsal.plan import STACK, Plan
from scripts.rehearsal.stage import running_rehearsal
from scripts.rehearsal.testbed import Testbed as Bed
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import Refused
from tests import aws_cli
from tests.conftest import Pair
from tests.integration.docs.night import NIGHT, STATEMENTS
from tests.integration.roles import OPERATOR, Cast
from tests.integration.test_chain import MakePair
from tests.unit.docs.documented import DOCS, FENCE, PAGES, SPAN, commands
from tests.unit.docs.test_runbook import steps

#: Users whose answers `shadow` compares at its ten requests a second.
SHADOWED = 2


class Shell:
    """An operator's shell in the rehearsal's folder: its variables, what stands for the documents' placeholders, and what was said."""

    def __init__(self, bed: Bed, patch: pytest.MonkeyPatch) -> None:
        self.bed, self._patch = bed, patch
        self.said: dict[str, str] = defaultdict(str)
        patch.chdir(bed.directory)
        for name, value in bed.environment().items():
            patch.setenv(name, value)
        patch.setenv("TARGET_MASTER_DATABASE_URL", bed.by_groups("target", bed.databases.master_url))
        for stack in ("staging", "prod"):
            shutil.copyfile(bed.stack_file, bed.directory / f"Pulumi.{stack}.yaml")
        for name, file in zip(
            ("user-1.jwt", "user-2.jwt", "expired.jwt", "other-pool.jwt"),
            (*bed.token_files, *bed.refused_files),
            strict=True,
        ):
            shutil.copyfile(file, bed.directory / name)
        tokens = bed.users_file.read_text().splitlines()
        (bed.directory / "users.jwt").write_text("\n".join(tokens[:SHADOWED]))
        member, stranger = (str(user) for user in bed.neighbours().values())
        self.given = {
            "<apiEndpoint>": bed.gateway,
            "https://<listenerServerName>": bed.gateway + BALANCER,
            "<another user of user 1's group>": member,
            "<a user of another group>": stranger,
            "<backupBucket>": bed.bucket,
            "$(date +%F)": datetime.now(UTC).date().isoformat(),
            "[--database NAME]": "--database restored",
            "[--sha256 HEX]": "--sha256 <sha>",
            "BUCKET": "pulumi-state",
            "KEY-ARN": f"arn:aws:kms:{bed.aws.region}:123456789012:key/1",
        }

    def run(self, line: str, capfd: pytest.CaptureFixture[str]) -> int:
        """One line as it stands in the documents; its exit status."""
        program, *words = shlex.split(self._filled(line))
        if program == "export":
            return self._export(words[0])
        if program == "pulumi":
            return self._up()
        if program == "aws":
            return self._asked(line)
        capfd.readouterr()
        self._patch.setattr(sys, "argv", [program, *words])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        told = capfd.readouterr()
        said = " ".join((told.out + told.err).split())
        self.said[line] += said + " "
        self._learn(line)
        return int(ended.value.code or 0)

    def _filled(self, line: str) -> str:
        for written, value in self.given.items():
            line = line.replace(written, value)
        return line

    def _export(self, word: str) -> int:
        name, _, value = word.partition("=")
        if name == "RESTORE_DATABASE_URL":
            self.bed.databases.target.execute("CREATE DATABASE restored")
            value = self.bed.databases.master_url
        self._patch.setenv(name, value)
        return 0

    def _up(self) -> int:
        """As `serviceEnabled: true` and `pulumi up` do after the service was stopped."""
        made = running_rehearsal()
        enabled = {"serviceEnabled": True}
        for stack in (STACK, "prod"):
            StackFile(stack, self.bed.directory).keep(enabled)
        make_deployer(made["engine"], Path(made["engine_dir"]), made["config"], self.bed.aws.environment()).up(enabled)
        return 0

    def _asked(self, line: str) -> int:
        """By /bin/sh, with tests/aws_cli.py for the AWS CLI."""
        account = self.bed.aws
        with aws_cli.installed(self.bed.directory / "programs", lambda service, _: account.client(service)) as programs:
            variables = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "AWS_REGION": account.region}
            done = subprocess.run(
                ["sh", "-c", line], env=variables, capture_output=True, text=True, check=False, timeout=60
            )
        self.said[line] += done.stdout + done.stderr
        return done.returncode

    def _learn(self, line: str) -> None:
        """What later lines need of what this one has left or said."""
        if line.endswith("role --operator"):
            answer = self.bed.aws.client("secretsmanager").get_secret_value(SecretId="task-service/operator")
            self.bed.databases.know_operator(json.loads(answer["SecretString"])["password"])
            self._patch.setenv("TARGET_DATABASE_URL", self.bed.environment()["TARGET_DATABASE_URL"])
        if line.startswith("task-migration backup --output"):
            manifest = re.search(r"task-migration backup restore (\S+)", self.said[line])
            digest = re.search(r"SHA-256 ([0-9a-f]{64})", self.said[line])
            assert manifest
            assert digest
            self.given |= {"<manifest>": manifest[1], "<sha>": digest[1]}


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Two servers, the emulated account with the program deployed at weight 0, both applications, a few users at work."""
    plan = Plan(
        rows=60, users=5, rate=10.0, watch=3.0, seed=1, engine="embedded", output=tmp_path / "night", drill=True
    )  # fmt: skip
    with Bed(plan) as bed:
        bed.prepare(lambda text: None)
        bed.start_load()
        yield Shell(bed, monkeypatch)


#: Of a step's `See`: what the program prints there. Not what it must not print, nor keys of the stack's file.
KEY = re.compile(r"[a-z]+[A-Z]\w*:? ?\S*")


def seen(step: str) -> list[re.Pattern[str]]:
    """What a step says is printed; its figures stand for any."""
    (see,) = re.findall(r"^- \*\*See\*\*: (.*)$", step, re.M)
    texts = [text for text in SPAN.findall(see) if " " in text and not KEY.fullmatch(text)]
    found = []
    for text in texts:
        pattern = re.sub(r"\d[\d,.]*\d|\d", r"[\\d,.]+", re.escape(text).replace(r"\.\.\.", ".*?"))
        found.append(re.compile(pattern))
    return found


@pytest.mark.timeout(900)
def test_the_documented_commands_end_as_documented_and_print_what_the_runbook_shows(
    shell: Shell, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a line that nobody could type as it stands, a status that is another one, and a text that is not printed any more."""
    for line, expected in NIGHT:
        status = shell.run(line, capfd)
        assert status == expected, (line, shell.said[line][-3000:])
    missing = []
    for name, step in steps((DOCS / "runbook.md").read_text(encoding="utf-8")).items():
        # A step's own commands stand in its block; what `Undo` and `If not` name is another step's.
        typed = commands("\n".join(block[0] for block in FENCE.finditer(step)))
        if typed and all(line in shell.said for line in typed):
            printed = " ".join(shell.said[line] for line in typed)
            missing += [f"{name}: {text.pattern}" for text in seen(step) if not text.search(printed)]
    assert missing == []
    images = shell.bed.aws.client("ecr").list_images(repositoryName="myteacher-task-service")["imageIds"]
    assert images == [], "the repository is empty, as `pulumi destroy` wants it"


def test_documented_sql_is_taken_from_the_role_that_it_is_meant_for(make_pair: MakePair) -> None:
    """Prevents SQL that a server refuses, or that only a superuser may run, in the hands of an operator who is none."""
    pair = make_pair(rows=20, subscription="task_service_sub", publication="task_service_pub")
    roles = ("op", "task_replication", "task_operator", "rds_replication", "rds_superuser")
    cast = Cast(pair)
    schema.apply(cast.settings)
    copy.run(cast.settings)
    replicate.start(cast.settings)
    with cast.session("source", OPERATOR) as operator:
        for statement in STATEMENTS["operator"]:
            operator.execute(statement.replace("...", "tasks").encode())
    # A way back that was cut on a clone is one that does not run, and nothing else.
    with pytest.raises(Refused, match="replicate"):
        finalize.run(cast.settings)
    try:
        for role in roles:
            pair.source.execute(f"CREATE ROLE {role}".encode())
        with pair.source.transaction(force_rollback=True):
            for statement in STATEMENTS["master"]:
                pair.source.execute(_on(pair, statement).encode())
    finally:
        for role in roles:
            pair.source.execute(f"DROP ROLE IF EXISTS {role}".encode())


def _on(pair: Pair, statement: str) -> str:
    name = pair.source.info.dbname.replace('"', '""')
    return statement.replace("<database>", f'"{name}"').replace("...", "tasks")


@pytest.mark.engine
def test_documented_pulumi_commands_are_the_clis_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an option that Pulumi's CLI does not have, and a key that the program does not read as it was set."""
    lines = sorted({line for page in PAGES for line in commands(page.read_text("utf-8")) if line.startswith("pulumi ")})
    cli = shutil.which("pulumi", path=search_path({}))
    (tmp_path / "backend").mkdir()
    (tmp_path / "Pulumi.yaml").write_text(f"name: {PROJECT}\nruntime: python\n")
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("PULUMI_BACKEND_URL", f"file://{tmp_path / 'backend'}"),
        ("PULUMI_CONFIG_PASSPHRASE", "made up"),
        ("PULUMI_SKIP_UPDATE_CHECK", "true"),
        ("PULUMI_HOME", str(tmp_path / "home")),
    ):
        monkeypatch.setenv(name, value)

    def pulumi(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(cli), *words], capture_output=True, text=True, check=False, timeout=120)

    assert pulumi("stack", "init", "staging").returncode == 0
    assert pulumi("up", "--no-such-option", "--help").returncode != 0
    read = dict[str, object]()
    for line in lines:
        _, *words = shlex.split(line)
        done = pulumi(*words, "--help")
        assert done.returncode == 0, (line, done.stderr)
        if words[0] == "config" and len(words) > 2:
            done = pulumi(*words)
            assert done.returncode == 0, (line, done.stderr)
            file = tmp_path / "Pulumi.staging.yaml"
            read |= read_stack_file(file) if file.exists() else {}
    assert {key: read[key] for key in ("import", "replicationEngine")} == {
        "import": {"backups-bucket": "myteacher-backups"},
        "replicationEngine": "none",
    }
    assert migration_config(read, "Pulumi.staging.yaml").replication_engine == "none"
    assert str(read["protected"]) in ("true", "True")
