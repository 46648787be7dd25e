"""The load test itself, as a process, through the gateway to the applications, and its ledger against the database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from scripts.rehearsal import tokens
from scripts.rehearsal.ledger import check_ledger, read_ledger
from tests.integration.rehearsal.app.app_world import PASSWORD, ROOT, AppWorld
from tests.integration.rehearsal.gateway.gateway_world import GatewayWorld, Upstream

USERS = 20


@pytest.fixture(scope="module")
def gateway(app_world: AppWorld) -> Iterator[GatewayWorld]:
    """The gateway in front of the real applications, all traffic to the monolith: nothing replicates here."""
    unused = Upstream("unused")
    with httpx.Client(trust_env=False, timeout=20.0) as http:
        world = GatewayWorld(app_world, unused, unused, http)
        try:
            world.build("load-test")
            world.start("load-test", app_world.urls["monolith"], app_world.urls["task-service"])
            yield world
        finally:
            unused.stop()


def _load(
    world: AppWorld, gateway: GatewayWorld, directory: Path, seconds: int, **variables: str
) -> subprocess.CompletedProcess[str]:
    database: psycopg.Connection[Any] = world.databases["monolith"]
    users = [row[0] for row in database.execute("SELECT id FROM users ORDER BY id DESC LIMIT %s", (USERS,)).fetchall()]
    cognito = world.aws.client("cognito-idp")
    tokens.create_users(cognito, world.pool_id, users, PASSWORD)
    tokens.write_tokens_file(directory / "tokens.json", tokens.tokens_for(cognito, world.client_id, users, PASSWORD))
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
            "TASK_LOAD_LEDGER": str(directory / "ledger.jsonl"),
            "TASK_LOAD_STATS": str(directory / "stats.json"),
            "TASK_LOAD_RATE": "2.5",
            "TASK_LOAD_THINK_SECONDS": "0.2",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_load_passes_and_every_write_that_it_noted_is_in_the_database(
    app_world: AppWorld, gateway: GatewayWorld, tmp_path: Path
) -> None:
    """Prevents a load that proves nothing: too few requests, no writes, or a ledger that matches anything."""
    done = _load(app_world, gateway, tmp_path, 6, TASK_LOAD_MAX_P95_MS="5000")
    assert done.returncode == 0, done.stderr
    stats = json.loads((tmp_path / "stats.json").read_text())
    # 300 on an idle machine; a busy one sends fewer, and still proves the same.
    assert stats["requests"] > 50
    assert (stats["failures"], stats["lag_misses"], stats["stale_reads"]) == (0, 0, 0), stats["problems"]
    assert stats["served_by"] == {"monolith": stats["requests"]}
    entries = list(read_ledger(tmp_path / "ledger.jsonl"))
    assert {entry.op for entry in entries} >= {"create", "update", "complete"}
    database: psycopg.Connection[Any] = app_world.databases["monolith"]
    found = check_ledger(tmp_path / "ledger.jsonl", database)
    assert found.plain() == {"total": stats["acknowledged_writes"], "lost": 0, "lost_items": []}
    database.execute("DELETE FROM tasks WHERE id = %s", (entries[0].id,))
    assert check_ledger(tmp_path / "ledger.jsonl", database).lost >= 1


def test_a_load_that_is_too_slow_exits_with_1(app_world: AppWorld, gateway: GatewayWorld, tmp_path: Path) -> None:
    """Prevents a limit that nothing enforces."""
    done = _load(app_world, gateway, tmp_path, 2, TASK_LOAD_MAX_P95_MS="0.5")
    assert done.returncode == 1, done.stderr
    assert "limit below 0.5" in done.stderr
