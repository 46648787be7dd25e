"""canary, rollback, api-check: the weight and what stands behind it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.api import check as checking
from scripts.canary import decisions
from scripts.canary import rollback as rolling_back
from scripts.canary import stage as stages
from scripts.canary import step as canarying
from scripts.cli.group import Commands
from scripts.cli.options import REFUSED, DryRun, Json, Stack
from scripts.cli.output import emit_plain as emit
from scripts.cli.settings import load_settings
from scripts.deployment.pulumi_cli import NoPulumi
from scripts.finish import abandon as abandoning
from scripts.support.console import say
from scripts.support.errors import MigrationError, Refused, UsageError
from scripts.support.events import CanaryEvent, Step
from scripts.support.settings import Settings

app = typer.Typer()
canary_app = typer.Typer(cls=Commands, help="The canary weight, one deployment a step.", no_args_is_help=True)
app.add_typer(canary_app, name="canary")


TakeOver = Annotated[
    bool, typer.Option("--take-over", help="End another operator's session that holds the lock and hangs.")
]


@canary_app.command("status")
def canary_status(
    stack: Stack = None,
    json: Json = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="The last decision, rule by rule, judged anew from its evidence.")
    ] = False,
) -> int:
    """The declared weight, the load balancer's, and the ladder's next; exit 10 when the two differ."""
    settings = load_settings(stack)
    if explain:
        answer = decisions.explain(settings)
        emit(answer, as_json=json, text=decisions.as_text(answer))
        return 0
    document = canarying.status(stages.build(settings))
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
    take_over: TakeOver = False,
) -> int:
    """Raise the weight by one step, watch, decide; exit 10 unless the decision is promote."""
    if force != bool(reason):
        raise UsageError("--force and --reason go together; give both or neither")
    document = canarying.step(
        stages.build(load_settings(stack)), to, force_reason=reason, dry_run=dry_run, take_over=take_over, tell=say
    )
    emit(document, as_json=json)
    return 0 if dry_run and document["decision"] == "hold" else _status_of(document)


@canary_app.command("run")
def canary_run(stack: Stack = None, json: Json = False, take_over: TakeOver = False) -> int:
    """The whole ladder, step after step, with a rollback on a breach; exit 10 unless it ends at 100 %."""
    document = canarying.run(stages.build(load_settings(stack)), take_over=take_over, tell=say)
    emit(document, as_json=json)
    return _status_of(document)


@canary_app.command("start-service")
def canary_start_service(stack: Stack = None, json: Json = False) -> int:
    """Undo `rollback --stop-service`: tasks of the Task Service again, and its autoscaling goes on."""
    settings = load_settings(stack)
    service = stages.build(settings).service
    if service is None:
        raise Refused("there is no ECS service here; a stack has one: --stack staging|prod")
    tasks = service.start()
    settings.journal.record(Step.CANARY, CanaryEvent.SERVICE_STARTED, tasks=tasks)
    emit({"status": "started", "tasks": tasks}, as_json=json)
    return 0


class Scenario(StrEnum):
    """What failed, as the plan's section on rollback lists it."""

    copy = "copy"
    deployment = "deployment"
    data = "data"


@app.command()
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
        bool, typer.Option("--stop-service", help="Ask ECS for no task of the Task Service afterwards.")
    ] = False,
    scenario: Annotated[
        Scenario | None,
        typer.Option(
            "--scenario",
            help="The plan's: copy (failed: end replication, empty the target), deployment (failed: routes, then no tasks), data "
            "(disagree: routes, then empty the target).",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --scenario copy or data: give up rows that only the target has.")
    ] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; kept in the journal.")] = None,
) -> int:
    """Back to the monolith with every acknowledged write: weight 0, drain, fence, rows. Exit 12 when that is not proven."""
    if abandon and (emergency or stop_service):
        raise UsageError("--abandon goes alone: roll back first, then give the migration up")
    if scenario and (abandon or emergency or stop_service):
        raise UsageError(
            "--scenario goes without --abandon, --emergency and --stop-service: it says what is to be done"
        )
    if force and scenario not in (Scenario.copy, Scenario.data):
        raise UsageError("--force goes with --scenario copy or data only")
    settings = load_settings(stack)
    if scenario in (Scenario.copy, Scenario.data):
        # Without a stack there is no load balancer of ours, and nothing that could have moved a request.
        leaving = stages.build(settings) if settings.has_load_balancer else None
        weight = max(leaving.declared_weight(), leaving.load_balancer.weight()) if leaving else 0
        if leaving and weight and scenario is Scenario.data and not dry_run:
            rolling_back.run(leaving, reasons=(reason or "the data disagree",))
            weight = leaving.load_balancer.weight()
        kind: abandoning.Scenario = "copy" if scenario is Scenario.copy else "data"
        emit(abandoning.start_over(settings, kind, weight, reason, force, dry_run).plain(), as_json=json)
        return 0
    stop_service = stop_service or scenario is Scenario.deployment
    if abandon:
        emit(abandoning.run(settings, dry_run).plain(), as_json=json)
        return 0
    reasons = (reason,) if reason else ()
    if emergency:
        at = stages.build_emergency(settings)
        if dry_run:
            emit(
                {"from": at.load_balancer.weight(), "to": 0, "would": ["change the live rule by the API"]}, as_json=json
            )
            return 0
        emit(rolling_back.emergency(at, reasons=reasons, stop_service=stop_service), as_json=json)
        return 0
    stage = _stage_to_leave(settings)
    if dry_run:
        changes = stage.deployer.preview({"canaryWeight": 0}).changes
        emit({"from": stage.declared_weight(), "to": 0, "would": [f"{c.op} {c.name}" for c in changes]}, as_json=json)
        return 0
    emit(rolling_back.run(stage, reasons=reasons, stop_service=stop_service), as_json=json)
    return 0


def _stage_to_leave(settings: Settings) -> stages.Stage:
    """The stage; when Pulumi cannot even be asked, the error names the way that needs none."""
    try:
        return stages.build(settings)
    except UsageError:
        raise
    except MigrationError as error:
        if isinstance(error, NoPulumi):
            raise
        raise error.reworded(
            f"{error}; Pulumi cannot run: to move the routes at once and without it, task-migration rollback --emergency"
        ) from None


@app.command("api-check")
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
    stack: Stack = None,
    json: Json = False,
) -> int:
    """Check the contract of all 8 endpoints and /health; exit 10 when one answers otherwise."""
    headers: dict[str, str] = {}
    if smoke:
        outputs = stages.build(load_settings(stack)).deployer.outputs()
        headers[str(outputs["smokeHeaderName"])] = str(outputs["smokeHeaderValue"])
    people = checking.People(member_id, stranger_id)
    document = checking.run(base_url, token_file, other_token_file, people=people, headers=headers)
    emit(document, as_json=json)
    return 0 if document["healthy"] else REFUSED
