"""What ECS and RDS publish: sampled from the rehearsal's processes and servers by a thread of the rehearsal."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
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
#: Seconds between two looks at a CPU, at least: minutes that the sampler slept through have the last sample.
SHORTEST = 0.1


class _Cpu:
    """CPU of a process and of those it started, percent of so many cores, since the last look."""

    def __init__(self, pid: int | None, cores: int) -> None:
        self.process, self._cores = psutil.Process(pid), cores
        self._last, self._percent = (time.monotonic(), self._seconds()), 0.0

    def _seconds(self) -> float:
        total = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # a session that ended meanwhile
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def percent(self) -> float:
        now = time.monotonic()
        if now - self._last[0] > SHORTEST:
            (then, before), self._last = self._last, (now, self._seconds())
            # A session that ended takes its time with it.
            self._percent = 100.0 * max(0.0, self._last[1] - before) / (now - then) / self._cores
        return self._percent


class Meters(Publisher):
    """Samples each of the account's minutes and publishes it.

    Args:
        outputs: the stack's, which name what is measured.
        task: the Task Service's process id, and the MB of its declared task.
    """

    def __init__(
        self, cloudwatch: Any, minute: int, outputs: Mapping[str, Any], task: tuple[int, int], databases: Databases
    ) -> None:
        self._databases = databases
        pid, self._memory_mb = task
        self._service = {
            "ClusterName": str(outputs["clusterArn"]).rpartition("/")[2],
            "ServiceName": str(outputs["serviceName"]),
        }
        self._instances = {side: {"DBInstanceIdentifier": str(outputs[f"{side}InstanceIdentifier"])} for side in BOTH}
        # The declared task has one vCPU or less; the plan's db.t3.medium has two.
        self._task_cpu = _Cpu(pid, 1)
        self._database_cpu = {side: _Cpu(databases.server(side).pid, 2) for side in BOTH}
        super().__init__(cloudwatch, minute, self._sample)

    def _sample(self, minute: Minute, _: float) -> None:
        with suppress(psutil.Error):
            self._tasks(minute)
        for side in BOTH:
            with suppress(psutil.Error, psycopg.Error, OSError):
                self._database(side, minute)

    def _tasks(self, minute: Minute) -> None:
        memory = self._task_cpu.process.memory_info().rss / (self._memory_mb * 2**20)
        if memory:  # else it is dead and not buried
            minute.add(ECS, "MemoryUtilization", self._service, 100.0 * memory)
            minute.add(ECS, "CPUUtilization", self._service, self._task_cpu.percent())

    def _database(self, side: Side, minute: Minute) -> None:
        server, where = self._databases.server(side), self._instances[side]
        minute.add(RDS, "CPUUtilization", where, self._database_cpu[side].percent())
        minute.add(RDS, "FreeStorageSpace", where, float(shutil.disk_usage(server.data).free))
        with psycopg.connect(server.url(), connect_timeout=3, application_name="rdsadmin") as connection:
            sessions, held = connection.execute(SQL["held"].encode()).fetchone() or (0, None)
        minute.add(RDS, "DatabaseConnections", where, float(sessions))
        if held is not None:  # published where there is a slot
            minute.add(RDS, "OldestReplicationSlotLag", where, float(held))
