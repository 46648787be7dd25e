"""One thing wrong in a rehearsal's account, as a team may have it: the rehearsal has to end with the sentence that mends it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from components.naming import DATABASE_PASSWORD_SECRET, SERVICE_NAME
from scripts.rehearsal.plan import Wrong
from scripts.rehearsal.world import EmulatedAws

#: Configuration of a stack that lets no operator in.
_SHUT: Mapping[str, object] = {"operatorSecurityGroupIds": [], "operatorReachesSource": False}
_LOGIN = {
    "Issuer": "https://id.example.com",
    "AuthorizationEndpoint": "https://id.example.com/authorize",
    "TokenEndpoint": "https://id.example.com/token",
    "UserInfoEndpoint": "https://id.example.com/user",
    "ClientId": "tasks",
    "ClientSecret": secrets.token_urlsafe(18),
}


def in_file(wrong: Wrong | None) -> Mapping[str, object]:
    """What the stack's file says otherwise."""
    return _SHUT if wrong == "operator-way" else {}


def in_account(wrong: Wrong | None, aws: EmulatedAws, config: Mapping[str, Any]) -> None:
    """What others left in the account before the first `up`."""
    match wrong:
        case "secret-name":
            manager = aws.client("secretsmanager")
            manager.create_secret(Name=DATABASE_PASSWORD_SECRET)
            manager.delete_secret(SecretId=DATABASE_PASSWORD_SECRET, RecoveryWindowInDays=7)
        case "rule-in-front":
            _rule(aws, config, 40, "/api/*")
        case "rule-behind":
            login = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": _LOGIN}
            _rule(aws, config, 300, "/api/tasks*", login)


def after_up(wrong: Wrong | None, aws: EmulatedAws, environment: str) -> None:
    """What somebody takes away between the first `up` and the service's start. What people forget: see the testbed."""
    if wrong in ("service-way", "link-way"):
        _take_away(aws, f"{SERVICE_NAME}-{environment}-{'service' if wrong == 'service-way' else 'vpc-link'}")


def _rule(aws: EmulatedAws, config: Mapping[str, Any], priority: int, path: str, *steps: object) -> None:
    last = {"Type": "forward", "Order": 2, "TargetGroupArn": config["monolithTargetGroupArn"]}
    aws.client("elbv2").create_rule(
        ListenerArn=config["listenerArn"],
        Priority=priority,
        Conditions=[{"Field": "path-pattern", "Values": [path]}],
        Actions=[*steps, last],
    )


def _take_away(aws: EmulatedAws, name: str) -> None:
    """Every rule that lets the group of that name in elsewhere, as somebody may who tidies up."""
    ec2 = aws.client("ec2")
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])["SecurityGroups"]
    for rule in ec2.describe_security_group_rules()["SecurityGroupRules"]:
        if not rule["IsEgress"] and (rule.get("ReferencedGroupInfo") or {}).get("GroupId") == group["GroupId"]:
            ids = [rule["SecurityGroupRuleId"]]
            ec2.revoke_security_group_ingress(GroupId=rule["GroupId"], SecurityGroupRuleIds=ids)
