"""What the tests of both engines share: configuration, what the emulated account holds, small programs."""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
from pulumi import automation

from scripts.deployment.deployer import Op
from scripts.rehearsal.engine.embedded import EmbeddedDeployer
from scripts.rehearsal.engine.pulumi_cli import PulumiDeployer
from scripts.rehearsal.world import EmulatedAws

#: What holds on both engines is tested on both.
ENGINES = ["embedded", pytest.param("pulumi", marks=pytest.mark.engine)]
SMOKE_VALUE = "a-value-that-nobody-prints-1f9c"


#: A name of the team's for the API, pages of another origin, hosts: all that is off by default.
OWN_NAME: dict[str, object] = {
    "customDomainName": "tasks.example.com",
    "customDomainCertificateArn": "arn:aws:acm:ap-northeast-1:123456789012:certificate/1",
    "corsAllowedOrigins": ["https://app.example.com"],
    "hostHeaders": ["api.myteacher.example"],
}


def stack_config(world: dict[str, object]) -> dict[str, object]:
    """A whole stack's configuration on top of the emulated world."""
    return {
        **world,
        "smokeHeaderValue": SMOKE_VALUE,
        "serviceImageTag": "3f2c1a9",
        "alarmEmails": ["operations@example.com"],
        "dmsCreateAccountRoles": True,
        "canaryWeight": 0,
    }


def write_program(directory: Path, body: str) -> Path:
    """A program whose ``__main__.py`` is ``body`` with the usual imports before it."""
    directory.mkdir(parents=True, exist_ok=True)
    text = "import json\nimport pulumi\nimport pulumi_aws as aws\n" + textwrap.dedent(body)
    (directory / "__main__.py").write_text(text, encoding="utf-8")
    return directory


def take_down(deployer: EmbeddedDeployer | PulumiDeployer) -> None:
    """Everything goes, as with a program that declares nothing."""
    at: Any = deployer._command if isinstance(deployer, PulumiDeployer) else deployer
    program = at.program
    with tempfile.TemporaryDirectory() as nothing:
        at.program = write_program(Path(nothing), "")
        try:
            deployer.up({})
        finally:
            at.program = program


def refreshed(deployer: PulumiDeployer) -> list[tuple[str, str]]:
    """What `pulumi refresh` finds otherwise than it was deployed: operation and name."""
    found: list[tuple[str, str]] = []

    def take(event: automation.EngineEvent) -> None:
        if event.res_outputs_event is not None:
            step = event.res_outputs_event.metadata
            found.append((str(getattr(step.op, "value", step.op)), step.urn.rpartition("::")[2]))

    deployer._stack.refresh(on_event=take, color="never", suppress_outputs=True)
    return [one for one in found if one[0] in get_args(Op)]


def weights(aws: EmulatedAws, rule: str) -> dict[str, int]:
    """Weight by target group ARN, as the emulated load balancer holds them for a listener rule."""
    found = aws.client("elbv2").describe_rules(RuleArns=[rule])["Rules"][0]
    groups = found["Actions"][0]["ForwardConfig"]["TargetGroups"]
    return {group["TargetGroupArn"]: int(group.get("Weight", 1)) for group in groups}


def inventory(aws: EmulatedAws) -> dict[str, set[str]]:
    """Everything in the account of every type that the program uses; what AWS only lets expire does not count."""
    ec2, iam, kms, s3 = (aws.client(name) for name in ("ec2", "iam", "kms", "s3"))
    elb, rds, dms, ecs = (aws.client(name) for name in ("elbv2", "rds", "dms", "ecs"))
    api, watch, logs, sns = (aws.client(name) for name in ("apigatewayv2", "cloudwatch", "logs", "sns"))
    scaling, ecr, secrets = aws.client("application-autoscaling"), aws.client("ecr"), aws.client("secretsmanager")
    found = watch.describe_alarms(MaxRecords=100)["MetricAlarms"]
    # Autoscaling's own alarms have a random end, which changes when a policy is put again.
    alarms = Counter(re.sub(r"-[0-9a-f-]{36}$", "", alarm["AlarmName"]) for alarm in found)
    cluster = "myteacher-cluster"
    arns = ecs.list_services(cluster=cluster)["serviceArns"]
    services = ecs.describe_services(cluster=cluster, services=arns)["services"] if arns else []
    keys = [kms.describe_key(KeyId=item["KeyId"])["KeyMetadata"] for item in kms.list_keys()["Keys"]]
    listeners = [
        listener["ListenerArn"]
        for balancer in elb.describe_load_balancers()["LoadBalancers"]
        for listener in elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    ]

    domains = api.get_domain_names()["Items"]

    def names(items: list[dict[str, Any]], key: str) -> set[str]:
        return {str(item[key]) for item in items}

    return {
        "security groups": names(ec2.describe_security_groups()["SecurityGroups"], "GroupId"),
        "security group rules": names(ec2.describe_security_group_rules()["SecurityGroupRules"], "SecurityGroupRuleId"),
        "roles": names(iam.list_roles()["Roles"], "RoleName"),
        "keys": {key["KeyId"] for key in keys if key["KeyState"] == "Enabled"},
        "key aliases": {
            item["AliasName"]
            for item in kms.list_aliases()["Aliases"]
            if not item["AliasName"].startswith("alias/aws/")
        },
        "custom domains": names(domains, "DomainName"),
        "domain mappings": {
            item["ApiMappingId"]
            for domain in domains
            for item in api.get_api_mappings(DomainName=domain["DomainName"])["Items"]
        },
        "buckets": names(s3.list_buckets()["Buckets"], "Name"),
        "target groups": names(elb.describe_target_groups()["TargetGroups"], "TargetGroupArn"),
        "listener rules": {
            rule["RuleArn"] for arn in listeners for rule in elb.describe_rules(ListenerArn=arn)["Rules"]
        },
        "database instances": names(rds.describe_db_instances()["DBInstances"], "DBInstanceIdentifier"),
        "database subnet groups": names(rds.describe_db_subnet_groups()["DBSubnetGroups"], "DBSubnetGroupName"),
        "database parameter groups": names(
            rds.describe_db_parameter_groups()["DBParameterGroups"], "DBParameterGroupName"
        ),
        "replication instances": names(
            dms.describe_replication_instances()["ReplicationInstances"], "ReplicationInstanceIdentifier"
        ),
        "replication subnet groups": names(
            dms.describe_replication_subnet_groups()["ReplicationSubnetGroups"], "ReplicationSubnetGroupIdentifier"
        ),
        "endpoints": names(dms.describe_endpoints()["Endpoints"], "EndpointIdentifier"),
        "replication tasks": names(dms.describe_replication_tasks()["ReplicationTasks"], "ReplicationTaskIdentifier"),
        "services": {service["serviceName"] for service in services if service["status"] != "INACTIVE"},
        "task definitions": set(ecs.list_task_definitions(status="ACTIVE")["taskDefinitionArns"]),
        "scalable targets": names(
            scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"], "ResourceId"
        ),
        "scaling policies": names(
            scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"], "PolicyName"
        ),
        "repositories": names(ecr.describe_repositories()["repositories"], "repositoryName"),
        "apis": names(api.get_apis()["Items"], "ApiId"),
        "vpc links": names(api.get_vpc_links()["Items"], "VpcLinkId"),
        "alarms": {f"{name} x{count}" for name, count in alarms.items()},
        "dashboards": names(watch.list_dashboards()["DashboardEntries"], "DashboardName"),
        "log groups": names(logs.describe_log_groups()["logGroups"], "logGroupName"),
        "topics": names(sns.list_topics()["Topics"], "TopicArn"),
        "subscriptions": names(sns.list_subscriptions()["Subscriptions"], "SubscriptionArn"),
        "secrets": names(secrets.list_secrets()["SecretList"], "Name"),
    }


def difference(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    """What stands in ``after`` and not in ``before``, by kind; kinds without any are left out."""
    return {kind: found - before[kind] for kind, found in after.items() if found - before[kind]}


#: What outlives a stack, by kind: the buckets, their keys and the database's (docs/runbook.md, 'Taking a stack down').
OUTLIVES = {"buckets": 2, "keys": 3}


def left(before: dict[str, set[str]], aws: EmulatedAws) -> dict[str, int]:
    """How many things of each kind a stack left in the account."""
    return {kind: len(found) for kind, found in difference(before, inventory(aws)).items()}
