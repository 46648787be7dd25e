"""What the journal tells of the canary so far: what a killed step left, what is owed, what deployments took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.support.events import CanaryEvent, RollbackEvent, Step
from scripts.support.settings import Settings

#: So many of the newest deployments tell how long the next one takes.
UPS_KEPT = 10


@dataclass(frozen=True)
class History:
    """The canary so far."""

    #: The weight that a step came from which was begun and neither promoted nor rolled back, and where it goes.
    unfinished: tuple[int, int] | None = None
    #: Why a rollback is owed: it was decided or begun, and not ended.
    owed: tuple[str, ...] | None = None
    #: When the Task Service got its first requests since the last whole rollback, by the journal.
    since: str | None = None
    #: What deployments of a weight took, seconds.
    ups: tuple[float, ...] = ()


def history(events: Iterable[Mapping[str, Any]]) -> History:
    """Read the journal's ``canary`` and ``rollback`` events, oldest first. Pure."""
    unfinished: tuple[int, int] | None = None
    owed: tuple[str, ...] | None = None
    since: str | None = None
    ups: list[float] = []
    for event in events:
        match (event.get("step"), event.get("event")):
            case (Step.CANARY, CanaryEvent.BEGUN):
                unfinished = (int(event["from"]), int(event["to"]))
                since = since or event.get("at")
            case (Step.CANARY, CanaryEvent.MOVED):
                ups.append(float(event["seconds"]))
            case (Step.CANARY, CanaryEvent.DECIDED):
                if event.get("decision") == "promote":
                    unfinished = None
                elif event.get("decision") == "rollback":
                    unfinished, owed = None, tuple(event.get("reasons", ())) or ("decided",)
            case (Step.ROLLBACK, RollbackEvent.BEGUN):
                unfinished, owed = None, tuple(event.get("reasons", ())) or ("begun",)
            case (Step.ROLLBACK, RollbackEvent.ROUTED) if event.get("seconds_of_up") is not None:
                ups.append(float(event["seconds_of_up"]))
            case (Step.ROLLBACK, RollbackEvent.DONE):
                unfinished, owed, since = None, None, None
    return History(unfinished, owed, since, tuple(ups[-UPS_KEPT:]))


def read(settings: Settings) -> History:
    """The history of this migration. Raises MigrationError when the journal cannot be read."""
    return history(settings.journal.events())
