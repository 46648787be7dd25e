"""What to rehearse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

#: What turns the program into resources; `auto` takes `pulumi` when there is a CLI.
EngineName = Literal["auto", "pulumi", "embedded"]
#: `replicationEngine` of the rehearsed stack.
ReplicationName = Literal["native", "dms"]


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
    #: Configuration of the stack otherwise than the rehearsal's own, by key: what a team may have got wrong.
    changes: Mapping[str, object] = field(default_factory=dict)
