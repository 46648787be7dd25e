"""The defaults of the configuration are the plan's: who fills nothing in carries out what docs/plan.md says."""

from __future__ import annotations

import re
from pathlib import Path

from components.config import MigrationConfig
from components.config_stack import StackConfig
from tests.unit.components.declared_helpers import FILLED

PLAN = (Path(__file__).parents[3] / "docs" / "plan.md").read_text(encoding="utf-8")
CONFIG = MigrationConfig()


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables of a chapter, without marks of code at their ends."""
    _, _, text = PLAN.partition(f"\n## {heading}\n")
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


def code(text: str) -> list[str]:
    """What stands in marks of code."""
    return re.findall(r"`([^`]+)`", text)


def test_what_moves_and_what_stays_is_the_plans() -> None:
    """Prevents a seventh table, or a key that is dropped beside the eight that cross the border."""
    data = rows("The data")
    assert CONFIG.tables == tuple(name for name, _, where in data if where == "moves")
    assert len(CONFIG.tables) == 6
    (stay,) = [name for name, _, where in data if where.startswith("stay")]
    assert list(CONFIG.referenced_tables) == stay.replace("`", "").split(", ")
    _, _, listed = PLAN.partition("Eight foreign keys cross the new border")
    assert list(CONFIG.dropped_foreign_keys) == re.findall(r"^- `(\w+)`$", listed.partition("\n\nForeign")[0], re.M)
    assert len(CONFIG.dropped_foreign_keys) == 8


def test_the_names_of_both_sides_are_the_plans() -> None:
    config = StackConfig.model_validate({**FILLED, "environment": "prod"})
    table = {name: (source, target) for name, source, target in (row for row in rows("The data") if len(row) == 3)}
    assert table["database"] == (config.source_database, config.target_database)
    assert table["application's role"] == (config.source_role, config.target_role)
    native = next(line for line in PLAN.splitlines() if line.startswith("   - **PostgreSQL logical replication**"))
    assert code(native)[1:3] == [CONFIG.publication, CONFIG.subscription]


def test_the_canary_is_the_plans() -> None:
    """Prevents a weight that is left out, a shorter watch, and a gate that lets more through."""
    (said,) = re.findall(
        r"The weight is (.+?) %\. Each is watched for (\d+) minutes .*?: (.+?)\.", " ".join(PLAN.split())
    )
    weights, minutes, limits = said
    assert list(CONFIG.canary_ladder) == [int(number) for number in re.findall(r"\d+", weights)]
    assert CONFIG.watch_seconds == 60 * float(minutes)
    (back,) = re.findall(r"\| rollback \| .*within (\d+) minutes", PLAN)
    assert CONFIG.rollback_limit_seconds == 60 * float(back)
    found = {name: float(limit) for name, limit in re.findall(r"(\w+) < (\d+)", limits)}
    gates = CONFIG.gates
    assert found == {
        "errors": gates.error_rate_percent,
        "P50": gates.p50_ms,
        "P95": gates.p95_ms,
        "CPU": gates.cpu_percent,
        "memory": gates.memory_percent,
    }
