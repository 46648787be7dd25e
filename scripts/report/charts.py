"""A run's curves as static SVG for a page: drawn by matplotlib, coloured by the page's own custom properties, without a name of
anything in them, as what stands beside a picture can wrap and a text inside it cannot."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from scripts.report.documents import Limit, Mark, Series
from scripts.report.labels import GRAVE, labels
from scripts.report.shown import DAY, clock, elapsed, short
from scripts.report.svg import SENTINELS, embedded

#: Two sides and up to six tables are told apart by their dashes, too.
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 2), (9, 2, 2, 2), (12, 3), (4, 2, 1, 2, 1, 2))
#: Whose curve is the sum of the others: thin, behind them.
EVERYBODY = "users"
#: Who has the same looks in every picture, whoever else is in it.
FIXED = {"monolith": 0, "task-service": 1, "asked": 0, "measured": 1, "forward": 0, "reverse": 1}
#: Seconds between two ticks of the time axis.
STEPS = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
)
#: A limit that is so many times what was measured takes a logarithmic axis, as else the curve lies flat on the ground.
FAR = 5.0
#: Times its usual distance that a point may be from the last one; further apart nothing was measured in between.
GAP = 5.0


@dataclass(frozen=True)
class Size:
    """A drawing's size in CSS pixels, and how many ticks and letters find room in it."""

    name: str
    width: int
    plot: int
    font: float
    ticks: int
    left: int
    right: int
    #: Of numbers above the plot.
    lanes: int
    top: int
    bottom: int = 36


SIZES = (Size("wide", 920, 150, 12.0, 8, 50, 36, 1, 24), Size("narrow", 358, 140, 11.5, 3, 44, 30, 2, 38))


@dataclass(frozen=True)
class Style:
    """How one curve looks, in the picture and in its legend."""

    colour: str
    dashes: tuple[float, ...]


@dataclass(frozen=True)
class Span:
    """The one time axis of all pictures of a run, seconds since the epoch."""

    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return max(self.ended - self.began, 1.0)


def style(number: int, of: str = "") -> Style:
    """Of the curve with this number in its picture, from 0; the first two differ in colour, lightness and dash."""
    if of == EVERYBODY:
        return Style("muted", ())
    number = FIXED.get(of, number)
    return Style(f"c{number % 6 + 1}", DASHES[(number + number // 6) % len(DASHES)])


def draw(
    what: str,
    curves: Sequence[Series],
    limits: Sequence[Limit],
    marks: Sequence[Mark],
    span: Span,
    title: str,
    text: str,
) -> list[tuple[str, Markup]]:
    """One picture in each of :data:`SIZES`, by name.

    Args:
        what: names the picture; its ids begin with it.
        curves: what to draw; points without a value leave gaps.
        limits: horizontal lines, in the curves' unit.
        marks: vertical lines, numbered from 1 as they stand; `at` in seconds since the epoch.
        span: the time axis.
        title: the picture's name for who does not see it, and ``text`` what it shows.
    """
    return [
        (size.name, embedded(_drawn(size, what, curves, limits, marks, span), f"{what}-{size.name}", title, text))
        for size in SIZES
    ]


def logarithmic(curves: Sequence[Series], limits: Sequence[Limit]) -> bool:
    """Whether the picture's axis has to be, as a limit lies far above all that was measured."""
    top = max((value for curve in curves for _, value in curve.points if value is not None), default=0.0)
    return top > 0 and any(limit.value > FAR * top for limit in limits)


def _drawn(
    size: Size, what: str, curves: Sequence[Series], limits: Sequence[Limit], marks: Sequence[Mark], span: Span
) -> str:
    height = size.top + size.plot + size.bottom
    # What matplotlib has for a process alone; a file of the user's with settings of his own changes nothing.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": what, "font.size": size.font})
        figure = Figure(figsize=(size.width / 72, height / 72), dpi=72, frameon=False)
        axes = figure.add_axes((
            size.left / size.width, size.bottom / height,
            (size.width - size.left - size.right) / size.width, size.plot / height,
        ))  # fmt: skip
        axes.patch.set_visible(False)
        _time_axis(axes, size, span)
        _value_axis(axes, what, curves, limits)
        for number, curve in enumerate(curves):
            _curve(axes, number, curve, span)
        for number, limit in enumerate(limits):
            axes.axhline(
                limit.value,
                color=SENTINELS["limit"],
                linewidth=1.2,
                linestyle=(0, (1, 2 + number)),
                gid=f"limit-{number}",
            )
        _numbered(axes, size, marks, span)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return out.getvalue()


def _time_axis(axes: Axes, size: Size, span: Span) -> None:
    axes.set_xlim(0, span.seconds)
    days = span.seconds > DAY
    most = size.ticks - 1 if days and size.ticks > 3 else size.ticks
    step = next(
        (step for step in STEPS if span.seconds / step <= most), 7 * DAY * math.ceil(span.seconds / 7 / DAY / most)
    )
    form = "%m-%d %H:%M" if days else "%H:%M:%S"

    def label(seconds: float, _: object) -> str:
        since = f"{seconds / DAY:.3g} d" if days else elapsed(seconds, tenths=False)
        return f"{since}\n{clock(span.began + seconds, form)}"

    axes.xaxis.set_major_locator(FixedLocator([number * step for number in range(int(span.seconds // step) + 1)]))
    axes.xaxis.set_major_formatter(FuncFormatter(label))
    axes.tick_params(axis="both", color=SENTINELS["hair"], labelcolor=SENTINELS["muted"], length=3, pad=4)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(SENTINELS["muted"])


def _value_axis(axes: Axes, what: str, curves: Sequence[Series], limits: Sequence[Limit]) -> None:
    values = [value for curve in curves for _, value in curve.points if value is not None]
    top = max([*values, *(limit.value for limit in limits)], default=0.0) or 1.0
    if logarithmic(curves, limits):
        low = 10.0 ** math.floor(math.log10(min(value for value in values if value > 0)))
        axes.set_yscale("symlog", linthresh=low, linscale=0.5)
        ticks = [0.0]
        while ticks[-1] < top:
            ticks.append(ticks[-1] * 10 if ticks[-1] else low)
        axes.set_ylim(0, top * 1.6)
        axes.yaxis.set_major_locator(
            FixedLocator([tick for tick in ticks if tick <= top * 1.6][:: 1 + len(ticks) // 7])
        )
        axes.yaxis.set_minor_locator(FixedLocator([]))
    else:
        axes.set_ylim(0, 105 if what == "weight" else top * 1.08)
        axes.yaxis.set_major_locator(
            FixedLocator([0, 25, 50, 75, 100])
            if what == "weight"
            else MaxNLocator(4, integer=what in ("told", "copied"), steps=[1, 2, 2.5, 5, 10])
        )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.grid(axis="y", color=SENTINELS["hair"], linewidth=0.8)
    axes.set_axisbelow(True)


def held(curve: Series) -> bool:
    """Whether the curve keeps its value until the next point, as a weight does and a sum."""
    return (curve.what, curve.of) == ("weight", "asked") or curve.what in ("told", "copied")


def _curve(axes: Axes, number: int, curve: Series, span: Span) -> None:
    points = _parted(curve, span)
    look, behind = style(number, curve.of), curve.of == EVERYBODY
    alone = [
        index
        for index, (_, value) in enumerate(points)
        if not math.isnan(value)
        and all(math.isnan(points[near][1]) for near in (index - 1, index + 1) if 0 <= near < len(points))
    ]
    (line,) = axes.plot(
        [at for at, _ in points],
        [value for _, value in points],
        color=SENTINELS[look.colour],
        linewidth=0.8 if behind else 1.7,
        zorder=1.8 if behind else 2,
        drawstyle="steps-post" if held(curve) else "default",
        solid_joinstyle="round",
        marker="o",
        markersize=3.5,
        markeredgewidth=0,
        markevery=alone,
        gid=f"curve-{number}",
        clip_on=True,
    )
    if look.dashes:
        line.set_dashes(look.dashes)


def _parted(curve: Series, span: Span) -> list[tuple[float, float]]:
    """The points as (seconds since the begin, value): NaN where nothing is known, and between points that lie far apart."""
    known = sorted(curve.points, key=lambda point: point[0])
    made: list[tuple[float, float]] = []
    if held(curve):
        made = [(at - span.began, math.nan if value is None else value) for at, value in known]
        return [*made, (span.seconds, made[-1][1])] if made else made
    apart = [later[0] - one[0] for one, later in itertools.pairwise(known)]
    far = GAP * median(apart) if apart else math.inf
    before: float | None = None
    for at, value in known:
        if before is not None and at - before > far > 0:
            made.append(((before + at) / 2 - span.began, math.nan))
        made.append((at - span.began, math.nan if value is None else value))
        before = at
    return made


def _numbered(axes: Axes, size: Size, marks: Sequence[Mark], span: Span) -> None:
    """A line per mark, and above the plot its number."""
    at = [min(max(mark.at - span.began, 0.0), span.seconds) for mark in marks]
    for grave, colour, width, dashes in ((False, "muted", 0.8, (0, (1, 2))), (True, "bad", 1.3, "-")):
        axes.vlines(
            [one for one, mark in zip(at, marks, strict=True) if (mark.kind in GRAVE) == grave], 0, 1,
            transform=axes.get_xaxis_transform(), colors=SENTINELS[colour], linewidth=width, linestyle=dashes,
            zorder=1.5, gid=f"marks-{grave:d}",
        )  # fmt: skip
    scale = (size.width - size.left - size.right) / span.seconds
    for label in labels(marks, [one * scale for one in at], size.lanes, size.font):
        axes.text(
            label.at / scale, 1 + label.lane * 1.3 * size.font / size.plot, label.text,
            transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=size.font,
            color=SENTINELS["bad" if label.grave else "ink"], fontweight="bold" if label.grave else "normal",
        )  # fmt: skip
