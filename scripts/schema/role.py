"""The Task Service's role on the target: made with the password of its secret, reading, and writing once there is a way back.

The tables are the operator's: whoever owns one can have code of his own run by whoever writes to it. `finalize` may hand them over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from psycopg import conninfo, sql
from pydantic import SecretStr

from components.config import MigrationConfig
from scripts.database import catalog, secrecy
from scripts.database.catalog import Table
from scripts.database.connections import Connection, connect
from scripts.database.sides import session
from scripts.schema.statements import QUERIES
from scripts.support.errors import DatabaseError, Refused
from scripts.support.redact import remember_secret
from scripts.support.settings import Settings


@dataclass(frozen=True)
class Role:
    """The role as it is now: its name, None when it does not exist; what was changed."""

    name: str | None
    changed: Literal["created", "password"] | None = None
    warnings: list[str] = field(default_factory=list)


def ensure(
    settings: Settings,
    target: Connection,
    name: str,
    password: SecretStr | None,
    dry_run: bool = False,
    force: bool = False,
) -> Role:
    """Make the role if it is missing; give it ``password`` when it cannot log in with it. Safe to run again.

    The password goes to the server as a SCRAM verifier only, so that neither a statement log nor a catalog has it
    (libpq, 'PQencryptPasswordConn').
    """
    there = target.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
    if password is None:
        if there:
            return Role(name)
        return Role(
            None,
            None,
            [
                f"the role {name} does not exist on the target and no password is given: nobody but this session's role may read "
                "what is made now; export TARGET_ROLE_PASSWORD, or run with --stack where the secret task-service/db-password has a "
                "value, and run it again"
            ],
        )
    remember_secret(password.get_secret_value())
    if there and logs_in(settings.target(), name, password):
        return Role(name)
    changed: Literal["created", "password"] = "password" if there else "created"
    warnings: list[str] = []
    if not dry_run:
        hashed = target.pgconn.encrypt_password(
            password.get_secret_value().encode(), name.encode(), b"scram-sha-256"
        ).decode()
        verb = sql.SQL("ALTER ROLE {} LOGIN PASSWORD " if there else "CREATE ROLE {} LOGIN PASSWORD ")
        with target.transaction():
            warnings = secrecy.execute(target, verb.format(sql.Identifier(name)), hashed, force=force)
    return Role(name, changed, warnings)


def logs_in(url: str, name: str, password: SecretStr) -> bool:
    """Whether the role gets into the database of ``url`` with ``password``. Tried, as nobody may read the stored verifier: not even
    an RDS master."""
    remember_secret(password.get_secret_value())
    try:
        connect(conninfo.make_conninfo(url, user=name, password=password.get_secret_value()), step="role").close()
    except DatabaseError:
        return False
    return True


def grants(tables: Iterable[Table], role: str, schemas: Iterable[str], writes: bool = False) -> list[sql.Composed]:
    """The role may look into the schemas and read the tables; with ``writes`` also write to them and take ids. Never what lets it put code or keys on them."""
    to = sql.Identifier(role)
    statements = [sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), to) for schema in schemas]
    rights = sql.SQL("SELECT, INSERT, UPDATE, DELETE" if writes else "SELECT")
    for table in tables:
        statements += [
            sql.SQL("REVOKE TRUNCATE, REFERENCES, TRIGGER ON {} FROM {}").format(table.identifier, to),
            sql.SQL("GRANT {} ON {} TO {}").format(rights, table.identifier, to),
        ]
        if writes:
            statements += [
                sql.SQL("GRANT USAGE ON SEQUENCE {} TO {}").format(s.identifier, to) for s in table.sequences
            ]
    return statements


def grant_writes(settings: Settings) -> None:
    """The Task Service may write from now on: the way back runs, and each of its writes is recorded. Safe to run again."""
    config = settings.config
    with session(settings, "target", "grant", "granting the Task Service its rights") as target:
        if exists(target, config.target_role):
            tables = catalog.read(target, config.db_schema, config.tables, "target").values()
            # A sequence's schema may be another one than the tables'.
            schemas = {config.db_schema, *(s.schema for table in tables for s in table.sequences)}
            execute_all(target, grants(tables, config.target_role, sorted(schemas), writes=True))


def withhold_writes(target: Connection, config: MigrationConfig) -> None:
    """The Task Service may read and no more: while there is no way back its writes would be lost. Safe to run again.

    Raises:
        Refused: its role still could, by rights that are not its own.
    """
    if not exists(target, config.target_role):
        return
    there = catalog.existing(target, config.db_schema, config.tables)
    tables = catalog.read(target, config.db_schema, there, "target").values()
    role = sql.Identifier(config.target_role)
    statements = [sql.SQL("REVOKE ALL ON {} FROM {}").format(table.identifier, role) for table in tables]
    statements += [
        sql.SQL("REVOKE ALL ON SEQUENCE {} FROM {}").format(sequence.identifier, role)
        for table in tables
        for sequence in table.sequences
    ]
    execute_all(target, statements + grants(tables, config.target_role, [config.db_schema]))
    given = {"role": config.target_role, "oids": [table.oid for table in tables]}
    still = [row[0] for row in target.execute(QUERIES["may_write"], given)]
    if still:
        raise Refused(
            f"{config.target_role} could write to {', '.join(still)} of the target before there is a way back for its writes, which "
            "would be lost: it is a superuser, or has rights of PUBLIC or of a role it is in; take those away, then run it again"
        )


def execute_all(target: Connection, statements: Iterable[sql.Composed]) -> None:
    """In one transaction."""
    with target.transaction():
        for statement in statements:
            target.execute(statement)


def exists(target: Connection, role: str) -> bool:
    """Whether there is such a role."""
    return target.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None
