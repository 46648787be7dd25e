"""A run's page: one HTML document that needs nothing else, for people who want to see what happened and whether it was good."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from scripts.report import charts, tables
from scripts.report.documents import Criterion, Limit, Series, Story
from scripts.report.labels import GRAVE
from scripts.report.shown import clean, clock, elapsed, figure
from scripts.report.tables import StaleReads, named

#: Most moments that a picture's table of figures shows.
MOMENTS = 600
#: Most letters of a verdict that stand above its sentence.
WORDS = 24


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a page says beside the story. ``summary``: a few figures by name, for the head of the page; ``source``: what it was made from."""

    source: str
    summary: Mapping[str, str] = field(default_factory=dict)
    stale: Sequence[StaleReads] = ()


@dataclass(frozen=True)
class Picture:
    """One picture of the time axis: the curves named `what`, or the words that stand in their place."""

    what: Literal["weight", "requests", "errors", "p50", "p95", "lag", "copied", "told"]
    title: str
    unit: str
    lead: str
    empty: str


PICTURES = (
    Picture("weight", "Weight", "% of requests", "What was asked for, and the share of the requests that the Task Service was seen to get.", "The weight was not recorded in this run."),
    Picture("requests", "Requests", "per second", "What each side answered, and all users together asked.", "No requests were counted in this run."),
    Picture("errors", "Errors", "per second", "Answers 5xx of each side, and requests without an answer.", "No errors were counted in this run: nobody counted requests."),
    Picture("p50", "P50", "ms", "Half of the requests were answered within this time.", "No latencies were measured in this run."),
    Picture("p95", "P95", "ms", "95 of 100 requests were answered within this time.", "No latencies were measured in this run."),
    Picture("lag", "Replication lag", "seconds", "How long a write takes to the other side's database, both ways.", "No lag was measured in this run: replication did not run, or nobody looked."),
    Picture("copied", "Copy", "rows", "Rows of each table that had been copied.", "Nothing was copied in this run."),
    Picture("told", "Writes told as lost", "in all", "Of two writes that did not know of each other and could not both stay: the one that was told in the conflict log.", "The conflict log was not read in this run."),
)  # fmt: skip
#: What a mark is, in a word.
KINDS = {
    "copied": "copy done", "replicating": "replication", "step": "step", "promoted": "promoted", "hold": "hold",
    "breach": "breach", "rollback": "rollback", "fault": "fault", "finalized": "finalized", "other": "",
}  # fmt: skip


def render(
    title: str, verdict: str, passed: bool | None, criteria: Sequence[Criterion], story: Story, facts: Facts
) -> str:
    """The page, whole: the same input gives the same text.

    Args:
        title: what was run.
        verdict: one sentence, maybe with the outcome before a colon; ``passed``: None where nothing could be judged.
        criteria: shown with those that failed first.
        story: the run; what it does not have is said in words.
        facts: what else there is to show.
    """
    outcome, sentence = _verdict(verdict, passed)
    marks = sorted(story.marks, key=lambda mark: mark.at)
    story = story.model_copy(update={"marks": marks})
    return _template().render(
        title=title,
        outcome=outcome,
        verdict=sentence,
        tone={True: "good", False: "bad", None: "unknown"}[passed],
        criteria=sorted(criteria, key=lambda one: (one.passed, not one.judged)),
        story=story,
        facts=facts,
        marks=[
            {"grave": mark.kind in GRAVE, "kind": KINDS[mark.kind],
             # As the word stands before it.
             "text": mark.text.removeprefix(f"{KINDS[mark.kind]} "),
             "since": elapsed(mark.at - story.began), "clock": clock(mark.at)}
            for mark in marks
        ],
        pictures=[_picture(one, story) for one in PICTURES],
        tables=tables.of_story(story, facts.stale),
        began=clock(story.began, "%Y-%m-%d %H:%M:%S"),
        ended=clock(story.ended, "%Y-%m-%d %H:%M:%S"),
        length=elapsed(story.ended - story.began),
    )  # fmt: skip


def _verdict(verdict: str, passed: bool | None) -> tuple[str, str]:
    """In a word or two, and the sentence; what begins with such words (`Not judged: ...`) says them itself."""
    words, _, rest = verdict.partition(": ")
    if rest and len(words) <= WORDS:
        return words, rest
    return {True: "Passed", False: "Failed", None: "No verdict"}[passed], verdict


def _picture(picture: Picture, story: Story) -> dict[str, Any]:
    curves = [
        one for one in story.series if one.what == picture.what and any(value is not None for _, value in one.points)
    ]
    if not curves:
        return {"picture": picture}
    limits = [one for one in story.limits if one.what == picture.what]
    # The gate's rate of errors is a share, and no number a second.
    drawn = [] if picture.what == "errors" else limits
    legend = [_legend(number, one, picture) for number, one in enumerate(curves)]
    return {
        "picture": picture,
        "drawings": charts.draw(
            picture.what, curves, drawn, story.marks, charts.Span(story.began, story.ended),
            f"{picture.title}, {picture.unit}",
            f"{picture.lead} " + "; ".join(f"{one['name']}: {one['range']}" for one in legend),
        ),
        "legend": legend,
        "limits": [_limit(one, picture, one in drawn) for one in limits],
        "logarithmic": charts.logarithmic(curves, drawn),
        "figures": tables.of_curves(story, curves, MOMENTS),
    }  # fmt: skip


def _legend(number: int, curve: Series, picture: Picture) -> dict[str, Any]:
    values = [value for _, value in curve.points if value is not None]
    least, most = figure(min(values)), figure(max(values))
    found = f"{least}" if least == most else f"{least} to {most}"
    return {"name": named(curve.of), "range": f"{found} {picture.unit}", "style": charts.style(number, curve.of)}


def _limit(limit: Limit, picture: Picture, drawn: bool) -> dict[str, Any]:
    return {"name": limit.name, "value": figure(limit.value), "unit": picture.unit if drawn else "", "drawn": drawn}


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("scripts.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals.update(swatch=_swatch, soft=_soft)
    return environment.get_template("page.html")


def _shown(value: object) -> object:
    if isinstance(value, Markup):
        return value
    return clean(value)


def _soft(name: str) -> Markup:
    """A name that may break where its parts meet, so that a column's head is no wider than it must be."""
    return Markup("<wbr>").join(re.findall(r"[^_/:.-]{1,16}[_/:.-]*|[_/:.-]{1,16}", str(clean(name))))


def _swatch(colour: str, dashes: Sequence[float]) -> Markup:
    """A piece of a curve for its legend."""
    return Markup(
        '<svg class="swatch" viewBox="0 0 36 8" aria-hidden="true"><path d="M0 4H36" fill="none" stroke-width="2.4"'
        ' stroke="var(--{})" stroke-dasharray="{}"/></svg>'
    ).format(colour, " ".join(f"{1.7 * one:g}" for one in dashes))
