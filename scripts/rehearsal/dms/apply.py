"""What a DMS task does between two databases, done by this program: reads a test_decoding slot, applies, remembers.

It follows the task's declared settings: selection rules, error policies, limited LOB mode, loopback prevention, control
schema, and the endpoints' slot and AfterConnectScript. As DMS in transactional apply mode it is one session, in the order
of commits, several source transactions in one of its own, without a replication origin. How far it is stands in the
target, written with the rows: whatever kills it, each transaction is applied once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from components.dms_settings import EXCEPTIONS_TABLE, LOOPBACK_TABLE
from scripts.database import catalog
from scripts.database.connections import Connection, connect
from scripts.rehearsal.dms.decoding import Change, Field, Transaction, Unchanged, transactions
from scripts.support.errors import MigrationError

#: Looks at the slot, seconds: as long as nothing comes, and right after something came.
IDLE_SECONDS, BUSY_SECONDS = 0.05, 0.0
LOB_TYPES = frozenset({"text", "json", "jsonb", "bytea", "xml"})
#: What passes by itself and is tried again: other sessions' locks, a server that restarts.
_RECOVERABLE = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.SerializationFailure,
    psycopg.errors.ObjectInUse,
)


@dataclass(frozen=True)
class Work:
    """One task as it is declared. ``rules`` and ``settings`` are its table mappings and task settings, parsed."""

    name: str
    source_url: str
    target_url: str
    slot: str
    after_connect: str
    fail_on_truncation: bool
    rules: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]

    @property
    def selected(self) -> frozenset[tuple[str, str]]:
        """The tables that the selection rules include."""
        return frozenset(
            (rule["object-locator"]["schema-name"], rule["object-locator"]["table-name"])
            for rule in self.rules
            if rule["rule-type"] == "selection" and rule["rule-action"] == "include"
        )

    def policy(self, operation: str) -> str:
        """What the settings say of an INSERT, UPDATE or DELETE that cannot be applied."""
        return str(self.settings["ErrorBehavior"][f"ApplyError{operation.capitalize()}Policy"])

    @property
    def control_schema(self) -> str:
        """Where the control tables are, on the target."""
        return str(self.settings["ControlTablesSettings"]["ControlSchema"])

    @property
    def group(self) -> int:
        """Changes that one transaction on the target takes, at least, when so many wait."""
        return int(self.settings["ChangeProcessingTuning"]["MinTransactionSize"])


@dataclass
class Counts:
    """Of one table, as DescribeTableStatistics has them."""

    inserts: int = 0
    updates: int = 0
    deletes: int = 0
    suspended: bool = False


class Failed(MigrationError):
    """The task stops; the text is its LastFailureMessage."""


@dataclass
class Applier:
    """Carries one task's changes until it is told to stop."""

    work: Work
    counts: dict[tuple[str, str], Counts] = field(default_factory=dict)
    #: How old the last change was when it was read, and when it was applied; by the source's clock, this machine's too.
    source_seconds: float = 0.0
    target_seconds: float = 0.0

    def __post_init__(self) -> None:
        for member in self.work.selected:
            self.counts[member] = Counts()
        self._tables: dict[tuple[str, str], catalog.Table] = {}

    # --- life ------------------------------------------------------------------------------------------------------
    def prepare(self, position: str | None) -> None:
        """Make the control tables; with ``position`` begin there, else where the target says that it is.

        Raises:
            Failed: the slot or a selected table is missing, or the position cannot be had.
        """
        with self._target() as target, self._source() as source:
            schema = sql.Identifier(self.work.control_schema)
            with target.transaction():
                for statement in _CONTROL_TABLES:
                    target.execute(sql.SQL(statement).format(schema=schema))
            for side, connection in (("SourceSchema", source), ("TargetSchema", target)):
                with connection.transaction():
                    self._make_loopback(connection, side)
            if position is not None:
                target.execute(
                    self._control(
                        "INSERT INTO {t} (task, lsn) VALUES (%s, %s) ON CONFLICT (task) DO UPDATE SET lsn = excluded.lsn",
                        "awsdms_txn_state",
                    ),
                    (self.work.name, position),
                )
            elif self._position(target) is None:
                raise Failed(f"no checkpoint of the task {self.work.name} to resume from")
            row = source.execute(
                "SELECT plugin, wal_status FROM pg_replication_slots WHERE slot_name = %s", (self.work.slot,)
            ).fetchone()
            if row is None:
                raise Failed(f"replication slot '{self.work.slot}' does not exist")
            if row != ("test_decoding", row[1]) or row[1] == "lost":
                raise Failed(f"replication slot '{self.work.slot}' has plugin {row[0]} and WAL status {row[1]}")
            self._read_tables(target)

    def run(self, stop: threading.Event) -> None:
        """Apply until ``stop`` is set. Raises Failed when a policy stops the task."""
        while not stop.is_set():
            try:
                with self._source() as source, self._target() as target:
                    while not stop.is_set():
                        busy = self._round(source, target)
                        stop.wait(BUSY_SECONDS if busy else IDLE_SECONDS)
            except (psycopg.OperationalError, *_RECOVERABLE):
                # A lock, a restart, a cut line: RecoverableErrorCount -1 tries for ever.
                stop.wait(0.2)
            except MigrationError as error:
                if isinstance(error, Failed):
                    raise
                stop.wait(0.2)

    # --- one round -------------------------------------------------------------------------------------------------
    def _round(self, source: Connection, target: Connection) -> bool:
        reached = source.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        rows = source.execute(
            "SELECT lsn::text, xid::text, data FROM pg_logical_slot_peek_changes(%s, NULL, %s, 'skip-empty-xacts', '1', 'include-timestamp', '1')",
            (self.work.slot, self.work.group),
        ).fetchall()
        found = list(transactions(rows))
        if not found:
            self.source_seconds = self.target_seconds = 0.0
            self._advance(source, str(reached[0]) if reached else "")
            return False
        position = self._position(target)
        todo = [entry for entry in found if position is None or _number(entry.end_lsn) > _number(position)]
        if todo:
            self.source_seconds = _age(todo[0])
            self._apply(target, todo)
            self.target_seconds = _age(todo[0])
        self._advance(source, found[-1].end_lsn)
        return True

    def _advance(self, source: Connection, lsn: str) -> None:
        source.execute(
            "SELECT pg_replication_slot_advance(slot_name, %s) FROM pg_replication_slots WHERE slot_name = %s "
            "AND confirmed_flush_lsn < %s",
            (lsn, self.work.slot, lsn),
        )

    def _apply(self, target: Connection, todo: Sequence[Transaction]) -> None:
        own = [(entry, changes) for entry in todo if (changes := self._wanted(entry))]
        if not own:
            # Nothing is written for them, as each task would have to read what the other wrote for nothing, for ever.
            return
        try:
            with target.transaction():
                self._mark(target, todo[-1].end_lsn)
                for _, changes in own:
                    for change in changes:
                        self._execute(target, change)
        except _RECOVERABLE:
            raise
        except psycopg.OperationalError:
            raise
        except psycopg.Error:
            # As DMS: what cannot be applied together is applied one by one, and judged by the policies.
            for entry, changes in own:
                self._one_by_one(target, entry, changes)

    def _one_by_one(self, target: Connection, entry: Transaction, changes: Sequence[Change]) -> None:
        stopped: tuple[Change, psycopg.Error] | None = None
        with suppress(_Stop), target.transaction():
            self._mark(target, entry.end_lsn)
            for change in changes:
                try:
                    with target.transaction():
                        self._execute(target, change)
                except _RECOVERABLE:
                    raise
                except psycopg.OperationalError:
                    raise
                except psycopg.Error as error:
                    if self.work.policy(change.operation) == "STOP_TASK":
                        stopped = (change, error)
                        raise _Stop from error
                    self._refused(target, change, str(error))
        if stopped is not None:
            change, cause = stopped
            self._log(target, change, str(cause))
            raise Failed(
                f"Last Error stopped by ApplyError{change.operation.capitalize()}Policy on table {change.schema}.{change.table}: "
                f"{type(cause).__name__} {cause.sqlstate}"
            )

    def _wanted(self, entry: Transaction) -> list[Change]:
        """The transaction's changes of the selected tables; none when it has the mark of the opposite task."""
        loopback = self.work.settings["LoopbackPreventionSettings"]
        mark = (loopback["SourceSchema"], LOOPBACK_TABLE)
        if loopback["EnableLoopbackPrevention"] and any((c.schema, c.table) == mark for c in entry.changes):
            return []
        selected = self.work.selected
        return [
            change
            for change in entry.changes
            if (change.schema, change.table) in selected
            and change.operation != "TRUNCATE"
            and not self.counts[change.schema, change.table].suspended
        ]

    def _mark(self, target: Connection, lsn: str) -> None:
        """How far this task is, and the mark by which the opposite task knows this transaction."""
        target.execute(
            self._control("UPDATE {t} SET lsn = %s WHERE task = %s", "awsdms_txn_state"), (lsn, self.work.name)
        )
        loopback = self.work.settings["LoopbackPreventionSettings"]
        if loopback["EnableLoopbackPrevention"]:
            table = sql.Identifier(loopback["TargetSchema"], LOOPBACK_TABLE)
            target.execute(sql.SQL("UPDATE {} SET marks = marks + 1").format(table))

    def _execute(self, target: Connection, change: Change) -> None:
        statement, values = self._statement(change)
        done = target.execute(statement, values).rowcount
        if change.operation != "INSERT" and done == 0:
            if self.work.policy(change.operation) == "STOP_TASK":
                self._log_after(change)
                raise Failed(f"0 rows affected by a {change.operation} on table {change.schema}.{change.table}")
            self._refused(target, change, "0 rows affected")
        counts = self.counts[change.schema, change.table]
        if change.operation == "INSERT":
            counts.inserts += 1
        elif change.operation == "UPDATE":
            counts.updates += 1
        else:
            counts.deletes += 1

    def _log_after(self, change: Change) -> None:
        # The transaction is rolled back; the exception must stay.
        with self._target() as other:
            self._log(other, change, "0 rows affected")

    def _refused(self, target: Connection, change: Change, error: str) -> None:
        policy = self.work.policy(change.operation)
        if policy == "IGNORE_RECORD":
            return
        self._log(target, change, error)
        if policy == "SUSPEND_TABLE":
            self.counts[change.schema, change.table].suspended = True

    def _log(self, target: Connection, change: Change, error: str) -> None:
        statement, values = self._statement(change)
        text = psycopg.ClientCursor(target).mogrify(statement, values)
        target.execute(
            self._control(
                'INSERT INTO {t} ("TASK_NAME", "TABLE_OWNER", "TABLE_NAME", "ERROR_TIME", "STATEMENT", "ERROR") '
                "VALUES (%s, %s, %s, clock_timestamp(), %s, %s)",
                EXCEPTIONS_TABLE,
            ),
            (self.work.name, change.schema, change.table, text, error),
        )

    # --- statements ------------------------------------------------------------------------------------------------
    def _statement(self, change: Change) -> tuple[sql.Composed, list[str | None]]:
        table = sql.Identifier(change.schema, change.table)
        described = self._tables[change.schema, change.table]
        new = [self._fitting(change, entry) for entry in change.new if entry.name in described.stored]
        given = [(entry.name, entry.value) for entry in new if not isinstance(entry.value, Unchanged)]
        if change.operation == "INSERT":
            return (
                sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
                    table,
                    catalog.identifiers([name for name, _ in given]),
                    sql.SQL(", ").join([sql.Placeholder()] * len(given)),
                ),
                [value for _, value in given],
            )
        key = described.key
        before = {entry.name: entry.value for entry in (change.old or change.new)}
        where = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in key)
        keys = [str(before[name]) for name in key]
        if change.operation == "DELETE":
            return sql.SQL("DELETE FROM {} WHERE {}").format(table, where), [*keys]
        given = [(name, value) for name, value in given if described.column(name).identity != "a"]
        sets = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name, _ in given)
        return (
            sql.SQL("UPDATE {} SET {} WHERE {}").format(table, sets, where),
            [*(value for _, value in given), *keys],
        )

    def _fitting(self, change: Change, entry: Field) -> Field:
        metadata = self.work.settings["TargetMetadata"]
        if not isinstance(entry.value, str) or entry.type not in LOB_TYPES or not metadata["LimitedSizeLobMode"]:
            return entry
        size = len(entry.value) // 2 if entry.type == "bytea" else len(entry.value.encode())
        limit = int(metadata["LobMaxSize"]) * 1024
        if size <= limit:
            return entry
        if self.work.fail_on_truncation:
            raise Failed(
                f"Last Error LOB of {size} bytes in {change.schema}.{change.table}.{entry.name} would be truncated, it exceeds "
                f"LobMaxSize of {metadata['LobMaxSize']} KB"
            )
        return Field(entry.name, entry.type, entry.value[:limit])

    def _read_tables(self, target: Connection) -> None:
        schemas: dict[str, list[str]] = {}
        for schema, table in sorted(self.work.selected):
            schemas.setdefault(schema, []).append(table)
        for schema, names in schemas.items():
            there = catalog.existing(target, schema, names)
            if len(there) < len(names) and self.work.settings["ErrorBehavior"]["FailOnNoTablesCaptured"]:
                raise Failed(f"tables {', '.join(sorted(set(names) - set(there)))} of {schema} are not on the target")
            for described in catalog.read(target, schema, there, "target").values():
                self._tables[schema, described.name] = described

    # --- control tables --------------------------------------------------------------------------------------------
    def _control(self, statement: str, table: str) -> sql.Composed:
        return sql.SQL(statement).format(t=sql.Identifier(self.work.control_schema, table))

    def _position(self, target: Connection) -> str | None:
        row = target.execute(
            self._control("SELECT lsn::text FROM {t} WHERE task = %s", "awsdms_txn_state"), (self.work.name,)
        ).fetchone()
        return str(row[0]) if row else None

    def _make_loopback(self, connection: Connection, side: str) -> None:
        schema = str(self.work.settings["LoopbackPreventionSettings"][side])
        table = sql.Identifier(schema, LOOPBACK_TABLE)
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('awsdms loopback'))")
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} (id int PRIMARY KEY, marks bigint NOT NULL)").format(table)
        )
        connection.execute(sql.SQL("INSERT INTO {} VALUES (1, 0) ON CONFLICT DO NOTHING").format(table))

    @contextmanager
    def _source(self) -> Iterator[Connection]:
        with connect(self.work.source_url, step=f"{self.work.name} capture", name="the source endpoint") as connection:
            yield connection

    @contextmanager
    def _target(self) -> Iterator[Connection]:
        with connect(self.work.target_url, step=f"{self.work.name} apply", name="the target endpoint") as connection:
            if self.work.after_connect:
                connection.execute(self.work.after_connect.encode())
            yield connection


class _Stop(Exception):
    """Leaves the transaction that a policy stops."""


_CONTROL_TABLES = (
    "CREATE SCHEMA IF NOT EXISTS {schema}",
    'CREATE TABLE IF NOT EXISTS {schema}.awsdms_apply_exceptions ("TASK_NAME" varchar(128) NOT NULL, "TABLE_OWNER" varchar(128) '
    'NOT NULL, "TABLE_NAME" varchar(128) NOT NULL, "ERROR_TIME" timestamp NOT NULL, "STATEMENT" text NOT NULL, "ERROR" text NOT NULL)',
    "CREATE TABLE IF NOT EXISTS {schema}.awsdms_txn_state (task text PRIMARY KEY, lsn pg_lsn NOT NULL)",
)


def _age(entry: Transaction) -> float:
    if entry.committed_at is None:
        return 0.0
    return max(0.0, (datetime.now(UTC) - entry.committed_at).total_seconds())


def _number(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def work_of(
    task: Mapping[str, Any],
    reads: Mapping[str, Any],
    writes: Mapping[str, Any],
    source_url: str,
    target_url: str,
) -> Work:
    """A task's work, of its and its two endpoints' descriptions."""
    reader, writer = reads.get("PostgreSQLSettings") or {}, writes.get("PostgreSQLSettings") or {}
    return Work(
        name=str(task["ReplicationTaskIdentifier"]),
        source_url=source_url,
        target_url=target_url,
        slot=str(reader.get("SlotName")),
        after_connect=str(writer.get("AfterConnectScript") or ""),
        fail_on_truncation=bool(reader.get("FailTasksOnLobTruncation")),
        rules=json.loads(task["TableMappings"])["rules"],
        settings=json.loads(task["ReplicationTaskSettings"]),
    )
