"""What people see of long work, on standard error: bars on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import RenderableType

from scripts.support import console
from scripts.support.progress import Progress, Work

#: Seconds between two plain lines.
LINE_SECONDS = 5.0


class Lines(Progress):
    """A plain line every :data:`LINE_SECONDS` for each piece of work that lasts longer."""

    @contextmanager
    def work(self, name: str, total: float | None, unit: str, *, detail: bool = False) -> Iterator[Work]:
        """As :meth:`Progress.work`."""
        work, ended = Work(name, total, unit), threading.Event()
        if detail:
            yield work
            return

        def tell() -> None:
            while not ended.wait(LINE_SECONDS):
                console.say(work.line(time.monotonic()))

        thread = threading.Thread(target=tell, name=f"progress of {name}", daemon=True)
        thread.start()
        try:
            yield work
        finally:
            ended.set()
            thread.join()


class _Screen(rich_progress.Progress):
    """rich's bars, which look at the works whenever they are drawn."""

    def __init__(self) -> None:
        self._works: dict[rich_progress.TaskID, Work] = {}
        self._looking = threading.Lock()
        super().__init__(
            rich_progress.TextColumn("{task.description:<26}"),
            rich_progress.BarColumn(bar_width=20),
            rich_progress.TextColumn("{task.fields[share]:>4}"),
            rich_progress.TextColumn("{task.fields[rate]:>16}"),
            rich_progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console.err,
            refresh_per_second=4,
        )

    def begin(self, work: Work) -> rich_progress.TaskID:
        """A bar for ``work``."""
        task = self.add_task(work.name, total=work.total or None, share="", rate="")
        self._works[task] = work
        return task

    def get_renderables(self) -> Iterator[RenderableType]:
        """As rich asks for it, several times a second and at the end."""
        with self._looking:
            for task, work in list(self._works.items()):
                done = work.so_far(time.monotonic())
                self._look(task, work, min(done, 0.99 * work.total) if work.total else done, work.total or None)
        yield from super().get_renderables()

    def end(self, task: rich_progress.TaskID, whole: bool) -> None:
        """The bar stays as it is; full when the work came to its end, as its total was an estimate."""
        with self._looking:
            work = self._works.pop(task)
            total = (work.total or work.done or 1.0) if whole else work.total or None
            self._look(task, work, total if whole and total else work.done, total)
            self.stop_task(task)

    def _look(self, task: rich_progress.TaskID, work: Work, done: float, total: float | None) -> None:
        share = f"{done / total:.0%}" if total else ""
        self.update(task, completed=done, total=total, share=share, rate=work.rate(time.monotonic()))


class Bars(Progress):
    """A bar with rate and time left for each piece of work; rich draws them."""

    def __init__(self) -> None:
        self._screen = _Screen()
        self._open = 0
        self._lock = threading.Lock()

    @contextmanager
    def work(self, name: str, total: float | None, unit: str, *, detail: bool = False) -> Iterator[Work]:  # noqa: ARG002
        """As :meth:`Progress.work`."""
        with self._lock:
            self._open += 1
            if self._open == 1:
                # A new one each time: bars of works that ended before stand on the terminal already.
                self._screen = _Screen()
                self._screen.start()
        work, whole = Work(name, total, unit), False
        task = self._screen.begin(work)
        try:
            yield work
            whole = True
        finally:
            self._screen.end(task, whole)
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    self._screen.stop()


def display() -> Progress:
    """Bars when standard error is a terminal, else plain lines."""
    return Bars() if console.err.is_terminal else Lines()
