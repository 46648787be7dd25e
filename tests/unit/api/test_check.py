"""api-check passes on the contract, and fails on each clause of it that an upstream breaks, naming the endpoint."""

from __future__ import annotations

import base64
import copy
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from scripts.api import check as api_check
from scripts.api import session
from scripts.api.check import People
from scripts.api.direct import NOBODYS_TASK, Balancer
from scripts.api.documents import ApiCheck
from scripts.support.errors import UsageError

OWNER, MEMBER, STRANGER, OTHER = 1, 2, 9, 8
GROUPS = {OWNER: 1, MEMBER: 1, STRANGER: 2, OTHER: 2}
TOKENS = {"token-of-owner": OWNER, "token-of-other": OTHER}
Answer = tuple[int, Any]
Break = Callable[[str, str, Any, Answer], Answer]
NOW = "2026-11-23T00:00:00Z"


class Upstream:
    """The contract in memory. ``broken`` sees each request and its right answer, and may give another."""

    def __init__(self, broken: Break | None = None, *, ignores: frozenset[str] = frozenset()) -> None:
        self.broken, self.ignores = broken, ignores
        self.tasks: dict[int, dict[str, Any]] = {}
        self.deleted: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        method, path = request.method, request.url.path
        user = TOKENS.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if user is None and path in self.ignores:
            user = OWNER
        answer = self.right(method, path, dict(request.url.params), body, user)
        if self.broken is not None:
            answer = self.broken(method, path, body, answer)
        status, document = answer
        return httpx.Response(status, content=b"" if document is None else json.dumps(document).encode())

    def right(self, method: str, path: str, query: dict[str, str], body: Any, user: int | None) -> Answer:
        if path == "/health":
            return 200, {"status": "ok", "database": "ok"}
        if user is None:
            return 401, {"message": "Unauthenticated."}
        if path == "/api/tasks":
            return self.index(query, user) if method == "GET" else self.create(body, user)
        parts = path.split("/")
        task = self.tasks.get(int(parts[3]))
        if task is None or user not in (task["user_id"], task["assigned_by_user_id"]):
            return 404, {"message": "Task not found."}
        if len(parts) == 5:
            return self.judge(parts[4], task)
        if method == "PUT":
            return self.change(body, task)
        if method == "DELETE":
            self.deleted.append(int(self.tasks.pop(int(task["id"]))["id"]))
            return 204, None
        return 200, {"task": task}

    def index(self, query: dict[str, str], user: int) -> Answer:
        if query.get("limit") == "0":
            return invalid("limit")
        found = [{k: v for k, v in t.items() if k != "images"} for t in self.tasks.values() if t["user_id"] == user]
        found.sort(key=lambda task: -int(task["id"]))
        return 200, {"tasks": found[: int(query.get("limit", "20"))], "next_before_id": None}

    def wrong(self, body: dict[str, Any]) -> str | None:
        if not 1 <= body.get("priority", 3) <= 5:
            return "priority"
        for name in ("tags", "source_proposal_id", "group_task_id"):
            if body.get(name):
                return name
        return None

    def create(self, body: dict[str, Any], user: int) -> Answer:
        owner = body.get("user_id", user)
        if not 1 <= len(body.get("title", "")) <= 255:
            return invalid("title")
        if wrong := self.wrong(body):
            return invalid("tags.0" if wrong == "tags" else wrong)
        if GROUPS.get(owner) != GROUPS[user]:
            return invalid("user_id")
        names = (
            "description",
            "due_date",
            "span",
            "group_task_id",
            "reward",
            "approved_by_user_id",
            "approved_at",
            "completed_at",
        )
        number = 100 + len(self.tasks) + len(self.deleted)
        task: dict[str, Any] = {
            **dict.fromkeys(names), "id": number, "user_id": owner, "assigned_by_user_id": user if owner != user else None,
            "priority": 3, "requires_approval": False, "requires_image": False, "is_completed": False, "tags": [], "images": [],
            "created_at": NOW, "updated_at": NOW, **body,
        }  # fmt: skip
        self.tasks[number] = task
        return 201, {"task": task}

    def change(self, body: dict[str, Any], task: dict[str, Any]) -> Answer:
        if wrong := self.wrong(body):
            return invalid(wrong)
        if task["approved_at"]:
            return 409, {"message": "approved"}
        task.update(body)
        return 200, {"task": task}

    def judge(self, verb: str, task: dict[str, Any]) -> Answer:
        if task["is_completed"] == (verb == "complete") or task["approved_at"]:
            return 409, {"message": "not now"}
        task["is_completed"] = verb != "reject"
        task["approved_at"] = NOW if verb == "approve" else None
        return 200, {"task": dict(task)}


def invalid(name: str) -> Answer:
    return 422, {"message": "The given data was invalid.", "errors": {name: ["wrong"]}}


def checked(upstream: Upstream, directory: Path, **options: Any) -> ApiCheck:
    files = []
    for token in TOKENS:
        files.append(directory / token)
        files[-1].write_text(token)
    return api_check.run(
        "http://upstream", *files, people=People(MEMBER, STRANGER), transport=httpx.MockTransport(upstream), **options
    )


def failing(document: ApiCheck) -> set[str]:
    return {endpoint for endpoint, good in document.endpoints.items() if not good}


def test_the_contract_passes_and_every_task_is_deleted_again(tmp_path: Path) -> None:
    upstream = Upstream()
    document = checked(upstream, tmp_path)
    assert document.healthy, [check for check in document.checks if not check.passed]
    assert len(document.endpoints) == 9
    assert (upstream.tasks, len(upstream.deleted)) == ({}, 2)


def when(method: str, path: str, status: int, give: Callable[[Any], Answer]) -> Break:
    """Break the answers with this status of requests whose path begins and ends so (``*`` between)."""
    begin, _, end = path.partition("*")

    def broken(was: str, at: str, body: Any, answer: Answer) -> Answer:
        exact = at == path if "*" not in path else at.startswith(begin) and at.endswith(end) and len(at) > len(begin)
        if "*" in path and not end and at.count("/") != 3:
            exact = False
        return give(answer[1]) if was == method and exact and answer[0] == status else answer

    return broken


def of_task(**change: Any) -> Callable[[Any], Answer]:
    return lambda document: (200, {"task": {**document["task"], **change}})


ENDPOINTS = {
    "GET /api/tasks": ("GET", "/api/tasks", 200),
    "POST /api/tasks": ("POST", "/api/tasks", 201),
    "GET /api/tasks/{id}": ("GET", "/api/tasks/*", 200),
    "PUT /api/tasks/{id}": ("PUT", "/api/tasks/*", 200),
    "DELETE /api/tasks/{id}": ("DELETE", "/api/tasks/*", 204),
    **{
        f"POST /api/tasks/{{id}}/{verb}": ("POST", f"/api/tasks/*/{verb}", 200)
        for verb in ("complete", "approve", "reject")
    },
}
CASES: list[tuple[str, Break, str]] = [
    ("unhealthy", when("GET", "/health", 200, lambda _: (503, {"status": "down"})), "GET /health"),
    ("health says nothing", when("GET", "/health", 200, lambda _: (200, {})), "GET /health"),
    ("list is bare", when("GET", "/api/tasks", 200, lambda d: (200, d["tasks"])), "GET /api/tasks"),
    ("list without a next page", when("GET", "/api/tasks", 200, lambda d: (200, {"tasks": d["tasks"]})), "GET /api/tasks"),
    ("list is empty", when("GET", "/api/tasks", 200, lambda d: (200, {**d, "tasks": []})), "GET /api/tasks"),
    ("limit is ignored", when("GET", "/api/tasks", 422, lambda _: (200, {"tasks": [], "next_before_id": None})), "GET /api/tasks"),
    ("ids are texts", when("POST", "/api/tasks", 201, lambda d: (201, {"task": {**d["task"], "priority": "2"}})), "POST /api/tasks"),
    ("created with 200", when("POST", "/api/tasks", 201, lambda d: (200, d)), "POST /api/tasks"),
    ("a field is missing", when("POST", "/api/tasks", 201, lambda d: (201, {"task": {k: v for k, v in d["task"].items() if k != "span"}})), "POST /api/tasks"),
    ("Japanese is lost", when("POST", "/api/tasks", 201, lambda d: (201, {"task": {**d["task"], "due_date": "2025?"}})), "POST /api/tasks"),
    ("the giver is lost", when("POST", "/api/tasks", 201, lambda d: (201, {"task": {**d["task"], "assigned_by_user_id": None}})), "POST /api/tasks"),
    ("another task", when("GET", "/api/tasks/*", 200, of_task(id=5)), "GET /api/tasks/{id}"),
    ("no images", when("GET", "/api/tasks/*", 200, of_task(images=None)), "GET /api/tasks/{id}"),
    ("the change is lost", when("PUT", "/api/tasks/*", 200, of_task(title="old")), "PUT /api/tasks/{id}"),
    ("approved may be changed", when("PUT", "/api/tasks/*", 409, lambda _: (200, {})), "PUT /api/tasks/{id}"),
    ("deleted with a body", when("DELETE", "/api/tasks/*", 204, lambda _: (204, {"gone": True})), "DELETE /api/tasks/{id}"),
    ("deleted with 200", when("DELETE", "/api/tasks/*", 204, lambda _: (200, {})), "DELETE /api/tasks/{id}"),
    ("complete completes nothing", when("POST", "/api/tasks/*/complete", 200, of_task(is_completed=False)), "POST /api/tasks/{id}/complete"),
    ("completed twice", when("POST", "/api/tasks/*/complete", 409, lambda _: (200, {})), "POST /api/tasks/{id}/complete"),
    ("reject keeps it completed", when("POST", "/api/tasks/*/reject", 200, of_task(is_completed=True)), "POST /api/tasks/{id}/reject"),
    ("approved is rejected", when("POST", "/api/tasks/*/reject", 409, lambda _: (200, {})), "POST /api/tasks/{id}/reject"),
    ("approve approves nothing", when("POST", "/api/tasks/*/approve", 200, of_task(approved_at=None)), "POST /api/tasks/{id}/approve"),
    ("open is approved", when("POST", "/api/tasks/*/approve", 409, lambda _: (200, {})), "POST /api/tasks/{id}/approve"),
    *((f"{name} fails", when(method, path, status, lambda _: (500, {"message": "oops"})), name) for name, (method, path, status) in ENDPOINTS.items()),
    *((f"{name} lets anybody in", when(method, path, 401, lambda _: (200, {})), name) for name, (method, path, _) in ENDPOINTS.items()),
    *((f"{name} says 403 to nobody", when(method, path, 401, lambda d: (403, d)), name) for name, (method, path, _) in ENDPOINTS.items()),
    *((f"{name} has no 404", when(method, path, 404, lambda d: (403, d)), name) for name, (method, path, _) in ENDPOINTS.items() if "{id}" in name),
]  # fmt: skip


@pytest.mark.parametrize(("broken", "endpoint"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_broken_clause_fails_its_endpoint(tmp_path: Path, broken: Break, endpoint: str) -> None:
    """Prevents a first weight on a service that breaks the contract where the check does not look."""
    document = checked(Upstream(broken), tmp_path)
    assert not document.healthy
    assert endpoint in failing(document), document.checks
    # What fails first is the clause itself, told with the request; what comes after may rest on it.
    first = next(check for check in document.checks if not check.passed)
    assert first.endpoint == endpoint
    method, path = endpoint.split(" ")
    assert re.match(f"{method} {path.replace('{id}', r'[0-9]+')}\\S* answered ", first.detail)


@pytest.mark.parametrize(
    "body",
    [
        {"title": ""},
        {"title": "x" * 256},
        {"priority": 3},
        {"title": "x", "priority": 99},
        {"title": "x", "user_id": NOBODYS_TASK},
        {"title": "x", "user_id": STRANGER},
        {"title": "x", "tags": [NOBODYS_TASK]},
        {"title": "x", "source_proposal_id": NOBODYS_TASK},
        {"title": "x", "group_task_id": "no uuid"},
    ],
    ids=["empty", "too long", "no title", "priority", "no such user", "other group", "tag", "proposal", "uuid"],
)
def test_each_validation_that_is_gone_or_names_another_field_fails(tmp_path: Path, body: dict[str, Any]) -> None:
    """Prevents a service that takes a user, an assignee or a group that the monolith refuses."""

    def lax(method: str, path: str, sent: Any, answer: Answer) -> Answer:
        return (201, {"task": {}}) if method == "POST" and path == "/api/tasks" and sent == body else answer

    def vague(method: str, path: str, sent: Any, answer: Answer) -> Answer:
        return invalid("body") if method == "POST" and path == "/api/tasks" and sent == body else answer

    for broken in (lax, vague):
        assert failing(checked(Upstream(broken), tmp_path)) == {"POST /api/tasks"}


def test_a_task_that_another_user_sees_fails(tmp_path: Path) -> None:
    """Prevents a service that shows a task to whoever has any token."""

    class Open(Upstream):
        def right(self, method: str, path: str, query: dict[str, str], body: Any, user: int | None) -> Answer:
            return super().right(method, path, query, body, OWNER if user == OTHER else user)

    assert failing(checked(Open(), tmp_path)) == ENDPOINTS.keys() - {"POST /api/tasks"}


def test_a_dead_upstream_fails_everything_and_a_missing_token_is_named(tmp_path: Path) -> None:
    def dead(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    file = tmp_path / "token"
    file.write_text("token-of-owner")
    document = api_check.run("http://upstream", file, transport=httpx.MockTransport(dead))
    assert set(document.endpoints.values()) == {False}
    assert [clause.split(":")[0] for clause in document.not_checked] == [
        "404 of another's task", "an assignee of the same group", "an assignee of another group",
        "the service's own refusal, beside the API Gateway", "tokens that are expired or another pool's",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="cannot be read"):
        api_check.run("http://upstream", tmp_path / "none")


class TwoSides(Upstream):
    """Sides take turns; one that did not take the last write shows the state before it for the next ``late`` requests."""

    def __init__(self, late: int, broken: Break | None = None) -> None:
        super().__init__(broken)
        self.late, self.turn, self.wrote_on, self.left = late, 0, "monolith", 0
        self.older: dict[int, dict[str, Any]] = {}
        #: By side: answers to the user that the newest state would not have given.
        self.behind: Counter[str] = Counter()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.turn += 1
        side = ("monolith", "task-service")[self.turn % 2]
        newest, before = self.tasks, copy.deepcopy(self.tasks)
        stale = side != self.wrote_on and self.left > 0
        if stale:
            self.left -= 1
            right = Upstream()
            right.tasks, right.deleted = before, [*self.deleted]
            self.tasks = copy.deepcopy(self.older)
        answer = super().__call__(request)
        if stale and "owner" in request.headers.get("authorization", ""):
            should = right(request)
            self.behind[side] += (answer.status_code, answer.content) != (should.status_code, should.content)
        if stale:
            self.tasks = newest
        elif request.method != "GET" and answer.status_code < 300:
            self.older, self.wrote_on, self.left = before, side, self.late
        answer.headers["x-served-by"] = side
        return answer


@pytest.mark.parametrize("late", [0, 3])
def test_reads_that_do_not_show_the_users_own_write_yet_are_counted_by_side_and_fail_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """Prevents a canary whose users do not see what they have just written, and nobody knows."""
    monkeypatch.setattr(session, "AGAIN_SECONDS", 0.0)
    sides = TwoSides(late)
    document = checked(sides, tmp_path, weight=25)
    assert document.healthy, [check for check in document.checks if not check.passed]
    told = {one.side: (one.weight, one.stale) for one in document.stale_reads}
    assert told == {side: (25, sides.behind[side]) for side in ("monolith", "task-service")}
    assert all(one.reads > one.stale for one in document.stale_reads)
    assert (sides.behind.total() > 0) is (late > 0)


def test_a_side_that_never_shows_the_other_ones_write_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a lost write that counts as a late one."""
    monkeypatch.setattr(session, "AGAIN_SECONDS", 0.0)
    document = checked(TwoSides(10**9), tmp_path, patience=0.05)
    (first, *_) = [check for check in document.checks if not check.passed]
    assert (document.healthy, first.served_by, first.endpoint) == (False, "monolith", "DELETE /api/tasks/{id}")
    assert first.detail.endswith("answered 404, the contract says 204")


ISSUER, CLIENT = "https://issuer.example/pool", "client-1"
KEY = RSAKey.generate_key(2048, {"kid": "one"}, auto_kid=False)


def signed(**claims: Any) -> str:
    """A token of the issuer."""
    made = {"iss": ISSUER, "aud": CLIENT, "exp": int(time.time()) + 600, "cognito:username": "owner", **claims}
    return jwt.encode({"alg": "RS256", "kid": "one"}, made, KEY)


class Judging(Upstream):
    """A service that judges tokens; ``trusts`` says which of its looks it leaves to the gateway before it."""

    def __init__(self, *trusts: str) -> None:
        super().__init__()
        self.trusts = trusts
        self.asked: set[tuple[str, str]] = set()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        rule = request.headers.get("x-smoke", "live")
        self.asked.add((request.url.host, rule))
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        request.headers["authorization"] = "Bearer token-of-owner" if self.lets_in(token, rule) else ""
        return super().__call__(request)

    def lets_in(self, token: str, rule: str) -> bool:
        if "everything" in self.trusts or ("the smoke rule" in self.trusts and rule != "live"):
            return True
        try:
            if "signature" in self.trusts:
                body = token.split(".")[1]
                claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            else:
                claims = jwt.decode(token, KEY, algorithms=["RS256"]).claims
        except (JoseError, ValueError, IndexError):
            return False
        return all(
            (
                claims.get("cognito:username") == "owner",
                "exp" in self.trusts or claims.get("exp", 0) > time.time(),
                "iss" in self.trusts or claims.get("iss") == ISSUER,
                "aud" in self.trusts or claims.get("aud") == CLIENT,
            )
        )


def at_the_balancer(upstream: Judging, directory: Path) -> ApiCheck:
    files = {
        "good": signed(),
        "expired": signed(exp=int(time.time()) - 10),
        "pool": signed(iss=ISSUER + "-2"),
        "client": signed(aud="client-2"),
    }
    for name, token in files.items():
        (directory / name).write_text(token)
    balancer = Balancer(
        "http://balancer", {"x-smoke": "secret"}, tuple(directory / name for name in files if name != "good")
    )
    return api_check.run(
        "http://gateway", directory / "good", balancer=balancer, transport=httpx.MockTransport(upstream)
    )


def test_a_service_that_judges_tokens_itself_passes_beside_the_gateway_on_both_rules(tmp_path: Path) -> None:
    upstream = Judging()
    document = at_the_balancer(upstream, tmp_path)
    assert document.healthy, [check.detail for check in document.checks if not check.passed]
    assert {("balancer", "live"), ("balancer", "secret")} < upstream.asked
    beside = [check.detail for check in document.checks if check.detail.startswith("balancer, ")]
    assert len(beside) == 2 * (1 + 8 * 9)
    assert not [clause for clause in document.not_checked if "token-file" in clause and "other" not in clause]
    assert upstream.tasks == {}


@pytest.mark.parametrize(
    ("trusts", "faults"),
    [
        ("everything", {"no token", "a token in form alone", "unsigned (alg none)", "expired (expired)"}),
        ("the smoke rule", {"no token", "signed by a key of ours"}),
        ("signature", {"other claims under its signature", "unsigned (alg none)", "signed by a secret of ours"}),
        ("exp", {"expired (expired)"}),
        ("iss", {"of another issuer (pool)"}),
        ("aud", {"for another client (client)"}),
    ],
)
def test_a_service_that_trusts_the_gateway_fails_beside_it(tmp_path: Path, trusts: str, faults: set[str]) -> None:
    """Prevents a service where who reaches the balancer is whoever he says, as its tokens were the gateway's business."""
    document = at_the_balancer(Judging(trusts), tmp_path)
    assert not document.healthy
    wrong = [check.detail for check in document.checks if not check.passed and check.detail.startswith("balancer, ")]
    rules = {"smoke rule"} if trusts == "the smoke rule" else {"live rule", "smoke rule"}
    for rule in rules:
        told = {detail.split(", ", 2)[2].split(": ")[0] for detail in wrong if detail.startswith(f"balancer, {rule}, ")}
        assert faults <= told
    assert trusts == "the smoke rule" or len({check.endpoint for check in document.checks if not check.passed}) == 8


def test_a_token_that_may_be_valid_is_no_proof_of_a_refusal(tmp_path: Path) -> None:
    for name in ("good", "fresh"):
        (tmp_path / name).write_text(signed())
    with pytest.raises(UsageError, match="fresh is not expired and of the same issuer and client"):
        api_check.run("http://g", tmp_path / "good", balancer=Balancer("http://b", {}, (tmp_path / "fresh",)))


def test_what_the_balancer_was_not_asked_is_said(tmp_path: Path) -> None:
    document = checked(Upstream(), tmp_path)
    assert [clause.partition(": ")[2] for clause in document.not_checked] == ["--balancer-url", "--refused-token-file"]


def test_one_side_alone_reads_nothing_stale(tmp_path: Path) -> None:
    assert [one.stale for one in checked(Upstream(), tmp_path).stale_reads] == []
