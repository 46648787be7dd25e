"""What the journal's events come to. Pure; a journal decides nothing that the databases say themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from scripts.canary import history
from scripts.canary.history import History
from scripts.support.events import (
    AbandonEvent,
    BackupEvent,
    CanaryEvent,
    CopyEvent,
    FinalizeEvent,
    PreflightEvent,
    ReplicateEvent,
    RollbackEvent,
    SchemaEvent,
    Step,
)
from scripts.support.journal import DAMAGED

#: The steps before the canary, in the plan's order, with the events that end each.
PREPARED: dict[str, frozenset[str]] = {
    Step.PREFLIGHT: frozenset({PreflightEvent.CHECKED}),
    Step.BACKUP: frozenset({BackupEvent.VERIFIED}),
    Step.SCHEMA: frozenset({SchemaEvent.APPLIED}),
    Step.COPY: frozenset({CopyEvent.COMPLETE}),
    Step.REPLICATE: frozenset({ReplicateEvent.STARTED, ReplicateEvent.ALREADY_RUNNING}),
}
#: What ends a migration: nothing of before counts for the next one.
ENDS = (
    (Step.ABANDON, AbandonEvent.ABANDONED),
    (Step.ROLLBACK, RollbackEvent.EMPTIED),
    (Step.FINALIZE, FinalizeEvent.FINALIZED),
)
Event = Mapping[str, Any]


@dataclass(frozen=True)
class Told:
    """Since the last end of a migration, unless it says otherwise."""

    #: The step that ended the last one, None: this is the first.
    ended: str | None = None
    #: Each step's newest event.
    last: Mapping[str, Event] = field(default_factory=dict)
    #: Steps of :data:`PREPARED` that have ended well.
    done: frozenset[str] = frozenset()
    #: The canary, as the source would have kept it, and the weight that the routes were last moved to.
    history: History = field(default_factory=History)
    weight: int | None = None
    #: The newest decision, and the rollback that was begun.
    decided: Event | None = None
    begun: Event | None = None
    #: `rollback --scenario` or `--abandon` that was begun and has not ended: its event, and what was typed.
    removing: tuple[Event, str] | None = None

    @property
    def furthest(self) -> str | None:
        """The last step of :data:`PREPARED` that has ended well."""
        return next((step for step in reversed(PREPARED) if step in self.done), None)

    def failed(self, step: str) -> bool:
        """Whether the step was begun, and its newest event does not end it well."""
        newest = self.last.get(step)
        return newest is not None and not _ended_well(newest)


def of(events: Iterable[Event]) -> Told:
    """What events, oldest first, come to. An event that lacks what this version expects of it is passed by."""
    told = Told()
    for event in events:
        told = _after(told, event)
    return told


def _ended_well(event: Event) -> bool:
    ends = event["event"] in PREPARED.get(event["step"], frozenset())
    return ends and not (event["step"] == Step.PREFLIGHT and event.get("passed") is False)


def _after(told: Told, event: Event) -> Told:
    step, name = event["step"], event["event"]
    if (step, name) in ENDS:
        # After `finalize` the routes stay where they are; in the other cases a rollback came before, or there is nothing to route to.
        return Told(ended=step, last={step: event}, weight=told.weight if step == Step.FINALIZE else None)
    with suppress(*DAMAGED):
        weight = history.routed(event)
        told = replace(
            told, history=history.after(told.history, event), weight=told.weight if weight is None else weight
        )
    last = {**told.last, step: event}
    done = told.done | {step} if _ended_well(event) else told.done - {step} if step in PREPARED else told.done
    told = replace(told, last=last, done=done)
    match (step, name):
        case (Step.CANARY, CanaryEvent.DECIDED):
            return replace(told, decided=event)
        case (Step.ROLLBACK, RollbackEvent.BEGUN):
            return replace(told, begun=event)
        case (Step.ROLLBACK, RollbackEvent.EMPTYING):
            return replace(told, removing=(event, f"rollback --scenario {event.get('scenario') or 'data'}"))
        case (Step.ABANDON, AbandonEvent.ABANDONING):
            return replace(told, removing=(event, "rollback --abandon"))
        case (Step.COPY, CopyEvent.STARTED) | (Step.ABANDON, AbandonEvent.NOTHING_THERE):
            return replace(told, removing=None)
    return told
