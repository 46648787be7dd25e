"""Step 0.1: a backup of the whole source that has been restored and compared before it counts as one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.backup import compare as backup_compare
from scripts.backup import scratch as backup_scratch
from scripts.backup import store as backup_store
from scripts.backup import tools as backup_tools
from scripts.database.connections import connect, domain_errors, parameters
from scripts.support.errors import DatabaseError, DataDiffer, MigrationError, UsageError
from scripts.support.events import BackupEvent, Step
from scripts.support.settings import Settings


def run(settings: Settings, output: str, scratch_url: str | None = None, plain_inserts: bool = False) -> dict[str, Any]:
    """Dump the source, store it, bring the stored file back, restore it into a scratch server and compare every table.

    A manifest that says "not verified" is stored before anything else, so that a run killed anywhere leaves no backup that
    could be taken for a good one.

    Args:
        output: a folder or ``s3://bucket/prefix``.
        scratch_url: an empty database to restore into, for a source with extensions that the wheel does not have; without
            it a PostgreSQL of the wheel is started for it and removed.
        plain_inserts: the dump holds INSERTs (pg_dump --inserts), as the plan's text asks.

    Returns:
        ``{"location", "manifest", "sha256", "bytes", "restore_verified": true, "tables": [{"table", "rows", "checksum"}],
        "objects": {kind: number}, "database", "server_version", "server_major", "client_version", "inserts", "seconds"}``.

    Raises:
        DataDiffer: the restored tables differ from the dumped ones, or the stored file from the dump.
        DatabaseError, StoreError: dump, upload or restore failed. In each case the manifest says not verified.
        Refused: no client program is new enough, or the scratch database is not empty.
    """
    started = datetime.now(UTC)
    store = backup_store.open_store(output)
    name = f"{_database(settings.source())}-{started:%Y%m%dT%H%M%SZ}.dump"
    manifest: dict[str, Any] = {
        "created_at": started.isoformat(),
        "file": name,
        "restore_verified": False,
        "reason": "unfinished: the backup is being made, or was killed",
        "inserts": plain_inserts,
    }
    store.write_json(f"{name}.manifest.json", manifest)
    try:
        with backup_scratch.directory() as scratch:
            local = scratch / "dump"
            manifest |= _dump(settings, local, plain_inserts)
            manifest |= {"sha256": backup_store.sha256(local), "bytes": local.stat().st_size}
            manifest["location"] = store.put(local, name)
            local.unlink()
            back = scratch / "stored"
            store.get(name, back)
            _same_file(back, manifest)
            with backup_scratch.database(scratch_url, scratch) as url:
                _restore(back, url, manifest)
                backup_compare.same(url, manifest)
    except (MigrationError, OSError) as error:
        manifest |= {"restore_verified": False, "reason": str(error)}
        _note_failure(store, name, manifest)
        settings.journal.record(Step.BACKUP, BackupEvent.FAILED, reason=str(error))
        if isinstance(error, OSError):
            raise backup_store.StoreError(
                f"the backup could not be made: {error}; free space in the temporary directory (TMPDIR), then run it again"
            ) from None
        raise
    manifest |= {"restore_verified": True, "seconds": round((datetime.now(UTC) - started).total_seconds(), 2)}
    del manifest["reason"]
    manifest["manifest"] = store.write_json(f"{name}.manifest.json", manifest)
    settings.journal.record(Step.BACKUP, BackupEvent.VERIFIED, location=manifest["location"], sha256=manifest["sha256"])
    return manifest


def restore(manifest_location: str, url: str, force: bool = False) -> dict[str, Any]:
    """Put a backup back into the database of ``url``, whole or not at all, and compare it with its manifest.

    The file's SHA-256 is looked at before the database is touched; pg_restore runs in one transaction, so that a kill or an
    error half-way leaves the database as it was.

    Args:
        manifest_location: what ``run`` returned as ``manifest``: a path or ``s3://bucket/key``.
        force: the database need not be empty; objects of the backup that it holds are replaced.

    Returns:
        ``{"location", "sha256", "database", "tables", "restored": true}``.

    Raises:
        UsageError: the manifest says that the backup is not verified.
        DataDiffer: the file is not the one of the manifest, or the restored tables differ.
        Refused: the database is not empty and ``force`` was not given.
    """
    folder, _, file = manifest_location.rpartition("/")
    store = backup_store.open_store(folder or ".")
    manifest = store.read_json(file)
    if not manifest.get("restore_verified"):
        raise UsageError(f"{manifest_location} says not verified ({manifest.get('reason')}); choose a verified backup")
    if not force:
        backup_scratch.refuse_filled(url, "the database to restore into")
    with backup_scratch.directory() as scratch:
        local = scratch / "dump"
        store.get(str(manifest["file"]), local)
        _same_file(local, manifest)
        _restore(local, url, manifest, force)
    backup_compare.same(url, manifest)
    return {
        "location": manifest["location"],
        "sha256": manifest["sha256"],
        "database": str(parameters(url, "the database to restore into").get("dbname", "")),
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
        # The store is what failed: the manifest that says unfinished is as good as a "not verified".
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
            "tables": backup_compare.checksums(source),
            "objects": backup_compare.objects(source),
        }


def _same_file(path: Path, manifest: dict[str, Any]) -> None:
    found, size = backup_store.sha256(path), path.stat().st_size
    if found != manifest["sha256"]:
        raise DataDiffer(
            f"the stored backup has SHA-256 {found} and {size} bytes, the manifest says {manifest['sha256']} and "
            f"{manifest['bytes']}; it is truncated or was changed: make a new one"
        )


def _restore(path: Path, url: str, manifest: dict[str, Any], clean: bool = False) -> None:
    # An archive is read by the version that wrote it or a newer one.
    program = backup_tools.find("pg_restore", int(manifest.get("client_version") or manifest["server_major"]))
    arguments = ["--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error"]
    arguments += ["--clean", "--if-exists"] if clean else []
    backup_tools.run(program, [*arguments, str(path)], url)
