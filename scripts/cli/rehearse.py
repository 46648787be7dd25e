"""rehearse, report: the whole plan on one machine, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scripts.cli.options import NOT_JUDGED, REFUSED, Json, Stack, prints
from scripts.cli.output import emit
from scripts.cli.settings import load_settings
from scripts.rehearsal.plan import EngineName, Plan, ReplicationName, ScenarioName, Wrong
from scripts.support.errors import Refused, UsageError

app = typer.Typer()
REPORT = "scripts.rehearsal.documents:Report"
BUSY = "not judged, as others kept the machine busy; the report has the figures"


@app.command()
@prints(
    REPORT,
    "scripts.report.documents:Run",
    exits={REFUSED: "a criterion failed, or the journal is empty", NOT_JUDGED: BUSY},
)
def report(
    stack: Stack = None,
    json: Json = False,
    path: Annotated[
        Path | None,
        typer.Option("--path", help="The report of a rehearsal. Without it build/rehearsal/report.json."),
    ] = None,
    journal: Annotated[
        bool,
        typer.Option(
            "--journal", help="Instead: the real run that the state directory's journal tells of; no database is asked."
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", help="Write the whole story there too, as one page with pictures that needs nothing else."
        ),
    ] = None,
) -> int:
    """The success criteria of the last rehearsal, or of a real run by its journal, each with its evidence."""
    from scripts.cli import rehearse_text

    if journal and path:
        raise UsageError(f"--journal and --path {path} are two reports; leave one of them out")
    if journal:
        from scripts.report import run

        found = run.read(load_settings(stack))
        if html is not None:
            _write(html, run.page_of(found))
        emit(found, as_json=json, text=rehearse_text.run)
        return REFUSED if found.passed is False else 0
    from scripts.rehearsal import report as reports

    document = reports.load(path or Path("build/rehearsal/report.json"))
    if html is not None:
        _write(html, reports.page_of(document))
    emit(document, as_json=json, text=rehearse_text.report)
    return 0 if document.passed else REFUSED if document.judged else NOT_JUDGED


def _write(path: Path, page: str) -> None:
    """Raises UsageError when nothing can be written there."""
    from scripts.support import private

    try:
        private.write(path, page)
    except OSError as error:
        raise UsageError(
            f"--html {path}: nothing can be written there ({error}); name a file in a folder of yours"
        ) from None


@app.command()
@prints(
    REPORT,
    "scripts.rehearsal.documents:Scenarios",
    exits={REFUSED: "a criterion failed, or a part of the machine is missing", NOT_JUDGED: BUSY},
)
def rehearse(
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows", min=10, max=10_000_000, help="Tasks; the other tables in proportion. 1000, of a scenario 300."
        ),
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", min=1, max=1000, help="Users of the load. 100, of a scenario 40.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=1, max=500, help="Requests per second, all users. 50, of a scenario 40."),
    ] = None,
    watch: Annotated[
        float, typer.Option("--watch", min=2, max=1800, help="Seconds that each canary step is watched.")
    ] = 10.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the generated data.")] = 1,
    engine: Annotated[
        EngineName,
        typer.Option("--engine", help="auto takes `pulumi` when `make engine` built its CLI or one is on PATH."),
    ] = "auto",
    replication: Annotated[
        ReplicationName,
        typer.Option("--replication", help="What carries changes: PostgreSQL itself, or a stand-in of AWS DMS."),
    ] = "native",
    output: Annotated[Path, typer.Option("--output", help="Where the report and the logs go.")] = Path(
        "build/rehearsal"
    ),
    drill: Annotated[
        bool, typer.Option("--drill", help="Instead: a rollback from each weight of the ladder, timed and proven.")
    ] = False,
    wrong: Annotated[
        Wrong | None,
        typer.Option("--wrong", help="Start with this wrong in the account: it fails, with what to do."),
    ] = None,
    scenario: Annotated[
        ScenarioName | None,
        typer.Option(
            "--scenario",
            help="Instead: this goes wrong under load. What the program makes of it, when, and what users see is judged; the engine is the "
            "embedded one unless --engine says otherwise.",
        ),
    ] = None,
    list_: Annotated[
        bool,
        typer.Option("--list", help="Print the scenarios, what happens in each and what has to be seen; do nothing."),
    ] = False,
    sticky: Annotated[
        int | None, typer.Option("--sticky", min=0, max=604_800, help="canaryStickySeconds, instead of the file's.")
    ] = None,
    without_cookies: Annotated[
        int, typer.Option("--without-cookies", min=0, max=100, help="Percent of the users who keep no cookies.")
    ] = 10,
    dms_lag: Annotated[
        float,
        typer.Option(
            "--dms-lag", min=0, max=60, help="Seconds after its commit before the stand-in of AWS DMS applies a change."
        ),
    ] = 0.0,
    json: Json = False,
) -> int:
    """The whole migration on this machine, under live load."""
    from scripts.cli import rehearse_text
    from scripts.support.console import say

    if dms_lag and replication != "dms":
        raise UsageError(f"--dms-lag {dms_lag:g} is of AWS DMS; take --replication dms too, or leave it out")
    if scenario and (drill or wrong):
        raise UsageError(
            f"--scenario {scenario} is a rehearsal of its own, from another beginning and with criteria of its own; run {'--drill' if drill else '--wrong'} by itself"
        )
    if scenario and replication == "dms":
        raise UsageError(
            f"--scenario {scenario} is brought about in PostgreSQL's own replication; leave --replication dms out"
        )
    try:
        from scripts.rehearsal import run
        from scripts.rehearsal.scenarios import table
    except ModuleNotFoundError as error:
        raise Refused(
            f"{error.name} is not installed; the rehearsal needs its extra: pip install 'task-migration[rehearsal]'"
        ) from None
    if list_:
        emit(table.listed(), as_json=json, text=rehearse_text.scenarios)
        return 0
    usual = (300, 40, 40.0) if scenario else (1000, 100, 50.0)
    document = run.rehearse(
        Plan(
            rows=rows or usual[0],
            users=users or usual[1],
            rate=rate or usual[2],
            watch=watch,
            seed=seed,
            engine="embedded" if scenario and engine == "auto" else engine,
            output=output.resolve(),
            drill=drill,
            replication=replication,
            wrong=wrong,
            scenario=scenario,
            sticky=sticky,
            without_cookies=without_cookies,
            dms_lag=dms_lag,
        )
    )
    emit(document, as_json=json, text=rehearse_text.report)
    say(f"report: {output / 'report.json'}, to look at: {output / 'report.html'}")
    return 0 if document.passed else REFUSED if document.judged else NOT_JUDGED
