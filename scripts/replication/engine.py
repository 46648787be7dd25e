"""The seam between the program and what carries changes: PostgreSQL's own logical replication, or AWS DMS.

Conflict rules, heartbeats, fences, sequence bands, drift and the helper schema are the same under every engine and no part
of it. An engine only makes changes flow from one database to the other, says how that stands, and ends it.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from scripts.database.helper_schema import Side
from scripts.support.settings import Settings

#: ``forward`` carries the source's changes to the target, ``reverse`` the target's to the source.
Direction = Literal["forward", "reverse"]
DIRECTIONS: tuple[Direction, Direction] = ("forward", "reverse")


def publisher(direction: Direction) -> Side:
    """The side whose changes ``direction`` carries."""
    return "source" if direction == "forward" else "target"


def subscriber(direction: Direction) -> Side:
    """The side on which ``direction`` applies them."""
    return "target" if direction == "forward" else "source"


class Engine(Protocol):
    """What carries changes, both ways. Every method may be called again after it was killed anywhere."""

    def check(self, settings: Settings) -> None:
        """Look, before anything is changed, whether changes can be carried on from the copy without a hole.

        Raises:
            Refused: they cannot; the text says why and what to do.
        """
        ...

    def start(self, settings: Settings) -> list[str]:
        """Make and switch on both directions; returns what was there and running already (four parts when all were).

        The reverse direction's place in the target's log is kept before this returns; conflict rules are installed.
        """
        ...

    def enabled(self, settings: Settings) -> bool:
        """Whether both directions are set up and switched on, so that a fence can come through."""
        ...

    def state(self, settings: Settings, direction: Direction) -> dict[str, Any]:
        """How one direction stands, without a fence.

        Returns:
            ``{"running": bool, "lag_bytes": int | None, "lag_seconds": None, "reason": str | None, "apply_errors": int,
            "slot": {...} | None}``; ``reason`` says why it does not run, else None. Optional: ``error`` (the row that cannot
            be applied: table, operation, key, sqlstate, condition, message) and ``blocked_by`` (server processes whose locks
            the applying session waits for).
        """
        ...

    def stop(self, settings: Settings, timeout: float) -> list[str]:
        """Stop both directions so that ``start`` goes on without a hole; returns what was stopped. Raises TimedOut."""
        ...

    def unapplied(self, settings: Settings, direction: Direction) -> list[str]:
        """After ``stop``: the configured tables with changes in the publisher's log that were not applied on the other side.

        Raises:
            DatabaseError: that cannot be told.
        """
        ...

    def drop(self, settings: Settings) -> None:
        """Remove all that the engine made on both sides; what is not there any more is no error."""
        ...

    def leftovers(self, settings: Settings) -> list[str]:
        """What of the engine is still there, in words (``source: slot x``); empty when all is gone."""
        ...


def of(settings: Settings) -> Engine:
    """The engine of these settings: `replicationEngine`."""
    # Here: an engine uses what uses this seam.
    if settings.config.replication_engine == "dms":
        from scripts.replication.dms.engine import DmsEngine

        return DmsEngine()
    from scripts.replication.native import Native

    return Native()
