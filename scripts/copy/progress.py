"""How far a copy is, for people, on standard error: bars on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from scripts.copy.plan import Step
from scripts.support import console

#: Seconds between two plain lines.
LINE_SECONDS = 5.0


class Progress(Protocol):
    """Told by the workers what was done; shows it when the main thread ticks."""

    def begin(self, tables: Mapping[str, int], steps: Iterable[Step]) -> None:
        """All work is known: bytes by table, and the steps."""

    def moved(self, table: str, count: int) -> None:
        """``count`` more bytes of ``table`` are through; from any thread."""

    def stepped(self, step: Step) -> None:
        """A step was done; from any thread."""

    def tick(self) -> None:
        """Some time has passed."""

    def end(self) -> None:
        """Nothing more will come."""


class Meter:
    """Counts what was done. The base of what is shown, and itself a Progress that shows nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sizes: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.rest, self.rest_total = 0, 1
        self.started = time.monotonic()

    def begin(self, tables: Mapping[str, int], steps: Iterable[Step]) -> None:
        """As :meth:`Progress.begin`."""
        self.sizes, self.bytes = dict(tables), dict.fromkeys(tables, 0)
        self.rest_total = max(1, sum(step.cost for step in steps if step.kind != "rows"))
        self.started = time.monotonic()

    def moved(self, table: str, count: int) -> None:
        """As :meth:`Progress.moved`."""
        with self._lock:
            self.bytes[table] += count

    def stepped(self, step: Step) -> None:
        """As :meth:`Progress.stepped`."""
        with self._lock:
            if step.kind != "rows":
                self.rest += step.cost

    def tick(self) -> None:
        """As :meth:`Progress.tick`."""

    def end(self) -> None:
        """As :meth:`Progress.end`."""


def line(done: int, total: int, rest: int, rest_total: int, seconds: float) -> str:
    """One plain line: rows in bytes, share, rate and time left; then what comes after them.

    The total is the size of the source's tables, of which the binary stream differs by some percent, so it never says more
    than 99 % before the end.
    """
    share = min(0.99, done / total) if total else 0.0
    rate = done / seconds if seconds > 0 else 0.0
    left = f"about {max(0.0, total - done) / rate:.0f} s left" if rate else "time left not known yet"
    text = f"copy: rows {share:.0%} ({done / 2**20:.1f} of about {total / 2**20:.1f} MiB, {rate / 2**20:.1f} MiB/s, {left})"
    return f"{text}; keys, indexes, statistics {min(1.0, rest / rest_total):.0%}; {seconds:.0f} s so far"


class Lines(Meter):
    """A plain line every few seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._next = time.monotonic() + LINE_SECONDS

    def tick(self) -> None:
        """Print when it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LINE_SECONDS
        done, total = sum(self.bytes.values()), sum(self.sizes.values())
        console.say(line(done, total, self.rest, self.rest_total, now - self.started))


class Screen(Meter):
    """Bars with rate and time left: one a table, one for what comes after the rows."""

    def __init__(self) -> None:
        super().__init__()
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=console.err,
            refresh_per_second=4,
        )
        self._tasks: dict[str, TaskID] = {}
        self._after: TaskID | None = None
        self._ended: set[str] = set()

    def begin(self, tables: Mapping[str, int], steps: Iterable[Step]) -> None:
        """Show a bar a table."""
        steps = list(steps)
        super().begin(tables, steps)
        self._bars.start()
        self._tasks = {name: self._bars.add_task(name, total=max(1, size), rate="") for name, size in tables.items()}
        self._after = self._bars.add_task("keys, indexes, statistics", total=self.rest_total, rate="")

    def stepped(self, step: Step) -> None:
        """A table's last part fills its bar: its size on disk was an estimate of what goes over the line."""
        super().stepped(step)
        if step.kind == "statistics":
            self._ended.add(step.table)

    def tick(self) -> None:
        """Bring the bars up to date; rich draws them."""
        seconds = max(0.001, time.monotonic() - self.started)
        for name, task in self._tasks.items():
            done = self.sizes[name] if name in self._ended else min(self.bytes[name], int(self.sizes[name] * 0.99))
            self._bars.update(task, completed=done, rate=f"{self.bytes[name] / seconds / 2**20:6.1f} MiB/s")
        if self._after is not None:
            self._bars.update(self._after, completed=self.rest)

    def end(self) -> None:
        """Leave the bars as they are."""
        self.tick()
        self._bars.stop()


def display() -> Progress:
    """Bars when standard error is a terminal, else plain lines."""
    return Screen() if console.err.is_terminal else Lines()
