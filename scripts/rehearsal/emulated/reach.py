"""What stops a connection in a rehearsal: its servers are all on this machine, where no security group does. So whoever is about
to connect asks :func:`scripts.preflight.account.ways.closed` first."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

#: Where a load balancer tells the emulated account what its checks found: {group's ARN: {target's id: [state, reason, description]}}.
HEALTH_PATH = "/moto-api/target-health"


def groups_of(things: Sequence[Any]) -> list[str]:
    """The groups of a database or replication instance, of what describes it as ``VpcSecurityGroups``."""
    return [str(entry["VpcSecurityGroupId"]) for entry in things]


def nowhere() -> socket.socket:
    """A port of this machine that answers nobody, as behind a group that drops what it does not let in. Close it when done."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    return silent
