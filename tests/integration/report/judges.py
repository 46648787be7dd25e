"""What is looked at in a report's page, in a real browser: each judge answers with what is wrong, an empty list if nothing is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

Plain = Mapping[str, Any]

#: Every piece of text that is seen, as boxes of its lines: cut off, beyond the window or its picture, or over another one.
TEXTS = """() => {
  const boxes = [], faults = [], wide = document.documentElement.clientWidth, high = document.documentElement.scrollHeight;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest('title, desc, style, script') || [parent.closest('.unseen, thead')].some(one => one && getComputedStyle(one).clipPath === 'inset(50%)') || !parent.checkVisibility({visibilityProperty: true})) continue;
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      if (box.width < 1 || box.height < 1) { faults.push(`no room: ${node.data.trim().slice(0, 60)}`); continue; }
      const top = box.top + scrollY, bottom = box.bottom + scrollY, name = node.data.trim().slice(0, 60);
      if (box.left < -0.5 || box.right > wide + 0.5 || top < -0.5 || bottom > high + 0.5) faults.push(`beyond the page: ${name}`);
      for (let up = parent; up && up !== document.body; up = up.parentElement) {
        const style = getComputedStyle(up), outer = up.getBoundingClientRect();
        if ((style.overflowX !== 'visible' || style.clipPath !== 'none') && up.localName !== 'g' && up.localName !== 'svg' &&
            (box.left < outer.left - 1 || box.right > outer.right + 1 || box.top < outer.top - 1 || box.bottom > outer.bottom + 1)) faults.push(`cut: ${name}`);
        if (up.localName === 'svg' && (box.left < outer.left - 0.5 || box.right > outer.right + 0.5 || box.top < outer.top - 0.5 || box.bottom > outer.bottom + 0.5)) faults.push(`beyond its picture: ${name}`);
      }
      boxes.push({left: box.left, right: box.right, top, bottom, name});
    }
  }
  boxes.sort((one, other) => one.top - other.top);
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length && boxes[j].top < boxes[i].bottom; j++) {
    const one = boxes[i], other = boxes[j];
    const across = Math.min(one.right, other.right) - Math.max(one.left, other.left), down = Math.min(one.bottom, other.bottom) - other.top;
    if (across > 1 && down > 0.3 * Math.min(one.bottom - one.top, other.bottom - other.top)) faults.push(`one over the other: ${one.name} | ${other.name}`);
  }
  if (document.documentElement.scrollWidth > wide) faults.push(`scrolls sideways: ${document.documentElement.scrollWidth} of ${wide} px`);
  if (boxes.length < 40) faults.push(`${boxes.length} pieces of text`);
  return [...new Set(faults)];
}"""

#: The contrast of what is drawn, and of signs of one letter (axe looks at neither): 4.5 of text, 3 of curves and limits (WCAG 2.2, 1.4.3 and 1.4.11).
DRAWN = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
  const light = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(one => one / 255).map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.documentElement).backgroundColor), faults = [];
  const judge = (selector, property, least) => {
    const found = [...document.querySelectorAll(selector)].filter(one => one.checkVisibility());
    if (!found.length) faults.push(`nothing is ${selector}`);
    for (const one of found) {
      const colour = getComputedStyle(one)[property], other = light(colour);
      const ratio = (Math.max(paper, other) + 0.05) / (Math.min(paper, other) + 0.05);
      if (!(ratio >= least)) faults.push(`${selector} ${colour}: ${ratio.toFixed(2)} of ${least}`);
    }
  };
  judge('.drawing text', 'fill', 4.5);
  judge('.drawing .curve path', 'stroke', 3);
  judge('.drawing .limit path', 'stroke', 3);
  judge('.swatch path', 'stroke', 3);
  judge('.sign', 'color', 4.5);
  return [...new Set(faults)];
}"""

CHARTS = """() => Object.fromEntries([...document.querySelectorAll('.picture')].map(one => [one.id.replace('picture-', ''),
  [...one.querySelectorAll('svg.drawing')].filter(svg => svg.checkVisibility()).map(svg => ({
    width: svg.getBoundingClientRect().width, height: svg.getBoundingClientRect().height,
    named: svg.getAttribute('role') === 'img' && !!svg.querySelector('title').textContent && !!svg.querySelector('desc').textContent,
    curves: [...svg.querySelectorAll('.curve path')].filter(path => path.getTotalLength() > 5).length,
    limits: svg.querySelectorAll('.limit path').length, marks: svg.querySelectorAll('.marks path').length}))]))"""

TABLES = """() => Object.fromEntries([...document.querySelectorAll('section[id], figure.picture')].map(one => [one.id,
  [...one.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => [...cell.querySelectorAll('bdi')].map(line => line.textContent).join('\\n') || cell.textContent))]))"""


@dataclass
class Heard:
    """What a page said or asked for while it was open."""

    faults: list[str] = field(default_factory=list)


@contextmanager
def opened(
    browser: Browser, file: Path, width: int = 1280, scheme: str = "light", **context: Any
) -> Iterator[tuple[Page, Heard]]:
    """The page in a window of its own; ``context``: further options of the browser's."""
    window = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **context)  # type: ignore[arg-type]
    try:
        page, heard = window.new_page(), Heard()
        page.on("console", lambda message: heard.faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.faults.append(f"error: {error}"))
        page.on(
            "request",
            lambda asked: None if asked.url == file.as_uri() else heard.faults.append(f"request: {asked.url}"),
        )
        page.goto(file.as_uri(), wait_until="load")
        yield page, heard
    finally:
        window.close()


def texts(page: Page) -> list[str]:
    """Text that is cut, beyond the page or its picture, or under another; and a page that scrolls sideways."""
    return list(page.evaluate(TEXTS))


def accessible(page: Page) -> list[str]:
    """axe's violations of WCAG A and AA and of its best practice; and what is drawn without enough contrast."""
    answer = Axe().run(page, options={"resultTypes": ["violations", "incomplete"]}).response
    found = [f"{rule['id']}: {node['html'][:100]}" for rule in answer["violations"] for node in rule["nodes"]]
    # What axe cannot see the ground of; of drawings that is looked at here.
    found += [
        f"not to be judged: {node['html'][:100]}"
        for rule in answer["incomplete"]
        if rule["id"] == "color-contrast"
        for node in rule["nodes"]
        if not node["html"].startswith(("<text", '<span class="sign'))
    ]
    if not any(rule["id"] == "color-contrast" for rule in answer["passes"]):
        found.append("axe did not look at contrast")
    return found + drawn(page)


def drawn(page: Page) -> list[str]:
    """What is drawn without enough contrast."""
    return list(page.evaluate(DRAWN))


def charts(page: Page, story: Plain) -> list[str]:
    """Pictures that are missing, without their curves, limits or marks, or too small to read."""
    shown, faults = page.evaluate(CHARTS), []
    for what in ("weight", "requests", "errors", "p50", "p95", "lag", "copied", "told"):
        curves = [
            one
            for one in story["series"]
            if one["what"] == what and any(value is not None for _, value in one["points"])
        ]
        drawn = shown.get(what, [])
        if len(drawn) != bool(curves):
            faults.append(f"{what}: {len(drawn)} pictures of {len(curves)} curves")
        for one in drawn:
            limits = 0 if what == "errors" else sum(limit["what"] == what for limit in story["limits"])
            wanted = {"curves": len(curves), "limits": limits, "marks": len(story["marks"]), "named": True}
            faults += [
                f"{what}: {name} {one[name]}, not {value}" for name, value in wanted.items() if one[name] != value
            ]
            if one["width"] < 280 or one["height"] < 150:
                faults.append(f"{what}: {one['width']:.0f} x {one['height']:.0f} px")
    return faults


def reachable(page: Page) -> list[str]:
    """Figures that a keyboard does not reach, or does not open."""
    details = page.locator("details").count()
    faults, opened_by_key = [], 0
    for _ in range(details + 40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.localName") == "summary":
            page.keyboard.press("Enter")
            opened_by_key += bool(page.evaluate("document.activeElement.parentElement.open"))
            if page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "none":
                faults.append("the focus is not seen")
        if page.evaluate("document.activeElement === document.body"):
            break
    return faults + ([] if opened_by_key == details > 0 else [f"{opened_by_key} of {details} opened by the keyboard"])


def numbers(page: Page, report: Plain, stale: Sequence[Plain]) -> list[str]:
    """Figures and words of the page's tables that are not those of the report."""
    shown, story, faults = page.evaluate(TABLES), report["story"], []
    wanted: dict[str, list[list[Any]]] = {
        "rows": [[row[name] for name in ("table", "rows", "bytes", "seconds", "source_rows", "target_rows")] for row in story["tables"]],
        "decisions": [[None, f"{row['from']} → {row['to']} %", row["decision"], row["seconds"], "\n".join(row["reasons"]) or "none given", row["evidence"] or "–"] for row in story["decisions"]],
        "conflicts": [[row[name] for name in ("table", "kind", "decided", "count")] for row in story["conflicts"]],
        "shadow": [[row[name] for name in ("endpoint", "answers", "different")] for row in story["shadow"]],
        "stale": [[row["weight"] if row["weight"] is not None else "–", None, None, row["reads"], row["stale"]] for row in stale],
    }  # fmt: skip
    phases = list(dict.fromkeys(phase for row in story["rollbacks"] for phase in row["phases"]))
    wanted["rollbacks"] = [
        [None, row["from"], *(row["phases"].get(phase, "–") for phase in phases), row["seconds"], row["limit_seconds"], row["rows_compared"]]
        for row in story["rollbacks"]
    ]  # fmt: skip
    for what in ("weight", "requests", "errors", "p50", "p95", "lag", "copied", "told"):
        curves = [
            dict(map(tuple, one["points"]))
            for one in story["series"]
            if one["what"] == what and any(value is not None for _, value in one["points"])
        ]
        moments = sorted({at for curve in curves for at in curve})
        every = -(-len(moments) // 600) or 1
        wanted[f"picture-{what}"] = [
            [None, None, *("–" if curve.get(at) is None else curve[at] for curve in curves)] for at in moments[::every]
        ]
    for name, rows in wanted.items():
        found = shown.get(name, [])
        if len(found) != len(rows):
            faults.append(f"{name}: {len(found)} rows, not {len(rows)}")
        for number, (row, cells) in enumerate(zip(rows, found, strict=False)):
            faults += [
                f"{name} {number}: {cell!r}, not {value!r}"
                for value, cell in zip(row, cells, strict=False)
                if not same(cell, value)
            ]
    text = page.locator("body").inner_text()
    said = [one for criterion in report["criteria"] for one in (criterion["name"], criterion["evidence"])]
    said += [mark["text"] for mark in story["marks"]] + [
        one for part in story["parts"] for one in (part["part"], part["what"])
    ]
    plain = " ".join(text.split())
    return faults + [f"not said: {one[:80]}" for one in said if " ".join(one.split()) not in plain]


def same(shown: str, value: Any) -> bool:
    """Whether a cell shows the value: words as they are, figures to the last decimal that is shown, and at least three of them."""
    if value is None:
        return True
    if isinstance(value, str):
        return shown.strip() == value.strip()
    if not re.fullmatch(r"-?[\d,]+(\.\d+)?", shown.strip()):
        return False
    figure, exact = Decimal(shown.replace(",", "")), Decimal(str(value))
    places = -int(figure.as_tuple().exponent)
    return figure == exact or (places >= 3 and abs(figure - exact) <= Decimal(10) ** -places / 2)


Judge = Callable[[Page], list[str]]


def read(path: Path) -> Plain:
    """A report.json, as any program would read it."""
    return dict(json.loads(path.read_text(encoding="utf-8")))
