"""Looks at a migration in each of its states, as `scripts.status.look` would bring them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from components.config import MigrationConfig
from scripts.canary.ready import Readiness, Shadowed
from scripts.copy.documents import SlotState
from scripts.database.locks import Holder
from scripts.replication.documents import (
    DirectionState,
    Finding,
    HeldWrites,
    RecordOfWrites,
    Runway,
    Status,
    ToldConflicts,
    Writer,
)
from scripts.status.documents import MigrationStatus
from scripts.status.judge import judge
from scripts.status.seen import Running, Seen, SideSeen
from scripts.verify.verdict import Verdict

CONFIG = MigrationConfig(replication_engine="native")
#: When everything here is looked at.
NOW = datetime(2026, 11, 26, 1, 0, tzinfo=UTC).timestamp()
SLOT = SlotState(
    active=True, active_pid=1, wal_status="reserved", confirmed_lsn="0/1", retained_bytes=2**20, lag_bytes=0
)
RUNWAY = Runway(
    hours=200.0, rate_bytes_per_second=1e4, measured_over_seconds=60.0, retained_bytes=2**20, limit_bytes=10 * 2**30,
    limit="walAllowanceGb",
)  # fmt: skip
WAY = DirectionState(running=True, lag_bytes=0, lag_seconds=0.1, reason=None, apply_errors=0, slot=SLOT, runway=RUNWAY)
VERIFIED = Verdict(match=True, of_this_copy=True, age_seconds=7200.0, whole_seconds=7200.0)
SHADOWED = Shadowed(True, 5.0)
COPIED = {"status": "complete", "at": "2026-11-25T00:00:00+00:00", "run": "one"}
WRITER = Writer(
    side="source", role="myteacher_app_user", application="laravel", tables={"tasks": 1200},
    first="2026-11-25 01:00:00", last="2026-11-26 00:59:00", seconds_ago=60.0,
)  # fmt: skip


def event(step: str, name: str, minutes: float = 10.0, **facts: Any) -> dict[str, Any]:
    """An event of the journal, so many minutes ago."""
    return {"at": datetime.fromtimestamp(NOW - 60 * minutes, UTC).isoformat(), "step": step, "event": name, **facts}


def holder(name: str) -> Holder:
    """Who has a lock."""
    return Holder(4711, f"task-migration {name} kei@runner:99", "10.0.0.7", "2026-11-26 00:55:00 UTC")


def source(canary: Mapping[str, Any] | None = None, weight: int | None = None, **changes: Any) -> SideSeen:
    """The source with what it keeps of the canary."""
    kept = {
        **changes.pop("kept", {}),
        **({"canary": canary} if canary is not None else {}),
        **({"routed": {"weight": weight, "since": None}} if weight is not None else {}),
    }
    return SideSeen(**{"installed": True, "slot": SLOT, "runway": RUNWAY, "subscribed": True, **changes, "kept": kept})


def target(copy: Mapping[str, Any] | None = COPIED, *, started: bool = True, **changes: Any) -> SideSeen:
    """The target with the state of its copy."""
    kept = {
        **({"copy": copy} if copy else {}),
        **({"slot_back": {"lsn": "0/1"}} if started else {}),
        **changes.pop("kept", {}),
    }
    shape = {"slot": SLOT, "runway": RUNWAY, "subscribed": True} if started else {}
    return SideSeen(**{"installed": True, **shape, **changes, "kept": kept})


BARE = SideSeen(installed=False)


def running(
    *found: Finding, verified: Verdict | None = VERIFIED, shadowed: Shadowed | None = SHADOWED, **changes: Any
) -> Running:
    """Replication that runs both ways, unless changed."""
    ways = {"forward": changes.pop("forward", WAY), "reverse": changes.pop("reverse", WAY)}
    status = Status(
        status="fail" if any(one.status == "fail" for one in found) else "ok",
        findings=list(found),
        **ways,
        sequences=[],
        schema_match=True,
        drift=[],
        conflicts=ToldConflicts(source=2, target=1),
        writes=RecordOfWrites(
            source=HeldWrites(records=1, bytes=1, pruned=1), target=HeldWrites(records=1, bytes=1, pruned=1)
        ),
        writers=[WRITER],
    )
    gate = Readiness(ways["forward"], ways["reverse"], 0.1, True, (), 3, verified, None, 101.0, shadowed)
    return Running(status, replace(gate, **changes))


def look(here: SideSeen | None, there: SideSeen | None, **more: Any) -> Seen:
    """One look; a side that is None was not reached."""
    from scripts.status.documents import Unseen

    unseen = [
        Unseen(what=side, why="nobody answers", remedy="wake it")
        for side, one in (("source", here), ("target", there))
        if one is None
    ]
    sides = {side: one for side, one in (("source", here), ("target", there)) if one is not None}
    return Seen(**{"now": NOW, "sides": sides, "unseen": (*unseen, *more.pop("unseen", ())), **more})


def judged(seen: Seen, config: MigrationConfig = CONFIG) -> MigrationStatus:
    """What it comes to."""
    return judge(seen, config, "prod", ".task-migration")
