"""What of a status fails beside the gate's own rules, and whether anybody is left on a service that has no healthy target."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.config import MigrationConfig
from components.config_gates import GateLimits
from scripts.canary import readiness
from scripts.canary.ready import ServiceHealth
from scripts.canary.stage import Stage
from scripts.replication.documents import REMEDY_IN_DETAIL, Finding
from scripts.support.settings import Settings
from tests.unit.status.looks import running


def finding(what: str, status: Any = "fail", remedy: str = "mend it") -> Finding:
    return Finding(status=status, what=what, detail="why", remedy=remedy)


def test_what_fails_is_told_once_with_its_remedy() -> None:
    """Prevents a step up over a FAIL that no rule of its own looks at, and a step that a warning stops."""
    found = running(
        finding("writes"),
        finding("capture", remedy=REMEDY_IN_DETAIL),
        finding("log runway", "warn"),
        # The gate has rules of its own for these.
        finding("schema drift"),
        finding("forward: not running"),
        finding("not running at all"),
    )
    assert readiness._failing(found.status) == (
        "writes: why (remedy: mend it)",
        "capture: why",
        "not running at all: why (remedy: mend it)",
    )


class Service:
    """The edge: how many targets are healthy at each look, the last for ever."""

    def __init__(self, *healthy: int) -> None:
        self.healthy = [*healthy]

    def health(self) -> ServiceHealth:
        count = self.healthy.pop(0) if len(self.healthy) > 1 else self.healthy[0]
        return ServiceHealth(2, 2, count, count, "COMPLETED")


def deserted(tmp_path: Path, service: Service | None) -> tuple[str | None, list[str]]:
    config = MigrationConfig(period_seconds=0.05, gates=GateLimits(blind_periods=3))
    edge: Any = SimpleNamespace()
    stage = Stage(Settings(config, None, None, None, tmp_path), edge, edge, service, metrics=edge)  # type: ignore[arg-type]
    told: list[str] = []
    return readiness.deserted(stage, told.append), told


@pytest.mark.parametrize("service", [None, Service(2), Service(1)])
def test_nobody_waits_where_a_target_is_healthy_or_nobody_can_be_asked(tmp_path: Path, service: Service | None) -> None:
    assert deserted(tmp_path, service) == (None, [])


def test_a_service_is_deserted_when_no_target_was_healthy_for_all_blind_periods(tmp_path: Path) -> None:
    """Prevents users who are left with 503 by a step that was refused, and who are taken back for one look that came early."""
    waits = "no target of the Task Service is healthy; its requests go back unless one is within 0.15 s"
    assert deserted(tmp_path, Service(0, 0, 0, 1)) == (None, [waits])
    why = "no target of the Task Service was healthy for 0.15 s, and it gets requests: 0 tasks run, 2 must; 0 tasks are healthy, 2 must"
    assert deserted(tmp_path, Service(0)) == (why, [waits])
