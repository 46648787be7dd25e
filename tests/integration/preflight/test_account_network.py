"""The network and the secrets of AWS DMS, as the account has them, against the stack's file."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.config import PROJECT
from components.config_stack import StackConfig
from components.config_values import parse
from scripts.preflight.account.asking import Clients, clients
from scripts.preflight.account.run import checks
from scripts.preflight.documents import Check
from scripts.rehearsal.world import EmulatedAws, build_world
from tests.engine_support import stack_config


@pytest.fixture
def world(aws: EmulatedAws) -> dict[str, object]:
    aws.reset()
    return {key: value for key, value in stack_config(build_world(aws)).items() if key != "smokeHeaderValue"}


@pytest.fixture
def asked(aws: EmulatedAws, in_account: None) -> Clients:
    return clients(aws.region)


def failed(world: dict[str, object], asked: Clients, **other: object) -> dict[str, Check]:
    """What fails or warns, by name."""
    found = checks(parse(StackConfig, {**world, **other}), asked)
    return {check.name: check for check in found if check.status != "pass"}


def operator_of(world: dict[str, object]) -> str:
    groups = world["operatorSecurityGroupIds"]
    assert isinstance(groups, list)
    return str(groups[0])


def network(name: str) -> str:
    return f"network: {name}"


def test_a_network_that_is_not_as_the_file_says_is_named_before_up(
    world: dict[str, object], asked: Clients, aws: EmulatedAws
) -> None:
    """Fails when subnets in one zone, a group of another VPC or a missing way to the secrets are found out by an `up`, or a night later."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.30.0.0/16")["Vpc"]["VpcId"]
    stranger = ec2.create_security_group(GroupName="x", Description="x", VpcId=vpc)["GroupId"]
    subnets = world["privateSubnetIds"]
    assert isinstance(subnets, list)
    zone = ec2.describe_subnets(SubnetIds=subnets[:1])["Subnets"][0]["AvailabilityZone"]
    beside = ec2.create_subnet(VpcId=world["vpcId"], CidrBlock="10.20.9.0/24", AvailabilityZone=zone)["Subnet"][
        "SubnetId"
    ]
    one = failed(world, asked, privateSubnetIds=[subnets[0], beside])[network("subnets")]
    assert (one.status, "limit: 2 zones" in one.detail) == ("fail", True)
    lost = failed(world, asked, privateSubnetIds=[subnets[0], "subnet-0123abcd"])[network("subnets")]
    assert (lost.status, "subnet-0123abcd" in lost.detail) == ("fail", True)
    groups = failed(world, asked, operatorSecurityGroupIds=[stranger, "sg-0123abcd"])[network("security groups")]
    assert groups.status == "fail"
    assert f"operatorSecurityGroupIds: {stranger} is of {vpc}" in groups.detail
    assert "sg-0123abcd does not exist" in groups.detail
    # A group of another VPC may be peered with ours, which is not seen in the group; the load balancer's targets are in its own.
    peered = failed(world, asked, sourceSecurityGroupId=stranger)[network("security groups")]
    assert (peered.status, f"{stranger} is of {vpc}" in peered.detail) == ("warn", True)
    balancer = failed(world, asked, loadBalancerSecurityGroupId=stranger)[network("security groups")]
    assert (balancer.status, "peered" in balancer.detail) == ("fail", False)
    (endpoint,) = [item for item in ec2.describe_vpc_endpoints()["VpcEndpoints"] if item["VpcId"] == world["vpcId"]]
    named = failed(
        world, asked, secretsManagerEndpointOverride="vpce-0a-b.secretsmanager.ap-northeast-1.vpce.amazonaws.com"
    )
    assert named[network("way to Secrets Manager")].status == "fail"
    ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint["VpcEndpointId"]])
    closed = failed(world, asked)[network("way to Secrets Manager")]
    assert closed.status == "fail"
    assert f"{subnets[0]}, {subnets[1]}: no default route" in closed.detail
    (main,) = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [world["vpcId"]]}])["RouteTables"]
    nat = ec2.create_nat_gateway(SubnetId=subnets[0], ConnectivityType="private")["NatGateway"]["NatGatewayId"]
    ec2.create_route(RouteTableId=main["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat)
    assert network("way to Secrets Manager") not in failed(world, asked)
    # Nothing of ours has a public address, without which an internet gateway takes nobody out.
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=world["vpcId"])
    ec2.replace_route(RouteTableId=main["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    public = failed(world, asked)[network("way to Secrets Manager")]
    assert (public.status, subnets[0] in public.detail) == ("fail", True)


def test_who_reaches_the_databases_is_told_before_anybody_tries(
    world: dict[str, object], asked: Clients, aws: EmulatedAws
) -> None:
    """Fails when the first command of the night is the first to find that no group lets it in, or a rule is made a second time."""
    name, source, operators = (
        network("operators"),
        str(world["sourceSecurityGroupId"]),
        world["operatorSecurityGroupIds"],
    )
    assert isinstance(operators, list)
    operator = operators[0]
    nobody = failed({key: value for key, value in world.items() if not key.startswith("operator")}, asked)[name]
    assert (nobody.status, "operatorSecurityGroupIds" in nobody.remedy) == ("warn", True)
    asks = failed(world, asked, operatorReachesSource=False)[name]
    assert (asks.status, "operatorReachesSource: true" in asks.remedy) == ("warn", True)
    assert f"{operator}: no rule of {source}" in asks.detail
    way = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": operator}]}
    aws.client("ec2").authorize_security_group_ingress(GroupId=source, IpPermissions=[way])
    assert name not in failed(world, asked, operatorReachesSource=False)
    twice = failed(world, asked)[name]
    assert (twice.status, "lets it in already" in twice.detail) == ("fail", True)


@pytest.mark.parametrize(
    ("protocol", "ports", "lets_in", "is_the_same"),
    [("-1", {}, True, False), ("tcp", (0, 65535), True, False), ("udp", (5432, 5432), False, False), ("tcp", (5432, 5432), True, True)],
)  # fmt: skip
def test_a_rule_is_judged_by_protocol_and_ports(
    protocol: str,
    ports: tuple[int, int],
    lets_in: bool,
    is_the_same: bool,
    world: dict[str, object],
    asked: Clients,
    aws: EmulatedAws,
) -> None:
    """Fails when all traffic, whose ports AWS gives as -1, is taken for no way, UDP for one, or a wider rule for the one that `up` makes."""
    name, source = network("operators"), str(world["sourceSecurityGroupId"])
    operator = operator_of(world)
    way: dict[str, Any] = {"IpProtocol": protocol, "UserIdGroupPairs": [{"GroupId": operator}]}
    if ports:
        way |= {"FromPort": ports[0], "ToPort": ports[1]}
    ec2 = aws.client("ec2")
    # A rule of another program that Pulumi manages is not ours.
    tags = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "ManagedBy", "Value": "pulumi"}]}]
    ec2.authorize_security_group_ingress(GroupId=source, IpPermissions=[way], TagSpecifications=tags)
    assert (name not in failed(world, asked, operatorReachesSource=False)) == lets_in
    assert (name in failed(world, asked)) == is_the_same


def test_a_rule_of_ours_is_not_taken_for_one_of_others(
    world: dict[str, object], asked: Clients, aws: EmulatedAws
) -> None:
    """Fails when a look after the first `up` refuses what that `up` made, or one rule of ours hides another's."""
    name, source = network("operators"), str(world["sourceSecurityGroupId"])
    operator = operator_of(world)
    ec2 = aws.client("ec2")
    tags = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "Project", "Value": PROJECT}]}]
    way = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": operator}]}
    ec2.authorize_security_group_ingress(GroupId=source, IpPermissions=[way], TagSpecifications=tags)
    assert name not in failed(world, asked)
    beside = ec2.create_security_group(GroupName="beside", Description="x", VpcId=world["vpcId"])["GroupId"]
    other = {**way, "UserIdGroupPairs": [{"GroupId": beside}]}
    ec2.authorize_security_group_ingress(GroupId=source, IpPermissions=[other])
    twice = failed(world, asked, operatorSecurityGroupIds=[operator, beside])[name]
    assert twice.detail.startswith(f"{beside}: ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "a;b+c%{d}"}, "its password holds { } ; + %"),
        ({"username": "postgres"}, "its username is postgres; limit: replicationRole"),
        ({"host": "10.0.0.1"}, "its host is 10.0.0.1; limit: sourceHost"),
        ({"port": None}, "it has no port"),
    ],
)
def test_what_dms_cannot_use_of_a_secret_is_named_and_not_shown(
    changes: dict[str, object], said: str, world: dict[str, object], asked: Clients, aws: EmulatedAws
) -> None:
    """Fails when a password that DMS refuses is first told by a test of its endpoints, which says that it cannot log in."""
    secret, manager = str(world["sourceSecretArn"]), aws.client("secretsmanager")
    value = json.loads(manager.get_secret_value(SecretId=secret)["SecretString"])
    manager.put_secret_value(SecretId=secret, SecretString=json.dumps({**value, **changes}))
    found = failed(world, asked)["secrets: source"]
    assert (found.status, said in found.detail) == ("fail", True)
    assert "a;b" not in found.detail
    assert "secrets: source" not in failed(world, asked, replicationEngine="native")
    manager.put_secret_value(SecretId=secret, SecretString="no object")
    assert "it is no JSON object" in failed(world, asked)["secrets: source"].detail


def test_a_way_by_addresses_is_told_as_one(world: dict[str, object], asked: Clients, aws: EmulatedAws) -> None:
    """Fails when a range of addresses passes for a way of these groups, without a word of what could not be looked at."""
    way = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "IpRanges": [{"CidrIp": "10.9.0.0/16"}]}
    aws.client("ec2").authorize_security_group_ingress(GroupId=str(world["sourceSecurityGroupId"]), IpPermissions=[way])
    found = checks(parse(StackConfig, {**world, "operatorReachesSource": False}), asked)
    (told,) = (check for check in found if check.name == network("operators"))
    assert (told.status, told.detail.endswith("if its address is in 10.9.0.0/16")) == ("pass", True)
