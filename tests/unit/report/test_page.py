"""The page as text: what it says of a run, what it says where there is nothing, and that nothing in it is anybody else's."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from typing import Any

import matplotlib
import pytest

from scripts.report.documents import Story
from scripts.report.page import PICTURES, Facts, render
from scripts.report.svg import SENTINELS
from tests.unit.report.stories import CRITERIA, ENDED, FACTS, Stale, criterion, hostile, story

EMPTY: dict[str, Any] = dict.fromkeys(
    ("series", "limits", "marks", "tables", "conflicts", "decisions", "rollbacks", "shadow", "parts"), ()
)
NOTHING = Story(**{**story().model_dump(), **{name: [] for name in EMPTY}})
HOSTILE = (
    "<script>alert(1)</script> \"'`><img src=x onerror=alert(1)> </title></style></svg><b> {{ 7*7 }}{% raw %} "
    "‮gnirts‬ \x00\x1b[31m \ud800 שלום مرحبا 課題 📋 $x^2$ %s &amp; " + "w" * 10_000
)


class Parsed(HTMLParser):
    """Elements and text of a page, as a browser without scripts would read them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@cache
def usual() -> str:
    return page(story=story())


def page(**changes: Any) -> str:
    if not changes:
        return usual()
    given: dict[str, Any] = {
        "title": "Rehearsal",
        "verdict": "1 of 5 criteria failed",
        "passed": False,
        "criteria": CRITERIA,
        "story": story(),
        "facts": FACTS,
    }
    return render(**{**given, **changes})


def test_the_same_run_gives_the_same_page_whatever_matplotlib_was_told_before() -> None:
    made = usual()
    with matplotlib.rc_context({"font.size": 40, "svg.fonttype": "path", "axes.grid": True, "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        assert page(story=story()) == made
        assert dict(matplotlib.rcParams) == before


def test_the_page_needs_nothing_and_runs_nothing() -> None:
    found = Parsed(page())
    assert not {tag for tag, _ in found.elements} & {"script", "iframe", "object", "embed", "img", "form", "base"}
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    addresses = [*found.values("href"), *found.values("src"), *re.findall(r"url\(([^)]*)\)", page())]
    assert addresses
    assert [one for one in addresses if not one.startswith(("#", "data:,"))] == []
    assert "@import" not in page()
    policy = next(attributes for tag, attributes in found.elements if attributes.get("http-equiv"))
    assert str(policy["content"]).startswith("default-src 'none'")


@pytest.mark.parametrize("run", [story(), NOTHING], ids=["full", "empty"])
def test_ids_are_one_elements_alone_and_what_points_to_one_finds_it(run: Story) -> None:
    made = usual() if run.series else page(story=run)
    found = Parsed(made)
    ids = Counter(found.values("id"))
    assert [name for name, times in ids.items() if times > 1] == []
    pointed = [one[1:] for one in found.values("href") if one.startswith("#")]
    pointed += [name for one in found.values("aria-labelledby") for name in one.split()]
    pointed += re.findall(r"url\(#([^)]*)\)", made)
    assert pointed
    assert set(pointed) - set(ids) == set()


def test_every_picture_is_there_twice_with_its_curves_marks_and_limits() -> None:
    found = Parsed(page())
    run = story()
    drawings = [attributes for tag, attributes in found.elements if tag == "svg" and attributes.get("role") == "img"]
    assert len(drawings) == 2 * len(PICTURES)
    classes = Counter(name for one in found.values("class") for name in one.split())
    assert classes["curve"] == 2 * len(run.series)
    lines = re.findall(r'<g class="marks [^>]*>(.*?)</g>', usual(), re.S)
    assert sum(one.count("<path") for one in lines) == 2 * len(PICTURES) * len(run.marks)
    # Of errors the gate judges a share, and the picture shows numbers.
    assert classes["limit"] == 2 * sum(one.what != "errors" for one in run.limits)


def test_no_colour_is_fixed_in_a_drawing() -> None:
    made = page()
    assert [name for name, colour in SENTINELS.items() if colour in made] == []
    drawings = "".join(re.findall(r'<svg role="img".*?</svg>|<svg [^>]*role="img".*?</svg>', made, re.S))
    assert "var(--c1)" in drawings
    assert re.findall(r"(?:fill|stroke): (?!none|var)[^;\"]*", drawings) == []


def test_a_run_without_anything_says_so_in_words_and_shows_no_empty_picture() -> None:
    made = page(story=NOTHING, criteria=(), facts=Facts(source="the journal"))
    text = Parsed(made).text
    for picture in PICTURES:
        assert picture.empty in text
    for words in (
        "No criteria were judged", "Nothing was copied in this run, and no table was compared", "Nothing was decided",
        "Nothing was rolled back", "No two writes met", "Nobody looked for stale reads", "No shadow reads were made",
        "No events were recorded", "does not say what stood in for what",
    ):  # fmt: skip
        assert words in text, words
    assert 'role="img"' not in made
    assert "<table" not in made


def test_a_curve_of_unknown_values_alone_is_no_picture() -> None:
    run = story()
    lag = [
        one.model_copy(update={"points": [(at, None) for at, _ in one.points]})
        for one in run.series
        if one.what == "lag"
    ]
    made = Parsed(page(story=story(series=lag))).text
    assert "No lag was measured in this run" in made


@pytest.mark.parametrize(("passed", "words"), [(True, "Passed"), (False, "Failed"), (None, "No verdict")])
def test_the_verdict_comes_first_and_what_failed_before_what_passed(passed: bool | None, words: str) -> None:
    text = Parsed(page(passed=passed, verdict="as it was", story=NOTHING)).text
    assert (
        text.index(words)
        < text.index("as it was")
        < text.index("failed: zero downtime")
        < text.index("passed: row counts")
    )


def test_what_a_busy_machine_failed_is_neither_passed_nor_failed() -> None:
    """Prevents a red cross beside a criterion of which nobody knows."""
    text = Parsed(
        page(criteria=[criterion("fast", False, "P95 900 ms", judged=False), criterion("whole", False, "1 lost")])
    ).text
    assert re.search(r"failed:\s*whole.*not judged:\s*fast", text, re.S)


def test_a_verdict_that_says_its_outcome_says_it_once() -> None:
    def shown(verdict: str) -> str:
        return Parsed(page(passed=None, verdict=verdict, story=NOTHING)).text

    assert "– Not judged the machine was busy" in shown("Not judged: the machine was busy")
    assert "– No verdict a sentence that is long before its colon: and on" in shown(
        "a sentence that is long before its colon: and on"
    )


def test_whatever_a_name_holds_is_shown_as_text() -> None:
    words, benign = HOSTILE, Parsed(page())
    # JSON holds no half of a surrogate pair; a verdict that was made here might.
    whole = words.replace("\ud800", "")
    run = Story(**hostile(story().model_dump(by_alias=True), whole))
    made = page(
        title=words,
        verdict=words,
        criteria=[criterion(words, True, words)],
        story=run,
        facts=Facts(source=words, summary={words: words}, stale=[Stale(words, 5, True, 1, 0)]),
    )
    made.encode()
    found = Parsed(made)
    assert {tag for tag, _ in found.elements} <= {tag for tag, _ in benign.elements}
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    shown = " ".join(whole.replace("\x00", "�").replace("\x1b", "�").split())
    assert found.text.count(shown) > 40
    assert "[31m � " in found.text
    # Nothing of a name is in a drawing, where it could not wrap.
    assert shown not in "".join(re.findall(r"<text.*?</text>", made, re.S))


def test_every_moment_is_told_since_the_begin_and_by_the_clock() -> None:
    text = Parsed(page()).text
    assert "2026-11-26 20:15:30 to 2026-11-26 20:19:30 UTC" in text
    assert "2:06.2 20:17:36 UTC rollback from 50 % in 4.815 s" in text


def test_a_long_run_shows_some_of_its_moments_and_says_how_many_there_are() -> None:
    run = story()
    lag = next(one for one in run.series if one.what == "lag").model_copy(
        update={"points": [(run.began + second / 10, second / 100) for second in range(2_400)]}
    )
    text = Parsed(page(story=story(series=[lag]))).text
    assert "One of every 4 of 2,400 moments; report.json has them all." in text
    assert "600 moments" in text


def test_marks_beyond_the_run_and_a_run_without_length_are_drawn() -> None:
    run = story(ended=ENDED - 200)
    assert 'role="img"' in page(story=run)
    assert 'role="img"' in page(story=story(ended=run.began))
