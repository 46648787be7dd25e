"""What `shadow` asks, in which order, how often, and when it says nothing rather than that all is well: the HTTP of both sides is played,
the databases, the fence and what is kept of the verdict are real."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from psycopg import sql

from scripts.canary.ready import ServiceHealth
from scripts.canary.stage import Stage
from scripts.database import helper_schema
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import fence
from scripts.shadow import looks
from scripts.shadow import run as shadow
from scripts.shadow.documents import Shadow
from scripts.support.errors import Refused, TimedOut, UsageError
from tests.conftest import Pair, pairs
from tests.integration.test_chain import running
from tests.journal import last

SMOKE = {"x-smoke": "the-smoke-rules-secret"}
USERS = {"token-of-one": 1, "token-of-two": 2}
SECRETS = (*USERS, *SMOKE.values(), "宿題")
Change = Callable[[str, dict[str, Any]], dict[str, Any]]


def task(number: int) -> dict[str, Any]:
    at = "2026-11-26T00:00:00Z"
    return {
        "id": number,
        "title": f"宿題 {number}",
        "is_completed": number % 4 == 0,
        "created_at": at,
        "tags": [number],
    }


@dataclass
class Sides:
    """Both sides behind the load balancer; ``change`` gives the Task Service's answers, ``asked`` is what came, fences among it."""

    change: Change = lambda path, body: body
    #: Of the monolith's answers, by the number of requests before.
    by_itself: Callable[[int, dict[str, Any]], dict[str, Any]] = lambda number, body: body
    status: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=lambda: {"monolith": "monolith", "service": "task-service"})
    asked: list[tuple[str, str]] = field(default_factory=list)
    #: How long each fence took, seconds.
    fences: list[float] = field(default_factory=list)
    tasks: int = 12
    #: Requests that the monolith answers before it throttles.
    limit: int | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        side = "service" if request.headers.get("x-smoke") == SMOKE["x-smoke"] else "monolith"
        assert request.method == "GET"
        path = request.url.raw_path.decode()
        number = len(self.asked)
        self.asked.append((side, path))
        user = USERS[request.headers["authorization"].removeprefix("Bearer ")]
        status, body = self.answer(request.url.path, dict(request.url.params), user)
        status = self.status.get(side, status)
        if side == "monolith" and self.limit is not None and number >= self.limit:
            status = 429
        if status == 200:
            body = self.change(path, body) if side == "service" else self.by_itself(number, body)
        headers = {"x-served-by": self.names[side]} if side in self.names else {}
        return httpx.Response(status, content=json.dumps(body).encode(), headers=headers)

    def answer(self, path: str, query: dict[str, str], user: int) -> tuple[int, dict[str, Any]]:
        mine = [task(100 * user + 2 * number) for number in range(self.tasks, 0, -1)]
        if path != "/api/tasks":
            one = [each for each in mine if each["id"] == int(path.rsplit("/", 1)[1])]
            return (200, {"task": one[0]}) if one else (404, {"message": "?"})
        done, before = query.get("is_completed"), int(query.get("before_id", 10**9))
        mine = [each for each in mine if each["id"] < before and done in (None, str(each["is_completed"]).lower())]
        limit = int(query.get("limit", 20))
        return 200, {"tasks": mine[:limit], "next_before_id": mine[limit - 1]["id"] if len(mine) > limit else None}

    def stage(self, pair: Pair, **changes: Any) -> Stage:
        health = ServiceHealth(least=1, wanted=1, running=1, healthy=1, rollout="COMPLETED")
        made = {
            "settings": pair.settings,
            "declared_weight": lambda: 0,
            "load_balancer": SimpleNamespace(weight=lambda: 0),
            "service": SimpleNamespace(health=lambda: health, definition="task-service:7"),
            "smoke_headers": lambda: SMOKE,
            "smoke_rule_leads": lambda: True,
            **changes,
        }
        return cast(Stage, SimpleNamespace(**made))


@pytest.fixture(scope="module")
def replicated(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Replication runs both ways."""
    with pairs(source_server, target_server, tmp_path_factory.mktemp("shadow")) as make:
        yield running(make, rows=20)


@pytest.fixture
def pair(replicated: Pair, tmp_path: Path) -> Pair:
    """Nobody has compared answers yet."""
    helper_schema.put(replicated.source, helper_schema.SHADOWED, None)
    return replace(replicated, settings=replace(replicated.settings, state_dir=tmp_path / "state"))


def kept(pair: Pair) -> Any:
    """The verdict that the canary will find."""
    return helper_schema.get(pair.source, helper_schema.SHADOWED)


def looked(sides: Sides, pair: Pair, monkeypatch: pytest.MonkeyPatch, stage: Stage | None = None, **how: Any) -> Shadow:
    """`shadow` over the played HTTP; each fence that came through is among what was asked."""
    file = Path(pair.settings.state_dir).parent / "tokens"
    file.write_text("\n".join(USERS))
    forward = fence.forward

    def noted(*arguments: Any) -> float:
        sides.fences.append(forward(*arguments))
        sides.asked.append(("fence", ""))
        return sides.fences[-1]

    with monkeypatch.context() as patch:
        patch.setattr(fence, "forward", noted)
        transport = httpx.MockTransport(sides)
        at = stage or sides.stage(pair)
        return shadow.run(at, "http://api", file, transport=transport, **{"rate": 1000.0, **how})


def test_the_monolith_is_asked_then_a_fence_waited_for_then_the_service_then_the_monolith_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a comparison with what has not arrived yet, and one that takes what changed meanwhile for a difference."""
    sides, before = Sides(), datetime.now(UTC)
    found = looked(sides, pair, monkeypatch)
    assert found.match
    assert (found.users, found.told_apart, found.fence_seconds) == (2, True, max(sides.fences))
    # What one answer leaves open (there is no next page) another one shows.
    assert [one.unseen for one in found.endpoints] == [[], []]
    assert kept(pair) == {
        "match": True,
        "definition": "task-service:7",
        "began": kept(pair)["began"],
        "copy": helper_schema.get(pair.target, helper_schema.COPY)["run"],
    }
    assert before < datetime.fromisoformat(kept(pair)["began"]) < datetime.now(UTC)
    left = list(sides.asked)
    while left:
        many = left.index(("fence", ""))
        assert 0 < many <= looks.BATCH
        paths = [path for _, path in left[:many]]
        assert left[: 3 * many + 1] == [
            *(("monolith", path) for path in paths), ("fence", ""), *(("service", path) for path in paths),
            *(("monolith", path) for path in paths),
        ]  # fmt: skip
        left = left[3 * many + 1 :]
    asked = Counter(path for side, path in sides.asked if side == "service")
    assert set(asked) >= {
        "/api/tasks",
        "/api/tasks?limit=5",
        "/api/tasks?is_completed=true",
        "/api/tasks?is_completed=false",
    }
    assert {"/api/tasks?limit=5&before_id=116", "/api/tasks?limit=5&before_id=216"} <= set(asked)
    single = [path for path in asked if path.count("/") == 3]
    assert len(single) == 2 * (shadow.SHOWN + shadow.BESIDE)
    assert sum(int(path.rsplit("/", 1)[1]) % 2 for path in single) == 2 * shadow.BESIDE  # ids of nobody
    assert found.requests == len([one for one in sides.asked if one[0] != "fence"])
    assert sum(one.answers for one in found.endpoints) == sum(asked.values())


def test_what_one_answer_writes_otherwise_is_named(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a note of which only the last answer's is left."""

    def change(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path != "/api/tasks":
            return body
        return {**body, "tasks": [{**one, "created_at": "2026-11-26T00:00:00+00:00"} for one in body["tasks"]]}

    found = looked(Sides(change), pair, monkeypatch)
    assert found.match
    assert [one.respelled for one in found.endpoints] == [["tasks[].created_at"], []]


def test_what_differs_is_named_by_endpoint_and_kept_without_values(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a first user who reads another time; and titles of children's tasks in a journal."""

    def change(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if "task" in body:
            return {"task": {**body["task"], "title": body["task"]["title"] + "?"}}
        return {**body, "tasks": [{**one, "created_at": "2026-11-26T09:00:00Z"} for one in body["tasks"]]}

    sides = Sides(change)
    found = looked(sides, pair, monkeypatch)
    assert not found.match
    assert kept(pair)["match"] is False
    listing, showing = found.endpoints
    assert [(one.field, one.kind, one.detail) for one in listing.differences] == [
        ("tasks[].created_at", "time", "9:00:00 later")
    ]
    assert listing.differences[0].answers == listing.answers
    assert re.fullmatch(r"GET /api/tasks(\?\S+)?, task [12]\d\d", listing.differences[0].example)
    assert re.fullmatch(r"GET /api/tasks/[12]\d\d", showing.differences[0].example)
    assert [(one.field, one.kind) for one in showing.differences] == [("task.title", "value")]
    assert showing.differences[0].answers == 2 * shadow.SHOWN
    event = last(sides.stage(pair).settings.journal, "shadow", "compared")
    assert event is not None
    names = ("GET /api/tasks", "GET /api/tasks/{id}")
    assert {key: value for key, value in event.items() if key not in ("at", "step", "event")} == {
        "match": False,
        "users": 2,
        "answers": dict(zip(names, (listing.answers, showing.answers), strict=True)),
        "different": dict(zip(names, (listing.answers, 2 * shadow.SHOWN), strict=True)),
        "differing": dict(zip(names, (["tasks[].created_at: time"], ["task.title: value"]), strict=True)),
    }
    for text in (found.json_text(), json.dumps(event, ensure_ascii=False), repr(kept(pair))):
        assert not [secret for secret in SECRETS if secret in text]


def test_a_difference_that_is_not_there_when_it_is_asked_for_again_is_none(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents an alarm about a write that came and went between the monolith's two answers."""
    seen = Counter[str]()

    def once(path: str, body: dict[str, Any]) -> dict[str, Any]:
        seen[path] += 1
        return body if seen[path] > 2 else {**body, "flickers": True}

    found = looked(Sides(once), pair, monkeypatch, users=1)
    assert found.match, found
    assert sum(one.unsettled for one in found.endpoints) == 0
    assert set(seen.values()) == {looks.LOOKS}


def test_differences_of_which_none_is_there_each_time_are_none(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents three writes that came and went, each of another field, taken for one fault."""
    seen = Counter[str]()

    def another(path: str, body: dict[str, Any]) -> dict[str, Any]:
        seen[path] += 1
        return {**body, f"flickers {seen[path]}": True}

    assert looked(Sides(another), pair, monkeypatch, users=1).match


def test_what_the_monolith_never_says_twice_is_named_and_fails_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = Sides(
        lambda path, body: {**body, "now": 0, "random": []},
        lambda number, body: {**body, "now": number, "random": [{"id": number}]},
    )
    found = looked(sides, pair, monkeypatch)
    assert found.match
    # Beside what these tasks have not.
    always = {one.endpoint: set(one.unseen) for one in looked(Sides(), pair, monkeypatch).endpoints}
    assert {one.endpoint: set(one.unseen) - always[one.endpoint] for one in found.endpoints} == {
        name: {"now", "random[]"} for name in always
    }


@pytest.mark.parametrize(
    ("sides", "changes", "said"),
    [
        (Sides(), {"declared_weight": lambda: 5}, "the stack declares 5 %"),
        (Sides(), {"load_balancer": SimpleNamespace(weight=lambda: 25)}, "the live rule gives the Task Service 25 %"),
        (Sides(status={"monolith": 401}), {}, r"the token in line \d of the file is refused"),
        (Sides(status={"monolith": 503}), {}, "0 answers of 2 users could be compared, at least 9 must be"),
        (Sides(tasks=0), {}, r"GET /api/tasks/\{id\}: 0 answers of 2 users could be compared, at least 1 must be"),
        (Sides(), {"smoke_rule_leads": lambda: False}, "nobody knows who would answer"),
        (Sides(names={"monolith": "a", "service": "a"}), {}, "both sides' answers say that a gave them"),
        (Sides(), {"service": SimpleNamespace(health=lambda: ServiceHealth(1, 1, 0, 0, "COMPLETED"))}, "the Task Service is not ready"),
    ],
)  # fmt: skip
def test_where_nothing_can_be_shown_nothing_is_said_to_be_well(
    pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    sides: Sides,
    changes: dict[str, Any],
    said: str,
) -> None:
    """Prevents a clean run of nobody's answers, or of the monolith compared with itself."""
    with pytest.raises(Refused, match=said):
        looked(sides, pair, monkeypatch, sides.stage(pair, **changes))
    assert kept(pair) is None


def test_few_answers_that_could_be_compared_say_nothing_of_the_others(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a first user let in by two answers that were alike, while the monolith refused all others for their number (429)."""
    sides = Sides()
    sides.limit = 19
    with pytest.raises(
        Refused, match=r"GET /api/tasks: 2 answers of 2 users could be compared, at least 9 must be; 8 did not"
    ):
        looked(sides, pair, monkeypatch)
    assert kept(pair) is None


def test_a_weight_that_moves_meanwhile_spoils_the_run(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    weights: Iterator[int] = iter((0, 5))
    sides = Sides()
    with pytest.raises(Refused, match="the live rule gives the Task Service 5 %"):
        looked(
            sides,
            pair,
            monkeypatch,
            sides.stage(pair, load_balancer=SimpleNamespace(weight=lambda: next(weights))),
        )
    assert kept(pair) is None


def test_what_does_not_arrive_in_time_is_not_compared(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a verdict by a Task Service that lacks what the monolith has just shown."""
    subscription = sql.Identifier(pair.settings.config.subscription)
    sides = Sides()
    pair.target.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(subscription))
    try:
        with pytest.raises(TimedOut):
            looked(sides, pair, monkeypatch, fence_timeout=0.5)
    finally:
        pair.target.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(subscription))
    assert {side for side, _ in sides.asked} == {"monolith"}
    assert kept(pair) is None


@pytest.mark.parametrize("status", [404, 500])
def test_a_service_that_answers_nobody_differs(pair: Pair, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    found = looked(Sides(status={"service": status}), pair, monkeypatch)
    assert not found.match
    assert {one.field for each in found.endpoints for one in each.differences} == {"status"}


def test_sides_that_do_not_say_who_they_are_are_compared_and_that_is_said(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = looked(Sides(names={}), pair, monkeypatch)
    assert (found.match, found.told_apart) == (True, False)


def test_no_more_requests_than_the_rate_and_no_more_users_than_asked(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a check of the monolith that is a load on it."""
    pauses: list[float] = []
    monkeypatch.setattr(looks, "time", SimpleNamespace(monotonic=lambda: sum(pauses), sleep=pauses.append))
    found = looked(Sides(), pair, monkeypatch, users=1, rate=4.0)
    assert found.users == 1
    assert sum(pauses) == pytest.approx((found.requests - 1) / 4.0)


def test_a_token_file_that_cannot_be_used_is_named(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for name, said in (("none", "cannot be read"), ("empty", "is empty")):
        with pytest.raises(UsageError, match=said):
            shadow.run(Sides().stage(pair), "http://api", tmp_path / name)
