"""What the canary keeps in S3 and sends to SNS, against the emulated API."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.config import MigrationConfig
from scripts.canary import decisions
from scripts.canary.notices import Notices
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import MigrationError
from scripts.support.settings import Settings
from tests.journal import last
from tests.unit.canary import test_step as test_canary
from tests.unit.canary.test_step import Cloud

#: A step whose databases answer; the same as in the unit tests.
_databases = test_canary._databases


def test_a_decision_in_s3_is_explained_on_another_machine_and_told_to_the_topic(
    aws: EmulatedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents decisions that only the machine which made them can explain, and a notice that nobody gets."""
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    aws.client("s3").create_bucket(Bucket="state", CreateBucketConfiguration={"LocationConstraint": aws.region})
    topic = aws.client("sns").create_topic(Name="myteacher-alerts")["TopicArn"]
    queue = aws.client("sqs").create_queue(QueueName="night")["QueueUrl"]
    arn = aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    made = test_canary.stage(Cloud(), tmp_path)
    settings = replace(made.settings, state_dir="s3://state/night")
    at = replace(made, settings=settings, notices=Notices(aws.client("sns"), topic))
    document = test_canary.stepped(at)
    assert document.decision == "promote"
    assert str(document.document).startswith("s3://state/night/decisions/")

    elsewhere = Settings(MigrationConfig(), None, None, None, "s3://state/night")
    answer = decisions.explain(elsewhere)
    assert (answer.location, answer.again, answer.same) == (document.document, "promote", True)
    with pytest.raises(MigrationError, match="cannot be read"):
        decisions.read("s3://state/night/decisions/none.json")

    messages: list[dict[str, Any]] = aws.client("sqs").receive_message(QueueUrl=queue)["Messages"]
    notice = json.loads(messages[0]["Body"])
    assert notice["Subject"] == "canary 0 -> 5 %: promote"
    assert notice["Message"].startswith("canary 0 -> 5 %: promote\n\nThe Task Service gets 5 % of the requests")
    assert (
        f"\n- {document.document}\n- https://{aws.region}.console.aws.amazon.com/s3/object/state?" in notice["Message"]
    )

    # A topic that is gone is journaled, and nothing more.
    Notices(aws.client("sns"), topic + "-gone").send(settings, "rollback\nfrom 5 % – done", "text")
    failed = last(settings.journal, "canary", "notice-failed")
    assert failed is not None
    assert failed["subject"] == "rollback from 5 % – done"
