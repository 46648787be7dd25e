"""What a rehearsal shows while it runs: a line per event, and on a terminal below them the moment's figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scripts.report.documents import Mark, MarkKind
from scripts.support.console import err, say
from scripts.support.errors import MigrationError
from scripts.support.redact import redact

#: Events that stay in sight while the rehearsal runs.
EVENTS_SHOWN = 12


@dataclass
class Moment:
    """What the view shows of now; the rehearsal and the sampler write it, the view reads it."""

    step: str = "starting"
    weight: int | None = None
    share: float | None = None
    load: Mapping[str, Any] = field(default_factory=dict)
    #: Seconds by direction.
    lag: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Event:
    """Something that was done, so many seconds after the rehearsal began."""

    seconds: float
    text: str


def _number(value: int | float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.0f}{unit}"


def _lag(seconds: float | None) -> str:
    return "not measured" if seconds is None else f"{seconds:.2f} s"


def events_table(events: list[Event]) -> Table:
    """A line per event; what is longer than the terminal is wide goes on below, set in."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for event in events:
        table.add_row(Text(f"{event.seconds:.1f} s"), Text(event.text, style="green"))
    return table


def moment_table(moment: Moment, elapsed: float) -> Table:
    """The figures of one moment, ``elapsed`` seconds after the rehearsal began."""
    load = moment.load
    share = "-" if moment.share is None else f"{moment.share:.1f} %"
    counted = f"{_number(load.get('requests'))}   failed {_number(load.get('failed'))}"
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("step", f"{moment.step}   ({elapsed:.0f} s)"),
        ("weight", f"{_number(moment.weight, ' %')}   measured share {share}"),
        ("requests", f"{counted}   P95 {_number(load.get('p95_ms'), ' ms')}"),
        ("lag to target", _lag(moment.lag.get("forward"))),
        ("lag to source", _lag(moment.lag.get("reverse"))),
    ):
        table.add_row(Text(name, style="bold"), Text(value))
    return table


class LiveView:
    """Samples every half second in a thread of its own and draws on a terminal; elsewhere it prints a line per event."""

    def __init__(self, sample: Callable[[Moment], None]) -> None:
        self.moment = Moment()
        #: What the story tells of beside what the journal does.
        self.marks: list[Mark] = []
        self._events: list[Event] = []
        self._sample = sample
        self._started = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="live view", daemon=True)
        self._live = Live(console=err, auto_refresh=False, transient=True) if err.is_terminal else None

    def __enter__(self) -> LiveView:
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)
        if self._live is not None:
            self._live.stop()
            err.print(events_table(self._events), soft_wrap=False)

    @property
    def elapsed(self) -> float:
        """Seconds since the rehearsal began."""
        return time.monotonic() - self._started

    def event(self, text: str) -> None:
        """Something is done."""
        event = Event(self.elapsed, redact(text))
        self._events.append(event)
        if self._live is None:
            say(f"{event.seconds:6.1f} s  {event.text}")

    def mark(self, kind: MarkKind, text: str, at: float | None = None) -> None:
        """Something that the story shows in its pictures happened, ``at`` (seconds since the epoch; None: now)."""
        self.marks.append(Mark(at=time.time() if at is None else at, kind=kind, text=redact(text)))

    def _loop(self) -> None:
        while not self._over.wait(0.5):
            try:
                self._sample(self.moment)
            except MigrationError:
                continue  # a server that is being started or stopped: the next sample sees it again
            if self._live is not None:
                shown = events_table(self._events[-EVENTS_SHOWN:])
                self._live.update(Group(shown, moment_table(self.moment, self.elapsed)), refresh=True)
