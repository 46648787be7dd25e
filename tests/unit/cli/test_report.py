"""`report --journal` as an operator types it: from a folder alone, whatever else stands in it, and what it says when there is nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.config import MigrationConfig
from scripts.cli import rehearse_text
from scripts.report import run as journaled_run
from scripts.report.documents import Run
from scripts.support.settings import Settings
from tests.unit.cli.shown import shown
from tests.unit.cli.test_app import run
from tests.unit.report.test_journal import KEPT, WHOLE
from tests.unit.support.test_journal import FOREIGN

TORN = b'{"at": "2026-01-01T00:00:00+00:00", "step": "rollb'


def journaled(folder: Path, *, decisions: bool = True) -> Path:
    """A state directory with a whole run in it, among what is none of ours."""
    (folder / "decisions").mkdir(parents=True)
    lines = [
        line
        for pair in zip(WHOLE, [*FOREIGN.values()] * 2, strict=False)
        for line in (json.dumps(pair[0]).encode(), pair[1])
    ]
    rest = [json.dumps(event).encode() for event in WHOLE[len(lines) // 2 :]]
    (folder / "journal.jsonl").write_bytes(b"\n".join([*lines, *rest, TORN]))
    if decisions:
        for name, document in KEPT.items():
            (folder / "decisions" / name).write_text(json.dumps(document))
    for path in (folder, folder / "decisions"):
        path.chmod(0o700)
    (folder / "journal.jsonl").chmod(0o600)
    return folder


def test_a_real_run_is_reported_from_its_folder_alone(tmp_path: Path) -> None:
    state = str(journaled(tmp_path / "state"))
    done = run("report", "--journal", "--json", "--html", "page.html", cwd=tmp_path, TASK_MIGRATION_STATE_DIR=state)
    assert done.returncode == 0, done.stderr
    assert "finalized, all 8 criteria" in (tmp_path / "page.html").read_text()
    document = Run.model_validate_json(done.stdout)
    assert document.passed
    assert [one.evidence[:9] for one in document.story.decisions] == ["3 periods", "3 periods"]
    assert "no event of this program, passed by" in done.stderr
    told = shown(rehearse_text.run(document))
    assert told.startswith("Passed: finalized, all 8 criteria\n(")
    assert len(told.splitlines()) < 25


def test_a_decision_whose_file_is_gone_is_named_and_the_rest_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    state = journaled(tmp_path / "state", decisions=False)
    found = journaled_run.read(Settings(MigrationConfig(), None, None, None, state))
    assert found.passed
    assert found.story.decisions[0].evidence == "what it was decided by is not there any more"
    assert "one.json: the decision" in capfd.readouterr().err


def test_a_page_that_cannot_be_written_is_told_with_its_place(tmp_path: Path) -> None:
    state = str(journaled(tmp_path / "state"))
    done = run("report", "--journal", "--html", "no/page.html", cwd=tmp_path, TASK_MIGRATION_STATE_DIR=state)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--html no/page.html: nothing can be written there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ("--journal",),
            10,
            "none is empty, so there is nothing to report; name another with TASK_MIGRATION_STATE_DIR",
        ),
        (("--journal", "--path", "x.json"), 2, "--journal and --path x.json are two reports; leave one of them out"),
    ],
)
def test_what_cannot_be_reported_says_why(tmp_path: Path, arguments: tuple[str, ...], status: int, said: str) -> None:
    done = run("report", *arguments, cwd=tmp_path, TASK_MIGRATION_STATE_DIR="none")
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
