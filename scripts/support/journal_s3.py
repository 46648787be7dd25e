"""The journal in S3, for operators who share one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from scripts.support.aws import bucket_and_prefix, client, refusals
from scripts.support.journal import entry_of, last_of


def open_s3_journal(location: str) -> S3Journal:
    """The journal at ``s3://bucket/prefix``. Raises UsageError for another URL."""
    return S3Journal(*bucket_and_prefix(location))


class S3Journal:
    """One object an event, as S3 cannot append; the keys sort by time. S3 is strongly consistent after a write (Amazon
    S3, 'Amazon S3 data consistency model'), so the next command sees every event."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, "/".join(part for part in (prefix, "journal") if part)
        self._client = client("s3")
        self._where = f"the journal s3://{self.bucket}/{self.prefix} cannot be used"

    def record(self, step: str, event: str, **facts: Any) -> dict[str, Any]:
        """As :meth:`Journal.record`. Raises MigrationError when S3 refuses."""
        entry, line = entry_of(step, event, facts)
        key = f"{self.prefix}/{entry['at']}-{uuid.uuid4().hex[:8]}.json"
        with refusals(self._where, "check TASK_MIGRATION_STATE_DIR and rights"):
            self._client.put_object(Bucket=self.bucket, Key=key, Body=line.encode())
        return entry

    def events(self, step: str | None = None) -> Iterator[dict[str, Any]]:
        """As :meth:`Journal.events`. Raises MigrationError when S3 refuses."""
        with refusals(self._where, "check TASK_MIGRATION_STATE_DIR and rights"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{self.prefix}/")
            keys = sorted(item["Key"] for page in pages for item in page.get("Contents", []))
            bodies = [self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys]
        for body in bodies:
            entry = json.loads(body)
            if step is None or entry.get("step") == step:
                yield entry

    def last(self, step: str, event: str) -> dict[str, Any] | None:
        """As :meth:`Journal.last`."""
        return last_of(self.events(step), event)
