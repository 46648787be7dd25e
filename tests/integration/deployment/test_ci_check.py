"""`ci-roles --check` against the emulated IAM and GitHub's answers: what was made passes, each widening is found."""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from components import ci_roles
from components.ci_place import Place
from components.config import PROJECT
from components.config_stack import StackConfig
from components.config_values import parse
from scripts.cli.app import app
from scripts.deployment import ci_roles as roles
from scripts.rehearsal.emulated.core import Aws
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import UsageError
from scripts.support.settings import PROJECT_ROOT
from tests import aws_cli
from tests.unit.components.declared_helpers import ACCOUNT, FILLED, REGION

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b2c3d"
PLACE = Place(parse(StackConfig, {**FILLED, "environment": "prod"}), "myteacher/tasks", "main", "pulumi-state", KEY)
DEPLOY, PREVIEW = PLACE.role_name("deploy"), PLACE.role_name("preview")
POLICIES = f"arn:aws:iam::{ACCOUNT}:policy/"


@pytest.fixture
def empty(aws: EmulatedAws, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An account in which nothing is made yet; its IAM."""
    aws.reset()
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    return aws.client("iam")


@pytest.fixture
def iam(empty: Any) -> Any:
    """An account in which everything is as declared."""
    wanted = roles.declared(PLACE)
    empty.create_open_id_connect_provider(
        Url=f"https://{ci_roles.ISSUER}", ClientIDList=["sts.amazonaws.com"], ThumbprintList=["a" * 40]
    )
    for policy in (wanted.boundary, *(policy for role in wanted.roles for policy in role.policies)):
        empty.create_policy(PolicyName=policy.name, PolicyDocument=policy.document)
    for role in wanted.roles:
        given = {"AssumeRolePolicyDocument": role.trust, "MaxSessionDuration": roles.SESSION_SECONDS}
        empty.create_role(RoleName=role.name, **given)
        for policy in role.policies:
            empty.attach_role_policy(RoleName=role.name, PolicyArn=f"{POLICIES}{policy.name}")
    return empty


@pytest.fixture
def programs(aws: EmulatedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The two programs that the scripts call, first on PATH."""

    def client(service: str, region: str | None) -> Any:
        if region is None or region == aws.region:
            return aws.client(service)
        return Aws(region, aws.environment()).client(service)

    with aws_cli.installed(tmp_path / "bin", client) as directory:
        monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
        yield directory


def carry_out(script: Path) -> str:
    """What a script said that an administrator runs."""
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_an_administrator_made_is_as_declared(empty: Any, programs: Path, tmp_path: Path) -> None:
    carry_out(roles.write(PLACE, tmp_path / "made"))
    assert roles.check_account(PLACE) == []
    asked = (programs / "gh-asked").read_text().splitlines()
    drift = f"arn:aws:iam::{ACCOUNT}:role/ci-task-service-prod-drift"
    assert asked[-1] == f"variable set AWS_DRIFT_ROLE_ARN --repo myteacher/tasks --env prod-preview --body {drift}"
    assert len(asked) == len(ci_roles.ROLES)


def test_the_script_brings_what_is_there_up_to_date(iam: Any, programs: Path, tmp_path: Path) -> None:
    """Fails when a role that a new version adds cannot be made, as what was there before ends the script."""
    _widen(iam)
    _trust_any_branch(iam)
    _forget(iam)
    iam.update_role(RoleName=DEPLOY, MaxSessionDuration=43200)
    assert len(roles.check_account(PLACE)) == 4
    carry_out(roles.write(PLACE, tmp_path / "made"))
    assert roles.check_account(PLACE) == []
    versions = iam.list_policy_versions(PolicyArn=f"{POLICIES}{PREVIEW}-state")["Versions"]
    assert len(versions) == 2  # five are all that IAM keeps


def test_what_pulumi_needs_before_it_runs_is_made_once(empty: Any, programs: Path, aws: EmulatedAws) -> None:
    """Fails when the bucket of the state is open or without versions, or a second run makes another key, which reads no secret."""
    script = PROJECT_ROOT / "docs" / "bootstrap" / "backend.sh"
    words = ["sh", str(script), "pulumi-state", REGION]
    first, again = (subprocess.run(words, capture_output=True, text=True, check=True, timeout=300) for _ in range(2))
    assert first.stdout == again.stdout
    backend, provider = (line.partition("=")[2] for line in first.stdout.splitlines())
    assert backend == f"s3://pulumi-state?region={REGION}"
    (key,) = (one["KeyArn"] for one in aws.client("kms").list_keys()["Keys"])
    assert provider == f"awskms:///{key}?region={REGION}"
    assert aws.client("kms").get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]
    s3 = aws.client("s3")
    assert s3.get_bucket_versioning(Bucket="pulumi-state")["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket="pulumi-state")["PublicAccessBlockConfiguration"].values())
    (refusal,) = json.loads(s3.get_bucket_policy(Bucket="pulumi-state")["Policy"])["Statement"]
    assert refusal["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert refusal["Effect"] == "Deny"


def backend(*words: str) -> subprocess.CompletedProcess[str]:
    script = PROJECT_ROOT / "docs" / "bootstrap" / "backend.sh"
    return subprocess.run(["sh", str(script), *words], capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("region", ["eu-west-1", "us-east-1"])
def test_everything_of_the_backend_is_in_the_region_that_is_said(
    region: str, empty: Any, programs: Path, aws: EmulatedAws
) -> None:
    """Fails when the key is made where the profile is at home, so that no stack finds it, or us-east-1 gets no bucket."""
    made = backend("pulumi-state", region)
    assert made.returncode == 0, made.stderr
    assert f"awskms:///arn:aws:kms:{region}:" in made.stdout
    assert aws.client("kms").list_keys()["Keys"] == []
    where = aws.client("s3").get_bucket_location(Bucket="pulumi-state")["LocationConstraint"]
    assert (where or "us-east-1") == region


@pytest.mark.parametrize("operation", ["s3.HeadBucket", "kms.DescribeKey"])
def test_what_could_not_be_looked_at_is_not_taken_for_ours_nor_made_again(
    operation: str, empty: Any, programs: Path, aws: EmulatedAws
) -> None:
    """Fails when the state goes into a bucket of another account that lets everybody in, or a second key is made beside one that is there."""
    assert backend("pulumi-state", REGION).returncode == 0
    s3, kms = aws.client("s3"), aws.client("kms")
    s3.delete_bucket_policy(Bucket="pulumi-state")

    def refuse(params: dict[str, Any], **_: object) -> None:
        if operation.startswith("kms") or params.get("ExpectedBucketOwner") == ACCOUNT:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not authorized"}}, operation)

    events = (kms if operation.startswith("kms") else s3).meta.events
    events.register(f"provide-client-params.{operation}", refuse)
    try:
        assert backend("pulumi-state", REGION).returncode != 0
    finally:
        events.unregister(f"provide-client-params.{operation}", refuse)
    if operation.startswith("s3"):
        with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
            s3.get_bucket_policy(Bucket="pulumi-state")
    assert len(kms.list_keys()["Keys"]) == 1


def _trust_any_branch(iam: Any) -> None:
    trust = ci_roles.trust(PLACE, "deploy")
    del trust["Statement"][0]["Condition"]["StringEquals"][f"{ci_roles.ISSUER}:ref"]
    iam.update_assume_role_policy(RoleName=DEPLOY, PolicyDocument=json.dumps(trust))


def _widen(iam: Any) -> None:
    arn = f"{POLICIES}{PREVIEW}-state"
    everything = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
    }
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(everything), SetAsDefault=True)


def _inline(iam: Any) -> None:
    admin = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_role_policy(RoleName=DEPLOY, PolicyName="for-tonight", PolicyDocument=json.dumps(admin))


def _forget(iam: Any) -> None:
    for item in iam.list_attached_role_policies(RoleName=PREVIEW)["AttachedPolicies"]:
        iam.detach_role_policy(RoleName=PREVIEW, PolicyArn=item["PolicyArn"])
    iam.delete_role(RoleName=PREVIEW)


def _another_audience(iam: Any) -> None:
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ci_roles.ISSUER}"
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider)
    given = {"ClientIDList": ["sts.amazonaws.com", "https://github.com/x"], "ThumbprintList": ["a" * 40]}
    iam.create_open_id_connect_provider(Url=f"https://{ci_roles.ISSUER}", **given)


CHANGES: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "AmazonDMSVPCManagementRole": (
        lambda iam: iam.attach_role_policy(
            RoleName=PREVIEW, PolicyArn="arn:aws:iam::aws:policy/service-role/AmazonDMSVPCManagementRole"
        ),
        f"{PREVIEW}, AmazonDMSVPCManagementRole",
        "attached",
    ),
    "any branch": (_trust_any_branch, f"{DEPLOY}, its trust", f"{ci_roles.ISSUER}:sub"),
    "another version": (_widen, f"{PREVIEW}-state", "version v2 says otherwise"),
    "a policy of its own": (_inline, f"{DEPLOY}, for-tonight", "a policy of its own"),
    "a role is gone": (_forget, PREVIEW, "missing"),
    "a policy is detached": (
        lambda iam: iam.detach_role_policy(RoleName=DEPLOY, PolicyArn=f"{POLICIES}{DEPLOY}-roles"),
        f"{DEPLOY}, {DEPLOY}-roles",
        "not attached",
    ),
    "a day's session": (
        lambda iam: iam.update_role(RoleName=DEPLOY, MaxSessionDuration=43200),
        f"{DEPLOY}, its sessions",
        "43200 s",
    ),
    "another audience": (_another_audience, f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ci_roles.ISSUER}", "audiences"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_widening_of_a_role_is_found(iam: Any, change: str) -> None:
    """Prevents a right that somebody gave for one night and that nobody took back."""
    act, what, found = CHANGES[change]
    act(iam)
    (finding,) = roles.check_account(PLACE)
    assert finding.what == what
    assert found in finding.found
    assert finding.remedy


#: GitHub, 'List environments': the shape of the answer, with what production and its preview have to have.
GOOD: dict[str, Any] = {
    "total_count": 2,
    "environments": [
        {
            "id": 161088068,
            "name": "prod",
            "can_admins_bypass": False,
            "protection_rules": [
                {
                    "id": 3755,
                    "type": "required_reviewers",
                    "prevent_self_review": True,
                    "reviewers": [{"type": "Team", "reviewer": {"id": 1, "slug": "operations"}}],
                },
                {"id": 3756, "type": "branch_policy"},
            ],
            "deployment_branch_policy": {"protected_branches": True, "custom_branch_policies": False},
        },
        {"id": 161088069, "name": "prod-preview", "protection_rules": [], "deployment_branch_policy": None},
    ],
}


def judged(change: Callable[[dict[str, Any]], object], directory: Path) -> list[str]:
    answer = copy.deepcopy(GOOD)
    change(answer["environments"][0])
    file = directory / "environments.json"
    file.write_text(json.dumps(answer))
    return [finding.found for finding in roles.check_environments(PLACE, roles.read_environments(file))]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda prod: None, []),
        (lambda prod: prod["protection_rules"].pop(0), ["no required reviewer", "who deploys approves it himself"]),
        (lambda prod: prod["protection_rules"][0].update(reviewers=[]), ["no required reviewer"]),
        (
            lambda prod: prod["protection_rules"][0].update(prevent_self_review=False),
            ["who deploys approves it himself"],
        ),
        (lambda prod: prod.update(can_admins_bypass=True), ["administrators pass by the review"]),
        (lambda prod: prod.pop("can_admins_bypass"), ["administrators pass by the review"]),
        (lambda prod: prod.update(deployment_branch_policy=None), ["any branch deploys"]),
        (
            lambda prod: prod.update(
                deployment_branch_policy={"protected_branches": False, "custom_branch_policies": True}
            ),
            ["branches by name, which this answer does not list"],
        ),
        (lambda prod: prod.update(name="production"), ["missing"]),
    ],
)
def test_an_environment_in_which_somebody_deploys_alone_is_found(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], found: list[str]
) -> None:
    """Prevents a production that one person changes, from a branch that nobody read."""
    assert judged(change, tmp_path) == found


def test_an_answer_that_is_none_of_githubs_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    for text in ("", "[]", '{"message": "Not Found"}'):
        file.write_text(text)
        with pytest.raises(UsageError, match="is no answer of GitHub; write it: gh api repos/ORG/REPO/environments"):
            roles.read_environments(file)


def test_the_command_checks_and_says_what_differs(iam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {f"{PROJECT}:{key}": value for key, value in {**FILLED, "environment": "prod"}.items()}
    (tmp_path / "Pulumi.prod.yaml").write_text(yaml.safe_dump({"config": values}))
    (tmp_path / "environments.json").write_text(json.dumps(GOOD))
    words = ["ci-roles", "--stack", "prod", "--repository", "myteacher/tasks", "--state-bucket", "pulumi-state"]
    words += ["--secrets-key", KEY, "--check", "--environments", "environments.json"]
    good = CliRunner().invoke(app, [*words, "--json"])
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["checked"] == ["account", "environments"]
    iam.attach_role_policy(
        RoleName=PREVIEW, PolicyArn="arn:aws:iam::aws:policy/service-role/AmazonDMSVPCManagementRole"
    )
    bad = CliRunner().invoke(app, words)
    assert bad.exit_code == 10
    assert "1 difference:" in bad.stdout
    assert "AmazonDMSVPCManagementRole: attached" in " ".join(bad.stdout.split())
