"""What all loads of a rehearsal come to together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.rehearsal.load import Load
from scripts.rehearsal.processes import Processes


def ended(**change: Any) -> dict[str, Any]:
    """The figures of one load that was stopped."""
    return {
        "requests": 100, "failed": 1, "acknowledged_writes": 40, "lag_misses": 2, "cut_off": 3, "p50_ms": 5, "p95_ms": 50,
        "users": 10, "rate": 20.0, "seconds": 5.0, "stale_reads": [], **change,
    }  # fmt: skip


def test_stale_reads_are_summed_by_weight_side_and_cookies(tmp_path: Path) -> None:
    """Prevents a report that adds one side's reads to the other's, or one weight's to another's."""
    load = Load(Processes(tmp_path), tmp_path, seed=1)
    assert load.total() is None

    def read(weight: int | None, side: str, reads: int, stale: int, cookies: bool = True) -> dict[str, Any]:
        return {"weight": weight, "side": side, "reads": reads, "stale": stale, "cookies": cookies}

    load._ended = [
        ended(stale_reads=[read(50, "monolith", 7, 2), read(50, "task-service", 6, 1), read(None, "monolith", 3, 0)]),
        ended(stale_reads=[read(50, "task-service", 4, 1), read(5, "monolith", 9, 0, False)], p95_ms=None),
        ended(stale_reads=[read(5, "monolith", 3, 1)]),
    ]
    found = load.total()
    assert found is not None
    assert [tuple(one.plain().values()) for one in found.stale_reads] == [
        ("monolith", 5, 9, 0, False),
        ("monolith", 5, 3, 1, True),
        ("monolith", 50, 7, 2, True),
        ("task-service", 50, 10, 2, True),
        ("monolith", None, 3, 0, True),
    ]
    assert (found.requests, found.cut_off, found.lag_misses, found.p95_ms) == (300, 9, 6, 50)
