"""replicate start, status, wait, stop: changes flow both ways."""

from __future__ import annotations

import typer

from scripts.cli.group import Commands
from scripts.cli.options import REFUSED, TIMED_OUT, ForceShown, Json, ShowValues, Stack, Timeout, prints
from scripts.cli.output import display, emit
from scripts.cli.settings import load_settings

app = typer.Typer()
replicate_app = typer.Typer(cls=Commands, help="Change replication, both ways.", no_args_is_help=True)
app.add_typer(replicate_app, name="replicate")


@replicate_app.command("start")
@prints(
    "scripts.replication.documents:Started",
    exits={
        REFUSED: "there is no complete copy, its slot is gone or lost, or a password would be shown to others",
        TIMED_OUT: "changes did not come through, or a table's lock was not to be had",
    },
)
def replicate_start(
    stack: Stack = None, json: Json = False, show_values: ShowValues = False, force: ForceShown = False
) -> int:
    """Start both directions from the copy's slot, conflict rules first; the role that replication logs in with is made."""
    from scripts.cli.replicate_text import started
    from scripts.replication import run

    document = run.start(load_settings(stack, show_values), progress=display(), force=force)
    emit(document, as_json=json, text=started)
    return 0


@replicate_app.command("status")
@prints("scripts.replication.documents:Status", exits={REFUSED: "something fails"})
def replicate_status(stack: Stack = None, json: Json = False, show_values: ShowValues = False) -> int:
    """Say whether both directions run, how far each is behind and what threatens them."""
    from scripts.cli.replicate_text import status
    from scripts.replication import run

    document = run.status(load_settings(stack, show_values))
    emit(document, as_json=json, text=status)
    return REFUSED if document.status == "fail" else 0


@replicate_app.command("wait")
@prints(
    "scripts.replication.documents:Waited",
    exits={
        REFUSED: "a sequence of the source has reached the target's band",
        TIMED_OUT: "the changes did not come through before the deadline",
    },
)
def replicate_wait(
    stack: Stack = None, json: Json = False, timeout: Timeout = 60.0, show_values: ShowValues = False
) -> int:
    """Wait until everything written so far is on the other side, both ways."""
    from scripts.cli.replicate_text import waited
    from scripts.replication import run

    document = run.wait(load_settings(stack, show_values), timeout=timeout, progress=display())
    emit(document, as_json=json, text=waited)
    return 0


@replicate_app.command("stop")
@prints(
    "scripts.replication.documents:Stopped",
    exits={TIMED_OUT: "the changes did not come through before the deadline; nothing was stopped"},
)
def replicate_stop(
    stack: Stack = None, json: Json = False, timeout: Timeout = 60.0, show_values: ShowValues = False
) -> int:
    """Drain both directions, then stop them."""
    from scripts.cli.replicate_text import stopped
    from scripts.replication import run

    document = run.stop(load_settings(stack, show_values), timeout=timeout, progress=display())
    emit(document, as_json=json, text=stopped)
    return 0
