"""Every wait has a deadline and reports its last observation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from scripts.support.errors import TimedOut

T = TypeVar("T")


def wait_until(
    observe: Callable[[], T],
    done: Callable[[T], bool],
    *,
    what: str,
    timeout: float,
    interval: float = 0.2,
    remedy: str = "look at the last observation, mend its cause and run the command again",
) -> T:
    """Call ``observe`` until ``done`` of what it returned; return that observation.

    Args:
        timeout: seconds until the wait gives up; the observation is made at least once.
        interval: seconds between two observations.

    Raises:
        TimedOut: with ``what``, the limit, the last observation and the remedy.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = observe()
        if done(seen):
            return seen
        if time.monotonic() >= deadline:
            raise TimedOut(f"{what}: not so after {timeout:g} s (the limit); last seen: {seen}; {remedy}")
        time.sleep(min(interval, max(0.0, deadline - time.monotonic())))
