"""The target's tables are the operator's: taken from whoever had them, and handed to the service's role as the very last act."""

from __future__ import annotations

from functools import partial

from psycopg import sql

from components.config import MigrationConfig
from scripts.database import catalog, helper_schema
from scripts.database.connections import Connection
from scripts.database.sides import open_side, session
from scripts.schema.role import execute_all, exists, grants
from scripts.schema.statements import QUERIES
from scripts.support.settings import Settings

#: Longest wait for a table's lock per try, with the live application's statements queued behind it.
LOCK_MS = 300


def take_over(settings: Settings, dry_run: bool) -> list[sql.Composed]:
    """Tables that another role made or was given come to this session's role, where it may take them; the service's role, whether it
    had them or not, keeps reading, and writing where both ways run.

    Returns:
        what was, or would be, executed.

    Raises:
        TimedOut: a table's lock was not to be had.
    """
    config, done = settings.config, list[sql.Composed]()
    with open_side(settings, "target", "schema", LOCK_MS) as target:
        names = (config.target_role, config.db_schema, list(config.tables))
        there = exists(target, config.target_role)
        for name, writes in target.execute(QUERIES["others"], names).fetchall():
            table = catalog.read(target, config.db_schema, [name], "target")[name]
            steps: list[sql.Composed] = [sql.SQL("ALTER TABLE {} OWNER TO CURRENT_USER").format(table.identifier)]
            steps += grants([table], config.target_role, [config.db_schema], bool(writes)) if there else []
            if not dry_run:
                helper_schema.with_lock_retries(partial(execute_all, target, steps), f"taking {name} over")
            done += steps
        if target.execute(QUERIES["joined"], (config.target_role,)).fetchone():
            # A former version joined the role, to give it the tables.
            leave = sql.SQL("REVOKE {} FROM CURRENT_USER").format(sql.Identifier(config.target_role))
            if not dry_run:
                target.execute(leave)
            done.append(leave)
    return done


def may_take_all(target: Connection, config: MigrationConfig) -> bool:
    """Whether none of the tables would be left with another owner by :func:`take_over`."""
    return target.execute(QUERIES["kept"], (config.db_schema, list(config.tables))).fetchone() is None


def hand_over(settings: Settings) -> list[str]:
    """The tables become the service's own, one by one; returns which. Safe to run again.

    A role that is no superuser gives tables only to roles that it may SET ROLE to, and that may CREATE in the schema (PostgreSQL,
    'ALTER TABLE'): both are lent in the transaction that gives.

    Raises:
        TimedOut: a table's lock was not to be had.
    """
    config, handed = settings.config, list[str]()
    with session(settings, "target", "finalize", "handing the tables over", LOCK_MS) as target:
        for name in target.execute(QUERIES["owned"], (config.db_schema, list(config.tables))).fetchall():
            statements = giving(target, config, str(name[0]))
            helper_schema.with_lock_retries(partial(execute_all, target, statements), f"handing {name[0]} over")
            handed.append(str(name[0]))
    return handed


def giving(target: Connection, config: MigrationConfig, table: str) -> list[sql.Composed]:
    """What hands one table over, in one transaction."""
    row = target.execute(QUERIES["giving"], (config.target_role, config.db_schema)).fetchone()
    superuser, may_create = row or (False, False)
    steps = [("GRANT {role} TO CURRENT_USER", "REVOKE {role} FROM CURRENT_USER")] * (not superuser)
    steps += [("GRANT CREATE ON SCHEMA {schema} TO {role}", "REVOKE CREATE ON SCHEMA {schema} FROM {role}")] * (
        not superuser and not may_create
    )
    texts = [
        *(lend for lend, _ in steps),
        "ALTER TABLE {table} OWNER TO {role}",
        *(back for _, back in reversed(steps)),
    ]
    names = {"role": sql.Identifier(config.target_role), "schema": sql.Identifier(config.db_schema)}
    return [sql.SQL(text).format(**names, table=sql.Identifier(config.db_schema, table)) for text in texts]
