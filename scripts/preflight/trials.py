"""Preflight of the steps themselves: what `schema apply`, `copy` and `replicate start` do is done in transactions that are rolled back, with what an
apply worker has: nothing but pg_catalog in the search_path, session_replication_role replica.

On the live side the table's lock is asked for once, for 300 ms at most, and held for the writes of a few rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import catalog, helper_schema
from scripts.database.catalog import Table, identifiers, quoted
from scripts.database.connections import Connection, scalar
from scripts.database.error_text import told
from scripts.preflight.documents import Check
from scripts.preflight.needs import QUERIES
from scripts.schema import choice, role, sequences, statements
from scripts.schema.parts import parts
from scripts.schema.sequences import literal
from scripts.support.errors import MigrationError, TimedOut
from scripts.support.settings import Settings
from scripts.writes import capture, install, record, relations
from scripts.writes.relations import Relations, literals, names

#: Rows of each table that are written: that many of the smallest keys, and of the largest.
ROWS = 3
#: A row with a value of so many bytes, as they are stored, is not tried: it would take long.
LARGE_BYTES = 100_000
#: A live table is locked for so long at most: then no further row of it is tried. A statement may take as long.
LOCKED_SECONDS = 1
#: Its lock is asked for, 300 ms at a time, for so long.
LOCK_SECONDS = 3
#: So long may a statement take on the target, where nobody waits.
TARGET_SECONDS = 30
#: PostgreSQL 16, 'pg_input_is_valid'.
SAMPLES_SINCE = 160000
#: Classes of SQLSTATE that speak of names which are not known: a function's, a type's, a schema's.
UNKNOWN = ("42", "3F")


@dataclass(frozen=True)
class Record:
    """What `copy` would record of a row: its key, and its values as JSON of texts."""

    key: str
    vals: str


@dataclass
class Tried:
    """What trying one table brought: the records, what was refused, and in seconds how long the table's lock was held."""

    records: list[Record] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    seconds: float = 0.0
    #: Why nothing was tried.
    untried: str = ""
    #: It is recorded already, so nothing had to be tried.
    recorded: bool = False


def live(settings: Settings, source: Connection, table: Table) -> Tried:
    """The table is recorded as `copy` has it recorded, and rows of it are written, as a live application would."""
    if helper_schema.get(source, install.SHAPES):
        return Tried(recorded=True)
    try:
        work = partial(_live, settings.config, source, table)
        return helper_schema.with_lock_retries(work, f"locking {table.name}", LOCK_SECONDS)
    except (TimedOut, psycopg.errors.QueryCanceled, psycopg.errors.InsufficientPrivilege) as error:
        return Tried(untried=told(error))
    except (psycopg.Error, MigrationError) as error:
        return Tried(refused=[told(error)])


def _live(config: MigrationConfig, source: Connection, table: Table) -> Tried:
    tried = Tried()
    with source.transaction(force_rollback=True):
        helper_schema.install(source)
        _limits(source, LOCKED_SECONDS)
        found = relations.of({table.name: table}, config.column_groups)[table.name]
        for statement in install.recording({table.name: found}, "source"):
            source.execute(statement)
        places = _places(source, table)
        began = time.monotonic()
        source.execute(capture.trigger(found))
        for place in places:
            if time.monotonic() - began < LOCKED_SECONDS:
                _rewrite(source, found, place, tried)
        if not places and source.info.server_version >= SAMPLES_SINCE:
            _sample(source, table, tried)
        tried.seconds = time.monotonic() - began
    return tried


def judge_live(name: str, tried: Tried, paths: Sequence[str] = ()) -> Check:
    """The verdict on one live table; ``paths`` is SQL that gives its functions a search_path. Pure."""
    check = f"source: write {name}"
    if tried.refused:
        return Check(
            check,
            "fail",
            f"refused while it is recorded: {'; '.join(dict.fromkeys(tried.refused))}",
            "from `copy` on the application's own writes would be refused as well, or could not be applied: mend what the detail names, or take "
            "the table out of `tables`" + "".join(f"; {text}" for text in paths),
        )
    if tried.untried:
        return Check(check, "warn", f"could not be tried: {tried.untried}", "mend that, then run it again")
    if tried.recorded:
        return Check(check, "pass", "its writes are recorded already")
    rows = f"{len(tried.records)} rows written as `copy` records them" if tried.records else "recorded; no row to write"
    return Check(check, "pass", f"{rows}; rolled back, the table was locked for {tried.seconds * 1000:.0f} ms")


def _limits(connection: Connection, seconds: int) -> None:
    """An apply worker's settings, and what keeps the live application from waiting (scripts/writes/apply.sql)."""
    for name, value in (
        ("lock_timeout", f"{install.LOCK_MS}ms"),
        ("statement_timeout", f"{seconds}s"),
        ("session_replication_role", "replica"),
    ):
        connection.execute("SELECT set_config(%s, %s, true)", (name, value))


def _places(connection: Connection, table: Table) -> list[str]:
    """Where a few rows stand: those of the smallest keys, and of the largest."""
    first, last = (
        sql.SQL(", ").join(sql.SQL(f"{{}} {way}").format(sql.Identifier(name)) for name in table.key)
        for way in ("ASC", "DESC")
    )
    query = sql.SQL(QUERIES["places"])
    holes = {"table": table.identifier, "first": first, "last": last, "rows": sql.Literal(ROWS)}
    return [str(row[0]) for row in connection.execute(query.format(**holes))]


def _rewrite(source: Connection, found: Relations, place: str, tried: Tried) -> None:
    """A row goes and comes again, then is updated to itself; what is recorded of it, or what refuses it, is kept in ``tried``."""
    table = found.table
    unchecked = {one.name for one in table.constraints if not one.valid} | {
        one.name for one in table.indexes if not one.valid
    }
    holes = {
        "table": table.identifier,
        "place": sql.Literal(place),
        "columns": identifiers(table.stored),
        "sizes": names(table.stored, "pg_column_size(", ")"),
        "limit": sql.Literal(LARGE_BYTES),
    }
    same = sql.SQL(", ").join(sql.SQL("{0} = {0}").format(sql.Identifier(name)) for name in found.settable)
    try:
        with source.transaction():
            if source.execute(sql.SQL(QUERIES["hold"]).format(**holes)).fetchone() is None:
                return
            anew = scalar(source, sql.SQL(QUERIES["rewrite"]).format(**holes))
            if found.settable:
                update = sql.SQL("UPDATE {} SET {} WHERE ctid = {}::tid")
                source.execute(update.format(table.identifier, same, sql.Literal(anew)))
            row = source.execute(sql.SQL(QUERIES["recorded"]).format(**holes)).fetchone()
            if row:
                tried.records.append(Record(*row))
    except (psycopg.errors.CheckViolation, psycopg.errors.UniqueViolation) as error:
        # A row that was there before its check was, or an index that could not be built for it.
        if error.diag.constraint_name not in unchecked:
            tried.refused.append(told(error))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.QueryCanceled):
        raise
    except psycopg.Error as error:
        tried.refused.append(told(error))


def _sample(source: Connection, table: Table, tried: Tried) -> None:
    """A table that is empty gets a row of any values, so that what is called for a row is called; whether they are allowed is not asked."""
    values = [scalar(source, QUERIES["sample"], {"type": table.column(name).type}) for name in table.stored]
    insert = sql.SQL(QUERIES["insert"]).format(
        table=table.identifier, columns=identifiers(table.stored), values=sql.SQL(", ").join(map(sql.Literal, values))
    )
    try:
        with source.transaction():
            source.execute(insert)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] in UNKNOWN:
            tried.refused.append(told(error))


def made(
    settings: Settings,
    source: Connection,
    target: Connection,
    tables: Mapping[str, Table],
    records: Mapping[str, Sequence[Record]],
) -> Iterator[Check]:
    """What `schema apply` makes, what `copy` makes after the rows, and the source's records applied to it: on the target, rolled back."""
    config = settings.config
    with target.transaction(force_rollback=True):
        _limits(target, TARGET_SECONDS)
        try:
            failed = _make(config, source, target, tables)
        except psycopg.errors.InsufficientPrivilege as error:
            yield Check(
                "target: make the tables", "warn", f"could not be tried: {told(error)}", "mend that, then run it again"
            )
            return
        yield Check(
            "target: make the tables",
            "fail" if failed else "pass",
            "; ".join(failed) or f"{len(tables)} tables with what comes after the rows, rolled back",
            "mend what it names; or what the target can do without stays behind: leaveBehind: "
            f"[{', '.join(text.split(': ')[0] for text in failed if '.' in text.split(': ')[0])}]",
        )
        if not failed and any(records.values()) and not helper_schema.get(target, install.SHAPES):
            there = catalog.read(target, config.db_schema, tuple(tables), "target")
            yield from _applied(config, target, there, records)


class _Attempts:
    """Statements that are tried one by one, with what was refused."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self.failed = connection, list[str]()

    def take(self, what: str, *tried: sql.Composed | sql.SQL) -> bool:
        """Whether all of ``tried`` could be carried out; else none of it was, and ``what`` is among the failed."""
        try:
            with self._connection.transaction():
                for statement in tried:
                    self._connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            raise
        except psycopg.Error as error:
            self.failed.append(f"{what}: {told(error)}")
            return False
        return True


def _make(config: MigrationConfig, source: Connection, target: Connection, tables: Mapping[str, Table]) -> list[str]:
    """Make what is not there; returns what was refused, with its name."""
    attempts, wanted = _Attempts(target), choice.chosen(tables, config, "source")
    types = catalog.types(source, tables.values())
    if not role.exists(target, config.target_role):
        # Policies name it, and `schema apply` makes it first.
        target.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(config.target_role)))
    there = statements.types_there(target, types)
    attempts.take("types", *statements.before_tables(wanted.values(), types, there))
    before = catalog.existing(target, config.db_schema, tuple(tables))
    missing = [table for name, table in wanted.items() if name not in before]
    # What a sequence hands out is not rolled back, unless the sequence itself is.
    old = {
        (one.sequence.schema, one.sequence.name) for one in sequences.taken(missing) if _is_there(target, one.sequence)
    }
    _create(attempts, missing)
    _take_ids(
        attempts,
        [t for t in missing if not old & {(s.schema, s.name) for s in t.sequences}],
        config.sequence_band_start,
    )
    found = catalog.read(target, config.db_schema, catalog.existing(target, config.db_schema, tuple(tables)), "target")
    after = [
        (statements.STAGES.index(stage), name, item, statement)
        for name, table in choice.chosen(found, config, "target").items()
        if _empty(target, table)
        for stage, item, statement in statements.after_rows(wanted[name], table)
    ]
    for _, name, item, statement in sorted(after, key=lambda one: one[0]):
        attempts.take(f"{name}.{item}", statement)
    return attempts.failed


def _empty(connection: Connection, table: Table) -> bool:
    return not scalar(connection, sql.SQL("SELECT EXISTS (SELECT 1 FROM {})").format(table.identifier))


def _is_there(connection: Connection, sequence: catalog.Sequence) -> bool:
    return (
        scalar(connection, "SELECT to_regclass(%s) IS NOT NULL", (sequence.identifier.as_string(connection),)) is True
    )


def _create(attempts: _Attempts, tables: Sequence[Table]) -> None:
    """Make tables; where that is refused, what of their sequences, defaults, checks and parts is."""
    count = len(attempts.failed)
    if attempts.take("tables", *statements.tables_sql(tables)):
        return
    whole = attempts.failed.pop()
    for one in sequences.taken(tables):
        if not one.sequence.identity:
            table, column = one.columns[0]
            attempts.take(f"{table.name}.{column.name}", sequences.create(one.sequence))
    bare = [table for table in tables if attempts.take(table.name, *statements.tables_sql([statements.naked(table)]))]
    for table in bare:
        name = table.identifier.as_string(None)
        todo = [
            (column.name, f"ALTER TABLE {name} ALTER {quoted(column.name)} SET DEFAULT {column.default}")
            for column in table.columns
            if column.default is not None and not column.generated
        ]
        todo += [
            (one.name, statements.add_constraint(table, one))
            for one in table.constraints
            if one.kind == "c" and one.valid
        ]
        todo += [(part.name, part.make) for part in parts(table) if not part.late]
        for item, text in todo:
            attempts.take(f"{table.name}.{item}", sql.SQL(text))
    if len(attempts.failed) == count:
        attempts.failed.append(whole)


def _take_ids(attempts: _Attempts, tables: Sequence[Table], band: int) -> None:
    """Columns of tables just made that take an id of the target's band: one that is no integer may have no place for it."""
    for one in sequences.taken(tables):
        name = literal(one.sequence.identifier.as_string(None))
        for table, column in one.columns:
            what = f"{table.name}.{column.name}"
            if (
                column.default is None
                or column.is_integer
                or any(text.startswith(f"{what}: ") for text in attempts.failed)
            ):
                continue
            text = (
                f"SELECT setval({name}, greatest({band}, {one.sequence.minimum}), false); CREATE TEMPORARY TABLE task_migration_id (id {column.type}) "
                f"ON COMMIT DROP; INSERT INTO pg_temp.task_migration_id VALUES ({column.default}); DROP TABLE pg_temp.task_migration_id"
            )
            if not attempts.take(f"{table.name}.{column.name}", sql.SQL(text)):
                attempts.failed[-1] += (
                    f": the target's ids begin at {band} (sequenceBandStart); widen the column on the source"
                )


def _applied(
    config: MigrationConfig, target: Connection, tables: Mapping[str, Table], records: Mapping[str, Sequence[Record]]
) -> Iterator[Check]:
    """Records as `copy` would make them arrive in tables that are empty, each with its table's rules, and must leave what they say."""
    helper_schema.install(target)
    for statement in install.recording({}, "target"):
        target.execute(statement)
    install.rules_on(target, config, "target")
    for name, one in relations.of(tables, config.column_groups).items():
        if not records.get(name) or not _empty(target, one.table):
            continue
        wrong = list[str]()
        for row in records[name]:
            try:
                with target.transaction(force_rollback=True):
                    wrong += _arrive(target, one, row)
            except psycopg.Error as error:
                wrong.append(told(error))
        yield Check(
            f"target: apply to {name}",
            "fail" if wrong else "pass",
            f"what arrives is not what was written: {'; '.join(dict.fromkeys(wrong))}"
            if wrong
            else f"{len(records[name])} rows arrived as inserts, updates and deletes, and left what they say",
            "mend what it names on both sides, give the column another type (ALTER TABLE ... ALTER COLUMN ... TYPE text), or take the table "
            "out of `tables`",
        )


def _arrive(target: Connection, one: Relations, row: Record) -> Iterator[str]:
    """Insert a row by its record, update all of it, delete it, insert it again and end the transaction. Yields what is wrong."""
    table, values = one.table, json.loads(row.vals)
    kept = sql.SQL(QUERIES["values"]).format(
        names=literals(table.stored),
        values=sql.SQL("ARRAY[{}]::text[]").format(record.texts(table, table.stored, "t")),
        table=table.identifier,
    )
    changed = {name: values[name] for name in one.settable if name in values}
    for kind, sent in (("insert", values), ("update", changed), ("delete", None), ("insert", values)):
        target.execute(
            sql.SQL(QUERIES["arrive"]).format(
                records=record.table("source"),
                name=sql.Literal(table.name),
                key=sql.Literal(row.key),
                kind=sql.Literal(kind),
                vals=sql.Literal(None if sent is None else json.dumps(sent, ensure_ascii=False)),
            )
        )
        there = scalar(target, kept)
        if kind == "delete" and there is not None:
            yield f"the row of a key is not found by it ({', '.join(table.key)})"
        if kind != "delete":
            now = json.loads(there) if there else {}
            yield from (
                f"{kind}: {name} came back as another text"
                for name in table.stored
                if now.get(name) != values.get(name)
            )
        if kind == "insert" and one.table.claims:
            contest = sql.SQL("SELECT {}({}, {}::jsonb, true)").format(
                record.function(table, "contest"), sql.Literal(row.key), sql.Literal(row.vals)
            )
            target.execute(contest)
    target.execute("SET CONSTRAINTS ALL IMMEDIATE")
