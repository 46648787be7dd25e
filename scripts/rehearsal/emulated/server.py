"""The server of the emulated account: moto, and what it leaves out of AWS (``tasks.py``, ``balancers.py``, ``metrics.py``)."""

from __future__ import annotations

import json
from typing import Any

from moto.iam import models
from moto.server import main

from components.naming import MANAGED_POLICIES
from scripts.rehearsal.emulated import balancers, metrics, tasks


def know_policies() -> None:
    """AWS's managed policies are those that the deploy role may attach: moto has 1,600, and reads all at each start and reset."""
    iam: Any = models
    every = json.loads(iam.aws_managed_policies_data)
    iam.aws_managed_policies_data = json.dumps({name: every[name] for name in MANAGED_POLICIES})


if __name__ == "__main__":
    tasks.install()
    balancers.install()
    metrics.install()
    know_policies()
    main()
