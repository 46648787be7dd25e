"""Statements that hold a secret: it is in no statement's text, so neither in the server's log nor in anybody's statistics."""

from __future__ import annotations

import psycopg
from psycopg import sql

from scripts.database.catalog import quoted
from scripts.database.connections import Connection
from scripts.database.queries import QUERIES
from scripts.support.errors import Refused
from scripts.support.redact import remember_secret


def execute(
    connection: Connection,
    head: sql.Composable,
    secret: str,
    tail: sql.Composable | None = None,
    *,
    force: bool = False,
) -> list[str]:
    """Run ``head 'secret' tail`` in a transaction of its own; returns what might show the secret all the same.

    The server has the secret as data of a COPY into a temporary table, and a block builds the statement there: the text that
    the log, `pg_stat_activity` and `pg_stat_statements` get to see is the block's, whatever `log_statement` and its kind say and
    without any right to set them. An error inside is caught, as its context would quote the statement (PostgreSQL, 'Reporting
    Errors and Messages'). What looks into blocks is switched off for the transaction, else its entry is reset.

    Raises:
        Refused: something looks into blocks, and the role may not keep it from that; not with ``force``.
    """
    remember_secret(secret)
    inner = "%L".join(part.as_string(connection).replace("%", "%%") for part in (head, tail or sql.SQL("")))
    body = sql.SQL(QUERIES["secret_block"]).format(statement=sql.Literal(inner)).as_string(connection)
    with connection.transaction():
        warnings, forget = _quieten(connection)
        if warnings and not force:
            raise Refused(
                f"a password would be shown: {'; '.join(warnings)}; nothing was changed. Give that right, or switch the setting off, "
                "or accept it with --force and change the password afterwards"
            )
        connection.execute(QUERIES["short_locks"])
        try:
            connection.execute("CREATE TEMPORARY TABLE task_migration_secret (value text) ON COMMIT DROP")
        except psycopg.errors.InsufficientPrivilege:
            raise Refused(
                "the role may make no temporary table, by which a password gets past the server's log; GRANT TEMPORARY ON DATABASE "
                f"{sql.Identifier(connection.info.dbname).as_string(connection)} TO {connection.info.user}"
            ) from None
        with connection.cursor() as cursor, cursor.copy("COPY pg_temp.task_migration_secret FROM STDIN") as data:
            data.write_row((secret,))
        connection.execute(sql.SQL("DO {}").format(sql.Literal(body)))
        # `ON COMMIT DROP` waits for the end of an outer transaction.
        connection.execute("DROP TABLE pg_temp.task_migration_secret")
    if forget is not None:
        connection.execute(forget, (head.as_string(connection),))
    return warnings


def _quieten(connection: Connection) -> tuple[list[str], sql.Composed | None]:
    """Switch off what would show a statement inside of a block: what could not be, in words; and what makes
    `pg_stat_statements` forget the statement afterwards, where that is how."""
    left, forget = [], None
    for name, value, quiet in connection.execute(QUERIES["loud_settings"]).fetchall():
        try:
            with connection.transaction():
                connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, quiet))
        except psycopg.errors.InsufficientPrivilege:
            if name.startswith("pg_stat_statements"):
                forget = _forgetting(connection)
                if forget is not None:
                    continue
            left.append(f"{name} is {value}, and {connection.info.user} may not set it: GRANT SET ON PARAMETER {name} TO {quoted(connection.info.user)}")  # fmt: skip
    return left, forget


def _forgetting(connection: Connection) -> sql.Composed | None:
    """What resets this role's entries that begin as given; None where the extension is not in this database or it may not."""
    row = connection.execute(QUERIES["statements_schema"]).fetchone()
    if row is None:
        return None
    forget = sql.SQL(QUERIES["forget_statement"]).format(schema=sql.Identifier(row[0]))
    try:
        with connection.transaction():
            connection.execute(forget, ("nothing begins like this",))
            connection.execute(sql.SQL("SELECT {}.pg_stat_statements_reset(1, 1, 1)").format(sql.Identifier(row[0])))
    except psycopg.errors.InsufficientPrivilege:
        return None
    return forget
