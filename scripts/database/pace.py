"""How fast long work goes beside a live application: its servers are looked at each second. Near a limit each piece of work is followed
by a rest as long as itself; past one, and while the pause file is there, no piece begins."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psycopg

from components.config import MAX_LOAD
from scripts.database import helper_schema
from scripts.database.connections import Connection, scalar, session_name
from scripts.database.sides import open_side
from scripts.support.errors import MigrationError, Refused, TimedOut, UsageError
from scripts.support.progress import SILENT, Progress
from scripts.support.settings import Settings
from scripts.support.sides import Side

#: Seconds between two looks.
LOOK_SECONDS = 1.0
#: From this share of a limit on, work goes slower.
NEAR = 0.7
#: Longest rest after one piece of work, seconds.
REST_SECONDS = 5.0
#: Longest that work stands still, seconds: a copy keeps a snapshot of the live source meanwhile.
LONGEST_PAUSE = 4 * 3600.0
#: Where the helper schema keeps what is written to see how long a commit takes.
PACE = "pace"
#: Rows of a table that one piece of reading has: some tenths of a second under a limit, some seconds without.
PACED_ROWS, ROWS = 50_000, 1_000_000
#: Who may see what other roles' sessions do (PostgreSQL, 'Predefined Roles'); and how many client sessions that are none of ours, and
#: parallel workers of such, are at work on the server (PostgreSQL, 'pg_stat_activity').
_MAY_SEE = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
_ACTIVE = (
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('client backend', 'parallel worker') AND state = 'active' "
    "AND pid <> pg_backend_pid() AND NOT starts_with(application_name, %s)"
)


def parse(text: str | None) -> dict[str, int]:
    """Limits by `sessions` and `commit-ms` from ``sessions=8,commit-ms=20``; either may be left out. Raises UsageError."""
    if text is not None and re.fullmatch(MAX_LOAD, text) is None:
        raise UsageError(f"--max-load {text!r}: write sessions=8,commit-ms=20, or one of the two, with numbers above 0")
    return {name: int(limit) for name, limit in (part.split("=") for part in (text or "").split(",") if part)}


def pause_file(settings: Settings) -> Path:
    """The file that stands for 'pause': in the state directory of this machine, also where the journal is in S3."""
    state = str(settings.state_dir)
    return Path(".task-migration" if "://" in state else state) / "pause"


class Pace:
    """The pace of one command. Any thread may call :meth:`gate`; leaving the context closes what looks.

    Args:
        sides: whose servers are looked at.
        own: sessions of ours on each that work at a time; they count.
        max_load: as :func:`parse` reads it; None: the configuration's `maxLoad`.
        gentle: rest after each piece, whatever the load.
        stop: what :meth:`stop` sets; somebody else may.

    Raises:
        UsageError: ``max_load`` cannot be read.
        Refused: our own sessions alone are past it.
    """

    def __init__(
        self,
        settings: Settings,
        sides: Sequence[Side],
        own: int,
        max_load: str | None = None,
        *,
        gentle: bool = False,
        progress: Progress = SILENT,
        stop: threading.Event | None = None,
    ) -> None:
        self._settings, self._sides, self._own, self._progress = settings, sides, own, progress
        self._limits = parse(settings.config.max_load if max_load is None else max_load)
        self._gentle, self._file = gentle, pause_file(settings)
        if own > self._limits.get("sessions", own):
            raise Refused(
                f"--max-load sessions={self._limits['sessions']}: this command alone works with {own} sessions, which count; raise it, or "
                "lower --jobs where there is such an option"
            )
        self._connections: dict[Side, Connection] = {}
        self._turn, self._stopped, self._piece = threading.Lock(), stop or threading.Event(), threading.local()
        self._next, self._near = 0.0, False

    @property
    def limited(self) -> bool:
        """Whether more than the pause file counts: pieces are then small, and one session takes one core at most."""
        return self._gentle or bool(self._limits)

    @property
    def rows(self) -> int:
        """About how many rows of a table are one piece of reading."""
        return PACED_ROWS if self.limited else ROWS

    def __enter__(self) -> Pace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._connections.values():
            connection.close()

    def stop(self) -> None:
        """Whoever rests or waits ends with an error, as the command does."""
        self._stopped.set()

    def gate(self) -> None:
        """Returns when the next piece of work may begin. The time since the thread's last call is what its last piece took.

        Raises:
            TimedOut: the load stayed past a limit, or the pause file was there, for :data:`LONGEST_PAUSE` seconds.
            Refused: the role does not see other roles' sessions.
            MigrationError: :meth:`stop` was called.
        """
        worked = time.monotonic() - getattr(self._piece, "begun", time.monotonic())
        with self._turn:
            if time.monotonic() >= self._next:
                self._near = self._admitted()
                self._next = time.monotonic() + LOOK_SECONDS
            rests = self._near or self._gentle
        if rests:
            self._stopped.wait(min(worked, REST_SECONDS))
        if self._stopped.is_set():
            raise MigrationError("the work was ended while it rested or was paused")
        self._piece.begun = time.monotonic()

    def _admitted(self) -> bool:
        """Wait until nothing is past a limit; whether something is near one."""
        share, why = self._look()
        if why is None:
            return share > NEAR
        begun = time.monotonic()
        with self._progress.work(f"paused: {why}", LONGEST_PAUSE, "s"):
            while why is not None and not self._stopped.wait(LOOK_SECONDS):
                if time.monotonic() - begun > LONGEST_PAUSE:
                    raise TimedOut(
                        f"paused for {LONGEST_PAUSE / 3600:g} h (the limit): {why}; run it at a quieter hour, or with a higher --max-load"
                    )
                _, why = self._look()
        return True

    def _look(self) -> tuple[float, str | None]:
        """How near the nearest limit is, 1 being there, and why nothing may begin."""
        if self._file.exists():
            return 0.0, f"the file {self._file} is there; remove it to go on"
        nearest, past = 0.0, None
        for side in self._sides if self._limits else ():
            for what, seen, limit in self._figures(side):
                nearest = max(nearest, seen / limit)
                if seen > limit:
                    past = f"{what} on the {side}: {seen:.0f}, --max-load is {limit}"
        return nearest, past

    def _figures(self, side: Side) -> Iterator[tuple[str, float, int]]:
        connection = self._connections.get(side) or self._open(side)
        if limit := self._limits.get("sessions"):
            others = int(scalar(connection, _ACTIVE, (session_name(""),)) or 0)
            yield "active sessions, ours counted", self._own + others, limit
        # Before `copy` there is nothing of ours that could be written.
        if (limit := self._limits.get("commit-ms")) and helper_schema.installed(connection):
            started = time.monotonic()
            # Whoever keeps even this row from being written keeps others waiting too.
            with suppress(psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled):
                helper_schema.put(connection, PACE, {"by": session_name("pace")})
            yield "milliseconds of a commit", 1000 * (time.monotonic() - started), limit

    def _open(self, side: Side) -> Connection:
        connection = self._connections[side] = open_side(self._settings, side, "pace", 2000, 10_000)
        if "sessions" in self._limits and not scalar(connection, _MAY_SEE):
            raise Refused(
                f"--max-load sessions: the role does not see other roles' sessions on the {side}; GRANT pg_read_all_stats to it, or "
                "limit commit-ms alone"
            )
        return connection
