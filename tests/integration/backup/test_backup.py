"""Backups on real servers, in folders and in emulated S3, and everything that may go wrong on the way there and back."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import conninfo, sql

from scripts.backup import run as backup
from scripts.backup import scratch as backup_scratch
from scripts.backup import store as backup_store
from scripts.backup import tools as backup_tools
from scripts.embedded.binaries import bin_path
from scripts.rehearsal.world import EmulatedAws
from scripts.support.errors import DataDiffer, MigrationError, Refused
from scripts.support.wait import wait_until
from tests.conftest import AWKWARD_PASSWORD, Pair, Recorder

MakePair = Callable[..., Pair]
ROOT = Path(__file__).parents[3]
BUCKET = "myteacher-backups-test"


@pytest.fixture(scope="module")
def aws() -> Iterator[EmulatedAws]:
    with EmulatedAws() as server:
        server.client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": server.region}
        )
        yield server


@pytest.fixture(autouse=True)
def _account(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "aws" in request.fixturenames:
        for name, value in request.getfixturevalue("aws").environment().items():
            monkeypatch.setenv(name, value)


def command(*arguments: str, cwd: Path, file_limit: str = "", **variables: str) -> subprocess.Popen[str]:
    """A command line in a process of its own, which can be watched, limited and killed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PULUMI", "TASK_", "SOURCE_", "TARGET_"))}

    def limit() -> None:
        if file_limit:
            # What writes past it gets an error, as on a full disk; Python and its children ignore the signal.
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_limit), int(file_limit)))

    return subprocess.Popen(
        [sys.executable, "-m", "scripts", *arguments, "--json"],
        cwd=cwd,
        env={**clean, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


class CommandLines:
    """Every command line of this machine while it is watched."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.03):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue

    def __enter__(self) -> CommandLines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def fresh(pair: Pair, name: str) -> str:
    """Makes an empty database on the target's server, for restores; returns its name."""
    name = f"{pair.settings.config.subscription}_{name}"
    pair.target.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return name


def drop(pair: Pair, *names: str) -> None:
    for name in names:
        pair.target.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def test_to_s3_in_parts_and_back_by_the_command_line(make_pair: MakePair, aws: EmulatedAws, tmp_path: Path) -> None:
    """Prevents a backup that counts only while it is small, a password where other users of the machine see it, a restore
    over somebody's rows, and one from an object that was changed."""
    pair = make_pair(rows=100)
    # Random bytes, which no compression makes smaller: more than one part.
    pair.source.execute(
        "CREATE TABLE blobs AS SELECT i, (SELECT decode(string_agg(md5(random()::text), ''), 'hex') "
        "FROM generate_series(1, 30000) WHERE i IS NOT NULL) AS data FROM generate_series(1, 19) i"
    )
    pair.source.execute("CREATE VIEW titles AS SELECT id, title FROM tasks")
    source = pair.settings.source()
    state = {"TASK_MIGRATION_STATE_DIR": str(tmp_path / "state")}
    with CommandLines() as lines:
        status, out, err = ended(
            command(
                *("backup", "--output", f"s3://{BUCKET}/database/2026-11-23"),
                cwd=tmp_path,
                SOURCE_DATABASE_URL=source,
                **state,
            )
        )
        assert status == 0, err
        document = json.loads(out)
        assert document["restore_verified"] is True
        assert document["bytes"] > 8 * 2**20
        head = aws.client("s3").head_object(Bucket=BUCKET, Key=document["location"].split("/", 3)[3])
        # An ETag of an upload in parts ends with their number (Amazon S3, 'Checking object integrity').
        assert int(head["ETag"].strip('"').rpartition("-")[2]) >= 2
        rows = {entry["table"]: entry["rows"] for entry in document["tables"]}
        assert (rows["tasks"], rows["blobs"]) == (100, 19)
        assert document["objects"]["views"] == 1

        name = fresh(pair, "restored")
        into = {"RESTORE_DATABASE_URL": pair.settings.target(), **state}
        restore = ("backup", "restore", document["manifest"], "--database", name)
        status, out, err = ended(command(*restore, cwd=tmp_path, **into))
        assert status == 0, err
        assert json.loads(out)["restored"] is True
        assert json.loads(out)["database"] == name
    said = "\n".join(lines.seen)
    assert "pg_dump" in said
    assert "pg_restore" in said
    for secret in (AWKWARD_PASSWORD, quote(AWKWARD_PASSWORD, safe=""), "p'a@s"):
        assert secret not in said
    assert AWKWARD_PASSWORD not in json.dumps(document)

    status, _, err = ended(command(*restore, cwd=tmp_path, **into))
    assert status == 10
    assert "is not empty" in err
    assert "--force" in err
    with psycopg.connect(conninfo.make_conninfo(pair.settings.target(), dbname=name), autocommit=True) as restored:
        restored.execute("DELETE FROM task_images")
        status, _, err = ended(command(*restore, "--force", cwd=tmp_path, **into))
        assert status == 0, err
        assert restored.execute("SELECT count(*) FROM task_images").fetchone() == (rows["task_images"],)
        # Somebody wrote over the object: it is told before the database is touched.
        restored.execute("DELETE FROM task_images")
        key = document["location"].split("/", 3)[3]
        aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"PGDMP" + bytes(1000))
        status, _, err = ended(command(*restore, "--force", cwd=tmp_path, **into))
        assert status == 11
        assert "SHA-256" in err
        assert restored.execute("SELECT count(*) FROM task_images").fetchone() == (0,)
    drop(pair, name)


def test_an_upload_that_fails_or_ends_early_is_not_verified(
    make_pair: MakePair, aws: EmulatedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents half an object that is taken for a backup, and a dump of hours before a bucket is found missing."""
    pair = make_pair(rows=20)
    real = backup_store.S3Store.put
    s3 = aws.client("s3")

    def truncated(self: backup_store.S3Store, local: Path, name: str, *_: Any) -> str:
        location = real(self, local, name)
        key = location.split("/", 3)[3]
        body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        s3.put_object(Bucket=BUCKET, Key=key, Body=body[:-1])
        return location

    monkeypatch.setattr(backup_store.S3Store, "put", truncated)
    with pytest.raises(DataDiffer, match="truncated or was changed"):
        backup.run(pair.settings, f"s3://{BUCKET}/truncated")
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="truncated/")["Contents"]
    (key,) = [item["Key"] for item in listed if item["Key"].endswith(".manifest.json")]
    manifest = json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    assert manifest["restore_verified"] is False
    assert "SHA-256" in manifest["reason"]
    with pytest.raises(MigrationError, match="not verified"):
        backup.restore(pair.settings, f"s3://{BUCKET}/{key}", pair.settings.target())
    monkeypatch.undo()
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)

    def never(*_: Any) -> None:
        raise AssertionError("the dump was begun")

    monkeypatch.setattr(backup_tools, "run", never)
    with pytest.raises(
        backup_store.StoreError, match=r"no-such-bucket failed: .*NoSuchBucket.*there is no bucket of this name"
    ):
        backup.run(pair.settings, "s3://no-such-bucket/x")


def test_inserts_into_a_folder_and_a_scratch_database_that_is_named(
    make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents --inserts that is ignored, a scratch database whose rows are written over, and a backup that is compared
    with itself."""
    pair = make_pair(rows=30)
    with pytest.raises(Refused, match="not empty"):
        backup.run(pair.settings, str(tmp_path / "a"), scratch_url=pair.settings.source())
    (manifest,) = (tmp_path / "a").glob("*.manifest.json")
    assert "not empty" in json.loads(manifest.read_text())["reason"]
    name = fresh(pair, "scratch")
    url = conninfo.make_conninfo(pair.settings.target(), dbname=name)
    shown = Recorder()
    saved = backup.run(pair.settings, str(tmp_path / "b"), scratch_url=url, plain_inserts=True, progress=shown)
    rows = sum(entry.rows for entry in saved.tables)
    assert {name: work.done for name, work in shown.works.items() if work.unit == "rows"} == {
        "checksums of the source": rows,
        "compare every row": rows,
    }
    assert shown.works["dump the source"].done == pytest.approx(saved.bytes / 2**20)
    stored = shown.works["store the dump"]
    assert stored.total == pytest.approx(saved.bytes / 2**20)
    assert stored.done == pytest.approx(saved.bytes / 2**20)
    assert saved.restore_verified is True
    listing = subprocess.run(
        [str(bin_path() / "pg_restore"), "-f", "-", "-t", "tasks", saved.location], capture_output=True, check=True
    )
    assert listing.stdout.count(b"INSERT INTO public.tasks VALUES") == 30
    assert b"COPY public.tasks" not in listing.stdout
    # What was restored is what is compared: one row less there, and the backup does not count.
    real = backup._restore

    def losing(path: Path, into: str, *rest: Any, **options: Any) -> None:
        real(path, into, *rest, **options)
        with psycopg.connect(into) as connection:
            connection.execute("DELETE FROM task_images WHERE id = (SELECT max(id) FROM task_images)")

    monkeypatch.setattr(backup, "_restore", losing)
    drop(pair, name)
    fresh(pair, "scratch")
    with pytest.raises(
        DataDiffer, match=r"differs from the source: task_images \(source 15 rows \w+, restored 14 rows"
    ):
        backup.run(pair.settings, str(tmp_path / "c"), scratch_url=url)
    (manifest,) = (tmp_path / "c").glob("*.manifest.json")
    assert json.loads(manifest.read_text())["restore_verified"] is False
    drop(pair, name)


def test_a_database_of_another_encoding_is_tried_out_in_its_own(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents a backup that cannot be restored into UTF8, and one whose texts come out as other bytes and so differ."""
    pair = make_pair(rows=None, encoding="SQL_ASCII")
    pair.source.execute(
        r"CREATE TABLE words (word text); INSERT INTO words VALUES (convert_from('\xff80', 'SQL_ASCII'))"
    )
    saved = backup.run(pair.settings, str(tmp_path))
    assert (saved.encoding, saved.restore_verified) == ("SQL_ASCII", True)
    for work in (
        lambda: backup.run(pair.settings, str(tmp_path / "b"), scratch_url=pair.target_server.url("postgres")),
        lambda: backup.restore(pair.settings, saved.manifest, pair.target_server.url("postgres"), force=True),
    ):
        with pytest.raises(Refused, match="is of encoding UTF8, the backup's is SQL_ASCII"):
            work()
    assert backup.restore(pair.settings, saved.manifest, pair.settings.target()).restored


def test_a_full_disk_fails_and_says_so(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents status 0, or a traceback, where the disk took only a part."""
    pair = make_pair(rows=400)
    limits = {"SOURCE_DATABASE_URL": pair.settings.source(), "TASK_MIGRATION_STATE_DIR": str(tmp_path / "state")}
    status, _, err = ended(
        command("backup", "--output", str(tmp_path / "out"), cwd=tmp_path, file_limit="30000", **limits)
    )
    assert status == 1, err
    assert "the backup could not be made: [Errno 27] File too large; free space in the temporary directory" in err
    assert "Traceback" not in err
    (manifest,) = (tmp_path / "out").glob("*.manifest.json")
    assert json.loads(manifest.read_text())["restore_verified"] is False
    assert "File too large" in json.loads(manifest.read_text())["reason"]
    # The disk of the backups themselves: the kernel's own refusal.
    store = backup_store.FolderStore(tmp_path)
    (tmp_path / "dump").write_bytes(b"x" * 100_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(backup_store.StoreError, match="File too large.*free space"):
            store.put(tmp_path / "dump", "full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "full").exists()


def test_killed_half_way_it_is_not_verified_and_leaves_nothing_for_long(
    make_pair: MakePair, tmp_path: Path, server_directory: Path
) -> None:
    """Prevents a killed backup that looks like one, and a scratch server with a copy of all rows that runs for ever."""
    pair = make_pair(rows=300)
    temporary = server_directory / "tmp"
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o755)
    process = command(
        *("backup", "--output", str(tmp_path / "out")),
        cwd=tmp_path,
        TMPDIR=str(temporary),
        SOURCE_DATABASE_URL=pair.settings.source(),
        TASK_MIGRATION_STATE_DIR=str(tmp_path / "state"),
    )
    found = wait_until(
        lambda: list(temporary.glob("*/scratch/data/postmaster.pid")),
        lambda files: bool(files) and bool(files[0].read_text().splitlines()),
        what="the scratch server",
        timeout=60,
        interval=0.01,
    )
    server = int(found[0].read_text().splitlines()[0])
    process.send_signal(signal.SIGKILL)
    ended(process)
    (manifest,) = (tmp_path / "out").glob("*.manifest.json")
    assert json.loads(manifest.read_text())["restore_verified"] is False
    with pytest.raises(MigrationError, match="not verified"):
        backup.restore(pair.settings, str(manifest), pair.settings.target())
    # The next run finds it by its owner, which is gone, and clears it away.
    (mine := temporary / f"{backup_scratch.PREFIX}mine").mkdir()
    (mine / backup_scratch.OWNER).write_text(str(os.getpid()))
    assert len(backup_scratch.sweep(temporary)) == 2  # the dump's and the server's
    assert mine.exists()
    wait_until(lambda: _runs(server), lambda runs: not runs, what="the killed verification's server to end", timeout=20)
    assert list(temporary.glob("*/scratch")) == []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("on_path", "server", "chosen"),
    [(None, 16, "wheel"), (15, 16, "wheel"), (16, 16, "path"), (17, 16, "wheel"), (17, 17, "path"), (18, 17, "path")],
)
def test_which_client_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_path: int | None, server: int, chosen: str
) -> None:
    """Prevents a pg_dump that is older than the server, which refuses, and one whose archive the server cannot read."""
    if on_path is not None:
        program = tmp_path / "pg_dump"
        program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {on_path}.1'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if on_path else str(tmp_path))
    here = "postgresql://127.0.0.1/x"
    found = backup_tools.find("pg_dump", server, here)
    assert found == (tmp_path / "pg_dump" if chosen == "path" else bin_path() / "pg_dump")
    with pytest.raises(Refused, match="version 99 or newer is needed"):
        backup_tools.find("pg_dump", 99, here)
