"""Who may write where: on no side that is silent, and a scheduler on one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.config import MigrationConfig
from scripts.replication import writers
from scripts.replication.documents import Writer
from scripts.replication.writers import HOUR, Run, Seen
from scripts.support.sides import Side

CONFIG = MigrationConfig()


def writer(side: Side, application: str = "web", last: str = "10:00:00", **changes: Any) -> Writer:
    values = {
        "side": side, "role": "app", "application": application, "tables": {"tasks": 2, "task_tag": 1},
        "first": "2026-01-01 09:00:00", "last": f"2026-01-01 {last}", "seconds_ago": 30.0, **changes,
    }  # fmt: skip
    return Writer.model_validate(values)


def found(seen: Seen, **config: Any) -> list[tuple[str, str]]:
    return [(one.status, one.what) for one in writers.judge(MigrationConfig(**config), seen)]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(100, "2026-01-01 09:00:00+00"), []),
        (Seen(100, others=(writer("source"),)), [("fail", "source: somebody else writes")]),
        (Seen(100, others=(writer("source", seconds_ago=599.9),)), [("fail", "source: somebody else writes")]),
        (Seen(100, others=(writer("source", seconds_ago=600.0),)), [("warn", "source: somebody else writes")]),
        # A check of the API writes there before the first step.
        (Seen(0, others=(writer("target"),)), [("warn", "target: somebody else writes")]),
        (Seen(25, day=(writer("source"), writer("target"))), []),
    ],
)
def test_nobody_writes_on_the_side_that_is_silent(seen: Seen, expected: list[tuple[str, str]]) -> None:
    """Prevents a status that is fine while the monolith's jobs go on at 100 %, where `finalize` would end them."""
    assert found(seen) == expected


def test_a_finding_names_who_how_much_since_when_and_what_to_do() -> None:
    """Prevents a finding from which nobody can tell which job to stop."""
    seen = Seen(100, "2026-01-01 09:00:00.123+00", others=(writer("source", "nightly"), writer("source", "")))
    (one,) = writers.judge(CONFIG, seen)
    assert (
        "at weight 100 % nobody but replication writes on the source, since 2026-01-01 09:00:00 UTC, when what was under way had ended"
        in one.detail
    )
    assert "3 writes by app as 'nightly' (tasks 2, task_tag 1; the last at 2026-01-01 10:00:00 UTC)" in one.detail
    assert "by app without a name" in one.detail
    assert "10 minutes after the last write" in one.remedy
    assert "`finalize` refuses for 24 hours" in one.remedy
    assert "'The scheduler'" in one.remedy


def runs(*at: tuple[Side, float, float]) -> Seen:
    return Seen(50, runs=tuple(Run(side, f"{side}'s cron", begin, end) for side, begin, end in at))


TWICE = [("fail", "a scheduler on both sides")]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (runs(("source", 0, 1), ("source", 60, 61)), []),
        (runs(("source", 0, 1), ("target", 60, 61), ("target", 120, 121)), []),
        # Over, and back with a rollback.
        (runs(("source", 0, 1), ("target", 60, 61), ("source", 120, 121)), []),
        # Both, each minute at its first second, or half a minute apart.
        (runs(("source", 0, 1), ("target", 0.1, 1)), TWICE),
        (runs(("source", 0, 0), ("target", 30, 30), ("source", 60, 60), ("target", 90, 90)), TWICE),
        # One runs through the other's.
        (runs(("source", 0, 50), ("target", 20, 21)), TWICE),
        (runs(("source", 0, 10), ("target", 14.9, 20)), TWICE),
        (runs(("source", 0, 10), ("target", 15, 20)), []),
    ],
)
def test_a_scheduler_runs_on_one_side(seen: Seen, expected: list[tuple[str, str]]) -> None:
    """Prevents jobs that run twice at every weight, and a switch over that counts as such."""
    assert found(seen) == expected


@given(st.lists(st.sampled_from(["source", "target"]), min_size=2, max_size=HOUR))
def test_two_schedulers_are_told_from_one_that_is_switched(sides: list[Side]) -> None:
    """One run a minute, a minute apart: each change of sides but two (over, and back) is a second scheduler's."""
    seen = runs(*((side, 60.0 * minute, 60.0 * minute + 1) for minute, side in enumerate(sides)))
    changes = sum(a != b for a, b in pairwise(sides))
    assert bool(found(seen)) == (changes > 2)


@pytest.mark.parametrize(
    ("day", "kept"),
    [
        ((), False),
        ((writer("source", "web"),), False),
        ((writer("source", "Task Scheduler"),), True),
        ((writer("source", "cron.d"), writer("target", "web", "11:00:00")), True),
        ((writer("source", "cron.d"), writer("target", "node-cron", "11:00:00")), False),
        ((writer("source", "cron.d", "12:00:00"), writer("target", "node-cron", "11:00:00")), True),
        ((writer("source", "cron.d", seconds_ago=3600 * 24),), False),
    ],
)
def test_a_scheduler_that_was_not_switched_over_keeps_the_weight_from_100(day: tuple[Writer, ...], kept: bool) -> None:
    """Prevents a monolith that is left at 100 % with its scheduler, whose writes `finalize` then ends."""
    assert bool(writers.not_switched(CONFIG, day)) == kept
    assert writers.not_switched(MigrationConfig(scheduler_names=()), day) == ()


def test_fewer_hours_let_a_switch_count_that_had_nothing_to_do() -> None:
    """Prevents a day's wait for a job of each night that was switched over at noon."""
    day = (writer("source", "cron", seconds_ago=7200.0),)
    assert "silentHours (24)" in writers.not_switched(CONFIG, day)[0]
    assert writers.not_switched(MigrationConfig(silent_hours=2.0), day) == ()
