"""Step 0.1: a backup of the whole source that has been restored and compared before it counts as one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg import conninfo
from pydantic import ValidationError

from scripts.backup import compare, scratch, store, tools
from scripts.backup.documents import Backup, Dump, Restored, Verified
from scripts.database.connections import parameters
from scripts.database.pace import Pace
from scripts.database.sides import session
from scripts.support import private
from scripts.support.errors import DatabaseError, DataDiffer, MigrationError, Refused, UsageError
from scripts.support.events import BackupEvent, Step
from scripts.support.progress import SILENT, Progress
from scripts.support.settings import Settings

RESTORE = ("--no-owner", "--no-privileges", "--exit-on-error")
#: Entries of a dump that take a superuser, before all others and after them; neither calls a function of the dump.
POWER = re.compile(r"\d+; \d+ \d+ (COMMENT - )?(SCHEMA|EXTENSION|PROCEDURAL LANGUAGE|FOREIGN DATA WRAPPER) ")
LATE_POWER = re.compile(r"\d+; \d+ \d+ (COMMENT - )?EVENT TRIGGER ")


def run(
    settings: Settings,
    output: str,
    scratch_url: str | None = None,
    plain_inserts: bool = False,
    progress: Progress = SILENT,
    max_load: str | None = None,
) -> Backup:
    """Dump the source, store it, bring the stored file back, restore it into a scratch server and compare every table.

    A manifest that says "not verified" is stored before anything else, so that a run killed anywhere leaves no backup that
    could be taken for a good one.

    Args:
        output: a folder or ``s3://bucket/prefix``.
        scratch_url: an empty database to restore into, for a source with extensions that the wheel does not have; without
            it a PostgreSQL of the wheel is started for it and removed.
        plain_inserts: the dump holds INSERTs (pg_dump --inserts), as the plan's text asks.
        max_load: of the source, as :class:`scripts.database.pace.Pace` takes it.

    Raises:
        DataDiffer: the restored tables differ from the dumped ones, or the stored file from the dump.
        DatabaseError, StoreError: dump, upload or restore failed. In each case the manifest says not verified.
        Refused: no client program is new enough, or the scratch database is not empty.
    """
    started = datetime.now(UTC)
    place = store.open_store(output)
    name = f"{_database(settings.source())}-{started:%Y%m%dT%H%M%SZ}.dump"
    facts: dict[str, Any] = {"created_at": started.isoformat(), "file": name, "inserts": plain_inserts}
    unfinished = {"restore_verified": False, "reason": "unfinished: the backup is being made, or was killed"}
    place.write_json(_manifest(name), facts | unfinished)
    try:
        with scratch.directory() as home:
            local, back = home / "dump", home / "stored"
            with Pace(settings, ("source",), 1, max_load, progress=progress) as pace:
                dump = _dump(settings, local, plain_inserts, progress, pace)
            size = local.stat().st_size
            facts |= {**dump.plain(), "sha256": store.sha256(local), "bytes": size}
            with progress.work("store the dump", size / 2**20, "MiB") as work:
                facts["location"] = place.put(local, name, lambda count: work.advance(count / 2**20))
            local.unlink()
            with progress.work("read it back", size / 2**20, "MiB") as work:
                place.get(name, back, lambda count: work.advance(count / 2**20))
            _same_file(back, facts["sha256"], size)
            with scratch.database(scratch_url, dump.encoding) as tried:
                if tried.empower is None:
                    _restore(back, tried.url, dump, progress=progress)
                else:
                    _try_out(back, tried.url, tried.empower, dump, progress)
                compare.same(tried.url, dump, progress)
    except (MigrationError, OSError) as error:
        _note_failure(place, name, facts | {"restore_verified": False, "reason": str(error)})
        settings.journal.record(Step.BACKUP, BackupEvent.FAILED, reason=str(error))
        if isinstance(error, OSError):
            raise store.StoreError(
                f"the backup could not be made: {error}; free space in the temporary directory (TMPDIR), then run it again"
            ) from None
        raise
    seconds = round((datetime.now(UTC) - started).total_seconds(), 2)
    manifest = Verified.model_validate({**facts, "restore_verified": True, "seconds": seconds})
    stored = place.write_json(_manifest(name), manifest.plain())
    settings.journal.record(Step.BACKUP, BackupEvent.VERIFIED, location=manifest.location, sha256=manifest.sha256)
    return Backup(**manifest.plain(), manifest=stored)


def restore(
    settings: Settings,
    manifest_location: str,
    url: str,
    force: bool = False,
    database: str | None = None,
    sha256: str | None = None,
    progress: Progress = SILENT,
) -> Restored:
    """Put a backup back into the database of ``url``, whole or not at all, and compare it with its manifest.

    The file's SHA-256 is looked at before the database is touched, as a dump is a program that runs there with the operator's rights.
    The manifest beside it is not believed about it: who can write the one can write the other. pg_restore runs in one transaction,
    so that a kill or an error half-way leaves the database as it was.

    Args:
        manifest_location: what ``run`` returned as ``manifest``: a path or ``s3://bucket/key``.
        force: the database need not be empty; objects of the backup that it holds are replaced.
        database: of the server, instead of the one that ``url`` names.
        sha256: what `backup` printed; without it the journal's event of that backup says it.

    Raises:
        UsageError: the manifest says that the backup is not verified.
        DataDiffer: the file is not the one that was backed up, or the restored tables differ.
        Refused: the database is not empty and ``force`` was not given; nothing but the manifest says what the file should be, or
            the manifest says otherwise.
    """
    values = parameters(url, "the database to restore into") | ({"dbname": database} if database is not None else {})
    url = conninfo.make_conninfo("", **values)
    folder, _, file = manifest_location.rpartition("/")
    if not file or folder in ("s3:", "s3:/"):
        raise UsageError(f"{manifest_location!r} is no manifest of a backup; name a file, or s3://bucket/key")
    place = store.open_store(folder or ".")
    found = place.read_json(file)
    if not found.get("restore_verified"):
        raise UsageError(f"{manifest_location} says not verified ({found.get('reason')}); choose a verified backup")
    try:
        manifest = Verified.model_validate(found)
    except ValidationError as error:
        raise UsageError(f"{manifest_location} is no manifest of a backup: {error}; choose another") from None
    expected = (sha256 or _journaled(settings, file)).lower()
    if manifest.sha256 != expected:
        raise Refused(
            f"{manifest_location} says SHA-256 {manifest.sha256}, but {'--sha256' if sha256 else 'the journal'} has {expected}: manifest or "
            "dump was changed after the backup. Nothing was restored; choose another backup"
        )
    scratch.refuse_unfit(url, "the database to restore into", manifest.encoding, force)
    with scratch.directory() as home:
        local = home / "dump"
        with progress.work("bring the dump", manifest.bytes / 2**20, "MiB") as work:
            place.get(manifest.file, local, lambda count: work.advance(count / 2**20))
        _same_file(local, manifest.sha256, manifest.bytes)
        _restore(local, url, manifest, force, progress)
    compare.same(url, manifest, progress)
    return Restored(
        location=manifest.location,
        sha256=manifest.sha256,
        database=str(values.get("dbname", "")),
        tables=manifest.tables,
        restored=True,
    )


def _journaled(settings: Settings, manifest: str) -> str:
    """The SHA-256 that the journal has of the backup with this manifest, by its name."""
    found = {
        str(event.get("sha256"))
        for event in settings.journal.events(Step.BACKUP)
        if event["event"] == BackupEvent.VERIFIED
        and _manifest(str(event.get("location")).rpartition("/")[2]) == manifest
    }
    if len(found) != 1:
        raise Refused(
            f"the journal in {settings.state_dir} has {len(found) or 'no'} SHA-256 of {manifest}, one is needed: the manifest is not believed "
            "about the dump beside it. Set TASK_MIGRATION_STATE_DIR to where the backup was journaled, or name what `backup` printed: "
            "--sha256 HEX"
        )
    return found.pop()


def _database(url: str) -> str:
    name = str(parameters(url, "SOURCE_DATABASE_URL").get("dbname") or "database")
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)


def _manifest(name: str) -> str:
    return f"{name}.manifest.json"


def _note_failure(place: store.Store, name: str, facts: dict[str, Any]) -> None:
    try:
        place.write_json(_manifest(name), facts)
    except store.StoreError:
        # The store is what failed: the manifest that says unfinished is as good as a "not verified".
        return


def _dump(settings: Settings, local: Path, plain_inserts: bool, progress: Progress, pace: Pace) -> Dump:
    with session(settings, "source", "backup", "backup", autocommit=False) as source:
        source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = source.execute(
            "SELECT pg_export_snapshot(), current_database(), version(), current_setting('server_version_num')::int / 10000, "
            "current_setting('server_encoding')"
        ).fetchone()
        if row is None:
            raise DatabaseError("backup: the source exported no snapshot")
        program = tools.find("pg_dump", row[3], settings.source())
        arguments = [
            "--format=custom",
            f"--snapshot={row[0]}",
            "--exclude-table-data=task_migration.*",
        ]
        # Subscriptions and publications are this migration's machinery; a restored copy must not start replicating.
        arguments += ["--no-subscriptions", "--no-publications", *(["--inserts"] if plain_inserts else [])]
        with progress.work("dump the source", None, "MiB") as work, private.replacing(local) as sink:

            def take(data: bytes) -> None:
                # What is not taken here waits in the program, whose session then sleeps.
                pace.gate()
                sink.write(data)
                work.advance(len(data) / 2**20)

            tools.run(program, arguments, settings.source(), lambda _: None, take)
        return Dump(
            database=row[1],
            server_version=row[2],
            server_major=row[3],
            client_version=tools.version(program),
            encoding=row[4],
            tables=compare.checksums(source, "checksums of the source", progress, size=pace.rows, gate=pace.gate),
            objects=compare.objects(source),
        )


def _same_file(path: Path, sha256: str, size: int) -> None:
    found = store.sha256(path)
    if found != sha256:
        raise DataDiffer(
            f"the stored backup has SHA-256 {found} and {path.stat().st_size} bytes, the manifest says {sha256} and {size}; it is "
            "truncated or was changed: make a new one"
        )


def _restore(path: Path, url: str, dump: Dump, clean: bool = False, progress: Progress = SILENT) -> None:
    with progress.work("restore", None, "s") as work:
        options = ["--single-transaction", *(["--clean", "--if-exists"] if clean else [])]
        tools.run(_pg_restore(dump, url), [*RESTORE, *options, str(path)], url, work.at)


def _try_out(path: Path, url: str, empower: Callable[[bool], None], dump: Dump, progress: Progress) -> None:
    """Restore on a server of our own, by no superuser, as checks, indexes and domains of the dump call functions that others wrote, and
    a superuser's run programs of this machine (PostgreSQL, 'COPY', PROGRAM). What takes one is named by :data:`POWER`."""
    program = _pg_restore(dump, url)
    entries = tools.entries(program, path)
    early = [entry for entry in entries if POWER.match(entry)]
    late = [entry for entry in entries if LATE_POWER.match(entry)]
    rest = [entry for entry in entries if not (POWER.match(entry) or LATE_POWER.match(entry))]
    chosen = path.with_name("entries")
    with progress.work("restore", None, "s") as work:
        for power, part in ((True, early), (False, rest), (True, late)):
            private.write(chosen, "\n".join(part))
            empower(power)
            tools.run(program, [*RESTORE, "--single-transaction", f"--use-list={chosen}", str(path)], url, work.at)
        empower(False)


def _pg_restore(dump: Dump, url: str) -> Path:
    """An archive is read by the version that wrote it or a newer one."""
    return tools.find("pg_restore", dump.client_version or dump.server_major, url)
