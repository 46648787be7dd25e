"""Preflight of values that mean something of their own database: names of what is in it (regclass and its kin), large objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import psycopg
from psycopg import sql

from scripts.database.catalog import Table, quoted
from scripts.database.catalog.parts import Part
from scripts.database.connections import Connection, scalar
from scripts.preflight.documents import Check
from scripts.preflight.server import QUERIES
from scripts.preflight.tables import named

#: Different names of a column that are looked up, and of those that cannot be, how many are told.
NAMES, TOLD = 10_000, 5


def large_objects(source: Connection, parts: Sequence[Part]) -> Iterator[Check]:
    """Numbers that may be large objects' (PostgreSQL, 'Large Objects'), whose content no replication carries."""
    full, bare, mends = [], [], []
    for part in parts:
        if part.is_oid:
            found = scalar(source, sql.SQL(QUERIES["large_objects"]).format(values=part.values()))
            if found:
                full.append(f"{part.shown} ({found})")
                mends.append(_content(part))
            else:
                bare.append(part.shown)
    yield named(
        "source: columns of large objects",
        full,
        "none",
        "fail",
        "the number travels, the content stays behind; move it into the row, and let the application read it there: "
        + "; ".join(mends),
    )
    yield named(
        "source: oid columns",
        bare,
        "none, or of large objects",
        "warn",
        "a number of this database travels as a number, and means nothing on the target: ALTER TABLE ... ALTER COLUMN ... TYPE bigint "
        "where it counts, or let it hold a name (regclass, text)",
    )
    rest = sql.SQL(" UNION ALL ").join(
        [part.values() for part in parts if part.is_oid] or [sql.Composed([sql.SQL("SELECT NULL::oid AS v")])]
    )
    left = scalar(source, sql.SQL(QUERIES["other_large_objects"]).format(values=rest))
    yield Check(
        "source: other large objects",
        "warn" if left else "pass",
        f"{left}, which no oid column of the tables names",
        "they stay behind; where a moved table names one otherwise (as a number or a text), move its content into a bytea column (lo_get)",
    )


def _content(part: Part) -> str:
    """The SQL that moves the content of a column's large objects into a column beside it, and drops theirs."""
    if set(part.steps) - {"each"}:
        return f"a bytea in the place of the oid inside {part.shown} (lo_get)"
    table, old, new = (
        quoted(*names) for names in ((part.table.schema, part.table.name), (part.column,), (f"{part.column}_content",))
    )
    get = "(SELECT lo_get(m.oid) FROM pg_largeobject_metadata m WHERE m.oid = {})"
    many = "[]" if part.steps else ""
    value = f"ARRAY(SELECT {get.format('x.v')} FROM unnest({old}) x(v))" if many else get.format(old)
    return (
        f"ALTER TABLE {table} ADD COLUMN {new} bytea{many}; UPDATE {table} SET {new} = {value} WHERE {old} IS NOT NULL; "
        f"ALTER TABLE {table} DROP COLUMN {old}"
    )


def names(
    source: Connection, target: Connection, tables: Mapping[str, Table], parts: Sequence[Part]
) -> Iterator[Check]:
    """Whether the target, with what `schema apply` makes there, has what each name means; nothing of it stays there."""
    wanted = [part for part in parts if (part.named or not part.binary) and not part.made]
    values = {part: _names(source, part) for part in wanted}
    wrong, mends = [], []
    with target.transaction(force_rollback=True):
        _make_names(target, tables, parts)
        for part, held in values.items():
            if unknown := _unknown(target, part, held):
                more = f" and {len(unknown) - TOLD} more" if len(unknown) > TOLD else ""
                wrong.append(f"{part.shown}: {', '.join(unknown[:TOLD])}{more}")
                mends += _as_text(part)
    yield named(
        "both: names in columns",
        wrong,
        f"the target knows all that the {len(wanted)} columns of names hold"
        if wanted
        else "no column of names (regclass, aclitem)",
        "fail",
        "make on the target what they name (a bare number names nothing on the source either: delete it); or where nobody needs it there: "
        + "; ".join(mends),
    )


def _names(source: Connection, part: Part) -> list[str]:
    query = sql.SQL("SELECT DISTINCT x.v::text FROM ({}) x LIMIT {}").format(part.values(), sql.Literal(NAMES))
    return [str(row[0]) for row in source.execute(query).fetchall()]


def _unknown(target: Connection, part: Part, held: Sequence[str]) -> list[str]:
    """Those of ``held`` that do not come out as they go in."""
    query = sql.SQL(QUERIES["unknown_names"]).format(
        type=sql.SQL(part.type), kind=sql.Literal(part.type), named=sql.Literal(part.named)
    )
    return [str(row[0]) for row in target.execute(query, {"names": list(held)}).fetchall()]


def _make_names(target: Connection, tables: Mapping[str, Table], parts: Sequence[Part]) -> None:
    """What `schema apply` is going to make, by its name alone, as far as it can be made; the check of its statements says the rest."""
    schemas = sorted({table.schema for table in tables.values()})
    made = [sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)) for schema in schemas]
    made += [sql.SQL("CREATE TABLE IF NOT EXISTS {} ()").format(table.identifier) for table in tables.values()]
    made += [
        sql.SQL("CREATE SEQUENCE IF NOT EXISTS {}").format(sequence.identifier)
        for table in tables.values()
        for sequence in table.sequences
    ]
    made += [sql.SQL("CREATE TYPE {} AS ENUM ()").format(sql.SQL(part.type)) for part in parts if part.made]
    for statement in made:
        with suppress(psycopg.Error), target.transaction():
            target.execute(statement)


def _as_text(part: Part) -> list[str]:
    if set(part.steps) - {"each"}:
        return []
    kind = "text[]" if part.steps else "text"
    column = quoted(part.column)
    return [
        f"ALTER TABLE {quoted(part.table.schema, part.table.name)} ALTER COLUMN {column} TYPE {kind} USING {column}::{kind}"
    ]
