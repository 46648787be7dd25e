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


def test_stale_reads_are_summed_by_weight_and_side(tmp_path: Path) -> None:
    """Prevents a report that adds one side's reads to the other's, or one weight's to another's."""
    load = Load(Processes(tmp_path), tmp_path, seed=1)
    assert load.total() is None

    def read(weight: int | None, side: str, reads: int, stale: int) -> dict[str, Any]:
        return {"weight": weight, "side": side, "reads": reads, "stale": stale}

    load._ended = [
        ended(stale_reads=[read(50, "monolith", 7, 2), read(50, "task-service", 6, 1), read(None, "monolith", 3, 0)]),
        ended(stale_reads=[read(50, "task-service", 4, 1), read(5, "monolith", 9, 0)], p95_ms=None),
    ]
    found = load.total()
    assert found is not None
    assert [tuple(one.plain().values()) for one in found.stale_reads] == [
        ("monolith", 5, 9, 0),
        ("monolith", 50, 7, 2),
        ("task-service", 50, 10, 2),
        ("monolith", None, 3, 0),
    ]
    assert (found.requests, found.cut_off, found.lag_misses, found.p95_ms) == (200, 6, 4, 50)
