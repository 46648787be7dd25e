"""Faults of those who act: two operators at once, a Pulumi that cannot be had at the moment of the rollback."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from components.config import PROJECT
from scripts.canary.documents import CanaryStatus, CanaryStep, Rollback
from scripts.rehearsal.engine.state import locked
from scripts.rehearsal.plan import STACK
from scripts.rehearsal.scenarios.night import WEIGHT, Night
from scripts.rehearsal.scenarios.service import BROKEN
from scripts.support.errors import Refused


def two(night: Night) -> None:
    """A second operator makes a step while the first one watches; a third takes the canary over."""
    plan = night.bed.plan
    night.configure(watchSeconds=20 * plan.watch)  # the take-over ends it
    forced = ("canary", "step", "--to", str(WEIGHT), "--force", "--reason")
    since = time.time()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(night.steps.run, *forced, "the first operator")
        night.serves(since, first)
        night.fault("a second operator makes a step too", lambda: None)
        second = night.steps.run(*forced, "the second operator")
        night.show(
            "the second is refused, and told who is at it",
            second.status == Refused.exit_status and "another operator moves the weight" in second.said,
            second.last,
        )
        night.seen(second.last)
        night.configure(watchSeconds=0.6 * plan.watch)
        third = night.steps.run("canary", "step", "--take-over")
        night.read(third, CanaryStep)
        stopped = first.result()
    night.show(
        "the first stops, and is told who took over",
        stopped.status == Refused.exit_status and "was taken over by" in stopped.said,
        stopped.last,
    )
    status = night.steps.command(CanaryStatus, "canary", "status", accept=(0, Refused.exit_status))
    if (status.declared, status.live, status.unfinished) == (WEIGHT, WEIGHT, None):
        night.over(f"the weight is {WEIGHT} %, by one of them alone")


def away(night: Night) -> None:
    """The release is bad, and at the moment of the rollback Pulumi cannot run: its back end does not answer."""
    with _away(night) as takes:

        def both() -> None:
            takes()
            night.release(BROKEN)

        try:
            night.stepped("the release is bad, and Pulumi's back end away", both, rollbackLimitSeconds=120.0)
        finally:
            night.release(None)
    back = night.steps.evidence.rollback
    night.show(
        "the load balancer's API moved the routes, and why is said",
        back is not None and back.by == "load balancer API" and bool(back.pulumi) and bool(back.drift),
        "no rollback" if back is None else f"{back.by}; {back.pulumi}; {back.drift}",
    )
    again = night.steps.command(Rollback, "rollback", "--reason", "Pulumi is there again")
    status = night.steps.command(CanaryStatus, "canary", "status", accept=(0, Refused.exit_status))
    night.show(
        "once it is there, one rollback brings both together",
        again.rows.proven and (status.declared, status.live) == (0, 0),
        f"declared {status.declared} %, at the load balancer {status.live} %",
    )


@contextmanager
def _away(night: Night) -> Iterator[Callable[[], None]]:
    """What takes Pulumi away; it is back on leaving. The embedded engine's state is locked by another, which is refused at once. The real
    one's cannot be read to its end, as of a back end that takes the question and never answers."""
    engine = night.bed.directory / "engine"
    with ExitStack() as until:

        def lock() -> None:
            until.enter_context(locked(engine / "embedded" / "state.json"))

        def hang() -> None:
            state = engine / "pulumi" / "backend" / ".pulumi" / "stacks" / PROJECT / f"{STACK}.json"
            kept = state.rename(state.with_name("away"))
            os.mkfifo(state)
            until.callback(kept.replace, state)

        yield hang if night.bed.engine == "pulumi" else lock
