"""The two PostgreSQL servers of a rehearsal: the monolith's, filled, and the Task Service's, empty."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import queries
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.rehearsal.data.fill import populate
from scripts.rehearsal.data.operator import appoint
from scripts.rehearsal.data.schema import create_source_schema
from scripts.support.errors import Refused
from scripts.support.redact import remember_secret
from scripts.support.sides import Side

SQL = queries.load("scripts.rehearsal")
#: docs/plan.md, 'The data'.
SOURCE_DATABASE, TARGET_DATABASE = "myteacher_production", "task_service_production"
#: No superuser, as RDS gives none: a rehearsal with one would pass where the night's operator is refused.
OPERATOR = MigrationConfig().operator_role
#: The target's master; a superuser, as nobody else gives on plain PostgreSQL what RDS's master does.
MASTER = "task_service_admin"


class Databases:
    """Both servers below ``directory``. The constructor starts nothing; ``settings`` are PostgreSQL's, for both."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None) -> None:
        self._directory = directory
        self._source = EmbeddedPostgres(directory, "source", settings=settings)
        self.target = EmbeddedPostgres(directory, "target", settings=settings)
        self.rows_made: dict[str, int] = {}
        self._passwords = {name: secrets.token_urlsafe(18) for name in (OPERATOR, MASTER)}
        self._target_operator = ""

    @property
    def source_url(self) -> str:
        """The source as the operator sees it."""
        return self._source.url(SOURCE_DATABASE, OPERATOR, self._passwords[OPERATOR])

    @property
    def target_url(self) -> str:
        """The target as the operator sees it, once there is one: :meth:`know_operator`."""
        return self.target.url(TARGET_DATABASE, OPERATOR, self._target_operator)

    @property
    def master_url(self) -> str:
        """The target as its master sees it."""
        return self.target.url(TARGET_DATABASE, MASTER, self._passwords[MASTER])

    def server(self, side: Side) -> EmbeddedPostgres:
        """A side's server, as AWS has it."""
        return self._source if side == "source" else self.target

    def know_operator(self, password: str) -> None:
        """`schema role --operator` has made the target's operator, with this password."""
        remember_secret(password)
        self._target_operator = password

    def monolith_url(self) -> str:
        """The source as the monolith's role sees it."""
        role = MigrationConfig().source_role
        return self._source.url(SOURCE_DATABASE, role, self._passwords[role])

    def service_url(self) -> str:
        """The target as the Task Service's role sees it."""
        return self.target.url(TARGET_DATABASE, MigrationConfig().target_role, self.service_password())

    def service_password(self) -> str:
        """The password of the Task Service's role."""
        return self._passwords[MigrationConfig().target_role]

    def start_source(self, rows: int, seed: int) -> None:
        """Start the monolith's server and fill it: so many tasks, the other tables in proportion."""
        self._source.start()
        self._source.execute(f"CREATE DATABASE {SOURCE_DATABASE}")
        with psycopg.connect(self._source.url(SOURCE_DATABASE), autocommit=True) as admin:
            create_source_schema(admin)
            self.rows_made = populate(admin, rows, seed)
            self._make_role(admin, MigrationConfig().source_role)
            appoint(admin, "source", MigrationConfig(), OPERATOR, self._passwords[OPERATOR])
            admin.execute("ANALYZE")

    def start_target(self) -> None:
        """Start the Task Service's server with an empty database, its master and the Task Service's role; no operator yet."""
        self.target.start()
        self.target.execute(f"CREATE DATABASE {TARGET_DATABASE}")
        with psycopg.connect(self.target.url(TARGET_DATABASE), autocommit=True) as admin:
            password = sql.Literal(self._passwords[MASTER])
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(sql.Identifier(MASTER), password)
            )
            self._make_role(admin, MigrationConfig().target_role)

    def stop(self, logs: Path) -> None:
        """Stop both and delete their data; their logs stay in ``logs``."""
        for server in (self._source, self.target):
            server.stop()
            if server.log.exists():
                shutil.copyfile(server.log, logs / f"postgres-{server.name}.log")
            server.remove()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _make_role(self, connection: psycopg.Connection[Any], name: str) -> None:
        """Make an application's role with a random password and what Laravel's role has: rows, no DDL."""
        password = self._passwords[name] = secrets.token_urlsafe(18)
        remember_secret(password)
        role = sql.Identifier(name)
        for statement in (
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)),
            sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role),
            sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(role),
            sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(role),
        ):
            connection.execute(statement)

    def users(self, count: int) -> dict[int, int]:
        """The first ``count`` users of the monolith, two at least, each with its group. Raises Refused when there are fewer."""
        with psycopg.connect(self.source_url) as connection:
            query = "SELECT id, group_id FROM users ORDER BY id LIMIT %s"
            found = {int(row[0]): int(row[1]) for row in connection.execute(query, (max(count, 2),))}
        if len(found) < count:
            raise Refused(f"the load has {count} users, the generated data {len(found)}; lower --users or raise --rows")
        return found

    def neighbours(self, user: int) -> tuple[int | None, int | None]:
        """A user of the group that ``user`` is in, and one of another group."""
        with psycopg.connect(self.source_url) as connection:
            member, stranger = connection.execute(SQL["neighbours"].encode(), (user,)).fetchone() or (None, None)
        return member, stranger
