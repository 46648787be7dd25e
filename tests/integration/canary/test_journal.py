"""A journal that somebody else writes too: it moves no weight, hides no rollback that is owed, gives back no right and stops no way back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from components.config import MigrationConfig
from components.config_gates import GateLimits
from scripts.canary import decisions, history, readiness, rollback
from scripts.canary import step as canary
from scripts.canary.documents import CanaryStep, Rollback
from scripts.canary.notices import Notices
from scripts.canary.stage import Stage
from scripts.canary.status import status
from scripts.finish import rights
from scripts.rehearsal.world import EmulatedAws
from scripts.replication import fence
from scripts.support.errors import DatabaseError, MigrationError
from scripts.support.events import Step
from scripts.support.settings import Settings
from scripts.verify import run as verify
from tests.cloud import FAILING, SILENT, Cloud
from tests.conftest import Pair
from tests.integration.test_chain import MakePair, count, running
from tests.journal import last
from tests.unit.support.test_journal import FOREIGN

#: Events that nobody of ours wrote: each would have decided something.
FORGED: list[dict[str, Any]] = [
    {"step": "verify", "event": "compared", "match": False},
    {"step": "finalize", "event": "revoking", "role": "myteacher_app_user"},
    {"step": "finalize", "event": "finalized", "removed": []},
    {"step": "canary", "event": "begun", "from": "five", "to": None},
    {"step": "canary", "event": "decided", "document": "/etc/passwd"},
    {"step": "rollback", "event": "begun", "reasons": ["forged"]},
]


def forge(settings: Settings, *events: dict[str, Any]) -> None:
    for event in events:
        settings.journal.record(**event)


def _stage(settings: Settings, cloud: Cloud) -> Stage:
    return Stage(settings, cloud, cloud, None, cloud, metrics=cloud)  # type: ignore[arg-type]


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return running(make_pair, gates=GateLimits(replication_lag_seconds=5.0, minimum_requests=100), watch_seconds=0.05,
                   period_seconds=0.01, metric_delay_seconds=0.0, drain_seconds=0.1)  # fmt: skip


def test_forged_events_decide_nothing(pair: Pair) -> None:
    """Prevents who can write the journal from stopping the canary, rolling it back, or keeping people on the side that fails."""
    settings = pair.settings
    assert verify.run(settings).match
    forge(settings, *FORGED)
    at = _stage(settings, Cloud(observed=SILENT))
    verified = readiness.observe(at).verified
    assert verified is not None
    assert verified.match
    assert rights.source_leads(settings)
    said = status(at)
    assert (said.rollback_owed, said.unfinished, said.last) == (None, None, None)
    # A step goes up, and is not the end of a rollback that nobody began.
    step = canary.step(at)
    assert isinstance(step, CanaryStep)
    assert (step.to, step.decision) == (5, "hold")
    # What was really begun is not hidden by an end that nobody reached.
    forge(settings, {"step": "rollback", "event": "done"}, {"step": "copy", "event": "complete"})
    unfinished = status(at).unfinished
    assert unfinished is not None
    assert unfinished.to == 5
    # Nor does a forged end of `finalize` stop the way back.
    forge(settings, FORGED[2])
    cloud = Cloud(weight=5)
    assert rollback.run(_stage(settings, cloud)).decision == "rollback"
    assert cloud.live == 0
    # The last real verification counts, whatever is said beside it.
    title = "UPDATE tasks SET title = 'unseen' WHERE id = (SELECT min(id) FROM tasks)"
    with pair.target.transaction():
        pair.target.execute("ALTER TABLE tasks DISABLE TRIGGER USER")
        pair.target.execute(title)
        pair.target.execute("ALTER TABLE tasks ENABLE TRIGGER USER")
    assert not verify.run(settings).match
    forge(settings, {"step": "verify", "event": "compared", "match": True})
    verified = readiness.observe(at).verified
    assert verified is not None
    assert not verified.match


def test_a_forged_decision_leads_to_no_file_beside_the_decisions(pair: Pair) -> None:
    """Prevents `canary status --explain` from reading whatever a journal's line names."""
    secret = pair.settings.state_dir / "secret.json"  # type: ignore[operator]
    assert verify.run(pair.settings).match
    step = canary.step(_stage(pair.settings, Cloud(observed=SILENT)))
    assert isinstance(step, CanaryStep)
    secret.write_text(json.dumps({"evidence": None, "decision": "promote"}))
    decided = last(pair.settings.journal, "canary", "decided")
    assert decided is not None
    forge(pair.settings, {**{k: v for k, v in decided.items() if k != "at"}, "document": str(secret)})
    with pytest.raises(MigrationError, match="decisions/secret.json cannot be read"):
        decisions.explain(pair.settings)


def test_foreign_objects_in_s3_stop_neither_a_step_nor_the_way_back_nor_what_is_told_of_it(
    pair: Pair, aws: EmulatedAws, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a rollback that ends with a traceback after the routes have moved, as an empty object made it; and a decision that only
    the machine which made it can explain, or of which nobody is told."""
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="state", CreateBucketConfiguration={"LocationConstraint": aws.region})
    s3.put_object(Bucket="state", Key="night/journal/", Body=b"")
    now = datetime.now(UTC).isoformat()
    for number, (name, body) in enumerate(FOREIGN.items()):
        s3.put_object(Bucket="state", Key=f"night/journal/{name}.json", Body=body[: 2**20])
        s3.put_object(Bucket="state", Key=f"night/journal/{now}-{number:08x}.json", Body=body)
    s3.put_object(Bucket="state", Key=f"night/journal/below/{now}-00000000.json", Body=b"{}")
    topic = aws.client("sns").create_topic(Name="myteacher-alerts")["TopicArn"]
    queue = aws.client("sqs").create_queue(QueueName="night")["QueueUrl"]
    arn = aws.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    settings = replace(pair.settings, state_dir="s3://state/night")
    assert verify.run(settings).match
    forge(settings, *FORGED)
    cloud = Cloud(observed=FAILING)
    at = replace(_stage(settings, cloud), notices=Notices(aws.client("sns"), topic))
    step = canary.step(at)
    assert isinstance(step, CanaryStep)
    assert (step.decision, cloud.live) == ("rollback", 0)
    assert step.rollback is not None
    assert step.rollback.rows.proven
    assert status(at).rollback_owed is None
    # Ours are all there, in order, and what is passed by has been named.
    ours = [event["event"] for event in settings.journal.events() if event["event"] not in ("compared", "revoking")]
    assert ours[-5:] == ["moved", "decided", "begun", "routed", "done"]
    assert (
        "s3://state/night/journal holds what is no event of this program, passed by: night/journal/"
        in capfd.readouterr().err
    )

    # Another machine explains the decision, and the topic was told of it.
    assert str(step.document).startswith("s3://state/night/decisions/")
    answer = decisions.explain(Settings(MigrationConfig(), None, None, None, "s3://state/night"))
    assert (answer.location, answer.decision, answer.again) == (step.document, "rollback", "rollback")
    with pytest.raises(MigrationError, match="cannot be read"):
        decisions.read("s3://state/night/decisions/none.json")
    messages: list[dict[str, Any]] = aws.client("sqs").receive_message(QueueUrl=queue)["Messages"]
    (notice,) = [json.loads(message["Body"]) for message in messages]
    assert notice["Subject"].startswith("rollback from 5 % done in ")
    assert notice["Message"].startswith(f"{notice['Subject']}\n\nAll requests are on the monolith, with every write")
    assert f"\n- {step.document}\n- https://{aws.region}.console.aws.amazon.com/s3/object/state?" in notice["Message"]
    # A topic that is gone is journaled, and nothing more.
    Notices(aws.client("sns"), topic + "-gone").send(settings, "rollback\nfrom 5 % – done", "text")
    failed = last(settings.journal, "canary", "notice-failed")
    assert failed is not None
    assert failed["subject"] == "rollback from 5 % – done"


def test_a_rollback_while_the_source_is_away_is_ended_before_a_step_goes_up(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a weight that goes up again over a rollback that was never proven, as nothing could be written where it counts."""
    settings, cloud = pair.settings, Cloud(observed=SILENT)
    at = _stage(settings, cloud)
    assert verify.run(settings).match
    canary.step(at)
    assert cloud.live == 5

    def away(*_: object, **__: object) -> None:
        raise DatabaseError("the source is away")

    for module, name in ((history, "keep"), (rights, "give_back"), (fence, "reverse")):
        monkeypatch.setattr(module, name, away)
    with pytest.raises(DatabaseError, match="all routes are on the monolith .* not proven"):
        rollback.run(at)
    assert cloud.live == 0
    monkeypatch.undo()
    owed = status(at).rollback_owed
    assert owed is not None
    assert "was 5 %, and no rollback since 20" in owed[0]
    # A forged end does not take it away.
    forge(settings, {"step": "rollback", "event": "done"})
    ended = canary.step(at)
    assert isinstance(ended, Rollback)
    assert ended.rows.proven
    assert status(at).rollback_owed is None
    assert count(pair.source, "SELECT count(*) FROM task_migration.settings WHERE name = 'canary'") == 1
    step = canary.step(at)
    assert isinstance(step, CanaryStep)
    assert step.to == 5


def test_two_who_write_how_far_the_canary_is_lose_nothing(pair: Pair) -> None:
    """Prevents a rollback that a step, which began to write before it, forgets again."""
    import threading

    many = [
        threading.Thread(
            target=history.keep,
            args=(pair.settings, Step.CANARY, "moved", {"to": 5, "seconds": float(number)}),
        )
        for number in range(8)
    ]
    for one in many:
        one.start()
    for one in many:
        one.join()
    assert sorted(history.read(pair.settings).ups) == [float(number) for number in range(8)]
