"""Stalled or not, and the hours left: what is judged from marks of earlier looks at a slot."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.replication import slot_health
from scripts.replication.slot_health import Mark, Observation, advance, runway, stalled_seconds

GIB = 1024**3


def seen(at: float, wal: int, confirmed: int, retained: int = 0, **more: Any) -> Observation:
    return Observation(at, wal, confirmed, retained, more.get("average_rate"), more.get("keep_bytes"))


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        # The first look knows nothing of before.
        ([(0, 100, 50)], 0),
        # It stands while the log grows: since the first look that saw it there.
        ([(0, 100, 50), (30, 200, 50), (70, 300, 50)], 70),
        # It stands, and so does the log: an idle server is no stall.
        ([(0, 100, 50), (300, 100, 50)], 0),
        # It advanced in between, however little.
        ([(0, 100, 50), (50, 200, 51), (90, 300, 51)], 40),
        # It advances with every look.
        ([(0, 100, 50), (50, 200, 60), (90, 300, 70)], 0),
    ],
)
def test_a_slot_is_stalled_only_while_the_log_grows(looks: list[tuple[float, int, int]], expected: float) -> None:
    """Prevents an alarm on an idle server, and none on a slot that stands still."""
    mark: Mark | None = None
    stalled = 0.0
    for look in looks:
        stalled = stalled_seconds(mark, seen(*look))
        mark = advance(mark, seen(*look))
    assert stalled == expected


@given(st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 1000), st.integers(0, 5)), min_size=1, max_size=30))
def test_a_slot_that_moved_since_the_last_look_is_never_stalled(steps: list[tuple[float, int, int]]) -> None:
    """Prevents a count that goes on after the slot has advanced, and one longer than the watch."""
    at, wal, confirmed, mark = 0.0, 1000, 0, None
    for seconds, written, read in steps:
        at, wal = at + seconds, wal + written
        confirmed = min(wal, confirmed + read)
        look = seen(at, wal, confirmed)
        found = stalled_seconds(mark, look)
        assert 0 <= found <= at + 0.1
        if mark is not None and mark.confirmed != confirmed:
            assert found == 0
        mark = advance(mark, look)
        assert slot_health.mark_of(mark.document()) == mark


@pytest.mark.parametrize(
    ("since", "at", "seconds"), [(0, 70.26, 70.3), (0, 0.5, 0.5), (0.25, 0.25, 0.0), (80, 70, 0.0)]
)
def test_a_stall_lasts_since_the_position_was_first_seen(since: float, at: float, seconds: float) -> None:
    """Prevents an alarm by a clock that went back, and one that comes a second early."""
    assert stalled_seconds(Mark(50, since, 100, 0, 0), seen(at, 101, 50)) == seconds
    assert stalled_seconds(Mark(50, since, 101, 0, 0), seen(at, 101, 50)) == 0
    assert stalled_seconds(Mark(49, since, 100, 0, 0), seen(at, 101, 50)) == 0


#: A mark in its window, which began at 1,000 s and 5,000 bytes; the position 50 stands since 1,010 s, when the log was at 6,000.
MARK = Mark(confirmed=50, confirmed_since=1010, wal_then=6000, window_at=1000, window_wal=5000)


@pytest.mark.parametrize(
    ("mark", "look", "after"),
    [
        (None, (7, 100, 50), Mark(50, 7, 100, 7, 100)),
        # A log that is shorter than it was is another server's.
        (MARK, (1020, 4999, 50), Mark(50, 1020, 4999, 1020, 4999)),
        (MARK, (1020, 5000, 50), Mark(50, 1010, 6000, 1000, 5000)),
        (MARK, (1020, 7000, 50), Mark(50, 1010, 6000, 1000, 5000)),
        (MARK, (1020, 7000, 51), Mark(51, 1020, 7000, 1000, 5000)),
        # The window begins anew, so that a quiet night does not hide a busy morning; that a slot stands is not forgotten.
        (MARK, (4600, 7000, 50), Mark(50, 1010, 6000, 1000, 5000)),
        (MARK, (4600.1, 7000, 50), Mark(50, 1010, 6000, 4600.1, 7000)),
        (MARK, (4600.1, 7000, 51), Mark(51, 4600.1, 7000, 4600.1, 7000)),
    ],
)
def test_what_is_remembered_of_looks(mark: Mark | None, look: tuple[float, int, int], after: Mark) -> None:
    """Prevents a stall that begins anew with each window, and a rate that mixes two servers' logs."""
    assert advance(mark, seen(*look)) == after


@pytest.mark.parametrize(
    ("mark", "look", "expected"),
    [
        # 10,000 bytes in 20 s by the window: 500 bytes/s. Of 2 GiB a quarter is used; 1.5 GiB last 894.78 h.
        (MARK, seen(1020, 15_000, 0, GIB // 2, average_rate=1.0, keep_bytes=2 * GIB), (894.78, 500.0, 20.0, 2 * GIB, "max_slot_wal_keep_size")),
        (MARK, seen(1020, 15_000, 0, GIB // 2, keep_bytes=20 * GIB), (5666.97, 500.0, 20.0, 10 * GIB, "walAllowanceGb")),
        (MARK, seen(1020, 15_000, 0, GIB // 2, keep_bytes=10 * GIB), (5666.97, 500.0, 20.0, 10 * GIB, "walAllowanceGb")),
        # A window of less than 10 s, or of another server's log, or none: the server's average.
        (MARK, seen(1010, 5500, 0, average_rate=7.0), (59652.32, 50.0, 10.0, 10 * GIB, "walAllowanceGb")),
        (MARK, seen(1009.9, 5500, 0, average_rate=1000.06), (2982.44, 1000.1, None, 10 * GIB, "walAllowanceGb")),
        (MARK, seen(1020, 4999, 0, average_rate=1000.0), (2982.62, 1000.0, None, 10 * GIB, "walAllowanceGb")),
        (None, seen(1020, 4999, 0, average_rate=1000.0), (2982.62, 1000.0, None, 10 * GIB, "walAllowanceGb")),
        (None, seen(1020, 4999, 0), (None, None, None, 10 * GIB, "walAllowanceGb")),
        # Nothing was written: no hours, and that over so long.
        (MARK, seen(1033.333, 5000, 0, average_rate=9.0), (None, 0.0, 33.3, 10 * GIB, "walAllowanceGb")),
        # What is full, or fuller, lasts no time; 1 byte a second shows that it is none.
        (MARK, seen(1010, 5010, 0, 10 * GIB), (0.0, 1.0, 10.0, 10 * GIB, "walAllowanceGb")),
        (MARK, seen(4600, 5001, 0, 11 * GIB), (0.0, 0.0, 3600.0, 10 * GIB, "walAllowanceGb")),
    ],
)  # fmt: skip
def test_the_runway_takes_the_smaller_limit_and_the_present_rate(
    mark: Mark | None, look: Observation, expected: tuple[float | None, float | None, float | None, int, str]
) -> None:
    """Prevents hours computed from last week's rate, or past the size after which the server drops the slot."""
    found = runway(mark, look, 10 * GIB)
    told = (found.hours, found.rate_bytes_per_second, found.measured_over_seconds, found.limit_bytes, found.limit)
    assert told == expected
    assert found.retained_bytes == look.retained
