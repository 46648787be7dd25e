"""Secrets of a stack's file: only Pulumi's CLI encrypts them, so without it nothing is written."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path

import yaml
from pulumi import automation

from components.config import PROJECT
from scripts.deployment.errors import CannotDeploy
from scripts.deployment.pulumi_cli import QUICK, Command, named
from scripts.deployment.stack_file import read, replaced, write
from scripts.support.errors import Refused
from scripts.support.redact import remember_secret

KEY = f"{PROJECT}:smokeHeaderValue"
#: How a person does it.
SMOKE = 'pulumi config set --secret smokeHeaderValue "$(openssl rand -hex 24)" --stack {stack}'
#: What the CLI keeps in the file beside the configuration.
_OWN = ("secretsprovider", "encryptedkey", "encryptionsalt")


def encrypt_new(stack: str, file: Path, provider: str | None) -> None:
    """Put a new smoke header's value into ``file``, encrypted; a stack that is not there yet is made with ``provider``.

    The value reaches the CLI by its standard input, and the file by a copy: what the CLI writes anew is its own, not the comments.

    Raises:
        CannotDeploy: there is no CLI, or its backend does not answer.
        Refused: the stack is not there, and no provider is named.
        MigrationError: the CLI's own cause.
    """
    executable = shutil.which("pulumi")
    if executable is None:
        raise CannotDeploy("the Pulumi CLI is not on PATH, and nothing else encrypts a secret; install it", "cli")
    with tempfile.TemporaryDirectory(prefix="task-migration-") as name:
        work = Path(name)
        shutil.copy2(file.parent / "Pulumi.yaml", work)
        shutil.copy2(file, work)

        def pulumi(*words: str, said: str = "") -> None:
            command.said = said
            command.run(list(words), str(work), {"PULUMI_SKIP_UPDATE_CHECK": "true"})

        with named(f"stack {stack}", "that `pulumi login` chose"):
            command = Command(executable, QUICK, work / "process.json")
            try:
                pulumi("config", "--stack", stack)
            except automation.StackNotFoundError:
                if provider is None:
                    raise Refused(
                        f"the stack {stack} is not there yet, and --secrets-provider does not say by which key it encrypts; give it, such "
                        "as awskms:///KEY-ARN?region=REGION (docs/bootstrap.md)"
                    ) from None
                pulumi("stack", "init", stack, "--secrets-provider", provider)
            value = secrets.token_hex(24)
            remember_secret(value)
            pulumi("config", "set", "--secret", KEY, "--stack", stack, said=value)
        _take(file, (work / file.name).read_text(encoding="utf-8"))


def _take(file: Path, written: str) -> None:
    """Bring what the CLI wrote into the file, whose every other character stays."""
    made = yaml.safe_load(written)
    text = replaced(read(file), KEY, made["config"][KEY])
    for key in reversed(_OWN):
        if key in made:
            text = replaced(text, key, made[key], within=None)
    write(file, text)
