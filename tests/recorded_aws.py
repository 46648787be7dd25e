"""A way to the emulated AWS that notes which IAM action each request needs (AWS, 'Service Authorization Reference')."""

from __future__ import annotations

import functools
import re
from email.message import Message
from urllib.parse import parse_qs, urlsplit

import botocore.session

from scripts.rehearsal.world import EmulatedAws
from tests.held_aws import HeldAws

#: Where an action's prefix is not what the request is signed for.
PREFIXES = {"monitoring": "cloudwatch"}
#: Operations of S3 that share another one's action, or bear another name.
S3_ACTIONS = {
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "HeadObject": "GetObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
}


@functools.cache
def _rest_operations(service: str) -> list[tuple[str, str, re.Pattern[str], frozenset[str]]]:
    """Method, name, path and the words of the query that name each operation of a REST service."""
    model = botocore.session.get_session().get_service_model(service)
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        path, _, query = http["requestUri"].partition("?")
        path = re.sub(r"\\{\w+\\\+\\}", ".+", re.escape(path))
        pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", path))
        found.append(
            (http["method"], name, pattern, frozenset(word.partition("=")[0] for word in query.split("&") if word))
        )
    return found


def rest_operation(service: str, method: str, url: str) -> str:
    """The operation of a REST request; of several that fit the one whose query says most."""
    parts = urlsplit(url)
    words = set(parse_qs(parts.query, keep_blank_values=True))
    fitting = [
        (len(wanted), name)
        for verb, name, pattern, wanted in _rest_operations(service)
        if verb == method and wanted <= words and pattern.fullmatch(parts.path.rstrip("/") or "/")
    ]
    assert fitting, f"{service}: no operation is {method} {url}"
    return max(fitting)[1]


def iam_action(method: str, url: str, headers: Message, body: bytes) -> str | None:
    """The IAM action that a request needs; None for one that is not signed."""
    scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", headers.get("Authorization", ""))
    if scope is None:
        return None
    service = scope[1]
    if target := headers.get("X-Amz-Target"):
        operation = target.rpartition(".")[2]
    elif service == "s3":
        operation = rest_operation("s3", method, url)
        operation = S3_ACTIONS.get(operation, operation)
    elif service == "apigateway":
        operation = method  # API Gateway's actions are the methods, its resources the paths
    else:
        operation = parse_qs(body.decode())["Action"][0]
    return f"{PREFIXES.get(service, service)}:{operation}"


class RecordedAws(HeldAws):
    """``actions`` has what was needed since the last :meth:`clear`."""

    def __init__(self, aws: EmulatedAws) -> None:
        super().__init__(aws)
        self.actions: set[str] = set()

    def note(self, method: str, path: str, headers: Message, body: bytes) -> None:
        action = iam_action(method, path, headers, body)
        if action is not None:
            self.actions.add(action)

    def clear(self) -> set[str]:
        """What was needed until now; what comes is noted anew."""
        found, self.actions = self.actions, set()
        return found
