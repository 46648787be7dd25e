"""The live view: step, weight and measured share, requests, errors, P95, replication lag both ways."""

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

from scripts.support.console import err, say
from scripts.support.errors import MigrationError


@dataclass
class Picture:
    """What the view shows; the rehearsal and the sampler write it, the view reads it."""

    step: str = "starting"
    weight: int | None = None
    share: float | None = None
    load: Mapping[str, Any] = field(default_factory=dict)
    lag: Mapping[str, Any] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)


def _number(value: Any, unit: str = "") -> str:
    return "-" if value is None else f"{value:,.0f}{unit}" if isinstance(value, int | float) else str(value)


def _lag(side: Mapping[str, Any] | None) -> str:
    if not side:
        return "not started"
    if not side.get("running"):
        return "not running"
    seconds = side.get("lag_seconds")
    return f"{_number(side.get('lag_bytes'), ' B')}" + ("" if seconds is None else f", {seconds:.2f} s")


def draw(picture: Picture, elapsed: float) -> Group:
    """The view of one moment."""
    table = Table.grid(padding=(0, 2))
    load = picture.load
    share = "-" if picture.share is None else f"{picture.share:.1f} %"
    for name, value in (
        ("step", f"{picture.step}   ({elapsed:.0f} s)"),
        ("weight", f"{_number(picture.weight, ' %')}   measured share {share}"),
        (
            "requests",
            f"{_number(load.get('requests'))}   failed {_number(load.get('failed'))}   P95 {_number(load.get('p95_ms'), ' ms')}",
        ),
        ("lag to target", _lag(picture.lag.get("forward"))),
        ("lag to source", _lag(picture.lag.get("reverse"))),
    ):
        table.add_row(Text(name, style="bold"), Text(value))
    return Group(*(Text(line, style="green") for line in picture.done[-12:]), table)


class View:
    """Samples every half second in a thread of its own and draws on a terminal; else prints a line per event."""

    def __init__(self, sample: Callable[[Picture], None]) -> None:
        self.picture = Picture()
        self._sample = sample
        self._started = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="live view", daemon=True)
        self._live = Live(console=err, auto_refresh=False, transient=True) if err.is_terminal else None

    def __enter__(self) -> View:
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)
        if self._live is not None:
            self._live.stop()
            for line in self.picture.done:
                say(line, "green")

    @property
    def elapsed(self) -> float:
        """Seconds since the rehearsal began."""
        return time.monotonic() - self._started

    def event(self, line: str) -> None:
        """Something is done."""
        text = f"{self.elapsed:6.1f} s  {line}"
        self.picture.done.append(text)
        if self._live is None:
            say(text)

    def _loop(self) -> None:
        while not self._over.wait(0.5):
            try:
                self._sample(self.picture)
            except MigrationError:
                continue  # a server that is being started or stopped: the next sample sees it again
            if self._live is not None:
                self._live.update(draw(self.picture, self.elapsed), refresh=True)
