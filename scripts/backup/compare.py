"""What a backup is compared by: rows and checksum of every table, and how many objects of each kind there are."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from scripts.backup.documents import Dump, TableSum
from scripts.database import catalog, queries
from scripts.database.connections import Connection, connect, domain_errors
from scripts.database.pace import ROWS
from scripts.support.errors import DataDiffer
from scripts.support.progress import SILENT, Progress
from scripts.verify.hash import row_hash
from scripts.verify.slices import slices

SYSTEM_SCHEMAS = ("pg_catalog", "information_schema", "task_migration")

QUERIES = queries.load("scripts.backup")


def checksums(
    connection: Connection,
    what: str,
    progress: Progress,
    total: int | None = None,
    size: int = ROWS,
    gate: Callable[[], object] = lambda: None,
) -> list[TableSum]:
    """Rows and checksum of every ordinary table of the database, in the session's snapshot; shown as ``what``.

    Args:
        total: how many rows there are, where that is known; else the catalog's estimate.
        size: rows that are read at once, about; ``gate`` is called before each time.
    """
    names = connection.execute(QUERIES["tables"], {"system": list(SYSTEM_SCHEMAS)}).fetchall()
    tables = [
        table for schema, members in names for table in catalog.read(connection, schema, members, "database").values()
    ]
    found = []
    with progress.work(what, total or sum(table.rows_estimate for table in tables), "rows") as work:
        for table in tables:
            count, digest = 0, 0
            for slice_ in slices([(connection, table)], size):
                gate()
                row = connection.execute(
                    sql.SQL("SELECT count(*), coalesce(sum({}), 0) FROM {} t WHERE {}").format(
                        row_hash(table, "hash"), table.identifier, slice_
                    )
                ).fetchone()
                assert row is not None  # an aggregate without GROUP BY gives one row
                count, digest = count + int(row[0]), digest + int(row[1])
                work.advance(int(row[0]))
            shown = table.name if table.schema == "public" else f"{table.schema}.{table.name}"
            found.append(TableSum(table=shown, rows=count, checksum=f"{digest % 2**64:016x}"))
    return found


def objects(connection: Connection) -> dict[str, int]:
    """How many tables, indexes, sequences, views, constraints, triggers and functions the database has of its own."""
    rows = connection.execute(QUERIES["objects"], {"system": list(SYSTEM_SCHEMAS)}).fetchall()
    none = dict.fromkeys(("constraints", "functions", "triggers"), 0)
    return dict(sorted({**none, **{str(kind): int(number) for kind, number in rows}}.items()))


def own_relations(connection: Connection) -> list[str]:
    """Names of what a database holds besides the system's and extensions' objects; empty for a fresh one."""
    return [str(row[0]) for row in connection.execute(QUERIES["relations"]).fetchall()]


def same(url: str, dump: Dump, progress: Progress = SILENT) -> None:
    """Compare the database of ``url`` with what was dumped.

    Raises:
        DataDiffer: rows, checksums or numbers of objects differ; with both figures.
    """
    with (
        domain_errors("comparing the restored backup"),
        connect(url, step="backup", name="the restored database") as restored,
    ):
        tables = {
            entry.table: entry
            for entry in checksums(restored, "compare every row", progress, sum(t.rows for t in dump.tables))
        }
        kinds = objects(restored)
    wrong = [
        f"{entry.table} (source {entry.rows} rows {entry.checksum}, restored "
        + (f"{found.rows} rows {found.checksum})" if (found := tables.get(entry.table)) else "nothing)")
        for entry in dump.tables
        if tables.get(entry.table) != entry
    ]
    # A database that was not empty may hold more; never fewer.
    wrong += [
        f"{kind} (source {number}, restored {kinds.get(kind, 0)})"
        for kind, number in dump.objects.items()
        if kinds.get(kind, 0) < number
    ]
    if wrong:
        raise DataDiffer(f"the restored backup differs from the source: {'; '.join(wrong)}; make a new backup")
