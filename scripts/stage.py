"""Puts together what a canary command acts on: a real stack by the Pulumi CLI, or the running rehearsal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import boto3

from scripts.canary import Stage
from scripts.support.errors import UsageError
from scripts.support.settings import Settings, stack_file
from scripts.traffic import CloudWatchMetrics, LoadBalancer

#: Names the file that describes a running rehearsal; `rehearse` sets it for the commands that it runs.
REHEARSAL_VARIABLE = "TASK_MIGRATION_REHEARSAL"


def rehearsal() -> dict[str, Any] | None:
    """What describes the running rehearsal, or None outside of one.

    Raises:
        UsageError: the variable names a file that cannot be read.
    """
    path = os.environ.get(REHEARSAL_VARIABLE)
    if not path:
        return None
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{REHEARSAL_VARIABLE} names {path}, which cannot be read ({error}); unset it outside of a rehearsal"
        ) from None


def build(settings: Settings) -> Stage:
    """The stage of the selected stack.

    Raises:
        UsageError: no stack is selected.
        Refused: the Pulumi CLI is not on PATH, or the stack is not deployed.
    """
    running = rehearsal()
    if running is not None:
        from scripts.rehearsal.stage import rehearsal_stage  # its packages are there only with the rehearsal extra

        return rehearsal_stage(settings, running)
    if settings.stack is None:
        raise UsageError("no stack is selected; name it with --stack staging|prod, or export PULUMI_STACK")
    from scripts.deploy import CliDeployer

    deployer = CliDeployer(settings.stack, stack_file(settings.stack).parent)
    outputs = deployer.outputs()
    session = boto3.Session(region_name=str(outputs["listenerArn"]).split(":")[3])
    return Stage(
        settings=settings,
        deployer=deployer,
        load_balancer=LoadBalancer(session.client("elbv2"), outputs),
        metrics=CloudWatchMetrics(session.client("cloudwatch"), outputs),
    )
