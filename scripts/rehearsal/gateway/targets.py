"""The load balancer's targets: the health checks that it carries out, and which target gets a request.

Which targets are registered, and how they are checked, is read of the emulated account; what the checks find is told to it, so
that DescribeTargetHealth says the same. Sources: Elastic Load Balancing, 'Health checks for Application Load Balancer target
groups', 'Edit target group attributes' (deregistration delay, slow start).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from scripts.rehearsal.emulated.reach import HEALTH_PATH
from scripts.rehearsal.gateway.upstream import Broken, TooSlow, Unreachable, Upstream
from scripts.support.listener_rules import choose

#: How often is looked whose check is due.
LOOK_SECONDS = 0.1
HEALTHY = ("healthy", None, None)


@dataclass(frozen=True)
class Group:
    """A target group: how its targets are checked, which are registered, and those that drain beside them."""

    path: str
    interval: float
    timeout: float
    healthy_threshold: int
    unhealthy_threshold: int
    matcher: str
    slow_start: float
    registered: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()

    @classmethod
    def described(cls, group: Mapping[str, Any], attributes: Iterable[Mapping[str, str]]) -> Self:
        """A group as DescribeTargetGroups and DescribeTargetGroupAttributes have it."""
        slow = {item["Key"]: item["Value"] for item in attributes}.get("slow_start.duration_seconds", "0")
        return cls(
            path=str(group.get("HealthCheckPath") or "/"),
            interval=float(group["HealthCheckIntervalSeconds"]),
            timeout=float(group["HealthCheckTimeoutSeconds"]),
            healthy_threshold=int(group["HealthyThresholdCount"]),
            unhealthy_threshold=int(group["UnhealthyThresholdCount"]),
            matcher=str((group.get("Matcher") or {}).get("HttpCode") or "200"),
            slow_start=float(slow),
        )

    @property
    def serving(self) -> frozenset[str]:
        """The targets that may still end what they began."""
        return self.registered | self.draining

    def passes(self, status: int) -> bool:
        """Whether the matcher (``200``, ``200,204``, ``200-299``) takes this status."""
        spans = [part.partition("-") for part in self.matcher.split(",")]
        return any(int(first) <= status <= int(last or first) for first, _, last in spans)


@dataclass
class Target:
    """One registered target; times are of the monotonic clock."""

    #: State, reason and description as DescribeTargetHealth has them; None before the first check that counts.
    health: tuple[str, str | None, str | None] | None = None
    due: float = 0.0
    #: Checks in a row that passed; below 0: that failed.
    streak: int = 0
    #: When its slow start began; None outside of one.
    slow_since: float | None = None

    @property
    def healthy(self) -> bool:
        """Whether it gets requests while any target does."""
        return self.health == HEALTHY

    def judge(self, group: Group, answer: int | str, now: float, others: Iterable[Target] = ()) -> None:
        """Take in one check: the status of its answer, or ``timeout`` or ``failed`` without one.

        A new target is healthy after its first check; one that was unhealthy after ``healthy_threshold`` in a row. It starts
        slowly only beside a healthy one that does not (the page's considerations).
        """
        passed = isinstance(answer, int) and group.passes(answer)
        self.streak = max(self.streak, 0) + 1 if passed else min(self.streak, 0) - 1
        if passed and not self.healthy and (self.health is None or self.streak >= group.healthy_threshold):
            warm = any(one.healthy and one.share(group, now) == 1.0 for one in others if one is not self)
            self.health, self.slow_since = HEALTHY, now if warm else None
        elif -self.streak >= group.unhealthy_threshold:
            reasons = {
                "timeout": ("Target.Timeout", "Request timed out"),
                "failed": ("Target.FailedHealthChecks", "Health checks failed"),
            }
            mismatch = ("Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{answer}]")
            self.health = ("unhealthy", *reasons.get(str(answer), mismatch))

    def share(self, group: Group, now: float) -> float:
        """The part of a full share, 0 to 1, that it gets."""
        if self.slow_since is None or group.slow_start <= 0:
            return 1.0
        return min(1.0, max(0.01, (now - self.slow_since) / group.slow_start))


def pick(group: Group, targets: Mapping[str, Target], now: float, draw: Callable[[], float]) -> str | None:
    """The target that gets a request: a healthy one; any, when none is healthy (it 'fails open'); None when none is registered."""
    healthy = {key: target.share(group, now) for key, target in targets.items() if target.healthy}
    return choose(healthy, draw) or choose(dict.fromkeys(targets, 1.0), draw)


@dataclass
class Targets:
    """All groups that the listener's rules name.

    Args:
        addresses: where each group's application listens, by ARN: all targets of a group are one process here.
        endpoint: of the emulated account, for what the checks find.
    """

    addresses: Mapping[str, str]
    endpoint: str
    client: httpx.AsyncClient
    groups: Mapping[str, Group] = field(default_factory=dict)
    known: dict[str, dict[str, Target]] = field(default_factory=dict)
    # A connection of its own for each check, as the load balancer has it.
    _checks: Upstream = field(default_factory=Upstream)
    _told: dict[str, Any] = field(default_factory=dict)
    _under_way: dict[tuple[str, str], set[asyncio.Timeout]] = field(default_factory=dict)

    def choose(self, arn: str, draw: Callable[[], float]) -> str | None:
        """The target of the group that gets a request; None when none is registered."""
        group = self.groups.get(arn)
        return pick(group, self.known.get(arn, {}), time.monotonic(), draw) if group else None

    @contextlib.asynccontextmanager
    async def serving(self, arn: str, target: str) -> AsyncIterator[None]:
        """Around a request that the target has; raises TimeoutError when it is taken out and its drain is over."""
        async with asyncio.timeout(None) as limit:
            under_way = self._under_way.setdefault((arn, target), set())
            under_way.add(limit)
            try:
                yield
            finally:
                under_way.discard(limit)

    async def run(self, read: Callable[[], Mapping[str, Group]]) -> None:
        """Check for ever what ``read`` gives."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self.take(read())
                for arn, group in self.groups.items():
                    for target in self.known[arn].values():
                        if time.monotonic() >= target.due:
                            target.due = time.monotonic() + group.interval
                            tasks.create_task(self._check(arn, group, target))
                await self._tell()
                await asyncio.sleep(LOOK_SECONDS)

    def take(self, groups: Mapping[str, Group]) -> None:
        """What is registered now; requests on what is gone are cut."""
        before, self.groups = self.known, groups
        self.known = {
            arn: {key: before.get(arn, {}).get(key) or Target() for key in sorted(group.registered)}
            for arn, group in groups.items()
        }
        gone = [at for at in self._under_way if at[0] in groups and at[1] not in groups[at[0]].serving]
        for at in gone:
            for limit in self._under_way.pop(at):
                limit.reschedule(0.0)

    async def _check(self, arn: str, group: Group, target: Target) -> None:
        answer: int | str = "failed"
        headers = [(b"user-agent", b"ELB-HealthChecker/2.0"), (b"connection", b"close")]
        with contextlib.suppress(Unreachable, Broken, KeyError):
            try:
                path = group.path.encode()
                answer, _, _ = await self._checks.send(self.addresses[arn], "GET", path, headers, b"", group.timeout)
            except TooSlow:
                answer = "timeout"
        target.judge(group, answer, time.monotonic(), self.known.get(arn, {}).values())

    async def _tell(self) -> None:
        found = {
            arn: {key: target.health for key, target in targets.items() if target.health}
            for arn, targets in self.known.items()
        }
        if found != self._told:
            with contextlib.suppress(httpx.HTTPError):  # told with the next look
                (await self.client.post(self.endpoint + HEALTH_PATH, json=found)).raise_for_status()
                self._told = found


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let this run for as long as what is inside."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
