"""Preflight for AWS DMS alone: what would end its sessions, and the plugin that it reads with.

What the columns of the moved tables are does not matter to it, as it carries the record of writes alone: a number, texts, a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import conninfo, sql

from scripts.database.connections import Connection, connect, parameters, scalar
from scripts.database.engines import PLUGINS
from scripts.database.error_text import told
from scripts.preflight.documents import Check
from scripts.preflight.server import try_slot
from scripts.preflight.tables import named
from scripts.replication.engine import engine_of
from scripts.support.errors import MigrationError, Refused
from scripts.support.settings import Settings
from scripts.support.sides import Side

PLUGIN = PLUGINS["dms"]
#: AWS DMS, 'PostgreSQL assessments', postgres-check-wal-sender-timeout: 0, or 10 s at least.
WAL_SENDER_TIMEOUT_MS = 10_000


def timeouts(settings: Settings, side: Side) -> Iterator[Check]:
    """What would end DMS's sessions, as a session of its role gets it that asks for nothing, which ours never is."""
    values = parameters(settings.url(side), f"{side.upper()}_DATABASE_URL")
    values.pop("options", None)
    names = ["wal_sender_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "statement_timeout"]
    with connect(conninfo.make_conninfo("", **values), step="preflight", statement_timeout_ms=None) as plain:
        role = str(scalar(plain, "SELECT quote_ident(current_user)"))
        rows = plain.execute("SELECT name, setting::bigint FROM pg_settings WHERE name = ANY(%s)", (names,)).fetchall()
    found = {str(row[0]): int(row[1]) for row in rows}
    wait = found.pop("wal_sender_timeout")
    if side == "source":
        yield Check(
            "source: wal_sender_timeout",
            "pass" if wait == 0 or wait >= WAL_SENDER_TIMEOUT_MS else "fail",
            f"{wait} ms, it must be 0 or {WAL_SENDER_TIMEOUT_MS} at least",
            f"ALTER ROLE {role} SET wal_sender_timeout = '60s' (RDS: parameter group)",
        )
    wrong = {name: ms for name, ms in found.items() if ms}
    yield named(
        f"{side}: timeouts that end sessions",
        [f"{name} is {ms} ms, it must be 0" for name, ms in sorted(wrong.items())],
        ", ".join(f"{name} 0" for name in sorted(found)),
        "fail",
        "DMS holds sessions and transactions that are idle for long: "
        + "; ".join(f"ALTER ROLE {role} SET {name} = 0" for name in sorted(wrong)),
    )


def plugin(side: Side, connection: Connection) -> Check:
    """Whether the server has the output plugin: a temporary slot with it is made and dropped."""
    name = f"{side}: {PLUGIN}"
    try:
        try_slot(connection, PLUGIN)
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        # The plugin is loaded before the wait for open transactions begins.
        return Check(name, "pass", "loaded; the slot waited for open transactions and was given up")
    except psycopg.Error as error:
        return Check(
            name,
            "fail",
            f"a slot with it cannot be made: {told(error)}",
            "install PostgreSQL's contrib package (RDS has it; there, rds.logical_replication = 1 and a reboot)",
        )
    return Check(name, "pass", "a temporary slot with it was made")


def role_of_secret(settings: Settings, side: Side, operator: str) -> Check:
    """Whom DMS logs in as: the role of replication, with the rights that its sessions need, and neither operator nor master."""
    name, role = f"{side}: role of DMS's secret", settings.config.replication_role
    try:
        login = engine_of(settings).logins(settings)[side]
    except Refused as error:
        return Check(name, "fail", str(error), "put another password into the secret, and give it to the role")
    except MigrationError as error:
        return Check(name, "warn", f"not looked at: {error}", "name the stack with --stack, then run it again")
    if login.user != role:
        who = "the operator's own role" if login.user == operator else f"not {role}"
        return Check(
            name,
            "fail",
            f"{login.user}, {who}, whose password then stands in the secret",
            f"put {role} and a password of its own into the secret, then `task-migration schema role --replication`",
        )
    url = conninfo.make_conninfo(settings.url(side), user=role, password=login.password.get_secret_value())
    try:
        with connect(url, step="preflight", name="DMS's secret") as session, session.transaction(force_rollback=True):
            session.execute("SET LOCAL session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        remedy = (
            f"GRANT SET ON PARAMETER session_replication_role TO {sql.Identifier(operator).as_string(None)} WITH GRANT OPTION (RDS: GRANT "
            f"rds_superuser TO {sql.Identifier(role).as_string(None)}), and `task-migration schema role --replication` again"
        )
        return Check(name, "fail", f"{role} may not set session_replication_role, as each session of DMS does", remedy)
    except (MigrationError, psycopg.Error) as error:
        text = told(error)
        return Check(name, "warn", f"{role} does not get in: {text}", "task-migration schema role --replication")
    return Check(name, "pass", f"{role} gets in, and may set what its sessions set")


def checks(settings: Settings, side: Side, connection: Connection) -> Iterator[Check]:
    """All of them; nothing with another engine."""
    if settings.config.replication_engine == "dms":
        yield from timeouts(settings, side)
        yield role_of_secret(settings, side, str(connection.info.user))
        yield plugin(side, connection)
