"""Real PostgreSQL 16 servers on this machine, from the wheel: for the rehearsal, the tests and the restore of a backup."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scripts.database.connections import connect
from scripts.embedded.binaries import bin_path, others_may_enter
from scripts.support import private
from scripts.support.errors import DatabaseError, TimedOut
from scripts.support.process import free_port, uninterrupted
from scripts.support.redact import redact, remember_secret
from scripts.support.wait import wait_until

#: PostgreSQL refuses to run as root; the wheel uses this system user then, and so do we.
SYSTEM_USER = "pgserver"
#: What both sides of the migration need, as the RDS parameter groups set it.
DEFAULT_SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",
    "track_commit_timestamp": "on",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_logical_replication_workers": "16",
    "max_worker_processes": "32",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    # A stopped apply worker comes back after this; RDS has the 5 s default.
    "wal_retrieve_retry_interval": "1s",
    # As the declared database: a backup is tried out here, with rows of people.
    "log_error_verbosity": "terse",
}


class EmbeddedPostgres:
    """One PostgreSQL 16 server below ``directory/name``, on 127.0.0.1 with scram passwords, run as a child process.

    ``start`` may be called again after ``stop`` or ``kill``: same data, same port. The constructor touches nothing.
    The superuser is ``postgres`` with :attr:`password`; over the unix socket (data directory, 0700) no password is asked.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        settings: Mapping[str, str] | None = None,
        password: str | None = None,
    ) -> None:
        self.name = name
        self.home = Path(directory).resolve() / name
        self.port = 0
        self.settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def password(self) -> str:
        """The superuser's password: the one given, else a random one that is kept beside the data for a second run."""
        file = self.home / "password"
        if self._password is None:
            self._password = file.read_text() if file.exists() else secrets.token_urlsafe(18)
        return self._password

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.home / "server.log"

    @property
    def pid(self) -> int | None:
        """Process id of the running server, else None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def url(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """Connection string over TCP; without ``password`` the superuser's own is used."""
        secret = self.password if password is None else password
        remember_secret(secret)
        return f"postgresql://{quote(user, safe='')}:{quote(secret, safe='')}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def start(self, timeout: float = 60.0) -> EmbeddedPostgres:
        """Make the data directory if there is none, start the server, wait until it answers.

        Raises:
            DatabaseError: it does not come up within ``timeout`` seconds; with the end of its log.
        """
        if self.pid is not None:
            return self
        self._initialise()
        self._stop_leftover()
        self.port = self.port or free_port()
        options = {**self.settings, "port": str(self.port), "listen_addresses": "127.0.0.1"}
        # Socket paths are limited to 107 bytes; a longer directory goes without one, TCP is always there.
        options["unix_socket_directories"] = str(self.data) if len(str(self.data)) < 80 else ""
        arguments = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        with (
            uninterrupted(),
            os.fdopen(private.descriptor(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as log,
        ):
            self._process = subprocess.Popen(
                [str(bin_path() / "postgres"), "-D", str(self.data), *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.data,
                start_new_session=True,  # Ctrl-C in the terminal is ours to handle, not the server's.
                **self._as_system_user(),
            )
            atexit.register(self.stop)
        server = self._process
        try:
            refusal = wait_until(
                self._refusal,
                lambda refusal: refusal is None or server.poll() is not None,
                what="it answers",
                timeout=timeout,
                interval=0.05,
            )
        except TimedOut as error:
            refusal = str(error)
        if refusal is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            self.stop()
            raise DatabaseError(
                f"the embedded PostgreSQL '{self.name}' did not start in {timeout:g} s: {redact(refusal)}\n{redact(tail)}"
            )
        return self

    def _refusal(self) -> str | None:
        """Why the server takes no connection; None when it does."""
        try:
            connect(self.url(), step="server", connect_timeout=5).close()
        except DatabaseError as error:
            return str(error)
        return None

    def stop(self, timeout: float = 30.0, *, immediate: bool = False) -> None:
        """Fast shutdown (sessions are ended), then, after ``timeout`` seconds, kill. Harmless when it is not running.

        ``immediate``: without a checkpoint, so that the next start recovers from WAL.
        """
        self._end(signal.SIGQUIT if immediate else signal.SIGINT, timeout)

    def remove(self) -> None:
        """Stop the server and delete its data, wherever they were put."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def kill(self) -> None:
        """``kill -9`` of the server and all its children, as a power cut would: the next start recovers from WAL."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._wait_for_children()
        self._process = None
        atexit.unregister(self.stop)

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement of this program's own as superuser, outside a transaction."""
        with connect(self.url(database), step="server") as connection:
            connection.execute(statement.encode())

    def __enter__(self) -> EmbeddedPostgres:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end(self, how: signal.Signals, timeout: float) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # Not before: a Ctrl-C meanwhile leaves it to whoever stops what is left.
        self._process = None
        atexit.unregister(self.stop)

    def _wait_for_children(self) -> None:
        # Orphaned backends notice the postmaster's death and leave; shared memory is free when the last has gone, and
        # a new server refuses to start before.
        with contextlib.suppress(TimedOut):
            wait_until(
                self._members, lambda left: not left, what="the server's processes end", timeout=15.0, interval=0.05
            )

    def _members(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cwd") if Path("/proc/self/cwd").exists() else ():
            with contextlib.suppress(OSError):
                if entry.readlink() == self.data:
                    found.append(int(entry.parent.name))
        return found

    def _environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "TZ") if key in os.environ}
        return {**kept, "LC_ALL": "C"}

    def _as_system_user(self) -> dict[str, Any]:
        """What a child process needs to run without our rights and without our variables."""
        child: dict[str, Any] = {"env": self._environment()}
        if os.geteuid() == 0:
            child |= {"user": SYSTEM_USER, "group": pwd.getpwnam(SYSTEM_USER).pw_gid, "extra_groups": []}
        return child

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **self._as_system_user(),
        )
        if done.returncode:
            raise DatabaseError(
                f"{Path(command[0]).name} failed for '{self.name}': {redact(done.stderr or done.stdout)}"
            )

    def _initialise(self) -> None:
        if os.geteuid() == 0:
            self._ensure_system_user()
        if (self.data / "PG_VERSION").exists():
            return
        self.home.mkdir(private.DIRECTORY, parents=True, exist_ok=True)
        if os.geteuid() == 0 and not others_may_enter(self.home.parent):
            # For example pytest's 0700 directories, or a checkout below /root.
            self.home = Path(tempfile.mkdtemp(prefix=f"task-migration-{self.name}-"))
        secret_file = self.home / "password"
        private.write(secret_file, self.password)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(SYSTEM_USER)
            for path in (self.home, secret_file):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        try:
            self._run(
                [
                    str(bin_path() / "initdb"),
                    *("--pgdata", str(self.data), "--username", "postgres", "--pwfile", str(secret_file)),
                    *("--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
                ]
            )
        except DatabaseError:
            shutil.rmtree(self.data, ignore_errors=True)
            raise

    def _ensure_system_user(self) -> None:
        try:
            pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            made = subprocess.run(
                ["useradd", "-M", "-s", "/bin/false", SYSTEM_USER], capture_output=True, text=True, check=False
            )
            # Another process may have made it in the meantime (status 9).
            if made.returncode not in (0, 9):
                raise DatabaseError(
                    f"PostgreSQL needs a user other than root, and useradd failed: {made.stderr.strip()}"
                ) from None

    def _stop_leftover(self) -> None:
        # A run that was killed leaves its server; it is ours, as its pid stands in our data directory.
        file = self.data / "postmaster.pid"
        if not file.exists():
            return
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(file.read_text().splitlines()[0])
            if pid in self._members():
                os.kill(pid, signal.SIGINT)
                with contextlib.suppress(TimedOut):
                    wait_until(
                        file.exists, lambda there: not there, what="the old server ends", timeout=30.0, interval=0.05
                    )
