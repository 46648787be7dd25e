"""The console command `task-migration`: one subcommand per step, put together from `scripts.cli`.

A subcommand returns its exit status; errors travel as exceptions to the entry point.
"""

from __future__ import annotations

from typing import Any

import typer
import typer.core
from pydantic import ValidationError

from scripts.cli import canary, data, prepare, rehearse


def _end(status: int | None = None, **_: Any) -> None:
    """What a subcommand returned becomes the exit status."""
    raise typer.Exit(status or 0)


class _Commands(typer.core.TyperGroup):
    """The commands; a refused option says what was given, which typer leaves out."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if isinstance(error.__cause__, ValidationError):
                found = error.__cause__.errors(include_url=False)[0]
                limit = found["msg"].removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
                error.message = f"{found['input']!r} was given; limit: {limit}. Give another, or see --help"
            raise


app = typer.Typer(
    cls=_Commands,
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
