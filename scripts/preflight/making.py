"""Preflight of the target: the tables are made as `schema apply` and `copy` make them, and the source's records arrive in them; all of it is
rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import psycopg
from psycopg import sql

from components.config import MigrationConfig
from scripts.database import catalog, helper_schema
from scripts.database.catalog import Table, quoted
from scripts.database.connections import Connection, scalar
from scripts.database.error_text import told
from scripts.preflight.documents import Check
from scripts.preflight.needs import QUERIES
from scripts.preflight.trials import Record, limits
from scripts.schema import choice, role, sequences, statements
from scripts.schema.parts import parts
from scripts.support.settings import Settings
from scripts.writes import install, record, relations
from scripts.writes.relations import Relations, literals

#: So long may a statement take on the target, where nobody waits.
TARGET_SECONDS = 30


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
        limits(target, TARGET_SECONDS)
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
            "; ".join(f"{what}: {why}" for what, why in failed)
            or f"{len(tables)} tables with what comes after the rows, rolled back",
            "mend what it names" + choice.may_stay(tables, [what for what, _ in failed]),
        )
        if not failed and any(records.values()) and not helper_schema.get(target, install.SHAPES):
            there = catalog.read(target, config.db_schema, tuple(tables), "target")
            # Without a key there are no rules: that is a check of its own.
            if all(table.key for table in there.values()):
                yield from _applied(config, target, there, records)


class _Attempts:
    """Statements that are tried one by one, with what was refused."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self.failed = connection, list[tuple[str, str]]()

    def take(self, what: str, *tried: sql.Composed | sql.SQL) -> bool:
        """Whether all of ``tried`` could be carried out; else none of it was, and ``what`` is among the failed."""
        try:
            with self._connection.transaction():
                for statement in tried:
                    self._connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            raise
        except psycopg.Error as error:
            self.failed.append((what, told(error)))
            return False
        return True


def _make(
    config: MigrationConfig, source: Connection, target: Connection, tables: Mapping[str, Table]
) -> list[tuple[str, str]]:
    """Make what is not there; returns what was refused, and why."""
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
    refused = {what for what, _ in attempts.failed}
    for one in sequences.taken(tables):
        name = sequences.literal(one.sequence.identifier.as_string(None))
        for table, column in one.columns:
            what = f"{table.name}.{column.name}"
            if column.default is None or column.is_integer or what in refused:
                continue
            text = (
                f"SELECT setval({name}, greatest({band}, {one.sequence.minimum}), false); CREATE TEMPORARY TABLE task_migration_id (id {column.type}) "
                f"ON COMMIT DROP; INSERT INTO pg_temp.task_migration_id VALUES ({column.default}); DROP TABLE pg_temp.task_migration_id"
            )
            if not attempts.take(what, sql.SQL(text)):
                said = f"the target's ids begin at {band} (sequenceBandStart); widen the column on the source"
                attempts.failed[-1] = (what, f"{attempts.failed[-1][1]}: {said}")


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
