"""The real program on both engines: the canary's weight moves the live rule and nothing else, and destroy leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.config_values import read_stack_file
from scripts.rehearsal.engine import pulumi_cli
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.engine.pulumi_cli import PulumiDeployer, make_deployer
from scripts.rehearsal.plan import EngineName
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import MigrationError, Refused
from scripts.support.settings import PROJECT_ROOT
from tests.engine_support import (
    ENGINES,
    OUTLIVES,
    OWN_NAME,
    SMOKE_VALUE,
    difference,
    inventory,
    left,
    refreshed,
    stack_config,
    take_down,
    weights,
)

LIVE_RULE = "aws:lb/listenerRule:ListenerRule"


@pytest.fixture
def aws() -> Iterator[EmulatedAws]:
    with EmulatedAws() as running:
        yield running


@pytest.mark.timeout(400)
@pytest.mark.parametrize("engine", ENGINES)
def test_weight_moves_live_rule_only_and_destroy_leaves_only_what_outlives_it(
    engine: EngineName, aws: EmulatedAws, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fails when a deployment touches more than the live rule, moves no weight, or forgets something in the account."""
    config = {**stack_config(build_world(aws)), **OWN_NAME}
    before = inventory(aws)
    deployer = make_deployer(engine, tmp_path, config, aws.environment())

    first = deployer.up({"canaryWeight": 0})
    assert {change.op for change in first.changes} == {"create"}
    monolith, task = str(config["monolithTargetGroupArn"]), str(first.outputs["taskTargetGroupArn"])
    rule = str(first.outputs["liveRuleArn"])
    assert weights(aws, rule) == {monolith: weights(aws, rule)[monolith]}
    assert first.outputs["smokeHeaderValue"] == SMOKE_VALUE
    assert first.outputs["targetEndpoint"].endswith(".rds.amazonaws.com")
    assert first.outputs["targetSecretArn"].startswith("arn:aws:secretsmanager:")
    assert deployer.config()["canaryWeight"] == 0
    assert "smokeHeaderValue" not in deployer.config()

    preview = deployer.preview({"canaryWeight": 5})
    assert [(change.op, change.type, change.properties) for change in preview] == [("update", LIVE_RULE, ("actions",))]
    assert deployer.config()["canaryWeight"] == 0
    assert list(weights(aws, rule)) == [monolith]

    for weight in (5, 25, 50, 100, 0):
        result = deployer.up({"canaryWeight": weight})
        assert [(change.op, change.type) for change in result.changes] == [("update", LIVE_RULE)]
        assert result.outputs["canaryWeight"] == weight
        found = weights(aws, rule)
        if weight in (0, 100):
            assert list(found) == [task if weight else monolith]
        else:
            assert found == {monolith: 100 - weight, task: weight}
        assert deployer.config()["canaryWeight"] == weight
    assert deployer.preview({}) == ()

    standing = inventory(aws)
    # The Pulumi CLI names those that it came to.
    every = r"database-instance.*protected" if engine == "embedded" else "because it is protected"
    with pytest.raises(MigrationError, match=every):
        take_down(deployer)
    assert inventory(aws) == standing

    deployer.up({"protected": False})
    take_down(deployer)
    assert left(before, aws) == OUTLIVES
    assert difference(inventory(aws), before) == {}
    assert SMOKE_VALUE not in "".join(capfd.readouterr())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("stack", "replication"), [("staging", "native"), ("prod", "dms")])
def test_a_second_preview_shows_nothing(
    engine: EngineName, stack: str, replication: str, aws: EmulatedAws, tmp_path: Path
) -> None:
    """Fails when a resource differs from itself for ever: a canary step would be refused for it. Staging with DMS: above."""
    declared = read_stack_file(PROJECT_ROOT / f"Pulumi.{stack}.yaml")
    filled = {key: value for key, value in declared.items() if value not in ("", [], None)}
    config = {**filled, **stack_config(build_world(aws)), "environment": stack, "replicationEngine": replication}
    config |= OWN_NAME if stack == "prod" else {}
    deployer = make_deployer(engine, tmp_path, config, aws.environment())
    made = deployer.up({})
    assert any(change.type.startswith("aws:dms/") for change in made.changes) == (replication == "dms")
    if isinstance(deployer, PulumiDeployer):
        assert refreshed(deployer) == []
    assert deployer.preview({}) == ()


def test_the_real_engine_is_refused_without_its_command(
    aws: EmulatedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a missing Pulumi CLI ends in a trace instead of a remedy, or `auto` does not fall back."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pulumi_cli, "BUILT", tmp_path)
    with pytest.raises(Refused, match="make engine"):
        make_deployer("pulumi", tmp_path, {}, aws.environment())
    with pytest.raises(Refused, match="install it"):
        PulumiDeployer(tmp_path, {}, aws.environment())
    assert isinstance(make_deployer("auto", tmp_path, {}, aws.environment()), EmbeddedDeployer)
