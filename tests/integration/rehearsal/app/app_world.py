"""Both guises of the stand-in application as processes, on real PostgreSQL, with tokens of the emulated Cognito."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal import tokens
from scripts.rehearsal.data.fill import populate
from scripts.rehearsal.data.schema import create_source_schema
from scripts.rehearsal.world import EmulatedAws
from scripts.support.process import free_port
from scripts.support.wait import wait_until

ROOT = Path(__file__).resolve().parents[4]
PASSWORD = "Passw0rd!made-up"
ROLE_PASSWORD = "role-made-up"
CROSSING = (
    ("tasks", "tasks_user_id_foreign"),
    ("tasks", "tasks_assigned_by_user_id_foreign"),
    ("tasks", "tasks_approved_by_user_id_foreign"),
    ("tasks", "tasks_source_proposal_id_foreign"),
    ("task_tag", "task_tag_tag_id_foreign"),
    ("scheduled_group_tasks", "scheduled_group_tasks_group_id_foreign"),
    ("scheduled_group_tasks", "scheduled_group_tasks_created_by_foreign"),
    ("scheduled_group_tasks", "scheduled_group_tasks_assigned_user_id_foreign"),
)
ROLES = {"monolith": "app_test_monolith", "task-service": "app_test_service"}
#: Ids of the generated users: five of the first group, one of the second.
OWNER, PARENT, STRANGER = 2, 1, 6


def wait_for(url: str, process: subprocess.Popen[bytes], timeout: float = 20.0) -> None:
    """Wait until something answers; fails at once when the process has ended."""

    def answers() -> bool:
        try:
            httpx.get(url, trust_env=False, timeout=2.0)
        except httpx.TransportError:
            assert process.poll() is None, f"the process for {url} ended with {process.returncode}"
            return False
        return True

    wait_until(answers, bool, what=f"{url} to answer", timeout=timeout, interval=0.05)


@dataclass
class AppWorld:
    """What the tests of the applications, the gateway and the load share."""

    aws: EmulatedAws
    directory: Path
    urls: dict[str, str] = field(default_factory=dict)
    databases: dict[str, psycopg.Connection[Any]] = field(default_factory=dict)
    tokens: dict[int, str] = field(default_factory=dict)
    pool_id: str = ""
    client_id: str = ""
    issuer: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a module of the project as a process; it is stopped at the end of the run."""
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.aws.environment(), **variables},
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """Stop every process that :meth:`start` started."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for connection in self.databases.values():
            connection.close()

    def login_users(self) -> None:
        """A pool and a client, and the tokens of the users that the tests speak as."""
        cognito = self.aws.client("cognito-idp")
        self.pool_id = cognito.create_user_pool(PoolName="apps")["UserPool"]["Id"]
        made = cognito.create_user_pool_client(UserPoolId=self.pool_id, ClientName="web")
        self.client_id = made["UserPoolClient"]["ClientId"]
        self.issuer = f"https://cognito-idp.{self.aws.region}.amazonaws.com/{self.pool_id}"
        users = [OWNER, PARENT, STRANGER, 999_999]
        tokens.create_users(cognito, self.pool_id, users, PASSWORD)
        self.tokens = tokens.tokens_for(cognito, self.client_id, users, PASSWORD)

    def make_databases(self, server: EmbeddedPostgres) -> dict[str, str]:
        """Guise -> URL as the guise's role. The Task Service's database has no foreign keys across the border."""
        urls = {}
        for guise, role in ROLES.items():
            name = f"app_{guise.replace('-', '_')}"
            server.execute(f"CREATE DATABASE {name}")
            connection = self.databases[guise] = psycopg.connect(server.url(name), autocommit=True)
            create_source_schema(connection)
            populate(connection, rows=300)
            if guise == "task-service":
                for table, constraint in CROSSING:
                    connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}".encode())
                connection.execute("DROP TABLE task_proposals, tags, users, groups")
                connection.execute("SELECT setval('tasks_id_seq', 1000000000)")
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{ROLE_PASSWORD}'".encode())
            connection.execute(
                f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}".encode()
            )
            connection.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}".encode())
            urls[guise] = server.url(name, role, ROLE_PASSWORD)
        return urls

    def app_variables(self) -> dict[str, str]:
        """Environment that tells an application whose tokens to accept."""
        jwks = f"{self.aws.endpoint_url}/{self.pool_id}/.well-known/jwks.json"
        return {"JWKS_URL": jwks, "ISSUER": self.issuer, "AUDIENCE": self.client_id}

    def start_apps(self, urls: Mapping[str, str]) -> None:
        """Start both guises and wait until they answer."""
        started = {}
        for guise in ("monolith", "task-service"):
            port = free_port()
            variables = {
                **self.app_variables(),
                "DATABASE_URL": urls[guise],
                "MONOLITH_DATABASE_URL": urls["monolith"],
                "APP_TASKS_OFF_FILE": str(self.off_file(guise)),
            }
            arguments = ("scripts.rehearsal.app.server", "--guise", guise, "--port", str(port))
            self.urls[guise] = f"http://127.0.0.1:{port}"
            started[guise] = self.start(*arguments, variables=variables)
        for guise, process in started.items():
            wait_for(f"{self.urls[guise]}/health", process)

    def off_file(self, guise: str) -> Path:
        """While this file exists, the guise's task endpoints are off."""
        return self.directory / f"{guise}.off"


class Caller:
    """One guise, spoken to by one user."""

    def __init__(self, world: AppWorld, guise: str) -> None:
        self.world, self.guise = world, guise
        self.database = world.databases[guise]
        self.http = httpx.Client(base_url=world.urls[guise], trust_env=False, timeout=10.0)

    def send(
        self, method: str, path: str, body: Any = None, *, user: int = OWNER, raw: bytes | None = None
    ) -> httpx.Response:
        """One request with the user's token; ``raw`` instead of JSON for bodies that are none."""
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.world.tokens[user]}"}
        return self.http.request(method, path, content=content, headers=headers)

    def make(self, user: int = OWNER, **fields: Any) -> dict[str, Any]:
        """A new task, as the API answers it."""
        answer = self.send("POST", "/api/tasks", {"title": "課題📚", **fields}, user=user)
        assert answer.status_code == 201, answer.text
        return dict(answer.json()["task"])

    def row(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        """One row of the guise's database, by another connection than the application's."""
        return self.database.execute(query.encode(), values).fetchone()
