"""A stage without AWS: the weights that the environment names."""

from __future__ import annotations

import os

from scripts.canary.stage import Stage
from scripts.support.settings import Settings
from tests.cloud import Cloud


def stage(settings: Settings) -> Stage:
    """``TEST_WEIGHT`` at the load balancer, ``TEST_DECLARED`` in the configuration, percent."""
    cloud = Cloud(int(os.environ.get("TEST_WEIGHT", "0")))
    cloud.declared = int(os.environ.get("TEST_DECLARED", cloud.live))
    return Stage(settings, cloud, cloud, None, cloud, cloud.idle_seconds, metrics=cloud)  # type: ignore[arg-type]
