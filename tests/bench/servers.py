"""The two servers of a session, their databases, and the tools that are run against them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from components.config import DEFAULT_DROPPED_FOREIGN_KEYS, DEFAULT_REFERENCED_TABLES, DEFAULT_TABLES, MigrationConfig
from scripts.embedded.binaries import bin_path
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.data.fill import populate
from scripts.rehearsal.data.schema import create_source_schema
from scripts.support.errors import DatabaseError
from scripts.support.redact import redact
from scripts.support.settings import Settings
from scripts.support.wait import wait_until

#: Longest time for one run of a peer, seconds: a peer that hangs must not hang the session.
PEER_SECONDS = 1800.0


@dataclass
class Servers:
    """A source and a target server and a directory for what the tools write."""

    source: EmbeddedPostgres
    target: EmbeddedPostgres
    directory: Path

    def settings(self, source: str, target: str) -> Settings:
        """Settings of a migration from one database to another, with the configuration's defaults."""
        return Settings(
            config=MigrationConfig(replication_engine="native"),
            stack=None,
            source_url=SecretStr(self.source.url(source)),
            target_url=SecretStr(self.target.url(target)),
            state_dir=self.directory / f"state-{target}",
        )

    def fill(self, name: str, rows: int) -> None:
        """Make the source database ``name`` with all ten tables."""
        self.source.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(self.source.url(name), autocommit=True) as connection:
            create_source_schema(connection)
            populate(connection, rows)

    def clone(self, name: str, template: str, only_moved: bool = True) -> None:
        """A source database like ``template``; ``only_moved`` leaves the six tables alone, free of keys that lead out.

        So the tools of others, which move whole databases, move what we move and nothing else.
        """
        self.source.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        if only_moved:
            with psycopg.connect(self.source.url(name), autocommit=True) as connection:
                for key in DEFAULT_DROPPED_FOREIGN_KEYS:
                    table = next(table for table in DEFAULT_TABLES if key.startswith(f"{table}_"))
                    connection.execute(
                        sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(sql.Identifier(table), sql.Identifier(key))
                    )
                for table in DEFAULT_REFERENCED_TABLES:
                    connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(table)))
                connection.execute("VACUUM ANALYZE")

    def fresh_target(self, name: str) -> None:
        """An empty target database."""
        self.target.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.target.execute(f"CREATE DATABASE {name}")
        # What the last run left in memory is written now, not during the next one.
        self.target.execute("CHECKPOINT")
        self.source.execute("CHECKPOINT")

    def forget(self, source: str, target: str, drop_source: bool = False) -> None:
        """Remove slots, subscriptions, publications and our schema, then the target database."""
        for server, name in ((self.source, source), (self.target, target)):
            with psycopg.connect(server.url(name), autocommit=True) as connection:
                _unsubscribe(connection)
        for server, name in ((self.source, source), (self.target, target)):
            with psycopg.connect(server.url(name), autocommit=True) as connection:
                _unslot(connection, name)
                if server is self.source and not drop_source:
                    for row in connection.execute("SELECT pubname FROM pg_publication").fetchall():
                        connection.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(row[0])))
                    connection.execute("SET client_min_messages = warning")
                    connection.execute("DROP SCHEMA IF EXISTS task_migration CASCADE")
        self.target.execute(f"DROP DATABASE {target} WITH (FORCE)")
        if drop_source:
            self.source.execute(f"DROP DATABASE {source} WITH (FORCE)")


def _unsubscribe(connection: psycopg.Connection[Any]) -> None:
    for (name,) in connection.execute(
        "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()"
    ).fetchall():
        for action in ("DISABLE", "SET (slot_name = NONE)"):
            connection.execute(sql.SQL("ALTER SUBSCRIPTION {} " + action).format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.Identifier(name)))


def _unslot(connection: psycopg.Connection[Any], database: str) -> None:
    wait_until(
        lambda: connection.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active",
            (database,),
        ).fetchall(),
        lambda ended: not ended,
        what="slots to be free",
        timeout=20,
    )
    connection.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", (database,)
    )


@contextmanager
def running() -> Iterator[Servers]:
    """Two fresh servers, stopped and removed at the end, whatever happens."""
    directory = Path(tempfile.mkdtemp(prefix="task-migration-bench-"))
    # PostgreSQL's system user must be able to enter when we are root.
    directory.chmod(0o755)
    try:
        with EmbeddedPostgres(directory, "source") as source, EmbeddedPostgres(directory, "target") as target:
            yield Servers(source, target, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def tool(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Run a program to its end; returns its seconds and standard output. The wheel's programs come first on PATH.

    Raises:
        DatabaseError: it fails, with the end of what it said.
    """
    path = f"{bin_path()}{os.pathsep}{os.environ.get('PATH', '')}"
    started = time.monotonic()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=PEER_SECONDS,
        env={**os.environ, "PATH": path, **(environment or {})},
    )
    seconds = time.monotonic() - started
    if done.returncode:
        said = redact((done.stderr or done.stdout)[-2000:])
        raise DatabaseError(f"{Path(command[0]).name} ended with {done.returncode}, the limit is 0; it said: {said}")
    return seconds, done.stdout


def version(command: Sequence[str]) -> str | None:
    """The first line of a program's ``--version``, or None when it is not on PATH."""
    path = f"{bin_path()}{os.pathsep}{os.environ.get('PATH', '')}"
    found = shutil.which(command[0], path=path)
    if found is None:
        return None
    done = subprocess.run([found, *command[1:], "--version"], capture_output=True, text=True, check=False, timeout=60)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"
