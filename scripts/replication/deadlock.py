"""Whoever meets an apply worker in a deadlock is not the one who loses: the worker gives way, and tries again by itself.

A bulk update of an application and the worker may lock the same rows in different orders. PostgreSQL ends the session whose
`deadlock_timeout` (1 s) comes first, which may be the application's, whose request then fails. So the role that owns the
subscription gets, in this database only, a shorter one, and a `lock_timeout` below the server's `deadlock_timeout`: should
the application close the circle after the worker has looked, the worker still gives up before the application looks. Both
act only while somebody waits for a lock. A worker that gave way is started again at once, or
`wal_retrieve_retry_interval` (5 s) after its last start, and applies its transaction anew.

They are settings of the role, as a worker takes no others, and changes of a setting within a row's triggers do not outlast
the row (PostgreSQL, 'Logical Replication', 'Security'; 'ALTER ROLE'). So they are left out where the application uses that
role as well (`sourceRole`, `targetRole`); our own sessions set `lock_timeout` for themselves.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from scripts.database import queries
from scripts.database.connections import Connection

_QUERIES = queries.load("scripts.replication")
#: `deadlock_timeout` needs a superuser or GRANT SET ON PARAMETER; `lock_timeout` anybody may set.
SETTINGS = {"lock_timeout": "400ms", "deadlock_timeout": "50ms"}


def _there(connection: Connection) -> dict[str, str]:
    return {str(row[0]): str(row[1]) for row in connection.execute(_QUERIES["role_settings"]).fetchall()}


def _alter(connection: Connection, action: sql.Composed) -> None:
    row = connection.execute("SELECT current_user, current_database()").fetchone()
    if row is None:
        return
    connection.execute(
        sql.SQL("ALTER ROLE {} IN DATABASE {} ").format(sql.Identifier(row[0]), sql.Identifier(row[1])) + action
    )


def set_up(connection: Connection, application_role: str) -> list[str]:
    """Give the session's role, which is to own the subscription here, both settings; returns why one was left out.

    A setting that the role has already in this database is the operator's and stays.
    """
    row = connection.execute("SELECT current_user").fetchone()
    if row and row[0] == application_role:
        return [f"{application_role} is the application's role: its sessions may lose a deadlock with the apply worker"]
    there, missing = _there(connection), []
    for name, value in SETTINGS.items():
        if name in there:
            continue
        try:
            _alter(connection, sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        except psycopg.errors.InsufficientPrivilege:
            missing.append(
                f"{name} may not be set by this role: GRANT SET ON PARAMETER {name}, else an application may now and then lose a "
                "deadlock with the apply worker"
            )
    return missing


def take_back(connection: Connection) -> None:
    """Reset the two settings where they have our values; what is not there any more is no error."""
    there = _there(connection)
    for name, value in SETTINGS.items():
        if there.get(name) == value:
            _alter(connection, sql.SQL("RESET {}").format(sql.Identifier(name)))


def leftovers(connection: Connection) -> list[str]:
    """The settings of ours that the session's role still has in this database, in words."""
    there = _there(connection)
    return [f"setting {name} of the role" for name, value in SETTINGS.items() if there.get(name) == value]
