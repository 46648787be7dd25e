"""Step 0.1: a backup of the whole source that has been restored and compared before it counts as one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from scripts import backup_store, backup_tools, catalog, verify_compare
from scripts.rehearsal.postgres_server import EmbeddedPostgres
from scripts.support.errors import DatabaseError, DataDiffer, MigrationError, UsageError
from scripts.support.postgres import Connection, connect, domain_errors, parameters
from scripts.support.settings import Settings

SYSTEM_SCHEMAS = ("pg_catalog", "information_schema", "task_migration")


def run(settings: Settings, output: str, scratch_url: str | None = None, plain_inserts: bool = False) -> dict[str, Any]:
    """Dump the source, store it, bring the stored file back, restore it into a scratch server and compare every table.

    Args:
        output: a folder or ``s3://bucket/prefix``.
        scratch_url: an empty database to restore into; without it a PostgreSQL of the wheel is started for it. It is
            emptied afterwards only when it is the wheel's.
        plain_inserts: the dump holds INSERTs (pg_dump --inserts), as the plan's text asks.

    Returns:
        ``{"location", "manifest", "sha256", "bytes", "restore_verified": true, "tables": [{"table", "rows", "checksum"}],
        "database", "server_version", "seconds"}``.

    Raises:
        DataDiffer: the restored tables differ from the dumped ones, or the stored file from the dump.
        DatabaseError, StoreError: dump, upload or restore failed. In each case the manifest says not verified.
    """
    started = datetime.now(UTC)
    store = backup_store.open_store(output)
    name = f"{_database(settings.source())}-{started:%Y%m%dT%H%M%SZ}.dump"
    manifest: dict[str, Any] = {
        "created_at": started.isoformat(),
        "file": name,
        "restore_verified": False,
        "reason": "unfinished",
    }
    with tempfile.TemporaryDirectory(prefix="task-migration-backup-") as scratch:
        local = Path(scratch) / "dump"
        try:
            manifest |= _dump(settings, local, plain_inserts)
            manifest |= {"sha256": backup_store.sha256(local), "bytes": local.stat().st_size}
            store.write_json(f"{name}.manifest.json", manifest)
            manifest["location"] = store.put(local, name)
            local.unlink()
            back = Path(scratch) / "stored"
            store.get(name, back)
            _same_file(back, manifest)
            with _scratch(scratch_url) as url:
                _restore(back, url, int(manifest["server_major"]))
                _compare(url, manifest["tables"])
        except MigrationError as error:
            manifest |= {"restore_verified": False, "reason": str(error)}
            _note_failure(store, name, manifest)
            settings.journal.record("backup", "failed", reason=str(error))
            raise
    manifest |= {"restore_verified": True, "seconds": round((datetime.now(UTC) - started).total_seconds(), 2)}
    del manifest["reason"]
    manifest["manifest"] = store.write_json(f"{name}.manifest.json", manifest)
    settings.journal.record("backup", "verified", location=manifest["location"], sha256=manifest["sha256"])
    return manifest


def restore(manifest_location: str, url: str, clean: bool = False) -> dict[str, Any]:
    """Put a backup back into the database of ``url`` and compare it with its manifest.

    Args:
        manifest_location: what ``run`` returned as ``manifest``.
        clean: drop the objects of the backup there first (pg_restore --clean --if-exists).

    Returns:
        ``{"location", "sha256", "tables", "restored": true}``.

    Raises:
        DataDiffer: the file is not the one of the manifest, or the restored tables differ.
    """
    folder, _, file = manifest_location.rpartition("/")
    store = backup_store.open_store(folder or ".")
    manifest = store.read_json(file)
    if not manifest.get("restore_verified"):
        raise UsageError(f"{manifest_location} says not verified ({manifest.get('reason')}); choose a verified backup")
    with tempfile.TemporaryDirectory(prefix="task-migration-restore-") as scratch:
        local = Path(scratch) / "dump"
        store.get(str(manifest["file"]), local)
        _same_file(local, manifest)
        _restore(local, url, int(manifest["server_major"]), clean)
    _compare(url, manifest["tables"])
    return {
        "location": manifest["location"],
        "sha256": manifest["sha256"],
        "tables": manifest["tables"],
        "restored": True,
    }


def _database(url: str) -> str:
    name = str(parameters(url, "SOURCE_DATABASE_URL").get("dbname") or "database")
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)


def _note_failure(store: backup_store.Store, name: str, manifest: dict[str, Any]) -> None:
    try:
        store.write_json(f"{name}.manifest.json", manifest)
    except backup_store.StoreError:
        # The store is what failed: no manifest, or the one that says unfinished, is as good as a "not verified".
        return


def _dump(settings: Settings, local: Path, plain_inserts: bool) -> dict[str, Any]:
    with (
        domain_errors("backup"),
        connect(settings.source(), step="backup", name="SOURCE_DATABASE_URL", autocommit=False) as source,
    ):
        source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = source.execute(
            "SELECT pg_export_snapshot(), current_database(), version(), current_setting('server_version_num')::int / 10000"
        ).fetchone()
        if row is None:
            raise DatabaseError("backup: the source exported no snapshot")
        program = backup_tools.find("pg_dump", row[3])
        arguments = [
            "--format=custom",
            f"--snapshot={row[0]}",
            f"--file={local}",
            "--exclude-table-data=task_migration.*",
        ]
        # Subscriptions and publications are this migration's machinery; a restored copy must not start replicating.
        arguments += ["--no-subscriptions", "--no-publications", *(["--inserts"] if plain_inserts else [])]
        backup_tools.run(program, arguments, settings.source())
        return {
            "database": row[1],
            "server_version": row[2],
            "server_major": row[3],
            "client_version": backup_tools.version(program),
            "tables": checksums(source),
        }


def checksums(connection: Connection) -> list[dict[str, Any]]:
    """Rows and checksum of every ordinary table of the database, in the session's snapshot."""
    names = connection.execute(
        "SELECT n.nspname, array_agg(c.relname ORDER BY c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind = 'r' AND n.nspname <> ALL(%s) AND n.nspname !~ '^pg_' GROUP BY 1 ORDER BY 1",
        (list(SYSTEM_SCHEMAS),),
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


def _same_file(path: Path, manifest: dict[str, Any]) -> None:
    found, size = backup_store.sha256(path), path.stat().st_size
    if found != manifest["sha256"]:
        raise DataDiffer(
            f"the stored backup has SHA-256 {found} and {size} bytes, the manifest says {manifest['sha256']} and "
            f"{manifest['bytes']}; it is truncated or was changed: make a new one"
        )


@contextmanager
def _scratch(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="task-migration-scratch-") as directory:
        Path(directory).chmod(0o755)
        # Nothing of it is kept, so it need not wait for the disk.
        quick = {"fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0"}
        server = EmbeddedPostgres(Path(directory), "scratch", settings=quick)
        with server:
            server.execute("CREATE DATABASE restored")
            yield server.url("restored")


def _restore(path: Path, url: str, server_major: int, clean: bool = False) -> None:
    program = backup_tools.find("pg_restore", server_major)
    arguments = ["--no-owner", "--no-privileges", "--exit-on-error", *(["--clean", "--if-exists"] if clean else [])]
    backup_tools.run(program, [*arguments, str(path)], url)


def _compare(url: str, wanted: list[dict[str, Any]]) -> None:
    with (
        domain_errors("comparing the restored backup"),
        connect(url, step="backup", name="the restored database") as restored,
    ):
        found = {entry["table"]: entry for entry in checksums(restored)}
    wrong = [entry["table"] for entry in wanted if found.get(entry["table"]) != entry]
    if wrong:
        raise DataDiffer(f"the restored backup differs from the source in {', '.join(wrong)}; make a new backup")
