"""verify, finalize: the rows of both sides."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from scripts.canary import stage as stages
from scripts.cli.options import DIFFER, DryRun, Json, Stack
from scripts.cli.output import emit_plain as emit
from scripts.cli.settings import load_settings
from scripts.finish import finalize as finalizing
from scripts.support.errors import Refused
from scripts.verify import run as verifying

app = typer.Typer()


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
