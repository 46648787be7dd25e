"""Where a backup is tried out: a throw-away server of the wheel, or an empty database that is named; nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.backup import compare
from scripts.database.connections import connect, domain_errors
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.support import private
from scripts.support.errors import Refused, TimedOut
from scripts.support.process import is_alive
from scripts.support.wait import wait_until

#: Directories of ours below the system's temporary one; each holds the id of the process that it belongs to.
PREFIX = "task-migration-backup-"
OWNER = "owner.pid"
#: Nothing of it is kept, so it need not wait for the disk.
QUICK = {"fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0"}
#: The role that a backup is tried out by on a server of our own.
ROLE = "restorer"
#: How long a killed run's server may take to end, seconds.
STOP_SECONDS = 20.0


@contextmanager
def directory() -> Iterator[Path]:
    """A directory of this process, gone afterwards; what killed runs left (a dump, a running server) goes first."""
    sweep()
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        private.write(path / OWNER, str(os.getpid()))
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(root: Path | None = None) -> list[Path]:
    """Remove the directories of runs that are no more, and stop their servers; returns what was removed."""
    gone = []
    for path in sorted((root or Path(tempfile.gettempdir())).glob(f"{PREFIX}*")):
        with contextlib.suppress(OSError, ValueError):
            if path.lstat().st_uid != os.geteuid() or is_alive(int((path / OWNER).read_text())):
                continue
            _stop_server(path / "scratch" / "data")
            if _removed(path):
                gone.append(path)
    return gone


def _removed(path: Path) -> bool:
    """Remove a directory in which the last processes of a stopped server may still write; whether it is gone."""

    def there() -> bool:
        shutil.rmtree(path, ignore_errors=True)
        return path.exists()

    with contextlib.suppress(TimedOut):
        wait_until(there, lambda found: not found, what=f"{path} to be gone", timeout=STOP_SECONDS, interval=0.05)
    return not path.exists()


def _stop_server(data: Path) -> None:
    file = data / "postmaster.pid"
    if not file.exists():
        return
    pid = int(file.read_text().splitlines()[0])
    # The number may be another process's by now: ours works in that data directory.
    if Path(f"/proc/{pid}/cwd").resolve() != data.resolve():
        return
    os.kill(pid, signal.SIGQUIT)
    with contextlib.suppress(TimedOut):
        wait_until(
            lambda: is_alive(pid), lambda runs: not runs, what=f"server {pid}", timeout=STOP_SECONDS, interval=0.05
        )


@dataclass(frozen=True)
class Place:
    """An empty database by its connection string, and what makes its role a superuser, or none, where the server is ours."""

    url: str
    empower: Callable[[bool], None] | None = None


@contextmanager
def database(url: str | None, encoding: str) -> Iterator[Place]:
    """An empty database of an encoding: the one given, or one on a server that lives as long as this.

    That server has a directory of its own: its user has to get through to its data, and must not find the dump on the way.

    Raises:
        Refused: the given database is not empty, or of another encoding.
    """
    if url is not None:
        refuse_unfit(url, "the scratch database", encoding)
        yield Place(url)
        return
    with directory() as home:
        if os.geteuid() == 0:
            home.chmod(0o711)
        with EmbeddedPostgres(home, "scratch", settings=QUICK) as server:
            password = secrets.token_urlsafe(18)
            server.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'")
            server.execute(f"CREATE DATABASE restored OWNER {ROLE} TEMPLATE template0 ENCODING '{encoding}'")
            # Our own functions, which a backup made after `copy` holds, set these (scripts/writes/apply.sql).
            server.execute(f"GRANT SET ON PARAMETER session_replication_role, deadlock_timeout TO {ROLE}")
            yield Place(
                server.url("restored", ROLE, password),
                lambda may: server.execute(f"ALTER ROLE {ROLE} {'SUPERUSER' if may else 'NOSUPERUSER'}"),
            )


def refuse_unfit(url: str, what: str, encoding: str, force: bool = False) -> None:
    """Raises Refused when the database is of another encoding, or, without ``force``, holds tables, views or sequences of its own."""
    with domain_errors(f"looking into {what}"), connect(url, step="restore", name=what) as connection:
        held = [] if force else compare.own_relations(connection)
        name = connection.info.dbname
        found = connection.info.parameter_status("server_encoding")
    if found != encoding:
        raise Refused(
            f"{what} {name!r} is of encoding {found}, the backup's is {encoding}: its texts would be other bytes; name one of the same: "
            f"CREATE DATABASE ... TEMPLATE template0 ENCODING '{encoding}'"
        )
    if held:
        shown = ", ".join(held[:5]) + (f" and {len(held) - 5} more" if len(held) > 5 else "")
        raise Refused(
            f"{what} {name!r} is not empty: it holds {shown}; the limit is an empty database: CREATE DATABASE another and "
            "name that, or have its objects replaced with --force"
        )
