"""What a backup is compared by: rows and checksum of every table, and how many objects of each kind there are."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from scripts.database import catalog
from scripts.database.connections import Connection, connect, domain_errors
from scripts.support.errors import DataDiffer
from scripts.verify import compare as verify_compare

SYSTEM_SCHEMAS = ("pg_catalog", "information_schema", "task_migration")

#: Namespaces that a dump holds whole; parameter: SYSTEM_SCHEMAS.
_OURS = "n.nspname <> ALL(%(system)s) AND n.nspname !~ '^pg_'"
#: Objects of an extension come with CREATE EXTENSION, and may be others in another version of it.
_NO_EXTENSION = "NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')"


def checksums(connection: Connection) -> list[dict[str, Any]]:
    """Rows and checksum of every ordinary table of the database, in the session's snapshot."""
    names = connection.execute(
        "SELECT n.nspname, array_agg(c.relname ORDER BY c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relkind = 'r' AND {_OURS} GROUP BY 1 ORDER BY 1",
        {"system": list(SYSTEM_SCHEMAS)},
    ).fetchall()
    found = []
    for schema, tables in names:
        for table in catalog.read(connection, schema, tables, "database").values():
            row = connection.execute(
                sql.SQL("SELECT count(*), coalesce(sum({}), 0) FROM {} t").format(
                    verify_compare.row_hash(table, "hash"), table.identifier
                )
            ).fetchone()
            count, total = (int(row[0]), int(row[1])) if row else (0, 0)
            shown = table.name if schema == "public" else f"{schema}.{table.name}"
            found.append({"table": shown, "rows": count, "checksum": f"{total % 2**64:016x}"})
    return found


def objects(connection: Connection) -> dict[str, int]:
    """How many tables, indexes, sequences, views, constraints, triggers and functions the database has of its own."""
    rows = connection.execute(
        "SELECT CASE c.relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'tables' WHEN 'i' THEN 'indexes' WHEN 'I' THEN 'indexes' "
        "WHEN 'S' THEN 'sequences' ELSE 'views' END, count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relkind IN ('r', 'p', 'i', 'I', 'S', 'v', 'm') AND {_OURS} AND {_NO_EXTENSION} GROUP BY 1 "
        "UNION ALL SELECT 'constraints', count(*) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace "
        f"WHERE {_OURS} AND c.contype <> 'n' AND {_NO_EXTENSION} "
        "UNION ALL SELECT 'triggers', count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        f"JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND {_OURS} AND {_NO_EXTENSION} "
        "UNION ALL SELECT 'functions', count(*) FROM pg_proc c JOIN pg_namespace n ON n.oid = c.pronamespace "
        f"WHERE {_OURS} AND {_NO_EXTENSION} ORDER BY 1",
        {"system": list(SYSTEM_SCHEMAS)},
    ).fetchall()
    return {str(kind): int(number) for kind, number in rows}


def own_relations(connection: Connection) -> list[str]:
    """Names of what a database holds besides the system's and extensions' objects; empty for a fresh one."""
    rows = connection.execute(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') "
        f"AND n.nspname !~ '^pg_' AND {_NO_EXTENSION} ORDER BY 1"
    ).fetchall()
    return [str(row[0]) for row in rows]


def same(url: str, wanted: dict[str, Any]) -> None:
    """Compare the database of ``url`` with a manifest's ``tables`` and ``objects``.

    Raises:
        DataDiffer: rows, checksums or numbers of objects differ; with both figures.
    """
    with (
        domain_errors("comparing the restored backup"),
        connect(url, step="backup", name="the restored database") as restored,
    ):
        tables = {entry["table"]: entry for entry in checksums(restored)}
        kinds = objects(restored)
    wrong = [
        f"{entry['table']} (source {entry['rows']} rows {entry['checksum']}, restored "
        + (f"{found['rows']} rows {found['checksum']})" if (found := tables.get(entry["table"])) else "nothing)")
        for entry in wanted["tables"]
        if tables.get(entry["table"]) != entry
    ]
    # A database that was not empty may hold more; never fewer.
    wrong += [
        f"{kind} (source {number}, restored {kinds.get(kind, 0)})"
        for kind, number in wanted.get("objects", {}).items()
        if kinds.get(kind, 0) < number
    ]
    if wrong:
        raise DataDiffer(f"the restored backup differs from the source: {'; '.join(wrong)}; make a new backup")
