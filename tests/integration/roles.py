"""The roles of a real night: an operator with the rights of docs/runbook.md's table and no more, and those whom nothing is trusted to."""

from __future__ import annotations

import dataclasses
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side
from tests.conftest import Pair

OPERATOR, MONOLITH, SERVICE, REPORTER = "operator_at_night", "myteacher_app_user", "task_service_user", "reporting"
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
        """docs/runbook.md, 'The operator's role', row by row."""
        admin = self.admin(side)
        operator, service = sql.Identifier(OPERATOR), sql.Identifier(SERVICE)
        for role in (OPERATOR, REPORTER):
            if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone():
                admin.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                        sql.Identifier(role), sql.Literal(PASSWORDS[role])
                    )
                )
        admin.execute(sql.SQL("GRANT pg_read_all_data TO {}").format(sql.Identifier(REPORTER)))
        database = sql.Identifier(admin.info.dbname)
        statements = [
            "ALTER ROLE {operator} REPLICATION CREATEROLE",
            "GRANT pg_create_subscription, pg_read_all_stats TO {operator}",
            "GRANT CREATE ON DATABASE {database} TO {operator}",
            "GRANT SET ON PARAMETER session_replication_role, log_statement, log_min_error_statement, "
            "log_min_duration_statement TO {operator}",
        ]
        if side == "source":
            statements.append("GRANT pg_read_all_data TO {operator}")
        else:
            # Who made a role has ADMIN of it (PostgreSQL, 'CREATE ROLE').
            statements += [
                "GRANT USAGE, CREATE ON SCHEMA public TO {operator} WITH GRANT OPTION",
                "GRANT {service} TO {operator} WITH ADMIN TRUE",
            ]
        for statement in statements:
            admin.execute(sql.SQL(statement).format(operator=operator, service=service, database=database))
        if side == "source":
            self._own_the_moved_tables()

    def _own_the_moved_tables(self) -> None:
        """The monolith keeps what it needs of them, as `preflight` prints; what stays behind stays its own or whose it was."""
        admin, config = self.pair.source, self.pair.settings.config
        operator, monolith = sql.Identifier(OPERATOR), sql.Identifier(MONOLITH)
        admin.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(operator))
        for name in config.tables:
            table = sql.Identifier(config.db_schema, name)
            admin.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, operator))
            admin.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}").format(table, monolith))
        for name in config.referenced_tables:
            table = sql.Identifier(config.db_schema, name)
            admin.execute(sql.SQL("GRANT SELECT, UPDATE (id) ON {} TO {}").format(table, operator))
