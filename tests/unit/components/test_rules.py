"""What holds for every resource: least privilege, no secret in the clear, tags, components, configuration errors."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pulumi
import pytest

from components.config_stack import StackConfig
from components.config_values import known_keys, read_stack_file
from components.naming import STANDING
from scripts.support.settings import PROJECT_ROOT
from tests.unit.components.declared_helpers import (
    ACCOUNT,
    FILLED,
    REGION,
    SMOKE_VALUE,
    Declared,
    Resource,
    declare,
    walk,
)

SECRET_MARK = "4dabf18193072939515e22adb298388d"
STACKS = ("staging", "prod")


@pytest.fixture(scope="module", params=[*STACKS, "staging-native"])
def stack(request: pytest.FixtureRequest) -> Declared:
    environment, _, engine = request.param.partition("-")
    return declare(environment, replicationEngine=engine or "dms", dmsCreateAccountRoles=True)


def policies(declared: Declared) -> Iterator[tuple[Resource, dict[str, Any]]]:
    """Every statement of every policy text, wherever it stands."""
    for resource in declared.custom():
        for key, value in resource.inputs.items():
            if isinstance(value, str) and '"Statement"' in value:
                for statement in json.loads(resource.inputs[key])["Statement"]:
                    yield resource, statement


def test_no_grant_has_a_wildcard_action(stack: Declared) -> None:
    """A wildcard grants what AWS adds tomorrow."""
    granted = [(resource.name, item) for resource, item in policies(stack) if item["Effect"] == "Allow"]
    assert len(granted) >= 10
    for name, item in granted:
        assert "NotAction" not in item, name
        assert not [action for action in item["Action"] if "*" in action], name


def test_only_buckets_refuse_and_whole_where_it_is_plain_http(stack: Declared) -> None:
    """A refusal that names its actions lets through over plain HTTP whatever it forgot, so here the wildcard is right."""
    refused = [(resource.type, item) for resource, item in policies(stack) if item["Effect"] == "Deny"]
    assert {type_ for type_, _ in refused} == {"aws:s3/bucketPolicy:BucketPolicy"}
    assert {item["Principal"] for _, item in refused} == {"*"}
    whole = [item for _, item in refused if "s3:*" in item["Action"]]
    assert [item["Condition"] for item in whole] == [{"Bool": {"aws:SecureTransport": "false"}}] * 2
    for item in whole:
        bucket, objects = sorted(item["Resource"])
        assert bucket.endswith(("backups-bucket", "state-bucket"))
        assert objects == f"{bucket}/*"


def test_grants_of_roles_name_their_resources(stack: Declared) -> None:
    """`*` as a resource is right for the one action that knows no resource, and nowhere else."""
    for resource, item in policies(stack):
        if resource.type == "aws:iam/rolePolicy:RolePolicy" and "*" in item["Resource"]:
            assert item["Action"] == ["ecr:GetAuthorizationToken"], resource.name
        if resource.type == "aws:iam/rolePolicy:RolePolicy" and "kms:Decrypt" in item["Action"]:
            # Only what Secrets Manager decrypts for it; where the key is not known, only of the one secret.
            bounds = item["Condition"]["StringEquals"]
            assert bounds["kms:ViaService"] == f"secretsmanager.{REGION}.amazonaws.com", resource.name
            if any(arn.endswith("key/*") for arn in item["Resource"]):
                assert bounds["kms:EncryptionContext:SecretARN"], resource.name


def test_services_that_take_a_resource_are_bound_to_the_account(stack: Declared) -> None:
    """Without a condition another account's alarm, task, database or replication could act through our role or topic."""
    bound, context = [], []
    for resource, item in policies(stack):
        principal = item.get("Principal")
        if not isinstance(principal, dict) or "Service" not in principal:
            continue
        condition = item["Condition"]
        if str(principal["Service"]).startswith("logs."):
            # The group's ARN has the account.
            groups = condition["ArnEquals"]["kms:EncryptionContext:aws:logs:arn"]
            assert all(f":{ACCOUNT}:" in arn and "*" not in arn for arn in groups), resource.name
            context.append(resource.name)
            continue
        assert condition["StringEquals"] == {"aws:SourceAccount": ACCOUNT}, resource.name
        assert condition["ArnLike"]["aws:SourceArn"].split(":")[4] == ACCOUNT, resource.name
        bound.append(resource.name)
    dms = ["replication-dms-cloudwatch-logs-role", "replication-dms-vpc-role", "replication-secrets-role"]
    others = ["database-monitoring-role", "monitoring-key", "monitoring-topic-policy"]
    assert sorted(set(bound) - set(dms)) == [*others, "service-execution-role", "service-task-role"]
    assert set(bound) & set(dms) in (set(), set(dms))
    assert sorted(context) == ["logs-key", "service-key"]


def test_ways_lead_from_group_to_group_and_nothing_is_public(stack: Declared) -> None:
    """Prevents a way that is open wider than its two ends: the one to anywhere is HTTPS out of service and DMS, to AWS's endpoints."""
    kinds = (
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
    )
    rules = [rule for kind in kinds for rule in stack.all(kind)]
    anywhere = {rule.name for rule in rules if "referencedSecurityGroupId" not in rule.inputs}
    native = not stack.all("aws:dms/endpoint:Endpoint")
    assert anywhere == {"service-https-egress"} | (set() if native else {"replication-https-egress"})
    link, service, database, dms = (
        f"{name}-security-group-id" for name in ("routes", "service", "database", "replication")
    )
    balancer, source = FILLED["loadBalancerSecurityGroupId"], FILLED["sourceSecurityGroupId"]
    ways = {(link, balancer, 443), (balancer, service, 3001), (service, database, 5432)}
    ways |= (
        {(database, source, 5432), (source, database, 5432)} if native else {(dms, source, 5432), (dms, database, 5432)}
    )
    # Each end says it of the other: out of the one and into the other.
    for kind, (of, to) in zip(kinds, ((1, 0), (0, 1)), strict=True):
        found = [
            ((one.inputs["securityGroupId"], one.inputs["referencedSecurityGroupId"]), one.inputs["fromPort"])
            for one in stack.all(kind)
            if one.name not in anywhere
        ]
        assert {(ends[of], ends[to], port) for ends, port in found} == ways
        assert len(found) == len(ways)
    assert {rule.inputs["securityGroupId"] for rule in rules if rule.name in anywhere} == {service} | (
        set() if native else {dms}
    )
    for rule in rules:
        assert rule.inputs["ipProtocol"] == "tcp", rule.name
        assert rule.inputs["fromPort"] == rule.inputs["toPort"], rule.name
        if rule.name in anywhere:
            assert (rule.inputs["cidrIpv4"], rule.inputs["fromPort"]) == ("0.0.0.0/0", 443)
    for group in stack.all("aws:ec2/securityGroup:SecurityGroup"):
        assert not {"ingress", "egress"} & set(group.inputs), group.name
    for resource in stack.custom():
        assert not [
            key for key in ("publiclyAccessible", "assignPublicIp", "mapPublicIpOnLaunch") if resource.inputs.get(key)
        ]
    assert stack.one("aws:ecs/service:Service").inputs["networkConfiguration"]["assignPublicIp"] is False


def test_parts_are_those_of_the_thing_that_their_component_declares(stack: Declared) -> None:
    """Prevents a bucket that is not versioned as the other one is twice, a role without its rights, a database in another group."""
    named = {
        item.name: item.inputs.get("bucket") or item.inputs.get("name")
        for item in stack.custom()
        if item.type in ("aws:s3/bucket:Bucket", "aws:iam/role:Role")
    }
    for item in stack.custom():
        component, inputs = item.name.split("-")[0], item.inputs
        wanted: dict[str, Any] = {
            "bucket": named.get(f"{component}-bucket"),
            "apiId": "routes-api-id",
            "role": named.get(re.sub("(-role)?-policy$", "-role", item.name)),
            "targetKeyId": f"{component}-key-id",
            "replicationInstanceArn": f"arn:aws:dms:{REGION}:{ACCOUNT}:replication-instance",
            "vpcId": FILLED["vpcId"],
            "subnetIds": FILLED["privateSubnetIds"],
            # Of the database, the replication instance and the link.
            "vpcSecurityGroupIds": [f"{component}-security-group-id"],
            "securityGroupIds": [f"{component}-security-group-id"],
            "forceDestroy": False,
            "autoMinorVersionUpgrade": False,
            "allowMajorVersionUpgrade": False,
            "applyImmediately": False,
        }
        found = {key: value for key, value in inputs.items() if key in wanted}
        assert found == {key: wanted[key] for key in found}, item.name
    service = stack.one("aws:ecs/service:Service").inputs["networkConfiguration"]
    assert (service["subnets"], service["securityGroups"]) == (
        FILLED["privateSubnetIds"],
        ["service-security-group-id"],
    )
    managed = {item.inputs["policyArn"] for item in stack.all("aws:iam/rolePolicyAttachment:RolePolicyAttachment")}
    dms = (
        {"AmazonDMSVPCManagementRole", "AmazonDMSCloudWatchLogsRole"}
        if stack.all("aws:dms/endpoint:Endpoint")
        else set()
    )
    assert managed == {
        f"arn:aws:iam::aws:policy/service-role/{name}" for name in {"AmazonRDSEnhancedMonitoringRole", *dms}
    }


def test_what_keeps_something_is_encrypted_with_a_key_of_ours(stack: Declared) -> None:
    """Prevents data that whoever may read the service may read."""
    named = (
        ("aws:cloudwatch/logGroup:LogGroup", "kmsKeyId"),
        ("aws:rds/instance:Instance", "kmsKeyId"),
        ("aws:dms/replicationInstance:ReplicationInstance", "kmsKeyArn"),
        ("aws:secretsmanager/secret:Secret", "kmsKeyId"),
        ("aws:sns/topic:Topic", "kmsMasterKeyId"),
    )
    kept = [(item, key) for type_, key in named for item in stack.all(type_)]
    assert len(kept) >= 7
    assert [item.name for item, key in kept if not str(item.inputs.get(key)).startswith("arn:aws:kms:")] == []
    for key in stack.all("aws:kms/key:Key"):
        assert key.inputs["enableKeyRotation"] is True


def in_the_clear(value: Any) -> Iterator[Any]:
    """Values on the wire that are not within a marked secret."""
    if isinstance(value, dict):
        if SECRET_MARK in value:
            return
        for item in value.values():
            yield from in_the_clear(item)
    elif isinstance(value, list):
        for item in value:
            yield from in_the_clear(item)
    else:
        yield value


def test_the_smoke_value_is_a_secret_wherever_it_goes(stack: Declared) -> None:
    """In the clear it would stand in the state file, in previews and in the logs of the workflows."""
    holders = [item.name for item in stack.resources if any(SMOKE_VALUE in str(value) for value in walk(item.inputs))]
    assert holders == ["routes-smoke-rule"]
    for resource in stack.resources:
        assert not [value for value in in_the_clear(resource.raw) if SMOKE_VALUE in str(value)], resource.name
    assert stack.one("aws:lb/listenerRule:ListenerRule", "routes-smoke-rule").secret_outputs == ("conditions",)
    assert stack.stack_outputs["smokeHeaderValue"] == SMOKE_VALUE
    assert not [value for value in in_the_clear(stack.raw_stack_outputs) if SMOKE_VALUE in str(value)]


def test_no_resource_takes_a_password_or_a_secret_value(stack: Declared) -> None:
    """Passwords are made and kept by AWS; the program knows their ARNs."""
    for resource in stack.custom():
        assert not {"password", "passwordWo", "secretString", "authToken"} & set(resource.inputs), resource.name
    assert not stack.all("aws:secretsmanager/secretVersion:SecretVersion")


def _takes_tags(type_: str) -> bool:
    _, module, name = type_.split(":")
    cls = getattr(importlib.import_module(f"pulumi_aws.{module.split('/')[0]}"), name)
    return "tags" in inspect.signature(cls._internal_init).parameters


def test_everything_that_can_has_tags(stack: Declared) -> None:
    """What bears no tag is in nobody's bill and in nobody's clean-up."""
    taggable = [item for item in stack.custom() if _takes_tags(item.type)]
    assert len(taggable) > 40
    for resource in taggable:
        tags = resource.inputs["tags"]
        assert {"Name", "Project", "Environment", "Component", "ManagedBy"} <= set(tags), resource.name
        assert tags["Project"] == "task-migration"


def test_every_resource_has_a_component_for_a_parent_and_outputs_are_registered_once(stack: Declared) -> None:
    """A resource made after register_outputs, or beside its component, is missed by whoever reads the component."""
    for resource in stack.custom():
        assert "task-migration:components:" in resource.parent.split("::")[2], resource.name
    components = {item.name for item in stack.resources if item.type.startswith("task-migration:components:")}
    assert components >= {"backups", "database", "routes", "service", "monitoring"}
    assert set(stack.component_outputs) == components
    for name, outputs in stack.component_outputs.items():
        assert outputs, name
        assert len(outputs) == len(set(outputs)), f"{name} registered its outputs twice"


EXPORTS = {
    *("canaryWeight", "targetEndpoint", "targetPort", "targetDatabase", "targetSecretArn", "sourceHost", "sourcePort"),
    *("sourceDatabase", "sourceSecretArn", "liveRuleArn", "smokeRuleArn", "listenerArn", "taskTargetGroupArn"),
    *(
        "monolithTargetGroupArn",
        "clusterArn",
        "serviceName",
        "apiId",
        "apiEndpoint",
        "backupBucket",
        "stateBucket",
        "alarmTopicArn",
    ),
    *("smokeHeaderName", "smokeHeaderValue", "userPoolId"),
}
DMS_EXPORTS = {
    *("dmsForwardTaskArn", "dmsReverseTaskArn", "dmsInstanceArn", "dmsSourceEndpointArn", "dmsTargetEndpointArn"),
}


def test_the_scripts_find_every_output_that_they_read(stack: Declared) -> None:
    expected = EXPORTS | (DMS_EXPORTS if stack.all("aws:dms/endpoint:Endpoint") else set())
    assert expected <= set(stack.stack_outputs)
    assert not [name for name in expected if stack.stack_outputs[name] in (None, "")]


@pytest.mark.parametrize("key", sorted(FILLED))
def test_a_missing_key_is_named_with_the_command_that_sets_it(key: str) -> None:
    """A trace-back in the middle of `up` tells a team nothing."""
    unset: dict[str, Any] = {key: [] if isinstance(FILLED[key], list) else ""}
    with pytest.raises(pulumi.RunError) as caught:
        declare(**unset)
    assert f"{key}: no value; " in str(caught.value)
    assert "Value error" not in str(caught.value), "whose word is the library's"
    path = f"--path 'task-migration:{key}[0]'" if isinstance(FILLED[key], list) else f"task-migration:{key}"
    assert f"pulumi config set {path} VALUE" in str(caught.value)


def other_place(region: str = "ap-northeast-1", account: str = "123456789012") -> str:
    return f"arn:aws:ecs:{region}:{account}:cluster/myteacher-cluster"


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        ({"canaryWeight": 101}, "canaryWeight: value 101"),
        ({"canaryWeight": -1}, "canaryWeight: value -1"),
        ({"replicationEngine": "kafka"}, "replicationEngine: value 'kafka'"),
        ({"canaryWieght": 5}, "canaryWieght: unknown key"),
        ({"region": "eu-central-1"}, "region: value 'eu-central-1'"),
        ({"listenerArn": "arn:of:something"}, "listenerArn: value 'arn:of:something'"),
        ({"serviceMinTasks": 11}, "below serviceMinTasks (11)"),
        ({"serviceImageTag": "latest"}, "latest says not what runs"),
        ({"serviceImageTag": None}, "serviceImageTag: no value"),
        ({"clusterArn": other_place(account="1" * 12)}, "clusterArn: value"),
        (
            {"clusterArn": other_place(account="1" * 12)},
            "its account is 111111111111, that of listenerArn 123456789012",
        ),
        (
            {
                "import": {
                    "service-db-password": f"arn:aws:secretsmanager:ap-northeast-1:{'1' * 12}:secret:task-service/db-password-a"
                }
            },
            "its account is 111111111111, that of listenerArn 123456789012",
        ),
        ({"clusterArn": other_place(region="eu-west-1")}, "its region is eu-west-1, that of the stack ap-northeast-1"),
        ({"cognitoUserPoolId": "eu-west-1_AbCdEf123"}, "the pool is not of the stack's region, ap-northeast-1"),
        ({"serviceCpu": 1024, "serviceMemoryMb": 1024}, "with serviceCpu 1024 Fargate has 2048 to 8192 MiB"),
        ({"serviceCpu": 256, "serviceMemoryMb": 3072}, "with serviceCpu 256 Fargate has 512, or 1024 to 2048 MiB"),
        ({"serviceCpu": 512, "serviceMemoryMb": 1536}, "in steps of 1024"),
    ],
)
def test_a_wrong_value_is_named(overrides: dict[str, Any], part: str) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        declare(**overrides)
    assert part in str(caught.value)


@pytest.mark.parametrize(("cpu", "memory"), [(256, 512), (256, 2048), (512, 4096), (1024, 2048), (4096, 30720)])
def test_a_pair_that_fargate_has_is_taken(cpu: int, memory: int) -> None:
    made = declare(serviceCpu=cpu, serviceMemoryMb=memory).one("aws:ecs/taskDefinition:TaskDefinition").inputs
    assert (made["cpu"], made["memory"]) == (str(cpu), str(memory))


def test_another_account_than_the_provider_may_use_is_named() -> None:
    """Fails when credentials' account and the ARNs' are only found to differ by a refused call in the middle of `up`."""
    with pytest.raises(
        pulumi.RunError, match=r"its account is 123456789012; limit: aws:allowedAccountIds, 111111111111"
    ):
        declare(aws={"allowedAccountIds": ["111111111111"]})
    declare(aws={"allowedAccountIds": ["123456789012"]})


@pytest.mark.parametrize(
    ("key", "named"), [("alarmEmails", "operations@example.com"), ("operatorSecurityGroupIds", "sg-0ccccccc")]
)
def test_what_is_allowed_and_seldom_meant_is_said_each_time(
    key: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a stack without anybody to tell, or whom the database lets in, is silent about it."""
    said: list[str] = []
    monkeypatch.setattr(pulumi, "warn", said.append)
    declare()
    first, said[:] = [text.split(":")[0] for text in said], []
    given: dict[str, Any] = {key: [named]}
    declare(**given)
    assert sorted([*(text.split(":")[0] for text in said), key]) == sorted(first)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("smoke", "5 characters; limit: 24 to 128"),
        ("*", "1 characters"),
        ("abcdefghijklmnopqrstuvwx*", "25 characters"),
        ("abcdefghijklmnopqrstuvw?x", "25 characters"),
        ("abcdefghijklmnopqrstuvw", "23 characters"),
        ("$(openssl rand -hex 24)", "23 characters"),
        ("x" * 129, "129 characters"),
        ("aAaAaAaAaAaAaAaAaAaAaAaAaA", "too few different characters"),
    ],
)
def test_a_smoke_value_that_could_be_guessed_is_refused_and_not_shown(value: str, part: str) -> None:
    """With `*` the load balancer leads everybody who sends the header to the Task Service, at weight 0 too."""
    with pytest.raises(pulumi.RunError) as caught:
        declare(smokeHeaderValue=value)
    assert part in str(caught.value)
    assert "pulumi config set --secret task-migration:smokeHeaderValue" in str(caught.value)
    assert len(value) < 20 or value not in str(caught.value).replace("$(openssl rand -hex 24)", "", 1)


def test_a_smoke_value_in_plain_text_is_refused_and_not_shown() -> None:
    """Who reads the repository would have it."""
    with pytest.raises(pulumi.RunError, match="plain text; limit: encrypted") as caught:
        declare(secret=frozenset())
    assert SMOKE_VALUE not in str(caught.value)


@pytest.mark.parametrize("value", ["f" * 10 + "0123456789abcdef", "AbCdEfGhIj-klmno_0123456"])
def test_a_smoke_value_of_the_documented_form_is_taken(value: str) -> None:
    declare(smokeHeaderValue=value)


def test_a_missing_smoke_value_is_named() -> None:
    with pytest.raises(pulumi.RunError) as caught:
        declare(smokeHeaderValue=None)
    assert "smokeHeaderValue" in str(caught.value)
    assert "pulumi config set --secret" in str(caught.value)


@pytest.mark.parametrize("environment", STACKS)
def test_the_stack_file_lists_every_key_to_fill_in_and_the_program_runs_with_them_filled(environment: str) -> None:
    """A key that the file does not list is found out about one failed `up` at a time."""
    values = read_stack_file(PROJECT_ROOT / f"Pulumi.{environment}.yaml")
    assert set(FILLED) <= set(values)
    assert set(values) <= set(known_keys(StackConfig))
    assert not [key for key in FILLED if values[key]]
    declared = declare(**{**values, **FILLED})
    bucket = declared.one("aws:s3/bucket:Bucket", "backups-bucket").inputs["bucket"]
    assert bucket == {"prod": "myteacher-backups", "staging": "myteacher-backups-staging"}[environment]


def test_what_can_be_taken_over_is_what_the_program_declares() -> None:
    """Fails when a bucket, a secret, a log group or a role cannot be imported, or is looked for under another name than it gets."""
    kinds = ("s3/bucket:", "secretsmanager/secret:", "cloudwatch/logGroup:", "iam/role:", "ecr/repository:")
    declared = declare(dmsCreateAccountRoles=True)
    found = [resource for resource in declared.custom() if any(kind in resource.type for kind in kinds)]
    buckets = {"backupBucket": "myteacher-backups", "stateBucket": "myteacher-migration-state"}
    words = {word: name for names in STANDING.values() for word, name in names.items()}
    assert {resource.name: resource.inputs.get("bucket") or resource.inputs["name"] for resource in found} == {
        word: name.format(prefix="task-service-staging", **buckets) for word, name in words.items()
    }


def test_an_id_to_take_over_is_imported_as_it_stands_and_a_misspelt_name_is_named() -> None:
    """Fails when an import changes what it takes, or an unknown name is silently none."""

    def importing(name: str, id_: str) -> Declared:
        keys: dict[str, Any] = {"import": {name: id_}}
        return declare(**keys)

    groups = importing("service-log", "/ecs/task-service").all("aws:cloudwatch/logGroup:LogGroup")
    taken = {group.name: (group.import_id, group.ignore_changes) for group in groups}
    assert taken.pop("service-log") == ("/ecs/task-service", ("*",))
    assert set(taken.values()) == {("", ())}
    with pytest.raises(pulumi.RunError, match=r"import.service-logs"):
        importing("service-logs", "/ecs/task-service")
    with pytest.raises(
        pulumi.RunError, match=r"import.service-log: value '/ecs/other'; limit: the id of '/ecs/task-ser"
    ):
        importing("service-log", "/ecs/other")
