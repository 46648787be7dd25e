"""Our copy in a process of its own, so that its memory is its own: reads the two URLs from the environment, writes JSON."""

from __future__ import annotations

import argparse
import json
import re
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

from components.config import MigrationConfig
from scripts.copy import run as copy
from scripts.schema import run as schema
from scripts.support.settings import load_settings


def peak_mib() -> float:
    """The largest resident memory of this process so far, MiB (proc(5), VmHWM; getrusage(2) where there is no /proc)."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found.group(1)) / 1024
    # Bytes on macOS, KiB elsewhere.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Make the target's schema and copy; prints seconds of both together and the peak memory."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.copy_child", description=__doc__)
    parser.add_argument("--jobs", type=int, required=True)
    options = parser.parse_args()
    # As the peers' users would: no AWS DMS, whose output plugin the wheel's server does not have.
    settings = replace(load_settings(), config=MigrationConfig(replication_engine="native"))
    before = peak_mib()
    started = time.monotonic()
    schema.apply(settings)
    ready = time.monotonic()
    facts = copy.run(settings, jobs=options.jobs)
    done = time.monotonic()
    figures = {
        "seconds": done - started,
        "schema_seconds": ready - started,
        "peak_mib": peak_mib(),
        "start_mib": before,
        "rows": sum(table.rows for table in facts.tables),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
