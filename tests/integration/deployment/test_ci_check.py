"""`ci-roles --check` against the emulated IAM and GitHub's answers: what was made passes, each widening is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from components import ci_roles
from components.ci_place import Place
from components.config import PROJECT
from components.config_stack import StackConfig
from components.config_values import parse
from scripts.cli.app import app
from scripts.deployment import ci_roles as roles
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import UsageError
from tests.unit.components.declared_helpers import ACCOUNT, FILLED, REGION

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0a1b2c3d"
PLACE = Place(parse(StackConfig, {**FILLED, "environment": "prod"}), "myteacher/tasks", "main", "pulumi-state", KEY)
DEPLOY, PREVIEW = PLACE.role_name("deploy"), PLACE.role_name("preview")
POLICIES = f"arn:aws:iam::{ACCOUNT}:policy/"


@pytest.fixture
def iam(aws: EmulatedAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An account in which an administrator carried out what the command wrote."""
    aws.reset()
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    client = aws.client("iam")
    carried_out = 0
    script = roles.write(PLACE, tmp_path / "made")
    for command in script.read_text().splitlines():
        if not command.startswith("aws "):
            continue
        _, service, operation, *words = command.split()
        assert service == "iam"
        given = dict(zip(words[::2], words[1::2], strict=True))
        parameters: dict[str, Any] = {}
        for word, value in given.items():
            key = "".join(part.capitalize() for part in word.removeprefix("--").split("-"))
            key = {"ClientIdList": "ClientIDList"}.get(key, key)
            text = (script.parent / value[7:]).read_text() if value.startswith("file://") else value
            parameters[key] = int(text) if key == "MaxSessionDuration" else [text] if key == "ClientIDList" else text
        if operation == "create-open-id-connect-provider":
            parameters["ThumbprintList"] = ["a" * 40]  # moto asks for it, AWS no longer does
            client.create_open_id_connect_provider(**parameters)
        else:
            getattr(client, operation.replace("-", "_"))(**parameters)
        carried_out += 1
    attached = sum(len(role.policies) for role in roles.declared(PLACE).roles)
    assert carried_out == 1 + (1 + attached) + len(ci_roles.ROLES) + attached
    return client


def test_what_an_administrator_made_is_as_declared(iam: Any) -> None:
    assert roles.check_account(PLACE) == []


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
    "ReadOnlyAccess": (
        lambda iam: iam.attach_role_policy(RoleName=PREVIEW, PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess"),
        f"{PREVIEW}, ReadOnlyAccess",
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
    iam.attach_role_policy(RoleName=PREVIEW, PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    bad = CliRunner().invoke(app, words)
    assert bad.exit_code == 10
    assert "1 differences" in bad.stdout
    assert "ReadOnlyAccess: attached" in " ".join(bad.stdout.split())
