"""Strategies for what is written: rows before the copy, and transactions of both sides that do not know of each other."""

from __future__ import annotations

from hypothesis import strategies as st

from scripts.support.sides import BOTH
from tests.fuzz import tables
from tests.fuzz.case import Case, Island, Round, Transaction
from tests.fuzz.schemas import Builder, Column, Table
from tests.fuzz.values import literal

#: PostgreSQL, 'Transaction Isolation'; most applications stay with the first.
ISOLATIONS = ("READ COMMITTED", "READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
#: What a session may have set, and how it shows values with it.
SESSIONS = (
    "SET LOCAL timezone = 'Asia/Tokyo'",
    "SET LOCAL bytea_output = 'escape'",
    "SET LOCAL intervalstyle = 'iso_8601'",
    "SET LOCAL datestyle = 'German'",
    "SET LOCAL extra_float_digits = -5",
    "SET LOCAL quote_all_identifiers = on",
    "SET LOCAL search_path = ''",
)
SCHEMAS = ("public", "public", "tasks", 'We"ird %s')


def value(it: Builder, column: Column) -> str:
    """SQL of a value of a column; one that counts by itself gives its default."""
    if column.nullable and it.chance(6):
        return "NULL"
    if column.of and (not column.values or it.chance(2)):
        table, name = column.of
        return f"(SELECT {name} FROM {table} ORDER BY {name}::text LIMIT 1 OFFSET {it.number_of(0, 2)})"
    return literal(it.one(column.values)) if column.values else "DEFAULT"


def insert(it: Builder, table: Table) -> str:
    """One or two rows, with most columns given."""
    given = [
        one
        for one in table.columns
        if not one.computed and (one.values or one.of) and (one in table.key or not it.chance(5))
    ]
    if not given:
        return f"INSERT INTO {table.q} DEFAULT VALUES"
    rows = [f"({', '.join(value(it, column) for column in given)})" for _ in range(1 + it.chance(4))]
    statement = f"INSERT INTO {table.q} ({tables.names(given)}) VALUES {', '.join(rows)}"
    rest = [one for one in given if one not in table.key]
    if it.chance(5):
        statement += " ON CONFLICT DO NOTHING"
    elif rest and it.chance(5):
        statement += f" ON CONFLICT ({tables.names(table.key)}) DO UPDATE SET {rest[0].q} = excluded.{rest[0].q}"
    return statement


def where(it: Builder, table: Table) -> str:
    """Which rows: one by its key, one that is there, or several."""
    first = it.one(table.key)
    kind = it.number_of(0, 5)
    if kind == 0:
        column = it.one(table.columns)
        return f"{column.q} IS NOT NULL"
    if kind < 3 and all(column.values for column in table.key):
        return " AND ".join(f"{column.q} = {literal(it.one(column.values))}" for column in table.key)
    key = tables.names(table.key)
    return f"({key}) = (SELECT {key} FROM {table.q} ORDER BY {first.q}::text, 1 LIMIT 1 OFFSET {it.number_of(0, 3)})"


def change(it: Builder, table: Table) -> str:
    """An update of one or two columns, keys too."""
    some = [one for one in table.columns if not one.computed]
    columns = {one.name: one for one in (it.one(some) for _ in range(1 + it.chance(2)))}
    sets = ", ".join(f"{one.q} = {value(it, one)}" for one in columns.values())
    return f"UPDATE {table.q} SET {sets} WHERE {where(it, table)}"


def swap(it: Builder, table: Table) -> str:
    """Two rows change places in a column."""
    columns = [one for one in table.columns if not one.computed]
    column, key = it.one(columns).q, table.key[0].q
    return (
        f"UPDATE {table.q} t SET {column} = o.{column} FROM {table.q} o WHERE t.{key} <> o.{key} AND "
        f"(SELECT count(*) FROM {table.q}) = 2"
    )


def statement(it: Builder) -> str:
    """Any write of any table of the island."""
    table = it.one(it.tables)
    kind = it.number_of(0, 10)
    if kind < 4:
        return insert(it, table)
    if kind < 8:
        return change(it, table)
    return f"DELETE FROM {table.q} WHERE {where(it, table)}" if kind < 10 else swap(it, table)


def rounds(it: Builder) -> tuple[Round, ...]:
    """What is written once replication runs."""
    return tuple(
        tuple(
            Transaction(
                it.one(BOTH),
                it.one(ISOLATIONS),
                (*([it.one(SESSIONS)] if it.chance(4) else []), *(statement(it) for _ in range(it.number_of(1, 3)))),
            )
            for _ in range(it.number_of(1, 4))
        )
        for _ in range(it.number_of(1, 3))
    )


def island(draw: st.DrawFn, schema: str, number: int) -> Island:
    """Tables, rows and writes."""
    it = Builder(draw, schema, number)
    parents: list[Table] = []
    if it.chance(6):
        # A parent that stays behind: of the same schema, or of another one.
        elsewhere = it.chance(2)
        if elsewhere:
            it.source += ["CREATE SCHEMA IF NOT EXISTS auth", "GRANT USAGE ON SCHEMA auth TO myteacher_app_user"]
        outside = tables.table(it, "auth" if elsewhere else schema)
        it.source.append(f"GRANT SELECT ON {outside.q} TO myteacher_app_user")
        it.left.append(outside.name)
        parents = [outside]
    for _ in range(it.number_of(1, 3)):
        made = tables.table(it)
        for _ in range(it.number_of(0, 2)):
            tables.reference(it, made, it.one([*parents, *it.tables]), after_rows=it.chance(8))
        for one_in, more in ((3, tables.check), (3, tables.beside), (6, tables.function)):
            if it.chance(one_in):
                more(it, made)
    if len(it.tables) > 1 and it.chance(4):
        # A circle.
        tables.reference(it, it.tables[0], it.tables[-1])
    for made in it.tables:
        it.source += [insert(it, made) for _ in range(it.number_of(0, 4))]
    it.tables = [made for made in it.tables if made not in parents]
    return Island(tuple(it.both), (*it.source, *it.late), rounds(it), tuple(it.left))


@st.composite
def drawn(draw: st.DrawFn, most: int = 6) -> Case:
    """A schema with up to ``most`` islands."""
    schema = draw(st.sampled_from(SCHEMAS))
    return Case(schema, tuple(island(draw, schema, number) for number in range(draw(st.integers(1, most)))))
