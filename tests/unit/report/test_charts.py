"""How a picture is laid out: marks that never cover each other, gaps where nothing is known, ticks that fit."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.report import charts
from scripts.report.charts import SIZES, Size, Span, _parted, style
from scripts.report.documents import Limit, Mark, Series
from scripts.report.labels import labels
from tests.unit.report.stories import BEGAN, story

SPAN = Span(BEGAN, BEGAN + 240)


def marks(seconds: list[float]) -> list[Mark]:
    return [Mark(at=BEGAN + one, kind="breach" if one > 200 else "step", text="") for one in sorted(seconds)]


@pytest.mark.parametrize("size", SIZES, ids=[size.name for size in SIZES])
@given(seconds=st.lists(st.floats(-10, 260), max_size=60))
def test_numbers_of_marks_never_touch_and_each_stands_once(size: Size, seconds: list[float]) -> None:
    listed = marks(seconds)
    width = (size.width - size.left - size.right) / SPAN.seconds
    placed = labels(listed, [(mark.at - BEGAN) * width for mark in listed], size.lanes, size.font)
    assert [number for label in placed for number in range(label.first, label.last + 1)] == [*range(1, len(listed) + 1)]
    for number, label in enumerate(placed):
        assert not any(label.touches(other, size.font) for other in placed[:number])
        assert label.grave == any(listed[one - 1].kind == "breach" for one in range(label.first, label.last + 1))


def test_nothing_is_drawn_where_nothing_is_known() -> None:
    curve = Series(
        what="p95",
        of="monolith",
        points=[(BEGAN + at, value) for at, value in ((1, 5.0), (2, None), (3, 6.0), (4, 7.0), (90, 8.0))],
    )
    drawn = _parted(curve, SPAN)
    assert [at for at, value in drawn if math.isnan(value)] == [2, 47]
    assert [value for _, value in drawn if not math.isnan(value)] == [5, 6, 7, 8]


def test_a_weight_and_a_sum_hold_until_the_end() -> None:
    for what, of in (("weight", "asked"), ("told", "both sides"), ("copied", "tasks")):
        curve = Series.model_validate(
            {"what": what, "of": of, "points": [(BEGAN, 0), (BEGAN + 1, 5), (BEGAN + 100, 7)]}
        )
        assert _parted(curve, SPAN) == [(0, 0), (1, 5), (100, 7), (240, 7)]


@pytest.mark.parametrize("seconds", [0.4, 1, 61, 240, 3_599, 3_601, 90_000, 12 * 86_400, 400 * 86_400])
@pytest.mark.parametrize("size", SIZES, ids=[size.name for size in SIZES])
def test_the_time_axis_has_ticks_that_fit_for_runs_of_any_length(seconds: float, size: Size) -> None:
    span = Span(BEGAN, BEGAN + seconds)
    curve = Series(what="lag", of="forward", points=[(BEGAN, 0.1), (BEGAN + seconds, 0.2)])
    drawn = str(dict(charts.draw("lag", [curve], [], [], span, "Lag", ""))[size.name])
    ticks = [
        group for group in re.findall(r"<text.*?>(.*?)</text>", drawn) if re.search(r"\d\d:\d\d:\d\d|\d\d-\d\d ", group)
    ]
    assert 1 <= len(ticks) <= size.ticks + 1


def test_a_limit_far_above_what_was_measured_is_seen_with_it() -> None:
    curve = Series(what="p95", of="monolith", points=[(BEGAN, 0.0), (BEGAN + 1, 20.0)])
    near, far = Limit(what="p95", name="", value=90.0), Limit(what="p95", name="", value=500.0)
    assert not charts.logarithmic([curve], [near])
    assert charts.logarithmic([curve], [far])
    assert not charts.logarithmic([curve.model_copy(update={"points": [(BEGAN, 0.0)]})], [far])
    for limit in (near, far):
        assert "limit-0" in charts.draw("p95", [curve], [limit], [], SPAN, "", "")[0][1]


def test_curves_of_one_picture_differ_in_colour_and_in_dashes() -> None:
    looks = [style(number) for number in range(6)]
    assert len({look.colour for look in looks}) == len({look.dashes for look in looks}) == 6
    assert len({style(number) for number in range(36)}) == 36
    # One side alone in a picture looks as it does beside the other.
    assert style(0, "task-service") == style(1, "task-service") != style(0, "monolith")


def test_every_curve_of_the_story_has_its_points_in_the_drawing() -> None:
    run = story()
    for what in {one.what for one in run.series}:
        curves = [one for one in run.series if one.what == what]
        for _, drawn in charts.draw(what, curves, [], [], Span(run.began, run.ended), "", ""):
            paths = dict(re.findall(r'class="curve curve-(\d+)">\s*<path d="([^"]*)"', drawn))
            for number, curve in enumerate(curves):
                path = paths.pop(str(number))
                corners = [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)]
                known = [(at, value) for at, value in curve.points if value is not None]
                # From its first moment to its last one; what holds until something else is said, to the run's end.
                first, last = (
                    known[0][0],
                    run.ended if curve.of == "asked" or what in ("told", "copied") else known[-1][0],
                )
                scale = (max(x for x, _ in corners) - corners[0][0]) / (last - first)
                # SVG counts downwards: its highest corner is where the value is the greatest.
                (top, _), greatest = min(corners, key=lambda one: one[1]), max(value for _, value in known)
                moments = [corners[0][0] + (at - first) * scale for at, value in known if value >= 0.98 * greatest]
                assert min(abs(top - x) for x in moments) < 3, (curve.what, curve.of)
                assert len({y for _, y in corners}) > 1 or len({value for _, value in known}) == 1
            assert paths == {}
