"""What another user of this machine reads of a backup while it is made, put back, or was killed: nothing."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.backup import compare
from scripts.backup import run as backup
from scripts.backup import store as backup_store
from scripts.support.errors import Refused
from tests.conftest import Pair
from tests.stranger import entered_by_all, files_below, readable

MakePair = Callable[..., Pair]


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where all may go, and in it a temporary directory as /tmp."""
    with entered_by_all() as place:
        (place / "tmp").mkdir()
        (place / "tmp").chmod(0o1777)
        monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
        yield place


def test_nobody_else_reads_a_dump_at_any_moment(
    make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents every local user from reading the whole database beside the scratch server, as the 0711 directory let him."""
    pair = make_pair(rows=30)
    seen: list[str] = []
    held: list[str] = []

    def looking(module: Any, name: str) -> None:
        original = getattr(module, name)

        def look(*arguments: Any, **named: Any) -> Any:
            try:
                return original(*arguments, **named)
            finally:
                files = files_below(tmp_path)
                held.extend(file.name for file in files)
                seen.extend(readable(files))

        monkeypatch.setattr(module, name, look)

    for module, name in ((backup, "_dump"), (backup, "_restore"), (backup_store, "sha256"), (compare, "same")):
        looking(module, name)
    out = tmp_path / "backups"
    done = backup.run(pair.settings, str(out))
    backup.restore(pair.settings, done.manifest, pair.target_server.url(pair.target.info.dbname))
    # They were there to be read: the dump, the one read back, and the server's files.
    assert {"dump", "stored", "PG_VERSION", "owner.pid"} <= set(held)
    assert seen == []
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in out.iterdir()} == {0o600}
    assert readable(files_below(Path(tempfile.gettempdir()))) == []


def test_a_place_that_others_may_read_or_that_somebody_planted_takes_no_dump(
    make_pair: MakePair, tmp_path: Path
) -> None:
    """Prevents a dump in a shared folder, or where a link leads it."""
    pair = make_pair(rows=5)
    shared = tmp_path / "shared"
    shared.mkdir(0o755)
    (shared / "theirs").touch()
    (tmp_path / "link").symlink_to(shared)
    for place, why in (("shared", "is open to others"), ("link", "is no directory of its own")):
        with pytest.raises(Refused, match=f"{place} {why}"):
            backup.run(pair.settings, str(tmp_path / place))
    assert [one.name for one in shared.iterdir()] == ["theirs"]
