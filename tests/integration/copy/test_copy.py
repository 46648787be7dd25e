"""The copy broken on purpose, at places held still inside the database; rows are counted and compared afterwards."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from scripts.copy import plan as copy_plan
from scripts.copy import run as copy
from scripts.copy import stream as copy_stream
from scripts.copy import workers
from scripts.copy.documents import Copy
from scripts.copy.workers import Workers
from scripts.database import helper_schema
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import DatabaseError, MigrationError, Refused
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.conftest import AWKWARD_PASSWORD, Pair, Recorder
from tests.integration.copy.copy_hold import KEY, PATIENCE, held
from tests.integration.test_breaking import TYPES, copy_process
from tests.integration.test_chain import MakePair, Writer, count


@contextmanager
def in_thread(settings: Settings, **options: Any) -> Iterator[Future[Copy]]:
    """``copy.run`` beside the test, with 2 jobs unless told otherwise."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(copy.run, settings, **{"jobs": 2, **options})


def equal(pair: Pair, writer: Writer | None = None) -> None:
    """Replication is started from the copy's slot; afterwards both sides hold the same, every written row among it."""
    replicate.start(pair.settings)
    written = set(writer.ids) if writer is not None else set()
    fence.forward(pair.settings)
    if writer is not None:
        with psycopg.connect(pair.settings.target()) as target:
            there = [row[0] for row in target.execute("SELECT id FROM tasks")]
        assert len(there) == len(set(there))
        assert written <= set(there)
    found = verify.run(pair.settings)
    assert found.match, found
    assert schema.diff(pair.settings).match


def test_killed_at_every_kind_of_step_then_run_again(make_pair: MakePair) -> None:
    """Prevents a hole, a double row, a key that is missing or half made, or a session that blocks the next run, after
    `kill -9` while rows move, and at the first, the last and other statements that make indexes, keys and foreign keys."""
    pair = make_pair(rows=1500)
    schema.apply(pair.settings)
    with Writer(pair.settings.source()) as writer, held(pair) as hold:
        for place in (0, 1, 9, 17, 21, 27, 30):
            if place:
                hold.at_statement(place)
            else:
                hold.at_rows_of("task_images")
            # What the last kill left is still held; the run that comes now ends it.
            left = frozenset(hold.held())
            process = copy_process(pair.settings, blind=True)
            try:
                hold.wait(left)
            finally:
                process.kill()
                process.wait()
            # It waits for us and not for its client, so it is still there: the next run has to end it itself.
            assert hold.held() - left
            state = helper_schema.get(pair.target, "copy")
            assert state["status"] == "running"
            with pytest.raises(Refused, match="no good copy|unfinished|gone|copy"):
                replicate.start(pair.settings)
        hold.at_statement(10_000)
        done = copy.run(pair.settings, jobs=2)
        # Were there fewer statements than the last place, its kill would have come at none of them.
        assert hold.seen() >= 30
        assert "unfinished copy" in done.found
        hold.execute("DROP TRIGGER hold ON task_images")
        hold.release()
        assert [entry["event"] for entry in pair.settings.journal.events("copy")].count("started") == 8
        equal(pair, writer)
    assert count(pair.source, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") <= 2


def test_killed_just_before_and_just_after_it_is_done(make_pair: MakePair) -> None:
    """Prevents a copy that is done being made again, and one that is not done counting as done."""
    pair = make_pair(rows=300)
    schema.apply(pair.settings)
    process = copy_process(pair.settings)
    wait_until(
        lambda: (helper_schema.get(pair.target, "copy") or {}).get("status"),
        lambda status: status == "complete" or process.poll() is not None,
        what="the copy to be complete",
        timeout=PATIENCE,
        interval=0.01,
    )
    process.kill()
    process.wait()
    again = copy.run(pair.settings, jobs=2)
    assert again.status == "already-complete"
    assert {table.table: table.rows for table in again.tables}["tasks"] == 300
    assert "made" not in again.plain()
    # A record of completion that was not written is no completion: the same rows, as if the kill had come before it.
    state = helper_schema.get(pair.target, "copy")
    helper_schema.put(pair.target, "copy", {**state, "status": "running"})
    assert "starts anew" in copy.run(pair.settings, jobs=2).found
    equal(pair)


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_server_killed_during_the_copy(make_pair: MakePair, which: str) -> None:
    """Prevents a command that hangs, or half a table that counts, when a server dies by `kill -9` while rows move; and, on
    the target's own crash right after the end, a copy recorded as done whose rows were not on the disk."""
    pair = make_pair(rows=1500)
    schema.apply(pair.settings)
    server: EmbeddedPostgres = pair.source_server if which == "source" else pair.target_server
    pair.target.execute(
        sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(pair.target.info.dbname))
    )
    with held(pair) as hold:
        hold.at_rows_of("task_images")
        with in_thread(pair.settings) as running:
            hold.wait()
            server.kill()
            if which == "source":
                hold.release()
            with pytest.raises(DatabaseError, match="starts anew|connect"):
                running.result(PATIENCE)
        server.start()
    with psycopg.connect(pair.settings.target(), autocommit=True) as target:
        assert helper_schema.get(target, "copy")["status"] == "running"
        target.execute("DROP EVENT TRIGGER IF EXISTS hold")
        target.execute("DROP TRIGGER hold ON task_images")
    with Writer(pair.settings.source()) as writer:
        copied = copy.run(pair.settings, jobs=2)
        pair.target_server.kill()
        pair.target_server.start()
        assert copy.run(pair.settings, jobs=2).lsn == copied.lsn
        equal(pair, writer)


def test_connections_cut_and_the_snapshot_lost(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a copy that goes on without one of its lines, or under another snapshot than the slot's, or that calls itself
    done though its slot was replaced meanwhile."""
    pair = make_pair(rows=500)
    schema.apply(pair.settings)

    def cut(connection: psycopg.Connection[Any], step: str) -> None:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = %s",
            (f"task-migration {step}",),
        ).fetchone()
        assert ended is not None
        assert ended[0] >= 1

    monkeypatch.setattr(workers, "TOLD_SECONDS", 0.2)
    with Writer(pair.settings.source()) as writer, held(pair) as hold:
        hold.at_rows_of("task_images")
        for side, step in ((pair.source, "copy read"), (pair.target, "copy write"), (pair.target, "copy")):
            # One job, so that rows are left to be read: else the other job may have read the rest, and the cut harms nothing.
            with in_thread(pair.settings, jobs=1) as running:
                hold.wait()
                cut(side, step)
                if step != "copy write":
                    # Else the session would wait for us for ever, as nothing in it looks at its line.
                    hold.execute(f"SELECT pg_advisory_unlock({KEY})")
                with pytest.raises(MigrationError, match="starts anew"):
                    running.result(PATIENCE)
                if step != "copy write":
                    hold.execute(f"SELECT pg_advisory_lock({KEY})")
            hold.wait_until_nobody()
        with in_thread(pair.settings) as running:
            hold.wait()
            # A copy that takes long tells how far it is.
            wait_until(
                lambda: [one["rows"] for one in pair.settings.journal.events("copy") if one["event"] == "moved"],
                lambda told: any(rows.get("tasks", 0) >= 500 for rows in told),
                what="the tasks that were moved, in the journal",
                timeout=PATIENCE,
            )
            name = pair.settings.config.subscription
            pair.source.execute("SELECT pg_drop_replication_slot(%s)", (name,))
            pair.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
            hold.release()
            with pytest.raises(MigrationError, match="no longer where it was"):
                running.result(PATIENCE)
        pair.target.execute("DROP TRIGGER hold ON task_images")
        real = copy_stream.sizes

        def lose(guard: Any, tables: Any) -> Any:
            cut(pair.source, "slot")
            return real(guard, tables)

        monkeypatch.setattr(copy_stream, "sizes", lose)
        with pytest.raises(DatabaseError, match="snapshot .* is lost.*starts over"):
            copy.run(pair.settings, jobs=2)
        monkeypatch.undo()
        assert "starts anew" in copy.run(pair.settings, jobs=2).found
        failures = [entry["error"] for entry in pair.settings.journal.events("copy") if entry["event"] == "failed"]
        assert len(failures) == 5
        equal(pair, writer)


def test_a_worker_that_comes_when_all_rows_are_read(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a copy of small tables that fails as one worker was done before the other had its connection to the source."""
    pair = make_pair(rows=50)
    schema.apply(pair.settings)
    connect, take, fail, came = Workers._connect, Workers._next, Workers._fail, threading.Event()
    late = "copy-1"
    holders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = current_database()"

    def connect_late(self: Workers, *arguments: Any, **options: Any) -> Any:
        if threading.current_thread().name == late:
            with psycopg.connect(pair.settings.source(), autocommit=True) as looking:
                wait_until(
                    lambda: count(looking, holders), lambda n: n == 0, what="the snapshot to be let go", timeout=60
                )
        return connect(self, *arguments, **options)

    def wait_for_the_late_one(self: Workers) -> Any:
        if threading.current_thread().name == late:
            came.set()
        elif not self.queue.open("rows"):
            assert came.wait(60)
        return take(self)

    def failed(self: Workers, error: BaseException) -> None:
        fail(self, error)
        came.set()

    monkeypatch.setattr(Workers, "_connect", connect_late)
    monkeypatch.setattr(Workers, "_next", wait_for_the_late_one)
    monkeypatch.setattr(Workers, "_fail", failed)
    assert copy.run(pair.settings, jobs=2).status == "complete"
    equal(pair)


def test_no_room_read_only_or_a_broken_key(make_pair: MakePair) -> None:
    """Prevents a half filled target that counts, when files cannot grow, when nothing may be written, when a row breaks a
    foreign key; and rows of 1 MB that are cut.

    The file size limit (RLIMIT_FSIZE) of the server's processes stands for a full disk: PostgreSQL meets both when it extends
    a file, and ends the statement. It does not stand for a disk too full for WAL, which stops the whole server.
    """
    pair = make_pair(rows=300)
    for number in range(24):
        # Random, as what compresses would not grow a file.
        pair.source.execute(
            "UPDATE tasks SET description = (SELECT string_agg(md5(random()::text || n), '') FROM generate_series(1, 32768) n) "
            "WHERE id = (SELECT id FROM tasks ORDER BY id OFFSET %s LIMIT 1)",
            (number,),
        )
    schema.apply(pair.settings)
    server, limit = pair.target_server, resource.getrlimit(resource.RLIMIT_FSIZE)
    server.stop()
    # Inherited by the server and all its processes. WAL files have 16 MiB and must still be writable.
    resource.setrlimit(resource.RLIMIT_FSIZE, (17 * 2**20, limit[1]))
    try:
        server.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    with pytest.raises(DatabaseError, match="could not extend file.*too large") as full:
        copy.run(pair.settings, jobs=2)
    server.stop()
    server.start()
    pair.target.close()
    pair.target = psycopg.connect(pair.settings.target(), autocommit=True)
    assert "starts anew" in str(full.value)
    assert count(pair.target, "SELECT count(*) FROM tasks") == 0
    database = sql.Identifier(pair.target.info.dbname)
    pair.target.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(database))
    with pytest.raises(DatabaseError, match="25006"):
        copy.run(pair.settings, jobs=2)
    pair.target.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(database))
    pair.source.execute("SET session_replication_role = replica")
    pair.source.execute("INSERT INTO task_images (id, task_id, file_path) VALUES (900000, 900000, 'of no task')")
    with pytest.raises(DatabaseError, match="(?s)task_images_task_id_foreign.*23503"):
        copy.run(pair.settings, jobs=2)
    pair.source.execute("DELETE FROM task_images WHERE id = 900000")
    pair.source.execute("RESET session_replication_role")
    assert helper_schema.get(pair.target, "copy")["status"] == "running"
    done = copy.run(pair.settings, jobs=2)
    assert {table.table: table.rows for table in done.tables}["tasks"] == 300
    assert count(pair.target, "SELECT count(*) FROM tasks WHERE length(description) = 1048576") == 24
    equal(pair)


@pytest.mark.parametrize("jobs", [1, 3])
def test_ranges_of_a_live_table(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    """Prevents a row lost or doubled between page ranges while the source is written, updated and vacuumed."""
    pair = make_pair(rows=1500)
    monkeypatch.setattr(copy_plan, "SMALLEST_PART_PAGES", 3)
    monkeypatch.setattr(copy_plan, "WHOLE_SHARE", 0.0)
    schema.apply(pair.settings)
    shown = Recorder()
    with Writer(pair.settings.source()) as writer, ThreadPoolExecutor(1) as pool:
        running = pool.submit(copy.run, pair.settings, jobs=jobs, progress=shown)
        # Rows change their pages while they are read.
        while not wait([running], 0.05).done:
            pair.source.execute("UPDATE tasks SET title = title || '.' WHERE id % 7 = 0")
            pair.source.execute("VACUUM tasks")
        done = running.result()
        seen = {name: round(work.done * 2**20) for name, work in shown.works.items()}
        assert {table.table: table.bytes for table in done.tables}.items() <= seen.items()
        assert seen["copy: rows"] == sum(table.bytes for table in done.tables)
        equal(pair, writer)


def test_rows_arrive_frozen_and_keys_as_they_were(make_pair: MakePair) -> None:
    """Prevents tables that need a vacuum at once, a key that became a mere index, and settings of the loading that stay."""
    pair = make_pair(rows=800)
    pair.source.execute(
        "ALTER TABLE task_images ADD CONSTRAINT once UNIQUE (task_id, file_path, id) DEFERRABLE INITIALLY DEFERRED"
    )
    pair.source.execute("ALTER TABLE task_images ADD CONSTRAINT apart EXCLUDE USING btree (id WITH =)")
    pair.source.execute('CREATE UNIQUE INDEX "Odd %s" ON task_images (lower(file_path), id) WHERE delete_at IS NULL')
    pair.source.execute("ALTER TABLE task_tag DROP CONSTRAINT task_tag_task_id_foreign")
    pair.source.execute(
        "ALTER TABLE task_tag ADD CONSTRAINT task_tag_task_id_foreign FOREIGN KEY (task_id) REFERENCES tasks ON DELETE CASCADE NOT VALID"
    )
    pair.source.execute(
        "ALTER TABLE tasks ADD COLUMN after_id bigint REFERENCES task_images DEFERRABLE, ADD COLUMN parent_id bigint REFERENCES tasks"
    )
    schema.apply(pair.settings)
    copy.run(pair.settings, jobs=2)
    found = schema.diff(pair.settings)
    assert found.match, found.text
    assert found.pending == []
    pair.target.execute("SET search_path = public")
    for table in pair.settings.config.tables:
        row = pair.target.execute(
            "SELECT relallvisible > 0, reltuples > 0 FROM pg_class WHERE oid = %s::regclass", (table,)
        ).fetchone()
        # Nobody vacuumed: pages that are visible to all came so by FREEZE.
        assert row == (True, True), table
    kinds = dict(
        pair.target.execute(
            "SELECT conname, contype::text || condeferrable || condeferred || convalidated FROM pg_constraint"
        ).fetchall()
    )
    assert kinds["tasks_pkey"] == "pfalsefalsetrue"
    assert kinds["once"] == "utruetruetrue"
    assert kinds["task_tag_task_id_foreign"] == "ffalsefalsefalse"
    assert kinds["task_images_task_id_foreign"] == "ffalsefalsetrue"
    equal(pair)


def test_every_built_in_type_by_binary_copy(make_pair: MakePair) -> None:
    """Prevents a type that the binary form carries otherwise than it was, in a table that needs quoting."""
    pair = make_pair(rows=None)
    kinds = {name: found for name, found in TYPES.items() if "mood" not in found[0]} | {
        "ee": ("numeric(40, 20)", "'123456789012345678.00000000000000000001'"),
        "ff": ("timestamp", "'-infinity'"),
        "gg": ("timetz", "'12:00:00.000001+14'"),
        "hh": ("cidr", "'10.0.0.0/8'"),
        "ii": ("macaddr8", "'08:00:2b:01:02:03:04:05'"),
        "jj": ("bit(3)", "B'101'"),
        "kk": ("path", "'[(0,0),(1,1)]'"),
        "ll": ("box", "'((0,0),(1,1))'"),
        "mm": ("circle", "'<(0,0),5>'"),
        "nn": ("line", "'{1,2,3}'"),
        "oo": ("lseg", "'[(0,0),(1,1)]'"),
        "pp": ("tsquery", "'a & !b'"),
        "qq": ("xml", "'<a>&amp;</a>'"),
        "rr": ("tstzrange", "'[2020-01-01,infinity)'"),
        "ss": ("datemultirange", "'{[2020-01-01,2020-02-01),[2021-01-01,)}'"),
        "tt": ("xid8", "'18446744073709551615'"),
        "uu": ("\"char\"", "'x'"),
        "vv": ("name", "'a name'"),
        "ww": ("oid", "4294967295"),
        "xx": ("text[][]", "ARRAY[['a', NULL], ['', E'\\\\']]"),
        "yy": ("jsonb[]", "ARRAY['{}'::jsonb, NULL]"),
        "zz": ("pg_snapshot", "'10:20:10,14'"),
    }  # fmt: skip
    has_xml = bool(pair.source.execute("SELECT count(*) FROM pg_proc WHERE proname = 'xmlcomment'").fetchone())
    try:
        pair.source.execute("SELECT '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        has_xml = False
    if not has_xml:
        del kinds["qq"]
    columns = ", ".join(f'"{name} "" {name}" {kind}' for name, (kind, _) in kinds.items())
    pair.source.execute(f'CREATE TABLE "Weird ""Table" ("the Id" bigint PRIMARY KEY, {columns})'.encode())
    names = ", ".join(f'"{name} "" {name}"' for name in kinds)
    values = ", ".join(value for _, value in kinds.values())
    pair.source.execute(f'INSERT INTO "Weird ""Table" ("the Id", {names}) VALUES (1, {values})'.encode())
    pair.source.execute('INSERT INTO "Weird ""Table" ("the Id") VALUES (2)')
    pair.source.execute(
        'INSERT INTO "Weird ""Table" ("the Id", "f "" f") VALUES (3, decode(repeat(\'ab\', 1048576), \'hex\'))'
    )
    settings = pair.config(tables=['Weird "Table'], referencedTables=[], droppedForeignKeys=[])
    schema.apply(settings)
    done = copy.run(settings, jobs=2)
    assert done.tables[0].rows == 3
    query = 'SELECT md5(t::text) FROM "Weird ""Table" t ORDER BY "the Id"'
    assert pair.source.execute(query).fetchall() == pair.target.execute(query).fetchall()
    equal(pair)
    assert AWKWARD_PASSWORD not in str(list(settings.journal.events()))


def test_unlogged_tables_are_refused(make_pair: MakePair) -> None:
    """Prevents a copy recorded as done in a table that the target's next crash empties."""
    pair = make_pair(rows=50)
    pair.source.execute("ALTER TABLE task_tag SET UNLOGGED")
    schema.apply(pair.settings)
    with pytest.raises(Refused, match="task_tag on the source, task_tag on the target.*SET LOGGED"):
        copy.run(pair.settings)
    assert count(pair.source, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == 0
    assert count(pair.target, "SELECT count(*) FROM tasks") == 0


def test_a_run_that_was_overtaken_writes_no_more(make_pair: MakePair) -> None:
    """Prevents rows written twice by a copy that lost its lock and goes on beside the one that took over."""
    pair = make_pair(rows=300)
    schema.apply(pair.settings)
    real = copy_stream.sizes

    def overtaken(guard: Any, tables: Any) -> Any:
        state = helper_schema.get(pair.target, "copy")
        helper_schema.put(pair.target, "copy", {**state, "run": "another"})
        return real(guard, tables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy_stream, "sizes", overtaken)
        with pytest.raises(Refused, match="another `task-migration copy` began"):
            copy.run(pair.settings, jobs=2)
    assert count(pair.target, "SELECT count(*) FROM tasks") == 0
    copy.run(pair.settings, jobs=2)
    equal(pair)
    equal(pair)


def test_json_is_one_document_and_progress_goes_elsewhere(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a progress line inside the document that a script reads."""
    import json

    from scripts import __main__
    from scripts.support import progress_display

    pair = make_pair(rows=200)
    schema.apply(pair.settings)
    monkeypatch.setattr(progress_display, "LINE_SECONDS", 0.02)
    # The pair's names of slot and publication, and its engine, as a stack's file would give them.
    monkeypatch.setattr("scripts.cli.prepare.load_settings", lambda *_: pair.settings)
    monkeypatch.setattr("sys.argv", ["task-migration", "copy", "--json", "--jobs", "2"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 0
    seen = capsys.readouterr()
    document = json.loads(seen.out)
    assert {"slot", "lsn", "tables"} <= set(document)
    assert set(document["tables"][0]) == {"table", "rows", "bytes", "seconds"}
    assert "copy: rows" in seen.err
