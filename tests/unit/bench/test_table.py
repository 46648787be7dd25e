"""docs/performance.md: a section that is measured anew leaves the others as they stand."""

from __future__ import annotations

from typing import Any

from tests.bench.figures import Collector, Row
from tests.bench.table import TITLES, markdown


def session(section: str, seconds: float) -> dict[str, Any]:
    """A section's facts with one figure."""
    measured = Collector()
    measured.add("it", seconds)
    row = Row("start", "it", measured.get("it"), limit=1.0, judged="value")
    facts = {"at": "now", "rows": 1_000_000, "runs": 1, "jobs": 2, "cores": 2, "load_before": 0.0, "shared": False}
    return {**facts, "versions": {}, "section": section, "figures": [row.document()]}


def test_a_section_measured_elsewhere_stays() -> None:
    """Prevents a page that says `Not measured` of what another machine measured the day before."""
    before = markdown({"copy": session("copy", 0.5), "start": session("start", 2.0)})
    after = markdown({"start": session("start", 0.25)}, before)
    assert "0.500 s" in after
    assert "0.250 s" in after
    assert "2.00 s" not in after
    assert "**not met**" not in after
    assert after.count("Not measured.") == 2
    assert [line.removeprefix("## ") for line in after.splitlines() if line.startswith("## ")] == list(TITLES.values())
