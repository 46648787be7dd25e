"""The console command `task-migration`: one subcommand per step, put together from `scripts.commands`.

A subcommand returns its exit status; errors travel as exceptions to the entry point.
"""

from __future__ import annotations

from typing import Any

import typer

from scripts.commands import canary, data, prepare, rehearse


def _end(status: int | None = None, **_: Any) -> None:
    """What a subcommand returned becomes the exit status."""
    raise typer.Exit(status or 0)


app = typer.Typer(
    name="task-migration",
    result_callback=_end,
    help="Moves the task tables into the Task Service's own PostgreSQL: no downtime, no lost row, rollback in minutes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain lines: a message must not be broken by a box
)
for part in (prepare, data, canary, rehearse):
    app.add_typer(part.app)
