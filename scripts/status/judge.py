"""Where, safe, next: one pure function of what was seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from components.config import MigrationConfig
from scripts.canary import ready
from scripts.canary.gates import Finding as Rule
from scripts.canary.ready import Readiness
from scripts.database import helper_schema
from scripts.replication import findings as replication
from scripts.replication.directions import DIRECTIONS, publisher
from scripts.replication.documents import REMEDY_IN_DETAIL, DirectionState, Finding
from scripts.status import place, told
from scripts.status.documents import AtWork, Event, LogKept, Looked, MigrationStatus, WayBack, Weight
from scripts.status.place import Canary, Standing
from scripts.status.seen import Seen, SideSeen
from scripts.support import commands
from scripts.support.sides import BOTH, Side

#: A clock that is off by more makes ages wrong, seconds.
CLOCKS = 60.0
#: Without having seen these nobody can say that it is safe.
NEEDED = (*BOTH, "journal", "replication")
#: Rules of the readiness gate that a rollback does not need.
FOR_A_STEP = ("verification", "shadow reads", "scheduler")
#: Of these the findings of `replicate status` tell already.
_TOLD_ALREADY = ("forward direction", "reverse direction", "schema", "status", *FOR_A_STEP)


def judge(seen: Seen, config: MigrationConfig, stack: str | None, state_dir: str) -> MigrationStatus:
    """What one look comes to."""
    journal = told.of(seen.events or ())
    canary = place.canary(seen, journal)
    standing = place.stand(seen, journal, config)
    rules = _rules(seen, canary, config)
    verification, shadow = _verification(seen, rules), _shadow(seen, rules, config)
    found = [*_findings(seen, standing, canary, journal, rules, config)]
    failing = sum(one.status == "fail" for one in found)
    standing = _last_done(standing, verification, shadow)
    status = seen.running.status if seen.running else None
    return MigrationStatus(
        stack=stack,
        state_dir=state_dir,
        at=datetime.fromtimestamp(seen.now, UTC).isoformat(timespec="seconds"),
        place=standing.place,
        safe=not failing,
        findings=found,
        next=_next(seen, standing, canary, verification, shadow, rules, others=failing > (standing.wrong is not None)),
        weight=_weight(seen, canary),
        forward_seconds=status.forward.lag_seconds if status else None,
        reverse_seconds=status.reverse.lag_seconds if status else None,
        verification=verification,
        shadow=shadow,
        conflicts=status.conflicts if status else None,
        way_back=_way_back(seen, rules, config),
        log=[*_log(seen)],
        writers=status.writers if status else [],
        at_work=[*_at_work(seen)],
        unseen=list(seen.unseen),
        events=[Event(at=one["at"], step=one["step"], event=one["event"]) for one in seen.events or ()],
    )


def _rules(seen: Seen, canary: Canary, config: MigrationConfig) -> Mapping[str, Rule]:
    """The readiness gate of the next step, by name; empty where nothing runs."""
    if seen.running is None:
        return {}
    weight = canary.weight or 0
    following = ready.next_weight(weight, config.canary_ladder)
    gate: Readiness = replace(seen.running.readiness, whole=not weight or following in (None, 100))
    if following != 100:
        gate = replace(gate, not_switched=())
    return {one.rule: one for one in ready.ready(gate, config).findings}


def _last_done(standing: Standing, verification: Looked | None, shadow: Looked | None) -> Standing:
    """Before the canary: whether the two sides were found equal, and answer alike."""
    if standing.step != "replicate" or verification is None or not verification.counts:
        return standing
    if shadow is not None and shadow.counts:
        return replace(standing, step="shadow", text="both sides are equal and answer alike")
    return replace(standing, step="verify", text="both sides were found equal")


def _next(
    seen: Seen,
    standing: Standing,
    canary: Canary,
    verification: Looked | None,
    shadow: Looked | None,
    rules: Mapping[str, Rule],
    *,
    others: bool,
) -> str:
    if standing.step in ("rollback", "abandon") and not standing.ended:
        return standing.next
    if others:
        if canary.weight and "target" not in seen.sides:
            return f"{commands.ROLLBACK} --reason TEXT, where users get errors; else {commands.MEND}"
        return commands.MEND
    if not standing.ended or not standing.live or standing.step == "at 100 %":
        return standing.next
    if verification is None or not verification.counts:
        return commands.VERIFY
    if shadow is not None and shadow.counts is False:
        return commands.SHADOW
    if (held := rules.get("scheduler")) is not None:
        return f"{held.text}; then {commands.STEP}"
    return commands.STEP


def _findings(
    seen: Seen,
    standing: Standing,
    canary: Canary,
    journal: told.Told,
    rules: Mapping[str, Rule],
    config: MigrationConfig,
) -> Iterator[Finding]:
    if standing.wrong is not None:
        yield _fail(standing.step, *standing.wrong)
    for one in seen.unseen:
        status: Literal["warn", "fail"] = "fail" if one.what in NEEDED else "warn"
        yield Finding(status=status, what=f"{one.what}: not seen", detail=one.why, remedy=one.remedy)
    if canary.problem is not None:
        yield _fail("source: another version", canary.problem, "use the version of this program that moved the weight")
    if seen.running is not None:
        yield from seen.running.status.findings
        for name, rule in rules.items():
            runs = all(getattr(seen.running.status, way).running for way in DIRECTIONS)
            if rule.state != "good" and name not in _TOLD_ALREADY and runs:
                yield _fail(name, rule.text, REMEDY_IN_DETAIL)
    else:
        for side, alone in seen.sides.items():
            yield from _of_the_slot(config, side, alone, alone=len(seen.sides) < len(BOTH))
    yield from _clocks(seen)
    yield from _disagreeing(seen, canary, journal)


def _fail(what: str, detail: str, remedy: str) -> Finding:
    return Finding(status="fail", what=what, detail=detail, remedy=remedy)


def _of_the_slot(config: MigrationConfig, side: Side, one: SideSeen, *, alone: bool) -> Iterator[Finding]:
    """What a side's own slot shows while nothing is known of the other side."""
    direction = next(way for way in DIRECTIONS if publisher(way) == side)
    state = DirectionState(running=True, lag_bytes=None, reason=None, apply_errors=0, slot=one.slot, runway=one.runway)
    yield from replication.slot(config, direction, state)
    if one.slot is not None and one.slot.wal_status == "lost" and alone:
        yield _fail(
            f"{direction}: slot lost",
            f"the slot on the {side} is lost (max_slot_wal_keep_size was passed)",
            commands.STATUS,
        )


def _clocks(seen: Seen) -> Iterator[Finding]:
    for side, one in seen.sides.items():
        if not abs(one.ahead) <= CLOCKS:
            how = "ahead of" if one.ahead > 0 else "behind"
            yield Finding(
                status="warn",
                what=f"{side}: clock",
                detail=f"it is {abs(one.ahead):,.0f} s {how} this machine's, the limit is {CLOCKS:g} s: ages that are told here may be wrong",
                remedy="set this machine's clock (NTP)",
            )


def _disagreeing(seen: Seen, canary: Canary, journal: told.Told) -> Iterator[Finding]:
    """The journal against the databases: it may be another machine's, or the databases may be others."""
    if (
        len(seen.sides) == len(BOTH)
        and not any(one.installed for one in seen.sides.values())
        and journal.furthest in ("copy", "replicate")
    ):
        yield Finding(
            status="warn",
            what="journal",
            detail="it has a copy, the databases show nothing of one",
            remedy="it was given up from another machine, or SOURCE_DATABASE_URL and TARGET_DATABASE_URL name other databases than then",
        )
    if None not in (journal.weight, canary.weight) and journal.weight != canary.weight:
        yield Finding(
            status="warn",
            what="weight",
            detail=f"the source has kept {canary.weight} %, the journal's last move was to {journal.weight} %",
            remedy="the source counts, where another machine moved it since; `task-migration canary status` asks the load balancer",
        )


def _verification(seen: Seen, rules: Mapping[str, Rule]) -> Looked | None:
    source = seen.sides.get("source")
    if seen.running is not None:
        last, rule = seen.running.readiness.verified, rules["verification"]
        hours = None if last is None else _age(last.age_seconds / 3600)
        return Looked(
            match=last.match if last else None, hours_ago=hours, counts=rule.state == "good", text=_short(rule.text)
        )
    return None if source is None else _by_source(seen, source.kept.get("verified"), "verification")


def _shadow(seen: Seen, rules: Mapping[str, Rule], config: MigrationConfig) -> Looked | None:
    source = seen.sides.get("source")
    if not config.require_shadow:
        return None
    if seen.running is not None and (last := seen.running.readiness.shadowed) is not None:
        rule, hours = rules["shadow reads"], None if last.match is None else _age(last.hours)
        return Looked(match=last.match, hours_ago=hours, counts=rule.state == "good", text=_short(rule.text))
    return None if source is None else _by_source(seen, source.kept.get(helper_schema.SHADOWED), "shadow")


def _by_source(seen: Seen, kept: Any, what: str) -> Looked | None:
    """What the source alone has of it: whether that counts depends on the copy, which the target knows."""
    if not isinstance(kept, dict) or not isinstance(kept.get("began"), str):
        return None
    try:
        began = datetime.fromisoformat(kept["began"]).timestamp()
    except ValueError:
        return None
    hours = _age((seen.now + seen.sides["source"].ahead - began) / 3600)
    match = bool(kept.get("match"))
    return Looked(
        match=match, hours_ago=hours, counts=None, text=f"the last {what} {'matched' if match else 'found differences'}"
    )


def _age(value: float) -> float | None:
    """Not below 0, where a clock went back."""
    return round(max(value, 0.0), 2) if math.isfinite(value) else None


def _short(text: str) -> str:
    """Without the remedy, which stands in `next`."""
    return text.partition("; remedy")[0].partition("; mend them")[0]


def _way_back(seen: Seen, rules: Mapping[str, Rule], config: MigrationConfig) -> WayBack | None:
    if seen.running is None:
        return None
    bad = [rule.text for name, rule in rules.items() if rule.state != "good" and name not in FOR_A_STEP]
    seconds = seen.running.readiness.rollback_seconds
    return WayBack(ready=not bad, seconds=seconds, limit_seconds=config.rollback_limit_seconds, reasons=bad)


def _weight(seen: Seen, canary: Canary) -> Weight:
    last = seen.watched
    if last is None:
        return Weight(declared=canary.weight)
    return Weight(
        declared=canary.weight,
        measured=last.measured,
        requests=last.requests,
        watched=last.weight,
        minutes_ago=_age((seen.now - last.at) / 60),
    )


def _log(seen: Seen) -> Iterator[LogKept]:
    for side in BOTH:
        one = seen.sides.get(side)
        if one is not None and one.slot is not None:
            yield LogKept(side=side, wal_status=one.slot.wal_status, active=one.slot.active, runway=one.runway)


def _at_work(seen: Seen) -> Iterator[AtWork]:
    for side in BOTH:
        one = seen.sides.get(side)
        if one is None:
            continue
        if (held := one.holder) is not None:
            what = "moves the weight" if side == "source" else "copies"
            yield AtWork(side=side, what=what, who=f"{held.name} from {held.address}", since=held.since)
        for name in one.at_work:
            yield AtWork(side=side, what=name, who=f"task-migration {name}", since=None)
