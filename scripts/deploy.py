"""Moving the declared infrastructure: what a deployment is, and the one that staging and production use (the Pulumi CLI)."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pulumi import automation

from components.config import PROJECT, SECRET_KEYS
from scripts.stack_file import StackFile, refuse_unknown, text_of
from scripts.support.errors import MigrationError, Refused
from scripts.support.redact import redact, remember_secret

Op = Literal["create", "update", "replace", "delete"]


@dataclass(frozen=True)
class Change:
    """One resource of a provider that a deployment changes. ``properties`` are names only, never values."""

    urn: str
    type: str
    name: str
    op: Op
    properties: tuple[str, ...]


@dataclass(frozen=True)
class PreviewResult:
    """What ``up`` would change."""

    changes: tuple[Change, ...]


@dataclass(frozen=True)
class UpResult:
    """What ``up`` changed, and the stack's outputs after it."""

    changes: tuple[Change, ...]
    outputs: dict[str, Any]


class Deployer(Protocol):
    """One stack. ``overrides`` are changes of the configuration (camelCase keys without namespace) that stay."""

    def up(self, overrides: Mapping[str, object]) -> UpResult:
        """Carry the program out with the overrides applied and kept. Raises MigrationError with the cause."""

    def preview(self, overrides: Mapping[str, object]) -> PreviewResult:
        """What ``up`` with these overrides would change; nothing is kept. Raises MigrationError with the cause."""

    def keep(self, overrides: Mapping[str, object]) -> None:
        """Write the overrides into the configuration and deploy nothing: the next ``up`` carries them out.

        Needs neither the engine nor its backend; see :class:`scripts.stack_file.StackFile` for a stack whose deployer
        cannot even be made.
        """

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs; secret ones are remembered for redaction."""

    def config(self) -> dict[str, Any]:
        """The stack's configuration with what was overridden so far; without secret keys."""

    def destroy(self) -> None:
        """Delete everything. Raises Refused while something is protected."""


class CliDeployer:
    """A stack driven by the Pulumi CLI through the Automation API.

    Args:
        stack: the stack's name; it must exist unless ``create`` is set.
        directory: where ``Pulumi.yaml`` and ``Pulumi.<stack>.yaml`` stand.
        environment: variables for the CLI on top of the process's own (backend, passphrase, credentials).
        create: make the stack when the backend does not have it.

    Raises:
        Refused: there is no CLI, or the stack does not exist.
    """

    def __init__(
        self,
        stack: str,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        *,
        create: bool = False,
        timeout: float = 3600.0,
    ) -> None:
        self.stack = stack
        self.directory = directory
        self.timeout = timeout
        self._file = StackFile(stack, directory)
        self._environment = {"PULUMI_SKIP_UPDATE_CHECK": "true", **(environment or {})}
        path = self._environment.get("PATH")
        if shutil.which("pulumi", path=path) is None:
            raise Refused(
                "the Pulumi CLI is not on PATH; install it (https://www.pulumi.com/docs/install/) and log in to the stack's backend"
            )
        options = automation.LocalWorkspaceOptions(work_dir=str(directory), env_vars=self._environment)
        make = automation.create_or_select_stack if create else automation.select_stack
        with _named(f"stack {stack}"):
            self._stack = make(stack_name=stack, work_dir=str(directory), opts=options)

    def config(self) -> dict[str, Any]:
        return self._file.config()

    def keep(self, overrides: Mapping[str, object]) -> None:
        self._file.keep(overrides)

    def up(self, overrides: Mapping[str, object]) -> UpResult:
        self._keep(overrides)
        collected = _Collected()
        with _named("pulumi up"):
            result = self._stack.up(on_event=collected.take, color="never", suppress_outputs=True)
        return UpResult(collected.changes(), _values(result.outputs))

    def preview(self, overrides: Mapping[str, object]) -> PreviewResult:
        collected = _Collected()
        with tempfile.TemporaryDirectory(prefix="task-migration-") as name, _named("pulumi preview"):
            # A copy of the stack's file, so that a preview that is killed leaves no override behind.
            file = str(self._file.copy(overrides, Path(name))) if overrides else None
            self._stack.preview(on_event=collected.take, config_file=file, color="never", suppress_outputs=True)
        return PreviewResult(collected.changes())

    def outputs(self) -> dict[str, Any]:
        with _named("pulumi stack output"):
            found = self._stack.outputs()
        return _values(found)

    def destroy(self) -> None:
        # Asked before: the engine deletes what it can before it comes to a protected resource and stops.
        with _named("pulumi stack export"):
            resources = (self._stack.export_stack().deployment or {}).get("resources", [])
        protected = sorted(item["urn"].rpartition("::")[2] for item in resources if item.get("protect"))
        if protected:
            raise Refused(f"{', '.join(protected)}: protected; take protect=True away and run `up` before deleting")
        with _named("pulumi destroy"):
            self._stack.destroy(color="never", suppress_outputs=True)

    def cancel(self) -> None:
        """Take away the lock that a killed operation left. Raises MigrationError with the cause."""
        with _named("pulumi cancel"):
            self._stack.cancel()

    def _keep(self, overrides: Mapping[str, object]) -> None:
        refuse_unknown(overrides)
        hidden = {
            f"{PROJECT}:{key}": automation.ConfigValue(text_of(value), secret=True)
            for key, value in overrides.items()
            if key in SECRET_KEYS
        }
        if hidden:
            with _named("pulumi config set"):
                self._stack.set_all_config(hidden)
        self._file.keep({key: value for key, value in overrides.items() if key not in SECRET_KEYS})


def _values(outputs: Mapping[str, automation.OutputValue]) -> dict[str, Any]:
    """The values of outputs; secret texts are remembered, so that nothing prints them."""
    for output in outputs.values():
        if output.secret and isinstance(output.value, str):
            remember_secret(output.value)
    return {key: output.value for key, output in outputs.items()}


class _Collected:
    """The changes among the engine's events; components and providers are no changes of their own."""

    _OPS: Mapping[str, Op] = {"create": "create", "update": "update", "replace": "replace", "delete": "delete"}

    def __init__(self) -> None:
        self._changes: dict[tuple[str, str], Change] = {}

    def take(self, event: automation.EngineEvent) -> None:
        """Look at one event."""
        if event.resource_pre_event is None:
            return
        step = event.resource_pre_event.metadata
        op = self._OPS.get(str(getattr(step.op, "value", step.op)))
        state = step.new or step.old
        if op is None or state is None or not state.custom or step.type.startswith("pulumi:providers:"):
            return
        names: set[str] = set(step.diffs or [])
        names |= {path.replace("[", ".").partition(".")[0] for path in step.detailed_diff or {}}
        if op == "create":
            names = set(state.inputs or {}) - {"__defaults"}
        name = step.urn.rpartition("::")[2]
        self._changes[step.urn, op] = Change(step.urn, step.type, name, op, tuple(sorted(names)))

    def changes(self) -> tuple[Change, ...]:
        """All changes, in the engine's order."""
        return tuple(self._changes.values())


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn the CLI's failures inside into errors that give the cause and the remedy."""
    try:
        yield
    except automation.ConcurrentUpdateError as error:
        raise Refused(
            f"{what}: the stack is locked by another update; wait for it, or, when it was killed, run `pulumi cancel`: "
            f"{_cause(error)}"
        ) from None
    except automation.StackNotFoundError as error:
        raise Refused(f"{what} does not exist; make it with `pulumi stack init`: {_cause(error)}") from None
    except automation.CommandError as error:
        raise MigrationError(f"{what} failed: {_cause(error)}") from None
    except automation.InvalidVersionError as error:
        raise Refused(f"{what}: the Pulumi CLI is too old: {error}") from None


def _cause(error: Exception) -> str:
    """What the CLI's message says under 'Diagnostics' (resource and cause), else its lines that name an error."""
    text = str(error)
    _, found, diagnostics = text.rpartition("\nDiagnostics:\n")
    if found:
        text = re.split(r"\n(?:Outputs|Resources|Duration|Policies):", diagnostics)[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not re.fullmatch(r"error: (update|preview) failed", line)]
    telling = lines if found else [line for line in lines if "error:" in line.lower()] or lines
    return redact(" | ".join(telling[:20]))
