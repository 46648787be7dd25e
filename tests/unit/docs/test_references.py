"""Every file, heading and name that comments, docstrings and documents refer to is there.

A reference that leads nowhere sends a reader, at night, to look for what was never in the repository or has moved.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: `docs/plan.md`, `scripts/copy/plan.py`, `gates.py`; what follows may name a heading: `#anchor`, `, 'Step 1'` or `('Step 1')`.
FILE = re.compile(
    r"(?<![\w<{*/.-])(?P<path>\.?[\w-][\w./-]*\.(?:py|md|sql|yml))(?![\w(])"
    r"(?:#(?P<anchor>[\w-]+)|,?\s\(?'(?P<heading>(?:[^'\n]|'(?=\w))+)')?"
)
#: `scripts.replication.slot_health.runway`, but no `scripts.copy` of a longer word or path.
DOTTED = re.compile(r"(?<![\w./-])(?P<name>(?:scripts|components|tests)(?:\.[A-Za-z_]\w*)+)(?![\w/]|\.\w)")
DOCUMENT = re.compile(r"docs/[\w-]+\.md(?:#[\w-]+)?")
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
#: What looks like a file of ours and is not: a module of psycopg, a file of Pulumi's source.
ELSEWHERE = frozenset({"psycopg.sql", "runtime/rpc.py"})


@cache
def tracked() -> frozenset[str]:
    """The repository's files, those of this change included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return frozenset(name for name in listed.stdout.splitlines() if (ROOT / name).is_file())


def _files(*endings: str) -> list[str]:
    return sorted(name for name in tracked() if name.endswith(endings))


@cache
def prose(name: str) -> list[tuple[int, str]]:
    """Comments and docstrings of a module, each with its line, and documents that its other texts name; runs of comment
    lines are one. Other files: all of it."""
    return list(_prose(name))


def _prose(name: str) -> Iterator[tuple[int, str]]:
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".py"):
        yield 1, text
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, " ".join(node.value.value.split())
    for number, line in enumerate(text.splitlines(), 1):  # a message that sends people to a document
        yield from ((number, found[0]) for found in DOCUMENT.finditer(line))
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != last + 1:
                yield first, " ".join(block)
                block = []
            first = token.start[0] if not block else first
            last = token.start[0]
            block.append(token.string.lstrip("#: "))
    if block:
        yield first, " ".join(block)


@cache
def headings(name: str) -> tuple[str, ...]:
    """The headings of a document, code blocks left out."""
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    return tuple(re.findall(r"^#+ (.+?)\s*$", text, flags=re.MULTILINE))


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def _anchored(name: str, anchor: str) -> bool:
    return anchor in {slug(heading) for heading in headings(name)}


def _headed(name: str, heading: str) -> bool:
    """`Step 1` stands for the heading `Step 1: copy and replicate`."""
    return any(found == heading or found.startswith(f"{heading}:") for found in headings(name))


def resolve(path: str, referrer: str) -> str | None:
    """The tracked file that ``path`` means in ``referrer``.

    A module may be named by the end of its path. A document is named from the root, or beside the one that names it.
    """
    for candidate in (path, str(Path(referrer).parent / path)):
        if candidate in tracked():
            return candidate
    if path.endswith(".md"):
        return None
    return next((name for name in tracked() if name.endswith(f"/{path}")), None)


def missing_files(name: str) -> Iterator[str]:
    """What ``name`` says of files and headings that is not so."""
    for line, text in prose(name):
        for found in FILE.finditer(text):
            path = found["path"]
            where = f"{name}:{line + text[: found.start()].count(chr(10))}: {found[0]}"
            if path in ELSEWHERE:
                continue
            file = resolve(path, name)
            if file is None:
                yield f"{where}: no such file"
            elif file.endswith(".md"):
                if found["anchor"] and not _anchored(file, found["anchor"]):
                    yield f"{where}: no such anchor"
                if found["heading"] and not _headed(file, found["heading"]):
                    yield f"{where}: no such heading"


def missing_names(name: str) -> Iterator[str]:
    """Dotted names of modules, and of what is in them, that ``name`` refers to and that are not there."""
    for line, text in prose(name):
        for found in DOTTED.finditer(text):
            if not _defined(found["name"]):
                yield f"{name}:{line}: {found['name']}: no such module or name"


@cache
def _defined(dotted: str) -> bool:
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        base, rest = "/".join(parts[:length]), parts[length:]
        for module in (f"{base}.py", f"{base}/__init__.py"):
            if module in tracked():
                text = (ROOT / module).read_text(encoding="utf-8")
                return not rest or bool(re.search(rf"^\s*(def|class)? ?{rest[0]}\b", text, flags=re.MULTILINE))
    return False


def missing_links(name: str) -> Iterator[str]:
    """Relative links of a document that lead nowhere."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for found in LINK.finditer(text):
        target = found["target"]
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = str((ROOT / name).parent.joinpath(path).resolve().relative_to(ROOT)) if path else name
        if file not in tracked():
            yield f"{name}: {target}: no such file"
        elif anchor and file.endswith(".md") and not _anchored(file, anchor):
            yield f"{name}: {target}: no such anchor"


def test_files_and_headings_are_there() -> None:
    files = [
        name for name in _files(".py", ".md", ".sql", ".yml", ".toml") if name != "tests/unit/docs/test_references.py"
    ]
    assert [problem for name in files for problem in missing_files(name)] == []


def test_modules_and_names_are_there() -> None:
    assert [problem for name in _files(".py", ".md", ".sql") for problem in missing_names(name)] == []


def test_links_lead_somewhere() -> None:
    assert [problem for name in _files(".md") for problem in missing_links(name)] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("the notes (docs/design.md)", "no such file"),
        ("as schema.md gives them", "no such file"),
        ("as plan.md gives them", "no such file"),
        ("(docs/plan.md, 'Step 9')", "no such heading"),
        ("docs/plan.md#step-9", "no such anchor"),
        ("see scripts/copy_plan.py", "no such file"),
    ],
)
def test_a_reference_that_leads_nowhere_is_found(text: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.prose", lambda name: [(1, text)])
    assert [found.rpartition(": ")[2] for found in missing_files("scripts/copy/run.py")] == [problem]


@pytest.mark.parametrize(
    "text",
    [
        "(docs/plan.md, 'Step 1'; docs/decisions.md, 'AWS DMS')",
        "docs/decisions.md ('The copy runs under the slot's snapshot')",
        "docs/plan.md#the-tables",
        "scripts/copy/plan.py, and gates.py",
    ],
)
def test_a_reference_that_leads_somewhere_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.prose", lambda name: [(1, text)])
    assert list(missing_files("scripts/copy/run.py")) == []


def test_a_name_that_is_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        ":func:`scripts.replication.slot_health.runway`, scripts.replicate_watch, scripts.replication.slot_health.gone"
    )
    monkeypatch.setattr(f"{__name__}.prose", lambda name: [(1, text)])
    found = list(missing_names("scripts/copy/run.py"))
    assert [problem.split(": ")[1] for problem in found] == [
        "scripts.replicate_watch",
        "scripts.replication.slot_health.gone",
    ]
