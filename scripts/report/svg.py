"""What matplotlib draws, as an element of a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from markupsafe import Markup

#: Colours that stand for the page's custom properties.
SENTINELS = {
    "ink": "#f00001", "muted": "#f00002", "hair": "#f00003", "bad": "#f00004", "limit": "#f00005",
    "c1": "#f10001", "c2": "#f10002", "c3": "#f10003", "c4": "#f10004", "c5": "#f10005", "c6": "#f10006",
}  # fmt: skip


def embedded(drawn: str, name: str, title: str, text: str) -> Markup:
    """The drawing as an element of a page: described, without fixed size, fonts, colours or ids that another one has."""
    root = ElementTree.fromstring(drawn[drawn.index("<svg") :])
    for parent in root.iter():
        for child in [one for one in parent if _local(one.tag) in ("metadata", "defs") and _empty(one)]:
            parent.remove(child)
    used = set(
        re.findall(
            r"#([\w-]+)",
            " ".join(value for one in root.iter() for key, value in one.items() if key != "style" or "url" in value),
        )
    )
    for one in root.iter():
        one.tag = _local(one.tag)
        for key in list(one.attrib):
            value = one.attrib.pop(key)
            if key == "id":
                kept = re.match(r"(curve|limit|marks)-\d+$", value)
                if kept:
                    one.set("class", f"{kept[1]} {value}")
                if value not in used:
                    continue
                value = f"{name}-{value}"
            elif key == "style":
                value = _styled(value)
            one.set(
                _local(key),
                re.sub(r"#(?=[\w-])", f"#{name}-", value) if _local(key) in ("href", "clip-path") else value,
            )
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update(
        {"role": "img", "aria-labelledby": f"{name}-title {name}-desc", "class": f"drawing {name.rpartition('-')[2]}"}
    )
    for index, (tag, words) in enumerate((("title", title), ("desc", text))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = words
        root.insert(index, element)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _empty(element: ElementTree.Element) -> bool:
    return _local(element.tag) == "metadata" or all(_local(one.tag) == "style" for one in element)


def _styled(text: str) -> str:
    """A style of matplotlib's with the page's colours and font."""
    for name, sentinel in SENTINELS.items():
        text = text.replace(sentinel, f"var(--{name})")
    return re.sub(
        r"font: (?:(bold|700) )?([\d.]+px) [^;]*",
        lambda found: f"font: {found[1] or 'normal'} {found[2]} var(--font)",
        text,
    )
