"""Preflight of the live tables: each is recorded as `copy` has it recorded, and a few of its rows are written with what an apply worker has, nothing
but pg_catalog in the search_path and session_replication_role replica; all of it is rolled back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import helper_schema
from scripts.database.catalog import Table, identifiers
from scripts.database.connections import Connection, scalar
from scripts.database.error_text import told
from scripts.preflight.documents import Check
from scripts.preflight.needs import QUERIES
from scripts.support.errors import MigrationError, TimedOut
from scripts.support.settings import Settings
from scripts.writes import capture, install, relations
from scripts.writes.relations import Relations, names

#: Rows of each table that are written: that many of the smallest keys, and of the largest.
ROWS = 3
#: A row with a value of so many bytes, as they are stored, is not tried: it would take long.
LARGE_BYTES = 100_000
#: A live table is locked for so long at most, seconds: what is not tried by then is not tried.
LOCKED_SECONDS = install.LOCK_MS / 1000
#: What comes before that lock may take so long, seconds.
STATEMENT_SECONDS = 1
#: Its lock is asked for, 300 ms at a time, for so long.
LOCK_SECONDS = 3
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
        limits(source, STATEMENT_SECONDS)
        found = relations.of({table.name: table}, config.column_groups)[table.name]
        for statement in install.recording({table.name: found}, "source"):
            source.execute(statement)
        places = _places(source, table)
        began = time.monotonic()
        source.execute(capture.trigger(found))
        for place in places:
            left = int(1000 * (LOCKED_SECONDS - (time.monotonic() - began)))
            if left <= 0:
                break
            source.execute("SELECT set_config('statement_timeout', %s, true)", (str(left),))
            try:
                _rewrite(source, found, place, tried)
            except psycopg.errors.QueryCanceled:
                if not tried.records and not tried.refused:
                    raise
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


def limits(connection: Connection, seconds: int) -> None:
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
