"""What a command runs with: the stack's configuration, the two database URLs, the state directory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from components.config import ConfigError, MigrationConfig
from components.config_stack import StackConfig
from components.config_values import migration_config, parse, read_stack_file
from scripts.support.errors import UsageError
from scripts.support.journal import FileJournal, Journal
from scripts.support.redact import remember_secret
from scripts.support.sides import Side

PROJECT_ROOT = Path(__file__).resolve().parents[2]
#: Names what makes the stage of canary commands (``module:function``) where no deployed stack is one; a rehearsal sets it.
STAGE_VARIABLE = "TASK_MIGRATION_STAGE"


class Environment(BaseSettings):
    """Environment variables that the commands read."""

    #: What is set to nothing is not set: an empty state directory would be the working directory.
    model_config = SettingsConfigDict(extra="ignore", case_sensitive=True, env_ignore_empty=True)

    source_database_url: SecretStr | None = Field(None, alias="SOURCE_DATABASE_URL")
    target_database_url: SecretStr | None = Field(None, alias="TARGET_DATABASE_URL")
    target_role_password: SecretStr | None = Field(None, alias="TARGET_ROLE_PASSWORD")
    target_master_database_url: SecretStr | None = Field(None, alias="TARGET_MASTER_DATABASE_URL")
    restore_database_url: SecretStr | None = Field(None, alias="RESTORE_DATABASE_URL")
    scratch_database_url: SecretStr | None = Field(None, alias="SCRATCH_DATABASE_URL")
    pulumi_stack: str | None = Field(None, alias="PULUMI_STACK")
    state_dir: str = Field(".task-migration", alias="TASK_MIGRATION_STATE_DIR")
    stage: str | None = Field(None, alias=STAGE_VARIABLE)
    #: GitHub, 'Workflow commands', 'Adding a job summary': the file of the step that runs.
    job_summary: str | None = Field(None, alias="GITHUB_STEP_SUMMARY")


@dataclass(frozen=True)
class Settings:
    """One command's settings. The URLs are secret: pass them to ``postgres.connect`` only."""

    config: MigrationConfig
    stack: str | None
    source_url: SecretStr | None
    target_url: SecretStr | None
    state_dir: Path | str
    #: ``module:function`` that makes the stage instead of a deployed stack; None on a real account.
    stage: str | None = None
    #: File that notices are written into as well, as GitHub names one to each step of a job.
    job_summary: str | None = None
    #: Gives a side's URL from a deployed stack by name; None where both have to be in the environment.
    deployed_url: Callable[[str, Side], str] | None = None

    @property
    def has_load_balancer(self) -> bool:
        """Whether requests go through a load balancer of this migration: a stack is selected, or stands in."""
        return self.stack is not None or self.stage is not None

    @property
    def journal(self) -> Journal:
        """The journal in the state directory, which may be ``s3://bucket/prefix``."""
        return open_journal(str(self.state_dir))

    def source(self) -> str:
        """The source's connection string. Raises UsageError when nothing gives it; what reading a stack's outputs raises."""
        return self._url(self.source_url, "source")

    def target(self) -> str:
        """The target's connection string. Raises UsageError when nothing gives it; what reading a stack's outputs raises."""
        return self._url(self.target_url, "target")

    def url(self, side: Side) -> str:
        """A side's connection string; raises as :meth:`source`."""
        return self.source() if side == "source" else self.target()

    def _url(self, url: SecretStr | None, side: Side) -> str:
        if url is not None:
            return url.get_secret_value()
        name = f"{side.upper()}_DATABASE_URL"
        if self.stack is None or self.deployed_url is None:
            raise UsageError(
                f"{name} is not set and no stack is selected; export {name}=postgresql://..., or name a deployed stack with --stack"
            )
        return self.deployed_url(self.stack, side)


def open_journal(location: str) -> Journal:
    """The journal at a folder's path or at ``s3://bucket/prefix``. Raises UsageError for another URL."""
    if "://" not in location:
        return FileJournal(Path(location))
    from scripts.support.journal_s3 import open_s3_journal  # boto3 is there only for those who need it

    return open_s3_journal(location)


def stack_file(stack: str) -> Path:
    """Where the stack's configuration stands: the working directory's file, else the project's.

    Raises UsageError for what is no stack's name (Pulumi, 'Stacks', 'Create a stack').
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", stack):
        raise UsageError(
            f"{stack!r} is no stack's name; limit: 1 to 100 of A-Z, a-z, 0-9, dot, hyphen and underscore. Give what stands in Pulumi.<stack>.yaml"
        )
    name = f"Pulumi.{stack}.yaml"
    here = Path.cwd() / name
    return here if here.exists() else PROJECT_ROOT / name


def stack_config(stack: str | None) -> StackConfig:
    """The whole configuration in a stack's file: ``stack``, else ``PULUMI_STACK``. Nothing has to be deployed.

    Raises:
        UsageError: no stack is selected, or its file is missing or not usable.
    """
    name = Environment().pulumi_stack if stack is None else stack
    if name is None:
        raise UsageError("no stack is selected; give --stack, or export PULUMI_STACK")
    path = stack_file(name)
    try:
        return parse(StackConfig, read_stack_file(path), path.name)
    except ConfigError as error:
        raise UsageError(str(error)) from None


def load_settings(stack: str | None = None, deployed_url: Callable[[str, Side], str] | None = None) -> Settings:
    """Settings from ``--stack``, else ``PULUMI_STACK``, else the defaults; URLs from the environment, else ``deployed_url``.

    Raises:
        UsageError: the stack's name or file is missing or not usable.
    """
    environment = Environment()
    # An empty --stack is that of a variable that a script forgot to set: never the defaults.
    stack = environment.pulumi_stack if stack is None else stack
    try:
        if stack is not None:
            path = stack_file(stack)
            config = migration_config(read_stack_file(path), str(path.name))
        else:
            config = MigrationConfig()
    except ConfigError as error:
        raise UsageError(str(error)) from None
    for url in (environment.source_database_url, environment.target_database_url):
        remember_secret(url.get_secret_value() if url else None)
    return Settings(
        config=config,
        stack=stack,
        source_url=environment.source_database_url,
        target_url=environment.target_database_url,
        state_dir=environment.state_dir,
        stage=environment.stage,
        job_summary=environment.job_summary,
        deployed_url=deployed_url,
    )
