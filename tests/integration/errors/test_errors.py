"""Wrong inputs and states of every command: the status, the value, the limit and the remedy; no traceback, no secret, nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest

from tests.integration.errors import aws_cases, configuration, databases, lines, places, states
from tests.integration.errors.case import Case, State
from tests.integration.errors.conftest import SECRETS, Ended, Shell

#: docs/decisions.md, 'Exit statuses'.
DOCUMENTED = {0, 1, 2, 10, 11, 12, 13}
CASES = [*lines.CASES, *configuration.CASES, *places.CASES, *aws_cases.CASES, *databases.CASES, *states.CASES]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _forms(secret: str) -> set[str]:
    return {secret, quote(secret, safe=""), quote(secret), secret.replace("'", "\\'"), secret.replace("'", "''")}


def _sound(case: Case, shell: Shell, ended: Ended) -> None:
    """What holds for every command, however it ends."""
    assert ended.status in DOCUMENTED, ended
    assert "Traceback" not in ended.out + ended.err, ended
    for secret in SECRETS:
        for form in _forms(secret):
            assert form not in ended.out + ended.err + shell.kept(), (form, ended)
    assert ended.seconds < case.seconds, ended


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_wrong(case: Case, shell_in: Callable[[State], Shell]) -> None:
    """Prevents a night that begins with a traceback, or with a sentence that does not say what to type."""
    shell = shell_in(case.state)
    line = case.given.line
    assert line is not None
    try:
        shell.give(case.given)
        before = shell.world.seen()
        ended = shell.run(line)
        _sound(case, shell, ended)
        text = _flat(ended.out if case.printed else ended.err)
        says = [shell.filled(words) for words in case.says]
        for words in says:
            assert words in text, (words, ended)
        assert ended.status == case.exits, ended
        if not case.printed:
            assert ended.out == "", ended
            # One message: typer's own, or the entry point's.
            assert ended.messages == (0 if ended.err.startswith("Usage: ") else 1), ended
        if not case.changes:
            assert shell.world.seen() == before
        if case.mend is not None:
            shell.give(case.mend)
            again = shell.run(case.mend.line or line)
            _sound(case, shell, again)
            assert says[0] not in _flat(again.err + again.out), again
    finally:
        for text in case.undo:
            shell.world.execute(text, shell.directory)


def test_the_table_is_whole() -> None:
    """Prevents two cases of one name, a command without a wrong input, and a case whose remedy nobody carried out unsaid."""
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)
    assert len(CASES) >= 80
