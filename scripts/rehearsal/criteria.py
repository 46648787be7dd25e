"""The plan's success criteria (docs/plan.md, 'What must be true at the end'), each a pure function of the evidence.

A criterion that failed by nothing but time, while others kept the machine busy, is not judged; nor is what was not come to for that
reason. All else stays failed, however busy the machine was: a wait explains no lost write, no unequal row and no failed request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scripts.api.documents import ApiCheck
from scripts.backup.documents import Backup
from scripts.canary.documents import Rollback
from scripts.finish.documents import Finalization
from scripts.rehearsal.documents import Criterion, Drill, LedgerCheck, LoadFigures, MachineShare, Step
from scripts.support.figure import counted, figure
from scripts.verify.documents import ComparedTable, Verification

#: docs/plan.md, 'What must be true at the end'.
P95_LIMIT_MS = 500.0
ERROR_LIMIT_PERCENT = 1.0
RATE_SHARE = 0.9  # of the rate asked for; below it the load itself was too weak to prove anything
#: docs/plan.md: back within 5 minutes. Here, the drain included, a minute is aimed at, in seconds.
ROLLBACK_LIMIT, ROLLBACK_AIM = 300.0, 60.0
#: Percent of the time that others kept the machine busy: from here on a time-out, a gate's latency or a slow rollback is theirs; and so
#: much of the load's time is what a P95 says nothing about.
BUSY_PERCENT, TAIL_PERCENT = 25.0, 5.0
#: Milliseconds that the load's users may come late to their turns on a busy machine; past it they tried less than they should have.
HELD_UP_MS = 200.0

#: How the criteria begin that a drill alone has.
DRILLED = "rollback from "


@dataclass(frozen=True)
class Wanted:
    """What was asked for: ``rate`` is requests per second of all ``users``."""

    #: The tables that had to move.
    tables: Sequence[str]
    #: The canary weights, percent, that had to be promoted after the rollback, or left in a drill.
    ladder: Sequence[int]
    users: int
    rate: float


@dataclass
class Evidence:
    """What the steps gave. A step that did not run leaves None, and its criterion fails."""

    backup: Backup | None = None
    verify: Verification | None = None
    api_check: ApiCheck | None = None
    rollback: Rollback | None = None
    finalize: Finalization | None = None
    load: LoadFigures | None = None
    ledger: LedgerCheck | None = None
    rollback_ledger: LedgerCheck | None = None
    steps: list[Step] = field(default_factory=list)
    #: Names of the resources that each move of the weight changed.
    changed: list[Sequence[str]] = field(default_factory=list)
    drills: list[Drill] = field(default_factory=list)
    #: Periods that the gates decided on, and each figure of them that is not the gateway's.
    periods: int = 0
    differing: list[str] = field(default_factory=list)
    failure: str | None = None
    #: Whether it ended by nothing but time, while the machine was busy.
    by_machine: bool = False
    #: What the machine gave while there was a load.
    machine: MachineShare | None = None


def busy(machine: MachineShare | None, percent: float = BUSY_PERCENT) -> bool:
    """Whether others kept the machine busy for so much of the time; not where nobody looked."""
    return machine is not None and machine.busy_percent >= percent


def verdict(found: Sequence[Criterion], machine: MachineShare | None) -> tuple[bool, bool]:
    """Whether a run passed, and whether it was judged at all.

    What failed and was judged is a failure on any machine. Without one there is no verdict where a criterion could not be judged, nor
    where a busy machine held the load itself up: whatever that run came to, it tried less than it should have. Good figures of a load
    that came in time are good: a quiet machine would only have made them better.
    """
    failed = [one for one in found if not one.passed]
    if any(one.judged for one in failed):
        return False, True
    judged = not failed and not held_up(machine)
    return judged, judged


def held_up(machine: MachineShare | None) -> bool:
    """Whether others kept the machine so busy that the load was not what it should have been."""
    return machine is not None and busy(machine) and (machine.users_late_ms or 0.0) >= HELD_UP_MS


def of_plan(seen: Evidence, wanted: Wanted) -> list[Criterion]:
    """Each success criterion of the plan, passed or failed, with what was measured."""
    return [
        _backup(seen),
        *_equal_tables(seen, wanted.tables),
        _endpoints(seen),
        _load(seen, wanted),
        _downtime(seen, "over every step and the rollback"),
        _nothing_lost(seen),
        _rolled_back(seen),
        *_climbed(seen, wanted.ladder),
        _figures(seen),
        _nothing_left(seen),
        every_step(seen, "plan"),
    ]


def of_drill(seen: Evidence, wanted: Wanted) -> list[Criterion]:
    """What a drill has to show, passed or failed, each with what was measured. A drill that did not run fails."""
    by_weight = {one.weight: one for one in seen.drills}
    verified = seen.verify
    return [
        *(_drilled(seen, weight, by_weight.get(weight)) for weight in wanted.ladder),
        _downtime(seen, "over every rollback"),
        _judged(
            "both sides equal",
            verified is not None and verified.match,
            "verify did not run" if verified is None else f"verify at rest: match {verified.match}",
            excused=verified is None and seen.by_machine,
        ),
        every_step(seen, "drill"),
    ]


def _judged(name: str, passed: bool, evidence: str, *, excused: bool) -> Criterion:
    """``excused``: if it failed, the machine is why."""
    return Criterion(name=name, passed=passed, evidence=evidence, judged=passed or not excused)


def _backup(seen: Evidence) -> Criterion:
    backup = seen.backup
    return _judged(
        "backup restored and compared",
        backup is not None and backup.restore_verified,
        "backup did not end"
        if backup is None
        else f"{backup.bytes:,} bytes, {counted(len(backup.tables), 'table')}, sha256 {backup.sha256[:12]}",
        excused=backup is None and seen.by_machine,
    )


def _equal_tables(seen: Evidence, tables: Sequence[str]) -> list[Criterion]:
    compared: Sequence[ComparedTable] = seen.verify.tables if seen.verify else []
    excused = seen.verify is None and seen.by_machine
    complete = {row.table for row in compared} == set(tables)
    counts = "; ".join(f"{row.table} {row.source_rows}={row.target_rows}" for row in compared)
    equal = sum(row.match for row in compared)
    return [
        _judged(
            "row counts equal",
            complete and all(row.source_rows == row.target_rows for row in compared),
            counts or "verify did not run",
            excused=excused,
        ),
        _judged(
            "checksums equal",
            complete and equal == len(tables),
            f"{equal} of {len(tables)} tables",
            excused=excused,
        ),
    ]


def _endpoints(seen: Evidence) -> Criterion:
    found: Mapping[str, bool] = seen.api_check.endpoints if seen.api_check else {}
    endpoints = [healthy for name, healthy in found.items() if name != "GET /health"]
    return _judged(
        "8 API endpoints healthy",
        len(endpoints) == 8 and all(endpoints),
        f"{sum(map(bool, endpoints))} of {len(endpoints)} on the Task Service, by the smoke rule, at weight 0",
        excused=seen.api_check is None and seen.by_machine,
    )


def _load(seen: Evidence, wanted: Wanted) -> Criterion:
    name, load, machine = "load test passed", seen.load, seen.machine
    if load is None:
        return _judged(name, False, "no load ran", excused=seen.by_machine)
    errors = 100.0 * load.failed / load.requests if load.requests else 100.0
    whole = load.users == wanted.users and errors < ERROR_LIMIT_PERCENT
    enough = load.requests > 0 and (figure(load.rate) or 0.0) >= RATE_SHARE * wanted.rate
    quick = (p95 := figure(load.p95_ms)) is not None and p95 < P95_LIMIT_MS
    # Slow while nobody else was there is slow.
    quiet = machine.quiet_p95_ms if machine else None
    slow_anyway = not quick and quiet is not None and quiet >= P95_LIMIT_MS
    needed = TAIL_PERCENT if enough else 100.0 * (1.0 - RATE_SHARE)
    return _judged(
        name,
        whole and enough and quick,
        f"{load.users} users, {load.rate:.1f} requests/s of {wanted.rate:g}, P95 {load.p95_ms} ms, errors {errors:.2f} %",
        excused=whole and not slow_anyway and busy(machine, needed),
    )


def _downtime(seen: Evidence, over: str) -> Criterion:
    total, failed = (seen.load.requests, seen.load.failed) if seen.load else (0, 0)
    return _judged(
        "zero downtime",
        total > 0 and failed == 0,
        f"{failed:,} of {total:,} requests failed, {over}",
        excused=not total and seen.by_machine,
    )


def lost(found: LedgerCheck) -> str:
    """How many acknowledged writes are lost unsaid, of how many, and how many are told."""
    return f"{found.lost:,} of {found.total:,} acknowledged writes lost unsaid, {found.told:,} told in the conflict log"


def kept(found: LedgerCheck | None) -> tuple[bool, str]:
    """Whether writes were looked up and none was lost unsaid, and how many were."""
    if found is None:
        return False, "acknowledged writes were not looked up"
    return found.total > 0 and found.lost == 0, lost(found)


def _nothing_lost(seen: Evidence) -> Criterion:
    passed, found = kept(seen.ledger)
    return _judged(
        "no acknowledged write lost unsaid",
        passed,
        f"{found}; looked up on the target at the end",
        excused=seen.ledger is None and seen.by_machine,
    )


def _rolled_back(seen: Evidence) -> Criterion:
    back, ledger = seen.rollback, seen.rollback_ledger
    whole, found = kept(ledger)
    return _judged(
        "rollback rehearsed and timed",
        back is not None and back.within_limit and whole,
        "it did not end"
        if back is None
        else f"from {back.from_} % in {back.seconds} s (limit {back.limit_seconds} s); on the monolith {found}",
        excused=seen.by_machine if back is None or ledger is None else whole and busy(seen.machine),
    )


def _climbed(seen: Evidence, ladder: Sequence[int]) -> list[Criterion]:
    promoted = [step.weight for step in seen.steps if step.decision == "promote"]
    changed = {name for names in seen.changed for name in names}
    return [
        _judged(
            "canary promoted to 100 %",
            promoted[-len(ladder) :] == list(ladder),
            f"promoted at {', '.join(f'{weight} %' for weight in promoted) or 'no weight'}",
            excused=seen.by_machine,
        ),
        _judged(
            "each weight moved by one resource",
            bool(seen.changed) and all(len(names) == 1 for names in seen.changed),
            f"{counted(len(seen.changed), 'deployment')} changed {', '.join(sorted(changed)) or 'nothing'} in all",
            excused=not seen.changed and seen.by_machine,
        ),
    ]


def _figures(seen: Evidence) -> Criterion:
    return _judged(
        "the gate's figures are the gateway's",
        seen.periods > 0 and not seen.differing,
        f"{counted(seen.periods, 'period')} by CloudWatch"
        + (f"; {len(seen.differing)} differ: {seen.differing[0]}" if seen.differing else ""),
        excused=not seen.differing and seen.by_machine,
    )


def _nothing_left(seen: Evidence) -> Criterion:
    left = None if seen.finalize is None else seen.finalize.leftovers
    return _judged(
        "nothing left behind",
        left == [],
        "finalize did not end"
        if left is None
        else f"slots, publications, subscriptions, triggers, origins, schemas of ours in both catalogs: {', '.join(left) or 'none'}",
        excused=left is None and seen.by_machine,
    )


def every_step(seen: Evidence, of: str) -> Criterion:
    """Whether all of it ran to its end."""
    failure = seen.failure
    return _judged(
        "every step ended", failure is None, failure or f"all steps of the {of} ran", excused=seen.by_machine
    )


def _drilled(seen: Evidence, weight: int, one: Drill | None) -> Criterion:
    name = f"{DRILLED}{weight} %"
    if one is None:
        return _judged(name, False, "it did not run", excused=seen.by_machine)
    last = one.last_request_seconds
    aim = "within" if one.proof_seconds < ROLLBACK_AIM else "past"
    proven = one.from_ == weight and one.total > 0 and one.lost == 0 and last is not None
    return _judged(
        name,
        proven
        and all((took := figure(part)) is not None and took < ROLLBACK_LIMIT for part in (one.proof_seconds, last)),
        f"last request on the Task Service after {last} s, proof after {one.proof_seconds} s (limit "
        f"{ROLLBACK_LIMIT:g} s, {aim} the aim of {ROLLBACK_AIM:g} s), {one.lost} of {one.total} acknowledged writes lost "
        f"unsaid, {one.told} told, {one.rows_compared} rows compared",
        excused=proven and busy(seen.machine),
    )
