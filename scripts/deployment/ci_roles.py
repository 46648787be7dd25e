"""The roles of the workflows: what an administrator makes, and whether account and GitHub still hold them to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from components import ci_roles
from components.ci_place import Place
from scripts.support import aws, private
from scripts.support.document import Document
from scripts.support.errors import UsageError

#: A canary step is watched for 30 minutes, a first deployment waits an hour for its database.
SESSION_SECONDS = 7200
#: By which an administrator makes what is missing, or what differs anew.
MAKE = "task-migration ci-roles --output DIR writes it, with the commands"
SCRIPT = "make.sh"


class CiPolicy(Document):
    """A managed policy; ``document`` is its JSON text."""

    name: str
    document: str


class CiRole(Document):
    """A role, its trust policy as JSON text, and where GitHub has to know its ARN."""

    name: str
    arn: str
    environment: str
    variable: str
    trust: str
    policies: list[CiPolicy]


class CiFinding(Document):
    """Something that is not as declared: what, how it is found, and what to do."""

    what: str
    found: str
    remedy: str


class CiRoles(Document):
    """The roles of one environment's workflows, and what is otherwise where it was looked at."""

    roles: list[CiRole]
    boundary: CiPolicy
    #: What was looked at: `account`, `environments`.
    checked: list[str]
    findings: list[CiFinding]


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True)


def declared(place: Place) -> CiRoles:
    """What has to be there."""
    account = f"arn:{place.naming.partition}:iam::{place.naming.account}"
    roles = [
        CiRole(
            name=place.role_name(role),
            arn=f"{account}:role/{place.role_name(role)}",
            environment=place.config.environment + ci_roles.WORKFLOWS[role][1],
            variable=f"AWS_{role.upper()}_ROLE_ARN",
            trust=_text(ci_roles.trust(place, role)),
            policies=[
                CiPolicy(name=name, document=_text(made)) for name, made in ci_roles.policies(place, role).items()
            ],
        )
        for role in ci_roles.ROLES
    ]
    boundary = CiPolicy(name=place.naming.boundary_arn.rpartition("/")[2], document=_text(ci_roles.boundary(place)))
    return CiRoles(roles=roles, boundary=boundary, checked=[], findings=[])


#: How each thing is made where it is missing, and brought up to date where it is there: the script is safe to run again. A managed
#: policy keeps five versions (IAM, 'IAM and AWS STS quotas'), so the former ones go first.
_HEAD = """\
#!/bin/sh
set -eu
cd "$(dirname "$0")"
there() { aws iam "$@" >/dev/null 2>&1; }
policy() { # NAME
  if there get-policy --policy-arn "$policies$1"; then
    for version in $(aws iam list-policy-versions --policy-arn "$policies$1" --query 'Versions[?!IsDefaultVersion].VersionId' \
      --output text); do
      aws iam delete-policy-version --policy-arn "$policies$1" --version-id "$version"
    done
    aws iam create-policy-version --policy-arn "$policies$1" --policy-document "file://$1.json" --set-as-default
  else
    aws iam create-policy --policy-name "$1" --policy-document "file://$1.json"
  fi
}
role() { # NAME
  if there get-role --role-name "$1"; then
    aws iam update-assume-role-policy --role-name "$1" --policy-document "file://$1.trust.json"
    aws iam update-role --role-name "$1" --max-session-duration $seconds
  else
    aws iam create-role --role-name "$1" --max-session-duration $seconds --assume-role-policy-document "file://$1.trust.json"
  fi
}
"""


def _arns(place: Place) -> tuple[str, str]:
    """Of the account's policies, without a name, and of GitHub's OIDC provider."""
    base = place.naming.boundary_arn.rpartition("/")[0]
    return base, f"{base.removesuffix(':policy')}:oidc-provider/{ci_roles.ISSUER}"


def write(place: Place, directory: Path) -> Path:
    """Write each document into a file of its own, and a script of the commands that make everything; where that is."""
    wanted = declared(place)
    private.directory(directory)
    base, provider = _arns(place)
    commands = [
        f"policies={base}/",
        f"seconds={SESSION_SECONDS}",
        f"there get-open-id-connect-provider --open-id-connect-provider-arn {provider} ||",
        f"  aws iam create-open-id-connect-provider --url https://{ci_roles.ISSUER} --client-id-list sts.amazonaws.com",
    ]
    for made in (wanted.boundary, *(policy for role in wanted.roles for policy in role.policies)):
        private.write(directory / f"{made.name}.json", made.document + "\n")
        commands.append(f"policy {made.name}")
    for role in wanted.roles:
        private.write(directory / f"{role.name}.trust.json", role.trust + "\n")
        commands.append(f"role {role.name}")
        commands += [
            f'aws iam attach-role-policy --role-name {role.name} --policy-arn "${{policies}}{policy.name}"'
            for policy in role.policies
        ]
        commands.append(
            f"gh variable set {role.variable} --repo {place.repository} --env {role.environment} --body {role.arn}"
        )
    script = directory / SCRIPT
    private.write(script, _HEAD + "\n".join(commands) + "\n")
    return script


def check_account(place: Place) -> list[CiFinding]:
    """What of the roles is otherwise in the account that the environment's credentials lead to.

    Needs iam:GetRole, ListAttachedRolePolicies, ListRolePolicies, GetPolicy, GetPolicyVersion, GetOpenIDConnectProvider.

    Raises:
        MigrationError: IAM refuses to answer.
    """
    with aws.refusals("IAM cannot be read", "use an administrator's credentials"):
        return list(_account_findings(place, aws.client("iam")))


def _account_findings(place: Place, iam: Any) -> Iterator[CiFinding]:
    wanted = declared(place)
    base, provider = _arns(place)
    known = _or_none(iam.get_open_id_connect_provider, OpenIDConnectProviderArn=provider)
    if known is None or known.get("ClientIDList") != ["sts.amazonaws.com"]:
        found = "missing" if known is None else f"audiences {known.get('ClientIDList')}"
        yield CiFinding(what=provider, found=found, remedy=f"its one audience is sts.amazonaws.com; {MAKE}")
    for policy in (wanted.boundary, *(policy for role in wanted.roles for policy in role.policies)):
        yield from _policy_findings(iam, f"{base}/{policy.name}", policy)
    for role in wanted.roles:
        yield from _role_findings(iam, role)


def _role_findings(iam: Any, role: CiRole) -> Iterator[CiFinding]:
    answer = _or_none(iam.get_role, RoleName=role.name)
    if answer is None:
        yield CiFinding(what=role.name, found="missing", remedy=MAKE)
        return
    held = answer["Role"]
    if held["AssumeRolePolicyDocument"] != json.loads(role.trust):
        yield CiFinding(what=f"{role.name}, its trust", found=_text(held["AssumeRolePolicyDocument"]), remedy=MAKE)
    if held["MaxSessionDuration"] != SESSION_SECONDS:
        remedy = f"aws iam update-role --role-name {role.name} --max-session-duration {SESSION_SECONDS}"
        yield CiFinding(what=f"{role.name}, its sessions", found=f"{held['MaxSessionDuration']} s", remedy=remedy)
    attached = iam.get_paginator("list_attached_role_policies").paginate(RoleName=role.name)
    names = {item["PolicyName"] for page in attached for item in page["AttachedPolicies"]}
    for name in sorted(names ^ {policy.name for policy in role.policies}):
        found, verb = ("attached", "detach") if name in names else ("not attached", "attach")
        yield CiFinding(what=f"{role.name}, {name}", found=found, remedy=f"{verb} it; {MAKE}")
    inline = iam.get_paginator("list_role_policies").paginate(RoleName=role.name)
    for name in (name for page in inline for name in page["PolicyNames"]):
        remedy = f"aws iam delete-role-policy --role-name {role.name} --policy-name {name}"
        yield CiFinding(what=f"{role.name}, {name}", found="a policy of its own", remedy=remedy)


def _policy_findings(iam: Any, arn: str, policy: CiPolicy) -> Iterator[CiFinding]:
    answer = _or_none(iam.get_policy, PolicyArn=arn)
    if answer is None:
        yield CiFinding(what=policy.name, found="missing", remedy=MAKE)
        return
    version = answer["Policy"]["DefaultVersionId"]
    held = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    if held != json.loads(policy.document):
        yield CiFinding(
            what=policy.name, found=f"version {version} says otherwise", remedy=f"create-policy-version; {MAKE}"
        )


def _or_none(call: Any, **parameters: str) -> Any:
    try:
        return call(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchEntity", "NoSuchEntityException"):
            return None
        raise


def read_environments(file: Path) -> Any:
    """The answer of ``gh api repos/ORG/REPO/environments``. Raises UsageError when it is none."""
    try:
        answer = json.loads(file.read_text(encoding="utf-8"))
        return {str(item["name"]): dict(item) for item in answer["environments"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{file} is no answer of GitHub; write it: gh api repos/ORG/REPO/environments > {file}"
        ) from None


def check_environments(place: Place, found: Mapping[str, Mapping[str, Any]]) -> list[CiFinding]:
    """What of the stack's GitHub environments lets somebody deploy alone, or from another branch.

    Args:
        found: environments by name, as GitHub's REST API has them ('List environments').
    """
    name = place.config.environment
    findings = [
        CiFinding(what=f"environment {wanted}", found="missing", remedy="make it, or the first run does, unprotected")
        for wanted in (name, f"{name}-preview")
        if wanted not in found
    ]
    if name not in found:
        return findings
    rules = {rule.get("type"): rule for rule in found[name].get("protection_rules") or []}
    reviews = rules.get("required_reviewers", {})
    branches = found[name].get("deployment_branch_policy") or {}
    settings = f"gh api -X PUT repos/{place.repository}/environments/{name}"
    for wrong, state, remedy in (
        (not reviews.get("reviewers"), "no required reviewer", f"{settings}, reviewers: one or more"),
        (
            reviews.get("prevent_self_review") is not True,
            "who deploys approves it himself",
            f"{settings}, prevent_self_review: true",
        ),
        (
            found[name].get("can_admins_bypass") is not False,
            "administrators pass by the review",
            "take it away in the environment's settings",
        ),
        (
            branches.get("protected_branches") is not True,
            "any branch deploys" if not branches else "branches by name, which this answer does not list",
            f"{settings}, deployment_branch_policy: protected_branches alone; protect {place.branch} and no other branch",
        ),
    ):
        if wrong:
            findings.append(CiFinding(what=f"environment {name}", found=state, remedy=remedy))
    return findings
