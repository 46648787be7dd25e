"""The journal in S3, for operators who share one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from scripts.support.aws import bucket_and_prefix, client, refusals
from scripts.support.journal import LARGEST, entry_of, event_of, passed_by

#: What an object of the journal is called: its event's time, and eight digits that tell two of one moment apart.
_NAME = re.compile(r"(\d{4}-\d\d-\d\dT[0-9:.]+\+00:00)-[0-9a-f]{8}\.json")


def open_s3_journal(location: str) -> S3Journal:
    """The journal at ``s3://bucket/prefix``. Raises UsageError for another URL."""
    return S3Journal(*bucket_and_prefix(location))


class S3Journal:
    """One object an event, as S3 cannot append; the keys sort by time. S3 is strongly consistent after a write (Amazon
    S3, 'Amazon S3 data consistency model'), so the next command sees every event.

    An object is only ever added: a name that is taken is refused (Amazon S3, 'How to prevent object overwrites with conditional
    writes'), and the checksum is what a bucket with Object Lock asks for (Amazon S3, 'Object Lock considerations').
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, "/".join(part for part in (prefix, "journal") if part)
        self._client = client("s3")
        self._where = f"the journal s3://{self.bucket}/{self.prefix} cannot be used"

    def record(self, step: str, event: str, **facts: Any) -> dict[str, Any]:
        """As :meth:`Journal.record`. Raises MigrationError when S3 refuses."""
        entry, line = entry_of(step, event, facts)
        key = f"{self.prefix}/{entry['at']}-{uuid.uuid4().hex[:8]}.json"
        body = line.encode(errors="backslashreplace")
        with refusals(self._where, "check TASK_MIGRATION_STATE_DIR and rights"):
            self._client.put_object(Bucket=self.bucket, Key=key, Body=body, IfNoneMatch="*", ChecksumAlgorithm="SHA256")
        return entry

    def events(self, step: str | None = None) -> Iterator[dict[str, Any]]:
        """As :meth:`Journal.events`. Raises MigrationError when S3 does not list them or cannot be reached."""
        foreign = []
        with refusals(self._where, "check TASK_MIGRATION_STATE_DIR and rights"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/")
            listed = sorted((item["Key"], item["Size"]) for page in pages for item in page.get("Contents", []))
            found = []
            for key, size in listed:
                try:
                    found.append(self._event(key, size))
                except ValueError as error:
                    foreign.append(f"{key}: {error}")
        passed_by(f"s3://{self.bucket}/{self.prefix}", foreign)
        yield from (entry for entry in found if step is None or entry["step"] == step)

    def _event(self, key: str, size: int) -> dict[str, Any]:
        """Raises ValueError saying why the object is no event of ours."""
        name = _NAME.fullmatch(key.removeprefix(f"{self.prefix}/"))
        if name is None:
            raise ValueError("no name of an event")
        if size > LARGEST:
            raise ValueError(f"larger than {LARGEST} bytes")
        try:
            entry = event_of(self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read())
        except ClientError as error:
            # One object that was taken away, or lies under another key, must not hide the others.
            raise ValueError(str(error.response["Error"].get("Code", "unreadable"))) from None
        if entry["at"] != name[1]:
            raise ValueError("dated otherwise than its name says")
        return entry
