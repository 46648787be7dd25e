"""The buckets of backups and journal (S3), each aspect a resource of its own as in AWS's provider since v4."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from scripts.rehearsal.emulated.core import Aws, Inputs, Kind, compact, declared_tags, is_missing, pascal, tag_list
from scripts.rehearsal.emulated.limits import Limit, judge
from scripts.rehearsal.emulated.policies import stored


def _found(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """An answer about an aspect of a bucket, empty where the bucket has none."""
    try:
        return ask()
    except ClientError as error:
        if is_missing(error):
            return {}
        raise


class Bucket(Kind):
    """aws.s3.Bucket."""

    resource_type = "aws:s3/bucket:Bucket"
    service = "s3"
    params: ClassVar[Mapping[str, Any]] = {"bucket": "Bucket", "objectLockEnabled": "ObjectLockEnabledForBucket"}
    kept = frozenset({"forceDestroy"})
    force_new = frozenset({"bucket", "objectLockEnabled"})
    unique = ("bucket",)
    tagged_as = "bucket"

    def create(self, aws: Aws, inputs: Inputs) -> str:
        where = {} if aws.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
        aws.client("s3").create_bucket(**self.parameters(inputs), **where)
        self.retag(aws, inputs["bucket"], {}, inputs)
        return str(inputs["bucket"])

    def retag(self, aws: Aws, id_: str, old: Inputs, new: Inputs) -> None:
        if new.get("tags"):
            aws.client("s3").put_bucket_tagging(Bucket=id_, Tagging={"TagSet": tag_list(new)})
        else:
            aws.client("s3").delete_bucket_tagging(Bucket=id_)

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        aws.client("s3").head_bucket(Bucket=id_)
        return {
            "arn": f"arn:aws:s3:::{id_}",
            "bucket": id_,
            "bucketDomainName": f"{id_}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{id_}.s3.{aws.region}.amazonaws.com",
        }

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        s3 = aws.client("s3")
        if state.get("forceDestroy"):
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=id_):
                for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    s3.delete_object(Bucket=id_, Key=item["Key"], VersionId=item["VersionId"])
        s3.delete_bucket(Bucket=id_)

    def standing(self, aws: Aws, id_: str) -> dict[str, Any]:
        s3 = aws.client("s3")
        s3.head_bucket(Bucket=id_)
        return (
            {"bucket": id_}
            | _found(lambda: {"tags": declared_tags(s3.get_bucket_tagging(Bucket=id_)["TagSet"])})
            | _found(lambda: {"objectLockEnabled": bool(s3.get_object_lock_configuration(Bucket=id_))})
        )


class _Aspect(Kind):
    """One setting of a bucket: put when created or changed, deleted or set back when it goes. Putting is idempotent."""

    service = "s3"
    puts = True
    put: ClassVar[str]
    undo: ClassVar[str | None] = None
    force_new = frozenset({"bucket"})
    unique = ("bucket",)

    def call(self, inputs: Inputs) -> dict[str, Any]:
        """Parameters of the put call, without the bucket."""
        raise NotImplementedError

    def create(self, aws: Aws, inputs: Inputs) -> str:
        getattr(aws.client("s3"), self.put)(Bucket=inputs["bucket"], **self.call(inputs))
        return str(inputs["bucket"])

    def read(self, aws: Aws, id_: str, inputs: Inputs) -> dict[str, Any]:
        aws.client("s3").head_bucket(Bucket=id_)
        return {"bucket": id_}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        if self.undo:
            getattr(aws.client("s3"), self.undo)(Bucket=id_)


class Versioning(_Aspect):
    """aws.s3.BucketVersioning; versioning cannot be taken away, only suspended."""

    resource_type = "aws:s3/bucketVersioning:BucketVersioning"
    special = frozenset({"bucket", "versioningConfiguration"})
    put = "put_bucket_versioning"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        settings = pascal(inputs["versioningConfiguration"])
        if "MfaDelete" in settings:
            settings["MFADelete"] = settings.pop("MfaDelete")
        return {"VersioningConfiguration": settings}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        aws.client("s3").put_bucket_versioning(Bucket=id_, VersioningConfiguration={"Status": "Suspended"})


class Encryption(_Aspect):
    """aws.s3.BucketServerSideEncryptionConfiguration."""

    resource_type = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    special = frozenset({"bucket", "rules"})
    put = "put_bucket_encryption"
    undo = "delete_bucket_encryption"

    def answered(self, inputs: Inputs) -> dict[str, Any]:
        """New buckets refuse objects under a customer's key unless they are told otherwise, and the provider reads that back
        (Amazon S3, 'Default SSE-C setting for new buckets FAQ'; terraform-provider-aws before 6.40 shows it for ever)."""
        return {"rules": [{"blockedEncryptionTypes": ["SSE-C"], **compact(rule)} for rule in inputs["rules"]]}

    def call(self, inputs: Inputs) -> dict[str, Any]:
        rules = []
        for rule in inputs["rules"]:
            made: dict[str, Any] = {}
            if default := rule.get("applyServerSideEncryptionByDefault"):
                names = {"sseAlgorithm": "SSEAlgorithm", "kmsMasterKeyId": "KMSMasterKeyID"}
                made["ApplyServerSideEncryptionByDefault"] = {
                    names[key]: value for key, value in compact(default).items()
                }
            if rule.get("bucketKeyEnabled") is not None:
                made["BucketKeyEnabled"] = rule["bucketKeyEnabled"]
            if rule.get("blockedEncryptionTypes"):
                made["BlockedEncryptionTypes"] = {"EncryptionType": rule["blockedEncryptionTypes"]}
            rules.append(made)
        return {"ServerSideEncryptionConfiguration": {"Rules": rules}}


class PublicAccessBlock(_Aspect):
    """aws.s3.BucketPublicAccessBlock."""

    resource_type = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    special = frozenset({"bucket", "blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"})
    put = "put_public_access_block"
    undo = "delete_public_access_block"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        keys = self.special - {"bucket"}
        settings = {key[:1].upper() + key[1:]: bool(inputs.get(key)) for key in sorted(keys)}
        return {"PublicAccessBlockConfiguration": settings}


class OwnershipControls(_Aspect):
    """aws.s3.BucketOwnershipControls."""

    resource_type = "aws:s3/bucketOwnershipControls:BucketOwnershipControls"
    special = frozenset({"bucket", "rule"})
    put = "put_bucket_ownership_controls"
    undo = "delete_bucket_ownership_controls"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        return {"OwnershipControls": {"Rules": [pascal(inputs["rule"])]}}


class Policy(_Aspect):
    """aws.s3.BucketPolicy."""

    resource_type = "aws:s3/bucketPolicy:BucketPolicy"
    special = frozenset({"bucket", "policy"})
    policies = frozenset({"policy"})
    put = "put_bucket_policy"
    undo = "delete_bucket_policy"

    def answered(self, inputs: Inputs) -> dict[str, Any]:
        return {"policy": stored(inputs["policy"], star=True)}

    def create(self, aws: Aws, inputs: Inputs) -> str:
        judge(aws, Limit.BUCKET_POLICY, {"Bucket": inputs["bucket"], "Policy": inputs["policy"]})
        statements = json.loads(inputs["policy"])["Statement"]
        if any(item["Effect"] == "Deny" and item.get("Condition") for item in statements):
            return str(inputs["bucket"])
        return super().create(aws, inputs)

    def call(self, inputs: Inputs) -> dict[str, Any]:
        return {"Policy": inputs["policy"]}


class Lifecycle(_Aspect):
    """aws.s3.BucketLifecycleConfiguration."""

    resource_type = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
    special = frozenset({"bucket", "rules"})
    put = "put_bucket_lifecycle_configuration"
    undo = "delete_bucket_lifecycle"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        rules = []
        for rule in inputs["rules"]:
            made = pascal({key: value for key, value in rule.items() if key != "id"})
            made["ID"] = rule["id"]
            made.setdefault("Filter", {"Prefix": ""})
            rules.append(made)
        return {"LifecycleConfiguration": {"Rules": rules}}


class ObjectLock(_Aspect):
    """aws.s3.BucketObjectLockConfiguration; the bucket stays one with Object Lock, without a rule of its own."""

    resource_type = "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration"
    special = frozenset({"bucket", "objectLockEnabled", "rule"})
    put = "put_object_lock_configuration"

    def call(self, inputs: Inputs) -> dict[str, Any]:
        rule = {"Rule": pascal(inputs["rule"])} if inputs.get("rule") else {}
        return {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled", **rule}}

    def delete(self, aws: Aws, id_: str, state: Inputs) -> None:
        self.create(aws, {"bucket": id_})


KINDS = (
    *(Bucket(), Versioning(), Encryption(), PublicAccessBlock(), OwnershipControls(), Policy(), Lifecycle()),
    ObjectLock(),
)
