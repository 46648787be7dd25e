"""replicate, verify, finalize: the rows of both sides."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from scripts.canary import stage as stages
from scripts.cli.group import Commands
from scripts.cli.options import DIFFER, REFUSED, DryRun, Json, Stack, Timeout
from scripts.cli.output import emit_plain as emit
from scripts.cli.settings import load_settings
from scripts.finish import finalize as finalizing
from scripts.replication import run as replicating
from scripts.support.errors import Refused
from scripts.verify import run as verifying

app = typer.Typer()
replicate_app = typer.Typer(cls=Commands, help="Change replication, both ways.", no_args_is_help=True)
app.add_typer(replicate_app, name="replicate")


@replicate_app.command("start")
def replicate_start(stack: Stack = None, json: Json = False) -> int:
    """Start both directions from the copy's slot; conflict rules first."""
    emit(replicating.start(load_settings(stack)), as_json=json)
    return 0


@replicate_app.command("status")
def replicate_status(stack: Stack = None, json: Json = False) -> int:
    """Whether both directions run, how far each is behind and what threatens them; exit 10 when something fails."""
    document = replicating.status(load_settings(stack))
    emit(document, as_json=json)
    return REFUSED if document["status"] == "fail" else 0


@replicate_app.command("wait")
def replicate_wait(stack: Stack = None, json: Json = False, timeout: Timeout = 60.0) -> int:
    """Wait until everything written so far is on the other side, both ways; exit 12 at the deadline."""
    emit(replicating.wait(load_settings(stack), timeout=timeout), as_json=json)
    return 0


@replicate_app.command("stop")
def replicate_stop(stack: Stack = None, json: Json = False, timeout: Timeout = 60.0) -> int:
    """Drain both directions, then stop them."""
    emit(replicating.stop(load_settings(stack), timeout=timeout), as_json=json)
    return 0


class Repair(StrEnum):
    """Which side a repair takes a row from."""

    newest = "newest"
    source = "source"
    target = "target"


class Algorithm(StrEnum):
    """How rows are hashed."""

    hash = "hash"
    md5 = "md5"


@app.command()
def verify(
    stack: Stack = None,
    json: Json = False,
    show_values: Annotated[bool, typer.Option("--show-values", help="Show the values that differ.")] = False,
    repair: Annotated[Repair | None, typer.Option("--repair", help="Mend what differs, from this side.")] = None,
    algorithm: Annotated[
        Algorithm,
        typer.Option("--algorithm", help="PostgreSQL's own hash functions, fast; or MD5, as the plan names it."),
    ] = Algorithm.hash,
) -> int:
    """Compare every row of the moved tables on both sides; exit 11 when they differ."""
    document = verifying.run(
        load_settings(stack),
        show_values=show_values,
        repair=repair.value if repair else None,
        algorithm=algorithm.value,
    )
    emit(document.plain(), as_json=json)
    return 0 if document.match else DIFFER


@app.command()
def finalize(stack: Stack = None, json: Json = False, dry_run: DryRun = False) -> int:
    """Stop replication, leave nothing of it behind, make the source's tables read-only for the monolith."""
    settings = load_settings(stack)
    if settings.has_load_balancer and not dry_run:
        weight = stages.build(settings).load_balancer.weight()
        if weight != 100:
            raise Refused(
                f"the canary weight is {weight} %, finalize needs 100 %; go on with: task-migration canary step"
            )
    emit(finalizing.run(settings, dry_run).plain(), as_json=json)
    return 0
