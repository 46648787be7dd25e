"""A gate's figures beside the gateway's: each one that is not the same is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scripts.canary.figures import LATENCIES, Period, Traffic
from scripts.rehearsal.agreement import differences

TASK, MONOLITH = Traffic(50, 1, 3, 12.0, 40.0, 44.0), Traffic(900, 0, 20, 9.0, 30.0, 35.0)
USERS = Traffic(951, 1, 24, 11.0, 33.0, 37.0)
PERIOD = Period(60.0, TASK, MONOLITH, users=USERS)


def figures(traffic: Traffic) -> dict[str, Any]:
    counts = {"requests": traffic.requests, "5xx": traffic.errors, "4xx": traffic.refusals}
    return {**counts, **{name: getattr(traffic, name) for name in LATENCIES}}


MEASURED = [{"at": 60.0, "api": figures(USERS), "target_groups": {"t": figures(TASK), "m": figures(MONOLITH)}}]


def test_the_same_figures_agree_and_rounding_is_no_difference() -> None:
    assert differences([PERIOD], MEASURED, "t", "m") == []
    assert differences([replace(PERIOD, users=replace(USERS, p95_ms=33.01))], MEASURED, "t", "m") == []
    nothing = figures(Traffic(0))
    quiet = [{**MEASURED[0], "target_groups": {"t": nothing, "m": figures(MONOLITH)}}]
    assert differences([replace(PERIOD, task_service=None)], quiet, "t", "m") == []


OURS, THEIRS, ALL = [50, 1, 3, 12.0, 40.0, 44.0], [900, 0, 20, 9.0, 30.0, 35.0], [951, 1, 24, 11.0, 33.0, 37.0]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (
            replace(PERIOD, task_service=MONOLITH, monolith=TASK),
            {"the Task Service": (THEIRS, OURS), "the monolith": (OURS, THEIRS)},
        ),
        (replace(PERIOD, task_service=None), {"the Task Service": ([], OURS)}),
        (replace(PERIOD, users=None), {"users": ([], ALL)}),
        (replace(PERIOD, users=replace(USERS, requests=950)), {"users": ([950, *ALL[1:]], ALL)}),
        (replace(PERIOD, monolith=replace(MONOLITH, errors=1)), {"the monolith": ([900, 1, *THEIRS[2:]], THEIRS)}),
        (replace(PERIOD, task_service=replace(TASK, errors=0)), {"the Task Service": ([50, 0, *OURS[2:]], OURS)}),
        (
            replace(PERIOD, task_service=replace(TASK, refusals=47)),
            {"the Task Service": ([50, 1, 47, *OURS[3:]], OURS)},
        ),
        (
            replace(PERIOD, task_service=replace(TASK, p50_ms=40.0, p95_ms=12.0)),
            {"the Task Service": ([50, 1, 3, 40.0, 12.0, 44.0], OURS)},
        ),
        (
            replace(PERIOD, task_service=replace(TASK, p95_ms=None)),
            {"the Task Service": ([*OURS[:4], 0.0, 44.0], OURS)},
        ),
        (replace(PERIOD, monolith=replace(MONOLITH, p99_ms=44.0)), {"the monolith": ([*THEIRS[:5], 44.0], THEIRS)}),
        (replace(PERIOD, users=replace(USERS, p95_ms=33.03)), {"users": ([*ALL[:4], 33.03, 37.0], ALL)}),
        (
            replace(PERIOD, at=120.0),
            {"the Task Service": (OURS, []), "the monolith": (THEIRS, []), "users": (ALL, [])},
        ),
    ],
)
def test_a_figure_that_is_another_one_is_named(
    wrong: Period, named: dict[str, tuple[list[float], list[float]]]
) -> None:
    """Prevents a query for a wrong metric, group or percentile that stays unseen as long as all goes well."""
    assert differences([wrong], MEASURED, "t", "m") == [
        f"{who} in the period from {wrong.at:.0f}: {one} instead of {other}" for who, (one, other) in named.items()
    ]
