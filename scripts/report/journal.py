"""A run's story from what it journaled and the decisions that it kept: what nobody journaled is left out, never made up. No I/O here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from components.config_gates import GateLimits
from scripts.report import evidence
from scripts.report.documents import (
    ConflictRow,
    DecisionRow,
    Limit,
    Mark,
    MarkKind,
    Part,
    RollbackRow,
    Series,
    ShadowRow,
    Story,
    TableRow,
)
from scripts.report.evidence import Sample, moment, number
from scripts.support.events import (
    AbandonEvent,
    BackupEvent,
    CanaryEvent,
    CopyEvent,
    FinalizeEvent,
    PreflightEvent,
    ReplicateEvent,
    RollbackEvent,
    ShadowEvent,
    Step,
    VerifyEvent,
)

Event = Mapping[str, Any]
#: What damaged facts raise when they are read; pydantic's ValidationError is a ValueError.
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
#: Most points of a series: a page can be looked at, and a report read.
POINTS = 1200
#: Longer before its decision, in seconds, no watch began.
MONTH = 31 * 86_400.0
#: What stays of two writes that did not know of each other, by the kind that the conflict log gives the one that went.
DECIDED: Mapping[str, str] = {
    "update": "the later value",
    "update of deleted": "the delete",
    "insert of deleted": "the later delete",
    "delete of inserted": "the later insert",
    "unique claim": "the row with the smaller key",
    "parent gone": "the delete of what it refers to",
    "cascade": "the delete of what it refers to",
}


#: What a table's row may say.
_FACTS = ("rows", "bytes", "seconds", "source_rows", "target_rows", "equal")


@dataclass(frozen=True)
class _Copy:
    """A copy began: what an earlier one moved is gone."""


@dataclass(frozen=True)
class _Table:
    """What is known of a table from here on."""

    name: str
    facts: Mapping[str, Any]

    def row(self) -> TableRow:
        """With None for what is not known. Raises ValueError for facts of another kind."""
        return TableRow(table=self.name, **{**dict.fromkeys(_FACTS), **self.facts})


@dataclass(frozen=True)
class _Shadowed:
    rows: list[ShadowRow]


@dataclass(frozen=True)
class _Conflicts:
    rows: list[ConflictRow]


Item = Mark | DecisionRow | RollbackRow | Sample | _Copy | _Table | _Shadowed | _Conflicts
Kept = Mapping[str, Mapping[str, Any]]
"""Kept decisions by the name of their file."""


def attempt(events: Iterable[Event]) -> list[Event]:
    """The newest attempt: what came after an earlier one was given up; that one itself, if nothing did."""
    found: list[Event] = []
    over = False
    for event in events:
        if over:
            found, over = [], False
        found.append(event)
        over = (event.get("step"), event.get("event")) == (Step.ABANDON, AbandonEvent.ABANDONED)
    return found


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
                if isinstance(item, _Table):
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
            seen = evidence.observed(document)
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
            case _Shadowed(rows):
                self.shadow = rows
            case _Conflicts(rows):
                self.conflicts = rows
            case _Table(name, facts):
                self.tables.setdefault(name, {}).update(facts)
            case _Copy():
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
            tables=[_Table(name, facts).row() for name, facts in self.tables.items()],
            conflicts=self.conflicts,
            decisions=self.decisions,
            rollbacks=self.rollbacks,
            shadow=self.shadow,
            parts=[*parts, *([lost] if self.damaged else [])],
        )


def series(what: Any, of: str, points: Mapping[float, float | None]) -> Series:
    """A curve of at most :data:`POINTS` points: of more, neighbours are put together, rates by their mean and all else by the worst;
    what grows keeps its newest."""
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
    return some[0][0], sum(values) / len(some) if what in ("requests", "errors") else max(values)


Reader = Callable[[Event, float], Iterable[Item]]
READERS: dict[tuple[str, str], Reader] = {}


def _of(step: Step, *names: str) -> Callable[[Reader], Reader]:
    """Which events a reader reads."""

    def mark(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(((step, name) for name in names), reader))
        return reader

    return mark


def _plain(step: Step, name: str, kind: MarkKind, text: str) -> None:
    """An event that is a moment, and no more."""
    READERS[step, name] = lambda _, at: [Mark(at=at, kind=kind, text=text)]


_plain(Step.BACKUP, BackupEvent.VERIFIED, "other", "backup restored and compared")
_plain(Step.COPY, CopyEvent.FAILED, "other", "the copy failed")
_plain(Step.REPLICATE, ReplicateEvent.STARTED, "replicating", "replication runs both ways")
_plain(Step.REPLICATE, ReplicateEvent.STOPPED, "other", "replication stopped")
_plain(Step.CANARY, CanaryEvent.LOCK_TAKEN_OVER, "other", "another operator took over")
_plain(Step.FINALIZE, FinalizeEvent.REVOKING, "other", "the monolith's rights to write are taken")
_plain(Step.FINALIZE, FinalizeEvent.GIVEN_BACK, "other", "the monolith's rights to write are given back")
_plain(Step.FINALIZE, FinalizeEvent.FINALIZED, "finalized", "finalized: replication is taken down")
_plain(Step.ABANDON, AbandonEvent.ABANDONED, "other", "the attempt was given up")
_plain(Step.ROLLBACK, RollbackEvent.EMPTIED, "other", "the target was emptied, for another copy")


@_of(Step.PREFLIGHT, PreflightEvent.CHECKED)
def _preflight(event: Event, at: float) -> Iterator[Item]:
    yield Mark(at=at, kind="other", text="preflight passed" if event["passed"] else "preflight did not pass")


@_of(Step.COPY, CopyEvent.STARTED)
def _copy_began(_: Event, at: float) -> Iterator[Item]:
    yield _Copy()
    yield Mark(at=at, kind="other", text="the copy began")


@_of(Step.COPY, CopyEvent.MOVED)
def _moved_rows(event: Event, at: float) -> Iterator[Item]:
    for table, rows in event["rows"].items():
        yield "copied", str(table), at, number(rows)


@_of(Step.COPY, CopyEvent.ROWS)
def _table_copied(event: Event, at: float) -> Iterator[Item]:
    yield "copied", str(event["table"]), at, number(event["rows"])


@_of(Step.COPY, CopyEvent.COMPLETE)
def _copied(event: Event, at: float) -> Iterator[Item]:
    for one in event["tables"]:
        yield _Table(one["table"], {name: number(one[name]) for name in ("rows", "bytes", "seconds")})
        yield "copied", one["table"], at - number(event["seconds"]), 0
        yield "copied", one["table"], at, number(one["rows"])
    rows = sum(one["rows"] for one in event["tables"])
    yield Mark(at=at, kind="copied", text=f"{rows:,} rows of {len(event['tables'])} tables copied")


@_of(Step.VERIFY, VerifyEvent.COMPARED)
def _compared(event: Event, at: float) -> Iterator[Item]:
    whole = event.get("written") is None
    for table, rows in event["rows"].items():
        # A version before this one kept neither.
        equal = event.get("equal", {}).get(table, not event["differences"][table])
        # Of what was written since alone, counts are no table's.
        counts = {"source_rows": rows, "target_rows": event.get("target_rows", {}).get(table)} if whole else {}
        yield _Table(str(table), {**counts, "equal": bool(equal)})
    what = "every row" if whole else f"{event['written']:,} rows written since"
    yield Mark(
        at=at, kind="other", text=f"verify, {what}: {'both sides equal' if event['match'] else 'the sides DIFFER'}"
    )


@_of(Step.SHADOW, ShadowEvent.COMPARED)
def _shadowed(event: Event, at: float) -> Iterator[Item]:
    # A version before this one kept no numbers: an endpoint with differing fields has at least one differing answer.
    least = {endpoint: min(1, len(fields)) for endpoint, fields in event["differing"].items()}
    different = event.get("different", least)
    yield _Shadowed(
        [
            ShadowRow(endpoint=one, answers=answers, different=different[one])
            for one, answers in event["answers"].items()
        ]
    )
    alike = "alike" if event["match"] else "NOT alike"
    yield Mark(at=at, kind="other", text=f"shadow: {sum(event['answers'].values()):,} answers of both sides, {alike}")


@_of(Step.CANARY, CanaryEvent.MOVED)
def _moved(event: Event, at: float) -> Iterator[Item]:
    yield "weight", "asked", at, number(event["to"])
    yield Mark(at=at, kind="step", text=f"{event['from']} -> {event['to']} %")


@_of(Step.CANARY, CanaryEvent.DECIDED)
def _decided(event: Event, at: float) -> Iterator[Item]:
    kinds: dict[str, MarkKind] = {"promote": "promoted", "hold": "hold", "rollback": "breach", "refused": "other"}
    why = "" if event["decision"] == "promote" else _first(event["reasons"])
    text = f"{event['from']} -> {event['to']} %: {event['decision']}"
    yield Mark(at=at, kind=kinds[event["decision"]], text=f"{text}: {why}" if why else text)


def _first(reasons: list[str]) -> str:
    """The first reason, and how many more there are: all stand with the decision."""
    more = len(reasons) - 1
    return (reasons[0] if reasons else "") + (f" (and {more} more)" if more > 0 else "")


@_of(Step.ROLLBACK, RollbackEvent.BEGUN)
def _back(event: Event, at: float) -> Iterator[Item]:
    yield Mark(
        at=at, kind="rollback", text=f"rollback from {event['from']} %: {_first(event['reasons']) or 'asked for'}"
    )


@_of(Step.ROLLBACK, RollbackEvent.ROUTED)
def _routed(_: Event, at: float) -> Iterator[Item]:
    yield "weight", "asked", at, 0


@_of(Step.ROLLBACK, RollbackEvent.DONE, RollbackEvent.UNPROVEN)
def _rolled_back(event: Event, at: float) -> Iterator[Item]:
    if event["event"] == RollbackEvent.UNPROVEN and "rows" not in event:
        yield Mark(at=at, kind="rollback", text=f"NOT proven: {event['reason']}")
        return
    proof, proven = event["rows"], event["event"] == RollbackEvent.DONE
    yield RollbackRow(
        at=at,
        from_=event["from"],
        seconds=number(event["seconds"]),
        limit_seconds=number(event["limit_seconds"]),
        phases={name: number(seconds) for name, seconds in event["phases"].items()},
        rows_compared=proof["checked"],
        proven=proven,
    )
    yield from _told(proof, at)
    found = f"{proof['checked']:,} rows compared" if proven else "NOT proven that every write is on the monolith"
    yield Mark(at=at, kind="rollback", text=f"rollback ended after {number(event['seconds']):.1f} s: {found}")


@_of(Step.FINALIZE, FinalizeEvent.VERIFIED)
def _verified(event: Event, at: float) -> Iterator[Item]:
    yield from _told(event["proof"], at)
    yield Mark(at=at, kind="other", text="both sides equal with the monolith's rights taken")


def _told(proof: Mapping[str, Any], at: float) -> Iterator[Item]:
    yield "told", "both sides", at, number(proof["told"])
    yield _Conflicts([conflict(**one) for one in proof.get("told_by_kind", ())])


def conflict(table: str, kind: str, count: int) -> ConflictRow:
    """Lost writes of one kind, with what stayed."""
    return ConflictRow(table=table, kind=kind, decided=DECIDED.get(kind, "see the conflict log"), count=count)
