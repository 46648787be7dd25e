"""The rollback drill: from each weight of the ladder back to the monolith, under load, timed, each write looked up."""

from __future__ import annotations

import time

from scripts.canary.documents import CanaryStep, Rollback
from scripts.rehearsal.documents import Drill
from scripts.rehearsal.steps import Steps
from scripts.support.errors import MigrationError, Refused


def drill(steps: Steps) -> None:
    """Raise the weight from 0 to each of the ladder's and roll back from there; keeps what was measured in the evidence.

    Raises:
        MigrationError: a step could not be made, or a rollback could not be proven.
    """
    for weight in steps.config.canary_ladder:
        _raise_to(steps, weight)
        measured = _roll_back(steps, weight)
        steps.evidence.drills.append(measured)
        steps.view.event(
            f"rollback {weight} -> 0 %: last request on the Task Service after {measured.last_request_seconds} s, proof after "
            f"{measured.proof_seconds:.1f} s; {measured.lost} of {measured.total} acknowledged writes lost unsaid, {measured.told} told"
        )
    steps.testbed.load.stop()
    steps.verify()


def _raise_to(steps: Steps, weight: int) -> None:
    begun = time.time()
    forced = ("--to", str(weight), "--force", "--reason", "rollback drill")
    document = steps.command(CanaryStep, "canary", "step", *forced, accept=(0, Refused.exit_status))
    # A short watch may have too few requests for a promotion; the drill needs the traffic there, not the verdict.
    if document.to != weight or document.decision not in ("promote", "hold"):
        raise MigrationError(f"the drill's step to {weight} % was {document.decision}: {'; '.join(document.reasons)}")
    steps.note(weight, begun, document.seconds, document.decision)


def _roll_back(steps: Steps, weight: int) -> Drill:
    started = time.time()
    back = steps.command(Rollback, "rollback", "--reason", f"drill from {weight} %")
    proven = time.time() - started
    group = steps.testbed.task_group
    last = steps.testbed.stats(started)["target_groups"].get(group, {}).get("last_live_request_at")
    ledger = steps.look_up(f"ledger-drill-{weight}.json")
    return Drill(
        weight=weight,
        from_=back.from_,
        seconds=back.seconds,
        phases=back.phases.plain(),
        last_request_seconds=None if last is None else round(max(0.0, last - started), 3),
        proof_seconds=round(proven, 3),
        rows_compared=back.rows.checked,
        total=ledger.total,
        lost=ledger.lost,
        told=ledger.told,
    )
