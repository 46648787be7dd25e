"""The emulated provider itself: what moto cannot hold is still judged; differences; paths of ignored changes; the CLI's locks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ParamValidationError

from components.naming import MANAGED_POLICIES
from scripts.rehearsal.emulated import properties, registry
from scripts.rehearsal.emulated.core import Aws, ProviderError
from scripts.rehearsal.emulated.limits import Limit, judge
from scripts.rehearsal.engine.pulumi_cli import PulumiDeployer
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import MigrationError, Refused, UsageError
from tests.engine_support import SMOKE_VALUE, take_down, write_program

ENDPOINT = "aws:dms/endpoint:Endpoint"
ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatedAws]:
    with EmulatedAws() as running:
        yield running


@pytest.fixture
def aws(server: EmulatedAws) -> Aws:
    server.reset()
    return Aws(server.region, server.environment())


def test_change_that_moto_cannot_hold_is_judged_by_botocore(aws: Aws) -> None:
    """Fails when an endpoint's settings are rehearsed unchecked, because the emulation has no ModifyEndpoint."""
    inputs: dict[str, Any] = {
        "endpointId": "source",
        "endpointType": "source",
        "engineName": "postgres",
        "databaseName": "d",
        "postgresSettings": {"heartbeatFrequency": 5},
    }
    made = registry.create(aws, ENDPOINT, inputs)
    assert made.outputs["endpointArn"].startswith("arn:aws:dms:")
    changed = {**inputs, "postgresSettings": {"heartbeatFrequency": 10}}
    assert registry.update(aws, ENDPOINT, made.id, inputs, changed)["postgresSettings"] == {"heartbeatFrequency": 10}
    wrong = {**inputs, "postgresSettings": {"heartbeatFrequency": "often", "heartBeat": True}}
    with pytest.raises(ProviderError, match=r"cannot update aws:dms/endpoint.*HeartBeat.*HeartbeatFrequency"):
        registry.update(aws, ENDPOINT, made.id, inputs, wrong)


def test_a_domain_gets_another_certificate_in_place_and_a_rule_takes_five_values(aws: Aws) -> None:
    """Fails when a renewed certificate replaces the name that clients call, or a rule is rehearsed that AWS refuses."""
    token = "aws:apigatewayv2/domainName:DomainName"
    settings = {"certificateArn": "arn:aws:acm:x:1:certificate/1", "endpointType": "REGIONAL"}
    inputs: dict[str, Any] = {"domainName": "tasks.example.com", "domainNameConfiguration": settings}
    made = registry.create(aws, token, inputs)
    target = made.outputs["domainNameConfiguration"]["targetDomainName"]
    assert target.endswith(f".execute-api.{aws.region}.amazonaws.com")
    renewed = {**inputs, "domainNameConfiguration": {**settings, "certificateArn": "arn:aws:acm:x:1:certificate/2"}}
    assert not registry.difference(token, inputs, renewed).replaces
    assert (
        registry.update(aws, token, made.id, inputs, renewed)["domainNameConfiguration"]["targetDomainName"] == target
    )
    rule = {
        "listenerArn": "arn:aws:elasticloadbalancing:x:1:listener/app/a/1/2",
        "priority": 1,
        "actions": [{"type": "forward", "targetGroupArn": "arn:aws:elasticloadbalancing:x:1:targetgroup/a/1"}],
        "conditions": [
            {"pathPattern": {"values": ["/a", "/b"]}},
            {"hostHeader": {"values": ["a.x", "b.x", "c.x", "d.x"]}},
        ],
    }
    with pytest.raises(ProviderError, match="a rule takes 5 condition values, not 6"):
        registry.create(aws, "aws:lb/listenerRule:ListenerRule", rule)


def test_every_limit_names_an_operation_of_aws(aws: Aws) -> None:
    """Fails when the list of what moto cannot hold has an operation that AWS does not have either."""
    for limit in Limit:
        with pytest.raises(ParamValidationError, match="noSuchParameter"):
            judge(aws, limit, {"noSuchParameter": 1})


def test_percentile_of_an_alarm_is_answered_from_the_inputs(aws: Aws) -> None:
    """Fails when the p95 alarm loses its statistic in the outputs, or a made-up one passes."""
    inputs = {
        "name": "p95",
        "comparisonOperator": "GreaterThanThreshold",
        "evaluationPeriods": 1,
        "metricName": "TargetResponseTime",
        "namespace": "AWS/ApplicationELB",
        "period": 60,
        "threshold": 0.5,
        "extendedStatistic": "p95",
        "dimensions": {"LoadBalancer": "app/a/b"},
    }
    made = registry.create(aws, ALARM, inputs)
    assert made.outputs["extendedStatistic"] == "p95"
    assert made.outputs["arn"].endswith(":alarm:p95")
    with pytest.raises(ProviderError, match="often"):
        registry.update(aws, ALARM, made.id, inputs, {**inputs, "extendedStatistic": "often"})


def test_deleting_what_is_gone_is_no_error_and_reading_it_finds_nothing(aws: Aws) -> None:
    """Fails when a second `destroy` after a kill stumbles over what the first one deleted."""
    for token, inputs in {
        "aws:cloudwatch/logGroup:LogGroup": {"name": "/g"},
        "aws:s3/bucket:Bucket": {"bucket": "some-bucket"},
        "aws:iam/role:Role": {"name": "r", "assumeRolePolicy": json.dumps({"Version": "2012-10-17", "Statement": []})},
        "aws:sns/topic:Topic": {"name": "t"},
        "aws:ec2/securityGroup:SecurityGroup": {"name": "g", "description": "d", "vpcId": _vpc(aws)},
        "aws:apigatewayv2/api:Api": {"name": "a", "protocolType": "HTTP"},
    }.items():
        made = registry.create(aws, token, inputs)
        assert registry.read(aws, token, made.id, inputs) == registry.Found(inputs, made.outputs)
        registry.delete(aws, token, made.id, made.outputs)
        registry.delete(aws, token, made.id, made.outputs)
        assert registry.read(aws, token, made.id, inputs) is None


def _vpc(aws: Aws) -> str:
    return str(aws.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"])


def test_documents_are_compared_by_meaning_and_names_decide_the_order_of_replacing() -> None:
    """Fails when a reordered policy is a change, or a replacement tries to take a name that is still taken."""
    role = "aws:iam/role:Role"
    policy, same = '{"Version": "2012-10-17", "Statement": []}', '{"Statement":[],"Version":"2012-10-17"}'
    old = {"name": "r", "path": "/", "assumeRolePolicy": policy, "tags": {}}
    assert registry.difference(role, old, {**old, "assumeRolePolicy": same, "tags": None}).changed == ()
    moved = registry.difference(role, old, {**old, "path": "/x/"})
    assert (moved.changed, moved.replaces, moved.delete_first) == (("path",), ("path",), True)
    renamed = registry.difference(role, old, {**old, "name": "s"})
    assert (renamed.replaces, renamed.delete_first) == (("name",), False)


def test_ignored_paths_reach_into_lists_and_maps() -> None:
    """Fails when ignoreChanges of one tag hides a change of another."""
    old = {"a": [{"b": 1, "c": 1}], "tags": {"x": "1", "y": "1"}, "gone": 1}
    new = {"a": [{"b": 2, "c": 2}], "tags": {"x": "2", "y": "2"}, "fresh": 1}
    kept = properties.ignore_changes(new, old, ["a[0].b", 'tags["x"]', "gone", "fresh"])
    assert kept == {"a": [{"b": 1, "c": 2}], "tags": {"x": "1", "y": "2"}, "gone": 1}
    assert new["tags"] == {"x": "2", "y": "2"}
    assert properties.ignore_changes(new, old, ["*"]) == old


@pytest.mark.engine
def test_failures_of_the_real_engine_name_cause_and_remedy(server: EmulatedAws, tmp_path: Path) -> None:
    """Fails when a locked stack, a refused parameter or a misspelt key ends in a page of the CLI's output."""
    server.reset()
    body = """
    config = pulumi.Config('task-migration')
    weight = config.require_int('canaryWeight')
    aws.cloudwatch.LogGroup('group', name='/g' if weight else '', retention_in_days=weight,
        tags={'v': config.require_secret('smokeHeaderValue')}, opts=pulumi.ResourceOptions(protect=weight != 21))
    """
    program = write_program(tmp_path / "program", body)
    config = {"canaryWeight": 7, "smokeHeaderValue": SMOKE_VALUE}
    deployer = PulumiDeployer(tmp_path / "engine", config, server.environment(), program=program)
    with pytest.raises(MigrationError, match=r"pulumi up failed.*cannot create.*logGroupName"):
        deployer.up({"canaryWeight": 0})
    deployer.up({"canaryWeight": 7})
    assert [change.properties for change in deployer.preview({"canaryWeight": 14})] == [("retentionInDays",)]
    assert deployer.config() == {"canaryWeight": 7}
    with pytest.raises(UsageError, match="canaryWeigth"):
        deployer.preview({"canaryWeigth": 5})
    with pytest.raises(MigrationError, match=r"group.*protected"):
        take_down(deployer)
    backend = tmp_path / "engine" / "backend" / ".pulumi"
    assert SMOKE_VALUE not in "".join(file.read_text() for file in backend.rglob("*.json"))
    locks = backend / "locks" / "organization" / "task-migration" / "rehearsal"
    locks.mkdir(parents=True, exist_ok=True)
    holder = {"pid": 1, "username": "x", "hostname": "elsewhere", "timestamp": "2026-01-01T00:00:00Z"}
    (locks / "00000000-0000-0000-0000-000000000000.json").write_text(json.dumps(holder))
    with pytest.raises(Refused, match="pulumi cancel"):
        deployer.up({})
    deployer.cancel()
    deployer.up({"canaryWeight": 21})
    take_down(deployer)
    assert server.client("logs").describe_log_groups()["logGroups"] == []


def test_a_policy_of_aws_that_the_deploy_role_may_not_attach_is_refused(aws: Aws) -> None:
    """Fails when a role is rehearsed with rights that the first `up` on AWS ends at, as the deploy role may attach only some."""
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    registry.create(aws, "aws:iam/role:Role", {"name": "r", "assumeRolePolicy": trust})
    base = "arn:aws:iam::aws:policy"
    for policy in MANAGED_POLICIES:
        given = {"role": "r", "policyArn": f"{base}/service-role/{policy}"}
        registry.create(aws, "aws:iam/rolePolicyAttachment:RolePolicyAttachment", given)
    given = {"role": "r", "policyArn": f"{base}/AdministratorAccess"}
    with pytest.raises(ProviderError, match="AdministratorAccess"):
        registry.create(aws, "aws:iam/rolePolicyAttachment:RolePolicyAttachment", given)
