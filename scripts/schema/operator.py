"""The operator's role on the target: made by the master, with a secret of its own that nobody changes behind a migration's back.

RDS gives the master another password every seven days (Amazon RDS, 'Password management with Amazon RDS and AWS Secrets
Manager'), and a move takes two weeks; the commands log in as this role, which has what docs/runbook.md's table gives.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from components.config import MigrationConfig
from scripts.database import queries
from scripts.database.connections import Connection, connect, domain_errors
from scripts.schema import role
from scripts.schema.documents import OperatorRole
from scripts.support import aws
from scripts.support.errors import Refused
from scripts.support.outputs import Outputs
from scripts.support.redact import remember_secret
from scripts.support.settings import Settings

_MASTER = "TARGET_MASTER_DATABASE_URL"
_RIGHTS = queries.load("scripts.schema", "operator.sql")


def appoint(
    settings: Settings,
    outputs: Mapping[str, Any],
    master_url: SecretStr | None = None,
    *,
    dry_run: bool = False,
    force: bool = False,
) -> OperatorRole:
    """Make ``operatorRole`` with the password of its secret, which is made where there is none, and give it its rights.

    Safe to run again after a kill anywhere: the secret comes first, and the role takes what stands in it.

    Args:
        outputs: of the stack: the target's address, the secrets of its master and of its operator.
        master_url: of the master, where the stack's outputs do not lead to it.

    Raises:
        Refused: the role is another's, the master may not give it a right, or a password would be shown to others.
        MigrationError: a secret cannot be read or written.
    """
    config, arn = settings.config, str(Outputs(outputs)["targetSecretArn"])
    name = _MASTER
    if master_url is None:
        name = "the stack's output targetMasterSecretArn"
        master_arn = str(Outputs(outputs)["targetMasterSecretArn"])
        text = aws.secret_text(master_arn)
        master_url = SecretStr(aws.conninfo_of("target", {**outputs, "targetSecretArn": master_arn}, text))
    master = replace(settings, target_url=master_url)
    password = _kept(arn, config.operator_role)
    with (
        domain_errors("making the operator's role"),
        connect(master.target(), step="role", name=name) as connection,
        connection.transaction(force_rollback=dry_run),
    ):
        _refuse_anothers(connection, config)
        if password is None:
            password = secrets.token_urlsafe(32)
            if not dry_run:
                where = str(outputs["targetEndpoint"]), int(outputs["targetPort"])
                aws.put_login(arn, config.operator_role, password, *where)
        remember_secret(password)
        made = role.ensure(master, connection, config.operator_role, SecretStr(password), dry_run, force)
        if not dry_run or made.changed != "created":
            _grant(connection, config)
    return OperatorRole(role=config.operator_role, status=made.changed or "there", warnings=made.warnings)


def _kept(arn: str, name: str) -> str | None:
    """The password in the role's secret; None where it has no value yet. Raises Refused when it is another role's."""
    text = aws.secret_text(arn, may_lack=True)
    if not text:
        return None
    username, password = aws.login_of(text, arn)
    if username != name:
        raise Refused(
            f"the secret {arn} is of the role {username}, operatorRole is {name}; set operatorRole to {username}, or put "
            f'{{"username": "{name}", "password": ...}} into the secret'
        )
    return password


def _refuse_anothers(connection: Connection, config: MigrationConfig) -> None:
    """Raises Refused where the name is taken by a role that is no operator's."""
    name = config.operator_role
    uses = {
        config.target_role: "the Task Service logs in with it (targetRole)",
        config.replication_role: "replication logs in with it (replicationRole)",
        connection.info.user: "it is the master itself",
    }
    row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (name,)).fetchone()
    why = uses.get(name) or ("it is a superuser" if row == (True,) else None)
    if why is not None:
        raise Refused(f"operatorRole is {name}: {why}; set operatorRole to a name of its own")


def _grant(connection: Connection, config: MigrationConfig) -> None:
    """The rights of the runbook's table, on plain PostgreSQL or RDS.

    Raises:
        Refused: the master may not give one that a command needs; with its SQL.
    """
    for part in _parts(connection, config):
        for statement in rights(part, connection, config, config.operator_role):
            try:
                with connection.transaction():
                    connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege as error:
                if part == "useful":
                    continue
                user = connection.info.user
                raise Refused(
                    f"{user} may not give the operator what commands need: {statement.as_string(connection)}: {error.diag.message_primary}; "
                    f"have a role that may run it, or export {_MASTER} for another master"
                ) from None


def _parts(connection: Connection, config: MigrationConfig) -> Iterator[str]:
    yield "rds" if role.exists(connection, "rds_superuser") else "plain"
    yield "database"
    query = "SELECT nspowner = to_regrole(%s) FROM pg_namespace WHERE nspname = %s"
    operator = sql.Identifier(config.operator_role).as_string(connection)
    if connection.execute(query, (operator, config.db_schema)).fetchone() == (False,):
        yield "target"
    if role.exists(connection, config.target_role):
        yield "service"
    yield "useful"


def rights(
    part: str, connection: Connection, config: MigrationConfig, operator: str, table: str = ""
) -> list[sql.Composed]:
    """The statements of one part of ``operator.sql``, by which a master gives ``operator`` his rights.

    Args:
        table: one of ``tables``, or of ``referencedTables`` for the part `stays`.
    """
    schema, name = config.qualified(table) if part == "stays" else (config.db_schema, table)
    names = {
        "operator": sql.Identifier(operator),
        "database": sql.Identifier(connection.info.dbname),
        "schema": sql.Identifier(schema),
        "service": sql.Identifier(config.target_role),
        "application": sql.Identifier(config.source_role),
        "table": sql.Identifier(schema, name),
    }
    return [sql.SQL(text).format(**names) for text in _RIGHTS[part].split(";")]
