"""Capture: the trigger function that writes a table's local writes into the record of writes."""

from __future__ import annotations

import json
from collections.abc import Iterable

from psycopg import sql

from scripts.database import queries
from scripts.database.catalog import Table
from scripts.support.sides import Side
from scripts.writes import record
from scripts.writes.relations import Relations, literals

TEMPLATES = queries.load("scripts.writes", "capture.sql")


def function(relations: Relations, side: Side) -> sql.Composed:
    """CREATE FUNCTION for a table's capture on ``side``. Whole column groups are recorded, so that they are decided whole."""
    table = relations.table
    grouped = {name for group in relations.groups for name in group}
    units = [(name,) for name in table.stored if name not in table.key and name not in grouped]
    changed = [_changed(table, unit) for unit in [*units, *relations.groups]]
    return sql.SQL(TEMPLATES["function"]).format(
        function=record.function(table, "capture"),
        shape=sql.Literal(table.shape),
        own=record.table(side),
        name=sql.Literal(table.name),
        old_key=record.key_of(table, "OLD"),
        new_key=record.key_of(table, "NEW"),
        referenced=literals(relations.referenced),
        referenced_values=record.texts(table, relations.referenced, "OLD"),
        changed=sql.SQL("\n            ").join(changed) if changed else sql.SQL("NULL;"),
        all_names=literals(table.stored),
        all_values=record.texts(table, table.stored, "NEW"),
        groups=sql.Literal(json.dumps(relations.groups, ensure_ascii=False)),
        heir_row=sql.SQL("_tm_heir {}%ROWTYPE;" if relations.key_late else "").format(table.identifier),
        heir=_heir(relations, side) if relations.key_late else sql.SQL(""),
    )


def trigger(relations: Relations) -> sql.Composed:
    """CREATE TRIGGER for a table's capture, and the one that refuses TRUNCATE."""
    table = relations.table
    return sql.SQL(TEMPLATES["trigger"]).format(table=table.identifier, function=record.function(table, "capture"))


def _heir(relations: Relations, side: Side) -> sql.Composed:
    return sql.SQL(TEMPLATES["heir"]).format(
        table=relations.table.identifier,
        here=relations.at("_tm_old_key"),
        own=record.table(side),
        name=sql.Literal(relations.table.name),
    )


def _changed(table: Table, columns: Iterable[str]) -> sql.Composed:
    """The columns join the record when one of them changed."""
    tests = []
    for name in columns:
        # `=` calls numeric 1.0 and 1.00, or texts under some collations, equal that are not the same to who looks. The function, as `*<>`
        # between two ROW(...) is asked of what stands in them: NULL of a composite type, whatever was there.
        form = (
            "NEW.{0} IS DISTINCT FROM OLD.{0}"
            if table.column(name).exact
            else "pg_catalog.record_image_ne(ROW(NEW.{0}), ROW(OLD.{0}))"
        )
        tests.append(sql.SQL(form).format(sql.Identifier(name)))
    return sql.SQL(
        "IF {tests} THEN _names := _names || {names}; _vals := _vals || ARRAY[{values}]::text[]; END IF;"
    ).format(tests=sql.SQL(" OR ").join(tests), names=literals(columns), values=record.texts(table, columns, "NEW"))
