"""What README and docs/ say to type: their code, and the commands in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
#: Written by hand; docs/commands.md is made of the commands themselves.
PAGES = (ROOT / "README.md", *sorted(page for page in DOCS.glob("*.md") if page.name != "commands.md"))
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.S | re.M)
SPAN = re.compile(r"`([^`\n]+)`")
#: What a shell or psql takes: programs with a word after them, and the beginnings of statements.
SHELL = re.compile(r"(?:task-migration|make|pulumi|aws|gh|sh|curl|export|touch|git|pip|python) (?!<)|\.ci/run$")
SQL = re.compile(r"(?:SELECT|ALTER|GRANT|REVOKE|CREATE|DROP|SET|SHOW|UPDATE|DELETE|INSERT|TRUNCATE) \S+ \S")


def code(text: str) -> list[str]:
    """Each line of a fenced block and each span of code, in the order of the text."""
    return list(_code(text))


def _code(text: str) -> Iterator[str]:
    at = 0
    for block in FENCE.finditer(text):
        yield from SPAN.findall(text[at : block.start()])
        for line in block[1].replace("\\\n", " ").splitlines():
            yield from filter(None, [_bare(line)])
        at = block.end()
    yield from SPAN.findall(text[at:])


def _bare(line: str) -> str:
    """Without a prompt, a comment, and blanks that only align it."""
    return " ".join(re.sub(r"\s(?:#|-- ).*$", "", line.removeprefix("$ ")).split())


def commands(text: str) -> list[str]:
    """Of the code, what is typed; a line of several, joined by `&&` or `; `, is each of them."""
    found = []
    for one in code(text):
        parts = re.split(r" && |; (?=[a-zA-Z])", one)
        if SHELL.match(one) or SQL.match(one):
            found += [part.strip() for part in parts if part.strip()]
    return found
