"""Log groups: all of them are declared, before what writes them, with a time and a key that CloudWatch Logs may use."""

from __future__ import annotations

import pytest

from tests.unit.components.declared_helpers import ACCOUNT, REGION, Declared, declare

GROUP = "aws:cloudwatch/logGroup:LogGroup"
#: What writes lines, and the group that AWS writes them to.
WRITERS = {
    "/ecs/task-service": ("aws:ecs/taskDefinition:TaskDefinition", None),
    "/aws/apigateway/myteacher-tasks": ("aws:apigatewayv2/stage:Stage", None),
    "/aws/rds/instance/{prefix}/postgresql": ("aws:rds/instance:Instance", None),
    "/aws/rds/instance/{prefix}/upgrade": ("aws:rds/instance:Instance", None),
    "dms-tasks-myteacher-task-replication": ("aws:dms/replicationInstance:ReplicationInstance", "dms"),
}


@pytest.mark.parametrize(("environment", "days"), [("staging", 30), ("prod", 90)])
@pytest.mark.parametrize("engine", ["dms", "native", "none"])
def test_each_writer_has_its_group_with_time_and_key(environment: str, days: int, engine: str) -> None:
    """A group that AWS makes with the first line keeps rows of `log_min_duration_statement` for ever, under no key."""
    declared = declare(environment, replicationEngine=engine)
    groups = {item.inputs["name"]: item for item in declared.all(GROUP)}
    wanted = {name.format(prefix=f"task-service-{environment}"): writer for name, writer in WRITERS.items()}
    assert set(groups) == set(wanted)
    for name, group in groups.items():
        assert group.inputs["retentionInDays"] == days, name
        type_, only = wanted[name]
        if only in (None, engine):
            writer = declared.one(type_)
            assert any(urn.endswith(f"::{group.name}") for urn in writer.dependencies), name
        assert _may_use(declared, group.inputs["kmsKeyId"]) >= {name}


def _may_use(declared: Declared, key_arn: str) -> set[str]:
    """The groups that the key's policy names as the encryption context of CloudWatch Logs."""
    key = declared.one("aws:kms/key:Key", key_arn.rsplit(":", 1)[-1])
    (use,) = [item for item in key.json("policy")["Statement"] if item["Sid"] == "Logs"]
    assert use["Principal"] == {"Service": f"logs.{REGION}.amazonaws.com"}
    arns = use["Condition"]["ArnEquals"]["kms:EncryptionContext:aws:logs:arn"]
    return {arn.removeprefix(f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:") for arn in arns}


def test_the_keys_of_logs_serve_no_other_group() -> None:
    declared = declare(replicationEngine="native")
    assert _may_use(declared, "logs-key") | _may_use(declared, "service-key") == {
        item.inputs["name"] for item in declared.all(GROUP)
    }
