"""What canary commands act on while a rehearsal runs: its engine, the emulated AWS, the gateway's figures."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil
import psycopg

from scripts.canary.figures import Observed, Period, Traffic, complete
from scripts.canary.notices import Notices
from scripts.canary.service_control import ServiceControl
from scripts.canary.stage import Stage
from scripts.canary.traffic import LoadBalancer, rule_of_outputs
from scripts.database import queries
from scripts.database.connections import connect, domain_errors
from scripts.rehearsal.engine.pulumi_cli import make_deployer
from scripts.support.errors import MigrationError, UsageError
from scripts.support.settings import STAGE_VARIABLE, Settings

SQL = queries.load("scripts.rehearsal")
#: Names the file that describes a running rehearsal; `rehearse` sets it for the commands that it runs.
REHEARSAL_VARIABLE = "TASK_MIGRATION_REHEARSAL"
#: What `rehearse` sets STAGE_VARIABLE to.
STAGE = "scripts.rehearsal.stage:stage"


def gateway_figures(gateway: str, since: float, period: float = 0.0) -> dict[str, Any]:
    """What the gateway at this URL measured from ``since`` (epoch seconds), with ``period`` (seconds) by period too.

    Raises:
        MigrationError: it does not answer.
    """
    try:
        parameters = {"since": since, "period": period}
        answer = httpx.get(f"{gateway}/__gateway/stats", params=parameters, timeout=5.0, trust_env=False)
        return dict(answer.raise_for_status().json())
    except (httpx.HTTPError, ValueError) as error:
        raise MigrationError(f"the gateway does not answer: {error}; see gateway.log") from None


class _Cpu:
    """CPU of a process and of those it started, percent of so many cores, between two looks."""

    def __init__(self, pid: int, cores: int) -> None:
        self._process, self._cores = psutil.Process(pid), cores
        self._last = (time.monotonic(), self._seconds())

    def _seconds(self) -> float:
        total = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                times = process.cpu_times()
                total += times.user + times.system
            except psutil.NoSuchProcess:
                continue  # a session that ended meanwhile
        return total

    def percent(self) -> float | None:
        """None while too little time has passed since the last look."""
        now, used = time.monotonic(), self._seconds()
        elapsed, spent = now - self._last[0], used - self._last[1]
        if elapsed < 0.1:
            return None
        self._last = (now, used)
        # A session that ended takes its time with it.
        return 100.0 * max(0.0, spent) / elapsed / self._cores


class RehearsalMetrics:
    """Figures of real requests by the gateway, of the Task Service's process, of the target's server and of the slots.

    What is sampled at a look stands for every period that was completed since the look before, as a metric's average would.

    Args:
        running: describes the rehearsal: the gateway's URL, process ids, the target's data directory.
        groups: target group of the Task Service and of the monolith, by ARN.
    """

    def __init__(self, settings: Settings, running: Mapping[str, Any], groups: tuple[str, str]) -> None:
        self._settings, self._running, self._groups = settings, running, groups
        self.period, self.delay = settings.config.period_seconds, settings.config.metric_delay_seconds
        self._gateway = str(running["gateway"])
        pid = int(running["task_service_pid"])
        try:
            self._process = psutil.Process(pid)
            # The declared task has one vCPU or less; the plan's db.t3.medium has two.
            self._cpu, self._database_cpu = _Cpu(pid, 1), _Cpu(int(running["target_pid"]), 2)
        except psutil.Error as error:
            raise MigrationError(f"a process of the rehearsal is gone: {error}; see its log") from None
        self._sampled: dict[float, dict[str, Any]] = {}

    def _sample(self) -> dict[str, Any]:
        """What stands for the periods since the last look; a figure that cannot be had is None."""
        found: dict[str, Any] = {}
        try:
            memory = 100.0 * self._process.memory_info().rss / (int(self._running["memory_mb"]) * 2**20)
            found |= {"cpu_percent": self._cpu.percent(), "memory_percent": memory, "healthy_hosts": 1.0}
        except psutil.Error:
            found["healthy_hosts"] = 0.0
        try:
            found["database_cpu_percent"] = self._database_cpu.percent()
            found["database_free_bytes"] = float(shutil.disk_usage(str(self._running["target_directory"])).free)
        except (psutil.Error, OSError):
            found["database_cpu_percent"] = None
        try:
            held, sessions = [], 0.0
            for url in (self._settings.source(), self._settings.target()):
                with domain_errors("figures"), connect(url, step="figures") as connection:
                    row = connection.execute(SQL["held"].encode()).fetchone()
                assert row is not None  # a SELECT of one expression gives one row
                sessions = float(row[0])  # the target's, which comes last
                held.append(float(row[1] or 0))
            found |= {"database_connections": sessions, "slot_bytes": max(held)}
        except (MigrationError, psycopg.Error):
            found["database_connections"] = None
        return found

    def observe(self, since: float) -> Observed:
        """As :meth:`scripts.canary.traffic.Metrics.observe`."""
        begins = complete(since, time.time(), self.period, self.delay)
        fresh = [at for at in begins if at not in self._sampled]
        if fresh:
            sample = self._sample()
            self._sampled |= dict.fromkeys(fresh, sample)
        answer = gateway_figures(self._gateway, since, self.period)
        traffic = {round(float(one["at"]) / self.period): one for one in answer["periods"]}
        return Observed(
            self.period,
            tuple(self._period(at, traffic.get(round(at / self.period), {})) for at in begins),
        )

    def _period(self, at: float, seen: Mapping[str, Any]) -> Period:
        groups = seen.get("target_groups", {})
        task, monolith = (_traffic(groups.get(group)) for group in self._groups)
        users = _traffic(seen.get("total"))
        own = None if users is None else users.errors - sum(group["5xx"] for group in groups.values())
        return Period(at, task, monolith, **self._sampled[at], users=users, balancer_errors=own)

    def idle_seconds(self) -> float | None:
        """0 while a request is under way on the Task Service."""
        group = gateway_figures(self._gateway, time.time() - 1)["target_groups"].get(self._groups[0], {})
        if group.get("in_flight"):
            return 0.0
        last = group.get("last_request_at")
        return time.time() - float(last) if last is not None else float("inf")


def _traffic(figures: Mapping[str, Any] | None) -> Traffic | None:
    if figures is None:
        return None
    return Traffic(
        int(figures["requests"]), int(figures["5xx"]), int(figures["4xx"]), figures["p50_ms"], figures["p95_ms"]
    )


def running_rehearsal() -> dict[str, Any]:
    """What describes the running rehearsal: the file that :data:`REHEARSAL_VARIABLE` names.

    Raises:
        UsageError: the variable is not set or names a file that cannot be read.
    """
    path = os.environ.get(REHEARSAL_VARIABLE, "")
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{REHEARSAL_VARIABLE} names {path!r}, which cannot be read ({error}); unset {STAGE_VARIABLE} outside of a rehearsal"
        ) from None


def stage(settings: Settings) -> Stage:
    """The stage of the running rehearsal; what :data:`STAGE` names.

    Raises:
        UsageError: no rehearsal is described.
    """
    return rehearsal_stage(settings, running_rehearsal())


def rehearsal_stage(settings: Settings, running: Mapping[str, Any]) -> Stage:
    """The stage of the rehearsal that ``running`` describes."""
    deployer = make_deployer(running["engine"], Path(str(running["engine_dir"])), running["config"], {})
    outputs = deployer.outputs()
    rule = rule_of_outputs(outputs)
    balancer = boto3.client("elbv2")
    return Stage(
        settings=settings,
        deployer=deployer,
        load_balancer=LoadBalancer(balancer, rule),
        metrics=RehearsalMetrics(settings, running, (rule.task_group, rule.monolith_group)),
        service=ServiceControl(boto3.client("ecs"), boto3.client("application-autoscaling"), balancer, outputs),
        notices=Notices(boto3.client("sns"), outputs.get("alarmTopicArn")),
    )
