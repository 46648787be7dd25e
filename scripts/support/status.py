"""What was done so far, as the journal has it."""

from __future__ import annotations

from scripts.support.document import Document
from scripts.support.settings import Settings


class Event(Document):
    """One line of the journal; ``at`` is ISO 8601, UTC."""

    at: str
    step: str
    event: str


class History(Document):
    """What `status` prints: the journal's events, the newest last."""

    stack: str | None
    state_dir: str
    events: list[Event]


def read(settings: Settings) -> History:
    """The events of the settings' journal. Raises MigrationError when it cannot be read."""
    events = [Event(at=e["at"], step=e["step"], event=e["event"]) for e in settings.journal.events()]
    return History(stack=settings.stack, state_dir=str(settings.state_dir), events=events)
