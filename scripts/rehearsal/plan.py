"""What to rehearse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: Of the rehearsed stack and its account.
STACK, REGION = "rehearsal", "ap-northeast-1"
#: What turns the program into resources; `auto` takes `pulumi` when there is a CLI.
EngineName = Literal["auto", "pulumi", "embedded"]
#: `replicationEngine` of the rehearsed stack.
ReplicationName = Literal["native", "dms"]
#: No way for operators; the Task Service's to its database or the VPC link's to the load balancer taken away; no image; a secret
#: without a value; a secret's name taken by a deleted one; a rule of others in front of the live rule, or a login behind it.
Wrong = Literal[
    "operator-way", "service-way", "link-way", "image", "secret", "secret-name", "rule-in-front", "rule-behind"
]

#: What goes wrong on a night, brought about in the middle of a rehearsal: scripts/rehearsal/scenarios/table.py.
ScenarioName = Literal[
    "copy-killed", "bad-release", "slow-release", "no-healthy-target", "tasks-killed", "no-figures", "inconsistency", "reverse-stalled",
    "source-restart", "slot-lost", "two-operators", "two-schedulers", "pulumi-away",
]  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """``rate`` is requests per second of all ``users``; ``watch`` seconds per canary step; ``output`` a directory."""

    rows: int
    users: int
    rate: float
    watch: float
    seed: int
    engine: EngineName
    output: Path
    #: The rollback drill from every weight instead of the whole plan.
    drill: bool = False
    replication: ReplicationName = "native"
    #: What a team may have got wrong; the rehearsal fails by it.
    wrong: Wrong | None = None
    #: One fault of a night instead of the whole plan.
    scenario: ScenarioName | None = None
    #: `canaryStickySeconds`; None: as the stack's file has it.
    sticky: int | None = None
    #: Percent of the users who keep no cookies.
    without_cookies: int = 10
    #: Seconds after its commit before the stand-in of AWS DMS applies a change.
    dms_lag: float = 0.0
