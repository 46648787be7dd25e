"""docs/performance.md and build/bench/results.json, from what was measured and nothing else."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from scripts.embedded.postgres_server import EmbeddedPostgres
from tests.bench.figures import Row
from tests.bench.servers import version

TITLES = {
    "copy": "Copy, from start to ready",
    "verify": "Verify",
    "replication": "Replication both ways",
    "start": "Start of a command",
}
#: More processes than cores wanted to run before we began: others used the machine.
BUSY = 0.5


def versions(server: EmbeddedPostgres) -> dict[str, str]:
    """What took part; a program that was not found is named so."""
    with psycopg.connect(server.url()) as connection:
        row = connection.execute("SELECT current_setting('server_version')").fetchone()
    tools = {name: version([name]) or "not on PATH" for name in ("pg_dump", "pgbench", "pgcopydb", "reladiff")}
    return {
        "PostgreSQL": str(row[0]) if row else "unknown",
        **tools,
        "Python": platform.python_version(),
        "psycopg": f"{psycopg.__version__} (libpq {psycopg.pq.version()})",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
    }


def _cells(row: Row) -> tuple[str, ...]:
    if row.value is None:
        return (row.what, "not measured", "", "", "", "", row.note)
    against = f"{row.peer.name}: {row.peer.text()}" if row.peer else "not measured" if row.judged == "ratio" else ""
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
    bound = "at least" if row.at_least else "at most"
    unit = f" {row.value.unit}" if row.judged == "value" else ""
    limit = f"{bound} {round(row.limit, 3):g}{unit}" if row.limit is not None else ""
    verdict = {True: "met", False: "**not met**", None: "not measured" if row.limit is not None else ""}[row.met]
    return (row.what, row.value.text(), against, ratio, limit, verdict, row.note)


def _session(facts: Mapping[str, Any]) -> list[str]:
    shared = (
        ": **it was shared with other work**, so single times are too long and ratios less sure"
        if facts["shared"]
        else ""
    )
    lines = [
        f"{facts['at']}: {facts['rows']} tasks and the other tables in proportion; median of {facts['runs']} runs; "
        f"{facts['jobs']} jobs; {facts['cores']} cores. Load of the machine before the first run: "
        f"{facts['load_before']:.2f}{shared}."
    ]
    if facts["rows"] < 1_000_000 and facts["section"] not in ("replication", "start"):
        lines.append(f"The targets are meant for 1,000,000 tasks; this session had {facts['rows']}.")
    told = (text if name in text else f"{name} {text}" for name, text in facts["versions"].items())
    return [*lines, "", "; ".join(told) + "."]


def kept(page: str) -> dict[str, str]:
    """The sections of a page that stands, by title: a session that measures one leaves the others as they are."""
    return {title: text.strip() for title, _, text in (part.partition("\n") for part in page.split("\n## ")[1:])}


def markdown(sections: Mapping[str, Mapping[str, Any]], before: str = "") -> str:
    """The page; each section tells its own session, as a section may be measured anew alone.

    Args:
        before: the page as it stands; what ``sections`` lacks is taken from it.
    """
    there = kept(before)
    lines = [
        "# Performance",
        "",
        "Written by `make bench` (`python -m tests.bench`); not edited by hand. Two PostgreSQL 16 servers on one machine, data of",
        "`scripts.rehearsal.data`. Ratios are those of medians within one session; in brackets the least and the greatest run.",
    ]
    for section, title in TITLES.items():
        lines += ["", f"## {title}", ""]
        if section not in sections:
            lines.append(there.get(title, "Not measured."))
            continue
        lines += _session(sections[section])
        lines += ["", "| What | Ours | Against | Ratio | Target | | How |", "|---|---|---|---|---|---|---|"]
        cells = [_cells(Row.read(document)) for document in sections[section]["figures"]]
        lines += [
            "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in row) + " |" for row in cells
        ]
    return "\n".join(lines) + "\n"


def shared_before() -> tuple[float, bool]:
    """The load average of the last minute, and whether it says that others use the machine."""
    load = os.getloadavg()[0]
    return load, load > BUSY


def write(section: str, rows: Sequence[Row], facts: Mapping[str, Any], results: Path, page: Path) -> None:
    """Write both files, with their directories; sections that an earlier session measured stay as they are."""
    for path in (results, page):
        path.parent.mkdir(parents=True, exist_ok=True)
    sections = json.loads(results.read_text(encoding="utf-8"))["sections"] if results.exists() else {}
    sections[section] = {**facts, "section": section, "figures": [row.document() for row in rows]}
    results.write_text(json.dumps({"sections": sections}, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    page.write_text(markdown(sections, before), encoding="utf-8")
