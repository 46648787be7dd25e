"""The server of the emulated account: moto, and what it leaves out of AWS (``tasks.py``, ``balancers.py``, ``metrics.py``)."""

from __future__ import annotations

import json
from typing import Any

from moto.applicationautoscaling.models import applicationautoscaling_backends
from moto.cloudwatch.models import cloudwatch_backends
from moto.ecs.models import ecs_backends
from moto.elbv2.models import elbv2_backends
from moto.iam import models
from moto.moto_api._internal import urls
from moto.server import main

from components.naming import MANAGED_POLICIES
from scripts.rehearsal.emulated import balancers, metrics, tasks
from scripts.rehearsal.emulated.reach import HEALTH_PATH

_OURS: tuple[tuple[type, Any], ...] = (
    (tasks.Services, ecs_backends),
    (tasks.Scaling, applicationautoscaling_backends),
    (balancers.Balancers, elbv2_backends),
    (metrics.Metrics, cloudwatch_backends),
)


def install() -> None:
    """Have moto make these backends, and take what a load balancer's checks found; before it made any."""
    for mine, backends in _OURS:
        # moto finds a service's addresses beside the module of its backend.
        mine.__module__ = mine.__mro__[1].__module__
        backends.backend = mine
    paths: dict[str, Any] = urls.url_paths
    paths["{0}" + HEALTH_PATH] = balancers.report


def know_policies() -> None:
    """AWS's managed policies are those that the deploy role may attach: moto has 1,600, and reads all at each start and reset."""
    iam: Any = models
    every = json.loads(iam.aws_managed_policies_data)
    iam.aws_managed_policies_data = json.dumps({name: every[name] for name in MANAGED_POLICIES})


if __name__ == "__main__":
    install()
    know_policies()
    main()
