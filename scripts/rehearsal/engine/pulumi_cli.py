"""The engine under the rehearsal with the Pulumi CLI: the real engine, a local state, the emulated provider as plugin."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml
from pulumi import automation

from components.config import PROJECT, SECRET_KEYS
from scripts.deployment.cli_deployer import CliDeployer
from scripts.deployment.stack_file import text_of
from scripts.rehearsal.emulated import registry
from scripts.rehearsal.emulated.core import Aws
from scripts.rehearsal.emulated.plugin import write_launcher
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.plan import EngineName
from scripts.support.errors import Refused
from scripts.support.redact import remember_secret
from scripts.support.settings import PROJECT_ROOT


class PulumiDeployer(CliDeployer):
    """The stack of the rehearsal on the real engine. Everything it keeps stands in ``directory``.

    Args:
        directory: made when missing: project file, stack file, state and the plugin's launcher.
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
        stack: str = "rehearsal",
        region: str = "ap-northeast-1",
        program: Path = PROJECT_ROOT,
    ) -> None:
        directory = directory.absolute()
        backend = directory / "backend"
        backend.mkdir(parents=True, exist_ok=True)
        launcher = write_launcher(directory / "bin")
        # The program runs in this very interpreter's environment.
        runtime = {"name": "python", "options": {"virtualenv": sys.prefix}}
        project = {"name": PROJECT, "runtime": runtime, "main": str(program)}
        (directory / "Pulumi.yaml").write_text(yaml.safe_dump(project), encoding="utf-8")
        stack_file = directory / f"Pulumi.{stack}.yaml"
        path = os.pathsep.join([str(launcher.parent), environment.get("PATH", os.environ.get("PATH", ""))])
        self._variables = {
            **environment,
            "PATH": path,
            "PULUMI_BACKEND_URL": f"file://{backend}",
            "PULUMI_HOME": str(directory / "home"),
            # The state stands on this machine for the length of a rehearsal and holds nothing of a real account.
            "PULUMI_CONFIG_PASSPHRASE": "rehearsal",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }
        self._region = region
        fresh = not stack_file.exists()
        super().__init__(stack, directory, self._variables, create=True)
        if fresh:
            values = {"aws:region": automation.ConfigValue(region)}
            for key, value in config.items():
                hidden = key in SECRET_KEYS
                values[f"{PROJECT}:{key}"] = automation.ConfigValue(text_of(value), secret=hidden)
                if hidden:
                    remember_secret(str(value))
            self._stack.set_all_config(values)

    def destroy(self, *, force_unprotect: bool = False) -> None:
        """Delete everything; ``force_unprotect`` takes protection and RDS's deletion protection off first."""
        if force_unprotect:
            self._unprotect()
        super().destroy()

    def _unprotect(self) -> None:
        deployment = self._stack.export_stack()
        aws = Aws(self._region, self._variables)
        for resource in (deployment.deployment or {}).get("resources", []):
            resource["protect"] = False
            inputs = resource.get("inputs") or {}
            if resource["type"] in registry.KINDS and inputs.get("deletionProtection"):
                wanted = {**inputs, "deletionProtection": False}
                registry.update(aws, resource["type"], resource["id"], inputs, wanted)
                resource["inputs"] = wanted
        self._stack.import_stack(deployment)


def make_deployer(
    engine: EngineName,
    directory: Path,
    config: Mapping[str, object],
    environment: Mapping[str, str],
    *,
    program: Path = PROJECT_ROOT,
) -> EmbeddedDeployer | PulumiDeployer:
    """The deployer of the rehearsal: with ``auto`` the real engine when `pulumi` is on PATH, else the embedded one.

    Raises:
        Refused: ``pulumi`` was asked for and there is no CLI.
    """
    path = environment.get("PATH", os.environ.get("PATH"))
    there = shutil.which("pulumi", path=path) is not None
    if engine == "pulumi" and not there:
        raise Refused("--engine pulumi: the Pulumi CLI is not on PATH; install it, or use --engine embedded")
    if engine == "pulumi" or (engine == "auto" and there):
        return PulumiDeployer(directory / "pulumi", config, environment, program=program)
    return EmbeddedDeployer(directory / "embedded" / "state.json", config, environment, program=program)
