"""What comes back otherwise than it was declared differs from itself at every preview, and each canary step is refused for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scripts.rehearsal.emulated import registry
from scripts.rehearsal.emulated.policies import same_policy, stored
from tests.unit.components.declared_helpers import declare

ENCRYPTION = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
PARAMETERS = "aws:rds/parameterGroup:ParameterGroup"
DEFINITION = "aws:ecs/taskDefinition:TaskDefinition"
TASK = "aws:dms/replicationTask:ReplicationTask"
ROLE = "aws:iam/role:Role"
TOPIC = "aws:sns/topicPolicy:TopicPolicy"
BUCKET = "aws:s3/bucketPolicy:BucketPolicy"


def stays(token: str, inputs: dict[str, Any], ignored: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The properties in which a resource differs from itself."""
    return registry.difference(token, inputs, inputs, ignored=ignored).changed


@pytest.mark.parametrize("engine", ["dms", "native"])
@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_nothing_declared_differs_from_what_comes_back(environment: str, engine: str) -> None:
    """Fails when one of the program's resources differs from itself for ever."""
    declared = declare(environment, replicationEngine=engine, dmsCreateAccountRoles=True, alarmEmails=["a@b.example"])
    found = {
        resource.name: stays(resource.type, dict(resource.inputs), resource.ignore_changes)
        for resource in declared.custom()
    }
    assert len(found) > 80
    assert {name: changed for name, changed in found.items() if changed} == {}


@pytest.mark.parametrize(
    ("token", "inputs", "mended"),
    [
        (ENCRYPTION, {"rules": [{}]}, {"rules": [{"blockedEncryptionTypes": ["SSE-C"]}]}),
        (
            PARAMETERS,
            {"parameters": [{"name": "rds.force_ssl", "value": "1", "applyMethod": "immediate"}]},
            {"parameters": [{"name": "rds.force_ssl", "value": "1", "applyMethod": "pending-reboot"}]},
        ),
        (
            PARAMETERS,
            {"parameters": [{"name": "Log_Statement", "value": "ddl", "applyMethod": "immediate"}]},
            {"parameters": [{"name": "log_statement", "value": "ddl", "applyMethod": "immediate"}]},
        ),
        (
            PARAMETERS,
            {"parameters": [{"name": "a", "value": value, "applyMethod": "immediate"} for value in "12"]},
            {"parameters": [{"name": "a", "value": "2", "applyMethod": "immediate"}]},
        ),
        (
            DEFINITION,
            {"containerDefinitions": '[{"name": "a", "portMappings": [{"containerPort": 1}]}]'},
            {"containerDefinitions": '[{"name": "a", "portMappings": [{"containerPort": 1, "protocol": "tcp"}]}]'},
        ),
    ],
)
def test_a_declaration_that_comes_back_otherwise_is_shown(
    token: str, inputs: dict[str, Any], mended: dict[str, Any]
) -> None:
    """Fails when the emulated provider answers whatever was declared, as AWS's does not."""
    assert stays(token, inputs) == tuple(inputs)
    assert stays(token, mended) == ()


def test_task_settings_differ_for_ever_unless_they_are_ignored() -> None:
    """Fails when the settings' additions by DMS are forgotten, or ignoring them does not help."""
    inputs = {"replicationTaskSettings": '{"Logging": {}}', "replicationTaskId": "t"}
    assert stays(TASK, inputs) == ("replicationTaskSettings",)
    assert stays(TASK, inputs, ("replicationTaskSettings",)) == ()


def policy(**parts: Any) -> str:
    whole = {"Sid": "A", "Effect": "Allow", "Action": ["sts:AssumeRole"], "Principal": {"AWS": "1" * 12}}
    return json.dumps({"Version": "2012-10-17", "Statement": [{**whole, **parts}]})


@pytest.mark.parametrize(
    ("token", "key", "text", "differs"),
    [
        (ROLE, "assumeRolePolicy", policy(), False),
        (ROLE, "assumeRolePolicy", policy(Condition={"Bool": {"aws:SecureTransport": "true"}}), False),
        (ROLE, "assumeRolePolicy", policy(Condition={"Bool": {"aws:SecureTransport": True}}), True),
        (ROLE, "assumeRolePolicy", policy(Condition={"NumericLessThan": {"aws:MultiFactorAuthAge": 60}}), True),
        (ROLE, "assumeRolePolicy", policy().replace('"Version": "2012-10-17", ', ""), True),
        (TOPIC, "policy", policy(Principal="*"), True),
        (TOPIC, "policy", policy(Principal={"AWS": "*"}), False),
        (BUCKET, "policy", policy(Principal="*"), False),
    ],
)
def test_policies_are_compared_as_the_provider_compares_them(token: str, key: str, text: str, differs: bool) -> None:
    """Fails when a policy that AWS writes in another way is taken for equal, or an equal one for another."""
    assert stays(token, {key: text}) == ((key,) if differs else ())


def test_the_order_in_a_policy_is_nothing_and_its_content_is_all() -> None:
    """Fails when a changed grant is no change, or a reordered list is one."""
    one = {"Sid": "A", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "*"}
    other = {"Sid": "B", "Effect": "Deny", "Action": "s3:*", "Resource": ["*"]}
    text = json.dumps({"Version": "2012-10-17", "Statement": [one, other]})
    turned = {**one, "Action": ["s3:PutObject", "s3:GetObject"], "Resource": ["*"]}
    assert same_policy(text, json.dumps({"Version": "2012-10-17", "Statement": [other, turned]}))
    assert same_policy(text, stored(text))
    for changed in ({**one, "Action": "s3:GetObject"}, {**one, "Effect": "Deny"}, {**one, "Sid": "C"}):
        assert not same_policy(text, json.dumps({"Version": "2012-10-17", "Statement": [other, changed]}))
    assert not same_policy("not yet known", text)


def test_a_static_parameter_that_shall_apply_at_once_is_refused() -> None:
    """Fails when the first `up` on a real account is where this is found."""
    inputs = {"name": "g", "family": "postgres16", "parameters": [{"name": "max_wal_senders", "value": "20"}]}
    assert [key for key, _ in registry.check(PARAMETERS, inputs)] == ["parameters"]
    inputs["parameters"] = [{"name": "max_wal_senders", "value": "20", "applyMethod": "pending-reboot"}]
    assert registry.check(PARAMETERS, inputs) == []
