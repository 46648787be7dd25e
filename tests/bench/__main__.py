"""``python -m tests.bench [--rows N] [--runs 3] [--only copy|verify|replication|start]``: measures, writes, never fails a figure."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.support import console
from scripts.support.errors import UsageError
from scripts.support.settings import PROJECT_ROOT
from tests.bench import copying, replicating, servers, starting, table, verifying

SECTIONS = ("copy", "verify", "replication", "start")
#: A write's cost does not depend on the number of rows beyond this, and each run makes a pair anew.
REPLICATION_ROWS = 100_000


def main() -> None:
    """Measure the sections, then write build/bench/results.json and docs/performance.md (or the files named)."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rows", type=int, default=1_000_000, help="number of tasks (default 1000000)")
    parser.add_argument("--small-rows", type=int, help="tasks of the smaller copy, for memory and linearity (a tenth)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each figure; the median counts (default 3)")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="measure this section only; may be repeated")
    parser.add_argument("--results", type=Path, default=PROJECT_ROOT / "build" / "bench" / "results.json")
    parser.add_argument("--page", type=Path, default=PROJECT_ROOT / "docs" / "performance.md")
    options = parser.parse_args()
    # A plain `kill` ends the servers too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.rows < 100 or options.runs < 1:
        raise UsageError(f"rows {options.rows}, runs {options.runs}: the limits are 100 and 1 or more; raise them")
    wanted = tuple(options.only or SECTIONS)
    cores = os.cpu_count() or 2
    jobs = max(2, min(4, cores))
    small, changed = options.small_rows or options.rows // 10, min(options.rows, REPLICATION_ROWS)
    load, shared = table.shared_before()
    with servers.running() as pair:
        facts: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "rows": options.rows,
            "runs": options.runs,
            "jobs": jobs,
            "cores": cores,
            "load_before": load,
            "shared": shared,
            "versions": table.versions(pair.source),
        }
        console.say(f"making the data: {options.rows} tasks")
        if "copy" in wanted or "verify" in wanted:
            pair.fill("whole", options.rows)
        if "copy" in wanted:
            pair.clone("moved", "whole")
            pair.fill("whole_small", small)
            pair.clone("moved_small", "whole_small")
            rows = copying.measure(pair, ("moved", options.rows), ("moved_small", small), jobs, options.runs)
            table.write("copy", rows, facts, options.results, options.page)
        if "verify" in wanted:
            rows = verifying.measure(pair, "whole", jobs, options.runs)
            table.write("verify", rows, facts, options.results, options.page)
        if "replication" in wanted:
            pair.fill("changed_whole", changed)
            pair.clone("changed", "changed_whole")
            rows = replicating.measure(pair, "changed", changed, jobs, options.runs)
            table.write("replication", rows, {**facts, "rows": changed}, options.results, options.page)
        if "start" in wanted:
            rows = starting.measure(pair, options.runs)
            table.write(
                "start", rows, {**facts, "runs": max(starting.RUNS, options.runs)}, options.results, options.page
            )
    sys.stdout.write(json.dumps({"results": str(options.results), "page": str(options.page)}) + "\n")


if __name__ == "__main__":
    main()
