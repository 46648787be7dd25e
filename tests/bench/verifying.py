"""Verify when equal, against ``count(*)`` and reladiff, and with scattered differences."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import sql

from components.config import DEFAULT_TABLES
from scripts.copy import run as copy
from scripts.schema import run as schema
from scripts.support import console
from scripts.support.errors import DatabaseError
from scripts.support.settings import Settings
from scripts.verify import run as verify
from tests.bench.figures import Collector, Row
from tests.bench.servers import Servers, tool, version

#: Column and number of rows that are made to differ: together 100, in four tables.
DAMAGE = (("tasks", "title", 60), ("task_images", "file_path", 20), ("scheduled_group_tasks", "title", 10),
          ("scheduled_task_tags", "tag_name", 10))  # fmt: skip
KEYS = {"task_tag": ("task_id", "tag_id")}
RELADIFF = "reladiff"


def _counted(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for table in DEFAULT_TABLES:
            connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()


def count(settings: Settings) -> float:
    """Seconds of ``count(*)`` of all six tables, one after another, on both sides at once."""
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_counted, (settings.source(), settings.target())))
    return time.monotonic() - started


def ours(settings: Settings, differences: int) -> float:
    """Seconds of one verify. Raises DatabaseError when it does not find exactly ``differences``: a wrong run is no figure."""
    started = time.monotonic()
    found = verify.run(settings)
    seconds = time.monotonic() - started
    total = sum(table.differences_total for table in found.tables)
    if total != differences or found.match != (differences == 0):
        raise DatabaseError(f"verify found {total} differences, the limit is exactly {differences}; mend verify first")
    return seconds


def reladiff(settings: Settings, differences: int) -> float:
    """Seconds of reladiff over the six tables, all columns, defaults otherwise; one process a table, as its users run it."""
    total, lines = 0.0, 0
    for table in DEFAULT_TABLES:
        keys = [part for key in KEYS.get(table, ("id",)) for part in ("-k", key)]
        seconds, said = tool([RELADIFF, settings.source(), table, settings.target(), table, *keys, "-c", "%"])
        total += seconds
        lines += sum(line[:1] in "+-" for line in said.splitlines() if line)
    if lines != 2 * differences:
        raise DatabaseError(f"reladiff printed {lines} differing lines, the limit is exactly {2 * differences}")
    return total


def _damage(settings: Settings) -> dict[tuple[str, str], list[int]]:
    """Rows that are to differ: spread over the tables by the hash of their keys, not palindromes."""
    chosen = {}
    with psycopg.connect(settings.target(), autocommit=True) as connection:
        for table, column, number in DAMAGE:
            query = sql.SQL("SELECT id FROM {0} WHERE {1} <> reverse({1}) ORDER BY hashint8(id), id LIMIT {2}")
            rows = connection.execute(query.format(sql.Identifier(table), sql.Identifier(column), sql.Literal(number)))
            chosen[(table, column)] = [row[0] for row in rows]
    return chosen


def _turn(settings: Settings, chosen: dict[tuple[str, str], list[int]]) -> None:
    """Damage the rows on the target; a second time puts them back."""
    with psycopg.connect(settings.target()) as connection:
        for (table, column), ids in chosen.items():
            turn = sql.SQL("UPDATE {0} SET {1} = reverse({1}) WHERE id = ANY(%s)")
            connection.execute(turn.format(sql.Identifier(table), sql.Identifier(column)), (ids,))


def measure(servers: Servers, source: str, jobs: int, runs: int) -> list[Row]:
    """The rows of the section; ``source`` is a database with all ten tables."""
    settings = servers.settings(source, "verified")
    servers.fresh_target("verified")
    schema.apply(settings)
    copy.run(settings, jobs=jobs)
    for url in (settings.source(), settings.target()):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
    chosen = _damage(settings)
    differing = sum(len(ids) for ids in chosen.values())
    seen = Collector()
    note = (
        "all columns, defaults, one process a table" if version([RELADIFF]) else "not measured: reladiff is not on PATH"
    )
    there = bool(version([RELADIFF]))
    if there:
        # Without a driver for PostgreSQL it says so, ends with 0 and would seem very fast: it has to find the damage first.
        _turn(settings, chosen)
        try:
            reladiff(settings, differing)
        except DatabaseError as error:
            there, note = False, f"not measured: {error}; install reladiff with psycopg2 (reladiff[postgresql])"
        _turn(settings, chosen)
    steps: dict[str, Callable[[], float]] = {"equal": lambda: ours(settings, 0), "count(*)": lambda: count(settings)}
    for run in range(1, runs + 1):
        for name, work in steps.items():
            seen.add(name, work())
        if there:
            try:
                seen.add(RELADIFF, reladiff(settings, 0))
            except DatabaseError as error:
                there, note = False, f"not measured: {error}"
        _turn(settings, chosen)
        seen.add("differing", ours(settings, differing))
        _turn(settings, chosen)
        spoken = {name: seen.get(name) for name in (*steps, "differing", RELADIFF)}
        told = ", ".join(f"{name} {value.values[-1]:.2f} s" for name, value in spoken.items() if value)
        console.say(f"verify {run}/{runs}: {told}")
    servers.forget(source, "verified")
    equal = seen.get("equal")
    return [
        Row("verify", "equal, against count(*) on both sides at once", equal, seen.get("count(*)"), 2.5,
            note="verify also compares schemas and sequences and looks up every reference that crosses the border"),
        Row("verify", "equal, against reladiff", equal, seen.get(RELADIFF) if there else None, 1 / 3, note=note),
        Row("verify", f"{differing} scattered differences, against equal", seen.get("differing"), equal, 1.5,
            note="all of them found, key by key"),
    ]  # fmt: skip
