"""The contract of the 8 endpoints and /health, checked against any base URL (docs/plan.md, Step 2)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from scripts.api.documents import ApiCheck, Check, StaleReads
from scripts.api.shapes import Shape, errors_of, healthy, message, one_task, task_list
from scripts.support.errors import UsageError
from scripts.support.redact import remember_secret

#: An id that no sequence reaches before the bands do.
NOBODYS_TASK = 2**62
#: A JWT in form alone: header, claims and signature that no issuer made.
FORGED = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"

#: Seconds that a write may take to the other side, and between two looks there.
PATIENCE, AGAIN_SECONDS = 10.0, 0.1


@dataclass
class _Session:
    client: httpx.Client
    #: Whose reads are looked at, and for how many seconds a side may not show that user's last write.
    token: str
    patience: float
    checks: list[Check] = field(default_factory=list)
    #: The side that acknowledged the user's last write, where it said so.
    wrote_on: str | None = None
    #: By side: answers to the user after a write, and those of them that showed the state before it.
    reads: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)

    def expect(
        self,
        endpoint: str,
        wanted: int,
        method: str,
        path: str,
        *,
        token: str | None,
        body: Any = None,
        shape: Shape | None = None,
    ) -> Any:
        """Send one request and note whether status and shape are as the contract says; return the JSON, or None.

        An answer of the other side than the one that took the user's last write may come before that write has: it is asked
        for again, and counted as a stale read once it is right.
        """
        deadline, stale = time.monotonic() + self.patience, Counter[str]()
        while True:
            check, document, early = self._once(endpoint, wanted, method, path, token, body, shape)
            if check.passed or not early or time.monotonic() >= deadline:
                break
            stale[check.served_by or ""] += 1
            time.sleep(AGAIN_SECONDS)
        self.checks.append(check)
        if check.passed:
            self.stale.update(stale)
            self.reads.update(stale)
        if token == self.token and check.served_by is not None and self.wrote_on is not None:
            self.reads[check.served_by] += 1
        if check.passed and token == self.token and method != "GET" and wanted < 300:
            self.wrote_on = check.served_by
        return document if check.passed else None

    def _once(
        self, endpoint: str, wanted: int, method: str, path: str, token: str | None, body: Any, shape: Shape | None
    ) -> tuple[Check, Any, bool]:
        """One request: how it went, its JSON, and whether it may have come before the user's last write did."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        document: Any = None
        wrong: str | None = None
        early = False
        try:
            answer = self.client.request(method, path, headers=headers, json=body)
            found = str(answer.status_code)
            passed = answer.status_code == wanted
            served = answer.headers.get("x-served-by")
            document = answer.json() if answer.content else None
            if passed and wanted == 204 and answer.content:
                wrong = "a body where none may be"
            elif passed and shape is not None:
                wrong = shape(document)
            elsewhere = None not in (served, self.wrote_on) and served != self.wrote_on
            early = elsewhere and token == self.token and answer.status_code < 500
        except (httpx.HTTPError, ValueError) as error:
            found, passed, served = f"{type(error).__name__}", False, None
        detail = f"{method} {path} answered {found}, the contract says {wanted}" + (f"; {wrong}" if wrong else "")
        check = Check(endpoint=endpoint, passed=passed and wrong is None, detail=detail, served_by=served)
        return check, document, early


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"the token file {path} cannot be read: {error.strerror}; write a JWT into it") from None
    remember_secret(token)
    return token


@dataclass(frozen=True)
class People:
    """Users that validation is checked with; what is None is not checked.

    ``member`` is another user of the token's group, ``stranger`` a user of another group.
    """

    member: int | None = None
    stranger: int | None = None


def run(
    base_url: str,
    token_file: Path,
    other_token_file: Path | None = None,
    *,
    people: People | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    weight: int | None = None,
    patience: float = PATIENCE,
    transport: httpx.BaseTransport | None = None,
) -> ApiCheck:
    """Check every endpoint with tasks of its own, which are deleted at the end, also when a check fails on the way.

    Args:
        token_file: file with the JWT of a user.
        other_token_file: file with another user's JWT; that user must get 404 for the task.
        people: ids of users for the validation of assignee and group.
        headers: sent with every request; the smoke rule's header for one.
        timeout: seconds for one request.
        weight: percent of the requests that the Task Service gets, for the report of stale reads.
        patience: seconds within which each side has to show what the other one acknowledged.
        transport: another way than the network.

    Raises:
        UsageError: a token file cannot be read.
    """
    token = _token(token_file)
    other = _token(other_token_file) if other_token_file else None
    people = people or People()
    for value in (headers or {}).values():
        remember_secret(value)
    with httpx.Client(
        base_url=base_url.rstrip("/"),
        headers=dict(headers or {}),
        timeout=timeout,
        trust_env=False,
        transport=transport,
    ) as client:
        session = _Session(client, token, patience)
        _check(session, token, other, people)
    endpoints: dict[str, bool] = {}
    for check in session.checks:
        endpoints[check.endpoint] = endpoints.get(check.endpoint, True) and check.passed
    needs = {
        "404 of another's task: --other-token-file": other,
        "an assignee of the same group: --member-id": people.member,
        "an assignee of another group: --stranger-id": people.stranger,
    }
    return ApiCheck(
        healthy=all(endpoints.values()),
        endpoints=endpoints,
        served_by=sorted({check.served_by for check in session.checks if check.served_by}),
        checks=session.checks,
        not_checked=[clause for clause, given in needs.items() if given is None],
        stale_reads=[
            StaleReads(side=side, weight=weight, reads=reads, stale=session.stale[side])
            for side, reads in sorted(session.reads.items())
        ],
    )


LISTING, MAKING, DELETING = "GET /api/tasks", "POST /api/tasks", "DELETE /api/tasks/{id}"


def _check(session: _Session, token: str, other: str | None, people: People) -> None:
    session.expect("GET /health", 200, "GET", "/health", token=None, shape=healthy)
    session.expect(LISTING, 401, "GET", "/api/tasks", token=None, shape=message)
    session.expect(LISTING, 401, "GET", "/api/tasks", token=FORGED, shape=message)
    session.expect(LISTING, 422, "GET", "/api/tasks?limit=0", token=token, shape=errors_of("limit"))
    session.expect(MAKING, 401, "POST", "/api/tasks", token=None, body={"title": "x"}, shape=message)
    _refusals(session, token, people)
    body = {"title": "api-check 確認 ✅", "priority": 2, "due_date": "2025年度末", "description": "一行\n二行"}
    made = session.expect(MAKING, 201, "POST", "/api/tasks", token=token, body=body, shape=one_task(**body))
    task = made["task"]["id"] if made else NOBODYS_TASK
    try:
        _one(session, token, other, task)
        if people.member is not None:
            given = {"title": "api-check 担当", "user_id": people.member}
            shape = one_task(user_id=people.member, assigned_by_user_id=lambda giver: isinstance(giver, int))
            assigned = session.expect(MAKING, 201, "POST", "/api/tasks", token=token, body=given, shape=shape)
            if assigned:
                session.expect(DELETING, 204, "DELETE", f"/api/tasks/{assigned['task']['id']}", token=token)
    finally:
        one = f"/api/tasks/{task}"
        session.expect(DELETING, 401, "DELETE", one, token=None, shape=message)
        session.expect(DELETING, 404, "DELETE", f"/api/tasks/{NOBODYS_TASK}", token=token, shape=message)
        if other:
            session.expect(DELETING, 404, "DELETE", one, token=other, shape=message)
        session.expect(DELETING, 204, "DELETE", one, token=token)
        session.expect(DELETING, 404, "DELETE", one, token=token, shape=message)
        session.expect("GET /api/tasks/{id}", 404, "GET", one, token=token, shape=message)


def _refusals(session: _Session, token: str, people: People) -> None:
    """What must not become a task: each with the field that is wrong."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"title": ""}, "title"),
        ({"title": "x" * 256}, "title"),
        ({"priority": 3}, "title"),
        ({"title": "x", "priority": 99}, "priority"),
        ({"title": "x", "user_id": NOBODYS_TASK}, "user_id"),
        ({"title": "x", "tags": [NOBODYS_TASK]}, "tags"),
        ({"title": "x", "source_proposal_id": NOBODYS_TASK}, "source_proposal_id"),
        ({"title": "x", "group_task_id": "no uuid"}, "group_task_id"),
    ]
    if people.stranger is not None:
        wrong.append(({"title": "x", "user_id": people.stranger}, "user_id"))
    for body, name in wrong:
        session.expect(MAKING, 422, "POST", "/api/tasks", token=token, body=body, shape=errors_of(name))


def _one(session: _Session, token: str, other: str | None, task: int) -> None:
    """The endpoints of one task, in the order of its life."""
    one, missing = f"/api/tasks/{task}", f"/api/tasks/{NOBODYS_TASK}"
    session.expect(LISTING, 200, "GET", "/api/tasks?limit=5", token=token, shape=task_list(holds=task, at_most=5))
    if other:
        session.expect(LISTING, 200, "GET", "/api/tasks", token=other, shape=task_list(without=task))

    def guarded(endpoint: str, method: str, tail: str = "", body: Any = None) -> None:
        session.expect(endpoint, 401, method, one + tail, token=None, body=body, shape=message)
        session.expect(endpoint, 404, method, missing + tail, token=token, body=body, shape=message)
        if other:
            session.expect(endpoint, 404, method, one + tail, token=other, body=body, shape=message)

    showing, changing = "GET /api/tasks/{id}", "PUT /api/tasks/{id}"
    guarded(showing, "GET")
    session.expect(showing, 200, "GET", one, token=token, shape=one_task(id=task, title="api-check 確認 ✅"))
    guarded(changing, "PUT", body={"title": "api-check 済"})
    changed = one_task(id=task, title="api-check 済", priority=2)
    session.expect(changing, 200, "PUT", one, token=token, body={"title": "api-check 済"}, shape=changed)
    session.expect(changing, 422, "PUT", one, token=token, body={"priority": 99}, shape=errors_of("priority"))
    session.expect(changing, 422, "PUT", one, token=token, body={"tags": [NOBODYS_TASK]}, shape=errors_of("tags"))
    for verb, early in (("approve", True), ("complete", False), ("reject", False), ("complete", False)):
        endpoint = f"POST /api/tasks/{{id}}/{verb}"
        guarded(endpoint, "POST", f"/{verb}")
        if early:
            session.expect(endpoint, 409, "POST", f"{one}/{verb}", token=token, shape=message)
            continue
        done = one_task(id=task, is_completed=verb == "complete", approved_at=None)
        session.expect(endpoint, 200, "POST", f"{one}/{verb}", token=token, shape=done)
    session.expect("POST /api/tasks/{id}/complete", 409, "POST", f"{one}/complete", token=token, shape=message)
    approving = "POST /api/tasks/{id}/approve"
    approved = one_task(id=task, is_completed=True, approved_at=lambda at: isinstance(at, str))
    session.expect(approving, 200, "POST", f"{one}/approve", token=token, shape=approved)
    session.expect(approving, 409, "POST", f"{one}/approve", token=token, shape=message)
    session.expect("POST /api/tasks/{id}/reject", 409, "POST", f"{one}/reject", token=token, shape=message)
    session.expect(changing, 409, "PUT", one, token=token, body={"title": "遅い"}, shape=message)
