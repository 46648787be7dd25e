"""Whom a restore believes about a dump, and under which key one lies."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from components.config import MigrationConfig
from scripts.backup import run as backup
from scripts.canary import decisions
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import DataDiffer, MigrationError, Refused
from scripts.support.settings import Settings
from tests.integration.backup.test_backup import MakePair, drop, fresh

pytestmark = pytest.mark.usefixtures("in_account")

BUCKET = "dumps"


@pytest.fixture(scope="module")
def key(aws: EmulatedAws) -> str:
    """The key of a bucket as components/buckets.py declares it, and beside it one for the journal."""
    s3 = aws.client("s3")
    key = str(aws.client("kms").create_key()["KeyMetadata"]["Arn"])
    for bucket in (BUCKET, "journals"):
        where = {"LocationConstraint": aws.region}
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        rules = [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": True}]
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
    return key


def test_a_dump_lies_under_the_declared_key_and_is_believed_only_as_it_was_made(
    make_pair: MakePair, aws: EmulatedAws, key: str
) -> None:
    """Prevents a restore that runs, as the operator, the program of who can write beside the dump; and a dump under AWS's own key."""
    pair, s3 = make_pair(rows=20), aws.client("s3")
    settings = replace(pair.settings, state_dir="s3://journals/night")
    made = backup.run(settings, f"s3://{BUCKET}/database/today")
    dump, manifest = (one.split("/", 3)[3] for one in (made.location, made.manifest))
    for name in (dump, manifest):
        head = s3.head_object(Bucket=BUCKET, Key=name)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)

    # Somebody has another dump and its manifest, each of which fits the other: his own database's.
    pair.source.execute("CREATE TABLE planted AS SELECT 'his' AS name")
    elsewhere = replace(settings, state_dir=pair.settings.state_dir)
    his = backup.run(elsewhere, f"s3://{BUCKET}/his")
    body = s3.get_object(Bucket=BUCKET, Key=his.location.split("/", 3)[3])["Body"].read()
    told = json.loads(s3.get_object(Bucket=BUCKET, Key=his.manifest.split("/", 3)[3])["Body"].read())
    true = (
        s3.get_object(Bucket=BUCKET, Key=dump)["Body"].read(),
        s3.get_object(Bucket=BUCKET, Key=manifest)["Body"].read(),
    )
    s3.put_object(Bucket=BUCKET, Key=dump, Body=body)
    s3.put_object(Bucket=BUCKET, Key=manifest, Body=json.dumps(told | {"file": made.file, "location": made.location}))

    name = fresh(pair, "trusted")
    into: dict[str, Any] = {"url": settings.target(), "database": name}
    with pytest.raises(Refused, match="but the journal has .* Nothing was restored"):
        backup.restore(settings, made.manifest, **into)
    with pytest.raises(Refused, match="but --sha256 has"):
        backup.restore(settings, made.manifest, **into, sha256=made.sha256)
    # The manifest of before, with his dump: the file itself is looked at.
    s3.put_object(Bucket=BUCKET, Key=manifest, Body=true[1])
    with pytest.raises(DataDiffer, match=f"the stored backup has SHA-256 {hashlib.sha256(body).hexdigest()}"):
        backup.restore(settings, made.manifest, **into)
    # Under a name that nobody journaled, or where this machine has no journal.
    with pytest.raises(Refused, match="has no SHA-256 of .*--sha256 HEX"):
        backup.restore(settings, his.manifest, **into)
    with pytest.raises(Refused, match="has no SHA-256 of"):
        backup.restore(replace(settings, state_dir="s3://journals/other"), made.manifest, **into)

    s3.put_object(Bucket=BUCKET, Key=dump, Body=true[0])
    assert backup.restore(settings, made.manifest, **into).sha256 == made.sha256
    drop(pair, name)
    # Who can write the journal too makes it doubtful, and no more.
    forged = {"location": made.location, "sha256": his.sha256}
    settings.journal.record("backup", "verified", **forged)
    name = fresh(pair, "trusted")
    with pytest.raises(Refused, match="has 2 SHA-256 of"):
        backup.restore(settings, made.manifest, **into)
    assert backup.restore(settings, made.manifest, **into, sha256=made.sha256.upper()).restored
    drop(pair, name)


def test_the_journal_only_grows_under_object_lock(aws: EmulatedAws) -> None:
    """Prevents a lock that refuses the journal's own events, and an event that is replaced or taken away."""
    s3 = aws.client("s3")
    where = {"LocationConstraint": aws.region}
    s3.create_bucket(Bucket="locked", CreateBucketConfiguration=where, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 30}}
    lock: dict[str, Any] = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    s3.put_object_lock_configuration(Bucket="locked", ObjectLockConfiguration=lock)
    settings = Settings(MigrationConfig(), None, None, None, "s3://locked/night")
    for number in range(3):
        settings.journal.record("copy", "started", number=number)
    document = {"from": 0, "to": 5, "decision": "promote"}
    decisions.keep(settings, "2026-11-26T10:00:00+0000", document)
    with pytest.raises(MigrationError, match="PreconditionFailed"):
        decisions.keep(settings, "2026-11-26T10:00:00+0000", document)
    assert [event["number"] for event in settings.journal.events()] == [0, 1, 2]
    for item in s3.list_object_versions(Bucket="locked")["Versions"]:
        with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
            s3.delete_object(Bucket="locked", Key=item["Key"], VersionId=item["VersionId"])
