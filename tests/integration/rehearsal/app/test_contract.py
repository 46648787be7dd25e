"""The task API's contract, the same for both guises: over HTTP, on real PostgreSQL, with Cognito's tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.rehearsal.app.app_world import OWNER, PARENT, STRANGER, Caller

#: A tag of user 1 in the generated data; user 2 has 7 to 12.
FOREIGN_TAG = 1


def test_health_needs_no_token_and_names_the_guise(api: Caller) -> None:
    """Prevents a load balancer's health check that fails for want of a token, and a share that cannot be measured."""
    answer = api.http.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "ok"})
    assert answer.headers["x-served-by"] == api.guise


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer nonsense", "Basic dXNlcjpwdw==", "tampered"])
def test_without_a_valid_token_every_task_endpoint_answers_401(api: Caller, header: str | None) -> None:
    """Prevents an endpoint that was forgotten when tokens were asked for."""
    if header == "tampered":
        head, _, signature = api.world.tokens[OWNER].split(".")
        payload = api.world.tokens[STRANGER].split(".")[1]
        header = f"Bearer {head}.{payload}.{signature}"
    headers = {} if header is None else {"Authorization": header}
    for method, path in (
        ("GET", "/api/tasks"),
        ("POST", "/api/tasks"),
        ("GET", "/api/tasks/1"),
        ("PUT", "/api/tasks/1"),
        ("DELETE", "/api/tasks/1"),
        ("POST", "/api/tasks/1/complete"),
        ("POST", "/api/tasks/1/approve"),
        ("POST", "/api/tasks/1/reject"),
    ):
        assert api.http.request(method, path, headers=headers).status_code == 401, (method, path)


def test_a_token_of_a_user_that_the_monolith_does_not_know_creates_nothing(api: Caller) -> None:
    """Prevents a task of nobody on the side that has no foreign key to refuse it."""
    assert api.send("POST", "/api/tasks", {"title": "x"}, user=999_999).status_code == 401


def test_a_created_task_is_committed_with_tags_and_images(api: Caller) -> None:
    """Prevents an answer before the commit, and a task that lost its tags or images."""
    given: dict[str, Any] = {
        "description": "",
        "due_date": "2025年度末",
        "span": 3,
        "priority": 5,
        "reward": 0,
        "requires_approval": True,
    }
    task = api.make(title="漢字練習✨" * 10, tags=[9, 7, 7], images=["a/1.jpg", "a/2.jpg"], **given)
    assert {name: task[name] for name in given} == given
    assert (task["tags"], task["images"], task["user_id"]) == ([7, 9], ["a/1.jpg", "a/2.jpg"], OWNER)
    # Another connection sees it: it was committed before the answer.
    tags = api.row("SELECT array_agg(tag_id ORDER BY tag_id) FROM task_tag WHERE task_id = %s", task["id"])
    images = api.row("SELECT array_agg(file_path::text ORDER BY id) FROM task_images WHERE task_id = %s", task["id"])
    assert (tags, images) == (([7, 9],), (["a/1.jpg", "a/2.jpg"],))
    assert api.send("GET", f"/api/tasks/{task['id']}").json() == {"task": task}
    listed = api.send("GET", "/api/tasks?limit=1").json()
    assert listed["tasks"] == [{name: value for name, value in task.items() if name != "images"}]
    assert listed["next_before_id"] == task["id"]


def test_times_are_whole_seconds_of_utc_that_are_not_in_the_future(api: Caller) -> None:
    """Prevents updated_at of the two sides that cannot be compared: zones, or fractions rounded up."""
    before = datetime.now(UTC).replace(tzinfo=None)
    task = api.make()
    after = datetime.now(UTC).replace(tzinfo=None)
    stored = api.row("SELECT created_at, updated_at FROM tasks WHERE id = %s", task["id"])
    assert stored is not None
    assert stored[0] == stored[1]
    assert before - timedelta(seconds=1) < stored[1] <= after
    assert task["updated_at"] == f"{stored[1].isoformat()}Z"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "title"),
        ({"title": ""}, "title"),
        ({"title": "あ" * 256}, "title"),
        ({"title": 5}, "title"),
        ({"title": "nul \x00"}, "title"),
        ({"title": "x", "priority": 6}, "priority"),
        ({"title": "x", "priority": "3"}, "priority"),
        ({"title": "x", "span": 2**31}, "span"),
        ({"title": "x", "requires_approval": "yes"}, "requires_approval"),
        ({"title": "x", "group_task_id": "not-a-uuid"}, "group_task_id"),
        ({"title": "x", "colour": "red"}, "colour"),
        ({"title": "x", "tags": [7, 10**9]}, "tags"),
        ({"title": "x", "tags": [FOREIGN_TAG]}, "tags"),
        ({"title": "x", "tags": [0]}, "tags.0"),
        ({"title": "x", "images": [""]}, "images.0"),
        ({"title": "x", "user_id": 10**9}, "user_id"),
        ({"title": "x", "user_id": STRANGER}, "user_id"),
        ({"title": "x", "source_proposal_id": 10**9}, "source_proposal_id"),
    ],
)
def test_a_bad_body_is_refused_by_field_and_writes_nothing(api: Caller, body: dict[str, Any], field: str) -> None:
    """Prevents orphans and half-made tasks, above all where no foreign key stands behind the check."""
    before = api.row("SELECT count(*), max(id) FROM tasks")
    answer = api.send("POST", "/api/tasks", body)
    assert answer.status_code == 422, answer.text
    assert list(answer.json()["errors"]) == [field]
    assert api.row("SELECT count(*), max(id) FROM tasks") == before


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b'{"title": "\\ud800"}'])
def test_a_body_that_is_no_json_object_is_refused(api: Caller, raw: bytes) -> None:
    """Prevents a 500 for a body that cannot be read."""
    assert api.send("POST", "/api/tasks", raw=raw).status_code == 422


@pytest.mark.parametrize("identity", ["0", "abc", "-1", "1.5", "9223372036854775808", "99999999999999999999999", "８"])
def test_an_id_that_can_be_none_is_not_found(api: Caller, identity: str) -> None:
    """Prevents a 500 for a number that no bigint holds."""
    assert api.send("GET", f"/api/tasks/{identity}").status_code == 404


def test_another_users_task_is_not_found_by_any_endpoint(api: Caller) -> None:
    """Prevents reading or changing what belongs to somebody else."""
    task = api.make()
    path = f"/api/tasks/{task['id']}"
    for method, suffix, body in (
        ("GET", "", None),
        ("PUT", "", {"title": "mine now"}),
        ("DELETE", "", None),
        ("POST", "/complete", None),
        ("POST", "/approve", None),
        ("POST", "/reject", None),
    ):
        answer = api.send(method, path + suffix, body, user=STRANGER)
        assert (answer.status_code, answer.json()) == (404, {"message": "Task not found."}), (method, suffix)
    assert api.send("GET", path).json() == {"task": task}


def test_put_changes_what_stands_in_it_and_syncs_tags(api: Caller) -> None:
    """Prevents a partial change that resets the other fields, and tags that pile up."""
    task = api.make(description="長い説明", reward=50, tags=[7, 8])
    path = f"/api/tasks/{task['id']}"
    changed = api.send("PUT", path, {"title": "新しい題名🎒", "tags": [8, 9], "due_date": None}).json()["task"]
    expected = {**task, "title": "新しい題名🎒", "tags": [8, 9], "updated_at": changed["updated_at"]}
    assert changed == expected
    assert api.send("PUT", path, {"description": None, "tags": []}).json()["task"]["tags"] == []
    assert api.send("GET", path).json()["task"]["description"] is None
    for body in ({}, {"title": None}, {"tags": [FOREIGN_TAG]}, {"user_id": PARENT}, {"priority": None}):
        assert api.send("PUT", path, body).status_code == 422, body


def test_delete_is_soft_and_only_once(api: Caller) -> None:
    """Prevents a lost row: what is deleted stays, with its time."""
    task = api.make(tags=[7])
    path = f"/api/tasks/{task['id']}"
    answer = api.send("DELETE", path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.row("SELECT deleted_at IS NOT NULL, title FROM tasks WHERE id = %s", task["id"]) == (True, task["title"])
    assert api.row("SELECT count(*) FROM task_tag WHERE task_id = %s", task["id"]) == (1,)
    assert api.send("DELETE", path).status_code == 404
    assert api.send("GET", path).status_code == 404
    ids = [item["id"] for item in api.send("GET", "/api/tasks?limit=100").json()["tasks"]]
    assert task["id"] not in ids


def test_complete_approve_and_reject_take_only_their_state(api: Caller) -> None:
    """Prevents approval of what is not done, and a change to what is closed."""
    path = f"/api/tasks/{api.make()['id']}"
    assert [api.send("POST", f"{path}/{verb}").status_code for verb in ("approve", "reject")] == [409, 409]
    done = api.send("POST", f"{path}/complete").json()["task"]
    assert (done["is_completed"], done["completed_at"] is not None) == (True, True)
    assert api.send("POST", f"{path}/complete").status_code == 409
    again = api.send("POST", f"{path}/reject").json()["task"]
    assert (again["is_completed"], again["completed_at"]) == (False, None)
    assert api.send("POST", f"{path}/complete").status_code == 200
    approved = api.send("POST", f"{path}/approve").json()["task"]
    assert (approved["approved_by_user_id"], approved["approved_at"] is not None) == (OWNER, True)
    assert [api.send("POST", f"{path}/{verb}").status_code for verb in ("approve", "reject")] == [409, 409]
    assert api.send("PUT", path, {"title": "too late"}).status_code == 409


def test_who_gave_a_task_approves_it_and_who_has_it_completes_it(api: Caller) -> None:
    """Prevents a pupil's approval of the own work."""
    task = api.make(user=PARENT, user_id=OWNER, requires_image=True)
    assert (task["user_id"], task["assigned_by_user_id"]) == (OWNER, PARENT)
    path = f"/api/tasks/{task['id']}"
    assert api.send("POST", f"{path}/complete", user=PARENT).status_code == 404
    assert list(api.send("POST", f"{path}/complete").json()["errors"]) == ["images"]
    assert api.send("PUT", path, {"requires_image": False}, user=PARENT).status_code == 200
    assert api.send("POST", f"{path}/complete").status_code == 200
    assert api.send("POST", f"{path}/approve").status_code == 404
    assert api.send("POST", f"{path}/approve", user=PARENT).json()["task"]["approved_by_user_id"] == PARENT


def test_the_list_is_paged_and_filtered(api: Caller) -> None:
    """Prevents a page that shows a task twice or never."""
    made = [api.make()["id"] for _ in range(4)]
    api.send("POST", f"/api/tasks/{made[1]}/complete")
    first = api.send("GET", "/api/tasks?limit=2").json()
    second = api.send("GET", f"/api/tasks?limit=2&before_id={first['next_before_id']}").json()
    assert [item["id"] for item in first["tasks"] + second["tasks"]] == made[::-1]
    done = api.send("GET", f"/api/tasks?is_completed=true&before_id={made[2]}&limit=1").json()
    assert [item["id"] for item in done["tasks"]] == [made[1]]
    for query in ("limit=0", "limit=101", "limit=x", "before_id=-1", "is_completed=maybe"):
        assert api.send("GET", f"/api/tasks?{query}").status_code == 422, query
