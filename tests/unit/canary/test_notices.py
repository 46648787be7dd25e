"""What people read of a decision: in the topic's notice and in the summary of a GitHub job."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from scripts.canary import notices
from scripts.canary.documents import CanaryStep
from scripts.canary.figures import Observed, Period, Traffic
from scripts.canary.notices import LONGEST, Notices
from scripts.support.settings import Environment, Settings
from tests.cloud import FAILING, settings_of
from tests.unit.cli.test_canary_text import BACK

TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"


class Topic:
    def __init__(self, fails: bool = False) -> None:
        self.sent: list[dict[str, str]] = []
        self.fails = fails

    def publish(self, **message: str) -> None:
        if self.fails:
            raise ClientError({"Error": {"Code": "NotFound", "Message": "no topic"}}, "Publish")
        self.sent.append(message)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return dataclasses.replace(settings_of(tmp_path / "state"), job_summary=str(tmp_path / "summary.md"))


def document(**changes: Any) -> CanaryStep:
    values = {"from": 5, "to": 25, "decision": "hold", "reasons": ["P95 is 600 ms, the limit is below 500 ms"], "seconds": 1.0, "findings": []}  # fmt: skip
    return CanaryStep.model_validate({**values, **changes})


def test_a_notice_goes_to_the_topic_and_into_the_jobs_summary(settings: Settings) -> None:
    """Prevents a job whose page says nothing but that it was green or red."""
    topic = Topic()
    Notices(topic, TOPIC).send(settings, "canary 5 -> 25 %: hold – wait", "one\n\n- two")
    Notices(topic, TOPIC).send(settings, "second", "three")
    assert topic.sent[0] == {
        "TopicArn": TOPIC,
        "Subject": "canary 5 -> 25 %: hold ? wait",
        "Message": "canary 5 -> 25 %: hold – wait\n\none\n\n- two",
    }
    summary = Path(str(settings.job_summary)).read_text()
    assert summary == "### canary 5 -> 25 %: hold – wait\n\none\n\n- two\n\n### second\n\nthree\n\n"


def test_the_job_says_where_its_summary_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a summary that is written nowhere, as the variable has another name; and one that a terminal writes."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/tmp/summary")
    assert Environment().job_summary == "/tmp/summary"
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert Environment().job_summary is None


def test_neither_way_stops_the_other_or_what_is_done(settings: Settings, tmp_path: Path) -> None:
    """Prevents a rollback that ends at a full disk or a topic that is gone."""
    Notices(Topic(fails=True), TOPIC).send(settings, "first", "text")
    assert "### first" in Path(str(settings.job_summary)).read_text()
    topic = Topic()
    Notices(topic, TOPIC).send(
        dataclasses.replace(settings, job_summary=str(tmp_path / "none" / "x")), "second", "text"
    )
    assert [one["Subject"] for one in topic.sent] == ["second"]
    failed = [(one["subject"], one["reason"]) for one in settings.journal.events() if one["event"] == "notice-failed"]
    assert [subject for subject, _ in failed] == ["first", "second"]
    assert "no topic" in failed[0][1]
    assert "No such file" in failed[1][1]


def test_where_there_is_no_topic_and_no_job_nothing_is_sent(settings: Settings) -> None:
    nowhere = dataclasses.replace(settings, job_summary=None)
    Notices(None, None).send(nowhere, "first", "text")
    assert list(settings.journal.events()) == []
    assert (Notices(None, None).region, Notices(Topic(), TOPIC).region) == (None, "eu-west-1")


def test_a_notice_is_never_longer_than_the_topic_takes(settings: Settings) -> None:
    """Prevents a decision with thousands of reasons that is told to nobody (SNS API reference, 'Publish': 262,144 bytes)."""
    topic = Topic()
    Notices(topic, TOPIC).send(settings, "s", "語" * LONGEST)
    assert LONGEST - 3 <= len(topic.sent[0]["Message"].encode()) <= 262_144
    Notices(topic, TOPIC).send(settings, "é\n" + "x" * 200, "text")
    assert topic.sent[1]["Subject"] == "? " + "x" * 98


@pytest.mark.parametrize(
    ("changes", "unattended", "now", "following"),
    [
        ({"decision": "promote"}, False, "The Task Service gets 25 % of the requests, and all", "`task-migration canary step` raises the weight"),
        ({"decision": "promote"}, True, "gets 25 %", "`canary run` goes on with the ladder's next step by itself"),
        ({"decision": "promote", "to": 100}, True, "gets 100 %", "`task-migration finalize`, once nobody has written on the source"),
        ({}, False, "gets 25 % of the requests; nothing moved back", "- mend what is said above, then `task-migration canary step` watches again; or back: `task-migration rollback"),
        ({}, True, "gets 25 %", "`canary run` watches again, watchRounds times in all, and stops then"),
        ({"decision": "refused"}, True, "Refused: nothing was changed by this step to 25 %", "mend what is said above, then `task-migration canary step`"),
    ],
)  # fmt: skip
def test_a_decision_says_what_is_now_what_decided_and_what_happens_next(
    changes: dict[str, Any], unattended: bool, now: str, following: str
) -> None:
    """Prevents a notice at night from which nobody knows whether to get up."""
    text = notices.decided(document(**changes), unattended=unattended)
    assert unattended or text == notices.decided(document(**changes)), "nobody goes on by itself unless it is said"
    first, *parts = text.split("\n\n")
    assert now in first
    assert parts[0] == "What decided:\n- P95 is 600 ms, the limit is below 500 ms"
    assert parts[1].startswith("What happens next:\n- ")
    assert following in f"- {parts[1].partition('- ')[2]}"
    assert len(parts) == 2


def test_a_decision_leads_to_its_document_and_shows_both_sides() -> None:
    """Prevents a notice that says no figure, or whose evidence nobody finds."""
    kept = document(evidence=FAILING, document="s3://state/a b/x.json")
    text = notices.decided(kept, "eu-west-1")
    assert "- Task Service: 500 requests, 10 % errors, typical P50 10 ms, typical P95 20 ms\n" in text
    assert "monolith:" not in text
    assert "- s3://state/a b/x.json\n" in text
    assert "- https://eu-west-1.console.aws.amazon.com/s3/object/state?region=eu-west-1&prefix=a%20b/x.json\n" in text
    assert "canary status --explain" in text
    one = Observed(60.0, (Period(0.0, Traffic(3, 1, 0, 10.0)),))
    alone = notices.decided(kept.model_copy(update={"evidence": one}))
    assert "- Task Service: 3 requests, 33 % errors, typical P50 10 ms\n" in alone
    back = notices.went_back(BACK, "s3://state/a b/x.json", "eu-west-1")
    assert "The decision with its evidence:\n- s3://state/a b/x.json\n- https://eu-west-1.console" in back


def test_many_reasons_are_told_by_their_number() -> None:
    """Prevents a mail of thirty rules of which all are good."""
    text = notices.decided(document(decision="promote", reasons=[f"rule {number}" for number in range(30)]))
    assert "- rule 11\n- and 18 more, in the decision" in text
    twelve = notices.decided(document(decision="promote", reasons=[f"rule {number}" for number in range(12)]))
    assert "- rule 11\n\nWhat happens next:" in twelve


def test_the_console_is_named_where_a_decision_is_in_a_bucket_of_a_known_region() -> None:
    """Prevents a link that leads nowhere, at night."""
    for place, region, links in (
        ("s3://state/x y/z.json", "eu-west-1", 1),
        ("s3://state/z.json", None, 0),
        ("/var/z.json", "eu-west-1", 0),
    ):
        for text in (notices.decided(document(document=place), region), notices.went_back(BACK, place, region)):
            assert f"The decision with its evidence:\n- {place}\n" in text
            assert (
                text.count("https://eu-west-1.console.aws.amazon.com/s3/object/state?") == text.count("https:") == links
            )
            assert text.endswith("- judged again: `task-migration canary status --explain`")


def test_what_ends_or_stops_says_what_is_now_and_what_to_type() -> None:
    assert notices.stopped("S3 is away") == (
        "`canary run` was ended by an error: the weight stays where it is, and nothing watches it.\n\n"
        "What decided:\n- S3 is away\n\n"
        "What happens next:\n"
        "- `task-migration canary status` says where the weight is\n"
        "- mend what is said above, then `task-migration canary run` goes on from there; or back: `task-migration rollback --reason TEXT`"
    )
    assert notices.alarm(["one", "two"]) == (
        "The canary is on hold.\n\nWhat decided:\n- one\n- two\n\nWhat happens next:\n"
        "- the watch goes on, and nothing is promoted while this lasts\n- back at once: `task-migration rollback --reason TEXT`"
    )


def test_a_rollback_says_whether_it_is_proven_and_where_the_scheduler_belongs() -> None:
    """Prevents a rollback after which both schedulers rest, or run; and one that sounds fine and is not."""
    text = notices.went_back(BACK)
    assert text.startswith("All requests are on the monolith, with every write of the Task Service: ")
    assert "the scheduler runs on the monolith again" in text
    drifted = notices.went_back(BACK.model_copy(update={"drift": "Pulumi does not know it yet"}))
    assert "What happens next:\n- Pulumi does not know it yet\n- the scheduler runs" in drifted
    assert "What happens next:\n- the scheduler runs" in text
    broken = BACK.model_copy(update={"rows": BACK.rows.model_copy(update={"missing": 3})})
    text = notices.went_back(broken)
    assert "It is NOT proven" in text.splitlines()[0]
    assert "3 writes of the target never arrived" in text
    assert "keep both databases as they are" in text
    assert "scheduler" not in text
    assert "did NOT move" in notices.not_moved("Pulumi is away")
    assert "--emergency" in notices.not_moved("Pulumi is away")
    assert "NOT proven" in notices.unproven("the fence")
