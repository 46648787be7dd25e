"""Replication: write rate and requests with capture and rules, against plain one-way replication; commit to visible; pruning."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import sql

from components.config import DEFAULT_TABLES
from scripts.copy import run as copy
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import fence, writes
from scripts.replication import run as replicate
from scripts.replication.directions import DIRECTIONS
from scripts.schema import run as schema
from scripts.support import console
from scripts.support.errors import DatabaseError
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from tests.bench.figures import Collector, Row, percentile
from tests.bench.servers import Servers, tool

#: How long the writers write in one run, and how long requests are sent for the latency, seconds.
WRITE_SECONDS = 8
LATENCY_SECONDS = 10.0
REQUESTS_PER_SECOND = 50
CLIENTS = 2
#: Longest wait until what was written is visible on the other side, seconds.
DRAIN_SECONDS = 60.0
#: Fences both ways until all that was written before the first is pruned.
ROUNDS = 6
PLAIN = "plain, one way, no rules"
TOLD = (
    PLAIN,
    "rules",
    "rules, both",
    "cpu, plain",
    "cpu",
    "requests, plain",
    "requests",
    "forward 95",
    "reverse 95",
    "pruned",
    "left",
)
#: One transaction: a task is changed and one is made. Sides touch rows of different remainders, so each write counts.
SCRIPT = """\\set at random(:low, :high)
\\set reward random(1, 1000)
BEGIN;
UPDATE tasks SET reward = :reward, updated_at = now()
 WHERE id = (SELECT id FROM tasks WHERE id >= :at AND id % 2 = :side ORDER BY id LIMIT 1);
INSERT INTO tasks (user_id, title, reward, created_at, updated_at) VALUES (:at, 'bench', :reward, now(), now());
COMMIT;
"""


@contextmanager
def _plain(servers: Servers, template: str, jobs: int) -> Iterator[Settings]:
    """A copied pair with one publication and one subscription and nothing of ours left."""
    with _copied(servers, template, jobs) as settings:
        with (
            psycopg.connect(settings.source(), autocommit=True) as source,
            psycopg.connect(settings.target(), autocommit=True) as target,
        ):
            source.execute("SELECT pg_drop_replication_slot(%s)", (settings.config.subscription,))
            source.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(settings.config.publication)))
            for connection in (source, target):
                connection.execute("SET client_min_messages = warning")
                connection.execute("DROP SCHEMA task_migration CASCADE")
            tables = sql.SQL(", ").join(sql.Identifier(table) for table in DEFAULT_TABLES)
            source.execute(sql.SQL("CREATE PUBLICATION plain FOR TABLE {}").format(tables))
            target.execute(
                sql.SQL("CREATE SUBSCRIPTION plain CONNECTION {} PUBLICATION plain WITH (copy_data = false)").format(
                    sql.Literal(settings.source())
                )
            )
        _visible(servers.source, servers.target)
        yield settings


@contextmanager
def _ruled(servers: Servers, template: str, jobs: int) -> Iterator[Settings]:
    """A copied pair with both directions and the conflict rules."""
    with _copied(servers, template, jobs) as settings:
        replicate.start(settings)
        yield settings


@contextmanager
def _copied(servers: Servers, template: str, jobs: int) -> Iterator[Settings]:
    servers.clone("written", template, only_moved=False)
    servers.fresh_target("written")
    settings = servers.settings("written", "written")
    schema.apply(settings)
    copy.run(settings, jobs=jobs)
    try:
        yield settings
    finally:
        servers.forget("written", "written", drop_source=True)


def _visible(first: EmbeddedPostgres, second: EmbeddedPostgres) -> None:
    """Wait until a change made now on ``first`` is on ``second``: all that was committed before it is there then too."""
    with (
        psycopg.connect(first.url("written"), autocommit=True) as there,
        psycopg.connect(second.url("written"), autocommit=True) as here,
    ):
        # A row of its own: two sides that mark the same row would be a conflict, and one mark would rightly be dropped.
        mark = there.execute(
            "INSERT INTO tasks (user_id, title, updated_at) VALUES (1, 'mark', now()) RETURNING id"
        ).fetchone()
        wait_until(
            lambda: here.execute("SELECT id FROM tasks WHERE id = %s", mark).fetchone(),
            lambda row: row is not None,
            what="the last change to be visible on the other side",
            timeout=DRAIN_SECONDS,
            interval=0.005,
        )


def _write(server: EmbeddedPostgres, script: Path, clients: int, side: int, high: int) -> int:
    """Write as fast as the side takes it; returns the number of transactions."""
    command = ["pgbench", "-n", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-c", str(clients), "-T", str(WRITE_SECONDS)]  # fmt: skip
    variables = ["-Dlow=1", f"-Dhigh={high}", f"-Dside={side}"]
    _, said = tool([*command, *variables, "-f", str(script), "written"], {"PGPASSWORD": server.password})
    found = re.search(r"transactions actually processed: (\d+)", said)
    failed = re.search(r"failed transactions: (\d+)", said)
    if found is None or (failed and int(failed.group(1))):
        raise DatabaseError(f"pgbench did not say how many transactions came through; it said: {said[-500:]}")
    return int(found.group(1))


def one_side(servers: Servers, script: Path, high: int) -> tuple[float, float]:
    """Transactions written on the source, until the last of them is visible on the target: how many a second, and the
    milliseconds of CPU that both servers took for each, which others on the machine do not change."""
    started, used = time.monotonic(), _cpu(servers)
    number = _write(servers.source, script, CLIENTS, 0, high)
    _visible(servers.source, servers.target)
    return number / (time.monotonic() - started), 1000 * (_cpu(servers) - used) / number


def _cpu(servers: Servers) -> float:
    """Seconds of CPU of both servers so far, with those of their processes that have ended (Linux, proc_pid_stat)."""
    postmasters = {str(servers.source.pid), str(servers.target.pid)}
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            if path.parent.name in postmasters:
                ticks += sum(map(int, fields[11:15]))  # with the children that have ended
            elif fields[1] in postmasters:
                ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def both_sides(servers: Servers, script: Path, high: int) -> float:
    """Transactions a second written on both sides together, until the last of each is visible on the other."""
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        writers = [
            pool.submit(_write, server, script, CLIENTS // 2, side, high)
            for side, server in enumerate((servers.source, servers.target))
        ]
        number = sum(writer.result() for writer in writers)
    _visible(servers.source, servers.target)
    _visible(servers.target, servers.source)
    return number / (time.monotonic() - started)


def requests(url: str, low: int) -> list[float]:
    """Seconds that each of :data:`REQUESTS_PER_SECOND` requests took, for :data:`LATENCY_SECONDS`: a read, an insert that
    gives its row back, an update, a commit."""
    seconds = []
    with psycopg.connect(url, autocommit=True) as connection:
        started = time.monotonic()
        for number in range(int(LATENCY_SECONDS * REQUESTS_PER_SECOND)):
            time.sleep(max(0.0, started + number / REQUESTS_PER_SECOND - time.monotonic()))
            begun = time.monotonic()
            with connection.transaction():
                at = low + number * 7
                connection.execute("SELECT * FROM tasks WHERE id >= %s ORDER BY id LIMIT 20", (at,)).fetchall()
                connection.execute(
                    "INSERT INTO tasks (user_id, title, created_at, updated_at) VALUES (%s, 'bench', now(), now()) RETURNING *",
                    (at,),
                ).fetchone()
                connection.execute(
                    "UPDATE tasks SET reward = %s, updated_at = now() WHERE id = (SELECT id FROM tasks WHERE id >= %s ORDER BY id LIMIT 1)",
                    (number, at),
                )
            seconds.append(time.monotonic() - begun)
    return seconds


def prune(settings: Settings) -> tuple[float, float]:
    """Records pruned a second, of what the runs before left, and the MiB that both tables have on the source afterwards."""
    number, seconds = 0, 0.0
    for _ in range(ROUNDS):
        for direction in DIRECTIONS:
            fence.through(settings, direction, DRAIN_SECONDS)
        started = time.monotonic()
        done = writes.prune(settings, seconds=DRAIN_SECONDS)
        number, seconds = number + done, seconds + (time.monotonic() - started if done else 0.0)
    with psycopg.connect(settings.source(), autocommit=True) as source:
        source.execute("VACUUM task_migration.source_writes, task_migration.target_writes")
        return number / max(seconds, 1e-9), writes.held(source).bytes / 2**20


class _Watch:
    """Writes on one side at a fixed rate and looks on the other until each write is there."""

    def __init__(self, here: str, there: str, band: int, from_target: bool) -> None:
        self._here, self._there, self._band, self._from_target = here, there, band, from_target
        self._committed: dict[int, float] = {}
        self._written = threading.Event()
        self.seconds: list[float] = []

    def write(self) -> None:
        """Send the requests, evenly spread; each is one committed insert and update."""
        with psycopg.connect(self._here, autocommit=True) as connection:
            started = time.monotonic()
            for number in range(int(LATENCY_SECONDS * REQUESTS_PER_SECOND)):
                time.sleep(max(0.0, started + number / REQUESTS_PER_SECOND - time.monotonic()))
                with connection.transaction():
                    row = connection.execute(
                        "INSERT INTO tasks (user_id, title, created_at, updated_at) VALUES (1, 'bench', now(), now()) RETURNING id"
                    ).fetchone()
                    connection.execute(
                        "UPDATE tasks SET reward = %s, updated_at = now() WHERE id = (SELECT id FROM tasks "
                        "WHERE id >= %s AND id %% 2 = %s ORDER BY id LIMIT 1)",
                        (number, 1 + number * 7, int(self._from_target)),
                    )
                if row is not None:
                    self._committed[int(row[0])] = time.monotonic()
        self._written.set()

    def look(self) -> None:
        """Ask for the newest row of the other side again and again; ids rise in the order of one writer's commits."""
        only = "id >= %s" if self._from_target else "id < %s"
        deadline = time.monotonic() + LATENCY_SECONDS + DRAIN_SECONDS
        with psycopg.connect(self._there, autocommit=True) as connection:
            while not self._written.is_set() or self._committed:
                row = connection.execute(f"SELECT max(id) FROM tasks WHERE {only}".encode(), (self._band,)).fetchone()
                now = time.monotonic()
                newest = int(row[0]) if row and row[0] else 0
                for number in [number for number in self._committed.copy() if number <= newest]:
                    self.seconds.append(max(0.0, now - self._committed.pop(number)))
                if now > deadline:
                    raise DatabaseError(
                        f"{len(self._committed)} writes not visible after {DRAIN_SECONDS:g} s (the limit)"
                    )
                time.sleep(0.005)


def latencies(settings: Settings) -> tuple[list[float], list[float]]:
    """Seconds from commit to visible, forward and reverse, while both sides take their requests at once."""
    band = settings.config.sequence_band_start
    ahead = _Watch(settings.source(), settings.target(), band, from_target=False)
    back = _Watch(settings.target(), settings.source(), band, from_target=True)
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work) for work in (ahead.look, back.look, ahead.write, back.write)]:
            future.result()
    return ahead.seconds, back.seconds


def measure(servers: Servers, template: str, rows: int, jobs: int, runs: int) -> list[Row]:
    """The rows of the section; ``template`` is a source database of ``rows`` tasks that is left as it is."""
    script = servers.directory / "write.sql"
    script.write_text(SCRIPT)
    seen = Collector("transactions/s")
    for run in range(1, runs + 1):
        with _plain(servers, template, jobs):
            seen.add("requests, plain", 1000 * percentile(requests(servers.source.url("written"), 1), 95))
            rate, cost = one_side(servers, script, rows)
            seen.add(PLAIN, rate)
            seen.add("cpu, plain", cost)
        with _ruled(servers, template, jobs) as settings:
            seen.add("requests", 1000 * percentile(requests(servers.source.url("written"), 1), 95))
            rate, cost = one_side(servers, script, rows)
            seen.add("rules", rate)
            seen.add("cpu", cost)
            seen.add("rules, both", both_sides(servers, script, rows))
            ahead, back = latencies(settings)
            for name, values in (("forward", ahead), ("reverse", back)):
                for percent in (50, 95):
                    seen.add(f"{name} {percent}", 1000 * percentile(values, percent))
            for name, value in zip(("pruned", "left"), prune(settings), strict=True):
                seen.add(name, value)
        told = {name: seen.get(name) for name in TOLD}
        console.say(f"replication {run}/{runs}: " + ", ".join(f"{n} {v.values[-1]:.3g}" for n, v in told.items() if v))
    plain, without = seen.get(PLAIN), seen.get("requests, plain", "ms")
    each = f"{CLIENTS} pgbench clients for {WRITE_SECONDS} s, an update and an insert each, until the last is visible"
    result = [
        Row("replication", "both directions with rules, written on the source", seen.get("rules"), plain, 0.6, True,
            note=f"{each}; 0.75 wanted"),
        Row("replication", "the same, half written on each side", seen.get("rules, both"), plain, 0.6, True,
            note=f"{each}; 0.75 wanted"),
        Row("replication", "CPU of both servers, written on the source", seen.get("cpu", "ms a transaction"),
            seen.get("cpu, plain", "ms a transaction"), 1 / 0.6, note="what the rate comes down to where cores are short"),
        Row("replication", "a request with rules, P95", seen.get("requests", "ms"), without, 1.1,
            note=f"{REQUESTS_PER_SECOND} requests/s for {LATENCY_SECONDS:g} s on the source: a read, an insert with RETURNING, an "
            "update, commit"),
        Row("replication", "records of writes pruned", seen.get("pruned", "records/s"), None,
            note="on both sides, compared first; of all that the runs before wrote"),
        Row("replication", "the record of writes afterwards", seen.get("left", "MiB"), None, 64, judged="value",
            note="both tables on the source with their indexes, vacuumed; it is bounded by what is written between two fences"),
    ]  # fmt: skip
    for name in ("forward", "reverse"):
        middle = seen.get(f"{name} 50", "ms")
        note = f"{REQUESTS_PER_SECOND} requests/s on each side at once for {LATENCY_SECONDS:g} s"
        if middle is not None:
            note += f"; P50 {middle.median:.0f} ms; looked every 5 ms"
        result.append(
            Row("replication", f"commit to visible, {name}, P95", seen.get(f"{name} 95", "ms"), None, 1000,
                judged="value", note=note)
        )  # fmt: skip
    return result
