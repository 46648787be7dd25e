"""The contract of the 8 endpoints and /health, checked against any base URL (docs/plan.md, Step 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scripts.api import direct
from scripts.api.direct import FORGED, NOBODYS_TASK, Balancer
from scripts.api.documents import ApiCheck, StaleReads
from scripts.api.session import Session, open_client, tokens_in
from scripts.api.shapes import errors_of, healthy, message, one_task, task_list

#: Seconds that a write may take to the other side.
PATIENCE = 10.0


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
    balancer: Balancer | None = None,
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
        balancer: where the load balancer is reached beside the API Gateway; None leaves that way unchecked.
        timeout: seconds for one request.
        weight: percent of the requests that the Task Service gets, for the report of stale reads.
        patience: seconds within which each side has to show what the other one acknowledged.
        transport: another way than the network.

    Raises:
        UsageError: a token file cannot be read.
    """
    token = tokens_in(token_file)[0]
    other = tokens_in(other_token_file)[0] if other_token_file else None
    people = people or People()
    refused = direct.refused_tokens(token, {file: tokens_in(file)[0] for file in balancer.refused}) if balancer else {}

    with open_client(base_url, headers or {}, timeout, transport) as client:
        session = Session(client, token, patience)
        _check(session, token, other, people)
    served_by = sorted({check.served_by for check in session.checks if check.served_by})
    for rule, given in (("live rule", {}), ("smoke rule", balancer.smoke_headers)) if balancer else ():
        with open_client(balancer.url if balancer else "", given, timeout, transport) as client:
            direct.check(Session(client, token, patience, session.checks), f"balancer, {rule}", refused)
    endpoints: dict[str, bool] = {}
    for check in session.checks:
        endpoints[check.endpoint] = endpoints.get(check.endpoint, True) and check.passed
    needs = {
        "404 of another's task: --other-token-file": other,
        "an assignee of the same group: --member-id": people.member,
        "an assignee of another group: --stranger-id": people.stranger,
        "the service's own refusal, beside the API Gateway: --balancer-url": balancer,
        "tokens that are expired or another pool's: --refused-token-file": (balancer and balancer.refused) or None,
    }
    return ApiCheck(
        healthy=all(endpoints.values()),
        endpoints=endpoints,
        served_by=served_by,
        checks=session.checks,
        not_checked=[clause for clause, given in needs.items() if given is None],
        stale_reads=[
            StaleReads(side=side, weight=weight, reads=reads, stale=session.stale[side])
            for side, reads in sorted(session.reads.items())
        ],
    )


LISTING, MAKING, DELETING = direct.LISTING, "POST /api/tasks", "DELETE /api/tasks/{id}"


def _check(session: Session, token: str, other: str | None, people: People) -> None:
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


def _refusals(session: Session, token: str, people: People) -> None:
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


def _one(session: Session, token: str, other: str | None, task: int) -> None:
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
