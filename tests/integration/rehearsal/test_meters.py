"""What ECS and RDS publish in a rehearsal: of the processes and servers that there are, and whose they are."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.machine import Machine
from scripts.rehearsal.meters import Meters
from scripts.support.wait import wait_until


def test_each_minute_has_the_cpu_of_the_service_and_of_both_databases(source_server: EmbeddedPostgres) -> None:
    """Prevents a gate that holds for ever as nobody publishes a CPU, or that reads one side's as the other's."""
    put: list[dict[str, Any]] = []
    named: dict[str, int | None] = {"task-service": os.getpid(), "postgres source": source_server.pid}
    machine = Machine(lambda: named)
    machine.start()
    outputs = {
        "clusterArn": "arn:aws:ecs:x:1:cluster/c", "serviceName": "s", "sourceInstanceIdentifier": "source",
        "targetInstanceIdentifier": "target",
    }  # fmt: skip
    cloudwatch = SimpleNamespace(put_metric_data=lambda **given: put.append(given))
    bases: Any = SimpleNamespace(server=lambda side: source_server)
    meters = Meters(cloudwatch, 1, outputs, (os.getpid(), 512), bases, machine.percent)
    try:
        sum(number * number for number in range(3_000_000))  # for the service's CPU

        def found() -> dict[str, float]:
            return {
                next(iter(one["Dimensions"]))["Value"]: max(one["Values"])
                for given in put
                for one in given["MetricData"]
                if one["MetricName"] == "CPUUtilization" and max(one["Values"]) > 0
            }

        wait_until(found, lambda seen: "c" in seen, what="the service's CPU", timeout=60.0)
        names = {one["MetricName"] for given in put for one in given["MetricData"]}
    finally:
        meters.stop()
        machine.stop()
    assert {"CPUUtilization", "MemoryUtilization", "FreeStorageSpace", "DatabaseConnections"} <= names
    # Nobody told of the target's process.
    assert "target" not in found()
