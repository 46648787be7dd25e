"""What the subcommands share: options, exit statuses, and what each says of its document for docs/commands.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from scripts.support.errors import DataDiffer, NotJudged, Refused, TimedOut

F = TypeVar("F", bound=Callable[..., Any])

Stack = Annotated[
    str | None, typer.Option("--stack", help="Stack whose Pulumi.<stack>.yaml is read; else PULUMI_STACK.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
ShowValues = Annotated[
    bool, typer.Option("--show-values", help="Let errors quote the values of rows, which are left out else.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
ForceShown = Annotated[
    bool,
    typer.Option("--force", help="Go on though the server shows a password to others; they are named as warnings."),
]
MaxLoad = Annotated[
    str | None,
    typer.Option(
        "--max-load",
        help="sessions=8,commit-ms=20: slower near, and a pause past, so many active sessions or so long a commit of the live server, "
        "looked at each second; else maxLoad. A file `pause` in the state directory pauses it too.",
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, max=86_400, help="Seconds until the wait gives up.")]

REFUSED, DIFFER, TIMED_OUT = Refused.exit_status, DataDiffer.exit_status, TimedOut.exit_status
NOT_JUDGED = NotJudged.exit_status


def prints(*documents: str, exits: Mapping[int, str] | None = None) -> Callable[[F], F]:
    """Say what a subcommand prints with `--json` and which exit statuses it has of its own.

    Args:
        documents: ``module:Class`` of each document, as text: nothing is imported for `--help`.
        exits: status and when it comes, beside 0, 1 and 2, which every command has.
    """

    def mark(command: F) -> F:
        command.__dict__["documents"] = documents
        command.__dict__["exits"] = dict(exits or {})
        return command

    return mark
