"""A run's story from what it journaled and the decisions that it kept: what nobody journaled is left out, never made up. No I/O here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from components.config_gates import GateLimits
from scripts.canary.figures import observed
from scripts.report import evidence
from scripts.report.documents import (
    ConflictRow,
    DecisionRow,
    Limit,
    Mark,
    Part,
    RollbackRow,
    Series,
    ShadowRow,
    Story,
)
from scripts.report.evidence import moment, number
from scripts.report.readers import READERS, Conflicts, CopyBegan, Event, Item, Shadowed, Table
from scripts.support.events import AbandonEvent, CanaryEvent, CopyEvent, FinalizeEvent, Step
from scripts.support.journal import DAMAGED

#: Most points of a series: a page can be looked at, and a report read.
POINTS = 1200
#: Longer before its decision, in seconds, no watch began.
MONTH = 31 * 86_400.0
Kept = Mapping[str, Mapping[str, Any]]
"""Kept decisions by the name of their file."""


def attempt(events: Iterable[Event]) -> list[Event]:
    """The newest attempt: what came after an earlier one was given up, or after a finalized one when there is another copy."""
    listed = list(events)
    cut, end, given_up = 0, None, False
    for place, event in enumerate(listed):
        what = event.get("step"), event.get("event")
        if end is not None and (given_up or what == (Step.COPY, CopyEvent.STARTED)):
            cut, end = end, None
        if what in ((Step.ABANDON, AbandonEvent.ABANDONED), (Step.FINALIZE, FinalizeEvent.FINALIZED)):
            end, given_up = place + 1, what[0] == Step.ABANDON
    return listed[cut:]


def tell(events: Sequence[Event], kept: Kept, *, gates: GateLimits, parts: Sequence[Part] = ()) -> Story:
    """The story of one attempt.

    Args:
        events: oldest first; what is no event of this program's, or not whole, is counted among the parts and passed by.
        kept: the decisions that the events name; without one, a decision has no evidence.
        gates: the limits where no decision keeps any.
    """
    telling = _Telling()
    for event in events:
        telling.take(event, kept)
    return telling.story(gates, parts)


@dataclass
class _Telling:
    """What the events so far come to."""

    moments: list[float] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    points: defaultdict[tuple[str, str], dict[float, float | None]] = field(default_factory=lambda: defaultdict(dict))
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    decisions: list[DecisionRow] = field(default_factory=list)
    rollbacks: list[RollbackRow] = field(default_factory=list)
    shadow: list[ShadowRow] = field(default_factory=list)
    conflicts: list[ConflictRow] = field(default_factory=list)
    limits: list[Limit] | None = None
    damaged: int = 0

    def take(self, event: Event, kept: Kept) -> None:
        """One more event: all of it, or nothing."""
        try:
            at = moment(event["at"])
            read = READERS.get((event["step"], event["event"]))
            items = [] if read is None else list(read(event, at))
            for item in items:
                if isinstance(item, Table):
                    item.row()
            if (event["step"], event["event"]) == (Step.CANARY, CanaryEvent.DECIDED):
                items += self._decided(event, at, kept)
        except DAMAGED:
            self.damaged += 1
            return
        self.moments.append(at)
        for item in items:
            self._add(item)

    def _decided(self, event: Event, at: float, kept: Kept) -> list[Item]:
        """The decision with what its own file keeps."""
        document = kept.get(str(event.get("document")).rpartition("/")[2])
        if document is None:
            return [evidence.row(event, at, None, "what it was decided by is not there any more")]
        try:
            seen = observed(document)
            samples = [] if seen is None else list(evidence.samples(seen))
            if any(abs(number(when) - at) > MONTH or number(value or 0.0) < 0 for _, _, when, value in samples):
                raise ValueError("figures of another time, or below 0")
        except DAMAGED:
            return [evidence.row(event, at, None, "what it was decided by cannot be read")]
        with suppress(*DAMAGED):
            self.limits = evidence.limits(GateLimits.model_validate(document["limits"]))
        return [evidence.row(event, at, seen), *samples]

    def _add(self, item: Item) -> None:
        match item:
            case Mark():
                self.marks.append(item)
            case DecisionRow():
                self.decisions.append(item)
            case RollbackRow():
                self.rollbacks.append(item)
            case Shadowed(rows):
                self.shadow = rows
            case Conflicts(rows):
                self.conflicts = rows
            case Table(name, facts):
                self.tables.setdefault(name, {}).update(facts)
            case CopyBegan():
                self.tables.clear()
                for key in [key for key in self.points if key[0] == "copied"]:
                    del self.points[key]
            case (what, of, at, value):
                self.points[what, of][at] = value

    def story(self, gates: GateLimits, parts: Sequence[Part]) -> Story:
        ends = [*self.moments, *(at for points in self.points.values() for at in points)]
        began, ended = min(ends, default=0.0), max(ends, default=0.0)
        if (asked := self.points.get(("weight", "asked"))) is not None:
            asked.setdefault(began, 0.0)
            asked.setdefault(ended, asked[max(asked)])
        lost = Part(part="journal", how="not there", what=f"{self.damaged:,} events are not whole and were passed by")
        return Story(
            began=began,
            ended=ended,
            series=[series(what, of, points) for (what, of), points in sorted(self.points.items())],
            limits=evidence.limits(gates) if self.limits is None else self.limits,
            marks=sorted(self.marks, key=lambda mark: mark.at),
            tables=[Table(name, facts).row() for name, facts in self.tables.items()],
            conflicts=self.conflicts,
            decisions=self.decisions,
            rollbacks=self.rollbacks,
            shadow=self.shadow,
            parts=[*parts, *([lost] if self.damaged else [])],
        )


def series(what: Any, of: str, points: Mapping[float, float | None]) -> Series:
    """A curve of at most :data:`POINTS` points: of more, neighbours are put together, rates and weights by their mean, latencies
    and lags by the worst; what grows keeps its newest."""
    ordered = sorted(points.items())
    if (each := -(-len(ordered) // POINTS)) > 1:
        ordered = [_together(what, ordered[at : at + each]) for at in range(0, len(ordered), each)]
    return Series(what=what, of=of, points=[(at, None if value is None else round(value, 4)) for at, value in ordered])


def _together(what: str, some: Sequence[tuple[float, float | None]]) -> tuple[float, float | None]:
    values = [value for _, value in some if value is not None]
    if not values:
        return some[0][0], None
    if what in ("copied", "told"):
        return some[0][0], values[-1]
    mean = what in ("requests", "errors", "weight")
    return some[0][0], sum(values) / len(values) if mean else max(values)
