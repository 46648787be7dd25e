"""How far long work is, for people, on standard error: bars on a terminal, a plain line every few seconds elsewhere.

A step takes a :class:`Progress` and tells it what was done; the command line decides what is shown (:func:`display`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as rich_progress

from scripts.support import console

#: Seconds between two plain lines.
LINE_SECONDS = 5.0


class Work:
    """One piece of work under way: how much of ``total`` (in ``unit``; None: not known) is done. Any thread may tell."""

    def __init__(self, name: str, total: float | None, unit: str) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, 0.0
        self.started = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, amount: float = 1) -> None:
        """``amount`` more is done."""
        with self._lock:
            self.done += amount

    def at(self, done: float, total: float | None = None) -> None:
        """``done`` in all is done; ``total``, where given, is known better now."""
        with self._lock:
            self.done = done
            self.total = total if total is not None else self.total

    def line(self, now: float) -> str:
        """One plain line at ``now`` (monotonic seconds): share, rate and time left, as far as they are known. Never more
        than 99 % while the work goes on, as a total is often an estimate."""
        seconds = max(0.001, now - self.started)
        rate = self.done / seconds
        if self.unit == "s":
            done = f"{self.done:.0f}" if self.total is None else f"{self.done:.0f} of {self.total:.0f}"
            return f"{self.name}: {done} s"
        if not self.total:
            return f"{self.name}: {self.done:,.0f} {self.unit}, {rate:,.1f} {self.unit}/s; {seconds:.0f} s so far"
        share = min(0.99, self.done / self.total)
        left = f"about {max(0.0, self.total - self.done) / rate:.0f} s left" if rate else "time left not known yet"
        return f"{self.name}: {share:.0%} of about {self.total:,.0f} {self.unit}, {rate:,.1f} {self.unit}/s, {left}; {seconds:.0f} s so far"


class Progress:
    """Shows nothing; the base of what does."""

    @contextmanager
    def work(self, name: str, total: float | None, unit: str) -> Iterator[Work]:
        """One piece of work, from now until the block ends.

        Args:
            total: how much there is in ``unit`` (``rows``, ``MiB``, ``s`` for a wait); None when it is not known.
        """
        yield Work(name, total, unit)


SILENT = Progress()


class Lines(Progress):
    """A plain line every :data:`LINE_SECONDS` for each piece of work that lasts longer."""

    @contextmanager
    def work(self, name: str, total: float | None, unit: str) -> Iterator[Work]:
        """As :meth:`Progress.work`."""
        told, ended = Work(name, total, unit), threading.Event()

        def tell() -> None:
            while not ended.wait(LINE_SECONDS):
                console.say(told.line(time.monotonic()))

        thread = threading.Thread(target=tell, name=f"progress of {name}", daemon=True)
        thread.start()
        try:
            yield told
        finally:
            ended.set()
            thread.join()


class _Bar(Work):
    """Work that a bar shows."""

    def __init__(self, name: str, total: float | None, unit: str, bars: rich_progress.Progress) -> None:
        super().__init__(name, total, unit)
        self._bars, self._task = bars, bars.add_task(name, total=total, unit=unit, rate="")

    def advance(self, amount: float = 1) -> None:
        super().advance(amount)
        self._draw()

    def at(self, done: float, total: float | None = None) -> None:
        super().at(done, total)
        self._draw()

    def _draw(self) -> None:
        seconds = max(0.001, time.monotonic() - self.started)
        rate = "" if self.unit == "s" else f"{self.done / seconds:,.1f} {self.unit}/s"
        self._bars.update(self._task, completed=self.done, total=self.total, rate=rate)

    def close(self, whole: bool) -> None:
        """The bar stays as it is; full when the work came to its end, as its total was an estimate."""
        self._bars.update(self._task, completed=(self.total or self.done) if whole else self.done)
        self._bars.stop_task(self._task)


class Bars(Progress):
    """A bar with rate and time left for each piece of work; rich draws them."""

    def __init__(self) -> None:
        self._bars = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}"),
            rich_progress.BarColumn(bar_width=20),
            rich_progress.TaskProgressColumn(show_speed=False),
            rich_progress.TextColumn("{task.fields[rate]}"),
            rich_progress.TimeRemainingColumn(compact=True),
            console=console.err,
            refresh_per_second=4,
        )
        self._open = 0
        self._lock = threading.Lock()

    @contextmanager
    def work(self, name: str, total: float | None, unit: str) -> Iterator[Work]:
        """As :meth:`Progress.work`."""
        with self._lock:
            self._open += 1
            if self._open == 1:
                self._bars.start()
        bar, whole = _Bar(name, total, unit, self._bars), False
        try:
            yield bar
            whole = True
        finally:
            bar.close(whole)
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    self._bars.stop()


def display() -> Progress:
    """Bars when standard error is a terminal, else plain lines."""
    return Bars() if console.err.is_terminal else Lines()
