"""Applications that write on both sides of a running pair, and a ledger of what was acknowledged to each."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, LiteralString, Self

import psycopg
from psycopg import sql

from scripts.replication import fence
from scripts.support.sides import BOTH, Side
from scripts.support.wait import wait_until
from tests.conftest import Pair

#: The application's role on each side.
ROLES: Mapping[Side, str] = {"source": "myteacher_app_user", "target": "task_service_user"}
Row = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Told:
    """One row of the conflict log: a write that was lost."""

    side: str
    table: str
    key: tuple[str, ...]
    kind: str
    columns: tuple[str, ...]
    lost: dict[str, str | None]
    kept: dict[str, str | None]


@dataclass
class Transaction:
    """What one session of an application writes; the ledger takes it over when it is acknowledged."""

    world: TwoWriters
    connection: psycopg.Connection[Any]
    writes: list[tuple[Row, dict[str, Any] | None]] = field(default_factory=list)

    def execute(self, query: LiteralString, *parameters: Any) -> psycopg.Cursor[Any]:
        """Any statement; what it writes is told to the ledger by :meth:`wrote`."""
        return self.connection.execute(query, parameters)

    def wrote(self, table: str, *key: Any, **values: Any) -> None:
        """Note values that a statement wrote into a row."""
        self.writes.append(((table, key), values))

    def insert(self, table: str, *key: Any, **values: Any) -> None:
        """One row, with its key given."""
        columns = {**dict(zip(self.world.keys[table], key, strict=True)), **values}
        self.connection.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join(sql.Placeholder() * len(columns)),
            ),
            list(columns.values()),
        )
        self.wrote(table, *key, **values)

    def update(self, table: str, *key: Any, **values: Any) -> None:
        """One row, which must be there."""
        changes = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in values)
        done = self.connection.execute(
            sql.SQL("UPDATE {} SET {} WHERE {}").format(sql.Identifier(table), changes, self.world.where(table)),
            [*values.values(), *key],
        )
        assert done.rowcount == 1, f"{table} {key} is not there to be updated"
        self.wrote(table, *key, **values)

    def delete(self, table: str, *key: Any) -> None:
        """One row, which must be there."""
        done = self.connection.execute(
            sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table), self.world.where(table)), key
        )
        assert done.rowcount == 1, f"{table} {key} is not there to be deleted"
        self.writes.append(((table, key), None))

    @contextmanager
    def savepoint(self, *, undo: bool = False) -> Iterator[None]:
        """A subtransaction, released or rolled back."""
        before = len(self.writes)
        with self.connection.transaction() as inner:
            yield
            if undo:
                del self.writes[before:]
                raise psycopg.Rollback(inner)


class TwoWriters:
    """Both sides of a running pair as their applications see them, and the last acknowledged value of each column."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.expected: dict[Row, dict[str, Any] | None] = {}
        self.apps: dict[Side, psycopg.Connection[Any]] = {}
        self._database = pair.source.info.dbname
        self._noting = threading.Lock()
        self.connect()
        tables = pair.settings.config.tables
        self.keys = {
            str(table): tuple(str(name) for name in names)
            for table, names in self.pair.source.execute(
                "SELECT c.relname, array_agg(a.attname ORDER BY array_position(i.indkey::int2[], a.attnum)) FROM pg_index i "
                "JOIN pg_class c ON c.oid = i.indrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) "
                "WHERE i.indisprimary AND c.relname = ANY (%s) GROUP BY c.relname",
                (list(tables),),
            )
        }
        self._told = {"source": 0, "target": 0}
        self.begin()

    def begin(self) -> None:
        """A new test: its own ledger, and only what is told from now on."""
        self.expected.clear()
        for side in self._told:
            row = self.admin(side).execute("SELECT coalesce(max(id), 0) FROM task_migration.conflicts").fetchone()
            assert row is not None
            self._told[side] = row[0]

    def connect(self) -> None:
        """New sessions, as after a server's restart."""
        self.close()
        for side in BOTH:
            self.apps[side] = self.session(side)
        if self.pair.source.closed or self.pair.target.closed:
            self.pair.source = psycopg.connect(self.pair.settings.source(), autocommit=True)
            self.pair.target = psycopg.connect(self.pair.settings.target(), autocommit=True)

    def session(self, side: Side) -> psycopg.Connection[Any]:
        """One more session of a side's application."""
        server = self.pair.source_server if side == "source" else self.pair.target_server
        return psycopg.connect(server.url(self._database, ROLES[side], "secret-of-role"), autocommit=True)

    def close(self) -> None:
        """End the applications' sessions."""
        for connection in self.apps.values():
            connection.close()

    def admin(self, side: str) -> psycopg.Connection[Any]:
        """The operator's session on a side."""
        return self.pair.source if side == "source" else self.pair.target

    def where(self, table: str) -> sql.Composed:
        """The key's condition, with a hole for each of its values."""
        return sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in self.keys[table])

    @contextmanager
    def transaction(self, side: Side, connection: psycopg.Connection[Any] | None = None) -> Iterator[Transaction]:
        """A transaction of the side's application, acknowledged at its end."""
        session = connection or self.apps[side]
        mine = Transaction(self, session)
        with session.transaction():
            yield mine
        with self._noting:
            for row, values in mine.writes:
                known = self.expected.get(row)
                self.expected[row] = None if values is None else {**(known or {}), **values}

    @contextmanager
    def at_once(self) -> Iterator[tuple[Transaction, Transaction]]:
        """One transaction a side; both have written before either commits, so neither can know of the other."""
        with self.transaction("source") as source, self.transaction("target") as target:
            yield source, target

    def fence(self, timeout: float = 60.0) -> None:
        """Everything acknowledged has arrived."""
        fence.both(self.pair.settings, timeout)

    def tasks(self, number: int, **values: Any) -> list[int]:
        """New tasks of the monolith that both sides know."""
        with self.transaction("source") as monolith:
            columns = ["title", *values]
            query = sql.SQL(
                "INSERT INTO tasks (user_id, {}) SELECT min(id), {} FROM users GROUP BY () RETURNING id"
            ).format(
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join(sql.Placeholder() * len(columns)),
            )
            found = []
            for _ in range(number):
                row = monolith.connection.execute(query, ["new", *values.values()]).fetchone()
                assert row is not None
                monolith.wrote("tasks", row[0], title="new", **values)
                found.append(int(row[0]))
        self.fence()
        return found

    def rows(self, side: str, table: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        """All rows of a table by key, as JSON."""
        found = self.admin(side).execute(sql.SQL("SELECT to_jsonb(t) FROM {} t").format(sql.Identifier(table)))
        return {tuple(row[name] for name in self.keys[table]): row for (row,) in found}

    def row(self, side: str, table: str, *key: Any) -> dict[str, Any] | None:
        """One row as JSON; None: not there."""
        query = sql.SQL("SELECT to_jsonb(t) FROM {} t WHERE {}").format(sql.Identifier(table), self.where(table))
        found = self.admin(side).execute(query, key).fetchone()
        return found[0] if found else None

    def both(self, table: str, *key: Any) -> dict[str, Any] | None:
        """One row, the same on both sides."""
        here, there = (self.row(side, table, *key) for side in ("source", "target"))
        assert here == there
        return here

    def told(self) -> list[Told]:
        """The conflict log of both sides since the test began."""
        found = []
        for side, after in self._told.items():
            for table, key, kind, columns, lost, kept in self.admin(side).execute(
                "SELECT table_name, key, kind, columns, lost, kept FROM task_migration.conflicts WHERE id > %s ORDER BY id",
                (after,),
            ):
                found.append(
                    Told(
                        side,
                        table,
                        tuple(json.loads(key)),
                        kind,
                        tuple(sorted(columns or ())),
                        json.loads(lost or "{}"),
                        json.loads(kept or "{}"),
                    )
                )
        return found

    def lost(self) -> list[str]:
        """Acknowledged values that are not the ones that stand on both sides, in words."""
        found = []
        for table in sorted({row[0] for row in self.expected}):
            there = {side: self.rows(side, table) for side in ("source", "target")}
            for (name, key), values in self.expected.items():
                if name != table:
                    continue
                for column, value in (values if values is not None else {"*": None}).items():
                    seen = {
                        side: None if (row := rows.get(key)) is None else row.get(column, "there")
                        for side, rows in there.items()
                    }
                    gone = values is not None and any(key not in rows for rows in there.values())
                    if gone or any(value != other for other in seen.values()):
                        found.append(f"{table} {key} {column}: acknowledged {value!r:.40}, {seen!r:.120}")
        return found

    def differences(self) -> list[str]:
        """Rows of any table that the two sides do not hold alike."""
        found = []
        for table in self.keys:
            source, target = (self.rows(side, table) for side in ("source", "target"))
            found += [f"{table} {key}" for key in source.keys() | target.keys() if source.get(key) != target.get(key)]
        return found

    def check(self, told: int | None = 0) -> list[Told]:
        """After a fence every acknowledged value stands on both sides, all rows are equal, and so many lost writes were told."""
        self.fence()
        values = sum(len(row) if row is not None else 1 for row in self.expected.values())
        lost = self.lost()
        assert not lost, f"{len(lost)} of {values} acknowledged values lost: {lost[:5]}"
        differing = self.differences()
        assert not differing, f"{len(differing)} rows differ: {differing[:5]}"
        found = self.told()
        assert told is None or len(found) == told, f"{len(found)} lost writes told, {told} expected: {found[:5]}"
        return found


class RandomWriter:
    """Single-column updates of one side's own columns for some time; a write whose connection broke is made again."""

    def __init__(self, world: TwoWriters, side: Side, cells: list[tuple[str, tuple[Any, ...], str]], seed: int) -> None:
        self.world, self.side, self.cells = world, side, cells
        self.chance = random.Random(f"{seed}{side}")
        self.done = 0
        self.broken = 0
        #: Seconds of the longest write, without those that were made again.
        self.longest = 0.0
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        try:
            while not self._stop.wait(0.002):
                table, key, column = self.chance.choice(self.cells)
                self._write(table, key, column, self.done + 1)
                self.done += 1
        except (psycopg.Error, AssertionError) as error:
            self.failure = error

    def _write(self, table: str, key: tuple[Any, ...], column: str, value: int) -> None:
        # Text columns get words, the others numbers.
        words = column in ("title", "description", "due_date", "file_path", "note", "error_message", "tag_name")
        given: Any = f"{self.side} {value}" if words else value % 30000
        deadline = time.monotonic() + 60
        while True:
            try:
                begins = time.monotonic()
                with self.world.transaction(self.side, self.world.apps[self.side]) as mine:
                    mine.update(table, *key, **{column: given})
                self.longest = max(self.longest, time.monotonic() - begins)
                return
            except psycopg.errors.DeadlockDetected:
                continue
            except psycopg.OperationalError:
                self.broken += 1
                if time.monotonic() > deadline:
                    raise
                with suppress(psycopg.OperationalError):
                    self.world.apps[self.side].close()
                    self.world.apps[self.side] = self.world.session(self.side)
                self._stop.wait(0.05)

    def more(self, writes: int, timeout: float = 60.0) -> None:
        """Wait for so many more acknowledged writes."""
        enough = self.done + writes
        wait_until(
            lambda: self.done,
            lambda done: done >= enough or self.failure is not None,
            what=f"writes of the {self.side}",
            timeout=timeout,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure
