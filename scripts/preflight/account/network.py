"""The network that the stack's file names: subnets, their way to Secrets Manager, security groups and whom they let in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from components.config import PROJECT
from components.config_stack import StackConfig
from scripts.preflight.account.asking import Clients, pages, tried
from scripts.preflight.account.ways import other_group, rules_of
from scripts.preflight.documents import Check

#: Two availability zones at least, for a subnet group of RDS as of DMS (Amazon RDS, 'Working with a DB instance in a VPC').
ZONES = 2


def checks(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """Each group of calls of its own, so that one that is refused does not hide the others."""
    for name, look in (
        ("subnets", _subnets),
        ("security groups", _groups),
        ("way to AWS", _way_out),
        ("ways in", _ways_in),
    ):
        yield from tried(f"network: {name}", partial(look, config, aws))


def _subnets(config: StackConfig, aws: Clients) -> Iterator[Check]:
    name, by_id = "network: subnets", [{"Name": "subnet-id", "Values": list(config.private_subnet_ids)}]
    found = aws("ec2").describe_subnets(Filters=by_id)["Subnets"]
    missing = set(config.private_subnet_ids) - {subnet["SubnetId"] for subnet in found}
    zones = sorted({subnet["AvailabilityZone"] for subnet in found})
    wrong = [f"{id_} does not exist" for id_ in sorted(missing)]
    wrong += [f"{subnet['SubnetId']} is in {subnet['VpcId']}" for subnet in found if subnet["VpcId"] != config.vpc_id]
    detail = f"{len(found)} in {', '.join(zones)}; limit: {ZONES} zones, all in {config.vpc_id}"
    yield Check(
        name,
        "fail" if wrong or len(zones) < ZONES else "pass",
        "; ".join([*wrong, detail]),
        "name private subnets of that VPC in two zones by privateSubnetIds: aws ec2 describe-subnets",
    )


def _groups(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """A rule names a group of the same VPC, or of one that is peered with it in the region (Amazon VPC Peering, 'Update your security
    groups to reference peer security groups'); the load balancer is in the VPC itself, where its targets are."""
    ec2, balancer = aws("ec2"), config.load_balancer_security_group_id
    keys = {
        balancer: "loadBalancerSecurityGroupId",
        config.source_security_group_id: "sourceSecurityGroupId",
        **dict.fromkeys(config.operator_security_group_ids, "operatorSecurityGroupIds"),
    }
    by_id = [{"Name": "group-id", "Values": list(keys)}]
    found = {group["GroupId"]: group for group in ec2.describe_security_groups(Filters=by_id)["SecurityGroups"]}
    wrong = [f"{key}: {id_} does not exist" for id_, key in keys.items() if id_ not in found]
    away = {id_: group["VpcId"] for id_, group in found.items() if group["VpcId"] != config.vpc_id}
    said = [
        f"{keys[id_]}: {id_} is of {vpc}, limit: {config.vpc_id}{'' if id_ == balancer else ', or one that is peered with it'}"
        for id_, vpc in away.items()
    ]
    yield Check(
        "network: security groups",
        "fail" if wrong or balancer in away else "warn" if away else "pass",
        "; ".join([*wrong, *said]) or f"{len(found)} of {config.vpc_id}",
        "correct what is named: aws ec2 describe-security-groups; or see that the peering is active: aws ec2 describe-vpc-peering-connections",
    )


def _way_out(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """DMS and ECS read secrets by the public name of Secrets Manager: over a NAT, or to a VPC endpoint that has that name."""
    ec2, name = aws("ec2"), "network: way to Secrets Manager"
    of_vpc = [{"Name": "vpc-id", "Values": [config.vpc_id]}]
    tables = pages(ec2, "describe_route_tables", "RouteTables", Filters=of_vpc)
    service = [{"Name": "service-name", "Values": [f"com.amazonaws.{config.region}.secretsmanager"]}]
    found = pages(ec2, "describe_vpc_endpoints", "VpcEndpoints", Filters=[*of_vpc, *service])
    endpoints = [endpoint for endpoint in found if str(endpoint["State"]).lower() == "available"]
    named = [entry["DnsName"] for endpoint in endpoints for entry in endpoint.get("DnsEntries", [])]
    override = config.secrets_manager_endpoint_override
    if override is not None:
        yield Check(
            name,
            "pass" if override in named else "fail",
            f"{override}, of {', '.join(named) or 'no endpoint of that VPC'}",
            "correct secretsManagerEndpointOverride: aws ec2 describe-vpc-endpoints, DnsEntries",
        )
        return
    if any(endpoint.get("PrivateDnsEnabled") for endpoint in endpoints):
        yield Check(name, "pass", "a VPC endpoint with private DNS")
        return
    closed = [
        id_
        for id_ in config.private_subnet_ids
        if not any(
            route.get("State", "active") == "active" and not to_internet_gateway(route)
            for route in default_routes(id_, tables)
        )
    ]
    yield Check(
        name,
        "fail" if closed else "pass",
        f"{', '.join(closed)}: no default route to a NAT, and no VPC endpoint with private DNS"
        if closed
        else "a default route each",
        f"give them a NAT, or the VPC an endpoint with private DNS; one without ({', '.join(named) or 'none is there'}) is named by "
        "secretsManagerEndpointOverride, which DMS follows and ECS does not",
    )


def default_routes(subnet: str, tables: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The default routes of the subnet's table, or of the VPC's main one where it has none (Amazon VPC, 'Route tables')."""
    links = [(link, table) for table in tables for link in table.get("Associations", [])]
    own = [table for link, table in links if link.get("SubnetId") == subnet]
    main = [table for link, table in links if link.get("Main")]
    routes = [route for table in (own or main) for route in table.get("Routes", [])]
    return [route for route in routes if route.get("DestinationCidrBlock") == "0.0.0.0/0"]


def to_internet_gateway(route: Mapping[str, Any]) -> bool:
    """Whether it leads there, which takes machines without a public address nowhere (Amazon VPC, 'Internet gateways')."""
    return str(route.get("GatewayId", "")).startswith("igw-")


def _ways_in(config: StackConfig, aws: Clients) -> Iterator[Check]:
    """Who of the operators gets to the databases: by rules that `up` makes, or that are there."""
    ec2, name, operators = aws("ec2"), "network: operators", config.operator_security_group_ids
    if not operators:
        remedy = "name the security groups of shells and runners by operatorSecurityGroupIds"
        yield Check(name, "warn", "nobody's security group is let in to the target database", remedy)
        return
    found = rules_of(ec2, [config.source_security_group_id], config.source_port)
    rules = [rule for rule in found if not rule["IsEgress"]]
    by_rule = {other_group(rule) for rule in rules} & set(operators)
    if config.operator_reaches_source:
        port, ours = config.source_port, {"Key": "Project", "Value": PROJECT}
        same = [
            rule for rule in rules if rule["FromPort"] == rule["ToPort"] == port and ours not in rule.get("Tags", [])
        ]
        twice = sorted({other_group(rule) for rule in same} & set(operators))
        yield Check(
            name,
            "fail" if twice else "pass",
            f"{', '.join(twice)}: {config.source_security_group_id} lets it in already, and a rule is taken once"
            if twice
            else f"{', '.join(operators)}: both databases, by rules of `up`",
            "set operatorReachesSource: false, or take that rule away",
        )
        return
    by_address = sorted(filter(None, map(_addresses, rules)))
    unknown = sorted(set(operators) - by_rule)
    yield Check(
        name,
        "warn" if unknown and not by_address else "pass",
        f"{', '.join(unknown)}: no rule of {config.source_security_group_id} lets it in to the source"
        if unknown and not by_address
        else f"{', '.join(operators)}: the target by rules of `up`, the source by rules that are there"
        + (f", if its address is in {', '.join(by_address)}" if unknown else ""),
        "set operatorReachesSource: true, where no other way leads there",
    )


def _addresses(rule: Mapping[str, Any]) -> str:
    return str(rule.get("CidrIpv4") or rule.get("CidrIpv6") or rule.get("PrefixListId") or "")
