"""A rehearsal's own measurements: each second once, whatever delays a look; they take the place of what the journal has of watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from scripts.rehearsal import sampling, story, testbed
from scripts.rehearsal.live import LiveView, Moment
from scripts.rehearsal.plan import Plan
from scripts.rehearsal.sampling import Sampler
from scripts.report import page
from scripts.report.documents import Mark, Series
from scripts.support.errors import MigrationError
from tests.unit.cli.test_report import journaled
from tests.unit.report.test_journal import T0

FIGURES = {"5xx": 1, "p50_ms": 2.0, "p95_ms": 3.0}


class Gateway:
    """A gateway that answers as many requests in a second as its number says, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now, self.away = T0, False
        self.load = SimpleNamespace(running=True, figures=dict)
        self.task_group, self.outputs = "task", {"monolithTargetGroupArn": "mono"}

    def stats(self, since: float, period: float) -> dict[str, Any]:
        if self.away:
            raise MigrationError("the gateway does not answer")
        first = -int(-since // period)
        periods = [
            {
                "at": float(at),
                "api": {"requests": at % 100, **FIGURES},
                "target_groups": {group: {"requests": at % 100, **FIGURES} for group in ("task", "mono")},
            }
            for at in range(first, int(self.now // period))
        ]
        return {"weights": {"task": 25, "mono": 75}, "share": {"task": 0.2}, "periods": periods}


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    made = Gateway()
    monkeypatch.setattr(sampling, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(sampling, "time", SimpleNamespace(time=lambda: made.now, monotonic=time.monotonic))
    monkeypatch.setattr(Sampler, "_fences", lambda *_: None)
    return made


def test_every_second_is_kept_once_and_whole_however_late_a_look_comes(gateway: Gateway) -> None:
    sampler, moment = Sampler(cast(testbed.Testbed, gateway)), Moment()
    for passed in (0.5, 0.5, 1.0, 0.3, 40.0, 0.2, 7.7):
        gateway.now += passed
        gateway.away = passed == 0.3
        if gateway.away:
            with pytest.raises(MigrationError):
                sampler(moment)
        else:
            sampler(moment)
    assert (moment.weight, moment.share) == (25, 20.0)
    gateway.now += 3.4
    gateway.load.running = False
    found = {(one.what, one.of): one.points for one in sampler.close()}
    first, last = int(T0 + 0.5 - 5), int(gateway.now)
    for of in ("monolith", "task-service", "users"):
        assert found["requests", of] == [(float(at), at % 100) for at in range(first, last)]
        assert {value for _, value in found["errors", of]} == {1}
    # The second that is under way is nobody's yet.
    assert found["p95", "users"][-1] == (last - 1.0, 3.0)


def test_without_a_load_nothing_is_measured_and_nothing_asked(gateway: Gateway) -> None:
    gateway.load.running, gateway.away = False, True
    sampler = Sampler(cast(testbed.Testbed, gateway))
    sampler(Moment())
    assert sampler.close() == []


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[testbed.Testbed]:
    """A machine on which nothing was set up yet."""
    with testbed.Testbed(
        Plan(rows=10, users=1, rate=1.0, watch=6.0, seed=1, engine="embedded", output=tmp_path / "rehearsal")
    ) as made:
        yield made


def test_what_was_measured_takes_the_place_of_what_the_watches_saw(bed: testbed.Testbed) -> None:
    journaled(bed.state_dir)
    measured = [
        Series(what=what, of=of, points=[(T0, 7.0)]) for what, of in (("requests", "users"), ("weight", "measured"))
    ]
    told = story.tell(bed, [Mark(at=T0 + 99, kind="fault", text="killed")], measured, T0 - 60)
    found = {(one.what, one.of): one.points for one in told.series}
    assert found["requests", "users"] == found["weight", "measured"] == [(T0, 7.0)]
    assert ("requests", "monolith") not in found
    assert [value for _, value in found["weight", "asked"]] == [0, 25, 0, 100, 100]
    assert ("p95", "monolith") in found
    assert [mark.kind for mark in told.marks][6:9] == ["other", "fault", "step"]
    assert told.began == T0 - 60
    assert {one.how for one in told.parts} == {"real", "emulated", "stand-in", "not there"}


def test_a_rehearsal_that_came_to_nothing_has_a_story_and_a_page(bed: testbed.Testbed) -> None:
    told = story.tell(bed, [], [], time.time() - 5)
    assert (told.series, told.marks, told.decisions) == ([], [], [])
    assert told.limits
    text = page.render("Rehearsal", "NOT PASSED", False, [], told, page.Facts(source="report.json"))
    assert "NOT PASSED" in text


def test_a_mark_has_the_moment_that_is_named_or_the_present_one() -> None:
    view = LiveView(lambda _: None)
    view.mark("fault", "killed: postgresql://u:secret@h/d", at=5.0)
    view.mark("other", "after")
    assert (view.marks[0].at, view.marks[0].kind) == (5.0, "fault")
    assert "secret" not in view.marks[0].text
    assert abs(view.marks[1].at - time.time()) < 60
