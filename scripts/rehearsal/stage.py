"""What canary commands act on while a rehearsal runs: its engine and the emulated AWS."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import httpx

from scripts.canary.cloudwatch import CloudWatchMetrics
from scripts.canary.notices import Notices
from scripts.canary.service_control import ServiceControl
from scripts.canary.stage import Stage
from scripts.canary.traffic import LoadBalancer, rule_of_outputs
from scripts.rehearsal.engine.pulumi_cli import make_deployer
from scripts.rehearsal.processes import local
from scripts.support.errors import MigrationError, UsageError
from scripts.support.settings import STAGE_VARIABLE, Settings

#: Names the file that describes a running rehearsal; `rehearse` sets it for the commands that it runs.
REHEARSAL_VARIABLE = "TASK_MIGRATION_REHEARSAL"
#: What `rehearse` sets STAGE_VARIABLE to.
STAGE = "scripts.rehearsal.stage:stage"


def gateway_figures(gateway: str, since: float, period: float = 0.0) -> dict[str, Any]:
    """What the gateway at this URL measured from ``since`` (epoch seconds), with ``period`` (seconds) by period too.

    Raises:
        MigrationError: it does not answer.
    """
    try:
        parameters = {"since": since, "period": period}
        answer = local().get(f"{gateway}/__gateway/stats", params=parameters, timeout=5.0)
        return dict(answer.raise_for_status().json())
    except (httpx.HTTPError, ValueError) as error:
        raise MigrationError(f"the gateway does not answer: {error}; see gateway.log") from None


def idle_seconds(gateway: str, group: str) -> float:
    """Seconds since this target group last had a request, 0 while one is under way; CloudWatch could not say so."""
    seen = gateway_figures(gateway, time.time() - 1)["target_groups"].get(group, {})
    if seen.get("in_flight"):
        return 0.0
    last = seen.get("last_request_at")
    return time.time() - float(last) if last is not None else float("inf")


def running_rehearsal() -> dict[str, Any]:
    """What describes the running rehearsal: the file that :data:`REHEARSAL_VARIABLE` names.

    Raises:
        UsageError: the variable is not set or names a file that cannot be read.
    """
    path = os.environ.get(REHEARSAL_VARIABLE, "")
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{REHEARSAL_VARIABLE} names {path!r}, which cannot be read ({error}); unset {STAGE_VARIABLE} outside of a rehearsal"
        ) from None


def stage(settings: Settings) -> Stage:
    """The stage of the running rehearsal; what :data:`STAGE` names.

    Raises:
        UsageError: no rehearsal is described.
    """
    return rehearsal_stage(settings, running_rehearsal())


def rehearsal_stage(settings: Settings, running: Mapping[str, Any]) -> Stage:
    """The stage of the rehearsal that ``running`` describes."""
    deployer = make_deployer(running["engine"], Path(str(running["engine_dir"])), running["config"], {})
    outputs = deployer.outputs()
    rule = rule_of_outputs(outputs)
    balancer = boto3.client("elbv2")
    return Stage(
        settings=settings,
        configuration=deployer,
        load_balancer=LoadBalancer(balancer, rule),
        metrics=CloudWatchMetrics(
            boto3.client("cloudwatch"), outputs, settings.config.period_seconds, settings.config.metric_delay_seconds
        ),
        service=ServiceControl(boto3.client("ecs"), boto3.client("application-autoscaling"), balancer, outputs),
        notices=Notices(boto3.client("sns"), outputs.get("alarmTopicArn")),
        idle_seconds=partial(idle_seconds, str(running["gateway"]), rule.task_group),
    )
