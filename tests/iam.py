"""IAM as far as the roles of the workflows need it: who may take a role, and roles that moto's server holds to their actions."""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from scripts.rehearsal.world import EmulatedAws


def may_take(trust: Mapping[str, Any], claims: Mapping[str, str]) -> bool:
    """Whether a token with these claims takes a role, by ``StringEquals`` conditions (IAM, 'JSON policy elements: Condition').

    A key that the token lacks does not match; nothing but equality is known here, so no trust policy may use more.
    """
    for item in trust["Statement"]:
        assert set(item) == {"Effect", "Principal", "Action", "Condition"}
        assert set(item["Condition"]) == {"StringEquals"}
        wanted = {key.rpartition(":")[2]: value for key, value in item["Condition"]["StringEquals"].items()}
        if item["Effect"] == "Allow" and all(claims.get(claim) == value for claim, value in wanted.items()):
            return True
    return False


def as_moto_names(actions: Iterable[str]) -> set[str]:
    """The actions by the names that moto 5.2.5 judges a request by. It refuses the signature of every GET to API Gateway."""
    found = set(actions)
    found |= {f"monitoring:{action.partition(':')[2]}" for action in found if action.startswith("cloudwatch:")}
    if "s3:ListBucket" in found:
        found.add("s3:HeadBucket")
    return found


@contextmanager
def held(
    aws: EmulatedAws, statements: Iterable[Mapping[str, Any]], *, without: str | None = None
) -> Iterator[dict[str, str]]:
    """The environment of somebody who took a role with these statements, while moto refuses what a role has not.

    moto judges actions, and for objects in S3 their ARN; other resources and conditions it does not know, so there every
    action is granted for ``*``.

    Args:
        without: an action that is taken out.
    """
    items = list(statements)
    objects = [item for item in items if all(action.startswith("s3:") for action in item["Action"])]
    others = {action for item in items if item not in objects for action in item["Action"]}
    granted = [{**item, "Action": sorted(as_moto_names(set(item["Action"]) - {without}))} for item in objects]
    granted.append({"Effect": "Allow", "Action": sorted(as_moto_names(others - {without})), "Resource": "*"})
    name = f"role-{secrets.token_hex(6)}"
    role = aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [item for item in granted if item["Action"]]})
    aws.client("iam").put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=policy)
    given = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="a-workflow")["Credentials"]
    _judge(aws, "0")
    try:
        yield {
            **aws.environment(),
            "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
            "AWS_SESSION_TOKEN": given["SessionToken"],
        }
    finally:
        _judge(aws, "inf")


def _judge(aws: EmulatedAws, after: str) -> None:
    """Have moto judge requests after so many (moto, 'IAM-like access control')."""
    request = urllib.request.Request(
        f"{aws.endpoint_url}/moto-api/reset-auth",
        data=after.encode(),
        headers={"Content-Type": "text/plain"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
