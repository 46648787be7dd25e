"""Holding a copy still inside the database, at a place of a test's choosing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import psycopg

from scripts.database import strangers
from scripts.support.wait import wait_until
from tests.conftest import Pair

#: On a machine that is busy with other things a step that takes a second can take a minute.
PATIENCE = 120.0
KEY = 4711


class Hold:
    """Stops a copy's sessions on the target at a place of the test's choosing, in the database, without a hook in the program.

    A trigger that also fires for replicas waits for an advisory lock: at the first row of a table, or at the n-th statement
    that makes a key or an index.
    """

    def __init__(self, pair: Pair) -> None:
        self.connection = psycopg.connect(pair.settings.target(), autocommit=True)
        self.execute("CREATE SCHEMA hold")
        self.execute("CREATE SEQUENCE hold.seen")
        self.execute("CREATE TABLE hold.at (statement bigint, rows bool)")
        self.execute("INSERT INTO hold.at VALUES (0, false)")
        wait = f"PERFORM pg_advisory_xact_lock({KEY})"
        self.execute(
            f"CREATE FUNCTION hold.row() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF (SELECT rows FROM hold.at) THEN {wait}; END IF; RETURN NULL; END$$"
        )
        self.execute(
            "CREATE FUNCTION hold.statement() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN "
            "IF current_setting('application_name') = 'task-migration copy write' "
            f"AND nextval('hold.seen') = (SELECT statement FROM hold.at) THEN {wait}; END IF; END$$"
        )
        self.execute(
            "CREATE EVENT TRIGGER hold ON ddl_command_start WHEN TAG IN ('CREATE INDEX', 'ALTER TABLE') "
            "EXECUTE FUNCTION hold.statement()"
        )
        self.execute("ALTER EVENT TRIGGER hold ENABLE ALWAYS")
        self.execute(f"SELECT pg_advisory_lock({KEY})")

    def execute(self, query: str) -> list[Any]:
        cursor = self.connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []

    def at_rows_of(self, table: str) -> None:
        """Hold at the first rows that are written to ``table``."""
        self.execute("UPDATE hold.at SET rows = true")
        self.execute(f"CREATE TRIGGER hold BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION hold.row()")
        self.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER hold")

    def at_statement(self, number: int) -> None:
        """Hold at the ``number``-th statement that makes a key or an index, counted from now."""
        self.execute("ALTER SEQUENCE hold.seen RESTART")
        self.execute(f"UPDATE hold.at SET statement = {number}, rows = false")

    def seen(self) -> int:
        """How many such statements there were."""
        row = self.execute("SELECT last_value FROM hold.seen")
        return int(row[0][0])

    def held(self) -> set[int]:
        """Sessions of a copy that are held."""
        rows = self.execute(
            "SELECT pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' "
            f"AND l.objid = {KEY} AND NOT l.granted AND a.application_name = 'task-migration copy write'"
        )
        return {int(row[0]) for row in rows}

    def wait(self, besides: frozenset[int] = frozenset()) -> None:
        """Until a session of the copy is held, other than ``besides``."""
        what = "the copy to come to where it is held"
        wait_until(lambda: self.held() - besides, bool, what=what, timeout=PATIENCE, interval=0.05)

    def wait_until_nobody(self) -> None:
        """Until no session of a killed copy is left."""
        wait_until(
            lambda: self.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name LIKE 'task-migration copy%'"
            )[0][0],
            lambda there: there == 0,
            what="the sessions of the copy to end",
            timeout=PATIENCE,
        )

    def release(self) -> None:
        """Let everything go on, and be gone without a trace."""
        with suppress(psycopg.OperationalError):
            self.execute("DROP EVENT TRIGGER IF EXISTS hold")
        self.connection.close()


@contextmanager
def held(pair: Pair) -> Iterator[Hold]:
    """A :class:`Hold` that is released at the end, whatever happens. Its trigger is code of others, which `copy` would refuse."""
    hold = Hold(pair)
    try:
        with patch.object(strangers, "refuse_any"):
            yield hold
    finally:
        hold.release()
