"""How groups of subcommands list and refuse: headings in the plan's order, whole sentences, the value that was given."""

from __future__ import annotations

import sys
from typing import Any

import typer
import typer.core

#: The headings of `--help` and docs/commands.md with their commands, in the plan's order.
PLAN = {
    "Any time": ("status",),
    "Prepare": ("init", "ci-roles", "preflight", "backup", "schema", "copy"),
    "Replicate": ("replicate", "verify"),
    "Canary": ("api-check", "shadow", "canary", "rollback"),
    "Finish": ("finalize",),
    "Rehearse": ("rehearse", "report"),
}


def sentence(command: Any) -> str:
    """The first sentence of a command's help, whole."""
    text = " ".join((command.help or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "."


def _headings(ctx: typer.Context) -> dict[str, tuple[str, ...]]:
    """The plan's at the top; `replicate status` is not `status`."""
    return PLAN if ctx.parent is None else {}


class Commands(typer.core.TyperGroup):
    """Commands under their headings; a refused option says what was given, which typer leaves out."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """In the plan's order; a group of its own as declared."""
        planned = [name for names in _headings(ctx).values() for name in names if name in self.commands]
        return [*planned, *(name for name in self.commands if name not in planned)]

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """One whole sentence a command; click cuts them."""
        left = self.list_commands(ctx)
        for heading, planned in (*_headings(ctx).items(), ("Commands", tuple(left))):
            names = [name for name in planned if name in left and not self.commands[name].hidden]
            left = [name for name in left if name not in names]
            if names:
                with formatter.section(heading):
                    formatter.write_dl([(name, sentence(self.commands[name])) for name in names])

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            cause, pydantic = error.__cause__, sys.modules.get("pydantic")
            if pydantic is not None and isinstance(cause, pydantic.ValidationError):
                found = cause.errors(include_url=False)[0]
                limit = found["msg"].removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
                error.message = f"{found['input']!r} was given; limit: {limit}. Give another, or see --help"
            raise
