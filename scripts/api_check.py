"""The contract of the 8 endpoints and /health, checked against any base URL (plan.md, step 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from scripts.support.errors import UsageError
from scripts.support.redact import remember_secret

#: An id that no sequence reaches before the bands do.
NOBODYS_TASK = 2**62


@dataclass
class _Session:
    client: httpx.Client
    checks: list[dict[str, Any]] = field(default_factory=list)

    def expect(
        self,
        endpoint: str,
        wanted: int,
        method: str,
        path: str,
        *,
        token: str | None,
        body: Any = None,
        shape: str = "",
    ) -> Any:
        """Send one request and note whether status and shape are as the contract says; return the JSON, or None."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        document: Any = None
        try:
            answer = self.client.request(method, path, headers=headers, json=body)
            found = str(answer.status_code)
            document = answer.json() if answer.content else None
            passed = answer.status_code == wanted and (not shape or shape in (document or {}))
            served = answer.headers.get("x-served-by")
        except (httpx.HTTPError, ValueError) as error:
            found, passed, served = f"{type(error).__name__}", False, None
        detail = f"{method} {path} answered {found}, the contract says {wanted}" + (f" with `{shape}`" if shape else "")
        self.checks.append({"endpoint": endpoint, "passed": passed, "detail": detail, "served_by": served})
        return document if passed else None


def _token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"the token file {path} cannot be read: {error.strerror}; write a JWT into it") from None
    remember_secret(token)
    return token


def run(
    base_url: str,
    token_file: Path,
    other_token_file: Path | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> dict[str, Any]:
    """Check every endpoint with a task of its own, which is deleted at the end.

    Args:
        token_file: file with the JWT of a user.
        other_token_file: file with another user's JWT; that user must get 404 for the task.
        headers: sent with every request; the smoke rule's header for one.
        timeout: seconds for one request.

    Returns:
        ``healthy``, ``endpoints`` (endpoint -> healthy) and ``checks``.

    Raises:
        UsageError: a token file cannot be read.
    """
    token = _token(token_file)
    other = _token(other_token_file) if other_token_file else None
    for value in (headers or {}).values():
        remember_secret(value)
    with httpx.Client(
        base_url=base_url.rstrip("/"), headers=dict(headers or {}), timeout=timeout, trust_env=False
    ) as client:
        session = _Session(client)
        _check(session, token, other)
    endpoints: dict[str, bool] = {}
    for check in session.checks:
        endpoints[check["endpoint"]] = endpoints.get(check["endpoint"], True) and check["passed"]
    return {
        "healthy": all(endpoints.values()),
        "endpoints": endpoints,
        "served_by": sorted({str(check["served_by"]) for check in session.checks if check["served_by"]}),
        "checks": session.checks,
    }


def _check(session: _Session, token: str, other: str | None) -> None:
    session.expect("GET /health", 200, "GET", "/health", token=None)
    listing, making = "GET /api/tasks", "POST /api/tasks"
    session.expect(listing, 401, "GET", "/api/tasks", token=None)
    session.expect(listing, 200, "GET", "/api/tasks", token=token, shape="tasks")
    session.expect(making, 401, "POST", "/api/tasks", token=None, body={"title": "x"})
    session.expect(making, 422, "POST", "/api/tasks", token=token, body={"title": ""}, shape="errors")
    session.expect(
        making, 422, "POST", "/api/tasks", token=token, body={"title": "x", "user_id": NOBODYS_TASK}, shape="errors"
    )
    session.expect(
        making, 422, "POST", "/api/tasks", token=token, body={"title": "x", "tags": [NOBODYS_TASK]}, shape="errors"
    )
    made = session.expect(
        making, 201, "POST", "/api/tasks", token=token, body={"title": "api-check 確認 ✅", "priority": 2}, shape="task"
    )
    one = f"/api/tasks/{made['task']['id'] if made else NOBODYS_TASK}"
    for method, wanted, body, shape in (("GET", 200, None, "task"), ("PUT", 200, {"title": "api-check 済"}, "task")):
        endpoint = f"{method} /api/tasks/{{id}}"
        session.expect(endpoint, 401, method, one, token=None, body=body)
        session.expect(endpoint, 404, method, f"/api/tasks/{NOBODYS_TASK}", token=token, body=body)
        if other:
            session.expect(endpoint, 404, method, one, token=other, body=body)
        session.expect(endpoint, wanted, method, one, token=token, body=body, shape=shape)
    session.expect("PUT /api/tasks/{id}", 422, "PUT", one, token=token, body={"priority": 99}, shape="errors")
    for verb in ("complete", "reject", "complete", "approve"):
        endpoint = f"POST /api/tasks/{{id}}/{verb}"
        session.expect(endpoint, 401, "POST", f"{one}/{verb}", token=None)
        session.expect(endpoint, 404, "POST", f"/api/tasks/{NOBODYS_TASK}/{verb}", token=token)
        session.expect(endpoint, 200, "POST", f"{one}/{verb}", token=token, shape="task")
    session.expect("POST /api/tasks/{id}/approve", 409, "POST", f"{one}/approve", token=token)
    session.expect("DELETE /api/tasks/{id}", 401, "DELETE", one, token=None)
    session.expect("DELETE /api/tasks/{id}", 204, "DELETE", one, token=token)
    session.expect("DELETE /api/tasks/{id}", 404, "DELETE", one, token=token)
