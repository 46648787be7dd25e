"""Options and exit statuses that the subcommands share."""

from __future__ import annotations

from typing import Annotated

import typer

from scripts.support.errors import DataDiffer, Refused

Stack = Annotated[
    str | None, typer.Option("--stack", help="Stack whose Pulumi.<stack>.yaml is read; else PULUMI_STACK.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds until the wait gives up.")]

REFUSED, DIFFER = Refused.exit_status, DataDiffer.exit_status
