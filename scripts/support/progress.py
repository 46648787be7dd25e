"""How far long work is: a step takes a :class:`Progress` and tells it what was done; the command line decides what is shown
(:mod:`scripts.support.progress_display`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


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

    def so_far(self, now: float) -> float:
        """How much is done at ``now`` (monotonic seconds); a wait goes on by itself."""
        return max(self.done, now - self.started) if self.unit == "s" else self.done

    def rate(self, now: float) -> str:
        """How much a second since it began, at ``now``; empty for a wait, which has none."""
        return "" if self.unit == "s" else f"{self.done / max(0.001, now - self.started):,.1f} {self.unit}/s"

    def line(self, now: float) -> str:
        """One plain line at ``now`` (monotonic seconds): share, rate and time left, as far as they are known. Never more
        than 99 % while the work goes on, as a total is often an estimate."""
        seconds = max(0.001, now - self.started)
        if self.unit == "s":
            limit = "" if self.total is None else f" of {self.total:.0f}"
            return f"{self.name}: {self.so_far(now):.0f}{limit} s"
        if not self.total:
            return f"{self.name}: {self.done:,.0f} {self.unit}, {self.rate(now)}; {seconds:.0f} s so far"
        share, left = min(0.99, self.done / self.total), "time left not known"
        if 0 < self.done < self.total:  # past an estimate nothing is known of the rest
            left = f"about {(self.total - self.done) / self.done * seconds:.0f} s left"
        return f"{self.name}: {share:.0%} of about {self.total:,.0f} {self.unit}, {self.rate(now)}, {left}; {seconds:.0f} s so far"


class Progress:
    """Shows nothing; the base of what does."""

    @contextmanager
    def work(self, name: str, total: float | None, unit: str, *, detail: bool = False) -> Iterator[Work]:  # noqa: ARG002
        """One piece of work, from now until the block ends.

        Args:
            total: how much there is in ``unit`` (``rows``, ``MiB``, ``s`` for a wait, which goes on untold); None when it is not known.
            detail: a part of another work, for which a line would be too much.
        """
        yield Work(name, total, unit)


SILENT = Progress()
