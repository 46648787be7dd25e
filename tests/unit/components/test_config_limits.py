"""The defaults are the plan's figures, and each number's limit stands where it is said to: the last value is taken, the next refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from components.config import ConfigError, MigrationConfig
from components.config_gates import GateLimits
from components.config_stack import StackConfig
from components.config_values import migration_config, parse
from tests.unit.components.declared_helpers import FILLED

WHOLE = {**FILLED, "environment": "staging"}
PLAN = Path("docs/plan.md").read_text()
_ABOVE_0, _FROM_0, _FROM_1, _PERCENT = (
    (0, 1e-9, 1e12, None),
    (-1e-9, 0, 1e12, None),
    (0, 1, 10**12, None),
    (0, 1e-9, 100, 100.1),
)
#: By key: refused, taken, taken, refused; None where nothing is too much.
LIMITS: dict[type[BaseModel], dict[str, tuple[Any, Any, Any, Any]]] = {
    StackConfig: {
        # Elastic Load Balancing, 'Listener rules': 1 to 50000, and the smoke rule takes the number before.
        "liveRulePriority": (1, 2, 50000, 50001),
        # AWS DMS, 'Target metadata task settings': LobMaxSize in KB, 100 MB at most.
        "dmsLobMaxSizeKb": (0, 1, 102400, 102401),
        "sequenceBandStart": (0, 1, 2**62 - 1, 2**62),
        "sequenceBandWarnPercent": (0, 1, 99, 100),
        "copyMemoryMb": (63, 64, 65536, 65537),
        **dict.fromkeys(("slotStalledSeconds", "walAllowanceGb", "walRunwayWarnHours", "watchSeconds"), _ABOVE_0),
        **dict.fromkeys(("metricDelaySeconds", "drainSeconds"), _FROM_0),
        "watchRounds": _FROM_1,
        "verifyMaxAgeHours": _ABOVE_0,
        "silentHours": (0, 1e-9, 24, 24.1),
        # docs/plan.md, 'What must be true at the end': back within 5 minutes.
        "rollbackLimitSeconds": (0, 1e-9, 300, 300.1),
        "canaryWeight": (-1, 0, 100, 101),
        "canaryLadder": ([0, 100], [1, 100], [99, 100], [100, 101]),
        # Elastic Load Balancing, 'Sticky sessions': 1 second to 7 days; 0 is none.
        "canaryStickySeconds": (-1, 0, 604800, 604801),
        **dict.fromkeys(("listenerPort", "sourcePort"), (0, 1, 65535, 65536)),
        "dbAllocatedStorageGb": (19, 20, 65536, 65537),
        "dmsAllocatedStorageGb": (4, 5, 6144, 6145),
        "deregistrationDelaySeconds": (-1, 0, 120, 121),
        "databaseAlarmConnections": _FROM_1,
        "stateLockDays": (-1, 0, 3650, 3651),
    },
    GateLimits: {
        **dict.fromkeys(("p50Ms", "p95Ms", "p99Ms", "usersP95Ms", "balancerErrorPercent"), _ABOVE_0),
        **dict.fromkeys(("databaseFreeStorageGb", "slotDiskGb", "replicationLagSeconds"), _ABOVE_0),
        **dict.fromkeys(("errorRatePercent", "usersErrorRatePercent", "cpuPercent", "memoryPercent"), _PERCENT),
        **dict.fromkeys(("databaseCpuPercent", "coveragePercent", "deleteShareLimitPercent"), _PERCENT),
        **dict.fromkeys(("tailRequests", "databaseConnections", "minimumRequests", "minimumPeriodRequests"), _FROM_1),
        **dict.fromkeys(("comparisonRequests", "deleteMinimumRows"), _FROM_1),
        # Beside the default window of 5 periods, which holds them.
        **dict.fromkeys(("breachPeriods", "blindPeriods"), (0, 1, 5, 61)),
        "windowPeriods": (2, 3, 60, 61),
        "significance": (0, 1e-9, 0.5, 0.51),
        "comparisonPeriods": (1, 2, 10**12, None),
        **dict.fromkeys(("worseErrorsPercent", "worseRefusalsPercent"), (-1e-9, 0, 100, 100.1)),
        "worseLatencyRatio": (0.999, 1, 1e12, None),
        "worseLatencyMs": _FROM_0,
    },
}


@pytest.mark.parametrize(
    ("model", "key"), [(model, key) for model, limits in LIMITS.items() for key in limits], ids=lambda one: str(one)
)
def test_a_number_is_taken_up_to_its_limit_and_refused_by_name_past_it(model: type[BaseModel], key: str) -> None:
    """Prevents a rollback that may take an hour, a window of no period, and a share of more than all."""
    below, least, most, above = LIMITS[model][key]
    rest = WHOLE if model is StackConfig else {}
    for value in (least, most):
        taken = parse(model, {**rest, key: value}).model_dump(by_alias=True)[key]
        assert (list(taken) if isinstance(taken, tuple) else taken) == value
    for value in (below, above):
        if value is not None:
            with pytest.raises(ConfigError) as refused:
                parse(model, {**rest, key: value})
            assert f"\n  {key}" in str(refused.value)


def test_the_canary_is_by_default_what_the_plan_wants() -> None:
    config = MigrationConfig()
    said = re.search(
        r"The weight is ([\d, ]+), then (\d+) %\. Each is watched for (\d+) minutes and goes on only while all of this holds: errors < (\d+) %, "
        r"P50 < (\d+) ms, P95 <\s+(\d+) ms, CPU < (\d+) %, memory < (\d+) %",
        PLAN,
    )
    assert said is not None
    first, last, minutes, *limits = said.groups()
    assert config.canary_ladder == (*map(int, first.split(", ")), int(last))
    assert config.watch_seconds == 60 * int(minutes)
    gates = config.gates
    figures = [gates.error_rate_percent, gates.p50_ms, gates.p95_ms, gates.cpu_percent, gates.memory_percent]
    assert figures == [float(limit) for limit in limits]
    # The users' figures and the load balancer's answers are errors and latencies too.
    assert [gates.users_error_rate_percent, gates.balancer_error_percent, gates.users_p95_ms] == [1.0, 1.0, 500.0]


def test_what_moves_and_what_the_sides_are_called_is_by_default_what_the_plan_says() -> None:
    config = MigrationConfig()
    moves = re.findall(r"^\| `(\w+)` \| [\d,]+ or more \| moves \|$", PLAN, re.MULTILINE)
    (stay,) = re.findall(r"^\| (`users`.*?) \| \| stay in the monolith", PLAN, re.MULTILINE)
    assert list(config.tables) == moves
    assert list(config.referenced_tables) == re.findall(r"`(\w+)`", stay)
    assert set(config.dropped_foreign_keys) == set(re.findall(r"^- `(\w+_foreign)`$", PLAN, re.MULTILINE))
    (roles,) = re.findall(r"^\| application's role \| `(\w+)` \| `(\w+)` \|$", PLAN, re.MULTILINE)
    assert (config.source_role, config.target_role) == roles
    (names,) = re.findall(r"publication `(\w+)`, subscription `(\w+)`", PLAN)
    assert (config.publication, config.subscription) == names
    assert re.findall(r"\*\* \(`(\w+)`, the default\)", PLAN) == [config.replication_engine]
    assert re.findall(r"back to the monolith within (\d+) minutes", PLAN) == [f"{config.rollback_limit_seconds / 60:g}"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"rollbacklimit_second": 1},
            "rollbacklimit_second: unknown key; is rollbackLimitSeconds meant? Remove it or correct its spelling",
        ),
        (
            {"gates": {"cpu_percents": 1}},
            "gates.cpu_percents: unknown key; is gates.cpuPercent meant? Remove it or correct its spelling",
        ),
        ({"watchSeconds": -1}, "watchSeconds: value -1; limit: Input should be greater than 0."),
    ],
)
def test_a_key_that_is_wrong_is_named_with_the_file_and_those_that_it_is_near_to(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        migration_config(values, "Pulumi.night.yaml")
    assert str(refused.value).startswith(f"Pulumi.night.yaml is not usable:\n  {said}")


def test_a_key_that_is_near_to_none_is_named_with_all_there_are() -> None:
    with pytest.raises(ConfigError) as refused:
        migration_config({"bogus": 1}, "Pulumi.night.yaml")
    known = ", ".join(sorted(field.alias or name for name, field in StackConfig.model_fields.items()))
    assert f"bogus: unknown key; known are {known}. Remove it" in str(refused.value)
