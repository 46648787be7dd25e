"""DMS's control table of changes that it did not apply: `awsdms_apply_exceptions`, on the side that the task writes to.

Columns are those of AWS DMS, 'Control table task settings': TASK_NAME, TABLE_OWNER, TABLE_NAME, ERROR_TIME, STATEMENT,
ERROR. They are read by name without regard to case. STATEMENT holds rows' values, and is not handed on; nor is what of an
ERROR may quote them (scripts/database/error_text.py).
"""

from __future__ import annotations

from psycopg import sql

from components.dms_settings import EXCEPTIONS_TABLE, HELPER_SCHEMA
from scripts.database.connections import Connection, scalar
from scripts.database.error_text import passed_on
from scripts.replication.dms.answers import ApplyException

#: More than this many say no more than this many.
MOST = 1000
_TABLE = sql.Identifier(HELPER_SCHEMA, EXCEPTIONS_TABLE)


def count(connection: Connection) -> int:
    """How many changes were not applied so far; 0 while DMS has not made its table."""
    if not _there(connection):
        return 0
    return int(scalar(connection, sql.SQL("SELECT count(*) FROM {}").format(_TABLE)) or 0)


def read(connection: Connection, after: int = 0) -> list[ApplyException]:
    """The exceptions without the first ``after``, oldest first, at most :data:`MOST` of the newest."""
    number = count(connection) - after
    if number <= 0:
        return []
    rows = connection.execute(
        sql.SQL(
            "SELECT r FROM (SELECT (SELECT jsonb_object_agg(lower(k), v) FROM jsonb_each_text(to_jsonb(t)) e(k, v)) AS r FROM {} t) x "
            "ORDER BY r ->> 'error_time' DESC LIMIT %s"
        ).format(_TABLE),
        (min(number, MOST),),
    ).fetchall()
    found = [
        ApplyException(
            at=str(row[0].get("error_time")),
            error=passed_on(str(row[0].get("error")), own=False),
        )
        for row in rows
    ]
    return found[::-1]


def _there(connection: Connection) -> bool:
    return bool(scalar(connection, "SELECT to_regclass(%s) IS NOT NULL", (f"{HELPER_SCHEMA}.{EXCEPTIONS_TABLE}",)))
