"""The operator of a rehearsal and of the tests: no superuser, as RDS gives none, but with the rights of docs/runbook.md's table."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import queries
from scripts.support.sides import Side

RIGHTS = queries.load("scripts.rehearsal.data", "operator.sql")


def appoint(admin: psycopg.Connection[Any], side: Side, config: MigrationConfig, operator: str, password: str) -> None:
    """Make the role ``operator`` in the database of ``admin``, a superuser's session, and give it what it needs on ``side``.

    The source's tables are there already, and so is the monolith's role; a role that is there keeps its password.
    """
    role = sql.Identifier(operator)
    names = {
        "operator": role,
        "database": sql.Identifier(admin.info.dbname),
        "schema": sql.Identifier(config.db_schema),
        "application": sql.Identifier(config.source_role),
    }
    if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (operator,)).fetchone():
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
    admin.execute(sql.SQL(RIGHTS["both"]).format(**names))
    if side == "target":
        return
    admin.execute(sql.SQL(RIGHTS["source"]).format(**names))
    for part, tables in (("moved", config.tables), ("stays", config.referenced_tables)):
        for name in tables:
            admin.execute(sql.SQL(RIGHTS[part]).format(table=sql.Identifier(config.db_schema, name), **names))
