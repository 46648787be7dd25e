"""Measures beside the rehearsal: from the gateway by the second, by fences of its own each way, and what the conflict logs tell."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import SecretStr

from components.config_values import migration_config, read_stack_file
from scripts.database.sides import both
from scripts.rehearsal.live import Moment
from scripts.rehearsal.testbed import Testbed
from scripts.replication import fence, writes
from scripts.replication.directions import DIRECTIONS, Direction
from scripts.report.documents import Series
from scripts.report.journal import series
from scripts.support.errors import MigrationError, Refused, TimedOut
from scripts.support.settings import Settings

#: Seconds that the share is measured over, between two looks at the gateway, and between two fences of one way.
SHARE_SECONDS, LOOK_SECONDS, LAG_SECONDS = 5.0, 1.0, 2.0
#: Seconds that a fence is waited for, beside what the stand-in of AWS DMS puts it off.
FENCE_SECONDS = 5.0
#: Seconds after which no answer of a second is noted any more.
NOTED_SECONDS = 0.5


class Sampler:
    """One rehearsal's. It is called with what it fills in, half-seconds apart; :meth:`close` ends it."""

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._points: defaultdict[tuple[str, str], dict[float, float | None]] = defaultdict(dict)
        self._lag: dict[str, float] = {}
        self._over = threading.Event()
        self._looked = 0.0
        #: The first second that is not kept yet; None before there was a load.
        self._next: float | None = None
        for direction in DIRECTIONS:
            threading.Thread(target=self._fences, args=(direction,), name=f"lag {direction}", daemon=True).start()

    def __call__(self, moment: Moment) -> None:
        """Fill in the figures of now; without a load there are none.

        Raises:
            MigrationError: something that is asked does not answer.
        """
        bed = self._testbed
        if not bed.load.running or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        stats = self._look(NOTED_SECONDS)
        weights = stats["weights"]
        moment.weight = round(100 * weights.get(bed.task_group, 0) / sum(weights.values())) if weights else None
        share = stats["share"].get(bed.task_group)
        moment.share = None if share is None else 100.0 * share
        self._points["weight", "measured"][time.time() - SHARE_SECONDS / 2] = moment.share
        moment.load = bed.load.figures()
        moment.lag = dict(self._lag)

    def close(self) -> list[Series]:
        """Stop; the curves of all that was measured, the newest requests included."""
        self._over.set()
        if self._next is not None:
            with suppress(MigrationError):
                self._look(0.0)
        return [series(what, of, points) for (what, of), points in sorted(self._points.items())]

    def _look(self, delay: float) -> Mapping[str, Any]:
        """The gateway's figures, with each whole second kept that is over since so many seconds."""
        bed, now = self._testbed, time.time()
        if self._next is None:
            self._next = float(int(now - SHARE_SECONDS))
        stats = bed.stats(min(now - SHARE_SECONDS, self._next), 1.0)
        sides = {"monolith": str(bed.outputs["monolithTargetGroupArn"]), "task-service": bed.task_group}
        for one in stats["periods"]:
            at = float(one["at"])
            if not self._next <= at <= now - 1.0 - delay:
                continue
            self._next = at + 1.0
            figures = {**{of: one["target_groups"].get(group) for of, group in sides.items()}, "users": one["api"]}
            for of, found in figures.items():
                for what, name in (("requests", "requests"), ("errors", "5xx"), ("p50", "p50_ms"), ("p95", "p95_ms")):
                    self._points[what, of][at] = None if found is None else found[name]
        return stats

    def _fences(self, direction: Direction) -> None:
        """The lag of one way, as long as the rehearsal lasts: each at the moment at which its fence was written."""
        since: float | None = None
        while not self._over.wait(LAG_SECONDS):
            if not self._testbed.load.running:
                continue
            at = time.time()
            since = at if since is None else since
            try:
                settings = self._settings()
                if not fence.available(settings):
                    raise Refused("no replication, no lag")
                wait = FENCE_SECONDS + 2 * self._testbed.plan.dms_lag
                lag, since = fence.through(settings, direction, wait), at
                if direction == "forward":
                    self._tell(settings)
            except TimedOut:
                # At least since the last one that returned was written.
                lag = time.time() - since
            except MigrationError:
                self._lag.pop(direction, None)
                since = None
                continue  # it does not run yet, or no more; or a server is being started or stopped
            self._lag[direction] = lag
            self._points["lag", direction][at] = lag

    def _tell(self, settings: Settings) -> None:
        """The writes told as lost so far, of which none is ever forgotten while replication runs."""
        with both(settings, "told", "counting the writes told as lost") as sides:
            self._points["told", "both sides"][time.time()] = sum(map(writes.told, sides))

    def _settings(self) -> Settings:
        bed = self._testbed
        return Settings(
            # The stack's own, as the engine is in it.
            config=migration_config(read_stack_file(bed.stack_file), bed.stack_file.name),
            stack=None,
            source_url=SecretStr(bed.databases.source_url),
            target_url=SecretStr(bed.databases.target_url),
            state_dir=bed.state_dir,
        )
