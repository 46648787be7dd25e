"""The engine under the rehearsal with the Pulumi CLI: the real engine, a local state, the emulated provider."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import yaml
from pulumi import automation

from components.config import PROJECT, SECRET_KEYS
from scripts.deployment.cli_deployer import CliDeployer
from scripts.deployment.pulumi_cli import LONG, Command
from scripts.deployment.stack_file import text_of
from scripts.rehearsal.engine import forked
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.plan import REGION, STACK, EngineName
from scripts.support.errors import MigrationError, Refused
from scripts.support.redact import remember_secret
from scripts.support.settings import PROJECT_ROOT

#: The directory of the CLI that `make engine` builds. It comes before an installed one.
BUILT = PROJECT_ROOT / "build" / "engine"
#: Seconds in which program and provider serve.
_SERVING = 120.0


def search_path(environment: Mapping[str, str]) -> str:
    """Where the CLI is looked for: what `make engine` built, then the PATH of ``environment``, or the process's own."""
    return os.pathsep.join([str(BUILT), environment.get("PATH", os.environ.get("PATH", ""))])


class _HostedCommand(Command):
    """The CLI with the emulated provider beside it, and the program too where the CLI came without a language host.

    Args:
        path: where it looks for one, after its own directory.
        program: the directory of the program's ``__main__.py``.
        output: a file, to which program and provider write what they say.
    """

    def __init__(
        self, executable: str, timeout: float, record: Path, *, path: str, program: Path, output: Path
    ) -> None:
        super().__init__(executable, timeout, record)
        self.program, self.output = program, output
        places = os.pathsep.join([str(Path(executable).resolve().parent), path])
        self.inline = shutil.which("pulumi-language-python", path=places) is None

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], object] | None = None,
        on_error: Callable[[str], object] | None = None,
    ) -> automation.CommandResult:
        """As :class:`Command`. Raises MigrationError too when program and provider do not serve."""
        with ExitStack() as stack:
            if not LONG.isdisjoint(args):
                environment = {**os.environ, **additional_env}
                fork = forked.telling("hosted", self.program, self.output, environment, _SERVING)
                try:
                    program, provider = stack.enter_context(fork)
                except (TimeoutError, EOFError) as error:
                    raise MigrationError(
                        f"the emulated provider did not start ({type(error).__name__}); its last words are in {self.output}"
                    ) from None
                additional_env = {**additional_env, "PULUMI_DEBUG_PROVIDERS": f"aws:{provider}"}
                args = [*args, f"--client=127.0.0.1:{program}"] if self.inline else args
            return super().run(args, cwd, additional_env, on_output, on_error)


class PulumiDeployer(CliDeployer):
    """The stack of the rehearsal on the real engine. Everything it keeps stands in ``directory``.

    Args:
        directory: made when missing: project file, stack file and state.
        config: the stack's configuration (camelCase keys without namespace).
        environment: variables on top of the process's own, above all AWS_ENDPOINT_URL and credentials.
        program: the directory of the program's ``__main__.py``.

    Raises:
        Refused: there is no CLI.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, object],
        environment: Mapping[str, str],
        *,
        program: Path = PROJECT_ROOT,
    ) -> None:
        directory = directory.absolute()
        backend = directory / "backend"
        backend.mkdir(parents=True, exist_ok=True)
        # The program runs in this very interpreter's environment.
        runtime = {"name": "python", "options": {"virtualenv": sys.prefix}}
        project = {"name": PROJECT, "runtime": runtime, "main": str(program)}
        (directory / "Pulumi.yaml").write_text(yaml.safe_dump(project), encoding="utf-8")
        stack_file = directory / f"Pulumi.{STACK}.yaml"
        self._variables = {
            **environment,
            "PATH": search_path(environment),
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_HOME": str(directory / "home"),
            # The state stands on this machine for the length of a rehearsal and holds nothing of a real account.
            "PULUMI_CONFIG_PASSPHRASE": "rehearsal",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }
        self._program = program
        fresh = not stack_file.exists()
        super().__init__(STACK, directory, self._variables, create=True)
        if fresh:
            values = {"aws:region": automation.ConfigValue(REGION)}
            for key, value in config.items():
                hidden = key in SECRET_KEYS
                values[f"{PROJECT}:{key}"] = automation.ConfigValue(text_of(value), secret=hidden)
                if hidden:
                    remember_secret(str(value))
            self._stack.set_all_config(values)

    def _cli(self, executable: str, timeout: float, record: Path) -> Command:
        path, output = self._variables["PATH"], self.directory / "program.log"
        return _HostedCommand(executable, timeout, record, path=path, program=self._program, output=output)


def make_deployer(
    engine: EngineName,
    directory: Path,
    config: Mapping[str, object],
    environment: Mapping[str, str],
    *,
    program: Path = PROJECT_ROOT,
) -> EmbeddedDeployer | PulumiDeployer:
    """The deployer of the rehearsal: with ``auto`` the real engine when there is a CLI, else the embedded one.

    Raises:
        Refused: ``pulumi`` was asked for and there is no CLI.
    """
    there = shutil.which("pulumi", path=search_path(environment)) is not None
    if engine == "pulumi" and not there:
        raise Refused(
            "--engine pulumi: there is no Pulumi CLI; build it (make engine), install it, or use --engine embedded"
        )
    if engine == "pulumi" or (engine == "auto" and there):
        return PulumiDeployer(directory / "pulumi", config, environment, program=program)
    return EmbeddedDeployer(directory / "embedded" / "state.json", config, environment, program=program)
