"""What a person reads of `replicate`."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from scripts.cli.view import Column, State, View, finding, mebibytes, table
from scripts.replication.documents import (
    REMEDY_IN_DETAIL,
    DirectionState,
    DmsDirectionState,
    Finding,
    Grade,
    ReplicationRoles,
    SequenceBand,
    Started,
    Status,
    Stopped,
    Waited,
)
from scripts.support import commands

FORWARD, REVERSE = "forward, to target", "reverse, to source"
_STATES: dict[Grade, State] = {"ok": "good", "warn": "warning", "fail": "bad"}


def started(document: Started) -> View:
    """Of `replicate start`."""
    new = document.status == "started"
    return View(
        verdict="Replication runs both ways." if new else "Replication ran both ways already; nothing was changed.",
        state="good",
        parts=[
            _fences(document.forward_seconds, document.reverse_seconds),
            *(finding("warning", warning) for warning in document.warnings),
        ],
        next=commands.VERIFY,
    )


def roles(document: ReplicationRoles, dry_run: bool = False) -> View:
    """Of `schema role --replication`."""
    said = {"created": "made", "there": "was there", "password": "got the password of its secret"}
    return View(
        verdict="Nothing was changed." if dry_run else "Replication has a role of its own on both sides.",
        state="good",
        parts=[
            *(f"{entry.side}: {entry.role} {said[entry.status]}" for entry in document.roles),
            *(finding("warning", warning) for warning in document.warnings),
        ],
        next=commands.COPY,
    )


def waited(document: Waited) -> View:
    """Of `replicate wait`."""
    return View(
        verdict="Everything written so far is on the other side, both ways.",
        state="good",
        parts=[_fences(document.forward_seconds, document.reverse_seconds), *_bands(document.sequences)],
        next=commands.STATUS,
    )


def stopped(document: Stopped) -> View:
    """Of `replicate stop`."""
    if document.status == "not-running":
        return View("Replication did not run; nothing was stopped.", "plain", next=commands.START)
    before = (
        "what was written before is on the other side"
        if document.drained
        else "what was not over yet waits in the slots"
    )
    return View(
        verdict=f"Replication is stopped; {before}.",
        state="good" if document.drained else "warning",
        parts=[table(["stopped"], [[name] for name in document.stopped])],
        next=commands.START,
    )


def status(document: Status) -> View:
    """Of `replicate status`."""
    directions = {FORWARD: document.forward, REVERSE: document.reverse}
    parts: list[RenderableType] = [_directions(directions), *_dms(directions)]
    # What fails first.
    parts += [_finding(one) for one in sorted(document.findings, key=lambda one: one.status)]
    if not document.findings:
        parts += _bands(document.sequences)
        parts.append(Text("Schema: the same on both sides."))
    parts += _writes(document)
    return View(
        verdict=_verdict(document),
        state=_STATES[document.status],
        parts=parts,
        next="as each FAIL says, then: task-migration replicate status"
        if document.status == "fail"
        else commands.STATUS,
    )


def _writes(document: Status) -> list[RenderableType]:
    """What is kept of the record of writes, and how many writes the conflict logs tell of as lost."""
    held, told = document.writes, document.conflicts
    rows = [
        (name, side.records, mebibytes(side.bytes), side.pruned, count)
        for name, side, count in (("source", held.source, told.source), ("target", held.target, told.target))
    ]
    numbers = [Column(name, number=True) for name in ("records kept", "MiB", "own pruned", "lost writes told")]
    who = [(one.side, one.role, one.application, sum(one.tables.values()), one.last) for one in document.writers]
    columns: list[str | Column] = ["who writes", "role", "application", Column("in a day", number=True), "last, UTC"]
    return [table(["record of writes", *numbers], rows), *([table(columns, who)] if who else [])]


def _verdict(document: Status) -> str:
    running = [state.running for state in (document.forward, document.reverse)]
    if not any(running):
        runs = "Replication does not run"
    elif not all(running):
        runs = f"Replication runs {'forward, to the target' if running[0] else 'reverse, to the source'}, only"
    else:
        runs = "Replication runs both ways"
    failing = sum(one.status == "fail" for one in document.findings)
    warnings = len(document.findings) - failing
    counts = [f"{failing} failing" if failing else "", f"{warnings} to watch" if warnings else ""]
    said = ", ".join(count for count in counts if count)
    return f"{runs}: {said}." if said else f"{runs}."


def _fences(forward: float, reverse: float) -> RenderableType:
    return table(["direction", Column("came through in s", number=True)], [[FORWARD, forward], [REVERSE, reverse]])


def _directions(directions: dict[str, DirectionState]) -> RenderableType:
    columns: list[str | Column] = [
        "direction",
        "runs",
        *(Column(name, number=True) for name in ("lag s", "behind MiB", "log kept MiB", "lasts h", "errors")),
    ]
    return table(
        columns,
        [
            [
                name,
                state.running,
                state.lag_seconds,
                None if state.lag_bytes is None else mebibytes(state.lag_bytes),
                None if state.runway is None else mebibytes(state.runway.retained_bytes),
                state.runway.hours if state.runway else None,
                state.apply_errors,
            ]
            for name, state in directions.items()
        ],
    )


def _dms(directions: dict[str, DirectionState]) -> list[RenderableType]:
    rows = [
        [
            name,
            state.task or "none",
            state.latency.source_seconds if state.latency else None,
            state.latency.target_seconds if state.latency else None,
        ]
        for name, state in directions.items()
        if isinstance(state, DmsDirectionState)
    ]
    numbers = [Column(name, number=True) for name in ("capture s", "apply s")]
    return [table(["AWS DMS", "task", *numbers], rows)] if rows else []


def _finding(one: Finding) -> RenderableType:
    return finding(
        _STATES[one.status], f"{one.what}: {one.detail}", None if one.remedy == REMEDY_IN_DETAIL else one.remedy
    )


def _bands(sequences: list[SequenceBand]) -> list[RenderableType]:
    """The sequence that is nearest to the band: the others have more room."""
    if not sequences:
        return []
    nearest = max(sequences, key=lambda band: band.used_percent)
    return [
        Text(
            f"Ids: nearest to the target's band is {nearest.sequence}, at {nearest.source_last:,} of {nearest.band_start:,}."
        )
    ]
