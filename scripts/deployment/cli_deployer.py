"""The deployment that staging and production use: the Pulumi CLI through the Automation API."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, get_args

from pulumi import automation

from scripts.deployment.deployer import WEIGHT, Change, Op, UpResult, not_deployed, recurring
from scripts.deployment.errors import AT_ONCE, CannotDeploy, Killed
from scripts.deployment.pulumi_cli import Command, Run, left_behind, named
from scripts.deployment.stack_file import Edit, StackFile, text_of
from scripts.support.console import say
from scripts.support.errors import MigrationError
from scripts.support.outputs import Outputs
from scripts.support.process import is_alive
from scripts.support.redact import remember_secret

T = TypeVar("T")


class CliDeployer:
    """A stack driven by the Pulumi CLI through the Automation API.

    Args:
        stack: the stack's name; it must exist unless ``create`` is set.
        directory: where ``Pulumi.yaml`` and ``Pulumi.<stack>.yaml`` stand.
        environment: variables for the CLI on top of the process's own (backend, passphrase, credentials).
        create: make the stack when the backend does not have it.
        timeout: seconds that one operation may take; an RDS instance takes up to an hour to be made.

    Raises:
        CannotDeploy: there is no CLI, or the backend does not answer.
        Refused: the stack does not exist.
        TimedOut: the backend did not answer in time.
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
        self._file = StackFile(stack, directory)
        self._environment = {"PULUMI_SKIP_UPDATE_CHECK": "true", **(environment or {})}
        path = self._environment.get("PATH", os.environ.get("PATH", ""))
        executable = shutil.which("pulumi", path=path)
        if executable is None:
            raise CannotDeploy(
                f"the Pulumi CLI is not on PATH ({path}); install it (https://www.pulumi.com/docs/install/) and log in to the stack's "
                f"backend; {AT_ONCE}",
                "cli",
            )
        with self._named("pulumi version"):
            self._command = self._cli(executable, timeout, directory / ".task-migration" / f"pulumi-{stack}.json")
        options = automation.LocalWorkspaceOptions(
            work_dir=str(directory), env_vars=self._environment, pulumi_command=self._command
        )
        make = automation.create_or_select_stack if create else automation.select_stack
        with self._named(f"stack {stack}"):
            self._stack = make(stack_name=stack, work_dir=str(directory), opts=options)

    def _cli(self, executable: str, timeout: float, record: Path) -> Command:
        return Command(executable, timeout, record)

    def config(self) -> dict[str, Any]:
        return self._file.config()

    def keep(self, overrides: Mapping[str, object]) -> None:
        self._file.keep(overrides)

    def up(self, overrides: Mapping[str, object], only: str | None = None) -> UpResult:
        """As :class:`Deployer`; when it fails before it changed anything, the overrides are taken back.

        A lower weight stays all the same: whoever leaves the Task Service is not to be sent back by the next ``up``.

        Raises:
            CannotDeploy: the stack is locked or the backend away; nothing was changed, and the configuration says so.
            TimedOut, MigrationError: with the cause, and with what the configuration says now.
        """
        edit = self._file.keep(overrides)
        collected = _Collected()
        try:
            state = self._state()
            self._recover(_pending(state))
            if only is None and any(item.get("protect") for item in state.get("resources") or []):
                self.preview({})  # `up` itself refuses what is protected after everything else was changed
            target = _target(state, only)
            result = self._operate(
                "pulumi up",
                lambda: self._stack.up(target=target, on_event=collected.take, color="never", suppress_outputs=True),
            )
        except BaseException as error:
            more = _after_failure(error, edit, overrides, collected.changes())
            if more and isinstance(error, MigrationError):
                error.args = (f"{error}; {more}",)
            raise
        return UpResult(collected.changes(), _values(result.outputs))

    def preview(self, overrides: Mapping[str, object], only: str | None = None) -> tuple[Change, ...]:
        collected = _Collected()
        target = _target(self._state(), only) if only else None
        with tempfile.TemporaryDirectory(prefix="task-migration-") as name, self._named("pulumi preview"):
            # A copy of the stack's file, so that a preview that is killed leaves no override behind.
            file = str(self._file.copy(overrides, Path(name))) if overrides else None
            self._stack.preview(
                target=target, on_event=collected.take, config_file=file, color="never", suppress_outputs=True
            )
        return collected.changes()

    def outputs(self) -> dict[str, Any]:
        with self._named("pulumi stack output"):
            found = self._stack.outputs()
        return _values(found)

    def cancel(self) -> None:
        """Take away the lock that a killed operation left. Raises MigrationError with the cause."""
        with self._named("pulumi cancel"):
            self._stack.cancel()

    def _state(self) -> dict[str, Any]:
        with self._named("pulumi stack export"):
            return dict(self._stack.export_stack().deployment or {})

    def _recover(self, cut: Mapping[str, str]) -> None:
        """Learn what became of operations that were cut, since an ``up`` compares with the state alone.

        Raises:
            CannotDeploy: something was being created: only AWS knows whether it stands, and a second one might be made.
        """
        created = [urn for urn, kind in cut.items() if kind == "creating"]
        if created:
            raise CannotDeploy(
                f"an operation was killed while it created {', '.join(created)}: the state cannot say whether it stands, and a second one "
                "might be made. Look in AWS and delete it there if it stands: it is new and empty. Then take the lock and the note away "
                f"(pulumi cancel; pulumi refresh --yes --clear-pending-creates) and run the command again; {AT_ONCE}",
                "cut",
            )
        if cut:
            names = ", ".join(urn.rpartition("::")[2] for urn in cut)
            say(f"an operation was killed while it changed {names}; it is read anew before anything else", "yellow")
            self._operate(
                "pulumi refresh",
                lambda: self._stack.refresh(target=list(cut), color="never", suppress_outputs=True),
            )

    def _named(self, what: str) -> AbstractContextManager[None]:
        backend = self._environment.get("PULUMI_BACKEND_URL") or os.environ.get("PULUMI_BACKEND_URL")
        return named(what, backend or "that `pulumi login` chose")

    def _operate(self, what: str, action: Callable[[], T]) -> T:
        """Do it; a lock that an operation of this machine left when it was killed is taken away first."""
        begun = self._command.begun()
        try:
            with self._named(what):
                return action()
        except CannotDeploy as error:
            if error.why != "locked" or not left_behind(error.locks, begun, Run.of(os.getpid()), is_alive):
                raise
        say(f"{what}: the lock was left by a run of this machine that was killed; it is taken away", "yellow")
        self.cancel()
        with self._named(what):
            return action()


def _pending(state: Mapping[str, Any]) -> dict[str, str]:
    found = state.get("pending_operations") or []
    return {str(item["resource"]["urn"]): str(item["type"]) for item in found}


def _target(state: Mapping[str, Any], only: str | None) -> list[str] | None:
    """The URNs that ``--target`` takes. A pattern would do without the state, but one that meets nothing changes nothing and
    is no error (pulumi/pkg, resource/deploy/deployment_executor.go, `checkTargets` looks at literal ones)."""
    if only is None:
        return None
    found = [str(item["urn"]) for item in state.get("resources") or [] if item["urn"].rpartition("::")[2] == only]
    if not found:
        raise not_deployed(only)
    return found


def _after_failure(
    error: BaseException, edit: Edit, overrides: Mapping[str, object], changes: tuple[Change, ...]
) -> str | None:
    """After a failed ``up``: the configuration as it was when nothing was changed, else kept; what is so, in words."""
    if edit.before == edit.after:
        return None
    keys = ", ".join(f"{key} {text_of(value)}" for key, value in overrides.items())
    if changes or isinstance(error, Killed):
        begun = ", ".join(change.name for change in changes) or "something, perhaps"
        return (
            f"{keys} is kept in {edit.path.name}, since {begun} was being changed: run the command again to finish it"
        )
    if edit.lowers(WEIGHT):
        return (
            f"nothing was changed; {keys} is kept in {edit.path.name}, since a way back is not undone: the load balancer still has the old "
            "weight until the next `up`"
        )
    if edit.undo():
        return f"nothing was changed, and {edit.path.name} is as it was before {keys}"
    return f"nothing was changed, but somebody else changed {edit.path.name}: look whether {keys} is meant"


def _values(outputs: Mapping[str, automation.OutputValue]) -> Outputs:
    """The values of outputs; secret texts are remembered, so that nothing prints them."""
    for output in outputs.values():
        if output.secret and isinstance(output.value, str):
            remember_secret(output.value)
    return Outputs({key: output.value for key, output in outputs.items()})


class _Collected:
    """The changes among the engine's events; components and providers are no changes of their own."""

    _OPS: Mapping[str, Op] = {op: op for op in get_args(Op)}

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
        same = recurring(names, _readable(step.old), _readable(step.new)) if step.old and step.new else ()
        self._changes.setdefault((step.urn, op), Change(step.urn, step.type, name, op, tuple(sorted(names)), same))

    def changes(self) -> tuple[Change, ...]:
        """All changes, in the engine's order."""
        return tuple(self._changes.values())


def _readable(state: automation.StepEventStateMetadata) -> dict[str, Any]:
    """The inputs; each one that has a secret, which the event hides, is unlike any other."""
    inputs = state.inputs or {}
    return {key: object() if "[secret]" in json.dumps(value) else value for key, value in inputs.items()}
