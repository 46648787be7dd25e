"""The operator of a rehearsal and of the tests: no superuser, as RDS gives none, but with the rights of docs/runbook.md's table."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.schema.operator import rights
from scripts.support.sides import Side


def appoint(admin: psycopg.Connection[Any], side: Side, config: MigrationConfig, operator: str, password: str) -> None:
    """Make the role ``operator`` in the database of ``admin``, a superuser's session, and give it what it needs on ``side``.

    The source's tables are there already, and so is the monolith's role; a role that is there keeps its password.
    """
    if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (operator,)).fetchone():
        made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        admin.execute(made.format(sql.Identifier(operator), sql.Literal(password)))
    parts = [("plain", ""), ("database", ""), ("schema", "")]
    if side == "source":
        parts += [("source", ""), *(("moved", table) for table in config.tables)]
        parts += [("stays", table) for table in config.referenced_tables]
    for part, table in parts:
        for statement in rights(part, admin, config, operator, table):
            admin.execute(statement)
