"""Routes of the HTTP API: what the local gateway decides."""

from __future__ import annotations

import pytest

from scripts.rehearsal.gateway.routes import Route, find_route


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/tasks", "GET /api/tasks"),
        ("GET", "/api/tasks/5", "GET /api/tasks/{id}"),
        ("POST", "/api/tasks/5/complete", "POST /api/tasks/{id}/complete"),
        ("GET", "/api/tasks/stats", "GET /api/tasks/stats"),
        ("PUT", "/api/tasks/stats", "ANY /api/tasks/{id}"),
        ("GET", "/files/a/b/c", "GET /files/{path+}"),
        ("GET", "/files", None),
        ("POST", "/api/tasks", None),
        ("GET", "/api/tasks/", None),
        ("GET", "/api/tasks/5/complete", None),
    ],
)
def test_the_most_specific_route_serves_the_request(method: str, path: str, expected: str | None) -> None:
    """Prevents an endpoint that the gateway knows and API Gateway does not, or the other way round."""
    keys = (
        "ANY /api/tasks/{id}",
        "GET /api/tasks",
        "GET /api/tasks/{id}",
        "GET /api/tasks/stats",
        "POST /api/tasks/{id}/complete",
        "GET /files/{path+}",
    )
    routes = [Route(key, None, "i") for key in keys]
    found = find_route(routes, method, path)
    assert (found.key if found else None) == expected
    assert find_route([*routes, Route("$default", None, "i")], method, path) is not None
