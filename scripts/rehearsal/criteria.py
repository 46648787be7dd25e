"""The plan's success criteria (docs/plan.md, 'What must be true at the end'), each a pure function of the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scripts.api.documents import ApiCheck
from scripts.backup.documents import Backup
from scripts.canary.documents import Rollback
from scripts.finish.documents import Finalization
from scripts.rehearsal.documents import Criterion, Drill, LedgerCheck, LoadFigures, Step
from scripts.verify.documents import ComparedTable, Verification

#: docs/plan.md, 'What must be true at the end'.
P95_LIMIT_MS = 500.0
ERROR_LIMIT_PERCENT = 1.0
RATE_SHARE = 0.9  # of the rate asked for; below it the load itself was too weak to prove anything
#: docs/plan.md: back within 5 minutes. Here, the drain included, a minute is aimed at, in seconds.
ROLLBACK_LIMIT, ROLLBACK_AIM = 300.0, 60.0


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


def of_plan(seen: Evidence, wanted: Wanted) -> list[Criterion]:
    """Each success criterion of the plan, passed or failed, with what was measured."""
    return [
        _backup(seen.backup),
        *_equal_tables(seen.verify.tables if seen.verify else [], wanted.tables),
        _endpoints(seen.api_check.endpoints if seen.api_check else {}),
        _load(seen.load, wanted),
        _downtime(seen.load, "over every step and the rollback"),
        _nothing_lost(seen.ledger),
        _rolled_back(seen.rollback, seen.rollback_ledger),
        *_climbed(seen, wanted.ladder),
        _figures(seen),
        _nothing_left(seen.finalize),
        _every_step(seen.failure, "plan"),
    ]


def of_drill(seen: Evidence, wanted: Wanted) -> list[Criterion]:
    """What a drill has to show, passed or failed, each with what was measured. A drill that did not run fails."""
    by_weight = {one.weight: one for one in seen.drills}
    verified = seen.verify
    return [
        *(_drilled(weight, by_weight.get(weight)) for weight in wanted.ladder),
        _downtime(seen.load, "over every rollback"),
        _judged(
            "both sides equal",
            verified is not None and verified.match,
            "verify did not run" if verified is None else f"verify at rest: match {verified.match}",
        ),
        _every_step(seen.failure, "drill"),
    ]


def _judged(name: str, passed: bool, evidence: str) -> Criterion:
    return Criterion(name=name, passed=passed, evidence=evidence)


def _backup(backup: Backup | None) -> Criterion:
    return _judged(
        "backup restored and compared",
        backup is not None and backup.restore_verified,
        "backup did not end"
        if backup is None
        else f"{backup.bytes:,} bytes, {len(backup.tables)} tables, sha256 {backup.sha256[:12]}",
    )


def _equal_tables(compared: Sequence[ComparedTable], tables: Sequence[str]) -> list[Criterion]:
    complete = {row.table for row in compared} == set(tables)
    counts = "; ".join(f"{row.table} {row.source_rows}={row.target_rows}" for row in compared)
    equal = sum(row.match for row in compared)
    return [
        _judged(
            "row counts equal",
            complete and all(row.source_rows == row.target_rows for row in compared),
            counts or "verify did not run",
        ),
        _judged("checksums equal", complete and equal == len(tables), f"{equal} of {len(tables)} tables"),
    ]


def _endpoints(found: Mapping[str, bool]) -> Criterion:
    endpoints = [healthy for name, healthy in found.items() if name != "GET /health"]
    return _judged(
        "8 API endpoints healthy",
        len(endpoints) == 8 and all(endpoints),
        f"{sum(map(bool, endpoints))} of {len(endpoints)} on the Task Service, by the smoke rule, at weight 0",
    )


def _load(load: LoadFigures | None, wanted: Wanted) -> Criterion:
    if load is None:
        return _judged("load test passed", False, "no load ran")
    errors = 100.0 * load.failed / load.requests if load.requests else 100.0
    return _judged(
        "load test passed",
        load.requests > 0
        and load.users == wanted.users
        and load.rate >= RATE_SHARE * wanted.rate
        and load.p95_ms is not None
        and load.p95_ms < P95_LIMIT_MS
        and errors < ERROR_LIMIT_PERCENT,
        f"{load.users} users, {load.rate:.1f} requests/s of {wanted.rate:g}, P95 {load.p95_ms} ms, errors {errors:.2f} %",
    )


def _downtime(load: LoadFigures | None, over: str) -> Criterion:
    total, failed = (load.requests, load.failed) if load else (0, 0)
    return _judged("zero downtime", total > 0 and failed == 0, f"{failed:,} of {total:,} requests failed, {over}")


def lost(found: LedgerCheck) -> str:
    """How many acknowledged writes are lost unsaid, of how many, and how many are told."""
    return f"{found.lost:,} of {found.total:,} acknowledged writes lost unsaid, {found.told:,} told in the conflict log"


def _kept(found: LedgerCheck | None) -> tuple[bool, str]:
    """Whether writes were looked up and none was lost unsaid, and how many were."""
    if found is None:
        return False, "acknowledged writes were not looked up"
    return found.total > 0 and found.lost == 0, lost(found)


def _nothing_lost(ledger: LedgerCheck | None) -> Criterion:
    passed, found = _kept(ledger)
    return _judged("no acknowledged write lost unsaid", passed, f"{found}; looked up on the target at the end")


def _rolled_back(back: Rollback | None, ledger: LedgerCheck | None) -> Criterion:
    kept, found = _kept(ledger)
    return _judged(
        "rollback rehearsed and timed",
        back is not None and back.within_limit and kept,
        "it did not end"
        if back is None
        else f"from {back.from_} % in {back.seconds} s (limit {back.limit_seconds} s); on the monolith {found}",
    )


def _climbed(seen: Evidence, ladder: Sequence[int]) -> list[Criterion]:
    promoted = [step.weight for step in seen.steps if step.decision == "promote"]
    changed = {name for names in seen.changed for name in names}
    return [
        _judged(
            "canary promoted to 100 %",
            promoted[-len(ladder) :] == list(ladder),
            f"promoted at {', '.join(f'{weight} %' for weight in promoted) or 'no weight'}",
        ),
        _judged(
            "each weight moved by one resource",
            bool(seen.changed) and all(len(names) == 1 for names in seen.changed),
            f"{len(seen.changed)} deployments changed {', '.join(sorted(changed)) or 'nothing'} in all",
        ),
    ]


def _figures(seen: Evidence) -> Criterion:
    return _judged(
        "the gate's figures are the gateway's",
        seen.periods > 0 and not seen.differing,
        f"{seen.periods} periods by CloudWatch"
        + (f"; {len(seen.differing)} differ: {seen.differing[0]}" if seen.differing else ""),
    )


def _nothing_left(finalized: Finalization | None) -> Criterion:
    left = None if finalized is None else finalized.leftovers
    return _judged(
        "nothing left behind",
        left == [],
        "finalize did not end"
        if left is None
        else f"slots, publications, subscriptions, triggers, origins, schemas of ours in both catalogs: {', '.join(left) or 'none'}",
    )


def _every_step(failure: str | None, of: str) -> Criterion:
    return _judged("every step ended", failure is None, failure or f"all steps of the {of} ran")


def _drilled(weight: int, one: Drill | None) -> Criterion:
    name = f"rollback from {weight} %"
    if one is None:
        return _judged(name, False, "it did not run")
    last = one.last_request_seconds
    aim = "within" if one.proof_seconds < ROLLBACK_AIM else "past"
    return _judged(
        name,
        one.from_ == weight
        and one.total > 0
        and one.lost == 0
        and last is not None
        and max(one.proof_seconds, last) < ROLLBACK_LIMIT,
        f"last request on the Task Service after {last} s, proof after {one.proof_seconds} s (limit "
        f"{ROLLBACK_LIMIT:g} s, {aim} the aim of {ROLLBACK_AIM:g} s), {one.lost} of {one.total} acknowledged writes lost "
        f"unsaid, {one.told} told, {one.rows_compared} rows compared",
    )
