"""The edge of a canary, in one double: deployment, load balancer, figures, ECS and the alarms' topic. The databases are real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.config import MigrationConfig
from components.config_gates import GateLimits
from scripts.canary import step as canary
from scripts.canary.documents import CanaryStep
from scripts.canary.figures import Observed, Period, Traffic
from scripts.canary.guard import LIVE_RULE, RULE_TYPE
from scripts.canary.ready import ServiceHealth
from scripts.canary.stage import Stage
from scripts.deployment.deployer import Change, UpResult
from scripts.support.settings import Settings

RULE = Change("urn:rule", RULE_TYPE, "routes-live-rule", "update", ("actions",))
OTHER = Change("urn:db", "aws:rds/instance:Instance", "database-instance", "replace", ("engineVersion",))
USERS = Traffic(2000, 0, 0, 12.0, 25.0)
PERIOD = Period(0.0, Traffic(100, 0, 0, 10.0, 20.0), None, 5.0, 5.0, 5.0, 5.0, 90e9, 0.0, 0.1, 2.0, USERS, 0)
#: A watch that is over at its first look, and takes its time by nothing but that.
SHORT: dict[str, Any] = {
    "watch_seconds": 0.05, "period_seconds": 0.01, "metric_delay_seconds": 0.0, "drain_seconds": 0.05,
    "gates": GateLimits(minimum_requests=100, replication_lag_seconds=10.0),
}  # fmt: skip


def figures(**task: Any) -> Observed:
    """Five periods of the Task Service's traffic, changed in these fields."""
    traffic = Traffic(**{**vars(PERIOD.task_service), **task})
    return Observed(0.01, tuple(replace(PERIOD, at=number * 0.01, task_service=traffic) for number in range(5)))


HEALTHY, FAILING, SILENT = figures(), figures(errors=10), figures(requests=3)


class Cloud:
    """What a deployment sets is what the load balancer then says."""

    region = "ap-northeast-1"
    #: Of the Task Service that runs.
    definition: str | None = None

    def __init__(self, weight: int = 0, changes: tuple[Change, ...] = (RULE,), observed: Observed = HEALTHY) -> None:
        self.declared = self.live = weight
        self.changes, self.observed = changes, observed
        self.ups: list[int] = []
        #: What the last preview was of alone.
        self.previewed: str | None = None
        self.notices: list[str] = []
        self.texts: list[str] = []
        self.stopped = False
        self.enabled: object = True
        self.sticky = 0
        self.healthy = 2
        #: Called at each boundary with its name; may raise.
        self.at: Callable[[str], None] = lambda name: None
        #: Seconds since the Task Service last had a request.
        self.idle: Callable[[], float | None] = lambda: 60.0

    def up(self, overrides: Mapping[str, object], only: str | None = None) -> UpResult:
        assert only == LIVE_RULE
        self.at("before up")
        self.declared = int(str(overrides["canaryWeight"]))
        self.at("config set")
        changed = (RULE,) if self.live != self.declared else ()
        self.live = self.declared
        self.ups.append(self.live)
        self.at("up done")
        return UpResult(changed, {})

    def keep(self, overrides: Mapping[str, object]) -> None:
        self.at("keep")
        self.declared = int(str(overrides.get("canaryWeight", self.declared)))
        self.enabled = overrides.get("serviceEnabled", self.enabled)

    def preview(self, overrides: Mapping[str, object], only: str | None = None) -> tuple[Change, ...]:
        self.at("preview")
        self.previewed = only
        return () if overrides["canaryWeight"] == self.live else self.changes

    def outputs(self) -> dict[str, Any]:
        return {}

    def config(self) -> dict[str, Any]:
        return {"canaryWeight": self.declared, "canaryStickySeconds": self.sticky}

    def destroy(self) -> None:
        raise AssertionError("a canary destroys nothing")

    def weight(self) -> int:
        return self.live

    def to_monolith(self) -> None:
        self.at("to monolith")
        self.live = 0

    def confirm(self, weight: int, timeout: float = 30.0) -> None:
        self.at("confirm")
        assert self.live == weight

    def observe(self, since: float) -> Observed:
        self.at("watch")
        periods = tuple(replace(period, at=since + period.at) for period in self.observed.periods)
        return replace(self.observed, periods=periods)

    def idle_seconds(self) -> float | None:
        return self.idle()

    def send(self, settings: Settings, subject: str, text: str) -> None:
        assert isinstance(settings, Settings)
        self.notices.append(subject)
        self.texts.append(text)

    def stop(self) -> None:
        self.stopped = True

    def health(self) -> ServiceHealth:
        self.at("health")
        return ServiceHealth(2, 2, self.healthy, self.healthy, "COMPLETED")


def stage_of(settings: Settings, cloud: Cloud) -> Stage:
    """The databases of ``settings`` below that cloud."""
    return Stage(settings, cloud, cloud, cloud, cloud, cloud.idle_seconds, metrics=cloud)  # type: ignore[arg-type]


def short(settings: Settings, **config: Any) -> Settings:
    """With a watch that is :data:`SHORT`, and these fields."""
    return replace(settings, config=MigrationConfig(**{**settings.config.model_dump(), **SHORT, **config}))


def settings_of(state: Path, **config: Any) -> Settings:
    """Settings without databases."""
    return Settings(
        MigrationConfig(**{**SHORT, **config}), stack="x", source_url=None, target_url=None, state_dir=state
    )


def stepped(at: Stage, **how: Any) -> CanaryStep:
    """One step that is no rollback which was owed."""
    document = canary.step(at, **how)
    assert isinstance(document, CanaryStep)
    return document
