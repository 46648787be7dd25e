"""Verifications of an unattended ladder: one before its first step, one beside each watch. Both rest half of the time."""

from __future__ import annotations

import threading

from scripts.canary.stage import Stage
from scripts.support.errors import MigrationError
from scripts.support.progress import SILENT, Progress
from scripts.verify import run as verify

#: How long the end of a watch waits for the verification beside it, seconds: nobody looks at the figures meanwhile.
LAST_SECONDS = 60.0


class Verifying:
    """One verification at a time; one that outlasts its watch goes on beside the next. Their verdicts stand on the source."""

    def __init__(self, stage: Stage) -> None:
        self._settings = stage.settings
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: str | None = None

    def now(self, progress: Progress, *, whole: bool) -> None:
        """Compare both sides, in every row if ``whole``. Raises as :func:`scripts.verify.run.run`."""
        verify.run(self._settings, gentle=True, progress=progress, stop=self._stop, incremental=not whole)

    def begin(self, *, whole: bool) -> None:
        """Compare both sides beside what follows, unless that is being done."""
        if self._thread is None or not self._thread.is_alive():
            self._failure = "the verification beside the watch ended without a verdict"
            # Its own: what fails sets it too.
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._work, args=(whole,), name="verify beside", daemon=True)
            self._thread.start()

    def unfinished(self) -> str | None:
        """Why the one that was begun last has no verdict; None when it has."""
        if self._thread is not None:
            self._thread.join(LAST_SECONDS)
            if self._thread.is_alive():
                return "the verification beside the watch has not ended; it goes on"
        return self._failure

    def close(self) -> None:
        """What runs still ends at its next piece of work; nobody waits for that."""
        self._stop.set()

    def _work(self, whole: bool) -> None:
        try:
            self.now(SILENT, whole=whole)
            self._failure = None
        except MigrationError as error:
            self._failure = f"the verification beside the watch failed: {error}"
