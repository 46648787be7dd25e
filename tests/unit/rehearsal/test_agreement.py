"""A gate's figures beside the gateway's: each one that is not the same is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scripts.canary.figures import LATENCIES, Period, Traffic
from scripts.rehearsal.agreement import differences

TASK, MONOLITH = Traffic(50, 1, 3, 12.0, 40.0), Traffic(900, 0, 20, 9.0, 30.0)
USERS = Traffic(951, 1, 24, 11.0, 33.0)
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


@pytest.mark.parametrize(
    "wrong",
    [
        replace(PERIOD, task_service=MONOLITH, monolith=TASK),
        replace(PERIOD, task_service=None),
        replace(PERIOD, users=None),
        replace(PERIOD, users=replace(USERS, requests=950)),
        replace(PERIOD, monolith=replace(MONOLITH, errors=1)),
        replace(PERIOD, task_service=replace(TASK, errors=0)),
        replace(PERIOD, task_service=replace(TASK, refusals=47)),
        replace(PERIOD, task_service=replace(TASK, p50_ms=40.0, p95_ms=12.0)),
        replace(PERIOD, task_service=replace(TASK, p95_ms=None)),
        replace(PERIOD, at=120.0),
    ],
)
def test_a_figure_that_is_another_one_is_named(wrong: Period) -> None:
    """Prevents a query for a wrong metric, group or percentile that stays unseen as long as all goes well."""
    found = differences([wrong], MEASURED, "t", "m")
    assert found
    assert "instead of" in found[0]
