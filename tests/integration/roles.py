"""The roles of a real night: an operator with the rights of docs/runbook.md's table and no more, and those whom nothing is trusted to."""

from __future__ import annotations

import dataclasses
from typing import Any

import psycopg
from pydantic import SecretStr

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.data.operator import appoint
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from tests.conftest import CAST, Pair

OPERATOR, REPORTER = CAST
MONOLITH, SERVICE = "myteacher_app_user", "task_service_user"
#: `make_pair` gives the two applications' roles theirs.
PASSWORDS = {
    OPERATOR: "pass-of-operator",
    MONOLITH: "secret-of-role",
    SERVICE: "secret-of-role",
    REPORTER: "pass-of-reporter",
}


class Cast:
    """A pair as its roles see it: `settings` are the operator's; nobody here is a superuser but `pair.source` and `pair.target`."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        for side in BOTH:
            self._appoint(side)
        self.settings: Settings = dataclasses.replace(
            pair.settings,
            source_url=SecretStr(self.url("source", OPERATOR)),
            target_url=SecretStr(self.url("target", OPERATOR)),
        )

    def server(self, side: Side) -> EmbeddedPostgres:
        """The server of a side."""
        return self.pair.source_server if side == "source" else self.pair.target_server

    def admin(self, side: Side) -> psycopg.Connection[Any]:
        """A superuser's session with the database of a side, which no command of ours has."""
        return self.pair.source if side == "source" else self.pair.target

    def url(self, side: Side, role: str) -> str:
        """The connection string of a role."""
        return self.server(side).url(self.admin(side).info.dbname, role, PASSWORDS[role])

    def session(self, side: Side, role: str, **options: Any) -> psycopg.Connection[Any]:
        """A session of a role, as it would open one itself."""
        return psycopg.connect(self.url(side, role), autocommit=True, **options)

    def _appoint(self, side: Side) -> None:
        admin = self.admin(side)
        appoint(admin, side, self.pair.settings.config, OPERATOR, PASSWORDS[OPERATOR])
        if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (REPORTER,)).fetchone():
            admin.execute(f"CREATE ROLE {REPORTER} LOGIN PASSWORD '{PASSWORDS[REPORTER]}'".encode())
        admin.execute(f"GRANT pg_read_all_data TO {REPORTER}".encode())
        if side == "target":
            # Who made a role has ADMIN of it (PostgreSQL, 'CREATE ROLE').
            admin.execute(f"GRANT {SERVICE} TO {OPERATOR} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE".encode())
