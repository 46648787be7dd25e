"""The orphan audit: what the foreign keys that cross the border would have refused, asked of the source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import sql

from scripts import catalog
from scripts.catalog import Constraint, Table
from scripts.support.postgres import Connection

BATCH = 10_000
SAMPLES = 10
Value = tuple[str, ...]


def audit(
    source: Connection, target: Connection, tables: dict[str, Table], settle: Callable[[], None]
) -> list[dict[str, Any]]:
    """References on the target that lead to no row on the source, by foreign key; empty when all are good.

    Keys are those of the source's catalog that leave the moved tables. What is missing is looked at again after a fence,
    as a parent deleted on the source takes its children on the target along a moment later.
    """
    found = []
    for table, key in catalog.crossing(tables):
        lost = _lost(source, target, table, key, None)
        if lost:
            settle()
            lost = _lost(source, target, table, key, lost)
        if lost:
            found.append(
                {
                    "constraint": key.name,
                    "table": table.name,
                    "columns": list(key.columns),
                    "references": f"{key.references}({', '.join(key.references_columns)})",
                    "count": len(lost),
                    "samples": [dict(zip(key.columns, value, strict=True)) for value in sorted(lost)[:SAMPLES]],
                }
            )
    return found


def _lost(
    source: Connection, target: Connection, table: Table, key: Constraint, among: list[Value] | None
) -> list[Value]:
    fields = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in key.columns)
    given = sql.SQL(" AND ").join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in key.columns)
    rows = target.execute(
        sql.SQL("SELECT DISTINCT ARRAY[{}] FROM {} t WHERE {}").format(fields, table.identifier, given)
    ).fetchall()
    values: list[Value] = [tuple(row[0]) for row in rows]
    if among is not None:
        kept = set(among)
        values = [value for value in values if value in kept]
    names = [f"v{i}" for i in range(len(key.columns))]
    match = sql.SQL(" AND ").join(
        sql.SQL("p.{} = v.{}::{}").format(
            sql.Identifier(column),
            sql.Identifier(name),
            sql.SQL(table.column(own).type),
        )
        for column, name, own in zip(key.references_columns, names, key.columns, strict=True)
    )
    query = sql.SQL("SELECT ARRAY[{}] FROM unnest({}) v({}) WHERE NOT EXISTS (SELECT 1 FROM {} p WHERE {})").format(
        sql.SQL(", ").join(sql.SQL("v.{}").format(sql.Identifier(name)) for name in names),
        sql.SQL(", ").join(sql.SQL("%s::text[]") for _ in names),
        catalog.identifiers(names),
        sql.Identifier(table.schema, str(key.references)),
        match,
    )
    lost: list[Value] = []
    for start in range(0, len(values), BATCH):
        batch = values[start : start + BATCH]
        columns = [[value[i] for value in batch] for i in range(len(names))]
        lost += [tuple(row[0]) for row in source.execute(query, columns).fetchall()]
    return lost
