"""The gates' limits in a stack's configuration, and what every part of that has in common. Imports no pulumi."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """camelCase keys; an unknown one is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        validate_default=True,
        defer_build=True,  # a command needs few of the models: what is not used is not built
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML reads `yes` and `on` as true, which counts as 1 where a number is wanted; no list has any.
        wanted = cls.model_fields[str(info.field_name)].annotation in (int, float)
        given = value if isinstance(value, list) else [value] if wanted else []
        if any(isinstance(one, bool) for one in given):
            raise ValueError("a number, not yes or no")
        return value


class GateLimits(Model):
    """Limits a canary step must stay under to go on (docs/plan.md, 'Step 2'), and how sure a judgement has to be."""

    error_rate_percent: float = Field(
        1.0, gt=0, le=100, description="Failed requests (5xx, or no answer at all), percent of all; below it."
    )
    p50_ms: float = Field(200.0, gt=0, description="Median latency in milliseconds; below it.")
    p95_ms: float = Field(500.0, gt=0, description="95th percentile of latency in milliseconds; below it.")
    p99_ms: float = Field(
        2000.0,
        gt=0,
        description="99th percentile in milliseconds, which a P95 does not tell of, of periods and of the whole watch; below it.",
    )
    tail_requests: int = Field(
        100, ge=1, description="A period, or a watch, with fewer requests is not judged by its P99."
    )
    users_error_rate_percent: float = Field(
        1.0, gt=0, le=100, description="API Gateway's 5xx, percent of its requests, whichever side failed; below it."
    )
    users_p95_ms: float = Field(
        500.0,
        gt=0,
        description="95th percentile of API Gateway's latency in milliseconds, of both sides' answers; below it.",
    )
    balancer_error_percent: float = Field(
        1.0,
        gt=0,
        description="5xx that the load balancer answers itself, percent of the API's requests; below it. Others' on a shared one count: raise it there.",
    )
    cpu_percent: float = Field(70.0, gt=0, le=100, description="ECS CPU, percent; below it.")
    memory_percent: float = Field(80.0, gt=0, le=100, description="ECS memory, percent; below it.")
    database_cpu_percent: float = Field(
        70.0, gt=0, le=100, description="CPU of the target database, percent; below it."
    )
    database_connections: int = Field(80, ge=1, description="Connections to the target database; at most so many.")
    database_free_storage_gb: float = Field(
        10.0, gt=0, description="Free storage of the target database, GB; above it."
    )
    slot_disk_gb: float = Field(
        10.0, gt=0, description="WAL that a replication slot holds on either side, GB; below it."
    )
    minimum_requests: int = Field(100, ge=1, description="Fewer requests than this in the watch: hold, never promote.")
    minimum_period_requests: int = Field(
        20, ge=1, description="A period with fewer requests is not judged by its error rate or latency alone."
    )
    breach_periods: int = Field(
        3, ge=1, le=60, description="So many breaches among the last `windowPeriods`: roll back."
    )
    blind_periods: int = Field(
        2,
        ge=1,
        le=60,
        description="So many of them without a healthy target, or without figures of the Task Service while requests come: roll back.",
    )
    window_periods: int = Field(5, ge=1, le=60, description="Length of that window, periods.")
    coverage_percent: float = Field(
        80.0, gt=0, le=100, description="Share of the watch's periods for which each figure must be there to promote."
    )
    significance: float = Field(
        0.01,
        gt=0,
        le=0.5,
        description="Chance of a false alarm in a whole watch, for each comparison with the monolith.",
    )
    comparison_requests: int = Field(
        50, ge=1, description="Least requests of each side for a comparison with the monolith."
    )
    comparison_periods: int = Field(
        10, ge=2, description="Least periods with figures of both sides for a comparison of latencies."
    )
    worse_errors_percent: float = Field(
        0.25, ge=0, le=100, description="5xx above the monolith's by at least this, percentage points, to be worse."
    )
    worse_refusals_percent: float = Field(
        2.0, ge=0, le=100, description="4xx above the monolith's by at least this, percentage points, to be worse."
    )
    worse_latency_ratio: float = Field(
        1.5, ge=1, description="Latency at least so many times the monolith's to be worse."
    )
    worse_latency_ms: float = Field(50.0, ge=0, description="And by at least so many milliseconds.")
    delete_share_limit_percent: float = Field(
        50.0,
        gt=0,
        le=100,
        description="Rows of a table that the Task Service deletes in a minute, percent; below it: else hold, and promote nothing for an hour.",
    )
    delete_minimum_rows: int = Field(
        100, ge=1, description="Fewer deleted rows than this in a minute are never unusual, whatever their share."
    )
    replication_lag_seconds: float = Field(10.0, gt=0, description="A fence must return within this, either way.")

    @field_validator("window_periods")
    @classmethod
    def _window(cls, window: int, info: ValidationInfo) -> int:
        for name in ("breach_periods", "blind_periods"):
            if window < info.data.get(name, 1):
                raise ValueError(f"{window} is below {to_camel(name)} ({info.data[name]}); raise it")
        return window
