"""What a DMS task keeps: on the target the changes that it could not apply, on its instance's own disk how far it is."""

from __future__ import annotations

import json
from pathlib import Path

from psycopg import ClientCursor, sql

from scripts.database import queries
from scripts.database.connections import Connection
from scripts.rehearsal.dms.statements import Statement
from scripts.rehearsal.dms.work import Work
from scripts.support import private

SQL = queries.load("scripts.rehearsal.dms")


class Checkpoint:
    """The end of the last transaction that the task knows to be applied: behind the rows, so that a kill repeats some."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> str | None:
        """The LSN; None when the task never began."""
        return str(json.loads(self._file.read_text())) if self._file.exists() else None

    def write(self, lsn: str) -> None:
        """The task is this far."""
        private.write(self._file, json.dumps(lsn))


class Exceptions:
    """The control table `awsdms_apply_exceptions` on the target."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def make(self, target: Connection) -> None:
        """Make it; harmless when it is there."""
        schema = target.execute(
            "SELECT 1 FROM pg_namespace WHERE nspname = %s", (self._work.control_schema,)
        ).fetchone()
        with target.transaction():
            # To ask for a schema that is there takes the right to make one all the same.
            for name in ("exceptions",) if schema else ("control_schema", "exceptions"):
                target.execute(self._query(name))

    def note(self, target: Connection, statement: Statement, error: str) -> None:
        """Keep a change that could not be applied, and why."""
        text = ClientCursor(target).mogrify(statement.query, statement.values)
        target.execute(self._query("note_exception"), (self._work.name, *statement.change.table, text, error))

    def _query(self, name: str) -> sql.Composed:
        return sql.SQL(SQL[name]).format(schema=sql.Identifier(self._work.control_schema))
