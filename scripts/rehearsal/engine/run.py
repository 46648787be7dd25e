"""One operation of the embedded engine, in a process of its own, which a failure without a name ends with a trace."""

from __future__ import annotations

import asyncio
import os
import runpy
from collections.abc import Callable
from typing import Any, cast

import pulumi
from pulumi.runtime import mocks, settings, stack

from components.config import PROJECT, SECRET_KEYS
from scripts.deployment.stack_file import text_of
from scripts.rehearsal.emulated import properties
from scripts.rehearsal.emulated.core import Aws
from scripts.rehearsal.engine.monitor import Monitor, Operation
from scripts.rehearsal.engine.state import Answer, Request, State, locked
from scripts.rehearsal.plan import REGION, STACK
from scripts.support.errors import MigrationError, Refused, UsageError


def _run_program(request: Request, operation: Operation) -> dict[str, Any]:
    """Run the program's ``__main__.py`` against the operation; the stack's raw outputs."""
    monitor = Monitor(operation, PROJECT, STACK)
    config = {f"{PROJECT}:{key}": text_of(value) for key, value in request.config.items()}
    hidden = [f"{PROJECT}:{key}" for key in SECRET_KEYS & set(request.config)]
    pulumi.runtime.set_all_config({"aws:region": REGION, **config}, hidden)
    os.chdir(request.program)

    def run_file() -> None:
        runpy.run_path(str(request.program), run_name="__main__")

    async def main() -> None:
        mocks.set_mocks(monitor.mocks, project=PROJECT, stack=STACK, preview=operation.dry, monitor=monitor)
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


def main(request: Request, tell: Callable[[Answer], object]) -> None:
    """Tell what came of the request, an error included."""
    try:
        with locked(request.state):
            answer = _answer(request, State.load(request.state))
    except MigrationError as error:
        answer = Answer(error=error)
    tell(answer)


def _answer(request: Request, state: State) -> Answer:
    operation = Operation(state, Aws(REGION), dry=request.kind == "preview", only=request.only)
    try:
        if state.pending and not operation.dry:
            # As Pulumi's engine, which knows no more of it than this one.
            raise Refused(
                f"an operation was killed while it created {', '.join(sorted(state.pending))}: the state cannot say whether it stands, and "
                f"a second one might be made; look in the account, delete it there if it stands, and take it out of pending in {state.path}"
            )
        outputs = _run_program(request, operation)
        operation.finish()
        if not operation.dry:
            state.outputs = outputs
            state.save()
    except MigrationError as error:
        return Answer(() if operation.dry else tuple(operation.changes), error=error)
    return Answer(tuple(operation.changes), properties.plain(state.outputs))
