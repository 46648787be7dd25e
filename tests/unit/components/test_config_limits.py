"""The defaults are the plan's figures, and each number's limit stands where it is said to: the last value is taken, the next refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from components.config import ConfigError, MigrationConfig, aws_id
from components.config_gates import GateLimits
from components.config_stack import StackConfig
from components.config_values import check_smoke_value, known_keys, migration_config, parse, typed
from components.naming import STANDING
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


#: What each key means, as it is said beside what is wrong with it.
MEANS = {key: text for model in (StackConfig, GateLimits) for key, text in known_keys(model).items()}
LONG = "x" * 198


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rollbacklimit_second": 1}, "rollbacklimit_second: unknown key; is rollbackLimitSeconds meant? Remove it or correct its spelling"),
        # By its alias alone: a field's name would be a second spelling of one key.
        ({"live_rule_priority": 5}, "live_rule_priority: unknown key; is liveRulePriority meant? Remove it or correct its spelling"),
        ({"gates": {"cpu_percents": 1}}, "gates.cpu_percents: unknown key; is gates.cpuPercent meant? Remove it or correct its spelling"),
        ({"sourceSecurityGroupIds": 1}, "sourceSecurityGroupIds: unknown key; is sourceSecurityGroupId or operatorSecurityGroupIds meant? Remove it or correct its spelling"),
        ({"watchSeconds": -1}, f"watchSeconds: value -1; limit: Input should be greater than 0. {MEANS['watchSeconds']} Correct it: pulumi config set task-migration:watchSeconds VALUE"),
        ({"gates": {"p95Ms": None}}, f"gates.p95Ms: no value; limit: Input should be a valid number. {MEANS['gates']} Correct it: pulumi config set --path 'task-migration:gates.p95Ms' VALUE"),
        ({"gates": [1]}, f"gates: value [1]; limit: Input should be a valid dictionary or instance of GateLimits. {MEANS['gates']} Correct it in Pulumi.night.yaml"),
        ({"canaryLadder": [1, 101]}, f"canaryLadder.1: value 101; limit: Input should be less than or equal to 100. {MEANS['canaryLadder']} Correct it: pulumi config set --path 'task-migration:canaryLadder[1]' VALUE"),
        ({"canaryLadder": []}, f"canaryLadder: an empty list, which means none; limit: at least 1. {MEANS['canaryLadder']} Correct it in Pulumi.night.yaml; without the key its default counts"),
        ({"copyMemoryMb": {"secure": "v1:x"}}, "copyMemoryMb: encrypted; limit: plain text, as the commands have no key. Correct it: pulumi config set --plaintext task-migration:copyMemoryMb VALUE"),
        ({"copyMemoryMb": {"safe": 1}}, f"copyMemoryMb: value {{'safe': 1}}; limit: Input should be a valid integer. {MEANS['copyMemoryMb']} Correct it in Pulumi.night.yaml"),
        ({"vpcId": ""}, "vpcId: no value; For example vpc-0a1b2c3d. Set it: pulumi config set task-migration:vpcId VALUE"),
        ({"privateSubnetIds": None}, f"privateSubnetIds: no value; {MEANS['privateSubnetIds']} Set it: pulumi config set --path 'task-migration:privateSubnetIds[0]' VALUE"),
        ({"privateSubnetIds": []}, f"privateSubnetIds: no value; {MEANS['privateSubnetIds']} Set it: pulumi config set --path 'task-migration:privateSubnetIds[0]' VALUE"),
        ({"cognitoClientIds": ["a", []]}, f"cognitoClientIds.1: value []; limit: Input should be a valid string. {MEANS['cognitoClientIds']} Correct it in Pulumi.night.yaml"),
        # A default that does not do beside the other values.
        ({"listenerServerName": None}, f"listenerServerName: no value; limit: it is not set, and API Gateway checks the certificate of an HTTPS listener by it. {MEANS['listenerServerName']} Correct it: pulumi config set task-migration:listenerServerName VALUE"),
        # What is wrong is the key itself, which no path names.
        ({"import": {"x": "y"}}, f"import.x: value 'x'; limit: x is nothing that can be taken over; known are {', '.join(one for names in STANDING.values() for one in names)}. {MEANS['import']} Correct it in Pulumi.night.yaml"),
        ({"replicationEngine": LONG}, f"replicationEngine: value '{LONG}'; limit: Input should be 'dms', 'native' or 'none'. {MEANS['replicationEngine']} Correct it: pulumi config set task-migration:replicationEngine VALUE"),
        ({"replicationEngine": f"{LONG}x"}, f"replicationEngine: value '{LONG}x... (201 characters); limit: Input should be 'dms', 'native' or 'none'. {MEANS['replicationEngine']} Correct it: pulumi config set task-migration:replicationEngine VALUE"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_value_limit_meaning_and_remedy(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(StackConfig, {**WHOLE, **values}, "Pulumi.night.yaml")
    assert str(refused.value) == f"Pulumi.night.yaml is not usable:\n  {said}"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tabels": []}, "tabels: unknown key; is tables meant? Remove it or correct its spelling"),
        ({"watchSeconds": -1, "vpcId": 7}, "watchSeconds: value -1; limit: Input should be greater than 0."),
    ],
)
def test_the_part_for_the_database_names_its_file_and_is_not_stopped_by_the_rest(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        migration_config(values, "Pulumi.night.yaml")
    assert str(refused.value).startswith(f"Pulumi.night.yaml is not usable:\n  {said}")


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(
        ConfigError, match=r"is not usable:\n  vpcId: value 'y'; .*\n  listenerPort: value 'x'; [^\n]*$"
    ):
        parse(StackConfig, {**WHOLE, "vpcId": "y", "listenerPort": "x"})


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("copyMemoryMb", "64", 64),
        ("protected", "true", True),
        ("tables", '["a"]', ["a"]),
        ("gates", '{"p95Ms": 1}', {"p95Ms": 1}),
        # Texts are what they are, and so is what says nothing, is no JSON or no key of ours.
        *((key, "64", "64") for key in ("schema", "maxLoad", "no_key")),
        *(("copyMemoryMb", text, text) for text in ("null", "many", "[" * 100_000, "7" * 5000)),
        ("copyMemoryMb", 64, 64),
    ],
)
def test_a_text_is_read_as_its_keys_type(key: str, written: Any, value: Any) -> None:
    """Prevents a schema called 7 that becomes a number, and `null` that means the default."""
    found = typed(key, written)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("value", "secret", "said"),
    [
        ("Aa0_-bcdefghijklmnopqrst", True, None),
        ("abcdefgh" * 16, True, None),
        ("abcdefgh" * 16 + "a", True, "129 characters; limit: 24 to 128 of A-Z, a-z, 0-9, - and _ (the load balancer reads * and ? as wildcards)"),
        ("abcdefgh" * 2 + "abcdefg", True, "23 characters; limit: 24 to 128 of A-Z, a-z, 0-9, - and _ (the load balancer reads * and ? as wildcards)"),
        ("abcdefgh" * 3 + "*", True, "25 characters; limit: 24 to 128 of A-Z, a-z, 0-9, - and _ (the load balancer reads * and ? as wildcards)"),
        ("abcdefgh" * 3, True, None),
        ("abcdefgG" * 3, True, "too few different characters; limit: 8"),
        ("abcdefgh" * 3, False, "stands in the file as plain text; limit: encrypted"),
    ],
)  # fmt: skip
def test_a_smoke_value_that_could_be_guessed_is_refused_and_not_printed(
    value: str, secret: bool, said: str | None
) -> None:
    """Prevents a header by which anybody passes by the canary's weight."""
    if said is None:
        check_smoke_value(value, secret=secret)
        return
    with pytest.raises(ConfigError) as refused:
        check_smoke_value(value, secret=secret)
    remedy = 'Set a new one: pulumi config set --secret task-migration:smokeHeaderValue "$(openssl rand -hex 24)"'
    assert str(refused.value) == f"smokeHeaderValue: {said}. {remedy}"


def test_a_key_that_is_near_to_none_is_named_with_all_there_are() -> None:
    with pytest.raises(ConfigError) as refused:
        migration_config({"bogus": 1}, "Pulumi.night.yaml")
    known = ", ".join(sorted(field.alias or name for name, field in StackConfig.model_fields.items()))
    assert f"bogus: unknown key; known are {known}. Remove it" in str(refused.value)


@pytest.mark.parametrize(
    ("prefix", "value", "good"),
    [
        ("vpc", "vpc-0a1b2c3d", True),
        ("vpc", "vpc-0", True),
        ("vpc", "vpc-", False),
        ("vpc", "vpc-0A", False),
        ("vpc", "sg-0a1b2c3d", False),
        ("vpc", "a-vpc-0a1b2c3d", False),
        ("vpc", "vpc-0a1b2c3d ", False),
    ],
)
def test_an_id_of_aws_is_of_its_kind_and_nothing_else(prefix: str, value: str, good: bool) -> None:
    """Prevents the id of a security group, or of a copied blank with it, from being declared as that of a network."""
    field = aws_id(prefix, "vpc-0a1b2c3d")
    assert field.description == "For example vpc-0a1b2c3d."
    read = TypeAdapter(Annotated[str, field]).validate_python
    if good:
        assert read(value) == value
    else:
        with pytest.raises(ValidationError, match=f"'\\^{prefix}-"):
            read(value)


@pytest.mark.parametrize(
    ("name", "found"), [("tags", ("app", "tags")), ("core.users", ("core", "users")), ("core.a.b", ("core", "a.b"))]
)
def test_a_table_that_stays_is_of_its_own_schema_or_of_the_moved_ones(name: str, found: tuple[str, str]) -> None:
    assert parse(MigrationConfig, {"schema": "app"}).qualified(name) == found


@pytest.mark.parametrize("name", ["a" * 63, "é" * 31 + "a", "a.b c", "x"])
def test_a_name_of_63_bytes_is_an_identifier(name: str) -> None:
    assert parse(MigrationConfig, {"tables": [name], "sourceRole": name}).tables == (name,)


@pytest.mark.parametrize("name", ["a" * 64, "é" * 32, "a\0b", "\0"])
def test_a_name_that_postgresql_would_cut_is_refused(name: str) -> None:
    """Prevents a table that is looked for by another name than was written, and a text that ends at its first NUL."""
    for key, value in (("tables", [name]), ("sourceRole", name), ("droppedForeignKeys", [f"t.{name}"])):
        with pytest.raises(ConfigError) as refused:
            parse(MigrationConfig, {key: value})
        assert f"{name!r} is no identifier: 1 to 63 bytes; correct the name" in str(refused.value)
