"""How far the canary is, kept on the source: what a killed step left, what is owed, what deployments took.

Each event of a step and of a rollback goes to the journal too, for people; only what the source has kept decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from scripts.database import helper_schema, queries
from scripts.database.connections import Connection, scalar
from scripts.database.sides import session
from scripts.support.events import CanaryEvent, RollbackEvent, Step
from scripts.support.figure import figure
from scripts.support.journal import DAMAGED
from scripts.support.safety import State
from scripts.support.settings import Settings

#: What it is called among the source's settings.
KEPT = "canary"
#: Longest that the source is waited for, seconds.
AWAY_SECONDS = 3
#: So many of the newest deployments tell how long the next one takes.
UPS_KEPT = 10

QUERIES = queries.load("scripts.canary")


@dataclass(frozen=True)
class History:
    """The canary so far."""

    #: The weight that a step came from which was begun and neither promoted nor rolled back, and where it goes.
    unfinished: tuple[int, int] | None = None
    #: Why a rollback is owed: it was decided or begun, and not ended.
    owed: tuple[str, ...] | None = None
    #: When the Task Service got its first requests since the last whole rollback, ISO 8601.
    since: str | None = None
    #: What deployments of a weight took, seconds.
    ups: tuple[float, ...] = ()
    #: The highest weight that was confirmed since the last whole rollback.
    reached: int = 0
    #: When the last whole rollback ended, ISO 8601.
    back: str | None = None

    def bound(self, seconds: int, now: datetime) -> str | None:
        """Why no weight may be above 0 yet after a rollback, with a cookie of so many ``seconds``: it counts at any weight, and who
        was on the Task Service has it until then, as no answer renews it at weight 0."""
        if not seconds or self.back is None:
            return None
        left = seconds - (now - datetime.fromisoformat(self.back)).total_seconds()
        if left <= 0:
            return None
        return (
            f"who was on the Task Service before the rollback would be there again at any weight, by a cookie that counts for {left:.0f} s more "
            f"(canaryStickySeconds {seconds}); step again after that, or --force with --reason"
        )

    def state(self, declared: int | None, live: int | None) -> State:
        """With the weights that the stack declares and that the load balancer has: what transitions are judged by."""
        return State(
            declared=declared, live=live, step=self.unfinished, owed=self.owed, reached=self.reached, since=self.since
        )


def after(so_far: History, event: Mapping[str, Any]) -> History:
    """The history when one more event of a step or a rollback has come. Pure."""
    ups = so_far.ups
    match (event.get("step"), event.get("event")):
        case (Step.CANARY, CanaryEvent.BEGUN):
            going = (int(event["from"]), int(event["to"]))
            return replace(so_far, unfinished=going, since=so_far.since or event.get("at"))
        case (Step.CANARY, CanaryEvent.MOVED):
            reached = max(so_far.reached, int(event.get("to", 0)))
            return replace(so_far, ups=_with(ups, event["seconds"]), reached=reached)
        case (Step.CANARY, CanaryEvent.DECIDED) if event.get("decision") == "promote":
            return replace(so_far, unfinished=None)
        case (Step.CANARY, CanaryEvent.DECIDED) if event.get("decision") == "rollback":
            return replace(so_far, unfinished=None, owed=_reasons(event, "decided"))
        case (Step.ROLLBACK, RollbackEvent.BEGUN):
            return replace(so_far, unfinished=None, owed=_reasons(event, "begun"))
        case (Step.ROLLBACK, RollbackEvent.ROUTED):
            return replace(so_far, ups=_with(ups, event.get("seconds_of_up")))
        case (Step.ROLLBACK, RollbackEvent.DONE):
            return History(ups=ups, back=event.get("at"))
    return so_far


def _reasons(event: Mapping[str, Any], otherwise: str) -> tuple[str, ...]:
    given = event.get("reasons")
    return tuple(map(str, given)) if given and isinstance(given, list | tuple) else (otherwise,)


def _with(ups: tuple[float, ...], seconds: Any) -> tuple[float, ...]:
    return ups if (one := figure(seconds)) is None else (*ups, one)[-UPS_KEPT:]


def routed(event: Mapping[str, Any]) -> int | None:
    """The weight (percent) that an event says the live rule has now. Pure."""
    match (event.get("step"), event.get("event")):
        case (Step.CANARY, CanaryEvent.MOVED):
            return int(event["to"])
        case (Step.ROLLBACK, RollbackEvent.ROUTED | RollbackEvent.DONE):
            return 0
    return None


def history(events: Iterable[Mapping[str, Any]]) -> History:
    """What events, oldest first, come to; one that lacks what this version reads in it is passed by. Pure."""
    so_far = History()
    for event in events:
        with suppress(*DAMAGED):
            so_far = after(so_far, event)
    return so_far


def read(settings: Settings) -> History:
    """What the source has kept. Raises DatabaseError when it cannot be asked."""
    with _source(settings) as source:
        return of(helper_schema.get(source, KEPT))


def keep(settings: Settings, step: Step, event: str, facts: Mapping[str, Any]) -> History:
    """Take an event into what the source has kept; before a copy was made there is nothing to keep. Returns what it had before.

    Raises:
        DatabaseError: the source cannot be asked.
    """
    happened = {"at": datetime.now(UTC).isoformat(), "step": step, "event": event, **facts}
    with _source(settings) as source, source.transaction():
        if helper_schema.installed(source):
            # Who else has an event waits for this one.
            so_far = of(scalar(source, QUERIES["hold_history"], (KEPT,)))
            helper_schema.put(source, KEPT, asdict(after(so_far, happened)))
            _note_routed(source, routed(happened), settings.config.drain_seconds)
            return so_far
    return History()


def _note_routed(source: Connection, weight: int | None, drain: float) -> None:
    """With the moment, by the source's clock, at which requests under way have ended; a step that is watched again has not moved anew."""
    before = helper_schema.get(source, helper_schema.ROUTED) or {"weight": 0}
    if weight is not None and weight != before["weight"]:
        since = scalar(source, QUERIES["drained_at"], (drain,))
        helper_schema.put(source, helper_schema.ROUTED, {"weight": weight, "since": since})


def record(settings: Settings, step: Step, event: str, **facts: Any) -> History:
    """As :func:`keep`, and into the journal. Raises MigrationError when either cannot be written."""
    before = keep(settings, step, event, facts)
    settings.journal.record(step, event, **facts)
    return before


def _source(settings: Settings) -> AbstractContextManager[Connection]:
    """A session that a rollback can wait for."""
    longest = 1000 * AWAY_SECONDS
    return session(
        settings, "source", "history", "how far the canary is", longest, longest, connect_timeout=AWAY_SECONDS
    )


def of(kept: Mapping[str, Any] | None) -> History:
    """What the source's settings hold under :data:`KEPT`. Pure. Raises TypeError when another version of this program kept it."""
    given: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in (kept or {}).items()}
    return History(**given)
