"""The two buckets: what they are made with, and what their policies refuse, judged as IAM judges a request."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest

from components.buckets import private_bucket
from components.component import Component
from components.naming import Naming
from tests.unit.components.declared_helpers import ACCOUNT, REGION, Declared, declare

BUCKETS = ("backups", "state")
SSE = "s3:x-amz-server-side-encryption"
KEY = f"{SSE}-aws-kms-key-id"
#: A request of the program's own: over TLS, encryption left to the bucket.
PLAIN = {"aws:SecureTransport": "true"}
NEW = {**PLAIN, "s3:if-none-match": "*"}


@pytest.fixture(scope="module", params=["staging", "prod"])
def stack(request: pytest.FixtureRequest) -> Declared:
    return declare(request.param, stateLockDays="30")


def _holds(operator: str, key: str, wanted: str, context: Mapping[str, str]) -> bool:
    """IAM, 'IAM JSON policy elements: Condition operators': a negated one holds where the key is absent."""
    given = context.get(key)
    match operator:
        case "Null":
            return (given is None) == {"true": True, "false": False}[wanted]
        case "StringNotEquals":
            return given != wanted
        case "StringEquals" | "Bool":
            return given == wanted
    raise AssertionError(operator)


def refuses(
    declared: Declared, bucket: str, action: str, context: Mapping[str, str], key: str = "database/x"
) -> list[str]:
    """The statements of a bucket's policy that refuse a request."""
    policy = declared.one("aws:s3/bucketPolicy:BucketPolicy", f"{bucket}-policy").json("policy")
    arn = policy["Statement"][0]["Resource"][0]
    return [
        item["Sid"]
        for item in policy["Statement"]
        if item["Effect"] == "Deny"
        and any(fnmatchcase(action, one) for one in item["Action"])
        and any(fnmatchcase(f"{arn}/{key}", one) for one in item["Resource"])
        and all(
            _holds(operator, name, wanted, context)
            for operator, keys in item.get("Condition", {}).items()
            for name, wanted in keys.items()
        )
    ]


def test_nothing_lies_under_another_key_or_travels_in_the_open(stack: Declared) -> None:
    """Prevents a dump under AWS's own key, which every reader of the bucket can use, or under a key of somebody else."""
    for bucket in BUCKETS:
        guarded(stack, bucket)


def guarded(declared: Declared, bucket: str) -> None:
    """Its own key and no other, over TLS only."""
    own = declared.one(
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration", f"{bucket}-encryption"
    ).inputs["rules"][0]["applyServerSideEncryptionByDefault"]
    assert own == {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": f"arn:aws:kms:{REGION}:{ACCOUNT}:{bucket}-key"}

    def put(**context: str) -> list[str]:
        return refuses(declared, bucket, "s3:PutObject", {**NEW, **context})

    assert put() == []
    assert put(**{SSE: "aws:kms", KEY: own["kmsMasterKeyId"]}) == []
    assert put(**{SSE: "aws:kms"}) == ["KeyNamed"]
    assert put(**{SSE: "aws:kms", KEY: "arn:aws:kms:ap-northeast-1:666666666666:key/theirs"}) == ["NoOtherKey"]
    assert put(**{SSE: "AES256"}) == ["NoOtherWay"]
    assert put(**{SSE: "aws:kms:dsse", KEY: own["kmsMasterKeyId"]}) == ["NoOtherWay"]
    assert put(**{f"{SSE}-customer-algorithm": "AES256"}) == ["NoKeyOfACustomer"]
    for action in ("s3:GetObject", "s3:ListBucket", "s3:PutBucketPolicy"):
        assert refuses(declared, bucket, action, {"aws:SecureTransport": "false"}) == ["TlsOnly"]
        assert refuses(declared, bucket, action, PLAIN) == []


class Owner(Component):
    """A component with a bucket and nothing else."""

    component = "ledger"

    def __init__(self, naming: Naming, **more: Any) -> None:
        super().__init__("own", naming, None)
        write = {"sid": "NoWrite", "actions": ["s3:PutObject"], "condition": {"Null": {"s3:if-none-match": "true"}}}
        private_bucket(
            self,
            "own",
            bucket="the-bucket",
            purpose="Things",
            refused=(write, {"sid": "NoDelete", "actions": ["s3:DeleteObject"]}),
            **more,
        )


def owned(*, protected: bool = True, **more: Any) -> Declared:
    naming = Naming("staging", "aws", REGION, ACCOUNT, protected=protected)
    return declare(program=lambda: Owner(naming, **more))


@pytest.mark.parametrize("protected", [True, False])
def test_a_bucket_is_declared_whole_and_stays_when_the_program_goes(protected: bool) -> None:
    """Prevents a bucket that goes with the stack, one whose guard goes before it, and a policy that is there before nobody else can get in."""
    declared = owned(protected=protected)
    guarded(declared, "own")
    assert refuses(declared, "own", "s3:PutObject", PLAIN) == ["NoWrite"]
    assert refuses(declared, "own", "s3:DeleteObject", PLAIN) == ["NoDelete"]
    policy = declared.one("aws:s3/bucketPolicy:BucketPolicy").json("policy")
    assert [item["Principal"] for item in policy["Statement"]] == ["*"] * 7
    assert [len(item["Resource"]) for item in policy["Statement"]] == [2, 1, 1, 1, 1, 1, 1]
    inputs = {item.name: dict(item.inputs) for item in declared.custom()}
    key = inputs["own-key"]
    assert key["description"] == "Things (task-service-staging)"
    bucket = inputs["own-bucket"]
    assert bucket.pop("tags")["Name"] == "ledger"
    assert bucket == {"bucket": "the-bucket", "forceDestroy": False}
    assert {values.get("bucket") for name, values in inputs.items() if "key" not in name} == {"the-bucket"}
    (rule,) = inputs["own-encryption"]["rules"]
    assert (rule["bucketKeyEnabled"], rule["blockedEncryptionTypes"]) == (True, ["SSE-C"])
    assert inputs["own-ownership"]["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
    assert inputs["own-versioning"]["versioningConfiguration"] == {"status": "Enabled"}
    blocked = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    assert inputs["own-public-access-block"] == {"bucket": "the-bucket", **dict.fromkeys(blocked, True)}
    for item in declared.custom():
        assert item.parent.endswith("Owner::own"), item.name
        assert item.retain == (item.name != "own-key-alias"), item.name
        assert item.protect == (protected and item.name in ("own-bucket", "own-key")), item.name
    (last,) = declared.all("aws:s3/bucketPolicy:BucketPolicy")
    needed = {urn.rpartition("::")[2] for urn in last.dependencies}
    assert needed == {"own-bucket", "own-key", "own-public-access-block"}


def test_a_bucket_is_made_with_object_lock_where_it_is_asked_for() -> None:
    inputs = owned(object_lock=True).one("aws:s3/bucket:Bucket").inputs
    assert inputs["objectLockEnabled"] is True


def test_the_journals_bucket_only_grows(stack: Declared) -> None:
    """Prevents who may add an event from taking one back, or from writing another in its place."""
    assert refuses(stack, "state", "s3:PutObject", PLAIN) == ["NewNamesOnly"]
    for action in ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"):
        assert refuses(stack, "state", action, NEW) == ["NothingGoes"]
    # Old dumps go by the lifecycle, and a person may remove one.
    assert refuses(stack, "backups", "s3:DeleteObject", PLAIN) == []
    assert stack.one("aws:s3/bucket:Bucket", "state-bucket").inputs["objectLockEnabled"] is True
    lock = stack.one("aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration").inputs
    assert lock["rule"] == {"defaultRetention": {"mode": "GOVERNANCE", "days": 30}}
    without = declare("staging", stateLockDays="0")
    assert without.all("aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration") == []


def test_the_buckets_are_two_versioned_private_and_stay(stack: Declared) -> None:
    """Prevents a journal beside the dumps, which who may write those would be believed about, and one that anybody reads."""
    names = [stack.one("aws:s3/bucket:Bucket", f"{one}-bucket").inputs["bucket"] for one in BUCKETS]
    assert names == ["myteacher-backups", "myteacher-migration-state"]
    keys = {
        stack.one(
            "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
            f"{one}-encryption",
        ).inputs["rules"][0]["applyServerSideEncryptionByDefault"]["kmsMasterKeyId"]
        for one in BUCKETS
    }
    assert len(keys) == 2
    for one in BUCKETS:
        versioning = stack.one("aws:s3/bucketVersioning:BucketVersioning", f"{one}-versioning").inputs
        assert versioning["versioningConfiguration"] == {"status": "Enabled"}
        block = stack.one("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", f"{one}-public-access-block").inputs
        for key in ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"):
            assert block[key] is True
    lifecycle = stack.one("aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration").inputs["rules"][0]
    assert lifecycle["status"] == "Enabled"
    assert lifecycle["filter"] == {"prefix": "database/"}
