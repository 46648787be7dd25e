"""What a row holds stands in no output and no file of a command, whatever PostgreSQL says of the row at fault."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from scripts.support.settings import PROJECT_ROOT
from scripts.support.wait import wait_until
from tests.conftest import Pair
from tests.integration.test_chain import MakePair, running

PUPIL = "Hanako Yamada"
#: A check that quotes nothing but its DETAIL, and one whose message itself is the value.
CHECKS = {
    "a failing row": ("CHECK (title !~ 'Yamada')", "violates check constraint"),
    "a value that is no number": ("CHECK (title::int > 0)", "invalid input syntax for type integer"),
}


@dataclass
class Said:
    """All that a command left behind: what it printed, and the files of its state directory and output."""

    status: int
    everything: str


def command(pair: Pair, directory: Path, *arguments: str, **variables: str) -> Said:
    """A command in a process of its own, with the pair's configuration in a stack's file."""
    config = pair.settings.config.model_dump(by_alias=True, mode="json", exclude_unset=True)
    stack = {"config": {f"task-migration:{key}": value for key, value in config.items()}}
    (directory / "Pulumi.test.yaml").write_text(yaml.safe_dump(stack, allow_unicode=True), encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PULUMI", "TASK_", "SOURCE_", "TARGET_"))}
    urls = {"SOURCE_DATABASE_URL": pair.settings.source(), "TARGET_DATABASE_URL": pair.settings.target()}
    state = Path(pair.settings.state_dir)
    places = {"PYTHONPATH": str(PROJECT_ROOT), "TASK_MIGRATION_STATE_DIR": str(state)}
    done = subprocess.run(
        [sys.executable, "-m", "scripts", *arguments, "--stack", "test"],
        cwd=directory,
        env={**clean, **urls, **places, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    files = [path for place in (state, directory) for path in place.rglob("*") if path.suffix in (".json", ".jsonl")]
    kept = [path.read_text(encoding="utf-8") for path in files]
    return Said(done.returncode, "\n".join((done.stdout, done.stderr, *kept)))


def silent(said: Said, *words: str) -> None:
    """It failed, says ``words``, and has nothing of the pupil."""
    assert said.status not in (0, 2), said.everything
    for word in words:
        assert word in said.everything
    assert "Hanako" not in said.everything
    assert "Yamada" not in said.everything.replace("'Yamada'", ""), "the constraint's own text may be told"


@pytest.mark.parametrize("kind", CHECKS)
def test_a_row_that_the_copy_fails_at(kind: str, make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents the failing row and the COPY's line on the screen and in the journal; the old code printed both."""
    pair = make_pair(rows=20)
    check, expected = CHECKS[kind]
    pair.source.execute("UPDATE tasks SET title = %s", (PUPIL,))
    # It holds on the source alone, as one that calls a function which differs there.
    port = pair.source.info.port
    check = f"CHECK (CASE current_setting('port') WHEN '{port}' THEN true ELSE {check.removeprefix('CHECK ')} END)"
    pair.source.execute(f"ALTER TABLE tasks ADD CONSTRAINT private {check}".encode())
    assert command(pair, tmp_path, "schema", "apply", "--json", TARGET_ROLE_PASSWORD="pass-of-role").status == 0
    silent(command(pair, tmp_path, "copy", "--json"), expected)
    silent(command(pair, tmp_path, "copy"), expected)
    # Last, as what was asked for stands in the journal then.
    assert PUPIL in command(pair, tmp_path, "copy", "--json", "--show-values").everything


def test_a_row_that_preflight_evaluates(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents a check of a constraint's expression that quotes the row it was tried on."""
    pair = make_pair(rows=20)
    pair.source.execute("UPDATE tasks SET title = %s", (PUPIL,))
    pair.source.execute("ALTER TABLE tasks ADD CONSTRAINT private CHECK (title::int > 0) NOT VALID")
    silent(command(pair, tmp_path, "preflight", "--json"), "invalid input syntax for type integer")


#: What the target has and the rules did not know when they were installed, what the monolith then writes, and what is told.
APPLIED: dict[str, tuple[str, dict[str, str | None], str]] = {
    "unique": ("CREATE UNIQUE INDEX private ON tasks (title)", {"title": PUPIL}, 'unique constraint'),
    "check": (f"ALTER TABLE tasks ADD CONSTRAINT private {CHECKS['a failing row'][0]} NOT VALID", {"title": PUPIL}, "private"),
    "not null": ("ALTER TABLE tasks ALTER description SET NOT NULL", {"title": PUPIL, "description": None}, "not-null"),
    "no number": ("ALTER TABLE tasks ADD CONSTRAINT private CHECK (title::int > 0) NOT VALID", {"title": PUPIL}, "22P02"),
    "too long": ("ALTER TABLE tasks ALTER title TYPE varchar(5) USING left(title, 5)", {"title": PUPIL}, "22001"),
}  # fmt: skip


@pytest.mark.parametrize("kind", APPLIED)
def test_a_write_that_the_apply_worker_fails_at(kind: str, make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents the row in what `replicate status` and a wait in vain say of the worker, and in their journal."""
    pair = running(make_pair, rows=20)
    statement, values, expected = APPLIED[kind]
    if kind == "unique":
        pair.source.execute("UPDATE tasks SET title = 'task ' || id")
        pair.source.execute("UPDATE tasks SET title = %s WHERE id = (SELECT max(id) FROM tasks)", (PUPIL,))
        pending = "SELECT count(*) FROM tasks WHERE title = 'Hanako Yamada' OR title LIKE 'task %'"
        wait_until(lambda: pair.target.execute(pending.encode()).fetchone(), lambda row: row == (20,), what="titles", timeout=20)  # fmt: skip
    if kind == "not null":
        pair.source.execute("UPDATE tasks SET description = 'some'")
        pending = "SELECT count(*) FROM tasks WHERE description = 'some'"
        wait_until(lambda: pair.target.execute(pending.encode()).fetchone(), lambda row: row == (20,), what="texts", timeout=20)  # fmt: skip
    pair.target.execute(statement.encode())
    for column, value in values.items():
        pair.source.execute(f"UPDATE tasks SET {column} = %s WHERE id = (SELECT min(id) FROM tasks)".encode(), (value,))
    silent(command(pair, tmp_path, "replicate", "status", "--json"), expected)
    silent(command(pair, tmp_path, "replicate", "status"))
    silent(command(pair, tmp_path, "replicate", "wait", "--timeout", "3", "--json"))


def test_a_row_that_pg_restore_fails_at(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents the failing row in what `backup` prints, notes in the journal and keeps in the manifest."""
    pair = make_pair(rows=20)
    # Rows are restored by table name: the first table's check looks into one that is still empty then.
    pair.source.execute("CREATE TABLE zz_known (name text)")
    pair.source.execute("INSERT INTO zz_known VALUES (%s)", (PUPIL,))
    pair.source.execute(
        "CREATE FUNCTION known(text) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT 1 FROM public.zz_known WHERE name = $1)'"
    )
    pair.source.execute("CREATE TABLE aa_pupils (id int, name text CONSTRAINT private CHECK (public.known(name)))")
    pair.source.execute("INSERT INTO aa_pupils VALUES (1, %s)", (PUPIL,))
    said = command(pair, tmp_path, "backup", "--output", str(tmp_path / "kept"), "--json")
    silent(said, 'new row for relation "aa_pupils" violates check constraint "private"', "restore_verified")
    shown = command(pair, tmp_path, "backup", "--output", str(tmp_path / "kept"), "--json", "--show-values")
    assert PUPIL in shown.everything
