"""What a DMS task writes besides the rows: how far it is, its exceptions, and the mark against loops."""

from __future__ import annotations

from psycopg import ClientCursor, sql

from components.dms_settings import LOOPBACK_TABLE
from scripts.database import queries
from scripts.database.connections import Connection
from scripts.rehearsal.dms.statements import Statement
from scripts.rehearsal.dms.work import Work

SQL = queries.load("scripts.rehearsal.dms")


class Control:
    """One task's control tables on the target, and the loopback tables on both sides."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._loopback = work.settings["LoopbackPreventionSettings"]

    def make(self, source: Connection, target: Connection) -> None:
        """Make what is missing; harmless when it is there."""
        with target.transaction():
            for name in ("control_schema", "exceptions", "positions"):
                target.execute(self._query(name))
        for side, connection in (("SourceSchema", source), ("TargetSchema", target)):
            table = sql.Identifier(str(self._loopback[side]), LOOPBACK_TABLE)
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(hashtext('awsdms loopback'))")
                connection.execute(sql.SQL(SQL["loopback"]).format(table=table))
                connection.execute(sql.SQL("INSERT INTO {} VALUES (1, 0) ON CONFLICT DO NOTHING").format(table))

    def begin(self, target: Connection, position: str) -> None:
        """The task begins at ``position``."""
        target.execute(self._query("begin"), (self._work.name, position))

    def position(self, target: Connection) -> str | None:
        """How far the task is, None when it never began."""
        row = target.execute(self._query("position"), (self._work.name,)).fetchone()
        return str(row[0]) if row else None

    def mark(self, target: Connection, lsn: str) -> None:
        """How far this task is, and the mark by which the opposite task knows this transaction."""
        target.execute(self._query("move"), (lsn, self._work.name))
        if self._loopback["EnableLoopbackPrevention"]:
            table = sql.Identifier(self._loopback["TargetSchema"], LOOPBACK_TABLE)
            target.execute(sql.SQL("UPDATE {} SET marks = marks + 1").format(table))

    def note(self, target: Connection, statement: Statement, error: str) -> None:
        """Keep a change that could not be applied, and why."""
        text = ClientCursor(target).mogrify(statement.query, statement.values)
        values = (self._work.name, statement.change.schema, statement.change.table, text, error)
        target.execute(self._query("note_exception"), values)

    def is_mark(self, schema: str, table: str) -> bool:
        """Whether a change of this table on the source marks its transaction as the opposite task's."""
        own = (self._loopback["SourceSchema"], LOOPBACK_TABLE)
        return bool(self._loopback["EnableLoopbackPrevention"]) and (schema, table) == own

    def _query(self, name: str) -> sql.Composed:
        return sql.SQL(SQL[name]).format(schema=sql.Identifier(self._work.control_schema))
