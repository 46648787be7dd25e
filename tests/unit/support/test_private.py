"""Files of the operator's alone: made with 0600 in 0700, whatever the umask; what others planted is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.support import private
from scripts.support.errors import Refused
from scripts.support.journal import FileJournal
from tests.stranger import UID, entered_by_all, files_below, readable


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Where all may go."""
    with entered_by_all() as place:
        yield place


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_directories_and_files_are_closed_from_their_first_byte(tmp_path: Path) -> None:
    """Prevents a window in which what is being written can be read."""
    place = private.directory(tmp_path / "a" / "b")
    assert [mode(one) for one in (place, place.parent)] == [0o700, 0o700]
    place.chmod(0o755)
    place.parent.chmod(0o755)
    with private.replacing(place / "dump") as sink:
        sink.write(b"rows")
        sink.flush()
        assert mode(place / "dump.part") == 0o600
        assert readable(files_below(tmp_path)) == []
    assert mode(place / "dump") == 0o600
    assert (place / "dump").read_bytes() == b"rows"


def test_what_is_there_already_is_taken_only_when_it_is_ours(tmp_path: Path) -> None:
    """Prevents a dump in a directory that somebody else made, opened or redirects."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(Refused, match="link is no directory of its own"):
        private.directory(tmp_path / "link", narrow=True)
    theirs.chmod(0o755)
    # Made by the operator for this.
    assert mode(private.directory(theirs)) == 0o700
    theirs.chmod(0o755)
    (theirs / "theirs").touch()
    with pytest.raises(Refused, match=r"is open to others \(mode 0755, 0700 at most\).*chmod 700"):
        private.directory(theirs)
    # A directory of the program's own name is closed.
    assert mode(private.directory(theirs, narrow=True)) == 0o700
    theirs.chmod(0o777)
    with pytest.raises(Refused, match=r"mode 0777, 0775 at most"):
        private.directory(theirs, narrow=True)
    with pytest.raises(Refused, match="in which every user may put another one in its place"):
        private.directory(theirs / "mine")
    if os.geteuid() == 0:
        theirs.chmod(0o700)
        os.chown(theirs, UID, UID)
        with pytest.raises(Refused, match=f"belongs to user {UID}, not to user 0"):
            private.directory(theirs, narrow=True)


def test_a_planted_file_is_neither_followed_nor_written(tmp_path: Path) -> None:
    """Prevents root from overwriting what a link names, and an event that lands in somebody else's file."""
    place = tmp_path / "state"
    journal = FileJournal(place)
    journal.record("copy", "started")
    assert (mode(place), mode(journal.path)) == (0o700, 0o600)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    journal.path.unlink()
    journal.path.symlink_to(victim)
    with pytest.raises(Refused, match=r"journal\.jsonl is a link"):
        journal.record("copy", "started")
    with pytest.raises(Refused, match=r"journal\.jsonl is a link"):
        list(journal.events())
    journal.path.unlink()
    os.link(victim, journal.path)
    with pytest.raises(Refused, match="2 names"):
        journal.record("copy", "started")
    journal.path.unlink()
    os.mkfifo(journal.path)
    with pytest.raises(Refused, match="no file of this user's alone"):
        list(journal.events())
    journal.path.unlink()
    # The draft's name can be guessed.
    (place / "decision.part").symlink_to(victim)
    private.write(place / "decision", "told")
    assert (victim.read_text(), (place / "decision").read_text()) == ("precious", "told")
    if os.geteuid() == 0:
        (place / "journal.jsonl").write_text("")
        os.chown(place / "journal.jsonl", UID, UID)
        with pytest.raises(Refused, match=f"user {UID}"):
            journal.record("copy", "started")


def test_a_former_versions_files_are_closed(tmp_path: Path) -> None:
    """Prevents a journal that stays open to all because an earlier run made it so."""
    place = tmp_path / "state"
    place.mkdir(0o755)
    (place / "journal.jsonl").write_text("")
    FileJournal(place).record("copy", "started")
    assert (mode(place), mode(place / "journal.jsonl")) == (0o700, 0o600)
    assert readable(files_below(place)) == []
