"""A report's page in a real Chromium, and that each judge of it sees the fault that it is there for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from scripts.report.documents import Story
from scripts.report.page import Facts, render
from tests.conftest import browser
from tests.integration.report import judges
from tests.unit.report.stories import CRITERIA, FACTS, Stale, criterion, hostile, story
from tests.unit.report.test_page import HOSTILE, NOTHING

pytestmark = pytest.mark.browser
STALE = [{"weight": one.weight, "reads": one.reads, "stale": one.stale} for one in FACTS.stale]
#: With every kind of picture and table, and so few points that a browser reads it in a moment.
SMALL = story(series=[one.model_copy(update={"points": one.points[::12]}) for one in story().series])
#: A4 within the page's margins, CSS pixels.
PAPER = 695


def report(run: Story) -> judges.Plain:
    """As report.json has it."""
    return {"criteria": [{"name": one.name, "evidence": one.evidence} for one in CRITERIA], "story": run.plain()}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for all of this file: its event loop ends with it, so that no other test meets it."""
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture(scope="module")
def small() -> str:
    return render("Rehearsal of the whole plan", "1 of 5 criteria failed", False, CRITERIA, SMALL, FACTS)


@pytest.fixture
def file(small: str, tmp_path: Path) -> Path:
    return written(tmp_path, small)


def written(directory: Path, text: str) -> Path:
    path = directory / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_run_is_there_to_the_last_figure(chromium: Browser, tmp_path: Path) -> None:
    text = render("Rehearsal of the whole plan", "1 of 5 criteria failed", False, CRITERIA, story(), FACTS)
    with judges.opened(chromium, written(tmp_path, text)) as (page, heard):
        assert judges.charts(page, story().plain()) == []
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert judges.texts(page) == []
        assert judges.numbers(page, report(story()), STALE) == []
        assert heard.faults == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_is_readable_on_a_screen_and_a_phone_in_light_and_dark(
    chromium: Browser, file: Path, width: int, scheme: str
) -> None:
    with judges.opened(chromium, file, width, scheme) as (page, heard):
        assert judges.texts(page) == []
        assert judges.charts(page, SMALL.plain()) == []
        assert judges.accessible(page) == []
        assert judges.reachable(page) == []
        assert judges.texts(page) == []
        assert judges.numbers(page, report(SMALL), STALE) == []
        assert heard.faults == []


def test_nothing_is_cut_at_any_width(chromium: Browser, file: Path) -> None:
    with judges.opened(chromium, file) as (page, _):
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        for width in (320, 719, 720, 991, 992, 2560):
            page.set_viewport_size({"width": width, "height": 900})
            assert judges.texts(page) == [], width
            assert judges.charts(page, SMALL.plain()) == [], width


def test_without_scripts_and_in_forced_colours_it_shows_the_same(chromium: Browser, file: Path) -> None:
    seen = []
    for scripts in (True, False):
        with judges.opened(chromium, file, java_script_enabled=scripts) as (page, heard):
            seen.append((page.screenshot(), page.locator("body").inner_text()))
            assert heard.faults == []
    assert seen[0] == seen[1]
    with judges.opened(chromium, file, forced_colors="active") as (page, _):
        assert judges.charts(page, SMALL.plain()) == []
        assert judges.drawn(page) == []


def test_it_prints_in_dark_ink_on_a_few_sheets_with_nothing_cut(chromium: Browser, file: Path) -> None:
    with judges.opened(chromium, file, PAPER, "dark") as (page, heard):
        page.emulate_media(media="print")
        assert judges.texts(page) == []
        assert judges.charts(page, SMALL.plain()) == []
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 33, 38)"
        sheets = len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True, format="A4")))
        assert 3 <= sheets <= 9
        assert heard.faults == []


@pytest.mark.parametrize("width", [1280, 390])
def test_whatever_a_name_holds_nothing_is_run_cut_or_covered(chromium: Browser, tmp_path: Path, width: int) -> None:
    words = HOSTILE.replace("\ud800", "")
    run = Story(**hostile(SMALL.model_dump(by_alias=True), words))
    facts = Facts(source=words, summary={words: words}, stale=[Stale(words, 5, True, 1, 0)])
    text = render(words, words, None, [criterion(words, True, words)], run, facts)
    with judges.opened(chromium, written(tmp_path, text), width) as (page, heard):
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert judges.texts(page) == []
        assert heard.faults == []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_run_in_which_nothing_happened_is_readable_too(chromium: Browser, tmp_path: Path, width: int) -> None:
    text = render("Preflight alone", "nothing was judged", None, (), NOTHING, Facts(source="the journal"))
    with judges.opened(chromium, written(tmp_path, text), width) as (page, heard):
        assert judges.texts(page) == []
        assert judges.charts(page, NOTHING.plain()) == []
        assert heard.faults == []


def replaced(old: str, new: str, count: int = -1) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, count)

    return change


def styled(rule: str) -> Callable[[str], str]:
    return replaced("</style>", f"{rule}</style>", 1)


def without_a_picture(text: str) -> str:
    return re.sub(r'<svg [^>]*aria-labelledby="copied-wide-title.*?</svg>', "", text, flags=re.S)


def with_an_empty_curve(text: str) -> str:
    start = text.index("curve curve-1", text.index('id="lag-wide-title"'))
    return text[:start] + re.sub(r' d="[^"]*"', ' d="M0 0"', text[start:], count=1)


OPEN = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"


@pytest.mark.parametrize(
    ("judge", "faults"),
    [
        (judges.texts, {
            "cut: 7 of 10,557": styled(".evidence { white-space: nowrap; overflow: hidden; max-width: 6rem }"),
            "one over the other: asked for": styled(".legend { height: 2px }"),
            "one over the other: 20:15:30": styled(".drawing text { font-size: 40px !important }"),
            "beyond the page: Made from": styled("footer { transform: translateX(-20rem) }"),
            "beyond the page: equal": styled("#rows { width: 1600px }"),
            "scrolls sideways: ": styled("#rows { width: 1600px }"),
        }),
        (judges.accessible, {
            "color-contrast: ": replaced("--muted: #58606a", "--muted: #8a929b"),
            ".drawing .curve path ": replaced("--c2: #c04f08", "--c2: #f0b890"),
            "html-has-lang: ": replaced('<html lang="en">', "<html>"),
        }),
        (lambda page: judges.charts(page, SMALL.plain()), {
            "copied: 0 pictures of 6 curves": without_a_picture,
            "lag: curves 1, not 2": with_an_empty_curve,
            "p95: 90 x ": styled("#picture-p95 svg.wide { width: 90px }"),
        }),
        (lambda page: judges.numbers(page, report(SMALL), STALE), {
            "rows 0: '1,048,577'": replaced(">1,048,576<", ">1,048,577<"),
            "picture-weight 0: '1'": replaced('<td class="number">0</td>', '<td class="number">1</td>', 1),
            "rollbacks 0: '4.8'": replaced(">4.815<", ">4.8<", 1),
            "conflicts: 0 rows, not 1": lambda text: re.sub(r"<tr[^>]*><td[^>]*><div><bdi>tasks</bdi></div></td><td[^>]*><div><bdi>two.*?</tr>", "", text, flags=re.S),
            "not said: 7 of": replaced("<bdi>7 of 10,557 requests failed", "<bdi>0 of 10,557 requests failed"),
        }),
        (judges.reachable, {
            "7 of 8 opened": replaced("<summary>", '<summary tabindex="-1">', 1),
            "the focus is not seen": styled(":focus-visible { outline: none !important }"),
        }),
    ],
    ids=["texts", "accessible", "charts", "numbers", "reachable"],
)  # fmt: skip
def test_each_judge_sees_its_faults(
    chromium: Browser, small: str, tmp_path: Path, judge: judges.Judge, faults: dict[str, Callable[[str], str]]
) -> None:
    for change in faults.values():
        small = change(small)
    with judges.opened(chromium, written(tmp_path, small)) as (page, _):
        found = judge(page)
        assert [says for says in faults if not any(one.startswith(says) for one in found)] == [], found


def test_what_a_page_asks_for_or_runs_is_heard(chromium: Browser, small: str, tmp_path: Path) -> None:
    foreign = '<img src="http://127.0.0.1:9/a.png" alt=""><script>alert(1)</script>'
    changed = replaced("</body>", f"{foreign}</body>")(small)
    with judges.opened(chromium, written(tmp_path, replaced(OPEN, "")(changed))) as (_, heard):
        assert "request: http://127.0.0.1:9/a.png" in heard.faults
    # Its own policy forbids what somebody might put into it later.
    with judges.opened(chromium, written(tmp_path, changed)) as (_, heard):
        assert len([one for one in heard.faults if one.startswith("console: ")]) >= 2
