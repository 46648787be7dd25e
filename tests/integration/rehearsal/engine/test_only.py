"""What is deployed and what is not, on both engines: one resource alone, what is protected, the difference that comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pulumi.automation import CommandError

from scripts.canary import guard
from scripts.deployment.deployer import Deployer
from scripts.rehearsal.engine.pulumi_cli import PulumiDeployer, make_deployer
from scripts.rehearsal.plan import EngineName
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import MigrationError, Refused
from tests.engine_support import ENGINES, SMOKE_VALUE, write_program

PROGRAM = """
config = pulumi.Config('task-migration')
weight = config.require_int('canaryWeight')
rule = aws.cloudwatch.LogGroup('rule', name='/rule', retention_in_days=7, tags={'weight': str(weight)})
other = aws.cloudwatch.LogGroup('other', name='/other', retention_in_days=DAYS, tags={'v': config.require_secret('smokeHeaderValue')})
pulumi.export('canaryWeight', weight)
pulumi.export('rule', rule.name)
pulumi.export('other', other.name)
"""
GONE = "aws.cloudwatch.LogGroup('gone', name='/gone')\n"
FRESH = "aws.cloudwatch.LogGroup('fresh', name='/fresh')\n"
#: AWS adds blocked encryption types, which this does not declare.
RECURRING = """
bucket = aws.s3.Bucket('bucket', bucket='a-bucket')
aws.s3.BucketServerSideEncryptionConfiguration('encryption', bucket=bucket.id,
    rules=[{'apply_server_side_encryption_by_default': {'sse_algorithm': 'AES256'}}])
"""
Make = Callable[[str], Deployer]


@pytest.fixture(params=ENGINES)
def make(request: pytest.FixtureRequest, aws: EmulatedAws, tmp_path: Path) -> Make:
    """A deployer on the test's engine of the program given as text; a later call goes on with the same state."""
    engine: EngineName = request.param
    aws.reset()

    def build(body: str) -> Deployer:
        program = write_program(tmp_path / "program", body)
        config = {"canaryWeight": 0, "smokeHeaderValue": SMOKE_VALUE}
        return make_deployer(engine, tmp_path / "engine", config, aws.environment(), program=program)

    return build


def groups(aws: EmulatedAws) -> dict[str, int]:
    found = aws.client("logs").describe_log_groups()["logGroups"]
    return {group["logGroupName"]: group.get("retentionInDays", 0) for group in found}


def test_what_waits_beside_the_one_resource_is_not_deployed(make: Make, aws: EmulatedAws) -> None:
    """Fails when a step or a rollback at night deploys, on the way, whatever was merged since the last deployment."""
    make(PROGRAM.replace("DAYS", "7") + GONE).up({})
    deployer = make(PROGRAM.replace("DAYS", "14") + FRESH)
    waiting = {("update", "other"), ("create", "fresh"), ("delete", "gone")}
    assert {(change.op, change.name) for change in deployer.preview({})} == waiting

    assert [change.name for change in deployer.preview({"canaryWeight": 5}, only="rule")] == ["rule"]
    done = deployer.up({"canaryWeight": 5}, only="rule")
    assert [(change.op, change.name, change.properties) for change in done.changes] == [("update", "rule", ("tags",))]
    assert done.outputs == {"canaryWeight": 5, "rule": "/rule", "other": "/other"}
    assert deployer.outputs()["canaryWeight"] == 5
    assert groups(aws) == {"/rule": 7, "/other": 7, "/gone": 0}
    assert deployer.config()["canaryWeight"] == 5

    assert {(change.op, change.name) for change in deployer.preview({})} == waiting
    with pytest.raises(Refused, match=r"fresh is not deployed, so nothing can be changed alone; .* pulumi up"):
        deployer.up({}, only="fresh")
    deployer.up({})
    assert groups(aws) == {"/rule": 7, "/other": 14, "/fresh": 0}


def test_a_difference_that_comes_back_is_told_from_one_that_waits(make: Make) -> None:
    """Fails when the operator is sent to `pulumi up` for a difference that it never settles, or away from one that it does."""
    make(PROGRAM.replace("DAYS", "7") + RECURRING).up({})
    deployer = make(PROGRAM.replace("DAYS", "14") + RECURRING)
    for _ in range(2):
        found = {change.name: change for change in deployer.preview({})}
        assert (found["encryption"].properties, found["encryption"].recurring) == (("rules",), ("rules",))
        texts = guard.beside(found.values())
        assert any("encryption" in text and "ignore_changes" in text for text in texts)
        deployer.up({"canaryWeight": 5}, only="rule")
    assert (found["other"].properties, found["other"].recurring) == (("retentionInDays",), ())
    deployer.up({})
    assert [change.name for change in deployer.preview({})] == ["encryption"]


def test_a_secret_that_changed_is_not_taken_for_one_that_comes_back(make: Make) -> None:
    """Fails when two secrets that the engine hides are called the same."""
    make(PROGRAM.replace("DAYS", "7")).up({})
    secret = "require_secret('smokeHeaderValue')"
    deployer = make(PROGRAM.replace("DAYS", "7").replace(secret, f"{secret}.apply(str.upper)"))
    (found,) = deployer.preview({})
    assert (found.name, found.properties, found.recurring) == ("other", ("tags",), ())


def test_what_is_protected_keeps_the_whole_deployment_from_beginning(make: Make, aws: EmulatedAws) -> None:
    """Fails when replication is declared away while it runs, and all else of that deployment is done before the refusal."""
    kept = "aws.cloudwatch.LogGroup('kept', name='/kept', opts=pulumi.ResourceOptions(protect=True))\n"
    make(PROGRAM.replace("DAYS", "7") + kept).up({})
    for without in ("", kept.replace("/kept", "/other")):
        deployer = make(PROGRAM.replace("DAYS", "14") + FRESH + without)
        with pytest.raises(MigrationError, match="protect"):
            deployer.up({"canaryWeight": 5})
        assert groups(aws) == {"/rule": 7, "/other": 7, "/kept": 0}
        assert deployer.config()["canaryWeight"] == 0
        if isinstance(deployer, PulumiDeployer):
            # What deploy.yml runs.
            words = ["up", "--yes", "--diff", "--suppress-outputs", "--stack", deployer.stack]
            with pytest.raises(CommandError, match="protect"):
                deployer._command.run(words, str(deployer.directory), deployer._environment)
            assert groups(aws) == {"/rule": 7, "/other": 7, "/kept": 0}
    make(PROGRAM.replace("DAYS", "14") + kept).up({"canaryWeight": 5})
    assert groups(aws) == {"/rule": 7, "/other": 14, "/kept": 0}
