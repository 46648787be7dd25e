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


def test_the_runway_takes_the_smaller_limit_and_the_present_rate() -> None:
    """Prevents hours computed from last week's rate, or past the size after which the server drops the slot."""
    mark = Mark(confirmed=0, confirmed_since=0, wal_then=0, window_at=0, window_wal=0)
    # 100 MiB in 100 s; 1 GiB may be kept, a quarter of it is used.
    look = seen(100, 100 * 2**20, 0, GIB // 4, average_rate=1.0, keep_bytes=GIB)
    found = runway(mark, look, 10 * GIB)
    assert found.limit == "max_slot_wal_keep_size"
    assert found.rate_bytes_per_second == 2**20
    assert found.hours == pytest.approx(768 / 3600, abs=0.01)
    # Too short a window: the server's own average, until there is more.
    early = runway(mark, seen(5, 100 * 2**20, 0, 0, average_rate=1000.0), GIB)
    assert (early.limit, early.rate_bytes_per_second, early.measured_over_seconds) == (
        "walAllowanceGb",
        1000.0,
        None,
    )
    assert runway(None, seen(5, 1, 0, 0), GIB).hours is None
    assert runway(mark, seen(100, 100 * 2**20, 0, 2 * GIB), GIB).hours == 0
    # The window begins anew, so that a quiet night does not hide a busy morning.
    assert advance(mark, seen(4000, 5, 0)).window_at == 4000
