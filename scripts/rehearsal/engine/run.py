"""One operation of the embedded engine, in a process of its own, which a failure without a name ends with a trace."""

from __future__ import annotations

import asyncio
import os
import runpy
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pulumi
from pulumi.runtime import mocks, settings, stack

from scripts.deployment.stack_file import text_of
from scripts.rehearsal.emulated import properties
from scripts.rehearsal.emulated.core import Aws
from scripts.rehearsal.engine.monitor import Monitor, Operation
from scripts.rehearsal.engine.state import State, locked
from scripts.support.errors import MigrationError, Refused, UsageError


def _run_program(request: dict[str, Any], operation: Operation) -> dict[str, Any]:
    """Run the program's ``__main__.py`` against the operation; the stack's raw outputs."""
    program, project, stack_name = request["program"], request["project"], request["stack"]
    monitor = Monitor(operation, project, stack_name)
    config = {key: text_of(value) for key, value in request["config"].items()}
    pulumi.runtime.set_all_config(config, request["secrets"])
    os.chdir(program)

    def run_file() -> None:
        runpy.run_path(program, run_name="__main__")

    async def main() -> None:
        mocks.set_mocks(monitor.mocks, project=project, stack=stack_name, preview=operation.dry, monitor=monitor)
        # set_mocks makes a stack resource for tests; the program gets one that waits for it to end.
        settings.set_root_resource(cast(pulumi.Resource, None))
        await stack.run_in_stack(run_file)

    try:
        asyncio.run(main())
    except MigrationError as error:
        raise (operation.failures or [error])[0] from None
    except pulumi.RunError as error:
        raise UsageError(str(error)) from None
    if operation.failures:
        raise operation.failures[0]
    return monitor.outputs


def main(request: dict[str, Any], tell: Callable[[dict[str, Any]], object]) -> None:
    """Tell what came of the request, an error included: with ``begun``, what was being changed, where anything was looked at."""
    try:
        tell(_answer(request))
    except MigrationError as error:
        tell(_failed(error))


def _failed(error: MigrationError) -> dict[str, Any]:
    return {"error": str(error), "kind": type(error).__name__}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    path = Path(request["state"])
    kind = request["operation"]
    with locked(path):
        state = State.load(path)
        operation = Operation(state, Aws(request["region"]), dry=kind == "preview", only=request["only"])
        try:
            if state.pending and not operation.dry:
                # As Pulumi's engine, which knows no more of it than this one.
                raise Refused(
                    f"an operation was killed while it created {', '.join(sorted(state.pending))}: the state cannot say whether it stands, "
                    f"and a second one might be made; look in the account, delete it there if it stands, and take it out of pending in {path}"
                )
            if kind == "destroy":
                operation.destroy()
            else:
                outputs = _run_program(request, operation)
                operation.finish()
                if kind == "up":
                    state.outputs = outputs
                    state.save()
        except MigrationError as error:
            return {**_failed(error), "begun": [] if operation.dry else [change.name for change in operation.changes]}
        return {"changes": [asdict(change) for change in operation.changes], "outputs": properties.plain(state.outputs)}
