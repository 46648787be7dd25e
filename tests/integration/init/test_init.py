"""`init` against the emulated account: what it finds, what it leaves open, and what it never touches."""

from __future__ import annotations

import functools
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.stub import Stubber
from moto.iam.aws_managed_policies import aws_managed_policies_data
from typer.testing import CliRunner

from components.config import PROJECT
from components.config_stack import StackConfig
from components.config_values import parse, read_stack_file
from scripts.cli.app import app
from scripts.init.documents import Init, InitKey
from scripts.init.layout import stack_text
from scripts.init.run import init
from scripts.preflight.account.asking import Clients, clients
from scripts.rehearsal.emulated.core import Aws
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.plan import REGION
from scripts.rehearsal.world import EmulatedAws, build_world
from scripts.support.errors import UsageError
from scripts.support.settings import PROJECT_ROOT
from tests.engine_support import SMOKE_VALUE
from tests.iam import held
from tests.recorded_aws import RecordedAws

CERTIFICATE = f"arn:aws:dms:{REGION}:123456789012:cert:rds"
#: What nothing in the account says.
SAID = {"serviceImageTag": "3f2c1a9", "alarmEmails": "operations@example.com,night@example.com"}

#: Clients that answer by themselves, made once: each reads its service's whole description.
STUBBED: dict[str, Any] = {}
#: What answers for each: one that is left active would go on answering the next account's.
STUBS: dict[str, Stubber] = {}


class Account:
    """The emulated account with all that a real one has, and the folder of a project in which nothing is filled in."""

    directory: Path

    def __init__(self, aws: EmulatedAws) -> None:
        self.aws = aws
        #: Whether a test made something in it.
        self.changed = False
        self.world = build_world(aws)
        self.vpc = str(self.world["vpcId"])
        ec2 = aws.client("ec2")
        allocation = ec2.allocate_address(Domain="vpc")["AllocationId"]
        subnet = self.world["privateSubnetIds"][0]  # type: ignore[index]
        nat = ec2.create_nat_gateway(SubnetId=subnet, AllocationId=allocation)["NatGateway"]["NatGatewayId"]
        tables = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [self.vpc]}])["RouteTables"]
        self.main_table = tables[0]["RouteTableId"]
        ec2.create_route(RouteTableId=self.main_table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
        rds = aws.client("rds")
        described = rds.describe_db_instances()["DBInstances"][0]
        secret = aws.client("secretsmanager").create_secret(Name="myteacher/operator", SecretString="{}")["ARN"]
        # Who operates is a person's to say.
        known = {name: value for name, value in self.world.items() if not name.startswith("operator")}
        self.expected = {
            **known,
            "sourceHost": described["Endpoint"]["Address"],
            "sourceOperatorSecretArn": secret,
            "serviceImageTag": "3f2c1a9",
            "alarmEmails": SAID["alarmEmails"].split(","),
            "dmsCreateAccountRoles": True,
            "liveRulePriority": 110,
        }

    @property
    def file(self) -> Path:
        return self.directory / "Pulumi.staging.yaml"

    def clients(self, answers: Mapping[str, Mapping[str, Any]] | None = None) -> Clients:
        """Clients of the account; what moto does not know, or would say otherwise, is answered here as botocore's model has it."""
        certificates = {"Certificates": [{"CertificateArn": CERTIFICATE, "CertificateIdentifier": "rds"}]}
        stubbed = {"dms": {"describe_certificates": certificates}, **(answers or {})}
        for service, given in stubbed.items():
            if service not in STUBBED:
                STUBBED[service] = clients(REGION)(service)
            if service in STUBS:
                STUBS[service].deactivate()
            stub = STUBS[service] = Stubber(STUBBED[service])
            for operation, answer in given.items():
                if isinstance(answer, int):
                    for _ in range(2):
                        stub.add_client_error(operation, str(answer), http_status_code=answer)
                else:
                    stub.add_response(operation, dict(answer))
            stub.activate()
        return lambda service: STUBBED[service] if service in stubbed else self.aws.client(service)

    def init(self, given: Mapping[str, str] | None = None, **options: Any) -> Init:
        options.setdefault("aws", self.clients())
        return init("staging", self.file, SAID if given is None else given, **options)

    def written(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.file.read_text())["config"]
        return {key.removeprefix(f"{PROJECT}:"): value for key, value in found.items()}


@pytest.fixture(scope="module")
def made() -> list[Account]:
    """The account as it was made last, where no test has changed it since: emptying moto takes seconds."""
    return []


@pytest.fixture
def account(
    aws: EmulatedAws, made: list[Account], in_account: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Account:
    if not made or made[0].changed:
        aws.reset()
        made[:] = [Account(aws)]
    shutil.copy(PROJECT_ROOT / "Pulumi.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # no Pulumi CLI, but where a test puts one
    made[0].directory = tmp_path
    return made[0]


def key(document: Init, name: str) -> InitKey:
    return next(one for one in document.keys if one.key == name)


def comments(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("#")]


def test_from_nothing_to_a_first_preview(account: Account, tmp_path: Path) -> None:
    """Fails when a key that the account has is left to a person, or the file that was written is not enough for the program."""
    document = account.init()
    assert document.written
    assert document.open == []
    written = account.written()
    assert {name: written[name] for name in account.expected} == account.expected
    assert written["aws:allowedAccountIds"] == ["123456789012"]
    assert comments(account.file.read_text()) == comments(stack_text("staging"))
    values = read_stack_file(account.file)
    parse(StackConfig, values)
    program = {**values, "smokeHeaderValue": SMOKE_VALUE}
    program = {name: value for name, value in program.items() if value not in ("", [])}
    shown = EmbeddedDeployer(tmp_path / "state.json", program, account.aws.environment()).preview({})
    assert len(shown) > 50
    assert {change.op for change in shown} == {"create"}


def test_a_second_run_finds_the_same_and_writes_nothing(account: Account) -> None:
    account.init()
    before = account.file.read_bytes()
    again = account.init({})
    assert account.file.read_bytes() == before
    assert not again.written
    assert {one.state for one in again.keys if one.value is not None} <= {"kept", "found"}


@pytest.mark.parametrize(
    "left", ["encryptionsalt: v1:abc=:v1:def\n", "# by hand\n", "config: {}\nsecretsprovider: awskms://alias/x\n"]
)
def test_a_file_without_configuration_gets_the_templates(account: Account, left: str) -> None:
    """Prevents a traceback behind `pulumi stack init`, whose file says how secrets are encrypted and nothing else."""
    account.file.write_text(left)
    assert account.init().written
    beside = {name: value for name, value in (yaml.safe_load(left) or {}).items() if name != "config"}
    after = yaml.safe_load(account.file.read_text())
    assert {name: value for name, value in after.items() if name != "config"} == beside
    assert account.written()["vpcId"] == account.vpc
    assert set(comments(stack_text("staging"))) <= set(comments(account.file.read_text()))


def test_what_the_file_has_stays_until_somebody_says_otherwise(account: Account) -> None:
    """Fails when a value that a person wrote is replaced by what a program found."""
    account.file.write_text(
        f"# ours\nconfig:\n  {PROJECT}:environment: staging\n  {PROJECT}:vpcId: vpc-0a1b2c3d # by hand\n"
        f"  {PROJECT}:sourceHost: monolith.internal\n  other:key: 1\n"
    )
    document = account.init({**SAID, "vpcId": "vpc-0ffff"})
    text = account.file.read_text()
    assert text.startswith("# ours\n")
    assert "other:key: 1" in text
    assert "vpcId: vpc-0ffff # by hand" in text  # said on the command line
    kept = key(document, "sourceHost")
    assert (kept.state, kept.value) == ("kept", "monolith.internal")
    assert f"({account.expected['sourceHost']}): --force takes it" in kept.how
    forced = account.init(SAID, force=True)
    assert key(forced, "sourceHost").state == "found"
    assert account.written()["sourceHost"] == account.expected["sourceHost"]
    assert account.written()["vpcId"] == account.vpc


def test_a_dry_run_writes_nothing(account: Account) -> None:
    document = account.init(dry_run=True)
    assert not document.written
    assert not account.file.exists()
    assert key(document, "clusterArn").state == "found"


def _two_clients(account: Account) -> str:
    account.aws.client("cognito-idp").create_user_pool_client(
        UserPoolId=account.world["cognitoUserPoolId"], ClientName="myteacher-app"
    )
    return "cognitoClientIds"


def _two_listeners(account: Account) -> str:
    elb = account.aws.client("elbv2")
    (first,) = elb.describe_listeners(ListenerArns=[account.world["listenerArn"]])["Listeners"]
    elb.create_listener(
        LoadBalancerArn=first["LoadBalancerArn"],
        Protocol="HTTPS",
        Port=8443,
        Certificates=first["Certificates"],
        DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
    )
    return "listenerArn"


def _two_subnets_in_a_zone(account: Account) -> str:
    account.aws.client("ec2").create_subnet(VpcId=account.vpc, CidrBlock="10.20.9.0/24", AvailabilityZone=f"{REGION}a")
    return "privateSubnetIds"


def _two_databases(account: Account) -> str:
    account.aws.client("rds").create_db_instance(
        DBInstanceIdentifier="reporting", DBInstanceClass="db.t3.medium", Engine="postgres"
    )
    return "sourceInstanceIdentifier"


def _two_secrets(account: Account) -> str:
    account.aws.client("secretsmanager").create_secret(Name="old/replication", SecretString="{}")
    return "sourceSecretArn"


def _another_cluster(account: Account) -> str:
    ecs = account.aws.client("ecs")
    ecs.delete_cluster(cluster="myteacher-cluster")
    ecs.create_cluster(clusterName="school")
    return "clusterArn"


AMBIGUOUS: Mapping[str, tuple[Callable[[Account], str], int]] = {
    "two listeners": (_two_listeners, 2),
    "two clients": (_two_clients, 2),
    "two subnets in a zone": (_two_subnets_in_a_zone, 3),
    "two databases": (_two_databases, 2),
    "two secrets of one name": (_two_secrets, 2),
    "a cluster that is called otherwise": (_another_cluster, 1),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_could_be_several_is_never_guessed(account: Account, case: str) -> None:
    """Fails when the first of a list becomes the load balancer, the database or the app whose tokens count."""
    change, candidates = AMBIGUOUS[case]
    account.changed = True
    name = change(account)
    document = account.init()
    left = key(document, name)
    assert (left.state, left.value, left.required) == ("open", None, True)
    assert len(left.candidates) == candidates
    assert account.written()[name] in ("", [])
    asked: list[str] = []

    def ask(one: InitKey) -> Any:
        asked.append(one.key)
        chosen = [candidate.value for candidate in one.candidates]
        if one.key != name or not chosen:
            return None
        return chosen if isinstance(account.expected[name], list) else chosen[0]

    answered = key(account.init(ask=ask), name)
    assert name in asked
    assert answered.state == "given"
    assert account.written()[name] == answered.value


def test_what_hangs_on_an_open_key_is_found_when_that_one_is_said(account: Account) -> None:
    account.changed = True
    _two_databases(account)
    first = account.init()
    assert {"sourceHost", "sourceSecurityGroupId"} <= {one.key for one in first.open}
    second = account.init({**SAID, "sourceInstanceIdentifier": "myteacher-production"})
    assert second.open == []
    assert key(second, "sourceHost").value == account.expected["sourceHost"]


def _rule(account: Account, priority: int, *conditions: dict[str, Any]) -> str:
    made = account.aws.client("elbv2").create_rule(
        ListenerArn=account.world["listenerArn"],
        Priority=priority,
        Conditions=list(conditions),
        Actions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
    )
    return str(made["Rules"][0]["RuleArn"])


def _path(*patterns: str) -> dict[str, Any]:
    return {"Field": "path-pattern", "PathPatternConfig": {"Values": list(patterns)}}


def _host(name: str) -> dict[str, Any]:
    return {"Field": "host-header", "HostHeaderConfig": {"Values": [name]}}


@pytest.mark.parametrize(
    ("rules", "priority"),
    [
        ([(60, _path("/login", "/static/*"))], 110),
        ([(110, _path("/login"))], 50_000),
        ([(109, _path("/login"))], 50_000),
        ([(60, _path("/api/*"))], 59),
        ([(60, _path("/api/*")), (58, _path("/login"))], 57),
        ([(60, _path("/api/tasks/*/complete"))], 59),
        ([(7, _host("shop.myteacher.example"))], 110),  # another application's, which goes on answering for itself
        ([(7, _host("api.myteacher.example"))], 6),
        ([(7, _host("*.example"), _path("/admin/*"))], 110),
        ([(2, _path("/*"))], None),
    ],
)
def test_the_live_rule_stands_before_whatever_may_take_a_task(
    account: Account, rules: list[tuple[Any, ...]], priority: int | None
) -> None:
    """Fails when the rule is declared where an `/api/*` rule stands before it, and so is never reached, or where one is already."""
    arns = [_rule(account, number, *conditions) for number, *conditions in rules]
    found = key(account.init(), "liveRulePriority")
    for arn in arns:
        account.aws.client("elbv2").delete_rule(RuleArn=arn)
    assert found.value == priority
    if priority is None:
        assert "before 2: aws elbv2 set-rule-priorities" in str(found.remedy)


def test_public_subnets_and_those_without_a_way_to_aws_are_left_out(account: Account) -> None:
    """Fails when the service is put where it gets no image, or where the internet reaches it."""
    account.changed = True
    ec2 = account.aws.client("ec2")
    ec2.delete_vpc_endpoints(
        VpcEndpointIds=[one["VpcEndpointId"] for one in ec2.describe_vpc_endpoints()["VpcEndpoints"]]
    )
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=account.vpc)
    for number, route in ((7, {"GatewayId": gateway}), (8, None)):
        subnet = ec2.create_subnet(VpcId=account.vpc, CidrBlock=f"10.20.{number}.0/24", AvailabilityZone=f"{REGION}a")[
            "Subnet"
        ]["SubnetId"]
        table = ec2.create_route_table(VpcId=account.vpc)["RouteTable"]["RouteTableId"]
        ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        if route:
            ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", **route)
    found = key(account.init(), "privateSubnetIds")
    assert found.value == account.expected["privateSubnetIds"]
    assert re.search(r"subnet-\w+ is public; subnet-\w+ has no way to AWS", found.how)


def test_a_wildcard_certificate_names_no_server(account: Account) -> None:
    answer = {"Certificate": {"DomainName": "*.myteacher.example", "Status": "ISSUED"}}
    found = key(account.init(aws=account.clients({"acm": {"describe_certificate": answer}})), "listenerServerName")
    assert (found.state, found.candidates) == ("open", ())
    assert "(*.myteacher.example), wildcards left out" in found.how


def test_a_bucket_of_somebody_else_is_said_before_the_first_up(account: Account) -> None:
    """Fails when a name that the world shares is found taken when half of the stack stands."""
    document = account.init(aws=account.clients({"s3": {"head_bucket": 403}}))
    taken = key(document, "backupBucket")
    assert (taken.state, taken.required) == ("open", True)
    assert "belongs to somebody else" in taken.how
    assert taken.remedy == "--set backupBucket=NAME-OF-YOUR-OWN"


def test_what_s3_could_not_say_is_not_taken_for_a_free_name(account: Account) -> None:
    """Fails when an answer that says nothing (a token that is no longer valid, a server's error) passes for a name that nobody has."""
    found = key(account.init(aws=account.clients({"s3": {"head_bucket": 400}})), "backupBucket")
    assert found.state == "open"
    assert "no bucket has the name" not in found.how


def test_a_bucket_is_ours_only_when_it_is_of_this_account(account: Account) -> None:
    """Fails when a bucket that another account opens to everybody is taken for one of this account."""
    asked: list[object] = []
    s3 = account.aws.client("s3")
    s3.meta.events.register("provide-client-params.s3.HeadBucket", note := lambda params, **_: asked.append(params))
    try:
        account.init()
    finally:
        s3.meta.events.unregister("provide-client-params.s3.HeadBucket", note)
    assert [one["ExpectedBucketOwner"] for one in asked] == ["123456789012", "123456789012"]  # type: ignore[index]


def test_a_call_that_iam_refuses_is_named_and_the_others_go_on(account: Account) -> None:
    """Fails when one missing right ends the look, or leaves a key empty without a word."""
    role = [{"Effect": "Allow", "Action": ["ecs:DescribeClusters", "s3:ListBucket"], "Resource": "*"}]
    with held(account.aws, role) as environment:
        session = boto3.session.Session(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment["AWS_SESSION_TOKEN"],
            REGION,
        )
        ask: Any = functools.partial(session.client, endpoint_url=environment["AWS_ENDPOINT_URL"])
        document = account.init(aws=ask)
    refused = key(document, "listenerArn")
    assert refused.state == "open"
    assert "AWS refuses elasticloadbalancing:DescribeLoadBalancers" in refused.how
    assert key(document, "clusterArn").state == "found"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"vpcid": "vpc-1"}, "vpcid: no configuration key"),
        ({"smokeHeaderValue": "x"}, "smokeHeaderValue: secret"),
        ({"vpcId": "10.0.0.0/8"}, r"vpcId: value '10.0.0.0/8'; limit"),
        ({"environment": "test"}, "of no known environment; --set environment=staging or prod"),
    ],
)
def test_a_value_that_is_not_usable_is_refused_and_nothing_is_written(
    account: Account, given: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        account.init({**SAID, **given})
    assert "no value" not in str(caught.value)
    assert not account.file.exists()


def test_without_the_cli_no_secret_is_written_and_the_command_is_said(account: Account) -> None:
    """Fails when the value that passes by the canary's weight lands in the file as plain text."""
    document = account.init()
    assert document.secrets == {"smokeHeaderValue": False}
    assert not document.complete
    assert "the Pulumi CLI is not on PATH" in str(document.secrets_remedy)
    assert "pulumi config set --secret smokeHeaderValue" in str(document.secrets_remedy)
    assert "smokeHeaderValue" not in account.written()


#: Stands in for the CLI: a stack that is not there, an encrypted value, and a file that is written anew without comments.
CLI = f"""#!{sys.executable}
import pathlib, sys
import yaml
words, said = sys.argv[1:], sys.stdin.read()
home = pathlib.Path(__file__).parent
with (home / "asked").open("a") as asked:
    asked.write(" ".join(words) + "\\n")
words = [word for word in words if word != "--non-interactive"]
if words == ["version"]:
    print("v3.272.0")
    raise SystemExit
file = pathlib.Path("Pulumi.staging.yaml")
if words[:1] == ["config"] and not (home / "there").exists():
    print("error: no stack named 'staging' found", file=sys.stderr)
    raise SystemExit(255)
if words[:2] == ["stack", "init"]:
    (home / "there").write_text("")
    file.write_text(yaml.safe_dump({{"secretsprovider": words[-1], "encryptedkey": "AQIC", **yaml.safe_load(file.read_text())}}))
if words[:2] == ["config", "set"]:
    had = yaml.safe_load(file.read_text())
    had["config"][words[3]] = {{"secure": "v1:" + said[::-1]}}
    file.write_text(yaml.safe_dump(had))
"""


def test_the_secret_reaches_the_cli_unseen_and_the_file_keeps_its_comments(
    account: Account, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Fails when the value stands in an argument list, or what the CLI writes anew costs the file its comments."""
    command = account.directory / "bin" / "pulumi"
    command.parent.mkdir()
    command.write_text(CLI)
    command.chmod(0o700)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    first = account.init()
    assert first.secrets == {"smokeHeaderValue": False}
    assert "--secrets-provider does not say by which key it encrypts" in str(first.secrets_remedy)
    provider = f"awskms:///arn:aws:kms:{REGION}:123456789012:key/1?region={REGION}"
    # As an editor on Windows left it.
    windows = b"\xef\xbb\xbf" + account.file.read_bytes().replace(b"\n", b"\r\n")
    account.file.write_bytes(windows)
    document = account.init({**SAID, "alarmEmails": "night@myteacher.example"}, secrets_provider=provider)
    assert document.complete
    lines = account.file.read_bytes().split(b"\r\n")
    new = [line for line in lines if line not in windows.split(b"\r\n")]
    assert [line.partition(b": ")[0].strip() for line in new] == [
        *(b"secretsprovider", b"encryptedkey", b"task-migration:smokeHeaderValue", b"task-migration:alarmEmails")
    ]
    assert [line for line in lines if line in windows.split(b"\r\n")] == [
        line for line in windows.split(b"\r\n") if b"alarmEmails" not in line
    ]
    text = account.file.read_text(encoding="utf-8-sig")
    found = yaml.safe_load(text)
    assert (found["secretsprovider"], found["encryptedkey"]) == (provider, "AQIC")
    value = account.written()["smokeHeaderValue"]["secure"].removeprefix("v1:")[::-1]
    assert re.fullmatch(r"[0-9a-f]{48}", value)
    assert value not in (command.parent / "asked").read_text()
    assert value not in "".join(capfd.readouterr())
    assert comments(text) == comments(stack_text("staging"))
    assert account.init({}).complete
    assert account.file.read_text(encoding="utf-8-sig") == text


@pytest.mark.engine
def test_the_real_cli_encrypts_what_init_made(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the stand-in above is not as the CLI is: its words for a stack that is not there, its standard input, its file."""
    monkeypatch.setenv("PATH", f"{PROJECT_ROOT / 'build' / 'engine'}:/usr/bin:/bin")
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{account.directory}")
    monkeypatch.setenv("PULUMI_HOME", str(account.directory / "home"))
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "of this test")
    assert "--secrets-provider" in str(account.init().secrets_remedy)
    document = account.init(secrets_provider="passphrase")
    assert document.complete, document.secrets_remedy
    text = account.file.read_text()
    assert account.written()["smokeHeaderValue"]["secure"].startswith("v1:")
    assert comments(text) == comments(stack_text("staging"))
    assert account.init().complete
    assert account.file.read_text() == text


def test_the_command_says_what_is_open_and_ends_with_10(account: Account) -> None:
    words = ["init", "--stack", "staging", "--no-input"]
    text = CliRunner().invoke(app, words)
    assert text.exit_code == 10, text.output
    assert "Pulumi.staging.yaml is written;" in text.stdout
    assert "serviceImageTag" in text.stdout
    again = CliRunner().invoke(app, [*words, "--set", "serviceImageTag=3f2c1a9", "--json"])
    assert again.exit_code == 10  # the secret, and the certificate, which moto does not know
    shown = json.loads(again.stdout)
    assert [one["key"] for one in shown["keys"] if one["state"] == "open" and one["required"]] == ["dmsCertificateArn"]
    wrong = CliRunner().invoke(app, [*words, "--set", "serviceImageTag"])
    assert isinstance(wrong.exception, UsageError)


def test_what_stands_under_the_programs_names_is_taken_over_by_the_first_up(account: Account, tmp_path: Path) -> None:
    """Fails when a bucket, a secret, a log group, a role or a repository of an older setup ends the first `up` half-way."""
    account.changed = True
    where = {"LocationConstraint": REGION}
    aws = account.aws
    aws.client("s3").create_bucket(Bucket="myteacher-backups-staging", CreateBucketConfiguration=where)
    aws.client("logs").create_log_group(logGroupName="/ecs/task-service")
    aws.client("logs").create_log_group(logGroupName="/ecs/task-service-of-others")
    aws.client("iam").create_role(RoleName="task-service-staging-task", AssumeRolePolicyDocument="{}")
    aws.client("ecr").create_repository(repositoryName="myteacher-task-service")
    secrets = aws.client("secretsmanager")
    secret = secrets.create_secret(Name="task-service/db-password", SecretString="old")["ARN"]
    ours = [{"Key": "Project", "Value": PROJECT}, {"Key": "ManagedBy", "Value": "pulumi"}]
    secrets.create_secret(Name="task-service/operator", Tags=ours)
    standing = {
        "backups-bucket": "myteacher-backups-staging",
        "service-db-password": secret,
        "service-log": "/ecs/task-service",
        "service-task-role": "task-service-staging-task",
        "service-repository": "myteacher-task-service",
    }
    found = key(account.init(), "import")
    assert (found.state, found.value) == ("found", standing)
    assert "`up` takes them over as they are" in found.how
    values = read_stack_file(account.file)
    program = {name: value for name, value in values.items() if value not in ("", [])}
    program = {**program, "smokeHeaderValue": SMOKE_VALUE}
    shown = EmbeddedDeployer(tmp_path / "state.json", program, aws.environment()).preview({})
    assert {change.name for change in shown if change.op == "import"} == set(standing)
    text = account.file.read_text()
    account.init({})
    assert account.file.read_text() == text


def test_a_name_that_a_deleted_secret_still_has_is_said_before_the_first_up(account: Account) -> None:
    """Fails when the seven days in which a deleted secret keeps its name are met half-way through the first `up`."""
    account.changed = True
    secrets = account.aws.client("secretsmanager")
    secrets.create_secret(Name="task-service/operator", SecretString="{}")
    secrets.delete_secret(SecretId="task-service/operator", RecoveryWindowInDays=7)
    found = key(account.init(), "import")
    assert (found.state, found.required) == ("open", True)
    assert "the secret task-service/operator is being deleted, and its name is taken until then" in found.how
    assert found.remedy == "aws secretsmanager restore-secret --secret-id task-service/operator, then run it again"


def test_the_policy_of_aws_that_init_names_is_enough_for_it(account: Account) -> None:
    """Fails when a look-up needs more than what `init --help` asks for: it would be refused, and its key left to a person."""
    account.changed = True
    account.aws.client("ecr").create_repository(repositoryName="myteacher-task-service")
    account.aws.client("logs").create_log_group(logGroupName="/ecs/task-service")
    with RecordedAws(account.aws) as recorded:
        ask = Aws(REGION, {**account.aws.environment(), "AWS_ENDPOINT_URL": recorded.url}).client
        account.init(aws=lambda service: ask(service) if service != "dms" else account.clients()(service))
        called = recorded.clear()
    policies = json.loads(aws_managed_policies_data)
    statements = policies["ReadOnlyAccess"]["Document"]["Statement"]
    granted = [
        action
        for one in statements
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    ]
    assert {"elasticloadbalancing:DescribeRules", "iam:GetRole", "logs:ListTagsForResource"} <= called
    assert [one for one in sorted(called) if not any(fnmatch(one, action) for action in granted)] == []
    assert "AWS's policy ReadOnlyAccess" in " ".join(CliRunner().invoke(app, ["init", "--help"]).stdout.split())
