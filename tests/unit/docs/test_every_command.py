"""No command of README and docs/ is one that nothing carries out, and no reason for leaving one out outlives it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Collection, Iterable
from typing import get_args

import pytest
import typer

from scripts.cli.app import app
from scripts.rehearsal.plan import ScenarioName
from tests.integration.docs.night import ELSEWHERE, NIGHT, STATEMENTS
from tests.unit.docs.documented import PAGES, ROOT, SQL, code, commands
from tests.unit.docs.test_commands import COMMANDS

#: What others hold whole, line by line: test_aws_commands.py, the real CLI in tests/integration/docs, and `make -n` below.
HELD = ("aws ", "pulumi ", "make ")
RUN = {line for line, _ in NIGHT} | {line for lines in STATEMENTS.values() for line in lines}
PATHS = sorted((one.path for one in COMMANDS), key=len, reverse=True)
#: One stands for each: tests/rehearsal/test_scenarios.py plays them all.
SCENARIOS = get_args(ScenarioName)
TESTS = re.compile(r"tests/[\w/]+(?:\.py)?")


def documented() -> set[str]:
    return {line for page in PAGES for line in commands(page.read_text(encoding="utf-8"))}


def left_out(lines: Iterable[str], run: Collection[str], elsewhere: Collection[str]) -> list[str]:
    """What is documented and neither carried out nor listed."""
    return sorted(line for line in lines if not line.startswith(HELD) and line not in run and line not in elsewhere)


def outlived(lines: Collection[str], run: Collection[str], elsewhere: Collection[str]) -> list[str]:
    """What a list has and no document any more. `canary step`, short for the whole, stands for itself."""
    return sorted({*run, *elsewhere} - set(lines))


def words(line: str) -> tuple[str, frozenset[str]] | None:
    """A command's path and what follows it, of a line or of a span that leaves `task-migration` out; None for what is none."""
    bare = line.removeprefix("task-migration ")
    path = next((path for path in PATHS if f"{bare} ".startswith(f"{path} ")), None)
    if path is None or "|" in bare:
        return None
    following = bare.removeprefix(path).replace("...", "").replace('""', "").split()
    return path, frozenset("NAME" if word in SCENARIOS else word for word in following)


def test_every_command_is_carried_out_or_says_why_not() -> None:
    """Prevents a line that nobody ever typed before the night."""
    lines = documented()
    assert left_out(lines, RUN, ELSEWHERE) == []
    short = {found for page in PAGES for span in code(page.read_text(encoding="utf-8")) if (found := words(span))}
    assert outlived(lines | {line for line in {*RUN, *ELSEWHERE} if words(line) in short}, RUN, ELSEWHERE) == []


def test_what_is_short_for_a_command_is_one_with_these_options() -> None:
    """Prevents options that were never carried out together: `verify --repair newest` in a cell is typed too."""
    spans = {span for page in PAGES for span in code(page.read_text(encoding="utf-8")) if " --" in span}
    carried = [found for line in {*RUN, *ELSEWHERE} if (found := words(line))]
    missing = [
        span
        for span in sorted(spans)
        if (found := words(span)) and not any(path == found[0] and found[1] <= has for path, has in carried)
    ]
    assert missing == []


def test_what_is_left_out_is_a_command_all_the_same_and_its_test_is_there() -> None:
    click = typer.main.get_command(app)
    for line, reason in ELSEWHERE.items():
        for file in TESTS.findall(reason):
            assert (ROOT / file).exists(), (line, file)
        if line.startswith("task-migration ") and "..." not in line and "--help" not in line:
            click.make_context("task-migration", shlex.split(line)[1:], resilient_parsing=True)


@pytest.mark.parametrize("line", sorted(line for line in documented() if line.startswith("make ")))
def test_a_documented_target_is_there(line: str) -> None:
    """`make -n` says what would be done; a target that is none it refuses."""
    done = subprocess.run(["make", "-n", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("lines", "run", "elsewhere", "found"),
    [
        ({"task-migration copy"}, set(), set(), (["task-migration copy"], [])),
        ({"task-migration copy"}, {"task-migration copy --jobs 2"}, set(), (["task-migration copy"], ["task-migration copy --jobs 2"])),
        ({"curl https://x"}, set(), {"curl https://y"}, (["curl https://x"], ["curl https://y"])),
        ({"SELECT 1"}, {"SELECT 1"}, set(), ([], [])),
    ],
)  # fmt: skip
def test_a_command_in_no_list_and_an_entry_in_no_document_are_found(
    lines: set[str], run: set[str], elsewhere: set[str], found: tuple[list[str], list[str]]
) -> None:
    assert (left_out(lines, run, elsewhere), outlived(lines, run, elsewhere)) == found


def test_commands_are_found_in_blocks_and_in_sentences() -> None:
    text = "Type `task-migration copy`, not `copy`:\n```\n$ task-migration verify   # now\nmake a && make b\nSELECT a FROM b   -- both\n```\nor `GRANT x TO y; SET a = b`."
    assert commands(text) == [
        "task-migration copy", "task-migration verify", "make a", "make b", "SELECT a FROM b", "GRANT x TO y", "SET a = b",
    ]  # fmt: skip
    assert all(map(SQL.match, ("GRANT x TO y", "SET a = b")))
