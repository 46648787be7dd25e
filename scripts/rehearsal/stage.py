"""What canary commands act on while a rehearsal runs: its engine, the emulated load balancer, the gateway's figures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil

from scripts.canary import Stage
from scripts.gates import Observed, Traffic
from scripts.rehearsal.engine_pulumi import make_deployer
from scripts.support.errors import MigrationError
from scripts.support.settings import Settings
from scripts.traffic import LoadBalancer


def gateway_figures(gateway: str, since: float) -> dict[str, Any]:
    """What the gateway at this URL measured from ``since`` (epoch seconds). Raises MigrationError when it does not answer."""
    try:
        answer = httpx.get(f"{gateway}/__gateway/stats", params={"since": since}, timeout=5.0, trust_env=False)
        return dict(answer.raise_for_status().json())
    except (httpx.HTTPError, ValueError) as error:
        raise MigrationError(f"the gateway does not answer: {error}; see gateway.log") from None


class GatewayMetrics:
    """Figures that the local gateway measured on real requests, and CPU and memory of the Task Service's process.

    Args:
        memory_mb: what the declared Fargate task may take, MiB; CPU counts against one vCPU.
    """

    def __init__(self, gateway: str, task_group: str, pid: int, memory_mb: int) -> None:
        self._gateway, self._group, self._memory_mb = gateway, task_group, memory_mb
        try:
            self._process = psutil.Process(pid)
            self._baseline = (time.monotonic(), self._cpu_seconds())
        except psutil.Error as error:
            raise MigrationError(f"the Task Service's process {pid} is gone: {error}; see its log") from None

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def observe(self, since: float) -> Observed:
        """The watch's figures."""
        group = gateway_figures(self._gateway, since)["target_groups"].get(self._group, {})
        traffic = (
            Traffic(int(group["requests"]), int(group["5xx"]), group["p50_ms"], group["p95_ms"]) if group else None
        )
        try:
            elapsed = time.monotonic() - self._baseline[0]
            cpu = 100.0 * (self._cpu_seconds() - self._baseline[1]) / elapsed if elapsed > 0 else None
            memory = 100.0 * self._process.memory_info().rss / (self._memory_mb * 2**20)
        except psutil.Error:
            cpu = memory = None
        return Observed(time.time() - since, traffic, cpu, memory)

    def idle_seconds(self) -> float | None:
        """0 while a request is under way on the Task Service."""
        group = gateway_figures(self._gateway, time.time() - 1)["target_groups"].get(self._group, {})
        if group.get("in_flight"):
            return 0.0
        last = group.get("last_request_at")
        return time.time() - float(last) if last is not None else float("inf")


def rehearsal_stage(settings: Settings, running: Mapping[str, Any]) -> Stage:
    """The stage of the rehearsal that ``running`` describes."""
    deployer = make_deployer(running["engine"], Path(str(running["engine_dir"])), running["config"], {})
    outputs = deployer.outputs()
    return Stage(
        settings=settings,
        deployer=deployer,
        load_balancer=LoadBalancer(boto3.client("elbv2"), outputs),
        metrics=GatewayMetrics(
            str(running["gateway"]),
            str(outputs["taskTargetGroupArn"]),
            int(running["task_service_pid"]),
            int(running["memory_mb"]),
        ),
    )
