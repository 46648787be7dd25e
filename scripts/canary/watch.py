"""The watch of a canary step: fences and figures, look by look, until they decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from scripts.canary import gates
from scripts.canary.figures import Observed, with_replication
from scripts.canary.gates import Verdict
from scripts.canary.notices import alarm
from scripts.canary.operator_lock import Lock
from scripts.canary.stage import Stage
from scripts.replication import status
from scripts.replication.deletes import unusual
from scripts.replication.fence import Halted
from scripts.replication.status import Looked
from scripts.support.errors import DatabaseError, MigrationError, TimedOut
from scripts.support.events import CanaryEvent, Step
from scripts.support.figure import short
from scripts.support.journal import note
from scripts.support.progress import SILENT, Progress

#: Longest between two looks of a watch, in seconds.
LOOK_SECONDS = 30.0
#: Periods that a watch may last beyond its length, for the first one to begin and the last one to be complete.
GRACE_PERIODS = 3

Tell = Callable[[str], None]


def silent(_: str) -> None:
    """Tells nobody."""


class Watch:
    """One watch of ``stage``.

    Args:
        weight: the share that the step gives the Task Service, percent.
        lock: the operator's; who lost it stops watching.
        tell: called with a line for people whenever another period is complete.
    """

    def __init__(self, stage: Stage, lock: Lock, weight: int, tell: Tell = silent, progress: Progress = SILENT) -> None:
        self._stage, self._lock, self._tell, self._progress = stage, lock, tell, progress
        self._weight = weight
        self._fences: list[tuple[float, float]] = []
        self._looked: Looked | None = None
        self._halted: str | None = None
        self._unreadable: str | None = None
        self._unserved_since: float | None = None
        self._alarmed = set[str]()

    def run(self) -> Observed:
        """Look until a breach, or the whole watch decides, or its grace is over.

        Raises:
            TakenOver: another operator acts now.
        """
        config = self._stage.settings.config
        since, begun = time.time(), time.monotonic()
        expected = config.watch_seconds + config.metric_delay_seconds
        last = expected + GRACE_PERIODS * config.period_seconds
        pause = min(LOOK_SECONDS, config.period_seconds / 2)
        seen = 0
        with self._progress.work("watch", expected, "s"):
            while True:
                time.sleep(pause)
                with suppress(DatabaseError):  # a source that is away fails the fence, and that is what rolls back
                    self._lock.check()
                observed = self._observe(since)
                verdict = gates.decide(observed, config.gates, config.watch_seconds).verdict
                if len(observed.periods) != seen:
                    seen = len(observed.periods)
                    self._told(observed, verdict)
                if verdict != "hold" or time.monotonic() - begun >= last:
                    return observed

    def _told(self, observed: Observed, verdict: Verdict) -> None:
        limit = self._stage.settings.config.watch_seconds
        self._tell(f"watched {short(observed.watched_seconds)} of {limit:g} s: {verdict}; {observed.newest()}")

    def _observe(self, since: float) -> Observed:
        settings = self._stage.settings
        self._fences.append((time.time(), self._fenced()))
        try:
            observed = with_replication(self._stage.metrics.observe(since), self._fences)
        except MigrationError as error:
            # Metrics that cannot be read are no figures: the gate holds on them.
            if self._unreadable != str(error):
                self._unreadable = str(error)
                note(settings.journal, Step.CANARY, CanaryEvent.METRICS_UNREADABLE, reason=self._unreadable)
                self._tell(f"no figures: {error}")
            observed = Observed(settings.config.period_seconds, failing=(f"no figures: {error}",))
        observed = replace(observed, weight=self._weight, halted=self._halted, unserved_seconds=self._unserved())
        if self._looked is None:
            return observed
        looked = self._looked
        self._alarm("unusual deletes by the Task Service", unusual(looked.deletes, settings.config.gates))
        self._alarm("somebody else writes", looked.writing)
        return replace(
            observed,
            missing=looked.missing,
            told=looked.told,
            deletes=looked.deletes,
            failing=(*observed.failing, *looked.writing),
        )

    def _unserved(self) -> float:
        """Seconds since the first look in a row that saw no healthy target; 0 where there is one, or nobody to ask."""
        now = time.monotonic()
        with suppress(MigrationError):
            if self._stage.service is not None and not self._stage.service.health().healthy:
                if self._unserved_since is None:
                    self._unserved_since = now
                    self._tell("no target of the Task Service is healthy")
                return max(now - self._unserved_since, 1e-3)
        self._unserved_since = None
        return 0.0

    def _alarm(self, subject: str, found: Sequence[str]) -> None:
        """Tell the alarms' topic once a watch: it goes on while the watch lasts."""
        if found and subject not in self._alarmed:
            self._alarmed.add(subject)
            self._tell("; ".join(found))
            self._stage.notices.send(self._stage.settings, f"ALARM: {subject}", alarm(found))

    def _fenced(self) -> float:
        """Seconds of the slower fence; the limit, which is a breach, when one does not return."""
        settings = self._stage.settings
        limit = settings.config.gates.replication_lag_seconds
        self._halted = None
        try:
            self._looked = status.look(settings, limit)
            return self._looked.seconds
        except Halted as error:
            self._halted = str(error)
            return limit
        except TimedOut:
            return limit
        except MigrationError as error:
            note(settings.journal, Step.CANARY, CanaryEvent.FENCE_FAILED, reason=str(error))
            return limit
