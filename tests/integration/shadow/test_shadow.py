"""Shadow reads of both stand-in applications, each on its own server, while users write: what a port gets wrong is found, by its field."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from scripts.canary.stage import Stage
from scripts.copy import run as copy
from scripts.database import helper_schema
from scripts.rehearsal.processes import Processes
from scripts.rehearsal.tokens import USER_PREFIX
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.shadow import run as shadow
from scripts.shadow.documents import Shadow
from scripts.support.errors import Refused
from scripts.support.process import free_port
from scripts.support.settings import PROJECT_ROOT
from tests.conftest import Pair
from tests.integration.test_chain import MakePair

SMOKE = {"X-Task-Service-Smoke": "made-up-smoke-value"}
ISSUER, AUDIENCE = "https://issuer.example/pool", "web"
#: Two of one group.
USERS = (2, 3)
#: More than a page of each user, some deleted, with tags, rewards and an approval.
TASKS = """
INSERT INTO tasks (user_id, title, span, reward, is_completed, completed_at, approved_at, deleted_at, created_at, updated_at)
SELECT u, '宿題📚 ' || n, n, 10 * n, mod(n, 2) = 0, CASE mod(n, 2) WHEN 0 THEN timestamp '2026-11-01' END,
       CASE mod(n, 4) WHEN 0 THEN timestamp '2026-11-02' END, CASE mod(n, 7) WHEN 0 THEN timestamp '2026-11-03' END,
       timestamp '2026-10-01', timestamp '2026-10-02'
FROM unnest(%(users)s::bigint[]) u, generate_series(1, 40) n
"""
TAGS = """
INSERT INTO task_tag SELECT t.id, g.id FROM tasks t JOIN tags g ON g.user_id = t.user_id
WHERE t.user_id = ANY(%(users)s) AND mod(t.id + g.id, 2) = 0 ON CONFLICT DO NOTHING
"""
#: What each fault shows in the lists: fields with the kinds that they may differ by while rows come and go.
FAULTS = {
    "zone": {f"tasks[].{name}": {"time"} for name in ("approved_at", "completed_at", "created_at", "updated_at")},
    "deleted": {"tasks[]": {"extra", "missing", "length"}, "next_before_id": {"value", "type"}},
    "page": {"tasks[]": {"length", "missing"}, "next_before_id": {"value", "type"}},
    "number": {"tasks[].reward": {"type"}},
    "tag": {"tasks[].tags[]": {"missing"}},
}


class Balancer(httpx.BaseTransport):
    """The listener's two rules at weight 0: the smoke header leads to the Task Service, everything else to the monolith."""

    def __init__(self, monolith: str, service: str) -> None:
        self._way = httpx.HTTPTransport()
        self._monolith, self._service = httpx.URL(monolith), httpx.URL(service)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        smoke = all(request.headers.get(name) == value for name, value in SMOKE.items())
        at = self._service if smoke else self._monolith
        request.url = request.url.copy_with(host=at.host, port=at.port)
        return self._way.handle_request(request)

    def close(self) -> None:
        self._way.close()


@contextmanager
def issuer(key: RSAKey) -> Iterator[str]:
    """Where the applications read the keys of the tokens' issuer."""
    content = json.dumps(KeySet([key]).as_dict(private=False)).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Writers:
    """Users at work on the monolith all the time: they change, complete, make and delete tasks."""

    def __init__(self, url: str, tokens: list[str]) -> None:
        self._over, self.written = threading.Event(), 0
        self._threads = [threading.Thread(target=self._work, args=(url, token, Random(token))) for token in tokens]

    def _work(self, url: str, token: str, random: Random) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=10.0) as client:
            while not self._over.wait(0.02):
                page = client.get("/api/tasks").raise_for_status().json()["tasks"]
                one = f"/api/tasks/{random.choice(page)['id']}"
                method, path, body = random.choice([
                    ("PUT", one, {"title": f"変更 {random.getrandbits(30)}"}), ("PUT", one, {"span": random.getrandbits(20)}),
                    ("PUT", one, {"reward": random.getrandbits(20)}), ("POST", f"{one}/complete", None),
                    ("POST", f"{one}/reject", None), ("POST", "/api/tasks", {"title": "新しい"}), ("DELETE", one, None),
                ])  # fmt: skip
                answer = client.request(method, path, json=body)
                assert answer.status_code in (200, 201, 204, 404, 409), answer.text
                self.written += answer.is_success

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def applications(pair: Pair, directory: Path, keys: str) -> Iterator[tuple[str, str]]:
    """Monolith and Task Service, each on its database; their addresses."""
    processes = Processes(directory)
    shared = {
        "PYTHONPATH": str(PROJECT_ROOT), "JWKS_URL": keys, "ISSUER": ISSUER, "AUDIENCE": AUDIENCE,
        "MONOLITH_DATABASE_URL": pair.settings.source(), "APP_FAULT": str(directory / "fault"),
    }  # fmt: skip
    modules = {"monolith": "scripts.rehearsal.app.server", "task-service": "tests.integration.shadow.faulty"}
    databases = {"monolith": pair.settings.source(), "task-service": pair.settings.target()}
    urls = {guise: f"http://127.0.0.1:{free_port()}" for guise in modules}
    try:
        for guise, module in modules.items():
            options = ("--guise", guise, "--port", urls[guise].rpartition(":")[2])
            command = [sys.executable, "-m", module, *options]
            processes.start(guise, command, {**shared, "DATABASE_URL": databases[guise]})
        for guise, url in urls.items():
            processes.serves(guise, f"{url}/health")
        yield urls["monolith"], urls["task-service"]
    finally:
        processes.stop_all()


@pytest.mark.timeout(180)
def test_on_live_load_each_seeded_difference_is_found_by_its_field_and_nothing_else_is(
    make_pair: MakePair, tmp_path: Path
) -> None:
    """Prevents a first user who finds other times, rows, pages, types or tags; and an alarm about what users write meanwhile."""
    pair = make_pair(rows=200)
    for statement in (TASKS, TAGS):
        pair.source.execute(statement.encode(), {"users": list(USERS)})
    schema.apply(pair.settings)
    stage = cast(
        Stage,
        SimpleNamespace(
            settings=pair.settings,
            declared_weight=lambda: 0,
            load_balancer=SimpleNamespace(weight=lambda: 0),
            service=None,
            smoke_headers=lambda: SMOKE,
            smoke_rule_leads=lambda: True,
        ),
    )
    key = RSAKey.generate_key(2048, {"kid": "one"}, auto_kid=False)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 3600}
    tokens = [
        jwt.encode({"alg": "RS256", "kid": "one"}, {**claims, "cognito:username": f"{USER_PREFIX}{user}"}, key)
        for user in USERS
    ]
    (tmp_path / "tokens").write_text("\n".join(tokens))
    (tmp_path / "fault").write_text("")
    with issuer(key) as keys, applications(pair, tmp_path, keys) as urls:

        def look(fault: str = "") -> Shadow:
            (tmp_path / "fault").write_text(fault)
            # Where everything differs, everything is asked for three times: one user is enough to see it.
            users, way = 1 if fault else len(USERS), Balancer(*urls)
            return shadow.run(stage, "http://api", tmp_path / "tokens", users=users, rate=1000.0, transport=way)

        with pytest.raises(Refused, match="no fence without replication"):
            look()
        copy.run(pair.settings)
        replicate.start(pair.settings)
        with Writers(urls[0], tokens) as writers:
            right = look()
            assert right.match, right
            assert right.told_apart
            listing, showing = right.endpoints
            assert min(listing.answers, showing.answers) > 3
            assert listing.unsettled <= 1
            assert listing.different == showing.different == 0
            assert set(listing.unseen) <= {"next_before_id", "tasks[].approved_by_user_id", "tasks[].assigned_by_user_id",
                                           "tasks[].description", "tasks[].due_date", "tasks[].group_task_id",
                                           "tasks[].source_proposal_id"}  # fmt: skip
            for fault, fields in FAULTS.items():
                found = look(fault)
                assert not found.match, fault
                assert 0 < found.endpoints[0].different <= found.endpoints[0].answers, fault
                differing = {(one.field, one.kind) for one in found.endpoints[0].differences}
                assert next(iter(fields)) in {name for name, _ in differing}, (fault, differing)
                assert all(kind in fields.get(name, ()) for name, kind in differing), (fault, differing)
                kept = helper_schema.get(pair.source, helper_schema.SHADOWED)
                assert kept["match"] is False
            before = writers.written
            assert look().match
            assert before > 20
            assert writers.written > before
    kept = helper_schema.get(pair.source, helper_schema.SHADOWED)
    assert (kept["match"], kept["copy"]) == (True, helper_schema.get(pair.target, helper_schema.COPY)["run"])
