"""Where the roles of the workflows stand, and the words that their policies are made of. Pure data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.config import PROJECT
from components.config_stack import StackConfig
from components.naming import Naming
from components.policies import statement

Role = Literal["preview", "deploy", "operator", "drift"]


@dataclass(frozen=True)
class Place:
    """Where the roles stand: the stack, the repository ``ORG/REPO`` and its branch, Pulumi's bucket and the key of its secrets."""

    config: StackConfig
    repository: str
    branch: str
    state_bucket: str
    secrets_key_arn: str

    @property
    def naming(self) -> Naming:
        return Naming.of(self.config)

    def role_name(self, role: Role) -> str:
        """For example ``ci-task-service-prod-deploy``."""
        return f"ci-{self.naming.prefix}-{role}"

    def arns(self, service: str, *resources: str) -> list[str]:
        """ARNs of this account and region."""
        return [self.naming.arn(service, resource) for resource in resources]

    def bucket(self, name: str, *keys: str) -> list[str]:
        """ARNs of objects in a bucket, or of the bucket itself."""
        base = f"arn:{self.naming.partition}:s3:::{name}"
        return [f"{base}/{key}" for key in keys] or [base]


def document(statements: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def words(service: str, names: str) -> list[str]:
    return [f"{service}:{name}" for name in names.split()]


def state(place: Place, *, writes: bool) -> list[dict[str, Any]]:
    """Pulumi's own: its state in S3, and the key of the stack's secrets (Pulumi, 'DIY backends', 'awskms')."""
    objects = "GetObject PutObject DeleteObject" if writes else "GetObject"
    return [
        statement("StateList", words("s3", "ListBucket"), place.bucket(place.state_bucket)),
        statement("State", words("s3", objects), place.bucket(place.state_bucket, ".pulumi/*")),
        statement("StackSecrets", words("kms", "Decrypt Encrypt" if writes else "Decrypt"), [place.secrets_key_arn]),
    ]


def tagged(place: Place, of: Literal["ResourceTag", "RequestTag"] = "ResourceTag") -> dict[str, dict[str, str]]:
    """The condition that a thing is this stack's, or is made as such: what AWS names at random is told by its tags."""
    tags = {"Project": PROJECT, "Environment": place.config.environment}
    return {"StringEquals": {f"aws:{of}/{key}": value for key, value in tags.items()}}


def via(place: Place, service: str) -> dict[str, dict[str, str]]:
    return {"StringEquals": {"kms:ViaService": f"{service}.{place.naming.region}.amazonaws.com"}}
