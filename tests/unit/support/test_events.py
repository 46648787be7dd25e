"""Events have one name, in one place: what is written is what is looked for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from scripts.support.events import CanaryEvent, Step
from scripts.support.journal import FileJournal
from scripts.support.settings import PROJECT_ROOT
from tests.journal import last


def _journaled() -> Iterator[tuple[Path, int, str]]:
    for path in (PROJECT_ROOT / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "journal" in ast.dump(node)
            ):
                continue
            if node.func.attr in ("record", "last", "events"):
                for given in node.args[:2]:
                    if isinstance(given, ast.Constant):
                        yield path, node.lineno, str(given.value)


def test_no_step_writes_or_looks_for_an_event_by_a_text_of_its_own() -> None:
    """Fails when an event's name is spelt at its place: a reader elsewhere would look for another one."""
    assert list(_journaled()) == []


def test_an_event_stands_in_the_journal_as_plain_text(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    journal.record(Step.CANARY, CanaryEvent.LOCK_TAKEN_OVER)
    assert '"step": "canary", "event": "lock-taken-over"}' in journal.path.read_text()
    assert last(journal, "canary", "lock-taken-over") is not None
