"""The load test itself, as a process, through the gateway to the applications, and its ledger against the database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psycopg
import pytest

from scripts.rehearsal import tokens
from scripts.rehearsal.fates import check_ledger
from scripts.rehearsal.ledger import read_ledger
from scripts.support.process import free_port
from tests.integration.rehearsal.app.app_world import PASSWORD, ROLE_PASSWORD, ROLES, ROOT, AppWorld, wait_for
from tests.integration.rehearsal.gateway.gateway_world import GatewayWorld, Upstream

USERS = 20


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the load and the monolith's jobs write."""
    return tmp_path_factory.mktemp("load") / "ledger.jsonl"


@pytest.fixture(scope="module")
def monolith(app_world: AppWorld, ledger: Path) -> str:
    """A monolith with background jobs, on the same database as the others' one."""
    info = app_world.databases["monolith"].info
    variables = {
        **app_world.app_variables(),
        "DATABASE_URL": psycopg.conninfo.make_conninfo(
            host=info.host, port=info.port, dbname=info.dbname, user=ROLES["monolith"], password=ROLE_PASSWORD
        ),
        "APP_JOBS_LEDGER": str(ledger),
    }
    port = free_port()
    arguments = ("scripts.rehearsal.app.server", "--guise", "monolith", "--port", str(port))
    process = app_world.start(*arguments, variables=variables)
    wait_for(f"http://127.0.0.1:{port}/health", process)
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def gateway(app_world: AppWorld, monolith: str) -> Iterator[GatewayWorld]:
    """The gateway in front of the real applications, all traffic to the monolith: nothing replicates here."""
    unused = Upstream("unused")
    with httpx.Client(trust_env=False, timeout=20.0) as http:
        world = GatewayWorld(app_world, unused, unused, http)
        try:
            world.build("load-test")
            world.start(monolith, app_world.urls["task-service"])
            yield world
        finally:
            unused.stop()


def _load(
    world: AppWorld, gateway: GatewayWorld, ledger: Path, directory: Path, seconds: int, **variables: str
) -> subprocess.CompletedProcess[str]:
    database: psycopg.Connection[Any] = world.databases["monolith"]
    query = "SELECT id, group_id FROM users ORDER BY id DESC LIMIT %s"
    users: dict[int, int] = dict(database.execute(query, (USERS,)).fetchall())
    cognito = world.aws.client("cognito-idp")
    tokens.create_users(cognito, world.pool_id, users, PASSWORD)
    given = tokens.tokens_for(cognito, world.client_id, users, PASSWORD)
    tokens.write_tokens_file(directory / "tokens.json", given, users)
    options = ("--headless", "--only-summary", "-u", str(USERS), "-r", str(USERS), "-t", f"{seconds}s")
    return subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", "tests/load/task_service_load_test.py"),
            *(*options, "--host", str(gateway.http.base_url)),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "TASK_LOAD_TOKENS_FILE": str(directory / "tokens.json"),
            "TASK_LOAD_LEDGER": str(ledger),
            "TASK_LOAD_STATS": str(directory / "stats.json"),
            "TASK_LOAD_RATE": "2.5",
            "TASK_LOAD_THINK_SECONDS": "0.2",
            "TASK_LOAD_NOTICE_SECONDS": "0.5",
            "TASK_LOAD_WEIGHTS_URL": f"{gateway.http.base_url}/__gateway/stats",
            "TASK_LOAD_TASK_GROUP": gateway.groups["task"],
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_load_passes_and_every_write_that_it_noted_is_in_the_database(
    app_world: AppWorld, gateway: GatewayWorld, ledger: Path, tmp_path: Path
) -> None:
    """Prevents a load that proves nothing: too few requests, one writer per row, or a ledger that matches anything."""
    before = len(list(read_ledger(ledger))) if ledger.exists() else 0
    done = _load(app_world, gateway, ledger, tmp_path, 8, TASK_LOAD_MAX_P95_MS="5000")
    assert done.returncode == 0, done.stderr
    stats = json.loads((tmp_path / "stats.json").read_text())
    # 400 on an idle machine; a busy one sends fewer, and still proves the same.
    assert stats["requests"] > 50
    # With one database nobody reads stale. The weight is not known before it was asked for.
    assert (stats["failures"], [one["stale"] for one in stats["stale_reads"] if one["stale"]]) == (0, []), stats[
        "problems"
    ]
    assert {one["side"] for one in stats["stale_reads"]} == {"monolith"}
    assert sum(one["reads"] for one in stats["stale_reads"] if one["weight"] == 0) > 0
    assert stats["served_by"] == {"monolith": stats["requests"]}
    entries = list(read_ledger(ledger))[before:]
    assert {entry.op for entry in entries} >= {"create", "update", "complete"}
    assert any(entry.op.startswith("job:") for entry in entries)
    writers: dict[str, set[int | None]] = {}
    for entry in entries:
        for row in entry.rows or ():
            if row.table == "tasks":
                writers.setdefault(row.key, set()).add(entry.user)
    assert any(len(users - {None}) > 1 for users in writers.values()), "no task had two users"
    database: psycopg.Connection[Any] = app_world.databases["monolith"]
    found = check_ledger(entries, database, {})
    acknowledged = [entry for entry in entries if entry.acknowledged]
    assert (found.total, found.lost, found.told, found.lost_items) == (len(acknowledged), 0, 0, [])
    assert sum(not entry.op.startswith("job:") for entry in acknowledged) == stats["acknowledged_writes"]
    made = next(entry.id for entry in entries if entry.op == "create" and entry.acknowledged)
    database.execute("DELETE FROM tasks WHERE id = %s", (made,))
    assert check_ledger(entries, database, {}).lost >= 1


def test_a_load_that_is_too_slow_exits_with_1(
    app_world: AppWorld, gateway: GatewayWorld, ledger: Path, tmp_path: Path
) -> None:
    """Prevents a limit that nothing enforces."""
    done = _load(app_world, gateway, ledger, tmp_path, 2, TASK_LOAD_MAX_P95_MS="0.5")
    assert done.returncode == 1, done.stderr
    assert "limit below 0.5" in done.stderr


class Noting(BaseHTTPRequestHandler):
    """Gives out a cookie as a load balancer does, makes tasks that nobody sees afterwards, and notes who sent which cookie."""

    protocol_version = "HTTP/1.1"
    sent: ClassVar[dict[str, list[str]]] = {}

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if token := self.headers.get("Authorization"):
            self.sent.setdefault(token, []).append(self.headers.get("Cookie", ""))
        status, body = 404, b"{}"
        if self.path.partition("?")[0] == "/api/tasks":
            made: dict[str, Any] = {"task": {"id": len(self.sent)}} if self.command == "POST" else {"tasks": []}
            status, body = (201 if self.command == "POST" else 200), json.dumps(made).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if token:
            expires = formatdate(time.time() + 9, usegmt=True)
            self.send_header("Set-Cookie", f"AWSALBTG={token[-1]}; Expires={expires}; Path=/")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def test_users_keep_cookies_as_browsers_do_but_for_those_who_keep_none(tmp_path: Path) -> None:
    """Prevents a stickiness that is measured with users of one kind, or with users whom no cookie reaches."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Noting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tokens.write_tokens_file(tmp_path / "tokens.json", {n: f"token-{n}" for n in range(10)}, {n: n for n in range(10)})
    command = [sys.executable, "-m", "locust", "-f", "tests/load/task_service_load_test.py", "--headless", "-u", "10"]
    try:
        subprocess.run(
            [*command, "-r", "10", "-t", "8s", "--host", f"http://127.0.0.1:{server.server_port}"],
            cwd=ROOT,
            env={
                **os.environ,
                "TASK_LOAD_TOKENS_FILE": str(tmp_path / "tokens.json"),
                "TASK_LOAD_LEDGER": str(tmp_path / "ledger.jsonl"),
                "TASK_LOAD_STATS": str(tmp_path / "stats.json"),
                "TASK_LOAD_RATE": "5",
                "TASK_LOAD_PAUSE_SECONDS": "0",
                "TASK_LOAD_WITHOUT_COOKIES": "20",
            },
            capture_output=True,
            timeout=60,
            check=False,
        )
    finally:
        server.shutdown()
        server.server_close()
    kept = {token[-1]: set(cookies) for token, cookies in Noting.sent.items()}
    # A first request brings none; what was answered is brought back, a user's own.
    assert kept == {n: {""} if n in "49" else {"", f"AWSALBTG={n}"} for n in "0123456789"}
    assert {
        len([cookie for cookie in cookies if not cookie])
        for token, cookies in Noting.sent.items()
        if token[-1] not in "49"
    } == {1}
    found = json.loads((tmp_path / "stats.json").read_text())["stale_reads"]
    assert {one["cookies"] for one in found if one["stale"]} == {True, False}
