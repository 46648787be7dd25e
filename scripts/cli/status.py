"""status: where the migration is, whether that is safe, what comes next."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from scripts.cli.options import REFUSED, Json, Stack, prints
from scripts.cli.output import emit
from scripts.support.errors import UsageError

app = typer.Typer()
#: Seconds between two looks of `--watch`.
PAUSE = 5.0


@app.command()
@prints(
    "scripts.status.documents:MigrationStatus",
    exits={REFUSED: "something is not as it should be, or could not be seen"},
)
def status(
    stack: Stack = None,
    json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every few seconds, and draw it anew, until Ctrl-C.")
    ] = False,
) -> int:
    """Where the migration is, whether that is safe, and what to type next.

    From the journal and the two databases alone; Pulumi and AWS are asked for nothing but a URL that the environment lacks. What cannot be
    reached is named, the rest is shown. Two fences are sent where replication runs, as by `replicate status`.
    """
    if watch and json:
        raise UsageError("--watch draws for a person, --json prints one document; leave one of them out")
    if watch and not sys.stdout.isatty():
        raise UsageError("--watch draws on a terminal, and standard output is none; leave it out, or take --json")
    from scripts.cli.settings import load_settings
    from scripts.cli.status_text import status as text
    from scripts.status.look import look

    found = load_settings(stack)
    if watch:
        from rich.console import Console
        from rich.live import Live

        from scripts.cli.view import drawn

        console = Console(highlight=False)
        # Before the screen is taken: the journal's foreign lines are named once, on standard error.
        last = look(found)
        try:
            with Live(drawn(text(last.redacted())), console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(drawn(text(last.redacted())), refresh=True)
                    time.sleep(PAUSE)
                    last = look(found)
        finally:
            console.print(drawn(text(last.redacted())))
    document = look(found)
    emit(document, as_json=json, text=text)
    return 0 if document.safe else REFUSED
