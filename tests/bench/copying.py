"""Copy, from start to ready, against pgcopydb and against pg_dump with pg_restore."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from typing import Any

from scripts.support import console
from scripts.support.errors import DatabaseError
from tests.bench.figures import Collector, Row, Runs
from tests.bench.servers import Servers, tool, version

PGCOPYDB = "pgcopydb clone"
DUMP = "pg_dump -Fd, pg_restore"
PLAIN_DUMP = "pg_dump -Fd -Z0, pg_restore"
Source = tuple[str, int]


def ours(servers: Servers, source: str, jobs: int) -> dict[str, Any]:
    """One run of ours into a fresh database, in its own process: the facts of :mod:`tests.bench.copy_child`."""
    servers.fresh_target("copied")
    environment = {
        "SOURCE_DATABASE_URL": servers.source.url(source),
        "TARGET_DATABASE_URL": servers.target.url("copied"),
        "TASK_MIGRATION_STATE_DIR": str(servers.directory / "state-copy"),
    }
    _, output = tool([sys.executable, "-m", "tests.bench.copy_child", "--jobs", str(jobs)], environment)
    servers.forget(source, "copied")
    facts: dict[str, Any] = json.loads(output)
    return facts


def pgcopydb(servers: Servers, source: str, jobs: int) -> float:
    """One run of ``pgcopydb clone``, seconds; it makes the schema and analyses by itself."""
    servers.fresh_target("copied")
    work = servers.directory / "pgcopydb"
    shutil.rmtree(work, ignore_errors=True)
    urls = {"PGCOPYDB_SOURCE_PGURI": servers.source.url(source), "PGCOPYDB_TARGET_PGURI": servers.target.url("copied")}
    both = ("--table-jobs", str(jobs), "--index-jobs", str(jobs))
    seconds, _ = tool(["pgcopydb", "clone", "--dir", str(work), *both], urls)
    shutil.rmtree(work, ignore_errors=True)
    return seconds


def dumped(servers: Servers, source: str, jobs: int, *options: str) -> float:
    """One run of parallel pg_dump, pg_restore and vacuumdb --analyze-only, seconds of all three."""
    servers.fresh_target("copied")
    work = servers.directory / "dump"
    shutil.rmtree(work, ignore_errors=True)
    passwords = [{"PGPASSWORD": server.password} for server in (servers.source, servers.target)]
    at = [("-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres") for server in (servers.source, servers.target)]
    many = ("-j", str(jobs))
    total = tool(["pg_dump", *at[0], "-Fd", *many, *options, "-f", str(work), source], passwords[0])[0]
    total += tool(["pg_restore", *at[1], *many, "-d", "copied", str(work)], passwords[1])[0]
    total += tool(["vacuumdb", *at[1], *many, "--analyze-only", "--quiet", "copied"], passwords[1])[0]
    shutil.rmtree(work, ignore_errors=True)
    return total


def measure(servers: Servers, large: Source, small: Source, jobs: int, runs: int) -> list[Row]:
    """The rows of the section; ``large`` and ``small`` are source databases with their number of tasks."""
    seen = Collector()
    failed: dict[str, str] = {}
    peers: dict[str, Callable[[], float]] = {
        DUMP: lambda: dumped(servers, large[0], jobs),
        PLAIN_DUMP: lambda: dumped(servers, large[0], jobs, "-Z0"),
    }
    if version(["pgcopydb"]):
        peers[PGCOPYDB] = lambda: pgcopydb(servers, large[0], jobs)
    else:
        failed[PGCOPYDB] = "not measured: pgcopydb is not on PATH"
    for run in range(1, runs + 1):
        for name, size in (("large", large), ("small", small)):
            facts = ours(servers, size[0], jobs)
            seen.add(name, facts["seconds"])
            seen.add(f"{name} peak", facts["peak_mib"])
            console.say(
                f"copy {run}/{runs}: ours, {size[1]} tasks: {facts['seconds']:.2f} s, {facts['peak_mib']:.0f} MiB"
            )
        for peer, work in peers.items():
            if peer in failed:
                continue
            try:
                seconds = work()
            except DatabaseError as error:
                failed[peer] = f"not measured: {error}"
                console.say(f"copy {run}/{runs}: {failed[peer]}")
                continue
            seen.add(peer, seconds)
            console.say(f"copy {run}/{runs}: {peer}: {seconds:.2f} s")
    return _rows(seen, failed, large, small, jobs)


def _rows(seen: Collector, failed: dict[str, str], large: Source, small: Source, jobs: int) -> list[Row]:
    def one(name: str, peer: str, limit: float | None, note: str) -> Row:
        there = None if peer in failed else seen.get(peer)
        return Row("copy", name, seen.get("large"), there, limit, note=failed.get(peer, note))

    both = f"{jobs} jobs"
    # Per task at the two sizes: 1 when the time is linear, below it when a fixed part of it counts for the small size.
    linear = [
        Runs(f"{count} tasks", "µs a task", tuple(value / count * 1e6 for value in runs.values))
        for name, count in (("large", large[1]), ("small", small[1]))
        if (runs := seen.get(name))
    ]
    return [
        one(f"time against {PGCOPYDB}", PGCOPYDB, 0.75, f"{both}; VACUUM ANALYZE is its own"),
        one(f"time against {DUMP}", DUMP, 0.65, f"{both}, default compression, then vacuumdb --analyze-only"),
        one(f"time against {PLAIN_DUMP}", PLAIN_DUMP, None, f"{both}, no compression, then vacuumdb --analyze-only"),
        Row("copy", f"time a task, {large[1]} against {small[1]} tasks", linear[0], linear[1],
            note="time linear: not above 1"),
        Row("copy", f"peak memory, {large[1]} tasks", seen.get("large peak", "MiB"), _named(seen.get("small peak", "MiB"), f"{small[1]} tasks"), 150,
            judged="value", note=f"peer: the same at {small[1]} tasks; flat when the ratio is 1"),
    ]  # fmt: skip


def _named(runs: Runs | None, name: str) -> Runs | None:
    return Runs(name, runs.unit, runs.values) if runs else None
