"""The edge to AWS against the emulated API: journal in S3, passwords from Secrets Manager, the load balancer's weight."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from components.config import MigrationConfig
from scripts.canary import decisions
from scripts.canary.traffic import LoadBalancer, Rule
from scripts.database.connections import parameters
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.report import run
from scripts.support.aws import client, database_url
from scripts.support.errors import MigrationError, Refused, TimedOut, UsageError
from scripts.support.journal_s3 import S3Journal
from scripts.support.settings import Settings, open_journal
from tests.journal import last
from tests.unit.report.test_journal import T0, WHOLE, watched

pytestmark = pytest.mark.usefixtures("in_account")


def test_the_journal_in_s3_keeps_the_order_and_tells_a_missing_bucket(aws: EmulatedAws) -> None:
    aws.client("s3").create_bucket(Bucket="state", CreateBucketConfiguration={"LocationConstraint": aws.region})
    journal = open_journal("s3://state/prod")
    assert isinstance(journal, S3Journal)
    for number in range(12):
        journal.record("copy", "progress", number=number)
    journal.record("verify", "done", match=True)
    assert [event["number"] for event in open_journal("s3://state/prod").events("copy")] == list(range(12))
    newest = last(journal, "copy", "progress")
    assert newest is not None
    assert newest["number"] == 11
    with pytest.raises(MigrationError, match="s3://nowhere/journal cannot be used"):
        open_journal("s3://nowhere").record("copy", "begun")
    with pytest.raises(UsageError, match="is no S3 location"):
        open_journal("gs://bucket/x")


def test_a_run_is_reported_from_s3_alone_with_what_its_decisions_keep_there(aws: EmulatedAws) -> None:
    aws.client("s3").create_bucket(Bucket="run", CreateBucketConfiguration={"LocationConstraint": aws.region})
    settings = Settings(MigrationConfig(), None, None, None, "s3://run/prod")
    for event in WHOLE[:12]:
        facts = {name: value for name, value in event.items() if name not in ("at", "step", "event")}
        settings.journal.record(event["step"], event["event"], **facts)
    began = datetime.now(UTC).timestamp()
    facts = {"from": 0, "to": 25, "decision": "promote", "reasons": [], "seconds": 1.0}
    evidence = asdict(watched(began - T0))
    location = decisions.keep(settings, datetime.now(UTC).isoformat(), {**facts, "evidence": evidence})
    settings.journal.record("canary", "decided", **facts, document=location)
    found = run.read(settings)
    assert found.passed is None
    assert found.verdict == "Not at its end: the Task Service gets 25 %; nothing failed so far"
    assert found.story.decisions[0].evidence.startswith("3 periods of 60 s")
    assert found.story.tables[0].rows == 70
    with pytest.raises(Refused, match="s3://run/other is empty"):
        run.read(replace(settings, state_dir="s3://run/other"))


def test_a_stacks_database_is_reached_with_the_secrets_password(
    aws: EmulatedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLROOTCERT", "system")
    secret = json.dumps({"username": "replicator", "password": "p@ss w'rd%"})
    arn = aws.client("secretsmanager").create_secret(Name="x/source", SecretString=secret)["ARN"]
    outputs = {"sourceHost": "db.internal", "sourcePort": 5433, "sourceDatabase": "m", "sourceSecretArn": arn}
    values = parameters(database_url("source", outputs), "source")
    assert (values["host"], values["port"], values["user"], values["password"]) == (
        "db.internal",
        "5433",
        "replicator",
        "p@ss w'rd%",
    )
    with pytest.raises(MigrationError, match="cannot be read.*secretsmanager:GetSecretValue"):
        database_url("source", {**outputs, "sourceSecretArn": arn + "gone"})


def test_the_weight_is_read_from_the_rule_and_a_stranger_in_it_is_refused(aws: EmulatedAws) -> None:
    world: dict[str, Any] = build_world(aws)
    elb = aws.client("elbv2")
    groups = [
        elb.create_target_group(Name=name, Protocol="HTTP", Port=80, VpcId=world["vpcId"], TargetType="ip")[
            "TargetGroups"
        ][0]["TargetGroupArn"]
        for name in ("task", "stranger")
    ]

    def forward(weights: dict[str, int]) -> list[dict[str, Any]]:
        listed = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]
        return [{"Type": "forward", "ForwardConfig": {"TargetGroups": listed}}]

    monolith = world["monolithTargetGroupArn"]
    rule = elb.create_rule(
        ListenerArn=world["listenerArn"],
        Priority=7,
        Conditions=[{"Field": "path-pattern", "Values": ["/api/tasks"]}],
        Actions=forward({monolith: 75, groups[0]: 25}),
    )["Rules"][0]["RuleArn"]
    balancer = LoadBalancer(elb, Rule(rule, groups[0], monolith))
    assert balancer.weight() == 25
    with pytest.raises(TimedOut, match=r"the live rule at 50 %: not so after 0\.1 s .*last seen: 25"):
        balancer.confirm(50, timeout=0.1)
    elb.modify_rule(RuleArn=rule, Actions=[{"Type": "forward", "TargetGroupArn": monolith}])
    assert balancer.weight() == 0
    elb.modify_rule(RuleArn=rule, Actions=forward({monolith: 50, groups[1]: 50}))
    with pytest.raises(Refused, match="neither the monolith nor the Task Service"):
        balancer.weight()
    # `shadow` asks the Task Service by the smoke rule, which somebody may have turned to the monolith, or given another value.
    smoke = elb.create_rule(
        ListenerArn=world["listenerArn"],
        Priority=6,
        Conditions=[
            {"Field": "path-pattern", "Values": ["/api/tasks"]},
            {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Smoke", "Values": ["the-value"]}},
        ],
        Actions=forward({groups[0]: 100}),
    )["Rules"][0]["RuleArn"]
    assert balancer.leads_to_service(smoke, {"x-smoke": "the-value"})
    assert not balancer.leads_to_service(smoke, {"x-smoke": "another"})
    elb.modify_rule(RuleArn=smoke, Actions=forward({groups[0]: 50, monolith: 50}))
    assert not balancer.leads_to_service(smoke, {"x-smoke": "the-value"})


def test_a_decision_and_its_event_wait_for_s3_no_longer_than_a_rollback_can(aws: EmulatedAws) -> None:
    """Prevents a breach that is rolled back minutes later, as the place of its decision does not answer: boto3 waits 60 s, five times."""
    for held in (client("s3"), S3Journal("state", "prod")._client):
        config = held.meta.config
        assert (config.connect_timeout + config.read_timeout) * config.retries["total_max_attempts"] <= 45
