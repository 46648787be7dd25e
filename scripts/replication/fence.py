"""Fences: proof that everything committed on one side before a moment has been applied on the other.

A fence is a record in the table of one side's own writes, waited for on the other side. Transactions are applied in the order in
which they were committed (PostgreSQL, 'Logical Replication'), so its arrival proves all that went before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import psycopg
from psycopg import sql

from scripts.database import helper_schema, queries
from scripts.database.connections import Connection, domain_errors, scalar
from scripts.database.sides import open_side, session
from scripts.replication import writes
from scripts.replication.directions import Direction, publisher, slot_name, subscriber
from scripts.replication.engine import engine_of
from scripts.support.errors import Refused, TimedOut
from scripts.support.progress import SILENT, Progress, Work
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from scripts.writes import record

_QUERIES = queries.load("scripts.replication")
#: Seconds between two looks at how much of the log is still to come.
LOOK_SECONDS = 1.0
#: Seconds without a fence after which the direction is looked at, whether it can come at all; then after twice as many.
HALTED_SECONDS = 2.0
#: The rules' own writes call for another round, at most so many: a row, its children, theirs.
ROUNDS = 6


#: What is said of a direction that stands, of which no time is the cause.
STANDS = "it cannot come through"


class Halted(TimedOut):
    """Nothing comes through in a direction until somebody acts: no use in waiting."""


def forward(settings: Settings, timeout: float = 30.0) -> float:
    """Fence source -> target; returns the seconds it took: the lag. Raises TimedOut, Refused."""
    return through(settings, "forward", timeout)


def reverse(settings: Settings, timeout: float = 30.0) -> float:
    """Fence target -> source; returns the seconds it took: the lag. Raises TimedOut, Refused."""
    return through(settings, "reverse", timeout)


def both(settings: Settings, timeout: float = 30.0, progress: Progress = SILENT) -> dict[str, float]:
    """Fence both ways, until the rules made no write of their own meanwhile: then both sides are equal, but for newer writes.
    What both have is then pruned.

    Returns:
        ``{"forward_seconds", "reverse_seconds"}``, the longest of each way. Raises TimedOut, Refused.
    """
    seconds = {"forward_seconds": 0.0, "reverse_seconds": 0.0}
    made = _made_by_rules(settings)
    for _ in range(ROUNDS):
        seconds["forward_seconds"] = max(seconds["forward_seconds"], through(settings, "forward", timeout, progress))
        seconds["reverse_seconds"] = max(seconds["reverse_seconds"], through(settings, "reverse", timeout, progress))
        before, made = made, _made_by_rules(settings)
        if made == before:
            break
    writes.prune(settings)
    return seconds


def _made_by_rules(settings: Settings) -> list[int]:
    """The newest write that the rules made themselves, of each side."""
    found = []
    for side in BOTH:
        with session(settings, side, "fence", f"fence on the {side}") as connection:
            if not helper_schema.installed(connection):
                continue  # said by the fence itself
            newest = sql.SQL("SELECT max(v) FROM {} WHERE cause IS NOT NULL").format(record.table(side))
            found.append(int(scalar(connection, newest) or 0))
    return found


def available(settings: Settings) -> bool:
    """Whether replication is set up both ways and switched on, so that fences have a meaning."""
    return engine_of(settings).enabled(settings)


def post(connection: Connection, side: Side) -> int:
    """Write a fence on ``side`` and return its number: several may be under way at once. Raises Refused where none was ever made ready."""
    try:
        return int(scalar(connection, sql.SQL(_QUERIES["fence"]).format(own=record.table(side))) or 0)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
        raise Refused(
            f"no fence from the {side}: replication was not started yet; run `task-migration replicate start` first"
        ) from None


def through(settings: Settings, direction: Direction, timeout: float, progress: Progress = SILENT) -> float:
    """One fence; returns the seconds it took: the lag.

    Raises:
        TimedOut: it did not come through in ``timeout`` seconds.
        Halted: it cannot, until somebody acts.
        Refused: there is no replication.
    """
    side = publisher(direction)
    with (
        domain_errors(f"fence from the {side}"),
        open_side(settings, side, "fence") as sender,
        open_side(settings, subscriber(direction), "fence") as receiver,
        ExitStack() as shown,
    ):
        if not helper_schema.installed(sender) or not helper_schema.installed(receiver):
            raise Refused(
                "no fence without replication: the schema task_migration is missing; run `task-migration copy` first"
            )
        backlog = _Backlog(
            sender,
            slot_name(settings, direction),
            lambda: shown.enter_context(progress.work(f"{direction} fence, at most {timeout:.0f} s", None, "MiB")),
        )
        started = time.monotonic()
        number = post(sender, side)
        arrived = sql.SQL("SELECT 1 FROM {} WHERE v = %s").format(record.table(side))
        pause, look = 0.002, HALTED_SECONDS
        while True:
            # Other commands' fences may have had it pruned between two looks.
            there = receiver.execute(arrived, (number,)).fetchone() is not None or writes.known(receiver) >= number
            seconds = time.monotonic() - started
            if there:
                break
            if seconds > timeout:
                raise TimedOut(
                    f"fence from the {side}: not through after {timeout:g} s (the limit); last seen: {backlog.look()[0]}; "
                    "see `task-migration replicate status` for why the worker is behind"
                )
            if seconds > look:
                look *= 2
                if (why := engine_of(settings).halted(settings, direction)) is not None:
                    raise Halted(f"fence from the {side}: {STANDS}: {why}")
            if progress is not SILENT:
                # The fence may come through though this side of the line is cut.
                with suppress(psycopg.Error):
                    backlog.tell()
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
    return round(seconds, 4)


def arrival(settings: Settings, direction: Direction, timeout: float) -> tuple[float, int]:
    """One fence: the seconds it took, and how many writes of before it had not arrived when it had: they never will.

    Raises:
        TimedOut, Refused: as :func:`through`.
    """
    seconds: list[float] = []
    seen = writes.arrival(settings, publisher(direction), lambda: seconds.append(through(settings, direction, timeout)))
    return seconds[0], seen.missing


class _Backlog:
    """How much of the publisher's log is to be read until a fence comes through; a wait that lasts shows it as progress."""

    def __init__(self, sender: Connection, slot: str, begin: Callable[[], Work]) -> None:
        self._sender, self._slot, self._begin = sender, slot, begin
        self._work: Work | None = None
        self._goal: str | None = None
        self._first = 0
        self._next = time.monotonic() + LOOK_SECONDS

    def tell(self) -> None:
        """Look, when it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_SECONDS
        if self._work is None:
            self._work = self._begin()
            self._goal = scalar(self._sender, "SELECT pg_current_wal_lsn()::text")
        _, left = self.look()
        if left is not None:
            self._first = max(left, self._first)
            self._work.at((self._first - left) / 2**20, self._first / 2**20)

    def look(self) -> tuple[dict[str, Any], int | None]:
        """The slot in words, and the bytes left to where the log stood when the wait began to be shown; None if not known."""
        row = self._sender.execute(_QUERIES["behind"], {"slot": self._slot, "goal": self._goal}).fetchone()
        if row is None:
            return {"slot": self._slot, "exists": False}, None
        return {"slot": self._slot, "active": row[0], "wal_status": row[1], "lag_bytes": row[2]}, row[3]
