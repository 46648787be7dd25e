"""The end of a stack (docs/runbook.md, 'Taking a stack down'): what it refuses, what stays, and a new stack on what stayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import Refused
from tests.engine_support import difference, inventory, stack_config, take_down

DUMP = {"Bucket": "myteacher-backups", "Key": "database/2026-11-26/dump"}
GUARDS = ("get_bucket_encryption", "get_public_access_block", "get_bucket_versioning")


@pytest.mark.timeout(400)
def test_a_stack_goes_in_two_steps_and_leaves_dumps_evidence_and_the_keys_to_them(
    aws: EmulatedAws, tmp_path: Path
) -> None:
    """Fails when a deletion alone takes a database, or takes the dumps, or what guards or decrypts them."""
    aws.reset()
    config = stack_config(build_world(aws))
    before = inventory(aws)
    deployer = EmbeddedDeployer(tmp_path / "state.json", config, aws.environment())
    made = deployer.up({}).outputs
    aws.client("s3").put_object(**DUMP, Body=b"all rows")
    with pytest.raises(Refused, match=r"backups-bucket.*database-instance.*protected"):
        take_down(deployer)

    off = {"protected": False}
    assert [(change.op, change.name, change.properties) for change in deployer.preview(off)] == [
        ("update", "database-instance", ("deletionProtection",))
    ]
    deployer.up(off)
    take_down(deployer)

    left = difference(before, inventory(aws))
    assert set(left) == {"buckets", "keys"}
    assert left["buckets"] == {made["backupBucket"], made["stateBucket"]}
    assert len(left["keys"]) == 3
    assert difference(inventory(aws), before) == {}
    assert aws.client("s3").get_object(**DUMP)["Body"].read() == b"all rows"
    for bucket in left["buckets"]:
        for guard in GUARDS:
            assert getattr(aws.client("s3"), guard)(Bucket=bucket)
    snapshots = aws.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert [snapshot["DBSnapshotIdentifier"] for snapshot in snapshots] == ["task-service-staging-final"]

    # A secret's name is taken for its 7 days; its value is put anew anyway.
    secrets = aws.client("secretsmanager")
    for secret in secrets.list_secrets(IncludePlannedDeletion=True)["SecretList"]:
        if "DeletedDate" in secret:
            secrets.delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
    again = EmbeddedDeployer(
        tmp_path / "again.json",
        {**config, "import": {"backups-bucket": made["backupBucket"], "state-bucket": made["stateBucket"]}},
        aws.environment(),
    )
    taken = {change.name for change in again.up({}).changes if change.op == "import"}
    assert taken == {"backups-bucket", "state-bucket"}
    assert aws.client("s3").get_object(**DUMP)["Body"].read() == b"all rows"
    assert again.preview({}) == ()
    assert {change.op for change in again.up({"import": {}}).changes} == {"update"}
    assert again.preview({}) == ()
