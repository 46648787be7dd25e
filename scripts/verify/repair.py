"""Repair of rows that differ, without it travelling back: it carries an origin, which ``origin = none`` leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from psycopg import sql
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from scripts.database import helper_schema
from scripts.database.catalog import Table, identifiers
from scripts.database.connections import Connection
from scripts.database.repair_session import repair_origin, repair_session
from scripts.support.events import Step, VerifyEvent
from scripts.support.settings import Settings
from scripts.support.sides import Side
from scripts.verify.hash import as_text, shared
from scripts.verify.rows import Difference, Values


def repair(
    settings: Settings,
    tables: dict[str, Table],
    theirs: dict[str, Table],
    differences: dict[str, list[Difference]],
    rule: str,
) -> dict[str, int]:
    """Write the winner's row over the loser's, row by row; returns rows repaired by table.

    ``tables`` are as the source's catalog describes them, ``theirs`` as the target's; columns that one lacks stay as they are.

    A loser's row that was written since it was compared is left alone: its write travels by itself. Parents come before
    their children, and deletions go the other way.
    """
    counts = dict.fromkeys(differences, 0)
    # AWS DMS leaves out what has its own mark instead, which the conflict rules set for a repair (scripts/replication/conflicts/dms.sql).
    origin = repair_origin(settings.config) if settings.config.replication_engine == "native" else None
    with repair_session(settings.source(), origin) as source, repair_session(settings.target(), origin) as target:
        sides: dict[Side, Connection] = {"source": source, "target": target}
        rows = [
            _Row(sides, table, shared(table, theirs[table.name]), difference)
            for table in parents_first(tables.values())
            for difference in differences.get(table.name, [])
        ]
        plan = [(row, row.winner(rule)) for row in rows]
        writes = [item for item in plan if not item[0].is_deleted(item[1])]
        deletions = [item for item in reversed(plan) if item[0].is_deleted(item[1])]
        for row, best in writes + deletions:
            # An applying session that meets the repair in the other order may make it a deadlock's victim.
            if helper_schema.with_lock_retries(partial(row.write, best), f"repairing {row.table.name}"):
                counts[row.table.name] += 1
                row.close_conflicts(f"{rule}: {best}")
    settings.journal.record(Step.VERIFY, VerifyEvent.REPAIRED, rule=rule, rows=counts)
    return counts


def parents_first(tables: Iterable[Table]) -> list[Table]:
    """The tables ordered so that a referenced one comes before those that refer to it; cycles in the given order."""
    rest = list(tables)
    names = {table.name for table in rest}
    done: list[Table] = []
    while rest:
        placed = {table.name for table in done}
        ready = [
            table
            for table in rest
            if all(
                c.references in placed or c.references == table.name
                for c in table.constraints
                if c.kind == "f" and c.references in names
            )
        ] or rest[:1]
        done += ready
        rest = [table for table in rest if table not in ready]
    return done


@dataclass(frozen=True)
class _Row:
    """A row that differs, with a session on each side."""

    sides: dict[Side, Connection]
    table: Table
    #: The columns that both sides have.
    names: Sequence[str]
    difference: Difference

    def winner(self, rule: str) -> Side:
        """Which side's row stays. ``newest``: updated_at, then the commit's time; a row that is there beats one that is not,
        as it may be an acknowledged write and a deletion leaves no time behind."""
        if rule in ("source", "target"):
            return "source" if rule == "source" else "target"
        if self.difference.kind == "missing_on_target":
            return "source"
        if self.difference.kind == "missing_on_source":
            return "target"
        if (newer := self._newer()) is not None:
            return newer
        ours, theirs = self._committed("source"), self._committed("target")
        if ours is None or theirs is None:
            return "target" if ours is None and theirs is not None else "source"
        return "source" if ours >= theirs else "target"

    def is_deleted(self, best: Side) -> bool:
        """Whether the winner's version is that there is no such row."""
        return self.difference.kind == ("missing_on_source" if best == "source" else "missing_on_target")

    def write(self, best: Side) -> bool:
        """Write the winner's row over the loser's; False when that was written since it was compared."""
        worst: Side = "target" if best == "source" else "source"
        compared = self.difference.source_seen if worst == "source" else self.difference.target_seen
        connection = self.sides[worst]
        with connection.transaction():
            if self._version(connection) != (compared[0] if compared else None):
                return False
            wanted = self._values(best, self.names)
            if wanted is None:
                connection.execute(sql.SQL("DELETE FROM {} t WHERE {}").format(self.table.identifier, self._where))
            else:
                self._clear_clashes(connection, wanted)
                self._upsert(connection, wanted)
        return True

    def close_conflicts(self, how: str) -> None:
        """What the conflict log of either side holds of the row is dealt with."""
        values = dict(zip(self.table.key, self.difference.key, strict=True))
        for connection in self.sides.values():
            connection.execute(
                "UPDATE task_migration.conflicts SET settled = %s WHERE settled IS NULL AND table_name = %s AND "
                "(SELECT jsonb_object_agg(k, v) FROM jsonb_each_text(key) e(k, v)) = %s",
                (how, self.table.name, Jsonb(values)),
            )

    @property
    def _where(self) -> sql.Composed:
        return self._same(zip(self.table.key, self.difference.key, strict=True))

    def _same(self, values: Iterable[tuple[str, str | None]]) -> sql.Composed:
        """True of a row ``t`` with these values."""
        return sql.SQL(" AND ").join(
            sql.SQL("t.{} = {}").format(sql.Identifier(name), self._literal(name, value)) for name, value in values
        )

    def _literal(self, name: str, value: str | None) -> sql.Composed:
        # A literal, not a parameter: with parameters a percent sign in a name would count as one.
        return sql.SQL("{}::text::{}").format(sql.Literal(value), sql.SQL(self.table.column(name).type))

    def _newer(self) -> Side | None:
        """The side whose updated_at is later; None when that does not tell."""
        if "updated_at" not in self.table.stored:
            return None
        seen = [self._values(side, ("updated_at",)) for side in self.sides]
        ours, theirs = (values["updated_at"] if values else None for values in seen)
        if ours is None or theirs is None or ours == theirs:
            return None
        # The server compares: it knows infinity, years before Christ and whatever type the column has.
        literals = (self._literal("updated_at", ours), self._literal("updated_at", theirs))
        row = self._row("source", sql.SQL("SELECT {} > {}").format(*literals))
        return "source" if row and row[0] else "target"

    def _committed(self, side: Side) -> datetime | None:
        query = sql.SQL("SELECT pg_xact_commit_timestamp(t.xmin) FROM {} t WHERE {}")
        row = self._row(side, query.format(self.table.identifier, self._where))
        return row[0] if row else None

    def _values(self, side: Side, names: Sequence[str]) -> Values | None:
        texts = sql.SQL(", ").join(as_text(self.table.column(name)) for name in names)
        query = sql.SQL("SELECT ARRAY[{}] FROM {} t WHERE {}").format(texts, self.table.identifier, self._where)
        row = self._row(side, query)
        return dict(zip(names, row[0], strict=True)) if row else None

    def _row(self, side: Side, query: sql.Composed) -> TupleRow | None:
        return self.sides[side].execute(query).fetchone()

    def _version(self, connection: Connection) -> str | None:
        """The row's version, locked until the transaction's end; None when it is not there."""
        row = connection.execute(
            sql.SQL("SELECT t.xmin::text FROM {} t WHERE {} FOR UPDATE").format(self.table.identifier, self._where)
        ).fetchone()
        return str(row[0]) if row else None

    def _upsert(self, connection: Connection, wanted: Values) -> None:
        table = self.table
        others = [name for name in self.names if name not in table.key and table.column(name).identity != "a"]
        action: sql.Composable = sql.SQL("NOTHING")
        if others:
            action = sql.SQL("UPDATE SET {}").format(
                sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in others)
            )
        connection.execute(
            sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT ({}) DO {}").format(
                table.identifier,
                identifiers(self.names),
                sql.SQL(", ").join(self._literal(name, wanted[name]) for name in self.names),
                identifiers(table.key),
                action,
            )
        )

    def _clear_clashes(self, connection: Connection, wanted: Values) -> None:
        """Rows of other keys that hold a unique value of the row to be written give way; they differ themselves."""
        for constraint in self.table.constraints:
            if constraint.kind != "u" or any(wanted.get(name) is None for name in constraint.columns):
                continue
            match = self._same((name, wanted[name]) for name in constraint.columns)
            connection.execute(
                sql.SQL("DELETE FROM {} t WHERE {} AND NOT ({})").format(self.table.identifier, match, self._where)
            )
