"""`verify` beside life: many differences, hidden rows, orphans, writers on both sides, the command itself, killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from pydantic import SecretStr

from scripts.database import helper_schema, pace
from scripts.database.engines import dms_state_key
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.replication.directions import DIRECTIONS
from scripts.support.errors import DatabaseError, MigrationError, Refused
from scripts.support.settings import PROJECT_ROOT
from scripts.support.wait import wait_until
from scripts.verify import compare as verify_compare
from scripts.verify import orphans as verify_orphans
from scripts.verify import run as verify
from tests.conftest import AWKWARD_PASSWORD, Pair
from tests.integration.test_chain import MakePair, Told, Writer, running
from tests.integration.verify.test_verify import ALGORITHMS, bare, flow, seen, unseen


def test_many_differences_are_counted_in_flat_memory(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a verification that dies of a whole table that is missing, or that lists it, or that passes over a part of it."""
    monkeypatch.setattr(verify_compare, "TOGETHER", 500)
    monkeypatch.setattr(verify_compare, "FETCH", 500)
    monkeypatch.setattr(verify, "LISTED", 100)
    pair = bare(
        make_pair,
        ["numbered", "named"],
        "CREATE TABLE numbered (id bigint PRIMARY KEY, v text)",
        "CREATE TABLE named (id text PRIMARY KEY, v text)",
    )

    def peak(rows: int) -> int:
        for table in ("numbered", "named"):
            for connection, more in ((pair.source, rows), (pair.target, 3)):
                connection.execute(f"TRUNCATE {table}".encode())
                connection.execute(
                    f"INSERT INTO {table} SELECT i, repeat('v', 50) FROM generate_series(1, {more}) i".encode()
                )
        tracemalloc.start()
        found = verify.run(pair.settings)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for entry in found.tables:
            assert (entry.source_rows, entry.target_rows) == (rows, 3)
            assert entry.differences_total == rows - 3
            assert entry.differences_by_kind == {"missing_on_target": rows - 3}
            assert len(entry.differences) == min(rows - 3, 100)
            assert not entry.match
        return most

    peak(10)
    assert peak(16_000) < 2 * peak(2_000)


def test_progress_counts_the_rows_of_both_sides(make_pair: MakePair) -> None:
    """Prevents a long comparison that says nothing, or that says more than it did."""
    pair = bare(
        make_pair,
        ["one", "other"],
        "CREATE TABLE one (id int PRIMARY KEY)",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "INSERT INTO one SELECT generate_series(1, 2000)",
        "INSERT INTO other SELECT generate_series(1, 300)",
    )
    pair.target.execute("DELETE FROM one WHERE id = 7")
    for connection in (pair.source, pair.target):
        connection.execute("ANALYZE")
    told = Told()
    verify.run(pair.settings, progress=told)
    (work,) = told.works
    assert (work.done, work.total, work.unit) == (4599, 4600, "rows")


def test_a_row_of_a_megabyte(make_pair: MakePair) -> None:
    """Prevents a long value that is compared by its beginning, or printed whole."""
    pair = bare(
        make_pair,
        ["long"],
        "CREATE TABLE long (id int PRIMARY KEY, body text, raw bytea)",
        "INSERT INTO long SELECT i, repeat('あ', 349525) || 'z', decode(repeat('ab', 1048576), 'hex') FROM generate_series(1, 3) i",
    )
    assert seen(verify.run(pair.settings)) == {}
    pair.target.execute("UPDATE long SET body = left(body, -1) || 'y' WHERE id = 2")
    pair.target.execute("UPDATE long SET raw = set_byte(raw, 1048575, 0) WHERE id = 3")
    for algorithm in ALGORITHMS:
        found = verify.run(pair.settings, algorithm=algorithm, show_values=True)
        assert seen(found) == {("2",): ("different", ("body",)), ("3",): ("different", ("raw",))}
        values = found.tables[0].differences[0].values
        assert values is not None
        assert values.source is not None
        assert values.target is not None
        assert values.source["body"] != values.target["body"]
        assert "349526 characters" in str(values.source["body"])
        assert len(found.json_text()) < 100_000
    flow(pair)
    assert verify.run(pair.settings, repair="target").match
    assert pair.source.execute("SELECT right(body, 1) FROM long WHERE id = 2").fetchone() == ("y",)


def test_another_schema_on_one_side_is_said(make_pair: MakePair) -> None:
    """Prevents DDL on one side that verify passes over, or that makes it crash instead of naming it."""
    pair = bare(
        make_pair,
        ["changed"],
        "CREATE TABLE changed (id int PRIMARY KEY, a text, b int, c int)",
        "INSERT INTO changed SELECT i, i, i, i FROM generate_series(1, 50) i",
    )
    assert verify.run(pair.settings).match
    pair.target.execute("ALTER TABLE changed DROP COLUMN c, ADD COLUMN d int, ALTER COLUMN b TYPE bigint")
    for algorithm in ALGORITHMS:
        found = verify.run(pair.settings, algorithm=algorithm)
        assert not found.match
        assert not found.schema_match
        assert {item.name for item in found.schema_differences} == {"b", "c", "d"}
        assert seen(found) == {}
    pair.target.execute("UPDATE changed SET b = 4294967296 + b WHERE id = 4")
    assert seen(verify.run(pair.settings)) == {("4",): ("different", ("b",))}
    pair.target.execute("ALTER TABLE changed DROP COLUMN id")
    with pytest.raises(Refused, match="primary key"):
        verify.run(pair.settings)


def test_rows_that_row_security_hides_are_an_error(make_pair: MakePair) -> None:
    """Prevents 'equal' about the rows that the role may see."""
    pair = bare(make_pair, ["hidden"], "CREATE TABLE hidden (id int PRIMARY KEY)", "INSERT INTO hidden VALUES (1)")
    for statement in (
        "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
        "GRANT SELECT ON hidden TO task_service_user",
        "CREATE POLICY none ON hidden USING (false)",
    ):
        pair.target.execute(statement)
    limited = pair.target_server.url(pair.target.info.dbname, "task_service_user", "secret-of-role")
    pair.settings = replace(pair.settings, target_url=SecretStr(limited))
    with pytest.raises(DatabaseError, match="row-level security"):
        verify.run(pair.settings)


def test_references_that_lead_nowhere(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents orphans that pass because both sides have them, because their key is no integer or their ids are far apart."""
    monkeypatch.setattr(verify_orphans, "BATCH", 7)
    # In pieces, and a value that is lost stands in two of them.
    monkeypatch.setattr(pace, "ROWS", 50)
    pair = bare(
        make_pair,
        ["child"],
        "CREATE TABLE child (id int PRIMARY KEY, near bigint, also int, far bigint, word text, x int, y text)",
    )
    for statement in (
        "CREATE TABLE near (id bigint PRIMARY KEY)",
        "CREATE TABLE far (id bigint PRIMARY KEY)",
        "CREATE TABLE word (id text PRIMARY KEY)",
        "CREATE TABLE pairs (x int, y text, PRIMARY KEY (x, y))",
        "INSERT INTO near SELECT i * 3 FROM generate_series(0, 200) i",
        "INSERT INTO far VALUES (1), (123456789012)",
        "INSERT INTO word VALUES ('a%'), ('b')",
        "INSERT INTO pairs VALUES (1, 'a'), (1, 'b')",
        "ALTER TABLE child ADD CONSTRAINT child_near FOREIGN KEY (near) REFERENCES near, "
        "ADD CONSTRAINT child_also FOREIGN KEY (also) REFERENCES near, ADD CONSTRAINT child_far FOREIGN KEY (far) REFERENCES far, "
        "ADD CONSTRAINT child_word FOREIGN KEY (word) REFERENCES word, "
        "ADD CONSTRAINT child_pairs FOREIGN KEY (x, y) REFERENCES pairs",
    ):
        pair.source.execute(statement)
    names = ["child_near", "child_also", "child_far", "child_word", "child_pairs"]
    pair.config(referencedTables=["near", "far", "word", "pairs"], droppedForeignKeys=names)
    good = "INSERT INTO child SELECT i, i * 3, 600, 123456789012, 'a%', 1, 'b' FROM generate_series(1, 200) i"
    bad = (
        # Not there, past the highest id, negative, and null, which refers to nothing.
        "INSERT INTO child (id, near) VALUES (301, 4), (302, 601), (303, -3), (304, 600000), (305, NULL), (450, 4)",
        "INSERT INTO child (id, also) VALUES (311, 1)",
        "INSERT INTO child (id, far) SELECT 400 + i, i FROM generate_series(1, 30) i",
        "INSERT INTO child (id, word) VALUES (321, 'a'), (322, 'A%')",
        "INSERT INTO child (id, x, y) VALUES (331, 1, 'c'), (332, NULL, 'c')",
    )
    for connection in (pair.source, pair.target):
        connection.execute("SET session_replication_role = replica")
        connection.execute(good)
    found = verify.run(pair.settings)
    assert found.orphans == []
    assert found.match
    for connection in (pair.source, pair.target):
        for statement in bad:
            connection.execute(statement)
    found = verify.run(pair.settings)
    assert seen(found) == {}
    assert not found.match
    orphans = {entry.constraint: entry for entry in found.orphans}
    assert {name: entry.count for name, entry in orphans.items()} == {
        "child_near": 4,
        "child_also": 1,
        "child_far": 29,
        "child_word": 2,
        "child_pairs": 1,
    }
    assert orphans["child_pairs"].samples == [{"x": "1", "y": "c"}]
    assert orphans["child_near"].references == "near(id)"
    assert len(orphans["child_far"].samples) == verify_orphans.SAMPLES


def test_a_child_without_its_parent_on_both_sides(make_pair: MakePair) -> None:
    """Prevents a key between the moved tables that is broken alike on both sides, which no comparison of rows shows."""
    pair = running(make_pair, rows=60)
    for connection in (pair.source, pair.target):
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET task_migration.applying = 'on'")
        connection.execute(
            "INSERT INTO task_images (id, task_id, file_path) VALUES (5000, 777777, 'x'), (5001, 777777, 'y')"
        )
    found = verify.run(pair.settings)
    assert seen(found) == {}
    assert not found.match
    assert [(one.constraint, one.count, one.samples) for one in found.orphans] == [
        ("task_images_task_id_foreign", 1, [{"task_id": "777777"}])
    ]


def test_no_false_report_and_no_blind_eye_while_both_sides_write(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents an alarm about rows under way, and a real difference that is lost among them."""
    pair = running(make_pair, rows=600)
    monkeypatch.setattr(pace, "PACED_ROWS", 100)
    ids = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id")]
    with unseen(pair.target):
        pair.target.execute("UPDATE tasks SET title = title || '!' WHERE id = %s", (ids[-1],))
        pair.target.execute("DELETE FROM task_images WHERE id = (SELECT max(id) FROM task_images)")
    stop = threading.Event()

    def update(url: str, rows: list[int]) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            turn = 0
            while not stop.is_set():
                turn += 1
                number = rows[turn % len(rows)]
                connection.execute("UPDATE tasks SET span = %s, updated_at = now() WHERE id = %s", (turn, number))
                connection.execute("INSERT INTO task_tag VALUES (%s, %s) ON CONFLICT DO NOTHING", (number, 1))
                connection.execute("DELETE FROM task_tag WHERE task_id = %s", (number,))
                stop.wait(0.01)

    # Each side updates rows of its own: rows that both write may end differently, which is another test's matter.
    threads = [
        threading.Thread(target=update, args=(pair.settings.source(), ids[:100])),
        threading.Thread(target=update, args=(pair.settings.target(), ids[100:200])),
    ]
    with Writer(pair.settings.source()), Writer(pair.settings.target()):
        for thread in threads:
            thread.start()
        try:
            documents = [
                # With both cores busy the workers are far behind four writers that never pause. In slices the second time.
                verify.run(pair.settings, algorithm=algorithm, fence_timeout=120, gentle=gentle)
                for gentle in (False, True)
                for algorithm in ALGORITHMS
            ]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    for found in documents:
        assert found.live
        entries = {entry.table: entry for entry in found.tables}
        assert [(d.key["id"], d.kind, d.columns) for d in entries["tasks"].differences] == [
            (ids[-1], "different", ["title"])
        ]
        assert [d.kind for d in entries["task_images"].differences] == ["missing_on_target"]
        assert {entry.table for entry in found.tables if not entry.match} == {"tasks", "task_images"}
        assert found.orphans == []
    fence.both(pair.settings)
    assert verify.run(pair.settings, repair="source").match
    found = verify.run(pair.settings)
    assert found.match
    for entry in found.tables:
        assert entry.source_rows == entry.target_rows
        assert entry.source_checksum == entry.target_checksum


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    return connection.execute(query.encode()).fetchone()


def command(pair: Pair, directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """`task-migration verify` in a process of its own, with the pair's configuration in a stack's file of ``directory``."""
    config = pair.settings.config.model_dump(by_alias=True, mode="json", exclude_unset=True)
    stack = {"config": {f"task-migration:{key}": value for key, value in config.items()}}
    (directory / "Pulumi.test.yaml").write_text(yaml.safe_dump(stack, allow_unicode=True), encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PULUMI", "TASK_", "SOURCE_", "TARGET_"))}
    urls = {"SOURCE_DATABASE_URL": pair.settings.source(), "TARGET_DATABASE_URL": pair.settings.target()}
    return subprocess.Popen(
        [sys.executable, "-m", "scripts", "verify", "--stack", "test", *arguments],
        cwd=directory,
        env={
            **clean,
            **urls,
            "PYTHONPATH": str(PROJECT_ROOT),
            "TASK_MIGRATION_STATE_DIR": str(pair.settings.state_dir),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_says_which_rows_and_never_what_they_hold(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents a document that others cannot read, an exit status that hides a difference, values that nobody asked for."""
    pair = running(make_pair, rows=50)
    with unseen(pair.target):
        pair.target.execute("UPDATE tasks SET title = 'very private' WHERE id = (SELECT min(id) FROM tasks)")
    quiet, shown, wrong = (
        command(pair, tmp_path, "--json", "--algorithm", "md5"),
        command(pair, tmp_path, "--json", "--show-values"),
        command(pair, tmp_path, "--algorithm", "sha1"),
    )
    said = {
        name: process.communicate(timeout=120)
        for name, process in (("quiet", quiet), ("shown", shown), ("wrong", wrong))
    }
    assert (quiet.returncode, shown.returncode, wrong.returncode) == (11, 11, 2), said
    document = json.loads(said["quiet"][0])
    assert document["algorithm"] == "md5"
    assert set(document) == {
        "match",
        "tables",
        "sequences",
        "orphans",
        "undecided",
        "followed",
        "schema_match",
        "schema",
        "recording",
        "live",
        "algorithm",
        "written",
    }
    assert "very private" not in said["quiet"][0] + said["quiet"][1]
    assert json.loads(said["shown"][0])["algorithm"] == "hash"
    assert "very private" in said["shown"][0]
    assert document["live"]
    for out, err in said.values():
        assert AWKWARD_PASSWORD not in out + err


def test_an_engine_that_cannot_be_asked(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a verification that needs AWS, or that takes rows under way for differences when AWS does not answer."""
    pair = running(make_pair, rows=20)

    # As DMS was started, and no region says where it is asked.
    by_aws = replace(pair.settings, config=pair.settings.config.model_copy(update={"replication_engine": "dms"}))
    for direction in DIRECTIONS:
        helper_schema.put(pair.target, dms_state_key(direction), {})
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(MigrationError, match="region"):
        fence.available(by_aws)
    found = verify.run(by_aws)
    assert found.live
    assert found.match
    replicate.stop(pair.settings)
    monkeypatch.setattr(verify, "ASKED_BY_FENCE", 0.3)
    found = verify.run(by_aws)
    assert not found.live
    assert found.match


def test_killed_half_way_it_leaves_nothing(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents a killed verification whose queries read on for nobody, hold locks, or leave something in a catalog."""
    pair = running(make_pair, rows=20)
    mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'task-migration verify' AND datname = current_database()"
    waiting = mine + " AND wait_event_type = 'Lock'"
    things = (
        "SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_namespace), (SELECT count(*) FROM pg_proc)"
    )
    before = [connection.execute(things.encode()).fetchone() for connection in (pair.source, pair.target)]
    # In a transaction pg_stat_activity does not change, so the lock is another session's.
    with psycopg.connect(pair.settings.target()) as locker:
        locker.execute("LOCK TABLE task_tag")
        process = command(pair, tmp_path)
        try:
            wait_until(
                lambda: pair.target.execute(waiting.encode()).fetchone(),
                lambda row: row is not None and row[0] > 0,
                what="verify to wait for the table",
                timeout=60,
            )
        finally:
            process.kill()
            process.communicate(timeout=60)
        for connection in (pair.source, pair.target):
            wait_until(
                partial(_one, connection, mine),
                lambda row: row == (0,),
                what="its sessions to end, though the lock is still held",
                timeout=60,
            )
    assert [connection.execute(things.encode()).fetchone() for connection in (pair.source, pair.target)] == before
    assert verify.run(pair.settings).match
