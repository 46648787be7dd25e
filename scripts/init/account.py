"""The look-ups in the account, before anything of the program is there. Each says what it asked; none guesses among several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from components.config import PROJECT
from components.naming import DMS_ROLES, REPOSITORY_NAME, TASK_PATHS
from scripts.init.existing import existing
from scripts.init.survey import Survey
from scripts.preflight.account.asking import code_of, pages
from scripts.preflight.account.listener import certificate_names
from scripts.preflight.account.network import default_routes, to_internet_gateway
from scripts.support.listener_rules import Request, group_name, parse_rule, patterns_of, read_rules, witnesses

CLUSTER = "myteacher-cluster"  # the plan


def survey(found: Survey) -> None:
    """Look up what the account has; ``found`` has each key afterwards."""
    look = found.attempt
    look(
        ("listenerArn", "listenerServerName", "loadBalancerSecurityGroupId", "monolithTargetGroupArn"),
        "the listener",
        lambda: _listener(found),
    )
    look(("vpcId",), "the VPCs", lambda: _vpc(found))
    look(("privateSubnetIds",), "the subnets", lambda: _subnets(found))
    look(("operatorSecurityGroupIds",), "the security groups", lambda: _operators(found))
    look(("clusterArn",), "the clusters", lambda: _cluster(found))
    look(("cognitoUserPoolId", "cognitoClientIds"), "the user pools", lambda: _users(found))
    look(("sourceInstanceIdentifier", "sourceHost", "sourceSecurityGroupId"), "the databases", lambda: _source(found))
    look(("sourceSecretArn", "sourceOperatorSecretArn"), "the secrets", lambda: _secrets(found))
    if found.value("replicationEngine") == "dms":
        look(("dmsCertificateArn",), "the certificates of DMS", lambda: _certificate(found))
        look(("dmsCreateAccountRoles",), "the roles of DMS", lambda: _roles(found))
    look(("serviceImageTag",), "the images", lambda: _image(found))
    look(("backupBucket", "stateBucket"), "the buckets", lambda: _buckets(found))
    existing(found)


def _name(thing: Mapping[str, Any]) -> str:
    return next((str(tag["Value"]) for tag in thing.get("Tags", ()) if tag["Key"] == "Name"), "no name")


def _listener(found: Survey) -> None:
    elb = found.aws("elbv2")
    balancers = {
        one["LoadBalancerArn"]: one
        for one in pages(elb, "describe_load_balancers", "LoadBalancers")
        if one["Type"] == "application"
    }
    listeners = {
        one["ListenerArn"]: one
        for arn in balancers
        for one in pages(elb, "describe_listeners", "Listeners", LoadBalancerArn=arn)
    }
    wanted = found.value("listenerProtocol") or "HTTPS"
    named = [
        (arn, f"{balancers[one['LoadBalancerArn']]['LoadBalancerName']}, {one['Protocol']} on port {one['Port']}")
        for arn, one in listeners.items()
        if one["Protocol"] == wanted
    ]
    chosen = listeners.get(found.one("listenerArn", f"{wanted} listeners of application load balancers", named))
    if chosen is None:
        return
    for key, word in (("listenerProtocol", chosen["Protocol"]), ("listenerPort", chosen["Port"])):
        found.one(key, "what that listener speaks", [(word, str(word))])
    balancer = balancers[chosen["LoadBalancerArn"]]
    where = f"the load balancer {balancer['LoadBalancerName']}"
    found.one("vpcId", f"the VPC of {where}", [(balancer["VpcId"], balancer["VpcId"])])
    groups = [(group, group) for group in balancer.get("SecurityGroups", ())]
    found.one("loadBalancerSecurityGroupId", f"security groups of {where}", groups)
    rules = read_rules(elb, chosen["ListenerArn"])
    forwards = {arn: group_name(arn) for rule in rules for arn in parse_rule(rule).weights}
    found.one("monolithTargetGroupArn", "target groups that the listener's rules forward to", sorted(forwards.items()))
    found.attempt(("listenerServerName",), "the listener's certificate", lambda: _server_name(found, chosen))
    _priority(found, elb, rules)


def _priority(found: Survey, elb: Any, rules: list[Mapping[str, Any]]) -> None:
    """Two free priorities, one above the other, before each rule that may take a task's request."""
    taken = {int(rule["Priority"]): rule for rule in rules if rule["Priority"] != "default"}
    ours = found.value("liveRulePriority")
    if ours in taken:
        tags = elb.describe_tags(ResourceArns=[taken[ours]["RuleArn"]])["TagDescriptions"][0]["Tags"]
        if any(tag["Key"] == "Project" and tag["Value"] == PROJECT for tag in tags):
            found.one("liveRulePriority", "the live rule is there", [(ours, str(ours))])
            return
    hosts = found.value("hostHeaders") or [found.value("listenerServerName")]
    others = sorted(number for number, rule in taken.items() if any(_takes_tasks(rule, host) for host in hosts))
    first = others[0] if others else 50_001
    free = [n for n in (110, *range(min(first - 1, 50_000), 1, -1)) if n < first and not {n, n - 1} & set(taken)]
    how = f"rules of the listener: {len(taken)}" + (f", of which {first} may take /api/tasks first" if others else "")
    remedy = f"two free priorities, one above the other, before {first}: aws elbv2 set-rule-priorities makes room"
    found.one("liveRulePriority", how, [(free[0], f"{free[0]} and {free[0] - 1} are free")] if free else [], remedy)


def _takes_tasks(rule: Mapping[str, Any], host: str | None) -> bool:
    """Whether a rule may answer a task's request to ``host``: unless host or path exclude it. What else it asks for, a request may have."""
    looked = ["path-pattern", *(["host-header"] if host else [])]
    judged = parse_rule({**rule, "Conditions": [one for one in rule["Conditions"] if one["Field"] in looked]})
    live = parse_rule({**rule, "Conditions": [{"Field": "path-pattern", "Values": list(TASK_PATHS)}]})
    paths = witnesses({*TASK_PATHS, *patterns_of([judged], "path-pattern")})
    asked = (Request("GET", host or "", path) for path in paths)
    return any(live.matches(one) and judged.matches(one) for one in asked)


def _server_name(found: Survey, listener: Mapping[str, Any]) -> None:
    certificates = [one["CertificateArn"] for one in listener.get("Certificates", ())]
    if not certificates:
        return
    names = dict.fromkeys(certificate_names(found.aws, certificates[0]))
    # A wildcard is no name that a client can ask for.
    whole = [(name, name) for name in names if not name.startswith("*")]
    how = f"names in the listener's certificate ({', '.join(names)}), wildcards left out"
    found.one("listenerServerName", how, whole)


def _vpc(found: Survey) -> None:
    if "vpcId" not in found.keys:
        vpcs = pages(found.aws("ec2"), "describe_vpcs", "Vpcs")
        found.one("vpcId", "VPCs", [(one["VpcId"], f"{_name(one)}, {one['CidrBlock']}") for one in vpcs])


def _subnets(found: Survey) -> None:
    """One private subnet a zone, with a way to AWS; by the route table that counts for each (Amazon VPC, 'Route tables')."""
    vpc = found.value("vpcId")
    if not vpc:
        found.all("privateSubnetIds", "no VPC is known, whose subnets could be looked at", [])
        return
    ec2 = found.aws("ec2")
    own = [{"Name": "vpc-id", "Values": [vpc]}]
    tables = pages(ec2, "describe_route_tables", "RouteTables", Filters=own)
    found_ways = pages(ec2, "describe_vpc_endpoints", "VpcEndpoints", Filters=own)
    endpoints = [one for one in found_ways if one["State"].lower() in ("available", "pending")]
    private: dict[str, list[tuple[str, str]]] = defaultdict(list)
    left: list[str] = []
    for subnet in pages(ec2, "describe_subnets", "Subnets", Filters=own):
        id_, zone = subnet["SubnetId"], subnet["AvailabilityZone"]
        ways = default_routes(id_, tables)
        if any(map(to_internet_gateway, ways)):
            left.append(f"{id_} is public")
        elif not ways and not endpoints:
            left.append(f"{id_} has no way to AWS (no default route, no VPC endpoint)")
        else:
            private[zone].append((id_, f"{_name(subnet)}, {zone}, {subnet['CidrBlock']}"))
    candidates = [one for zone in sorted(private) for one in private[zone]]
    clear = len(private) >= 2 and all(len(those) == 1 for those in private.values())
    how = f"private subnets of {vpc} in {len(private)} zones: {len(candidates)}" + "".join(f"; {why}" for why in left)
    found.all("privateSubnetIds", how, [id_ for id_, _ in candidates] if clear else [], candidates)


def _operators(found: Survey) -> None:
    """Who may reach the target beside the service is a person's to say: the groups of the VPC to choose from."""
    own = [{"Name": "vpc-id", "Values": [found.value("vpcId") or ""]}]
    groups = pages(found.aws("ec2"), "describe_security_groups", "SecurityGroups", Filters=own)
    candidates = [(one["GroupId"], one["GroupName"]) for one in groups if one["GroupName"] != "default"]
    found.all("operatorSecurityGroupIds", "groups of the VPC, of which operators may have one", [], candidates)


def _cluster(found: Survey) -> None:
    ecs = found.aws("ecs")
    named = _active(ecs, [CLUSTER])
    if named:
        found.one("clusterArn", f"the plan's cluster {CLUSTER}", [(arn, arn) for arn in named])
        return
    # Another one is somebody's choice, also where it is alone.
    others = [arn for page in ecs.get_paginator("list_clusters").paginate() for arn in page["clusterArns"]]
    candidates = [(arn, arn.rpartition("/")[2]) for arn in _active(ecs, others[:100])]
    found.all("clusterArn", f"no {CLUSTER}; clusters of another name", [], candidates)


def _active(ecs: Any, clusters: list[str]) -> list[str]:
    """ARNs of those that can take a service; a deleted one can be described for a while."""
    described = ecs.describe_clusters(clusters=clusters)["clusters"] if clusters else []
    return [one["clusterArn"] for one in described if one["status"] == "ACTIVE"]


def _users(found: Survey) -> None:
    cognito = found.aws("cognito-idp")
    pools = pages(cognito, "list_user_pools", "UserPools", MaxResults=60)
    pool = found.one("cognitoUserPoolId", "user pools", [(one["Id"], one["Name"]) for one in pools])
    if not pool:
        found.all("cognitoClientIds", "no user pool is known, whose clients could be looked at", [])
        return
    clients = pages(cognito, "list_user_pool_clients", "UserPoolClients", UserPoolId=pool, MaxResults=60)
    candidates = [(one["ClientId"], one["ClientName"]) for one in clients]
    # Whose tokens are accepted is not for a program to say where there is a choice.
    only = [candidates[0][0]] if len(candidates) == 1 else []
    found.all("cognitoClientIds", f"clients of {pool}: {len(candidates)}", only, candidates)


def _source(found: Survey) -> None:
    databases = {
        one["DBInstanceIdentifier"]: one
        for one in pages(found.aws("rds"), "describe_db_instances", "DBInstances")
        if one["Engine"] == "postgres" and not one["DBInstanceIdentifier"].startswith("task-service-")
    }
    named = [(name, f"{name}, PostgreSQL {one['EngineVersion']}") for name, one in databases.items()]
    chosen = databases.get(found.one("sourceInstanceIdentifier", "PostgreSQL instances of RDS, ours left out", named))
    if chosen is None:
        for key in ("sourceHost", "sourceSecurityGroupId"):
            found.one(key, "no instance is known, of which it could be read", [])
        return
    name = chosen["DBInstanceIdentifier"]
    endpoint = chosen.get("Endpoint", {})
    address = endpoint.get("Address")
    found.one("sourceHost", f"the endpoint of {name}", [(address, address)] if address else [])
    if endpoint.get("Port"):
        found.one("sourcePort", f"the port of {name}", [(endpoint["Port"], str(endpoint["Port"]))])
    groups = [one["VpcSecurityGroupId"] for one in chosen.get("VpcSecurityGroups", ())]
    found.one("sourceSecurityGroupId", f"security groups of {name}", [(group, group) for group in groups])


def _secrets(found: Survey) -> None:
    """Secrets of the source by their name alone: whether one has the right login is read by `preflight --account`, not here."""
    secrets = pages(found.aws("secretsmanager"), "list_secrets", "SecretList")
    others = [one for one in secrets if not one["Name"].startswith(("rds!", "task-service/"))]
    for key, word in (("sourceSecretArn", "replication"), ("sourceOperatorSecretArn", "operator")):
        fitting = [(one["ARN"], one["Name"]) for one in others if one["Name"].rpartition("/")[2] == word]
        if fitting:
            found.one(key, f"secrets called .../{word}", fitting)
        else:
            found.all(key, f"no secret is called .../{word}", [], [(one["ARN"], one["Name"]) for one in others])


def _certificate(found: Survey) -> None:
    certificates = pages(found.aws("dms"), "describe_certificates", "Certificates")
    named = [(one["CertificateArn"], one["CertificateIdentifier"]) for one in certificates]
    remedy = "aws dms import-certificate, as the file says above the key; then run it again"
    found.one("dmsCertificateArn", "certificates of DMS", named, remedy if not named else None)


def _roles(found: Survey) -> None:
    iam = found.aws("iam")
    there = []
    for role in DMS_ROLES:
        try:
            iam.get_role(RoleName=role)
            there.append(role)
        except iam.exceptions.NoSuchEntityException:
            continue
    if len(there) == 1:
        remedy = f"only {there[0]} is there: make the other one by hand (aws iam create-role), and set it to false"
        found.one("dmsCreateAccountRoles", "one of the two roles of AWS DMS", [], remedy)
        return
    how = f"roles {' and '.join(DMS_ROLES)}"
    found.one("dmsCreateAccountRoles", how, [(not there, "there already" if there else "not there yet")])


def _image(found: Survey) -> None:
    ecr = found.aws("ecr")
    try:
        images = pages(ecr, "describe_images", "imageDetails", repositoryName=REPOSITORY_NAME)
    except ecr.exceptions.RepositoryNotFoundException:
        remedy = (
            "--set serviceImageTag=TAG, the commit that will be pushed first: the repository comes with the first up"
        )
        found.one("serviceImageTag", f"no repository {REPOSITORY_NAME} yet", [], remedy)
        return
    newest = sorted(images, key=lambda one: one["imagePushedAt"], reverse=True)
    tags = [
        (tag, f"pushed {one['imagePushedAt']:%Y-%m-%d %H:%M}") for one in newest for tag in one.get("imageTags", ())
    ]
    found.one("serviceImageTag", f"images in {REPOSITORY_NAME}", [one for one in tags if one[0] != "latest"])


def _buckets(found: Survey) -> None:
    """Names of buckets are world-wide: one that somebody has ends the first `up` half-way."""
    s3 = found.aws("s3")
    account = found.aws("sts").get_caller_identity()["Account"]
    for key in ("backupBucket", "stateBucket"):
        name = found.value(key)
        try:
            s3.head_bucket(Bucket=name, ExpectedBucketOwner=account)
            how = f"{name} is in this account already"
        except s3.exceptions.ClientError as error:
            if code_of(error) == "403":
                remedy = f"--set {key}=NAME-OF-YOUR-OWN"
                how = f"the bucket {name} belongs to somebody else, or these credentials may not look at it"
                found.blocked(key, how, remedy)
                continue
            if code_of(error) != "404":
                raise
            how = f"no bucket has the name {name} yet"
        found.one(key, how, [(name, name)])
