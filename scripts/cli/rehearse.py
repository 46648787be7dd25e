"""rehearse, report, status: the whole plan on one machine, and what was done so far."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from scripts.cli.options import REFUSED, Json, Stack
from scripts.cli.output import emit_plain as emit
from scripts.cli.settings import load_settings
from scripts.support.console import say
from scripts.support.errors import Refused

app = typer.Typer()


@app.command()
def status(stack: Stack = None, json: Json = False) -> int:
    """What the journal says was done, newest last, and how replication stands."""
    settings = load_settings(stack)
    events = [{k: e[k] for k in ("at", "step", "event")} for e in settings.journal.events()]
    document = {"stack": settings.stack, "state_dir": str(settings.state_dir), "events": events}
    text = (
        "\n".join(f"{e['at']}  {e['step']}: {e['event']}" for e in events)
        or "nothing was done yet: start with preflight"
    )
    emit(document, as_json=json, text=text)
    return 0


@app.command()
def report(
    json: Json = False,
    path: Annotated[Path, typer.Option("--path", help="The report of a rehearsal.")] = Path(
        "build/rehearsal/report.json"
    ),
) -> int:
    """The success criteria of the last rehearsal, each with its evidence; exit 10 unless all passed."""
    from scripts.rehearsal import report as reporting

    document = reporting.load(path)
    emit(document, as_json=json, text=reporting.as_text(document))
    return 0 if document["passed"] else REFUSED


class Engine(StrEnum):
    """What turns the program into resources."""

    auto = "auto"
    pulumi = "pulumi"
    embedded = "embedded"


ENGINES: dict[Engine, Literal["auto", "pulumi", "embedded"]] = {
    Engine.auto: "auto",
    Engine.pulumi: "pulumi",
    Engine.embedded: "embedded",
}


class Replication(StrEnum):
    """What carries changes in a rehearsal."""

    native = "native"
    dms = "dms"


REPLICATIONS: dict[Replication, Literal["native", "dms"]] = {Replication.native: "native", Replication.dms: "dms"}


@app.command()
def rehearse(
    rows: Annotated[
        int, typer.Option("--rows", min=10, max=10_000_000, help="Tasks; the other tables in proportion.")
    ] = 1000,
    users: Annotated[int, typer.Option("--users", min=1, max=1000, help="Users of the load.")] = 100,
    rate: Annotated[float, typer.Option("--rate", min=1, max=500, help="Requests per second, all users.")] = 50.0,
    watch: Annotated[
        float, typer.Option("--watch", min=2, max=1800, help="Seconds that each canary step is watched.")
    ] = 10.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the generated data.")] = 1,
    engine: Annotated[Engine, typer.Option("--engine", help="auto takes `pulumi` when it is on PATH.")] = Engine.auto,
    replication: Annotated[
        Replication,
        typer.Option("--replication", help="What carries changes: PostgreSQL itself, or a stand-in of AWS DMS."),
    ] = Replication.native,
    output: Annotated[Path, typer.Option("--output", help="Where the report and the logs go.")] = Path(
        "build/rehearsal"
    ),
    drill: Annotated[
        bool, typer.Option("--drill", help="Instead: a rollback from each weight of the ladder, timed and proven.")
    ] = False,
    json: Json = False,
) -> int:
    """The whole migration on this machine, under live load; exit 0 only if every criterion passed."""
    try:
        from scripts.rehearsal import run as rehearsing
    except ModuleNotFoundError as error:
        raise Refused(
            f"{error.name} is not installed; the rehearsal needs its extra: pip install 'task-migration[rehearsal]'"
        ) from None
    plan = rehearsing.Plan(
        rows=rows,
        users=users,
        rate=rate,
        watch=watch,
        seed=seed,
        engine=ENGINES[engine],
        output=output.resolve(),
        drill=drill,
        replication=REPLICATIONS[replication],
    )
    document = rehearsing.rehearse(plan)
    from scripts.rehearsal import report as reporting

    emit(document, as_json=json, text=reporting.as_text(document))
    say(f"report: {output / 'report.json'}")
    return 0 if document["passed"] else REFUSED
