"""What a machine that others keep busy breaks by itself, of the gate's rules: those of time alone; and the machine in a line. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scripts.canary.gates import Finding
from scripts.rehearsal.documents import MachineShare

#: Latencies of either side, of users and beside the monolith; what the processes use; a fence's way; too few requests and a watch that
#: is not over. None of errors, refusals, writes, targets or missing figures.
RULES = re.compile(r"\bP(50|95|99)\b|\bCPU$|^replication$|^(users' )?requests$|^length$")


def explain(findings: Sequence[Finding]) -> bool:
    """Whether all that kept a step from its promotion are such rules."""
    breaches = [one for one in findings if one.state == "breach"]
    decided = breaches or [one for one in findings if one.state == "hold"]
    return bool(decided) and all(RULES.search(one.rule) for one in decided)


def described(found: MachineShare) -> str:
    """It in a line."""
    users = "" if found.users_late_ms is None else f", the load's users up to {found.users_late_ms:g} ms"
    throttled = f", held back by its quota for {found.throttled_percent:g} %" if found.throttled_percent else ""
    return (
        f"of the machine's {found.cores} cores the rehearsal had {found.ours_percent:g} %, others {found.others_percent:g} %, nobody "
        f"{found.idle_percent:g} %{throttled}; a timer was {found.timer_late_ms:g} ms late (P95){users}; busy for "
        f"{found.busy_percent:g} % of {found.seconds:g} s"
    )
