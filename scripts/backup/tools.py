"""The client programs: pg_dump and pg_restore of the server's version or newer, run without a password on the command line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from psycopg import conninfo

from scripts.database.connections import parameters, session_name
from scripts.database.error_text import of_client
from scripts.database.tls import address, stays_here
from scripts.embedded.binaries import bin_path
from scripts.support.errors import DatabaseError, Refused
from scripts.support.process import uninterrupted

#: Bytes of a program's output that are taken at a time.
CHUNK_BYTES = 256 * 1024
#: How often a running program is looked at, seconds.
WATCH_SECONDS = 0.5


def find(program: str, server_major: int, url: str) -> Path:
    """The program of at least the server's major version: the one on PATH, else the wheel's, which speaks no TLS and so goes to
    no other machine than this one.

    The very version goes first: a newer pg_dump writes settings into its archive that an older server does not know.

    Raises:
        Refused: neither is new enough (PostgreSQL, 'pg_dump': it cannot dump from newer servers).
    """
    seen = []
    on_path = shutil.which(program)
    candidates = [Path(on_path)] if on_path else []
    try:
        if stays_here(address(parameters(url, "the database URL"))):
            candidates.append(bin_path() / program)
        else:
            seen.append("the wheel's speaks no TLS, which the way to another machine needs")
    except DatabaseError:
        seen.append("the wheel is not installed")
    majors = [(candidate, version(candidate)) for candidate in candidates]
    for candidate, major in sorted(majors, key=lambda pair: pair[1] != server_major):
        if major >= server_major:
            return candidate
        seen.append(f"{candidate} is {major}")
    raise Refused(
        f"{program}: version {server_major} or newer is needed, as the server's is {server_major}; found: "
        f"{'; '.join(seen) or 'none'}; install postgresql-client-{server_major}"
    )


def version(program: Path) -> int:
    """The program's major version; 0 when it does not say."""
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(found.group(1)) if found else 0


def entries(program: Path, archive: Path) -> list[str]:
    """The table of contents of an archive as `pg_restore --list` prints it, an entry a line. Raises DatabaseError."""
    done = subprocess.run([str(program), "--list", str(archive)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DatabaseError(f"{program.name} cannot read the archive: {of_client(done.stderr, program.name)[-2000:]}")
    return [line for line in done.stdout.splitlines() if line and not line.startswith(";")]


def run(
    program: Path,
    arguments: Sequence[str],
    url: str,
    watch: Callable[[float], None],
    take: Callable[[bytes], None] | None = None,
) -> None:
    """Run a client program; connection details go by ``--dbname`` without the password, which goes by the environment.

    Args:
        watch: called every :data:`WATCH_SECONDS` while it runs, with the seconds since it began; not where its output is taken.
        take: called with what it writes to its standard output, piece by piece; it waits while this takes time.

    Raises:
        DatabaseError: it failed; with its own words, without passwords and values of rows.
        OSError: as ``take`` raises it.
    """
    # In English, as its lines are told from those of a server that quotes rows.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")} | {"LC_ALL": "C"}
    values = parameters(url, "the database URL")
    # Told from other sessions by who looks at the load.
    values["application_name"] = session_name(program.name)
    password = values.pop("password", None)
    if password is not None:
        environment["PGPASSWORD"] = str(password)
    command = [str(program), *arguments, "--dbname", conninfo.make_conninfo("", **values)]
    started = time.monotonic()
    with ExitStack() as left:
        errors = left.enter_context(tempfile.TemporaryFile())
        try:
            with uninterrupted():
                process = left.enter_context(
                    subprocess.Popen(
                        command,
                        stdout=subprocess.DEVNULL if take is None else subprocess.PIPE,
                        stderr=errors,
                        env=environment,
                        umask=0o077,
                    )
                )
                left.callback(process.kill)  # does nothing once it has ended
        except OSError as error:
            raise DatabaseError(f"{program.name} could not be run: {error}; check the client's installation") from None
        if take is not None and process.stdout is not None:
            while data := process.stdout.read(CHUNK_BYTES):
                take(data)
        while True:
            try:
                process.wait(WATCH_SECONDS)
                break
            except subprocess.TimeoutExpired:
                watch(time.monotonic() - started)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if process.returncode:
        raise DatabaseError(
            f"{program.name} failed with status {process.returncode}: {of_client(said, program.name)[-2000:]}"
        )
