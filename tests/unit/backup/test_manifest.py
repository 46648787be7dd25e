"""A manifest that cannot be relied on, found before any database is touched; client programs that are watched or interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.config import MigrationConfig
from scripts.backup import run as backup
from scripts.backup import tools
from scripts.support.errors import DatabaseError, UsageError
from scripts.support.settings import Settings

SETTINGS = Settings(MigrationConfig(), None, None, None, "nowhere")
URL = "postgresql://nobody:secret@127.0.0.1:1/nowhere"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"restore_verified": False, "reason": "killed"}, r"says not verified \(killed\)"),
        ({"restore_verified": True, "file": "x.dump"}, "is no manifest of a backup"),
    ],
)
def test_a_manifest_that_says_too_little_is_refused(tmp_path: Path, content: dict[str, object], said: str) -> None:
    """Prevents a restore of a file of which nobody knows what it should hold."""
    (tmp_path / "x.dump.manifest.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=said):
        backup.restore(SETTINGS, str(tmp_path / "x.dump.manifest.json"), URL)


def test_a_program_is_watched_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a dump of hours that says nothing, one that goes on after Ctrl-C, and a failure without the program's words."""
    monkeypatch.setattr(tools, "WATCH_SECONDS", 0.05)
    monkeypatch.setenv("PGOPTIONS", "-c search_path=theirs")
    program, pid, seen = tmp_path / "pg_dump", tmp_path / "pid", list[float]()
    program.write_text(
        f"#!/bin/sh\necho $$ > {pid}\numask > {pid}.umask\nenv > {pid}.env\necho $* > {pid}.line\nsleep 0.5\necho 'no room for secret' >&2\nexit 3\n"
    )
    program.chmod(0o755)
    with pytest.raises(DatabaseError, match="pg_dump failed with status 3: no room"):
        tools.run(program, [], URL, seen.append)
    assert len(seen) >= 3
    assert seen == sorted(seen)
    # The password goes by the environment, which has nothing else of libpq's, and what it writes is its user's alone.
    line, env = ((tmp_path / f"pid.{name}").read_text() for name in ("line", "env"))
    assert "secret" not in line
    assert [one for one in env.splitlines() if one.startswith("PG")] == ["PGPASSWORD=secret"]
    assert (tmp_path / "pid.umask").read_text().strip() == "0077"

    def interrupt(_: float) -> None:
        if pid.exists() and pid.read_text().strip():
            raise KeyboardInterrupt

    pid.unlink()
    program.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 60\n")
    with pytest.raises(KeyboardInterrupt):
        tools.run(program, [], URL, interrupt)
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()
