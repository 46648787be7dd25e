"""What `replicate status` finds wrong (fail) or sees coming (warn), each with the value, the limit and the remedy. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from components.config import MigrationConfig
from scripts.database import helper_schema
from scripts.replication.directions import Direction, publisher, subscriber
from scripts.replication.documents import REMEDY_IN_DETAIL, DirectionState, Finding, Grade, SequenceBand
from scripts.support.sides import Side

#: Differences between the catalogs that are told one by one.
TOLD = 10


@dataclass(frozen=True)
class Recording:
    """What is wrong with a side's record of writes, a few words each: ``triggers`` and ``tables`` are as in
    :class:`scripts.writes.watch.Changed`; ``older``: it has gone back; ``unrecorded``: why writes may have left no record; ``others``:
    code of others that would run with the operator's rights, with its remedy; ``exposed``: what of the helper schema is not the
    operator's alone."""

    triggers: Sequence[str] = ()
    tables: Sequence[str] = ()
    older: Sequence[str] = ()
    unrecorded: Sequence[str] = ()
    others: Sequence[str] = ()
    exposed: Sequence[helper_schema.Open] = ()
    #: Minutes in which the Task Service deleted more than is usual, on the target.
    deletes: Sequence[str] = ()


def judge(
    config: MigrationConfig,
    directions: Mapping[Direction, DirectionState],
    bands: Sequence[SequenceBand],
    drift: Sequence[str],
    never: Mapping[Direction, int],
    records: Mapping[Side, Recording],
) -> list[Finding]:
    """The findings over all that was observed; ``never``: how many writes a fence overtook, by direction; ``records``: how each
    side's record of writes stands."""
    found: list[Finding] = [_overtaken(name, count) for name, count in never.items() if count]
    for side, recording in records.items():
        found += _recording(side, recording)
    for name, state in directions.items():
        found += [*_flow(name, state), *slot(config, name, state)]
    for band in bands:
        found += _band(config, band)
    if drift:
        rest = f"; and {len(drift) - TOLD} more" if len(drift) > TOLD else ""
        found.append(
            Finding(
                status="fail",
                what="schema drift",
                detail="; ".join(drift[:TOLD]) + rest,
                remedy="`task-migration schema diff` has the SQL that mends each; no step is promoted before",
            )
        )
    return found


def tables(changed: str | None) -> Iterator[Finding]:
    """That other tables are configured than were copied: ``changed`` has what to do."""
    if changed:
        yield Finding(status="fail", what="tables", detail=changed, remedy=REMEDY_IN_DETAIL)


def worst(findings: Sequence[Finding]) -> Grade:
    """The grade of the whole."""
    grades = {finding.status for finding in findings}
    return "fail" if "fail" in grades else "warn" if grades else "ok"


def _overtaken(name: Direction, count: int) -> Finding:
    return Finding(
        status="fail",
        what=f"{name}: writes that did not arrive",
        detail=f"{count:,} writes of the {publisher(name)} never arrived at the {subscriber(name)}, the limit is none: what was "
        "written after them has, so the slot was advanced or made anew, or records were removed, by hand",
        remedy="keep both databases as they are and send all requests to one side (`task-migration rollback`); then "
        "`task-migration rollback --abandon` and copy again",
    )


def _recording(side: Side, recording: Recording) -> Iterator[Finding]:
    for what, texts, remedy in (
        (
            "triggers",
            recording.triggers,
            "writes may have left no record: `task-migration replicate start`, then `verify`",
        ),
        ("tables altered", recording.tables, "alter both sides alike, then `task-migration replicate start`"),
        (
            "an older state",
            recording.older,
            "it was restored, or somebody changed our tables: send all requests to the other side (`task-migration rollback`, or "
            "leave them there); then `rollback --abandon` and copy again",
        ),
        (
            "writes without a record",
            recording.unrecorded,
            "`task-migration verify`, where rows differ `verify --repair`; one that finds no difference ends this",
        ),
        (
            "code of others",
            recording.others,
            "read what it does, then mend it as a role that may: until then no command writes",
        ),
        (
            "unusual deletes",
            recording.deletes,
            "they are deleted on the monolith too. Where nobody meant them: `task-migration rollback`, then bring them back from the "
            "backup; where they were meant, wait an hour, or raise gates.deleteShareLimitPercent",
        ),
    ):
        if texts:
            yield Finding(status="fail", what=f"{side}: {what}", detail="; ".join(texts[:TOLD]), remedy=remedy)
    if recording.exposed:
        yield Finding(
            status="fail",
            what=f"{side}: helper schema open to others",
            detail="; ".join(one.detail for one in recording.exposed[:TOLD]),
            remedy="; ".join(one.remedy for one in recording.exposed[:TOLD]),
        )


def _flow(name: Direction, state: DirectionState) -> Iterator[Finding]:
    if not state.running:
        yield Finding(status="fail", what=f"{name}: not running", detail=str(state.reason), remedy=REMEDY_IN_DETAIL)
    elif state.reason:
        blocked = ", ".join(map(str, state.blocked_by))
        remedy = (
            f"end the sessions that it waits for: SELECT pg_terminate_backend({blocked})"
            if blocked
            else "wait, and look again"
        )
        yield Finding(status="fail" if blocked else "warn", what=f"{name}: late", detail=state.reason, remedy=remedy)


def slot(config: MigrationConfig, name: Direction, state: DirectionState) -> Iterator[Finding]:
    """What threatens one direction's slot, and the disk that it is on."""
    if not state.stalled_seconds < config.slot_stalled_seconds:
        yield Finding(
            status="fail",
            what=f"{name}: slot stalled",
            detail=f"the slot has not advanced for {state.stalled_seconds:g} s while the log grew; the limit is "
            f"{config.slot_stalled_seconds:g} s",
            remedy="mend what keeps the apply worker; its reason stands above",
        )
    runway = state.runway
    if runway and runway.retained_bytes >= runway.limit_bytes:
        yield Finding(
            status="fail",
            what=f"{name}: log runway",
            detail=f"the slot holds {_mib(runway.retained_bytes)} of log, the limit ({runway.limit}) is {_mib(runway.limit_bytes)}",
            remedy="mend the apply worker, or `task-migration rollback --abandon`",
        )
    elif runway and runway.hours is not None and runway.hours < config.wal_runway_warn_hours:
        yield Finding(
            status="warn",
            what=f"{name}: log runway",
            detail=f"{runway.hours:g} h until the log kept for the slot reaches {_mib(runway.limit_bytes)} ({runway.limit}) should "
            f"it stand still, at {_mib(runway.rate_bytes_per_second or 0.0)}/s; {config.wal_runway_warn_hours:g} h are wanted",
            remedy="give the disk more room and raise walAllowanceGb",
        )


def _mib(count: float) -> str:
    return f"{count / 2**20:,.2f} MiB"


def _band(config: MigrationConfig, band: SequenceBand) -> Iterator[Finding]:
    if band.status != "ok":
        yield Finding(
            status=band.status,
            what=f"sequence band: {band.sequence}",
            detail=f"the source stands at {band.source_last} ({band.used_percent:g} % of the way), the target at "
            f"{band.target_last}; the band begins at {band.band_start}, {config.sequence_band_warn_percent} % is the limit",
            remedy="before the source reaches the band: `rollback --abandon`, raise sequenceBandStart, copy again",
        )
