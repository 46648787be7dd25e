"""The engine under the rehearsal without the Pulumi CLI: the same program, run against the emulated provider."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.config import SECRET_KEYS
from components.config_values import typed
from scripts.deployment.deployer import WEIGHT, Change, UpResult
from scripts.deployment.stack_file import refuse_unknown
from scripts.rehearsal.emulated.properties import plain
from scripts.rehearsal.engine import forked
from scripts.rehearsal.engine.state import Answer, Kind, Request, State, locked
from scripts.support.errors import MigrationError, TimedOut
from scripts.support.outputs import Outputs
from scripts.support.redact import redact, remember_secret
from scripts.support.settings import PROJECT_ROOT


class EmbeddedDeployer:
    """A stack of the embedded engine. Each operation runs the program in a process of its own.

    Args:
        state: the state file; its directory is made. Only its owner may read it.
        config: the stack's configuration (camelCase keys without namespace); ``smokeHeaderValue`` is treated as secret.
        environment: variables on top of the process's own, above all AWS_ENDPOINT_URL and credentials.
        program: the directory of the program's ``__main__.py``.
        timeout: seconds that one operation may take.
    """

    def __init__(
        self,
        state: Path,
        config: Mapping[str, object],
        environment: Mapping[str, str],
        *,
        program: Path = PROJECT_ROOT,
        timeout: float = 300.0,
    ) -> None:
        self.state_path = state.absolute()
        self.program = program
        self.timeout = timeout
        self._config = dict(config)
        self._environment = {**os.environ, **environment}
        for key in SECRET_KEYS & set(config):
            remember_secret(str(config[key]))

    def config(self) -> dict[str, Any]:
        """The configuration with what was overridden so far; without secret keys."""
        values = {**self._config, **State.load(self.state_path).config}
        return {key: typed(key, value) for key, value in values.items() if key not in SECRET_KEYS}

    def up(self, overrides: Mapping[str, object], only: str | None = None) -> UpResult:
        """Carry the program out. The overrides stay, also when it fails on the way, but not when it changed nothing
        (a lower weight stays even then).

        Raises:
            MigrationError: naming the resource and the cause.
            Refused: the state is locked, or something protected would have to go.
        """
        state = State.load(self.state_path)
        before = state.config
        weights = [int({**self._config, **before, **values}.get(WEIGHT, 0)) for values in ({}, overrides)]
        if overrides:
            self.keep(overrides)
        answer = Answer()
        if only is None and any(resource.protect for resource in state.resources.values()):
            answer = self._ask("preview", overrides)  # as `pulumi up` does: what would be refused is not begun
        if answer.error is None:
            answer = self._ask("up", overrides, only)
        if overrides and answer.error and not answer.changes and weights[1] >= weights[0]:
            self._write(lambda _: before)
        return UpResult(_checked(answer).changes, self._remembered(answer.outputs))

    def preview(self, overrides: Mapping[str, object], only: str | None = None) -> tuple[Change, ...]:
        """What ``up`` would change. Raises as ``up``."""
        return _checked(self._ask("preview", overrides, only)).changes

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs of the last ``up`` that succeeded."""
        return self._remembered(plain(State.load(self.state_path).outputs))

    def _remembered(self, outputs: dict[str, Any]) -> Outputs:
        for key in SECRET_KEYS & set(outputs):
            remember_secret(str(outputs[key]))
        return Outputs(outputs)

    def keep(self, overrides: Mapping[str, object]) -> None:
        """Write the overrides into the state and deploy nothing. Raises Refused while an operation holds the state."""
        refuse_unknown(overrides)
        self._write(lambda config: {**config, **overrides})

    def _write(self, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        with locked(self.state_path):
            state = State.load(self.state_path)
            state.config = changed(state.config)
            state.save()

    def _ask(self, operation: Kind, overrides: Mapping[str, object], only: str | None = None) -> Answer:
        """Run one operation in a process of its own, which never outlives this call; its answer, an error included."""
        config = {**self._config, **State.load(self.state_path).config, **overrides}
        request = Request(operation, self.state_path, self.program, config, only)
        with tempfile.NamedTemporaryFile(prefix="task-migration-") as file:
            output = Path(file.name)
            try:
                with forked.telling("run", request, output, self._environment, self.timeout) as answer:
                    assert isinstance(answer, Answer)
                    return answer
            except TimeoutError:
                raise TimedOut(
                    f"the embedded engine's {operation} did not end within {self.timeout:.0f} s; its last words: "
                    f"{_tail(output)}"
                ) from None
            except EOFError:
                raise MigrationError(f"the program failed during {operation}: {_tail(output)}") from None


def _checked(answer: Answer) -> Answer:
    """The answer, unless it is an error, which is raised."""
    if answer.error:
        raise answer.error.reworded(redact(str(answer.error)))
    return answer


def _tail(output: Path) -> str:
    lines = [line for line in output.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return redact(" | ".join(lines[-6:]) or "nothing was said")
