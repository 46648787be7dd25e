"""The account's checks against the emulated account: before the first `up`, with the stack's file alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from components import ci_roles
from components.ci_place import Place
from components.config_stack import StackConfig
from components.config_values import parse
from scripts.cli.app import app
from scripts.preflight.account.asking import Clients, clients
from scripts.preflight.account.run import checks
from scripts.preflight.documents import Check
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import MigrationError, UsageError
from scripts.support.listener_rules import parse_rule
from tests.engine_support import stack_config
from tests.iam import held
from tests.recorded_aws import RecordedAws


@pytest.fixture(scope="module")
def world(aws: EmulatedAws) -> dict[str, object]:
    """What the account has, and a file that fits it; a test takes away what it adds."""
    aws.reset()
    return {key: value for key, value in stack_config(build_world(aws)).items() if key != "smokeHeaderValue"}


@pytest.fixture
def asked(aws: EmulatedAws, in_account: None) -> Clients:
    return clients(aws.region)


def failed(
    world: dict[str, object], asked: Clients, subject: str = "listener", other: Mapping[str, object] | None = None
) -> dict[str, Check]:
    """What fails or warns of a subject, by name."""
    found = checks(parse(StackConfig, {**world, **(other or {})}), asked)
    return {check.name: check for check in found if check.status != "pass" and check.name.startswith(subject)}


def test_nothing_is_wrong_with_an_account_that_is_as_the_plan_wants(
    world: dict[str, object], asked: Clients, aws: EmulatedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a check is wrong about a sound account, or asks what the operator's role may not."""
    told = failed(world, asked, "")
    assert {check.status for check in told.values()} <= {"warn"}
    # What the first `up` makes.
    assert {name.partition(":")[0] for name in told} <= {"service", "secrets"}
    place = Place(parse(StackConfig, world), "myteacher/tasks", "main", "pulumi-state", "arn:aws:kms:x:1:key/1")
    with RecordedAws(aws) as recorded:
        monkeypatch.setenv("AWS_ENDPOINT_URL", recorded.url)
        checks(place.config, clients(aws.region))
        called = recorded.clear()
    # Who a caller is may be asked by anybody (AWS STS, 'GetCallerIdentity').
    assert called - {"sts:GetCallerIdentity"} <= ci_roles.actions(place, "operator")
    assert called


def test_credentials_of_another_account_are_named(world: dict[str, object], asked: Clients, aws: EmulatedAws) -> None:
    """Fails when an `up` with the wrong profile starts to make a stack in an account that is not meant."""
    account = aws.client("sts").get_caller_identity()["Account"]
    elsewhere = {
        key: value.replace(account, "1" * 12) if isinstance(value, str) else value for key, value in world.items()
    }
    found = failed(elsewhere, asked, "place")["place: account"]
    assert found.status == "fail"
    assert f"of account {account}; limit: 111111111111" in found.detail
    assert "AWS_PROFILE" in found.remedy


def test_a_call_that_iam_refuses_is_a_failed_check_that_names_the_action(
    world: dict[str, object], asked: Clients, aws: EmulatedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a missing right ends the command, or hides what else is wrong."""
    with held(aws, [{"Action": ["sts:GetCallerIdentity"], "Resource": ["*"]}]) as nobody:
        for name, value in nobody.items():
            monkeypatch.setenv(name, value)
        # The default session keeps the credentials that it found first.
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        found = failed(world, clients(aws.region))
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    assert found["listener"].status == "fail"
    assert "elasticloadbalancing:DescribeListeners" in found["listener"].detail
    assert "allow elasticloadbalancing:DescribeListeners" in found["listener"].remedy


def test_the_command_looks_at_the_account_alone_where_no_database_is_named(
    world: dict[str, object],
    asked: Clients,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails when `preflight --account` wants a deployed stack, which is not there before the first `up`."""
    monkeypatch.chdir(tmp_path)
    for name in ("SOURCE_DATABASE_URL", "TARGET_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    there = str(world["listenerArn"])
    listener = there[:-1] + ("1" if there.endswith("0") else "0")
    for values, status in ((world, 0), ({**world, "listenerArn": listener}, 10)):
        file = {f"task-migration:{key}": value for key, value in values.items()}
        (tmp_path / "Pulumi.staging.yaml").write_text(yaml.safe_dump({"config": file}))
        result = CliRunner().invoke(app, ["preflight", "--account", "--stack", "staging", "--json"])
        assert result.exit_code == status
    found = {check["name"]: check["detail"] for check in json.loads(result.stdout)["checks"]}
    assert found["listener: listenerArn"] == f"{listener} does not exist"


def test_no_stack_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_STACK", raising=False)
    with pytest.raises(UsageError, match="no stack is selected"):
        CliRunner().invoke(app, ["preflight", "--account"], catch_exceptions=False)


@contextmanager
def another_rule(aws: EmulatedAws, world: dict[str, object], priority: int, kind: str, value: str) -> Iterator[None]:
    """A rule of others with one condition: its host leads to another application, its path to the monolith."""
    elb = aws.client("elbv2")
    group = world["monolithTargetGroupArn"]
    if kind == "host-header":
        made = elb.create_target_group(Name="shop", Protocol="HTTP", Port=80, VpcId=world["vpcId"])
        group = made["TargetGroups"][0]["TargetGroupArn"]
    rule = elb.create_rule(
        ListenerArn=world["listenerArn"],
        Priority=priority,
        Conditions=[{"Field": kind, "Values": [value]}],
        Actions=[{"Type": "forward", "TargetGroupArn": group}],
    )["Rules"][0]["RuleArn"]
    try:
        yield
    finally:
        elb.delete_rule(RuleArn=rule)
        if kind == "host-header":
            elb.delete_target_group(TargetGroupArn=group)


SHOP = (300, "host-header", "shop.example.com")


@pytest.mark.parametrize(
    ("rule", "name", "detail"),
    [
        (SHOP, "listener: weight 0 and rule 300", "rule 300 (shop) answers GET /api/tasks"),
        (
            (100, "path-pattern", "/api/*"),
            "listener: weight 100 and rule 100",
            "the monolith would go on answering",
        ),
        (
            (110, "path-pattern", "/reports/*"),
            "listener: priorities",
            "priority 110 is taken by arn:aws:elasticloadbalancing:",
        ),
    ],
)
def test_rules_of_others_that_the_move_would_meet_are_refused(
    world: dict[str, object],
    asked: Clients,
    aws: EmulatedAws,
    rule: tuple[int, str, str],
    name: str,
    detail: str,
) -> None:
    """Fails when an `up` at weight 0 takes away somebody's requests, or the weight moves nothing, and nobody said so."""
    with another_rule(aws, world, *rule):
        found = failed(world, asked)
    assert list(found) == [name]
    assert found[name].status == "fail"
    assert detail in found[name].detail
    assert found[name].remedy


@pytest.mark.parametrize(
    ("other", "name", "detail"),
    [
        ({"listenerPort": 8443}, "listener: protocol and port", "HTTPS on port 443; limit: HTTPS on port 8443"),
        ({"listenerProtocol": "HTTP"}, "listener: protocol and port", "limit: HTTP on port 443"),
        (
            {"loadBalancerSecurityGroupId": "sg-0123456789abcdef0"},
            "listener: load balancer",
            "and sg-0123456789abcdef0",
        ),
        (
            {"listenerServerName": "www.myteacher.example"},
            "listener: certificate",
            "it is for api.myteacher.example; limit: www.myteacher.example",
        ),
    ],
)
def test_what_the_file_says_of_the_listener_is_compared(
    world: dict[str, object], asked: Clients, other: dict[str, object], name: str, detail: str
) -> None:
    """Fails when each request through the API would end in an error of API Gateway, and `up` goes well."""
    found = failed(world, asked, other=other)
    assert list(found) == [name]
    assert detail in found[name].detail


def test_the_rules_of_every_listener_of_the_load_balancer_are_counted(
    world: dict[str, object], asked: Clients, aws: EmulatedAws
) -> None:
    """Fails when an `up` ends half-way at a quota that the rules of another listener had used up."""

    def amount() -> int:
        found = checks(parse(StackConfig, world), asked)
        return next(int(one.detail.split()[0]) for one in found if one.name == "listener: number of rules")

    elb, before = aws.client("elbv2"), amount()
    (listener,) = elb.describe_listeners(ListenerArns=[world["listenerArn"]])["Listeners"]
    answer = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
    beside = elb.create_listener(
        LoadBalancerArn=listener["LoadBalancerArn"], Protocol="HTTP", Port=8080, DefaultActions=[answer]
    )["Listeners"][0]["ListenerArn"]
    path = {"Field": "path-pattern", "Values": ["/x"]}
    elb.create_rule(ListenerArn=beside, Priority=1, Conditions=[path], Actions=[answer])
    try:
        assert amount() == before + 1
    finally:
        elb.delete_listener(ListenerArn=beside)


def test_a_certificate_that_iam_keeps_is_not_taken_for_a_wrong_one(
    world: dict[str, object], asked: Clients, aws: EmulatedAws
) -> None:
    """Fails when a listener whose certificate ACM does not know is refused, for all that its name may be right."""
    made = aws.client("iam").upload_server_certificate(
        ServerCertificateName="old", CertificateBody="x", PrivateKey="x"
    )["ServerCertificateMetadata"]["Arn"]
    listener, elb = {"ListenerArn": world["listenerArn"]}, aws.client("elbv2")
    elb.add_listener_certificates(**listener, Certificates=[{"CertificateArn": made}])
    try:
        assert failed(world, asked) == {}
        (check,) = failed(world, asked, other={"listenerServerName": "www.myteacher.example"}).values()
    finally:
        elb.remove_listener_certificates(**listener, Certificates=[{"CertificateArn": made}])
        aws.client("iam").delete_server_certificate(ServerCertificateName="old")
    assert (check.name, check.status) == ("listener: certificate", "warn")
    assert f"{made} is kept by IAM" in check.detail


def test_a_custom_domains_certificate_has_to_be_for_it(
    world: dict[str, object], asked: Clients, aws: EmulatedAws
) -> None:
    arn = aws.client("acm").request_certificate(DomainName="*.example.com")["CertificateArn"]
    domain = {"customDomainName": "tasks.example.com", "customDomainCertificateArn": arn}
    assert failed(world, asked, other=domain) == {}
    found = failed(world, asked, other={**domain, "customDomainName": "a.tasks.example.com"})
    assert found["listener: custom domain"].detail == (
        "its certificate is for *.example.com; limit: a.tasks.example.com"
    )


def test_the_monoliths_target_group_has_to_be_behind_that_load_balancer(
    world: dict[str, object], asked: Clients, aws: EmulatedAws
) -> None:
    """Fails when the live rule would send everybody to a group of another load balancer, which AWS refuses in the `up`."""
    elb = aws.client("elbv2")
    made = elb.create_target_group(Name="idle", Protocol="HTTP", Port=80, VpcId=world["vpcId"])["TargetGroups"][0]
    name = "listener: monolith's target group"
    try:
        found = failed(world, asked, other={"monolithTargetGroupArn": made["TargetGroupArn"]})
        assert "it is behind no load balancer; limit: app/myteacher/" in found[name].detail
    finally:
        elb.delete_target_group(TargetGroupArn=made["TargetGroupArn"])
    gone = failed(world, asked, other={"monolithTargetGroupArn": made["TargetGroupArn"]})
    assert gone[name].detail.endswith("does not exist")
    # And nobody's requests would be the monolith's any more.
    assert "listener: weight 0 and the default action" in gone


# What these two deploy stays.
@pytest.mark.last
def test_after_a_deployment_the_own_rules_are_known_by_their_tags(
    world: dict[str, object], asked: Clients, aws: EmulatedAws, tmp_path: Path
) -> None:
    """Fails when the checks take the program's own rules for somebody's, or miss what was added behind them since."""
    values = {**world, "smokeHeaderValue": "a-value-that-nobody-prints-1f9c"}
    EmbeddedDeployer(tmp_path / "state.json", values, aws.environment()).up({"canaryWeight": 25})
    assert failed(world, asked) == {}
    with another_rule(aws, world, *SHOP):
        assert list(failed(world, asked)) == ["listener: weight 0 and rule 300"]
    # Another stack's rules are not ours.
    assert "listener: priorities" in failed(world, asked, other={"environment": "prod"})


@pytest.mark.last
def test_users_bound_to_a_target_of_the_monolith_need_a_rule_that_binds_too(
    world: dict[str, object], asked: Clients, aws: EmulatedAws, tmp_path: Path
) -> None:
    """Fails when the first step to 5 % is what shows that AWS refuses a rule of two groups, in the night."""
    aws.reset()
    fresh = {**stack_config(build_world(aws)), "smokeHeaderValue": "a-value-that-nobody-prints-1f9c"}
    values = {key: value for key, value in fresh.items() if key != "smokeHeaderValue"}
    elb, group = aws.client("elbv2"), str(fresh["monolithTargetGroupArn"])

    def bind(**attributes: str) -> None:
        pairs = [{"Key": f"stickiness.{name}", "Value": value} for name, value in attributes.items()]
        elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=pairs)

    name = "listener: users bound to a target of the monolith"
    bind(enabled="true")
    found = failed(values, asked)[name]
    assert (found.status, found.detail.partition(";")[0]) == ("fail", "lb_cookie, canaryStickySeconds 0")
    assert f"Key=stickiness.enabled,Value=false --target-group-arn {group}" in found.remedy
    deployer = EmbeddedDeployer(tmp_path / "state.json", fresh, aws.environment())
    live = deployer.up({}).outputs["liveRuleArn"]
    with pytest.raises(MigrationError, match="You must enable group stickiness on a rule"):
        deployer.up({"canaryWeight": 5})

    def sticky() -> int:
        return int(parse_rule(elb.describe_rules(RuleArns=[live])["Rules"][0]).sticky)

    bound = {"canaryStickySeconds": 60}
    assert name not in failed(values, asked, other=bound)
    deployer.up({"canaryWeight": 5, **bound})
    assert sticky()
    # Where nothing is deployed but the weight, a change made beside the program shows: the seconds are of the same property.
    for weight in (25, 100, 50, 0):
        assert [one.properties for one in deployer.preview({"canaryWeight": weight})] == [("actions",)]
        deployer.up({"canaryWeight": weight})
        assert bool(sticky()) is (0 < weight < 100)
        assert deployer.preview({}) == ()
    bind(enabled="true", type="app_cookie", **{"app_cookie.cookie_name": "laravel_session"})
    assert failed(values, asked, other=bound)[name].status == "warn"
    with pytest.raises(ClientError, match="duration must be between 1 and 604800"):
        _modify(elb, live, group, {"Enabled": True})


def _modify(elb: Any, rule: str, group: str, sticky: Mapping[str, object]) -> None:
    groups = [{"TargetGroupArn": group, "Weight": 1}]
    forward = {"TargetGroups": groups, "TargetGroupStickinessConfig": sticky}
    elb.modify_rule(RuleArn=rule, Actions=[{"Type": "forward", "ForwardConfig": forward}])
