"""The seam between the program and what carries changes: PostgreSQL's own logical replication, or AWS DMS.

The record of writes, its rules, fences, sequence bands, drift and the helper schema are the same under every engine and no part
of it. An engine only carries the record from one database to the other, says how that stands, and ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from scripts.database.engines import ENDED
from scripts.replication.directions import Direction, Login, Part
from scripts.replication.documents import DirectionState
from scripts.replication.native import Native
from scripts.support.errors import Refused
from scripts.support.settings import Settings
from scripts.support.sides import Side


class Engine(Protocol):
    """What carries changes, both ways. Every method may be called again after it was killed anywhere."""

    def check(self, settings: Settings) -> None:
        """Look, before anything is changed, whether changes can be carried on from the copy without a hole.

        Raises:
            Refused: they cannot; the text says why and what to do.
        """
        ...

    def start(self, settings: Settings, force: bool = False) -> Sequence[Part]:
        """Make and switch on both directions; returns what they consist of, and which of it was there and on already.

        ``force``: also where a password of the role of replication may be shown to others on its server.

        The reverse direction's place in the target's log is kept before this returns; conflict rules are installed.
        """
        ...

    def logins(self, settings: Settings) -> Mapping[Side, Login]:
        """The roles and passwords that are given to the engine from outside; empty where it has none of those.

        Raises:
            MigrationError: they cannot be read.
        """
        ...

    def fill_secret(self, settings: Settings) -> bool:
        """Put a login with a password of its own into a secret that is declared without a value; whether that was done."""
        ...

    def enabled(self, settings: Settings) -> bool:
        """Whether both directions are set up and switched on, so that a fence can come through."""
        ...

    def halted(self, settings: Settings, direction: Direction) -> str | None:
        """Why nothing comes through until somebody acts: it is switched off, or its slot is gone. None: it runs, or will by itself."""
        ...

    def state(self, settings: Settings, direction: Direction) -> DirectionState:
        """How one direction stands, as far as the engine sees: without fence, stall and runway."""
        ...

    def stop(self, settings: Settings, timeout: float) -> list[str]:
        """Stop both directions so that ``start`` goes on without a hole; returns what was stopped. Raises TimedOut."""
        ...

    def drop(self, settings: Settings) -> None:
        """Remove all that the engine made on both sides; what is not there any more is no error."""
        ...

    def leftovers(self, settings: Settings) -> list[str]:
        """What of the engine is still there, in words (``source: slot x``); empty when all is gone."""
        ...


class Ended:
    """No engine, after the end: nothing is carried, nothing is left, and whatever would begin or look at it is refused."""

    def enabled(self, settings: Settings) -> bool:  # noqa: ARG002 - as an engine has it
        """Never: what compares both sides does without fences."""
        return False

    def leftovers(self, settings: Settings) -> list[str]:  # noqa: ARG002 - as an engine has it
        """Nothing of an engine's; the catalogs are looked at all the same."""
        return []

    def _refuse(self, *_: object, **__: object) -> Any:
        raise Refused(ENDED)

    check = start = logins = fill_secret = halted = state = stop = drop = _refuse


def engine_of(settings: Settings) -> Engine:
    """The engine of these settings: `replicationEngine`."""
    if settings.config.replication_engine == "none":
        return Ended()
    if settings.config.replication_engine == "dms":
        # Here, as it loads boto3, which the native engine does without.
        from scripts.replication.dms.engine import DmsEngine

        return DmsEngine()
    return Native()
