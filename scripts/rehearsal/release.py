"""What people put into the account between the first `up` and the service's start: its image, and its secrets' values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256

from components.naming import COGNITO_SECRET, DATABASE_PASSWORD_SECRET, REPOSITORY_NAME
from scripts.rehearsal.world import EmulatedAws

#: Docker, 'Image Manifest Version 2, Schema 2'.
_MEDIA = "application/vnd.docker.distribution.manifest.v2+json"


def push_image(aws: EmulatedAws, tag: str) -> None:
    """An image of that tag, with no layers: nobody runs it here."""
    config = {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        "size": 2,
        "digest": f"sha256:{sha256(tag.encode()).hexdigest()}",
    }
    manifest = {"schemaVersion": 2, "mediaType": _MEDIA, "config": config, "layers": []}
    aws.client("ecr").put_image(repositoryName=REPOSITORY_NAME, imageManifest=json.dumps(manifest), imageTag=tag)


def put_values(aws: EmulatedAws, password: str | None, pool: Mapping[str, object]) -> None:
    """The password of the service's database role (None: forgotten), and the user pool that the service trusts."""
    values = {DATABASE_PASSWORD_SECRET: password, COGNITO_SECRET: json.dumps(pool)}
    for name, value in values.items():
        if value is not None:
            aws.client("secretsmanager").put_secret_value(SecretId=name, SecretString=value)
