"""Notices to the alarm topic: a line to people at each decision. They inform; they never decide and never stop anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from scripts.support.events import CanaryEvent, Step
from scripts.support.journal import note
from scripts.support.redact import redact
from scripts.support.settings import Settings


class Notices:
    """Sends to one SNS topic.

    Args:
        client: boto3's SNS client, with short timeouts: a rollback must not wait for a notice.
        topic: the topic's ARN; None sends nothing.
    """

    def __init__(self, client: Any, topic: str | None) -> None:
        self._client, self._topic = client, topic

    def send(self, settings: Settings, subject: str, document: Mapping[str, Any]) -> None:
        """Send one notice; a failure is journaled and goes no further."""
        if self._topic is None:
            return
        # SNS API reference, 'Publish': a subject is ASCII, without line breaks, of at most 100 characters.
        line = redact(subject).encode("ascii", "replace").decode().replace("\n", " ")[:100]
        text = redact(json.dumps(document, ensure_ascii=False, indent=1, default=str))
        try:
            self._client.publish(TopicArn=self._topic, Subject=line, Message=text)
        except (ClientError, BotoCoreError) as error:
            note(settings.journal, Step.CANARY, CanaryEvent.NOTICE_FAILED, subject=line, reason=str(error))
