"""The real program on both engines: the canary's weight moves the live rule and nothing else, and destroy leaves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.rehearsal.engine import EmbeddedDeployer
from scripts.rehearsal.engine_pulumi import PulumiDeployer, make_deployer
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import Refused
from tests.engine_support import SMOKE_VALUE, difference, inventory, stack_config, weights

LIVE_RULE = "aws:lb/listenerRule:ListenerRule"


@pytest.fixture
def aws() -> Iterator[EmulatedAws]:
    with EmulatedAws() as running:
        yield running


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "engine",
    [
        "embedded",
        pytest.param(
            "pulumi",
            marks=[
                pytest.mark.engine,
                pytest.mark.skipif(shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH"),
            ],
        ),
    ],
)
def test_weight_moves_live_rule_only_and_destroy_leaves_nothing(
    engine: str, aws: EmulatedAws, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fails when a deployment touches more than the live rule, moves no weight, or forgets something in the account."""
    config = stack_config(build_world(aws))
    before = inventory(aws)
    deployer = make_deployer("embedded" if engine == "embedded" else "pulumi", tmp_path, config, aws.environment())

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
    assert [(change.op, change.type, change.properties) for change in preview.changes] == [
        ("update", LIVE_RULE, ("actions",))
    ]
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
    assert deployer.preview({}).changes == ()

    standing = inventory(aws)
    with pytest.raises(Refused, match=r"database-instance.*protected"):
        deployer.destroy()
    assert inventory(aws) == standing

    deployer.destroy(force_unprotect=True)
    assert difference(before, inventory(aws)) == {}
    assert difference(inventory(aws), before) == {}
    assert SMOKE_VALUE not in "".join(capfd.readouterr())


def test_the_real_engine_is_refused_without_its_command(
    aws: EmulatedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a missing Pulumi CLI ends in a trace instead of a remedy, or `auto` does not fall back."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="install it"):
        make_deployer("pulumi", tmp_path, {}, aws.environment())
    with pytest.raises(Refused, match="install it"):
        PulumiDeployer(tmp_path, {}, aws.environment())
    assert isinstance(make_deployer("auto", tmp_path, {}, aws.environment()), EmbeddedDeployer)
