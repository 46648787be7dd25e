"""How long a command takes to start: `--help`, a usage error, and a database command up to its first query."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence

import psycopg

from scripts.support.settings import PROJECT_ROOT
from tests.bench.figures import Collector, Row
from tests.bench.servers import Servers

#: Goals, seconds, medians on two cores.
HELP_SECONDS, QUERY_SECONDS = 0.4, 0.7
#: At least so many runs: each is short.
RUNS = 5
PYTHON = "python -c pass"
COMMAND = (sys.executable, "-m", "scripts")
#: Of those that ask the databases at once; none finds a table in an empty one.
DATABASE_COMMANDS = (("preflight",), ("schema", "diff"), ("verify",))


def measure(pair: Servers, runs: int) -> list[Row]:
    """Whole processes from their start on; the peer is an interpreter that does nothing."""
    runs, seconds = max(RUNS, runs), Collector()
    for _ in range(runs):
        seconds.add(PYTHON, _seconds((sys.executable, "-c", "pass")))
        seconds.add("--help", _seconds((*COMMAND, "--help")))
        seconds.add("usage error", _seconds((*COMMAND, "verify", "--no-such-option")))
    _first_queries(pair, runs, seconds)
    return [
        *(_row(name, seconds, HELP_SECONDS, "to its end") for name in ("--help", "usage error")),
        *(
            _row(" ".join(one), seconds, QUERY_SECONDS, "to its first statement at the source")
            for one in DATABASE_COMMANDS
        ),
    ]


def _row(name: str, seconds: Collector, limit: float, note: str) -> Row:
    return Row("start", name, seconds.get(name), seconds.get(PYTHON), limit=limit, judged="value", note=note)


def _seconds(arguments: Sequence[str], environment: dict[str, str] | None = None) -> float:
    started = time.monotonic()
    subprocess.run(
        arguments,
        env=environment,
        cwd=PROJECT_ROOT,
        capture_output=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    return time.monotonic() - started


def _first_queries(pair: Servers, runs: int, seconds: Collector) -> None:
    """From the start of the process to the first statement that the source's server logs (`log_line_prefix`, `%n`)."""
    with psycopg.connect(pair.source.url(), autocommit=True) as connection:
        for statement in (
            "CREATE DATABASE started",
            "ALTER DATABASE started SET log_statement = 'all'",
            "ALTER SYSTEM SET log_line_prefix = '%n %a '",
            "SELECT pg_reload_conf()",
        ):
            connection.execute(statement)
    environment = {
        **os.environ,
        "SOURCE_DATABASE_URL": pair.source.url("started"),
        "TARGET_DATABASE_URL": pair.target.url(),
        "TASK_MIGRATION_STATE_DIR": str(pair.directory / "state-started"),
    }
    for arguments in DATABASE_COMMANDS:
        for _ in range(runs):
            offset, began = pair.source.log.stat().st_size, time.time()
            _seconds((*COMMAND, *arguments), environment)
            logged = pair.source.log.read_bytes()[offset:].decode(errors="replace")
            at = re.findall(r"^(\d+\.\d+) task-migration .* LOG:  (?:statement|execute)", logged, re.MULTILINE)
            seconds.add(" ".join(arguments), min(map(float, at)) - began)
