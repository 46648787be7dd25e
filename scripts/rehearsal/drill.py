"""The rollback drill: from each weight of the ladder back to the monolith, under load, timed, each write looked up."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scripts.support.errors import DataDiffer, MigrationError, Refused

if TYPE_CHECKING:
    from scripts.rehearsal.run import Rehearsal

#: plan.md: back within 5 minutes. Here, the drain included, a minute is aimed at, in seconds.
LIMIT, AIM = 300.0, 60.0


def drill(run: Rehearsal) -> None:
    """Raise the weight from 0 to each of the ladder's and roll back from there; keeps what was measured in the evidence.

    Raises:
        MigrationError: a step could not be made, or a rollback could not be proven.
    """
    for weight in run.config.canary_ladder:
        begun = time.time()
        forced = ("--to", str(weight), "--force", "--reason", "rollback drill")
        document = run.command("canary", "step", *forced, accept=(0, Refused.exit_status))
        # A short watch may have too few requests for a promotion; the drill needs the traffic there, not the verdict.
        if document["to"] != weight or document["decision"] not in ("promote", "hold"):
            raise MigrationError(f"the drill's step to {weight} % was {document['decision']}: {document['reasons']}")
        run.note(weight, begun, document["seconds"], document["decision"])
        started = time.time()
        back = run.command("rollback", "--reason", f"drill from {weight} %")
        proven = time.time() - started
        group = run.setting.outputs["taskTargetGroupArn"]
        last = run.setting.stats(started)["target_groups"].get(group, {}).get("last_live_request_at")
        ledger = run.look_up(f"ledger-drill-{weight}.json")
        measured = {
            "weight": weight,
            "from": back["from"],
            "seconds": back["seconds"],
            "phases": back["phases"],
            "last_request_seconds": None if last is None else round(max(0.0, last - started), 3),
            "proof_seconds": round(proven, 3),
            "rows_compared": back["rows"]["checked"],
            "total": ledger["total"],
            "lost": ledger["lost"],
        }
        run.evidence.drills.append(measured)
        run.view.event(
            f"rollback {weight} -> 0 %: last request on the Task Service after {measured['last_request_seconds']} s, proof after "
            f"{proven:.1f} s; {ledger['lost']} of {ledger['total']} acknowledged writes lost"
        )
    run.setting.stop_load()
    run.command("replicate", "wait")
    run.evidence.verify = run.command("verify", accept=(0, DataDiffer.exit_status))


def criteria(
    drills: Sequence[Mapping[str, Any]],
    ladder: Sequence[int],
    load: Mapping[str, Any] | None,
    verified: Mapping[str, Any] | None,
    failure: str | None,
) -> list[dict[str, Any]]:
    """What a drill has to show, passed or failed, each with what was measured. A drill that did not run fails."""
    found = []
    by_weight = {one["weight"]: one for one in drills}
    for weight in ladder:
        one = by_weight.get(weight)
        passed = (
            one is not None
            and one["from"] == weight
            and one["total"] > 0
            and one["lost"] == 0
            and one["last_request_seconds"] is not None
            and max(one["proof_seconds"], one["last_request_seconds"]) < LIMIT
        )
        evidence = "it did not run"
        if one is not None:
            aim = "within" if one["proof_seconds"] < AIM else "past"
            evidence = (
                f"last request on the Task Service after {one['last_request_seconds']} s, proof after {one['proof_seconds']} s (limit "
                f"{LIMIT:g} s, {aim} the aim of {AIM:g} s), {one['lost']} of {one['total']} acknowledged writes lost, "
                f"{one['rows_compared']} rows compared"
            )
        found.append({"name": f"rollback from {weight} %", "passed": passed, "evidence": evidence})
    load = load or {}
    total, failed = int(load.get("requests", 0)), int(load.get("failed", 0))
    found += [
        {
            "name": "zero downtime",
            "passed": total > 0 and failed == 0,
            "evidence": f"{failed} of {total} requests failed, over every rollback",
        },
        {
            "name": "both sides equal",
            "passed": bool((verified or {}).get("match")),
            "evidence": "verify did not run" if verified is None else f"verify at rest: match {verified['match']}",
        },
        {"name": "every step ended", "passed": failure is None, "evidence": failure or "all steps of the drill ran"},
    ]
    return found
