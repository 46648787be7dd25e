"""The role that replication logs in with, one a side: it reads that side's record of writes and its log, and owns nothing.

Its password is random, made here, and known to nobody: the publisher has its SCRAM verifier, the subscription on the other
side the password itself. With AWS DMS it is the one of the side's secret, which DMS reads.
"""

from __future__ import annotations

import secrets
from typing import Any

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import queries, secrecy
from scripts.database.connections import Connection, scalar
from scripts.support.errors import Refused
from scripts.support.sides import Side, other
from scripts.writes import record

_QUERIES = queries.load("scripts.replication")


def _found(connection: Connection, config: MigrationConfig) -> tuple[Any, ...] | None:
    # On RDS only rds_superuser may set what DMS's sessions set.
    allowed = ["rds_replication", *(["rds_superuser"] if config.replication_engine == "dms" else [])]
    given = {"role": config.replication_role, "allowed": allowed}
    return connection.execute(_QUERIES["replication_role"], given).fetchone()


def problem(publisher: Connection, config: MigrationConfig) -> str | None:
    """Why a role that is there already is none for replication, in words; None when it is, or is not there."""
    row, role = _found(publisher, config), config.replication_role
    if row is None:
        return None
    itself, powers, owned, memberships, members, may = row
    name = sql.Identifier(role).as_string(publisher)
    if itself:
        return f"{name} is the operator's own role; set replicationRole to another"
    found = [
        *(f"it is {power}" for power in powers),
        *(f"it owns {thing}" for thing in owned),
        *(f"it is in {group}" for group in memberships),
        *(f"{member} is in it, and may take its place" for member in members),
    ]
    if found:
        return (
            f"{name} may do more than replicate: {'; '.join(found)}; take that away, or set replicationRole to another"
        )
    if not may:
        user = sql.Identifier(publisher.info.user).as_string(publisher)
        return f"{name} was made by somebody else, and {user} may not set its password: GRANT {name} TO {user} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE; or DROP ROLE {name}"  # fmt: skip
    return None


def ensure(publisher: Connection, config: MigrationConfig, side: Side) -> bool:
    """Make the role if it is not there, without a password, and give it what it needs; returns whether it was made.

    Raises:
        Refused: a role of that name may do more, or the operator may not make or change it.
    """
    role = sql.Identifier(config.replication_role)
    wrong = problem(publisher, config)
    if wrong is not None:
        raise Refused(f"the {side}: {wrong}")
    there = publisher.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (config.replication_role,)).fetchone()
    managed = publisher.execute("SELECT 1 FROM pg_roles WHERE rolname = 'rds_replication'").fetchone()
    try:
        with publisher.transaction():
            if not there:
                publisher.execute(
                    sql.SQL("CREATE ROLE {} LOGIN{}").format(role, sql.SQL("" if managed else " REPLICATION"))
                )
                if managed:
                    # On RDS nobody may give the attribute (Amazon RDS, 'Setting up logical replication').
                    publisher.execute(sql.SQL("GRANT rds_replication TO {}").format(role))
            if config.replication_engine == "dms":
                _serve_dms(publisher, role)
            _grant(publisher, config, side, role)
    except psycopg.errors.InsufficientPrivilege:
        user = sql.Identifier(publisher.info.user).as_string(publisher)
        raise Refused(
            f"{user} may not make the role {config.replication_role} on the {side}: ALTER ROLE {user} CREATEROLE REPLICATION "
            f"(RDS: GRANT rds_replication TO {user} WITH ADMIN OPTION)"
        ) from None
    return not there


def _serve_dms(publisher: Connection, role: sql.Identifier) -> None:
    """What DMS's sessions set, as far as the operator may hand that on (`preflight` tries it as that role); and DMS's own tables, which
    belong to it, are the operator's to read."""
    if publisher.info.server_version >= 150000:
        publisher.execute(sql.SQL("GRANT SET ON PARAMETER session_replication_role TO {}").format(role))
    if scalar(publisher, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False:
        publisher.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(role))


def _grant(publisher: Connection, config: MigrationConfig, side: Side, role: sql.Identifier) -> None:
    """What it may read; nothing before the record is there. AWS DMS writes the other side's record, and tables of its own
    (AWS DMS, 'Using a PostgreSQL database as a target', control tables)."""
    peer = other(side)
    rights = [("USAGE", sql.SQL("SCHEMA task_migration")), ("SELECT", record.table(side))]
    if config.replication_engine == "dms":
        rights += [("CREATE", sql.SQL("SCHEMA task_migration")), ("SELECT, INSERT, DELETE", record.table(peer))]
    if scalar(publisher, "SELECT to_regclass(%s)", (f"task_migration.{record.table_name(side)}",)) is None:
        return
    for what, where in rights:
        publisher.execute(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(what), where, role))


def set_password(
    publisher: Connection, role: str, password: str | None = None, *, force: bool = False
) -> tuple[str, list[str]]:
    """Give the role ``password``, else a new one; returns it, and what might show it to others (see :func:`secrecy.execute`). The
    server gets its verifier alone."""
    password = password or secrets.token_urlsafe(32)
    verifier = publisher.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    warnings = secrecy.execute(
        publisher, sql.SQL("ALTER ROLE {} PASSWORD ").format(sql.Identifier(role)), verifier, force=force
    )
    return password, warnings


def leftovers(connection: Connection, config: MigrationConfig) -> list[str]:
    """The role, in words, where it is there and this session's role may drop it, as who made it may."""
    row = _found(connection, config)
    return [f"role {config.replication_role}"] if row is not None and row[-1] and not row[0] else []


def drop(connection: Connection, config: MigrationConfig) -> None:
    """Drop the role; none is no error. What it had been granted must have gone with the helper schema."""
    if leftovers(connection, config):
        role = sql.Identifier(config.replication_role)
        # Given for AWS DMS, which may not be the engine any more.
        held = "SELECT has_parameter_privilege(%s, 'session_replication_role', 'SET')"
        if connection.info.server_version >= 150000 and connection.execute(
            held, (config.replication_role,)
        ).fetchone() == (True,):
            connection.execute(sql.SQL("REVOKE SET ON PARAMETER session_replication_role FROM {}").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def readers(subscriber: Connection, config: MigrationConfig) -> list[str]:
    """Roles that may read the password which a subscription keeps, and need not: neither superusers nor the operator, and not
    accepted by `passwordReaders`."""
    accepted = list(config.password_readers)
    return [str(row[0]) for row in subscriber.execute(_QUERIES["password_readers"], {"accepted": accepted})]


def refuse_readers(subscriber: Connection, config: MigrationConfig, side: Side) -> None:
    """Raises Refused when somebody else could read the password."""
    found = readers(subscriber, config)
    if found:
        raise Refused(f"{', '.join(found)} of the {side}: {READABLE}; nothing was changed. {reader_remedy(found)}")


READABLE = "may read pg_subscription, where the password of replication with the other side stands (pg_read_all_data reads every catalog)"


def reader_remedy(found: list[str]) -> str:
    """What to do about roles that may read the password."""
    names = ", ".join(found)
    return f"REVOKE pg_read_all_data FROM {names}, and grant SELECT on what they read instead; or accept them by `passwordReaders`"
