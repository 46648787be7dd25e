"""Two databases whose records are carried by hand, with the rows of the model's scenarios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.support.sides import BOTH, Side
from scripts.writes import install, record
from tests.conftest import Pair
from tests.model.judge import values
from tests.model.scenarios import Scenario
from tests.model.search import Step
from tests.model.world import SIDES, Write


@dataclass(frozen=True)
class Table:
    """A real table for a scenario's rows."""

    name: str
    #: The model's columns here.
    columns: dict[str, str]
    definition: str
    scenarios: tuple[str, ...]
    #: Whether a local transaction may stay open; where rows hang together it would lock more than its own.
    opens: bool = True


TABLES = (
    Table(
        "single",
        {"a": "a", "b": "b"},
        "a int NOT NULL, b int NOT NULL",
        (
            "four writes",
            "four writes, the target's clock ahead",
            "a row that is not there",
            "kills that repeat",
            "transactions that stay open or roll back",
            "open, the target's clock ahead",
        ),
    ),
    Table("grouped", {"a": "g", "b": "h"}, "g int NOT NULL, h int NOT NULL", ("a group of columns",)),
    Table(
        "dated",
        {"a": "a", "b": "b", "t": "updated_at"},
        "a int NOT NULL, b int NOT NULL, updated_at int",
        ("updated_at",),
    ),
    Table(
        "claimant",
        {"u": "u"},
        "u int UNIQUE",
        ("two new rows claim", "two old rows claim", "a new row claims an old one's", "a claim that comes back"),
        opens=False,
    ),
    Table(
        "cascading",
        {"parent": "parent", "a": "a"},
        "parent int REFERENCES cascading ON DELETE CASCADE, a int NOT NULL",
        ("a parent without a child", "a parent and a child", "a chain of three"),
        opens=False,
    ),
    Table(
        "claiming",
        {"u": "u", "parent": "parent"},
        "u int UNIQUE, parent int REFERENCES claiming ON DELETE CASCADE",
        ("claims with a child",),
        opens=False,
    ),
    Table(
        "emptying",
        {"parent": "parent", "a": "a"},
        "parent int REFERENCES emptying ON DELETE SET NULL, a int NOT NULL",
        ("a child that is set to null",),
        opens=False,
    ),
)
CASES = [(table, name) for table in TABLES for name in table.scenarios]
#: Where the rows of a scenario are kept.
PLACES = {name: table for table, name in CASES}


class Servers:
    """Both sides, with the same rows as the model has, under keys of each example's own."""

    def __init__(self, pair: Pair, config: MigrationConfig) -> None:
        self.pair = pair
        self.apps: dict[int, psycopg.Connection[Any]] = {}
        self.workers: dict[int, psycopg.Connection[Any]] = {}
        self.examples = 0
        for number, side in enumerate(BOTH):
            admin = pair.source if side == "source" else pair.target
            for table in TABLES:
                admin.execute(f"CREATE TABLE {table.name} (id int PRIMARY KEY, {table.definition})".encode())
            admin.execute("SET lock_timeout = '300ms'")
            install.capture_on(admin, config, side)
            install.rules_on(admin, config, side)
            self.apps[number] = self._session(side)
            self.workers[number] = self._session(side)
            # As workers of both engines do: what applies fires no ordinary trigger and no foreign key.
            self.workers[number].execute("SET session_replication_role = replica")

    def _session(self, side: Side) -> psycopg.Connection[Any]:
        url = self.pair.settings.source() if side == "source" else self.pair.settings.target()
        return psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        for connection in (*self.apps.values(), *self.workers.values()):
            connection.close()

    def begin(self, table: Table, scenario: Scenario) -> None:
        """The rows that both sides start with, and clocks that stand as the model's do."""
        self.examples += 1
        self.table, self.shape = table, scenario.shape
        self.first = 10 * self.examples
        self.sent: dict[int, list[list[tuple[Any, ...]]]] = {side: [] for side in SIDES}
        self.told_before = {}
        clocks = {}
        for side in SIDES:
            if self.apps[side].info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                # An example that failed left it open.
                self.apps[side].execute("ROLLBACK")
            worker = self.workers[side]
            with worker.transaction():
                worker.execute("SET LOCAL task_migration.applying = 'on'")
                for key, row in enumerate(scenario.shape.rows):
                    if row is not None:
                        self.insert(worker, key, dict(zip(scenario.shape.columns, values(row) or (), strict=True)))
            self.told_before[side] = self._number(side, "SELECT coalesce(max(id), 0) FROM task_migration.conflicts")
            clocks[side] = self._number(side, "SELECT last_value FROM task_migration.clock")
        level = max(clocks.values()) // 2 * 2 + 2
        for side in SIDES:
            wanted = level + side + 2 * scenario.ahead[side]
            worker = self.workers[side]
            while self._number(side, "SELECT nextval('task_migration.clock')") < wanted:
                pass
            assert self._number(side, "SELECT last_value FROM task_migration.clock") == wanted
        self.seen = {
            side: self._number(side, f"SELECT coalesce(max(v), 0) FROM {self._writes(side)}") for side in SIDES
        }

    @staticmethod
    def _writes(side: int) -> str:
        return f"task_migration.{record.table_name(BOTH[side])}"

    def _number(self, side: int, query: str) -> int:
        row = self.workers[side].execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])

    # What people write

    def _value(self, column: str, value: int) -> int | None:
        if column == self.shape.unique:
            return self.first + value if value else None
        if column == self.shape.parent:
            return self.first + value - 1 if value else None
        return value

    def insert(self, session: psycopg.Connection[Any], key: int, given: dict[str, int]) -> None:
        """A row, in the session's transaction."""
        names = [self.table.columns[name] for name in given]
        session.execute(
            sql.SQL("INSERT INTO {} (id, {}) VALUES ({})").format(
                sql.Identifier(self.table.name),
                sql.SQL(", ").join(map(sql.Identifier, names)),
                sql.SQL(", ").join(sql.Placeholder() * (len(names) + 1)),
            ),
            [self.first + key, *(self._value(name, value) for name, value in given.items())],
        )

    def _write(self, side: int, write: Write) -> None:
        session, given = self.apps[side], dict(write.values)
        name, key = sql.Identifier(self.table.name), self.first + write.key
        if write.kind == "insert":
            self.insert(session, write.key, given)
        elif write.kind == "update":
            sets = sql.SQL(", ").join(
                sql.SQL("{} = %s").format(sql.Identifier(self.table.columns[column])) for column in given
            )
            done = session.execute(
                sql.SQL("UPDATE {} SET {} WHERE id = %s").format(name, sets),
                [*(self._value(column, value) for column, value in given.items()), key],
            )
            assert done.rowcount == 1
        else:
            assert session.execute(sql.SQL("DELETE FROM {} WHERE id = %s").format(name), (key,)).rowcount == 1

    # What happens

    def take(self, step: Step) -> None:
        """Carry a step out."""
        session = self.apps[step.side]
        if step.what in ("writes", "opens"):
            session.execute("BEGIN")
            # The rest of a transaction is what the keys of a deleted row do.
            for write in step.writes[:1]:
                self._write(step.side, write)
        if step.what in ("writes", "commits"):
            session.execute("COMMIT")
            self.collect(step.side)
        elif step.what == "rolls back":
            session.execute("ROLLBACK")
        elif step.what == "applies":
            messages = self.sent[1 - step.side][step.at : step.at + step.number]
            self.apply(step.side, [row for message in messages for row in message])
            self.collect(step.side)

    def collect(self, side: int) -> None:
        """What the side has written since the last look, as one transaction on its way."""
        rows = (
            self.workers[side]
            .execute(f"SELECT * FROM {self._writes(side)} WHERE v > %s ORDER BY v".encode(), (self.seen[side],))
            .fetchall()
        )
        if rows:
            self.sent[side].append(rows)
            self.seen[side] = rows[-1][0]

    def apply(self, side: int, rows: Sequence[tuple[Any, ...]]) -> None:
        """What a worker does with one transaction, or with several that it gathered."""
        worker = self.workers[side]
        with worker.transaction():
            for row in rows:
                marks = ", ".join(["%s"] * len(row))
                worker.execute(f"INSERT INTO {self._writes(1 - side)} VALUES ({marks})".encode(), row)

    # What is there

    def forget(self) -> None:
        """Without the records of examples before, some of which broke off."""
        for side in SIDES:
            self.workers[side].execute("TRUNCATE task_migration.source_writes, task_migration.target_writes")

    def kept(self) -> int:
        """Records on either side, of both."""
        return sum(self._number(side, f"SELECT count(*) FROM {self._writes(of)}") for side in SIDES for of in SIDES)

    def rows(self, side: int) -> list[tuple[int, ...] | None]:
        """As :func:`values` of the model's rows."""
        columns = sql.SQL(", ").join(sql.Identifier(self.table.columns[name]) for name in self.shape.columns)
        found = self.workers[side].execute(
            sql.SQL("SELECT id, {} FROM {} WHERE id >= %s").format(columns, sql.Identifier(self.table.name)),
            (self.first,),
        )
        there = {
            row[0] - self.first: tuple(
                self._seen(name, value) for name, value in zip(self.shape.columns, row[1:], strict=True)
            )
            for row in found
        }
        return [there.get(key) for key in range(len(self.shape.rows))]

    def _seen(self, column: str, value: int | None) -> int:
        if column == self.shape.unique:
            return value - self.first if value is not None else 0
        if column == self.shape.parent:
            return value - self.first + 1 if value is not None else 0
        assert value is not None
        return value

    def told(self, side: int) -> list[tuple[str, int, str]]:
        """The conflict log: kind, row, column (or the row itself)."""
        own = {there: name for name, there in self.table.columns.items()}
        found = []
        for kind, key, columns in self.workers[side].execute(
            "SELECT kind, (key::jsonb ->> 0)::int, columns FROM task_migration.conflicts WHERE id > %s",
            (self.told_before[side],),
        ):
            names = [own[name] for name in columns or () if name in own]
            # A line about nothing else would not be in the model's log.
            told = [name for name in names if name not in self.shape.bookkeeping] or (names and ["only bookkeeping"])
            found += [(kind, key - self.first, name) for name in told]
            if kind in ("insert of deleted", "delete of inserted"):
                found.append((kind, key - self.first, "row"))
        return sorted(found)
