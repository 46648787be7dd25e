"""Every wait has a deadline and reports its last observation."""

from __future__ import annotations

import threading
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


def bounded(work: Callable[[], T], seconds: float, *, what: str, remedy: str) -> T:
    """Run ``work`` in a thread and give up waiting for it after ``seconds``: what is far away answers late or never.

    Returns:
        what ``work`` returned. What it raises is raised here.

    Raises:
        TimedOut: it did not end; the thread goes on alone and ends with the process at the latest.
    """
    return begin(work, what=what, remedy=remedy)(seconds)


def begin(work: Callable[[], T], *, what: str, remedy: str) -> Callable[[float], T]:
    """As :func:`bounded`, where other work is done meanwhile: what is returned waits so many seconds, from then on, for the result."""
    results: list[T] = []
    failures: list[BaseException] = []

    def call() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            failures.append(error)

    thread = threading.Thread(target=call, name=what, daemon=True)
    thread.start()

    def result(seconds: float) -> T:
        thread.join(seconds)
        if failures:
            raise failures[0]
        if not results:
            raise TimedOut(f"{what}: did not end within {seconds:g} s (the limit); {remedy}")
        return results[0]

    return result
