"""A rehearsal whose security groups let nobody in ends as a night on AWS would: at the first command, with the key that opens the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.database.connections import NotConnected, connect
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.plan import Plan
from scripts.rehearsal.testbed import Testbed as Bed
from tests.engine_support import SMOKE_VALUE


@pytest.mark.timeout(300)
def test_a_command_reaches_a_database_only_by_a_rule(tmp_path: Path) -> None:
    """Fails when a stack without a way for operators rehearses well, and the first command of the night gets no answer."""
    shut: dict[str, object] = {"operatorSecurityGroupIds": [], "operatorReachesSource": False}
    plan = Plan(rows=1, users=1, rate=1.0, watch=6.0, seed=1, engine="embedded", output=tmp_path / "run", changes=shut)
    with Bed(plan) as bed:
        bed.aws.start()
        config = {**bed.configure(), "smokeHeaderValue": SMOKE_VALUE}
        deployer = EmbeddedDeployer(tmp_path / "state.json", config, bed.aws.environment())
        bed.outputs = deployer.up({}).outputs
        for name, key in (
            ("TARGET_DATABASE_URL", "into operatorSecurityGroupIds, then pulumi up"),
            ("SOURCE_DATABASE_URL", "into operatorSecurityGroupIds, with operatorReachesSource: true"),
        ):
            with pytest.raises(NotConnected) as caught:
                connect(bed.environment()[name], step="preflight", name=name)
            assert caught.value.kind == "way"
            assert key in caught.value.remedy
        groups = bed.aws.client("ec2").describe_security_groups(
            Filters=[{"Name": "group-name", "Values": ["myteacher-operators"]}]
        )["SecurityGroups"]
        opened = {"operatorSecurityGroupIds": [groups[0]["GroupId"]], "operatorReachesSource": True}
        bed.outputs = deployer.up(opened).outputs
        urls = bed.environment()
        assert urls["TARGET_DATABASE_URL"] == bed.databases.target_url
        assert urls["SOURCE_DATABASE_URL"] == bed.databases.source_url
