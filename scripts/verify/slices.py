"""A table in pieces of its key, so that a pass over it can rest between two of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg import sql

from scripts.database.catalog import Table
from scripts.database.connections import Connection


def about(table: Table) -> int:
    """The rows of a table, estimated."""
    # Never analysed: a row takes 24 bytes at least, and usually four times as much.
    return max(table.rows_estimate, table.pages * 80)


def slices(sides: Sequence[tuple[Connection, Table]], size: int) -> Iterator[sql.Composable]:
    """Conditions on a row ``t``, of which exactly one holds for each row whatever is written meanwhile: ranges of about ``size`` rows of
    the key's first column, where that is an integer on all ``sides``; else one for all rows."""
    tables = [table for _, table in sides]
    first = {table.key[:1] for table in tables}
    if len(first) != 1 or max(map(about, tables)) <= size or not all(_whole_numbers(table) for table in tables):
        yield sql.SQL("true")
        return
    name = sql.Identifier(tables[0].key[0])
    above: sql.Composable = sql.SQL("true")
    while True:
        ends = [
            int(row[0])
            for connection, table in sides
            if (
                row := connection.execute(
                    sql.SQL("SELECT t.{0} FROM {1} t WHERE {2} ORDER BY t.{0} OFFSET {3} LIMIT 1").format(
                        name, table.identifier, above, sql.Literal(size)
                    )
                ).fetchone()
            )
        ]
        if not ends:
            yield above
            return
        end = sql.Literal(min(ends))
        yield sql.SQL("{} AND t.{} <= {}").format(above, name, end)
        above = sql.SQL("t.{} > {}").format(name, end)


def _whole_numbers(table: Table) -> bool:
    return bool(table.key) and table.column(table.key[0]).is_integer
