"""The Task Service's role on the target: made with the password of its secret, owner of the tables, writing once there is a way back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from psycopg import conninfo, sql
from pydantic import SecretStr

from components.config import MigrationConfig
from scripts.database import catalog, secrecy
from scripts.database.catalog import Table
from scripts.database.connections import Connection, connect, domain_errors, parameters
from scripts.database.sides import open_side
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
                f"the role {name} does not exist on the target and no password is given: tables made now belong to this session's "
                "role; export TARGET_ROLE_PASSWORD, or run with --stack where the secret task-service/db-password has a value, and "
                "run it again"
            ],
        )
    remember_secret(password.get_secret_value())
    if there and _can_log_in(settings, name, password):
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
            if not there:
                _join(target, name)
    return Role(name, changed, warnings)


def _can_log_in(settings: Settings, name: str, password: SecretStr) -> bool:
    """Tried, as nobody may read the stored verifier: not even an RDS master."""
    values = parameters(settings.target(), "TARGET_DATABASE_URL")
    values |= {"user": name, "password": password.get_secret_value()}
    try:
        connect(conninfo.make_conninfo("", **values), step="role", name="TARGET_DATABASE_URL").close()
    except DatabaseError:
        return False
    return True


def _join(target: Connection, name: str) -> None:
    """A role that is no superuser gives tables only to roles that it may SET ROLE to (PostgreSQL, 'CREATE ROLE', createrole_self_grant)."""
    row = target.execute("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if row and not row[1]:
        target.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(name), sql.Identifier(row[0])))


def owners(target: Connection, tables: Iterable[Table], schema: str, role: str) -> list[sql.Composed | sql.SQL]:
    """Tables made here belong to the target role; its sequences follow their tables. It may read them, see :func:`withhold`.

    The new owner needs CREATE on the schema at that moment, unless a superuser gives (PostgreSQL, 'ALTER TABLE'); it is
    taken away again, as the service makes no tables.
    """
    tables = list(tables)
    if not tables:
        return []
    space, owner = sql.Identifier(schema), sql.Identifier(role)
    statements: list[sql.Composed | sql.SQL] = [sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(space, owner)]
    row = target.execute(QUERIES["giving"], (role, schema)).fetchone()
    lends = row is not None and not row[0] and not row[1]
    if lends:
        statements.append(sql.SQL("GRANT CREATE ON SCHEMA {} TO {}").format(space, owner))
    statements += [sql.SQL("ALTER TABLE {} OWNER TO {}").format(table.identifier, owner) for table in tables]
    if lends:
        statements.append(sql.SQL("REVOKE CREATE ON SCHEMA {} FROM {}").format(space, owner))
    return statements + withhold(tables, role, by_membership=row is not None and not row[0])


def grants(tables: Iterable[Table], role: str, schema: str, rights: str = "SELECT") -> list[sql.Composed | sql.SQL]:
    """The target role may do ``rights`` with the tables and take ids from their sequences."""
    statements: list[sql.Composed | sql.SQL] = []
    for table in tables:
        statements.append(
            sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), table.identifier, sql.Identifier(role))
        )
        statements += [
            sql.SQL("GRANT USAGE, SELECT ON SEQUENCE {} TO {}").format(sequence.identifier, sql.Identifier(role))
            for sequence in table.sequences
        ]
    if statements:
        statements.insert(
            0, sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(role))
        )
    return statements


def withhold(tables: Iterable[Table], role: str, by_membership: bool) -> list[sql.Composed | sql.SQL]:
    """The target role may not write to the tables, not even to those that it owns; an operator who may only ``by_membership``
    of it gets rights of its own first."""
    statements: list[sql.Composed | sql.SQL] = []
    for table in tables:
        names = {"table": table.identifier, "role": sql.Identifier(role)}
        if by_membership:
            statements.append(sql.SQL("GRANT ALL ON {table} TO CURRENT_USER").format(**names))
        statements.append(sql.SQL("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table} FROM {role}").format(**names))
    return statements


def grant_writes(settings: Settings) -> None:
    """The Task Service may write from now on: the way back runs, and each of its writes is recorded. Safe to run again."""
    config = settings.config
    with domain_errors("granting the Task Service its rights"), open_side(settings, "target", "grant") as target:
        if not _exists(target, config.target_role):
            return
        tables = catalog.read(target, config.db_schema, config.tables, "target").values()
        with target.transaction():
            for statement in grants(tables, config.target_role, config.db_schema, "SELECT, INSERT, UPDATE, DELETE"):
                target.execute(statement)


def withhold_writes(target: Connection, config: MigrationConfig) -> None:
    """The Task Service may not write: while there is no way back its writes would be lost. Safe to run again.

    Raises:
        Refused: its role still could, by rights that are not its own.
    """
    if not _exists(target, config.target_role):
        return
    there = catalog.existing(target, config.db_schema, config.tables)
    tables = catalog.read(target, config.db_schema, there, "target").values()
    oids = [table.oid for table in tables]
    mine = {row[0]: row[1] for row in target.execute(QUERIES["owned"], (oids,))}
    with target.transaction():
        for table in tables:
            if table.oid in mine:
                for statement in withhold([table], config.target_role, mine[table.oid]):
                    target.execute(statement)
    still = [row[0] for row in target.execute(QUERIES["may_write"], {"role": config.target_role, "oids": oids})]
    if still:
        raise Refused(
            f"{config.target_role} could write to {', '.join(still)} of the target before there is a way back for its writes, which "
            "would be lost: it is a superuser, or has rights of PUBLIC or of a role it is in; take those away, then run it again"
        )


def _exists(target: Connection, role: str) -> bool:
    return target.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None
