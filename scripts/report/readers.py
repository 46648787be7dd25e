"""What each event of the journal says of a run's story. No I/O here; damaged facts raise one of :data:`scripts.support.journal.DAMAGED`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.report.documents import (
    ConflictRow,
    DecisionRow,
    Mark,
    MarkKind,
    RollbackRow,
    ShadowRow,
    TableRow,
)
from scripts.report.evidence import Sample, number
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
from scripts.support.figure import counted

Event = Mapping[str, Any]
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
class CopyBegan:
    """A copy began: what an earlier one moved is gone."""


@dataclass(frozen=True)
class Table:
    """What is known of a table from here on."""

    name: str
    facts: Mapping[str, Any]

    def row(self) -> TableRow:
        """With None for what is not known. Raises ValueError for facts of another kind."""
        return TableRow(table=self.name, **{**dict.fromkeys(_FACTS), **self.facts})


@dataclass(frozen=True)
class Shadowed:
    """The newest comparison of both sides' answers."""

    rows: list[ShadowRow]


@dataclass(frozen=True)
class Conflicts:
    """Lost writes so far, by kind."""

    rows: list[ConflictRow]


Item = Mark | DecisionRow | RollbackRow | Sample | CopyBegan | Table | Shadowed | Conflicts
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
    yield CopyBegan()
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
        yield Table(one["table"], {name: number(one[name]) for name in ("rows", "bytes", "seconds")})
        yield "copied", one["table"], at - number(event["seconds"]), 0
        yield "copied", one["table"], at, number(one["rows"])
    rows = sum(one["rows"] for one in event["tables"])
    yield Mark(at=at, kind="copied", text=f"{counted(rows, 'row')} of {counted(len(event['tables']), 'table')} copied")


@_of(Step.VERIFY, VerifyEvent.COMPARED)
def _compared(event: Event, at: float) -> Iterator[Item]:
    whole = event.get("written") is None
    for table, rows in event["rows"].items():
        # A version before this one kept neither.
        equal = event.get("equal", {}).get(table, not event["differences"][table])
        # Of what was written since alone, counts are no table's.
        counts = {"source_rows": rows, "target_rows": event.get("target_rows", {}).get(table)} if whole else {}
        yield Table(str(table), {**counts, "equal": bool(equal)})
    what = "every row" if whole else f"{counted(event['written'], 'row')} written since"
    yield Mark(
        at=at, kind="other", text=f"verify, {what}: {'both sides equal' if event['match'] else 'the sides DIFFER'}"
    )


@_of(Step.SHADOW, ShadowEvent.COMPARED)
def _shadowed(event: Event, at: float) -> Iterator[Item]:
    # A version before this one kept no numbers: an endpoint with differing fields has at least one differing answer.
    least = {endpoint: min(1, len(fields)) for endpoint, fields in event["differing"].items()}
    different = event.get("different", least)
    yield Shadowed(
        [
            ShadowRow(endpoint=one, answers=answers, different=different[one])
            for one, answers in event["answers"].items()
        ]
    )
    alike = "alike" if event["match"] else "NOT alike"
    yield Mark(
        at=at, kind="other", text=f"shadow: {counted(sum(event['answers'].values()), 'answer')} of both sides, {alike}"
    )


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
    found = (
        f"{counted(proof['checked'], 'row')} compared" if proven else "NOT proven that every write is on the monolith"
    )
    yield Mark(at=at, kind="rollback", text=f"rollback ended after {number(event['seconds']):.1f} s: {found}")


@_of(Step.FINALIZE, FinalizeEvent.VERIFIED)
def _verified(event: Event, at: float) -> Iterator[Item]:
    yield from _told(event["proof"], at)
    yield Mark(at=at, kind="other", text="both sides equal with the monolith's rights taken")


def _told(proof: Mapping[str, Any], at: float) -> Iterator[Item]:
    yield "told", "both sides", at, number(proof["told"])
    yield Conflicts([conflict(**one) for one in proof.get("told_by_kind", ())])


def conflict(table: str, kind: str, count: int) -> ConflictRow:
    """Lost writes of one kind, with what stayed."""
    return ConflictRow(table=table, kind=kind, decided=DECIDED.get(kind, "see the conflict log"), count=count)
