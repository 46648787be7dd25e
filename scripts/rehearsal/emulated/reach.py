"""Whether the emulated account's security groups let a connection through: the rules decide in a rehearsal as they do in a VPC.

A rehearsal's servers are all on this machine, where no group stops anything; so whoever is about to connect asks here first.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from typing import Any

from scripts.rehearsal.emulated.core import pages


def groups_of(things: Sequence[Any]) -> list[str]:
    """The groups of a database or replication instance, of what describes it as ``VpcSecurityGroups``."""
    return [str(entry["VpcSecurityGroupId"]) for entry in things]


def closed(ec2: Any, origin: Sequence[str], destination: Sequence[str], port: int) -> str | None:
    """Why TCP from a machine in the groups ``origin`` does not get to ``port`` of one in ``destination``; None when it does.

    A group lets out, and in, what one of its rules names, and nothing else (Amazon VPC, 'Security group rules').
    """
    for egress, mine, others in ((True, origin, destination), (False, destination, origin)):
        if not any(_permits(rule, egress, others, port) for group in mine for rule in _rules(ec2, group)):
            way = "out of" if egress else "into"
            return (
                f"no rule lets TCP {port} {way} {', '.join(mine) or 'no group'}, for {', '.join(others) or 'no group'}"
            )
    return None


def _rules(ec2: Any, group: str) -> Iterator[Any]:
    where = [{"Name": "group-id", "Values": [group]}]
    yield from pages(ec2, "describe_security_group_rules", "SecurityGroupRules", Filters=where)


def _permits(rule: Any, egress: bool, others: Sequence[str], port: int) -> bool:
    if rule["IsEgress"] != egress or rule["IpProtocol"] not in ("tcp", "-1"):
        return False
    if rule["IpProtocol"] == "tcp" and not int(rule.get("FromPort", 0)) <= port <= int(rule.get("ToPort", -1)):
        return False
    # Of addresses only anywhere is known: a rehearsal has no network of its own.
    return rule.get("CidrIpv4") == "0.0.0.0/0" or (rule.get("ReferencedGroupInfo") or {}).get("GroupId") in others


def nowhere() -> socket.socket:
    """A port of this machine that answers nobody, as behind a group that drops what it does not let in. Close it when done."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    return silent
