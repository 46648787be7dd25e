"""The page of costs counts what the program declares, and its sums are sums."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.components.declared_helpers import Declared, declare

PAGE = (Path(__file__).parents[3] / "docs" / "cost.md").read_text(encoding="utf-8")
HOURS = 730
#: Target tracking keeps two alarms for each policy of autoscaling (Application Auto Scaling, 'How target tracking works').
OF_AUTOSCALING = 2


def cells(beginning: str) -> list[str]:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {beginning}")]
    return [cell.strip(" *") for cell in line.strip("|").split("|")]


def price(beginning: str) -> list[float]:
    return [float(figure) for figure in cells(beginning)[1].split(", ")]


def machine(inputs: Mapping[str, Any], hour: str, gigabyte: str) -> float:
    """A month of a server with its disk, once more where it stands by in a second zone."""
    single = HOURS * price(hour)[0] + inputs["allocatedStorage"] * price(gigabyte)[0]
    return float(single * (1 + inputs["multiAz"]))


def metrics(declared: Declared) -> int:
    alarms = declared.all("aws:cloudwatch/metricAlarm:MetricAlarm")
    listed = [[query for query in alarm.inputs.get("metricQueries", []) if "metric" in query] for alarm in alarms]
    policies = declared.all("aws:appautoscaling/policy:Policy")
    return sum(len(queries) or 1 for queries in listed) + OF_AUTOSCALING * len(policies)


@pytest.mark.parametrize(("environment", "column"), [("staging", 1), ("prod", 2)])
def test_the_months_are_made_of_what_is_declared(environment: str, column: int) -> None:
    declared = declare(environment, serviceEnabled=True)
    database = declared.one("aws:rds/instance:Instance").inputs
    dms = declared.one("aws:dms/replicationInstance:ReplicationInstance").inputs
    task = declared.one("aws:ecs/taskDefinition:TaskDefinition").inputs
    keys = len(declared.all("aws:kms/key:Key"))
    secrets = len(declared.all("aws:secretsmanager/secret:Secret")) + bool(database["manageMasterUserPassword"])
    watched = metrics(declared)
    cpu, memory = price("Fargate")
    wanted = {
        "database": machine(database, "RDS for PostgreSQL", "the same, gp3"),
        "DMS: ": machine(dms, "DMS, dms", "DMS, storage"),
        "Task Service": HOURS
        * declared.one("aws:ecs/service:Service").inputs["desiredCount"]
        * (int(task["cpu"]) * cpu + int(task["memory"]) * memory)
        / 1024,
        f"{keys} keys, {secrets} secrets, {watched} metrics": keys * price("KMS")[0]
        + secrets * price("Secrets Manager")[0]
        + watched * price("CloudWatch, a metric")[0],
    }
    for beginning, cost in wanted.items():
        assert int(cells(beginning)[column]) == round(cost), beginning


def test_the_sums_are_sums() -> None:
    rows = re.findall(r"^\| [^|]+ \| (\d+) \| (\d+) \|", PAGE, flags=re.MULTILINE)
    assert [sum(int(row[n]) for row in rows) for n in (0, 1)] == [int(cell) for cell in cells("**together")[1:3]]
