"""Another user of this machine, who reads what he can."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: `nobody`, who owns nothing.
UID = 65534


@contextmanager
def entered_by_all() -> Iterator[Path]:
    """A directory that a stranger gets to, with an umask that keeps nothing from him; it goes afterwards. pytest's own is closed, and
    closed again whenever another pytest starts."""
    place = Path(tempfile.mkdtemp(prefix="task-migration-tests-"))
    place.chmod(0o755)
    before = os.umask(0)
    try:
        yield place
    finally:
        os.umask(before)
        shutil.rmtree(place, ignore_errors=True)


def readable(paths: Iterable[Path]) -> list[str]:
    """Which of the files a stranger reads. As root we become him in a child process; else the modes say it."""
    files = [str(path) for path in paths]
    if os.geteuid() != 0:
        return [one for one in files if _open_to_others(Path(one))]
    out, inside = os.pipe()
    child = os.fork()
    if child == 0:
        found = []
        try:
            os.setgroups([])
            os.setgid(UID)
            os.setuid(UID)
            for one in files:
                try:
                    with Path(one).open("rb") as file:
                        file.read(1)
                    found.append(one)
                except OSError:
                    continue
            os.write(inside, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(inside)
    with os.fdopen(out, "rb") as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return [str(one) for one in json.loads(said)]


def _open_to_others(path: Path) -> bool:
    way = [one for one in path.resolve().parents if one.exists()]
    return bool(path.stat().st_mode & stat.S_IROTH) and all(one.stat().st_mode & stat.S_IXOTH for one in way)


def files_below(*directories: Path) -> list[Path]:
    """Every file below the directories, whoever owns it."""
    return [Path(folder, name) for top in directories for folder, _, names in os.walk(top) for name in names]
