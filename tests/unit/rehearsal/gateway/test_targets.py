"""Health of targets by their checks, and the choice among them."""

from __future__ import annotations

import asyncio
from random import Random

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.rehearsal.gateway.targets import HEALTHY, Group, Target, Targets, pick

GROUP = Group("/health", 10.0, 5.0, 2, 3, "200", 0.0)


@pytest.mark.parametrize(
    ("checks", "states"),
    [
        ([200], "h"),
        ([500, 200], ".h"),
        ([500, 500, 500, 200, 200], "..uuh"),
        ([200, 500, 500, 200, 500, 500, 500], "hhhhhhu"),
        (["failed"] * 3 + [200, 500, 200, 200], "..uuuuh"),
    ],
)
def test_a_target_changes_state_after_so_many_checks_in_a_row(checks: list[int | str], states: str) -> None:
    """Prevents a target that is taken out, or put back, sooner or later than AWS would."""
    target = Target()
    seen = ""
    for answer in checks:
        target.judge(GROUP, answer, 0.0)
        seen += target.health[0][0] if target.health else "."
    assert seen == states


@pytest.mark.parametrize(
    ("answer", "reason", "description"),
    [
        (503, "Target.ResponseCodeMismatch", "Health checks failed with these codes: [503]"),
        ("timeout", "Target.Timeout", "Request timed out"),
        ("failed", "Target.FailedHealthChecks", "Health checks failed"),
    ],
)
def test_an_unhealthy_target_says_why(answer: int | str, reason: str, description: str) -> None:
    """Prevents a `canary start-service` that is rehearsed without the words that AWS has for it."""
    target = Target()
    for _ in range(3):
        target.judge(GROUP, answer, 0.0)
    assert target.health == ("unhealthy", reason, description)


@pytest.mark.parametrize(("matcher", "passing"), [("200", {200}), ("200,302", {200, 302}), ("200-204", {200, 204})])
def test_the_matcher_says_which_statuses_pass(matcher: str, passing: set[int]) -> None:
    """Prevents a service that is well by a status that its group does not take."""
    group = Group("/", 10.0, 5.0, 2, 2, matcher, 0.0)
    assert {status for status in (200, 204, 302, 404, 500) if group.passes(status)} == passing


@given(st.lists(st.sampled_from(["initial", "healthy", "unhealthy"])), st.integers())
def test_a_request_goes_to_a_healthy_target_while_there_is_one_and_to_any_when_there_is_none(
    states: list[str], seed: int
) -> None:
    """Prevents a load balancer that stops where an ALB fails open."""
    targets = {
        str(number): Target(HEALTHY if state == "healthy" else None if state == "initial" else (state, "r", "d"))
        for number, state in enumerate(states)
    }
    chosen = pick(GROUP, targets, 0.0, Random(seed).random)
    if not targets:
        assert chosen is None
    elif any(target.healthy for target in targets.values()):
        assert chosen is not None
        assert targets[chosen].healthy
    else:
        assert chosen in targets


def test_a_target_beside_warm_ones_starts_slowly_and_the_first_does_not() -> None:
    """Prevents a slow start that keeps a group's first target from its requests."""
    group = Group("/", 10.0, 5.0, 2, 2, "200", 30.0)
    first, second = Target(), Target()
    both = {"first": first, "second": second}
    first.judge(group, 200, 100.0, both.values())
    assert first.share(group, 100.0) == 1.0
    second.judge(group, 200, 200.0, both.values())
    assert [round(second.share(group, 200.0 + at), 2) for at in (3, 15, 30, 60)] == [0.1, 0.5, 1.0, 1.0]
    draws = Random(7)
    chosen = [pick(group, both, 203.0, draws.random) for _ in range(2000)]
    assert chosen.count("second") / 2000 == pytest.approx(0.1 / 1.1, abs=0.03)


def test_a_request_is_cut_when_its_target_is_gone_and_not_while_it_drains() -> None:
    """Prevents a drain that ends nothing, and one that cuts at once."""

    async def run() -> list[str]:
        async with httpx.AsyncClient() as client:
            targets, said = Targets({}, "", client), list[str]()

            def take(registered: set[str], draining: set[str]) -> None:
                taken = Group("/", 1, 1, 2, 2, "200", 0.0, frozenset(registered), frozenset(draining))
                targets.take({"arn": taken})

            async def request() -> None:
                try:
                    async with targets.serving("arn", "a"):
                        await asyncio.Event().wait()
                except TimeoutError:
                    said.append("cut")

            take({"a", "b"}, set())
            task = asyncio.create_task(request())
            await asyncio.wait([task], timeout=0.05)
            take({"b"}, {"a"})
            await asyncio.wait([task], timeout=0.05)
            assert not task.done()
            assert targets.choose("arn", lambda: 0.0) == "b"
            take({"b"}, set())
            take({"b"}, set())
            await asyncio.wait_for(task, 5)
            return said

    assert asyncio.run(run()) == ["cut"]
