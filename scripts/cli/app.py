"""The console command `task-migration`: one subcommand per step, put together from the modules of this room.

A subcommand returns its exit status; errors travel as exceptions to the entry point. What a step needs is imported when it
runs, so that `--help` and a usage error start nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from scripts.cli import canary, ci, data, init, prepare, rehearse, replicate, shadow, status
from scripts.cli.group import Commands


def _end(status: int | None = None, **_: Any) -> None:
    """What a subcommand returned becomes the exit status."""
    raise typer.Exit(status or 0)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"task-migration {version('task-migration')}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    name="task-migration",
    result_callback=_end,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain lines: a message must not be broken by a box
)


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Moves the task tables into the Task Service's own PostgreSQL, without downtime and with a rollback in minutes."""


for part in (init, ci, prepare, replicate, data, shadow, canary, status, rehearse):
    app.add_typer(part.app)
