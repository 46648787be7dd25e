"""The console command `task-migration`: one subcommand per step. Here is only parsing and printing; each step has a module.

A subcommand returns its exit status; errors travel as exceptions to the entry point.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from scripts import abandon as abandoning
from scripts import api_check as checking
from scripts import backup as backing_up
from scripts import canary as canarying
from scripts import copy as copying
from scripts import finalize as finalizing
from scripts import preflight as preflighting
from scripts import replicate as replicating
from scripts import rollback as rolling_back
from scripts import schema as schemas
from scripts import stage as stages
from scripts import verify as verifying
from scripts.support.console import emit, say
from scripts.support.errors import DataDiffer, Refused, UsageError
from scripts.support.settings import Settings, load_settings


def _end(status: int | None = None, **_: Any) -> None:
    """What a subcommand returned becomes the exit status."""
    raise typer.Exit(status or 0)


app = typer.Typer(
    name="task-migration",
    result_callback=_end,
    help="Moves the task tables into the Task Service's own PostgreSQL: no downtime, no lost row, rollback in minutes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain lines: a message must not be broken by a box
)
schema_app = typer.Typer(help="The target's schema, from the source's catalog.", no_args_is_help=True)
replicate_app = typer.Typer(help="Change replication, both ways.", no_args_is_help=True)
canary_app = typer.Typer(help="The canary weight, one deployment a step.", no_args_is_help=True)
backup_app = typer.Typer(help="A backup that has been restored and compared.", invoke_without_command=True)
app.add_typer(schema_app, name="schema")
app.add_typer(replicate_app, name="replicate")
app.add_typer(canary_app, name="canary")
app.add_typer(backup_app, name="backup")

Stack = Annotated[
    str | None, typer.Option("--stack", help="Stack whose Pulumi.<stack>.yaml is read; else PULUMI_STACK.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds until the wait gives up.")]

REFUSED, DIFFER = Refused.exit_status, DataDiffer.exit_status


@app.command()
def preflight(stack: Stack = None, json: Json = False) -> int:
    """Check both databases before anything is changed; exit 10 when a check fails."""
    document = preflighting.run(load_settings(stack))
    lines = [f"{c['status']:4}  {c['name']}: {c['detail']}" + _remedy(c) for c in document["checks"]]
    emit(document, as_json=json, text="\n".join(lines))
    return REFUSED if any(check["status"] == "fail" for check in document["checks"]) else 0


def _remedy(check: dict[str, Any]) -> str:
    return f"\n      remedy: {check['remedy']}" if check["status"] != "pass" and check.get("remedy") else ""


@backup_app.callback()
def backup(
    context: typer.Context,
    output: Annotated[str | None, typer.Option("--output", help="A folder, or s3://bucket/prefix.")] = None,
    stack: Stack = None,
    json: Json = False,
) -> int:
    """Dump the whole source, restore the dump into a scratch server and compare; exit 11 when they differ."""
    if context.invoked_subcommand is not None:
        return 0
    if output is None:
        raise UsageError("--output is not given; name a folder or s3://bucket/prefix")
    document = backing_up.run(load_settings(stack), output)
    emit(document, as_json=json)
    return 0 if document["restore_verified"] else DIFFER


@schema_app.command("apply")
def schema_apply(stack: Stack = None, json: Json = False, dry_run: DryRun = False) -> int:
    """Make the moved tables on the target, without the foreign keys that cross the border."""
    emit(schemas.apply(load_settings(stack), dry_run), as_json=json)
    return 0


@schema_app.command("diff")
def schema_diff(stack: Stack = None, json: Json = False) -> int:
    """Compare the two catalogs; exit 11 when they differ."""
    document = schemas.diff(load_settings(stack))
    emit(document, as_json=json)
    return 0 if document["match"] else DIFFER


@app.command()
def copy(
    stack: Stack = None,
    json: Json = False,
    dry_run: DryRun = False,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Parallel connections on each side.")] = 2,
) -> int:
    """Copy the rows under the snapshot of the replication slot, so that replication starts without a hole."""
    emit(copying.run(load_settings(stack), jobs=jobs, dry_run=dry_run), as_json=json)
    return 0


def _native(stack: str | None) -> Settings:
    settings = load_settings(stack)
    if settings.config.replication_engine != "native":
        raise Refused(
            f"replicationEngine is {settings.config.replication_engine!r}; this command drives 'native' only so far. "
            f"Set it in Pulumi.{settings.stack or '<stack>'}.yaml: task-migration:replicationEngine: native"
        )
    return settings


@replicate_app.command("start")
def replicate_start(stack: Stack = None, json: Json = False) -> int:
    """Start both directions from the copy's slot; conflict rules first."""
    emit(replicating.start(_native(stack)), as_json=json)
    return 0


@replicate_app.command("status")
def replicate_status(stack: Stack = None, json: Json = False) -> int:
    """Whether both directions run and how far each is behind; exit 10 when one does not run."""
    document = replicating.status(_native(stack))
    emit(document, as_json=json)
    return 0 if document["forward"]["running"] and document["reverse"]["running"] else REFUSED


@replicate_app.command("wait")
def replicate_wait(stack: Stack = None, json: Json = False, timeout: Timeout = 60.0) -> int:
    """Wait until everything written so far is on the other side, both ways; exit 12 at the deadline."""
    emit(replicating.wait(_native(stack), timeout=timeout), as_json=json)
    return 0


@replicate_app.command("stop")
def replicate_stop(stack: Stack = None, json: Json = False, timeout: Timeout = 60.0) -> int:
    """Drain both directions, then stop them."""
    emit(replicating.stop(_native(stack), timeout=timeout), as_json=json)
    return 0


class Repair(StrEnum):
    """Which side a repair takes a row from."""

    newest = "newest"
    source = "source"
    target = "target"


@app.command()
def verify(
    stack: Stack = None,
    json: Json = False,
    show_values: Annotated[bool, typer.Option("--show-values", help="Show the values that differ.")] = False,
    repair: Annotated[Repair | None, typer.Option("--repair", help="Mend what differs, from this side.")] = None,
) -> int:
    """Compare every row of the moved tables on both sides; exit 11 when they differ."""
    document = verifying.run(load_settings(stack), show_values=show_values, repair=repair.value if repair else None)
    emit(document, as_json=json)
    return 0 if document["match"] else DIFFER


@canary_app.command("status")
def canary_status(stack: Stack = None, json: Json = False) -> int:
    """The declared weight, the load balancer's, and the ladder's next; exit 10 when the two differ."""
    document = canarying.status(stages.build(load_settings(stack)))
    emit(document, as_json=json)
    return REFUSED if document["drift"] else 0


def _status_of(document: dict[str, Any]) -> int:
    return 0 if document["decision"] == "promote" else REFUSED


@canary_app.command("step")
def canary_step(
    stack: Stack = None,
    json: Json = False,
    dry_run: DryRun = False,
    to: Annotated[
        int | None, typer.Option("--to", min=1, max=100, help="Weight, percent; else the ladder's next.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Allow a weight that is not the ladder's next.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept in the journal. Goes with --force.")] = None,
) -> int:
    """Raise the weight by one step, watch, decide; exit 10 unless the decision is promote."""
    if force != bool(reason):
        raise UsageError("--force and --reason go together; give both or neither")
    document = canarying.step(stages.build(load_settings(stack)), to, force_reason=reason, dry_run=dry_run)
    emit(document, as_json=json)
    return 0 if dry_run and document["decision"] == "hold" else _status_of(document)


@canary_app.command("run")
def canary_run(stack: Stack = None, json: Json = False) -> int:
    """The whole ladder, step after step, with a rollback on a breach; exit 10 unless it ends at 100 %."""
    document = canarying.run(stages.build(load_settings(stack)))
    emit(document, as_json=json)
    return _status_of(document)


@app.command()
def rollback(
    stack: Stack = None,
    json: Json = False,
    dry_run: DryRun = False,
    abandon: Annotated[
        bool,
        typer.Option("--abandon", help="Give the migration up: remove slots, publications, triggers on both sides."),
    ] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept in the journal.")] = None,
) -> int:
    """Back to the monolith with every acknowledged write: weight 0, drain, fence. Exit 12 when that is not proven."""
    settings = load_settings(stack)
    if abandon:
        emit(abandoning.run(settings, dry_run), as_json=json)
        return 0
    stage = stages.build(settings)
    if dry_run:
        changes = stage.deployer.preview({"canaryWeight": 0}).changes
        emit({"from": stage.declared_weight(), "to": 0, "would": [f"{c.op} {c.name}" for c in changes]}, as_json=json)
        return 0
    document = rolling_back.run(stage, reasons=(reason,) if reason else ())
    emit(document, as_json=json)
    return 0


@app.command()
def finalize(stack: Stack = None, json: Json = False, dry_run: DryRun = False) -> int:
    """Stop replication, leave nothing of it behind, make the source's tables read-only for the monolith."""
    settings = load_settings(stack)
    if (settings.stack or stages.rehearsal()) and not dry_run:
        weight = stages.build(settings).load_balancer.weight()
        if weight != 100:
            raise Refused(
                f"the canary weight is {weight} %, finalize needs 100 %; go on with: task-migration canary step"
            )
    emit(finalizing.run(settings, dry_run), as_json=json)
    return 0


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


@app.command("api-check")
def api_check(
    base_url: Annotated[str, typer.Option("--base-url", help="Of the API, for example https://api.example.com.")],
    token_file: Annotated[Path, typer.Option("--token-file", help="File with a JWT; a token is no argument.")],
    other_token_file: Annotated[
        Path | None, typer.Option("--other-token-file", help="Another user's JWT, for the 404 of another's task.")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Through the smoke rule; the header's value from the stack.")
    ] = False,
    stack: Stack = None,
    json: Json = False,
) -> int:
    """Check the contract of all 8 endpoints and /health; exit 10 when one answers otherwise."""
    headers: dict[str, str] = {}
    if smoke:
        outputs = stages.build(load_settings(stack)).deployer.outputs()
        headers[str(outputs["smokeHeaderName"])] = str(outputs["smokeHeaderValue"])
    document = checking.run(base_url, token_file, other_token_file, headers=headers)
    emit(document, as_json=json)
    return 0 if document["healthy"] else REFUSED


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
    output: Annotated[Path, typer.Option("--output", help="Where the report and the logs go.")] = Path(
        "build/rehearsal"
    ),
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
        rows=rows, users=users, rate=rate, watch=watch, seed=seed, engine=ENGINES[engine], output=output.resolve()
    )
    document = rehearsing.rehearse(plan)
    from scripts.rehearsal import report as reporting

    emit(document, as_json=json, text=reporting.as_text(document))
    say(f"report: {output / 'report.json'}")
    return 0 if document["passed"] else REFUSED
