"""Preflight for AWS DMS alone: what would end its sessions, and the plugin that it reads with.

What the columns of the moved tables are does not matter to it, as it carries the record of writes alone: a number, texts, a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import psycopg
from psycopg import conninfo

from scripts.database.connections import Connection, connect, parameters
from scripts.database.engines import PLUGINS
from scripts.database.error_text import told
from scripts.preflight.documents import Check
from scripts.preflight.server import one
from scripts.preflight.tables import named
from scripts.support.settings import Settings
from scripts.support.sides import Side

PLUGIN = PLUGINS["dms"]
#: AWS DMS, 'PostgreSQL assessments', postgres-check-wal-sender-timeout: 0, or 10 s at least.
WAL_SENDER_TIMEOUT_MS = 10_000


def timeouts(settings: Settings, side: Side) -> Iterator[Check]:
    """What would end DMS's sessions, as a session of its role gets it that asks for nothing, which ours never is."""
    values = parameters(settings.source() if side == "source" else settings.target(), f"{side.upper()}_DATABASE_URL")
    values.pop("options", None)
    names = ["wal_sender_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "statement_timeout"]
    with connect(conninfo.make_conninfo("", **values), step="preflight", statement_timeout_ms=None) as plain:
        role = str(one(plain, "SELECT quote_ident(current_user)"))
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
    name, slot = f"{side}: {PLUGIN}", f"task_migration_plugin_{os.getpid()}"
    before = one(connection, "SELECT current_setting('statement_timeout')")
    try:
        connection.execute("SELECT set_config('statement_timeout', '2s', false)")
        connection.execute("SELECT pg_create_logical_replication_slot(%s, %s, true)", (slot, PLUGIN))
        connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
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
    finally:
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (before,))
    return Check(name, "pass", "a temporary slot with it was made")


def checks(settings: Settings, side: Side, connection: Connection) -> Iterator[Check]:
    """All of them; nothing with another engine."""
    if settings.config.replication_engine == "dms":
        yield from timeouts(settings, side)
        yield plugin(side, connection)
