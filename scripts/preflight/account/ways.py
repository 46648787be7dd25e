"""The ways that security groups leave open, against those that the program declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.config_stack import StackConfig
from components.naming import POSTGRES_PORT, SERVICE_PORT, Naming
from scripts.preflight.account.asking import Clients, pages
from scripts.preflight.documents import Check

HTTPS = 443


def checks(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """Whether a rule that `up` made was taken away since; nothing before the first `up`, which makes the groups."""
    ec2 = aws("ec2")
    ours = _groups(config, ec2)
    if not ours:
        return
    shut = [
        f"{what}: {why}"
        for what, origin, destination, port in _ways(config, ours)
        if (why := closed(ec2, origin, destination, port))
    ]
    for name in ("service", "replication"):
        if name in ours and not _lets(ec2, True, [ours[name]], (), HTTPS):
            shut.append(f"{name} to AWS: no rule lets TCP {HTTPS} out of {ours[name]}, for anywhere")
    yield Check(
        "network: ways",
        "fail" if shut else "pass",
        "; ".join(shut) or "every way that the program declares is open, out of its origin and into its end",
        "`pulumi up` makes what was never there; what somebody took away comes back with `pulumi up --refresh`",
    )


def _groups(config: StackConfig, ec2: Any) -> dict[str, str]:
    """The program's groups that are there, by component."""
    start = f"{Naming.of(config).prefix}-"
    names = [start + component for component in ("database", "service", "vpc-link", "replication")]
    where = [{"Name": "vpc-id", "Values": [config.vpc_id]}, {"Name": "group-name", "Values": names}]
    found = ec2.describe_security_groups(Filters=where)["SecurityGroups"]
    return {group["GroupName"].removeprefix(start): group["GroupId"] for group in found}


def _ways(config: StackConfig, ours: dict[str, str]) -> Iterator[tuple[str, list[str], list[str], int]]:
    """What each way is called, the groups that it leads out of and into, and the port; those whose groups are there."""
    balancer, monolith = config.load_balancer_security_group_id, config.source_security_group_id
    link, service, target, dms = (ours.get(name) for name in ("vpc-link", "service", "database", "replication"))
    source = (monolith, config.source_port)
    ways: list[tuple[str, str | None, tuple[str | None, int]]] = [
        ("API Gateway to the load balancer", link, (balancer, config.listener_port)),
        ("the load balancer to the Task Service", balancer, (service, SERVICE_PORT)),
        ("the Task Service to its database", service, (target, POSTGRES_PORT)),
    ]
    for operator in config.operator_security_group_ids:
        ways.append(("operators to the target", operator, (target, POSTGRES_PORT)))
        if config.operator_reaches_source:
            ways.append(("operators to the source", operator, source))
    if config.replication_engine == "dms":
        ways += [("DMS to the source", dms, source), ("DMS to the target", dms, (target, POSTGRES_PORT))]
    elif config.replication_engine == "native":
        ways += [("the target to the source", target, source), ("the source to the target", monolith, (target, POSTGRES_PORT))]  # fmt: skip
    for what, origin, (destination, port) in ways:
        if origin and destination:
            yield what, [origin], [destination], port


def closed(ec2: Any, origin: Sequence[str], destination: Sequence[str], port: int) -> str | None:
    """Why TCP from a machine in the groups ``origin`` does not get to ``port`` of one in ``destination``; None when it does.

    A group lets out, and in, what one of its rules names, and nothing else (Amazon VPC, 'Security group rules').
    """
    for egress, mine, others in ((True, origin, destination), (False, destination, origin)):
        if not _lets(ec2, egress, mine, others, port):
            way = "out of" if egress else "into"
            return (
                f"no rule lets TCP {port} {way} {', '.join(mine) or 'no group'}, for {', '.join(others) or 'no group'}"
            )
    return None


def _lets(ec2: Any, egress: bool, groups: Sequence[str], others: Sequence[str], port: int) -> bool:
    """Whether a rule of ``groups`` names ``others``, or anywhere. Other addresses are not known to be anybody's."""
    return any(
        rule.get("CidrIpv4") == "0.0.0.0/0" or other_group(rule) in others
        for rule in rules_of(ec2, groups, port)
        if rule["IsEgress"] == egress
    )


def rules_of(ec2: Any, groups: Sequence[str], port: int) -> list[Mapping[str, Any]]:
    """The rules of ``groups`` that are of TCP to ``port``; one of all traffic has no ports (Amazon EC2, 'SecurityGroupRule': -1)."""
    where = [{"Name": "group-id", "Values": list(groups)}]
    return [
        rule
        for rule in (pages(ec2, "describe_security_group_rules", "SecurityGroupRules", Filters=where) if groups else ())
        if rule["IpProtocol"] == "-1" or (rule["IpProtocol"] == "tcp" and rule["FromPort"] <= port <= rule["ToPort"])
    ]


def other_group(rule: Mapping[str, Any]) -> str:
    """The group that a rule names; empty where it is for addresses."""
    return str((rule.get("ReferencedGroupInfo") or {}).get("GroupId", ""))
