"""The runbook's two editions say the same: steps, days, commands, figures; and its card is one page."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from itertools import zip_longest
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.conftest import browser
from tests.unit.docs.documented import DOCS, code, commands

EDITIONS = {"en": DOCS / "runbook.md", "ja": DOCS / "runbook.ja.md"}
#: What each field of a step is called, in its order; the last is `Then` where a step is a way back.
FIELDS = {"en": ("See", "Time", "If not", ("Undo", "Then")), "ja": ("確認", "所要時間", "異常時", ("取り消し", "次"))}
#: Units as both editions mean them.
UNITS = {"s": "s", "min": "min", "h": "h", "%": "%", "秒": "s", "分": "min", "時間": "h", "日": "d", "days": "d"}
FIGURE = re.compile(r"(?<![\w.])(\d[\d,.]*\d|\d)\s?(秒|分|時間|日|days|min|s|h|%)?(?![A-Za-z])")
#: The parts beside the steps that both editions have.
PARTS = (
    ("The card", "当夜カード"),
    ("The calendar", "日程"),
    ("The way back", "切り戻し"),
    ("Rehearsed faults", "リハーサル済みの障害"),
)


def steps(text: str) -> dict[str, str]:
    """Each step by its heading's letter, number and days: `K2 (D)`."""
    found = {}
    for heading in re.finditer(r"^### ([A-Z]\d+) [^\n]*?(?:\(([^()]*D[^()]*)\))?\n(.*?)(?=^##|\Z)", text, re.S | re.M):
        days = " ".join(re.findall(r"D(?:[+-]\d+)?", heading[2] or ""))
        found[f"{heading[1]} {days}".strip()] = heading[3]
    return found


def part(text: str, heading: str) -> str:
    """What stands between a heading of the second level and the next heading."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^##|\Z)", text, re.S | re.M)
    assert found, heading
    return found[1]


def figures(text: str) -> Counter[str]:
    """The figures of a text with their units, without code, links and notes in brackets: these are the programs' own words."""
    plain = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.S)
    # English says some small numbers by word, as `two URLs`; a unit makes it a figure.
    return Counter(f"{one[1].rstrip(',.')} {UNITS[one[2]]}" for one in FIGURE.finditer(plain) if one[2])


def unlike(english: str, japanese: str) -> list[str]:
    """What one edition of a step says and the other does not."""
    found = [f"command: {a!r} != {b!r}" for a, b in zip_longest(commands(english), commands(japanese)) if a != b]
    for what, one, other in (
        ("code", Counter(code(english)), Counter(code(japanese))),
        ("figure", figures(english), figures(japanese)),
    ):
        found += [f"{what} of one alone: {left}" for left in [*(one - other), *(other - one)]]
    return found


def fields(step: str) -> list[str]:
    """The names of a step's fields."""
    return re.findall(r"^- \*\*(.+?)\*\*: ", step, re.M)


def pair() -> tuple[str, str]:
    english, japanese = (EDITIONS[name].read_text(encoding="utf-8") for name in ("en", "ja"))
    return english, japanese


def test_both_editions_have_the_same_steps_on_the_same_days() -> None:
    english, japanese = map(steps, pair())
    assert list(english) == list(japanese)
    assert len(english) > 25


@pytest.mark.parametrize("name", list(steps(EDITIONS["en"].read_text(encoding="utf-8"))))
def test_a_step_says_the_same_in_both_editions(name: str) -> None:
    """Prevents a night in Tokyo by another command, or with another time, than the one that was tested."""
    english, japanese = (steps(text)[name] for text in pair())
    assert unlike(english, japanese) == []
    assert commands(english), "a step without a command"


@pytest.mark.parametrize("names", PARTS, ids=lambda names: names[0])
def test_card_calendar_and_faults_say_the_same_in_both_editions(names: tuple[str, str]) -> None:
    english, japanese = (part(text, name) for text, name in zip(pair(), names, strict=True))
    assert unlike(english, japanese) == []
    assert english.count("\n|") == japanese.count("\n|")


@pytest.mark.parametrize("edition", list(EDITIONS))
def test_each_step_says_what_is_seen_how_long_what_if_not_and_how_to_undo_it(edition: str) -> None:
    *firsts, lasts = FIELDS[edition]
    for name, step in steps(EDITIONS[edition].read_text(encoding="utf-8")).items():
        *had, last = fields(step)
        assert (had, last in lasts) == (firsts, True), name


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("task-migration replicate status", "task-migration replicate wait"), "command"),
        (("1.3 秒", "1.5 秒"), "figure"),
        (("`lasts h`", "`lag h`"), "code"),
        (("24 時間", "12 時間"), "figure"),
        (("`errors`", "エラー"), "code"),
    ],
)
def test_an_edition_that_says_something_else_is_found(change: tuple[str, str], told: str) -> None:
    english, japanese = (steps(text)["W1 D-13 D-1"] for text in pair())
    assert change[0] in japanese
    found = unlike(english, japanese.replace(*change))
    assert found[0].startswith(told), found


#: As GitHub prints: A4 with its margins, the text at 9 points.
PRINTED = """<!doctype html><meta charset="utf-8"><style>@page {{ size: A4; margin: 12mm }} body {{ font: 9pt/1.35 'DejaVu Sans', sans-serif }}
h2 {{ margin: 0 0 4pt }} p {{ margin: 4pt 0 }} table {{ border-collapse: collapse; width: 100%; margin: 5pt 0 }}
td, th {{ border: 0.5pt solid #999; padding: 1.5pt 4pt; text-align: left; vertical-align: top }}</style>{body}"""


def printed(card: str, directory: Path) -> int:
    """The pages that a card takes on A4, by Chromium. A character of Japanese is as wide as its height, whatever fonts there are."""
    wide = re.sub(r"[\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]", "\u2014", card)
    page, made = directory / "card.html", directory / "card.pdf"
    page.write_text(PRINTED.format(body=MarkdownIt().enable("table").render(wide)), encoding="utf-8")
    subprocess.run(
        [str(browser()), "--headless", "--no-sandbox", "--no-pdf-header-footer", f"--print-to-pdf={made}", page.as_uri()],
        check=True, capture_output=True, timeout=120, cwd=directory,
    )  # fmt: skip
    return len(re.findall(rb"/Type\s*/Page\b", made.read_bytes()))


@pytest.mark.browser
def test_the_card_is_one_page_in_both_editions(tmp_path: Path) -> None:
    """Prevents a card whose second page, with what must never be done, is left in the printer."""
    cards = [f"## {name}\n{part(text, name)}" for text, name in zip(pair(), PARTS[0], strict=True)]
    assert [printed(card, tmp_path) for card in cards] == [1, 1]
    assert printed(cards[0] + "\n\nmore\n" * 40, tmp_path) == 2
