"""verify, finalize: the rows of both sides."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from scripts.cli.options import DIFFER, REFUSED, TIMED_OUT, DryRun, Json, MaxLoad, ShowValues, Stack, prints
from scripts.cli.output import display, emit
from scripts.cli.settings import load_settings

app = typer.Typer()


@app.command()
@prints(
    "scripts.verify.documents:Verification",
    exits={DIFFER: "the two sides differ", TIMED_OUT: "what is under way did not arrive, or the load stayed too high"},
)
def verify(
    stack: Stack = None,
    json: Json = False,
    show_values: Annotated[
        bool, typer.Option("--show-values", help="Show the values that differ, and those that errors quote.")
    ] = False,
    repair: Annotated[
        Literal["newest", "source", "target"] | None,
        typer.Option("--repair", help="Repair what differs, from this side."),
    ] = None,
    algorithm: Annotated[
        Literal["hash", "md5"],
        typer.Option("--algorithm", help="PostgreSQL's own hash functions, fast; or MD5, as the plan names it."),
    ] = "hash",
    max_load: MaxLoad = None,
    incremental: Annotated[
        bool,
        typer.Option(
            "--incremental",
            help="The rows written since the last match, and of each large table a 16th of the rest, another one each time; every row where "
            "no match can be built on. The first step, the step to 100 % and `finalize` want every row.",
        ),
    ] = False,
) -> int:
    """Compare every row of the moved tables on both sides."""
    from scripts.cli.data_text import verification
    from scripts.verify import run as step

    document = step.run(
        load_settings(stack, show_values),
        show_values=show_values,
        repair=repair,
        algorithm=algorithm,
        progress=display(),
        max_load=max_load,
        incremental=incremental,
    )
    emit(document, as_json=json, text=verification)
    return 0 if document.match else DIFFER


@app.command()
@prints(
    "scripts.finish.documents:Finalization",
    exits={
        REFUSED: "the weight is not 100 %, replication does not run, or the monolith's role would still write",
        DIFFER: "the two sides differ; nothing was removed",
        TIMED_OUT: "the last writes did not end or did not arrive; run it again, it goes on from there",
    },
)
def finalize(stack: Stack = None, json: Json = False, dry_run: DryRun = False, show_values: ShowValues = False) -> int:
    """Make the source's tables read-only for the monolith, then stop replication and leave nothing of it behind."""
    from scripts.canary import ending
    from scripts.cli.finish_text import finalization

    settings = load_settings(stack, show_values)
    emit(ending.finalize(settings, dry_run=dry_run, progress=display()), as_json=json, text=finalization)
    return 0
