"""Preflight of the operator: what is his alone, and rights that no command refuses to work without."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import helper_schema
from scripts.database.connections import Connection, scalar
from scripts.preflight.documents import Check
from scripts.support.sides import Side

#: A right, SQL that answers true or fails without it, what cannot be done then, and what gives it.
RIGHTS = (
    (
        "end other sessions",
        "SELECT pg_has_role(current_user, 'pg_signal_backend', 'USAGE')",
        "sessions that a finding names have to be ended by somebody else",
        "GRANT pg_signal_backend TO {}",
    ),
    (
        "deadlock_timeout",
        "SELECT set_config('deadlock_timeout', '50ms', true) IS NOT NULL",
        "in a deadlock of what applies with the application it may be the application that is told to try again",
        "GRANT SET ON PARAMETER deadlock_timeout TO {}",
    ),
    (
        "progress of what applies",
        "SELECT has_function_privilege('pg_replication_origin_progress(text, boolean)', 'EXECUTE')",
        "`replicate start` does not see by the log's position that a side was restored to an older state",
        "GRANT EXECUTE ON FUNCTION pg_replication_origin_progress(text, boolean) TO {}",
    ),
)


def checks(config: MigrationConfig, side: Side, connection: Connection) -> Iterator[Check]:
    """The helper schema, which is his alone, and :data:`RIGHTS`, each tried."""
    found = helper_schema.exposed(connection, config)
    yield Check(
        f"{side}: schema {helper_schema.HELPER_SCHEMA}",
        "fail" if found else "pass",
        "; ".join(one.detail for one in found) or "nobody else's, and open to nobody else",
        "; ".join(one.remedy for one in found),
    )
    role = str(scalar(connection, "SELECT quote_ident(current_user)"))
    for name, query, without, remedy in RIGHTS:
        has = _answers(connection, query)
        yield Check(
            f"{side}: {name}", "pass" if has else "warn", "may" if has else f"may not: {without}", remedy.format(role)
        )


def _answers(connection: Connection, query: str) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            return bool(scalar(connection, sql.SQL(query)))
    except psycopg.errors.InsufficientPrivilege:
        return False
