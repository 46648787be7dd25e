"""Files and directories that nobody but the operator reads: the one place that makes and opens them.

A file is 0600 in a directory of 0700 from its first byte on. What stands there already is taken only when it is the operator's own: a
link, somebody else's file or directory, or a directory that others may write is refused, as who planted it could read or replace what
comes. A directory of the operator's that others may only read is narrowed where the program named it or nothing lies in it, else refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from scripts.support.errors import Refused

FILE, DIRECTORY = 0o600, 0o700
#: Without O_NOFOLLOW a planted link would be followed, without O_NONBLOCK a planted pipe would be waited for.
_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def directory(path: Path, *, narrow: bool = False) -> Path:
    """Make the directory ``path``, and what is missing above it, with 0700; or make sure that the one there is the operator's alone.

    Args:
        narrow: a directory that others may read is closed to them (for names of the program's own); else only an empty one is, and
            another is refused.

    Raises:
        Refused: it is a link, no directory, another user's, or open to others.
        OSError: it cannot be made.
    """
    for missing in reversed([one for one in (path, *path.parents) if not os.path.lexists(one)]):
        missing.mkdir(DIRECTORY, exist_ok=True)
    narrow = narrow or (path.is_dir() and not any(path.iterdir()))
    refuse_foreign(path, 0o775 if narrow else DIRECTORY)
    above = path.absolute().parent.stat().st_mode
    if above & 0o002 and not above & stat.S_ISVTX:
        raise Refused(
            f"{path} lies in a directory in which every user may put another one in its place; name one elsewhere"
        )
    if narrow:
        path.chmod(DIRECTORY)
    return path


def refuse_foreign(path: Path, widest: int) -> None:
    """Raises Refused unless ``path`` is a directory, no link, of this user, with no more rights than ``widest`` (an octal mode)."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        wrong = "is no directory of its own"
    elif found.st_uid != os.geteuid():
        wrong = f"belongs to user {found.st_uid}, not to user {os.geteuid()}"
    elif stat.S_IMODE(found.st_mode) & 0o777 & ~widest:
        wrong = f"is open to others (mode {stat.S_IMODE(found.st_mode):04o}, {widest:04o} at most)"
    else:
        return
    raise Refused(
        f"{path} {wrong}; nothing is put there or run from there: remove it, chmod 700 it, or name another (TMPDIR for temporary ones)"
    )


def descriptor(path: Path, flags: int) -> int:
    """An open file, 0600, of this user; ``flags`` as of :func:`os.open`.

    Raises:
        Refused: it is a link, no ordinary file, another user's, or has a second name.
        OSError: it cannot be opened.
    """
    if path.is_symlink():
        raise Refused(f"{path} is a link, which this program did not make; remove it")
    opened = os.open(path, flags | _SAFE, FILE)
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
            raise Refused(
                f"{path} is no file of this user's alone (user {found.st_uid}, {found.st_nlink} names); remove it"
            )
        if stat.S_IMODE(found.st_mode) != FILE:
            os.fchmod(opened, FILE)
    except BaseException:
        os.close(opened)
        raise
    return opened


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that has the name ``path`` only when it is whole and on the disk; a killed run leaves ``<name>.part`` at most.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    # What lies there is a killed run's or planted; neither is written to.
    part.unlink(missing_ok=True)
    with os.fdopen(descriptor(part, os.O_RDWR | os.O_CREAT | os.O_EXCL), "wb") as sink:
        yield sink
        sink.flush()
        os.fsync(sink.fileno())
    part.replace(path)


def write(path: Path, text: str) -> None:
    """Put ``text`` (as UTF-8) there, whole or not at all. Raises OSError."""
    with replacing(path) as sink:
        sink.write(text.encode())
