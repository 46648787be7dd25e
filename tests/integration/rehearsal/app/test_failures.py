"""What both guises do when the database fails them, and what they have in common."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.integration.rehearsal.app.app_world import ROLES, STRANGER, AppWorld, Caller


def test_connections_that_the_server_ended_cost_no_failed_request(api: Caller) -> None:
    """Prevents the 5xx that a fail-over or a restarted database would leave behind in the pool."""
    api.database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert [api.send("GET", "/api/tasks").status_code for _ in range(12)] == [200] * 12


def test_a_role_without_the_right_to_write_gets_503_and_reads_on(api: Caller) -> None:
    """Prevents an acknowledged write after `finalize` took the right away."""
    role = ROLES[api.guise]
    api.database.execute(f"REVOKE INSERT ON tasks FROM {role}".encode())
    try:
        assert api.send("POST", "/api/tasks", {"title": "x"}).status_code == 503
        assert api.send("GET", "/api/tasks").status_code == 200
    finally:
        api.database.execute(f"GRANT INSERT ON tasks TO {role}".encode())


def test_the_task_endpoints_can_be_off_while_health_answers(api: Caller) -> None:
    """Prevents a monolith that still takes task writes at 100 %."""
    file = api.world.off_file(api.guise)
    file.touch()
    try:
        assert api.send("GET", "/api/tasks").status_code == 410
        assert api.send("POST", "/api/tasks", {"title": "x"}).status_code == 410
        assert api.http.get("/health").status_code == 200
    finally:
        file.unlink()


def test_both_guises_answer_with_the_same_shapes(app_world: AppWorld) -> None:
    """Prevents a client that works on one side of the canary only."""

    def shapes(guise: str) -> list[tuple[int, Any]]:
        caller = Caller(app_world, guise)
        task = caller.make(tags=[7], images=["a.jpg"])
        path = f"/api/tasks/{task['id']}"
        answers = [
            caller.send("GET", "/api/tasks?limit=1"),
            caller.send("GET", path),
            caller.send("POST", "/api/tasks", {"title": ""}),
            caller.send("POST", f"{path}/approve"),
            caller.send("POST", f"{path}/complete"),
            caller.send("GET", "/api/tasks/1", user=STRANGER),
            caller.http.get("/api/tasks"),
            caller.http.get("/health"),
        ]
        caller.http.close()
        return [(answer.status_code, _shape(answer.json())) for answer in answers]

    assert shapes("monolith") == shapes("task-service")


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items()}
    return [_shape(item) for item in value] if isinstance(value, list) else type(value).__name__


def test_the_task_service_writes_nothing_into_the_monoliths_database(app_world: AppWorld) -> None:
    """Prevents a service that quietly writes to the database it is to leave."""
    monolith: psycopg.Connection[Any] = app_world.databases["monolith"]
    before = monolith.execute("SELECT count(*), max(id), max(updated_at) FROM tasks").fetchone()
    caller = Caller(app_world, "task-service")
    assert caller.make(tags=[7, 8, 9])["id"] > 1_000_000_000
    caller.http.close()
    assert monolith.execute("SELECT count(*), max(id), max(updated_at) FROM tasks").fetchone() == before
