"""Who answers what when no target does: the load balancer's own statuses, and what the API makes of them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from scripts.rehearsal.gateway.routes import BALANCER, Route
from scripts.rehearsal.gateway.server import Gateway
from scripts.rehearsal.gateway.targets import Group, Targets
from scripts.rehearsal.gateway.upstream import Broken, TooSlow, Unreachable
from scripts.rehearsal.gateway.watch import Integration, View
from scripts.support.listener_rules import Rule

RULE = Rule("live", 110, (), {"task": 100}, sticky=600)


class Failing:
    """An upstream that fails in this way; :attr:`waited` is how long it was given."""

    def __init__(self, error: Exception) -> None:
        self.error, self.waited = error, 0.0

    async def send(self, *given: Any) -> Any:
        self.waited = given[-1]
        raise self.error


class Watched:
    """A listener with one rule, behind an API that waits 29 s; nothing of it is read from anywhere."""

    def __init__(self, idle: float) -> None:
        self.problem = None
        self.view = View(
            routes=(Route("GET /api/tasks", None, "way"),),
            integrations={"way": Integration("listener", tls=False, host=None, seconds=29.0)},
            secure={"listener": False},
            idle={"listener": idle},
            rules={"listener": (RULE,)},
            read_at=1.0,
        )


def _asked(path: str) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [(b"host", b"x")]}
    return Request(scope, receive)


async def _answer(error: Exception, path: str, idle: float, registered: int) -> tuple[Gateway, int, float]:
    async with httpx.AsyncClient() as client:
        upstream, targets = Failing(error), Targets({"task": "http://127.0.0.1:1"}, "", client)
        names = frozenset(str(number) for number in range(registered))
        targets.take({"task": Group("/health", 10, 5, 2, 2, "200", 0.0, registered=names)})
        watcher: Any = Watched(idle)
        gateway = Gateway("", targets, watcher, client, upstream)  # type: ignore[arg-type]
        answer = await gateway.handle(_asked(path))
        assert "set-cookie" not in answer.headers
        return gateway, answer.status_code, upstream.waited


@pytest.mark.parametrize(
    ("error", "idle", "registered", "expected"),
    [
        (TooSlow(), 60.0, 0, (503, "balancer", 503)),
        (Unreachable("refused", timed_out=False), 60.0, 2, (502, "unreachable", 502)),
        (Unreachable("silent", timed_out=True), 60.0, 2, (504, "unreachable", 504)),
        (Broken("reset"), 60.0, 2, (502, "broken", 502)),
        (TimeoutError("the drain is over"), 60.0, 2, (502, "broken", 502)),
        (TooSlow(), 60.0, 2, (503, "broken", 460)),
        (TooSlow(), 20.0, 2, (504, "broken", 504)),
    ],
)
def test_each_failure_has_the_status_that_an_alb_gives_and_the_one_that_the_api_makes_of_it(
    error: Exception, idle: float, registered: int, expected: tuple[int, str, int]
) -> None:
    """Prevents a gate that is rehearsed with other codes than AWS counts: 460 is among the load balancer's 4xx, and a 503 to users."""
    gateway, status, waited = asyncio.run(_answer(error, "/api/tasks", idle, registered))
    (sample,) = gateway.stats._samples
    assert (status, sample.outcome, sample.balancer) == expected
    assert (sample.group, sample.rule, sample.status) == ("task", "live", status)
    assert waited == (min(29.0, idle) if registered else 0.0)


def test_past_the_api_only_the_load_balancers_own_limit_holds() -> None:
    """Prevents a check at the load balancer that is cut off by a limit of API Gateway's."""
    gateway, status, waited = asyncio.run(_answer(TooSlow(), f"{BALANCER}/api/tasks", 60.0, 1))
    assert (status, waited, gateway.stats._samples[0].balancer) == (504, 60.0, 504)
