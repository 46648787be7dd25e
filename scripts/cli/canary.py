"""canary, rollback, api-check: the weight and what stands behind it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scripts.cli.group import Commands
from scripts.cli.options import DIFFER, REFUSED, TIMED_OUT, DryRun, Json, Stack, prints
from scripts.cli.output import display, emit
from scripts.cli.settings import load_settings, stage_of
from scripts.support.errors import UsageError

if TYPE_CHECKING:
    from scripts.canary.documents import CanaryStep, Rollback

app = typer.Typer()
canary_app = typer.Typer(cls=Commands, help="The canary weight, one deployment a step.", no_args_is_help=True)
app.add_typer(canary_app, name="canary")

DOCUMENTS = "scripts.canary.documents"
UNPROVEN = {
    REFUSED: "Pulumi cannot run, or something does not allow the proof; the message says where the routes are",
    DIFFER: "the routes moved, and rows of the Task Service are not on the monolith as it wrote them",
    TIMED_OUT: "the routes moved, and requests or the fence did not end in time",
}

TakeOver = Annotated[
    bool, typer.Option("--take-over", help="End another operator's session that holds the lock and hangs.")
]


@canary_app.command("status")
@prints(f"{DOCUMENTS}:CanaryStatus", f"{DOCUMENTS}:Explanation", exits={REFUSED: "the two weights differ"})
def canary_status(
    stack: Stack = None,
    json: Json = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="The last decision, rule by rule, judged anew from its evidence.")
    ] = False,
) -> int:
    """Show the declared weight, the load balancer's, and the ladder's next."""
    from scripts.canary import decisions
    from scripts.cli import canary_text

    settings = load_settings(stack)
    if explain:
        emit(decisions.explain(settings), as_json=json, text=canary_text.explanation)
        return 0
    from scripts.canary.status import status

    document = status(stage_of(settings))
    emit(document, as_json=json, text=canary_text.status)
    return REFUSED if document.drift else 0


@canary_app.command("step")
@prints(
    f"{DOCUMENTS}:CanaryStep",
    f"{DOCUMENTS}:Rollback",
    exits={REFUSED: "the decision is not promote, or another operator moves the weight"},
)
def canary_step(
    stack: Stack = None,
    json: Json = False,
    dry_run: DryRun = False,
    to: Annotated[
        int | None, typer.Option("--to", min=1, max=100, help="Weight, percent; else the ladder's next.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Allow a weight that is not the ladder's next.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept in the journal. Goes with --force.")] = None,
    take_over: TakeOver = False,
) -> int:
    """Raise the weight by one step of the ladder, watch it, and decide."""
    if force != bool(reason and reason.strip()):
        raise UsageError("--force and --reason go together; give both or neither")
    from scripts.canary import step as canary
    from scripts.cli import canary_text
    from scripts.support.console import say

    document = canary.step(
        stage_of(load_settings(stack)),
        to,
        force_reason=reason,
        dry_run=dry_run,
        take_over=take_over,
        tell=say,
        progress=display(),
    )
    emit(document, as_json=json, text=canary_text.step)
    return 0 if dry_run and document.decision == "hold" else _status_of(document)


@canary_app.command("run")
@prints(
    f"{DOCUMENTS}:CanaryRun",
    f"{DOCUMENTS}:RollbackRun",
    exits={REFUSED: "it did not end at 100 %, or another operator moves the weight"},
)
def canary_run(stack: Stack = None, json: Json = False, take_over: TakeOver = False) -> int:
    """Climb the whole ladder, step after step, with a rollback on a breach."""
    from scripts.canary import step as canary
    from scripts.cli import canary_text
    from scripts.support.console import say

    at = stage_of(load_settings(stack))
    document = canary.run(at, take_over=take_over, tell=say, progress=display())
    emit(document, as_json=json, text=canary_text.step)
    return _status_of(document)


def _status_of(document: CanaryStep | Rollback) -> int:
    return 0 if document.decision == "promote" else REFUSED


@canary_app.command("start-service")
@prints(
    f"{DOCUMENTS}:ServiceStarted",
    exits={
        REFUSED: "there is no ECS service here, serviceEnabled is false, or no task of the declared image starts; the message has ECS's reason",
        TIMED_OUT: "its tasks do not serve in time",
    },
)
def canary_start_service(stack: Stack = None, json: Json = False) -> int:
    """Bring the Task Service up: the first time, after a deployment that failed, or after `rollback --stop-service`.

    A new deployment of serviceMinTasks tasks, and its autoscaling; waits until they run, of the image that the stack declares, and
    the load balancer finds them healthy. It needs serviceEnabled, deployed.
    """
    from scripts.canary import step as canary
    from scripts.cli import canary_text

    document = canary.start_service(stage_of(load_settings(stack)), display())
    emit(document, as_json=json, text=canary_text.service_started)
    return 0


@app.command()
@prints(
    f"{DOCUMENTS}:Rollback",
    f"{DOCUMENTS}:RollbackPlan",
    "scripts.finish.documents:StartOver",
    "scripts.finish.documents:Abandonment",
    exits=UNPROVEN,
)
def rollback(
    stack: Stack = None,
    json: Json = False,
    dry_run: DryRun = False,
    abandon: Annotated[
        bool,
        typer.Option("--abandon", help="Give the migration up: remove slots, publications, triggers on both sides."),
    ] = False,
    emergency: Annotated[
        bool,
        typer.Option("--emergency", help="Without Pulumi: change the rule by the load balancer's API at once."),
    ] = False,
    stop_service: Annotated[
        bool,
        typer.Option(
            "--stop-service",
            help="At the end ask ECS for no task of the Task Service, and set serviceEnabled to false.",
        ),
    ] = False,
    scenario: Annotated[
        Literal["copy", "deployment", "data"] | None,
        typer.Option(
            "--scenario",
            help="copy: empty the target. deployment: as --stop-service. data: the routes first, then empty the target.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --abandon, --scenario copy or data: give up what only the target has.")
    ] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept in the journal.")] = None,
) -> int:
    """Go back to the monolith: weight 0, drain, fence, every row of the Task Service compared."""
    if abandon and (emergency or stop_service):
        raise UsageError("--abandon goes alone: roll back first, then give the migration up")
    if scenario and (abandon or emergency or stop_service):
        raise UsageError(
            "--scenario goes without --abandon, --emergency and --stop-service: it says what is to be done"
        )
    if force and not (scenario in ("copy", "data") or abandon):
        raise UsageError("--force goes with --abandon and --scenario copy or data only")
    from scripts.canary import ending
    from scripts.canary import rollback as way_back
    from scripts.cli import canary_text, finish_text

    settings = load_settings(stack)
    if abandon:
        gone = ending.give_up(settings, reason=reason, force=force, dry_run=dry_run, progress=display())
        emit(gone, as_json=json, text=finish_text.abandonment)
        return 0
    if scenario == "copy" or scenario == "data":
        over = ending.start_over(settings, scenario, reason=reason, force=force, dry_run=dry_run, progress=display())
        emit(over, as_json=json, text=finish_text.start_over)
        return 0
    document = way_back.roll_back(
        settings,
        reason=reason,
        stop_service=stop_service or scenario == "deployment",
        without_pulumi=emergency,
        dry_run=dry_run,
        progress=display(),
    )
    emit(document, as_json=json, text=canary_text.rollback)
    return 0


@app.command("api-check")
@prints("scripts.api.documents:ApiCheck", exits={REFUSED: "an endpoint answers otherwise than the contract says"})
def api_check(
    base_url: Annotated[str, typer.Option("--base-url", help="Of the API, for example https://api.example.com.")],
    token_file: Annotated[Path, typer.Option("--token-file", help="File with a JWT; a token is no argument.")],
    other_token_file: Annotated[
        Path | None, typer.Option("--other-token-file", help="Another user's JWT, for the 404 of another's task.")
    ] = None,
    member_id: Annotated[
        int | None, typer.Option("--member-id", help="Another user of the token's group: may be given a task.")
    ] = None,
    stranger_id: Annotated[
        int | None, typer.Option("--stranger-id", help="A user of another group: may not be given a task.")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Through the smoke rule; the header's value from the stack.")
    ] = False,
    balancer_url: Annotated[
        str | None,
        typer.Option(
            "--balancer-url",
            help="Of the load balancer, from inside the VPC: each endpoint has to refuse forged tokens there too, on both rules.",
        ),
    ] = None,
    refused_token_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--refused-token-file", help="A JWT that is expired, or of another pool or client; with --balancer-url."
        ),
    ] = None,
    stack: Stack = None,
    json: Json = False,
) -> int:
    """Check the contract of all 8 endpoints and /health."""
    if refused_token_file and balancer_url is None:
        raise UsageError("--refused-token-file goes with --balancer-url; give both")
    from scripts.api import check, direct
    from scripts.cli import canary_text

    headers: dict[str, str] = {}
    weight = None
    balancer = None
    if smoke or stack or balancer_url:
        stage = stage_of(load_settings(stack))
        headers, weight = stage.smoke_headers() if smoke else {}, stage.declared_weight()
        if balancer_url:
            balancer = direct.Balancer(balancer_url, stage.smoke_headers(), tuple(refused_token_file or ()))
    people = check.People(member_id, stranger_id)
    document = check.run(
        base_url, token_file, other_token_file, people=people, headers=headers, balancer=balancer, weight=weight
    )
    emit(document, as_json=json, text=canary_text.api_check)
    return 0 if document.healthy else REFUSED
