"""What ECS and RDS publish: sampled from the rehearsal's processes and servers by a thread of the rehearsal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import psutil
import psycopg

from scripts.database import queries
from scripts.rehearsal.databases import Databases
from scripts.rehearsal.emulated.publish import Minute, Publisher
from scripts.support.sides import BOTH, Side

SQL = queries.load("scripts.rehearsal")
ECS, RDS = "AWS/ECS", "AWS/RDS"


class Meters(Publisher):
    """Samples each of the account's minutes and publishes it.

    Args:
        outputs: the stack's, which name what is measured.
        task: the Task Service's process id, and the MB of its declared task.
        cpu: of a named process and those below it, percent of a core.
    """

    def __init__(
        self,
        cloudwatch: Any,
        minute: int,
        outputs: Mapping[str, Any],
        task: tuple[int, int],
        databases: Databases,
        cpu: Callable[[str], float],
    ) -> None:
        self._databases, self._cpu = databases, cpu
        self._task, self._memory_mb = psutil.Process(task[0]), task[1]
        self._service = {
            "ClusterName": str(outputs["clusterArn"]).rpartition("/")[2],
            "ServiceName": str(outputs["serviceName"]),
        }
        self._instances = {side: {"DBInstanceIdentifier": str(outputs[f"{side}InstanceIdentifier"])} for side in BOTH}
        super().__init__(cloudwatch, minute, self._sample)

    def _sample(self, minute: Minute, _: float) -> None:
        with suppress(psutil.Error):
            self._tasks(minute)
        for side in BOTH:
            with suppress(psutil.Error, psycopg.Error, OSError):
                self._database(side, minute)

    def _tasks(self, minute: Minute) -> None:
        memory = self._task.memory_info().rss / (self._memory_mb * 2**20)
        if memory:  # else it is dead and not buried
            minute.add(ECS, "MemoryUtilization", self._service, 100.0 * memory)
            # The declared task has one vCPU or less; the plan's db.t3.medium has two.
            minute.add(ECS, "CPUUtilization", self._service, self._cpu("task-service"))

    def _database(self, side: Side, minute: Minute) -> None:
        server, where = self._databases.server(side), self._instances[side]
        minute.add(RDS, "CPUUtilization", where, self._cpu(f"postgres {side}") / 2)
        minute.add(RDS, "FreeStorageSpace", where, float(shutil.disk_usage(server.data).free))
        with psycopg.connect(server.url(), connect_timeout=3, application_name="rdsadmin") as connection:
            sessions, held = connection.execute(SQL["held"].encode()).fetchone() or (0, None)
        minute.add(RDS, "DatabaseConnections", where, float(sessions))
        if held is not None:  # published where there is a slot
            minute.add(RDS, "OldestReplicationSlotLag", where, float(held))
