"""The data plane broken on purpose; rows are counted and compared afterwards."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from components.config import MigrationConfig
from scripts.backup import run as backup
from scripts.copy import run as copy
from scripts.copy import state as copy_state
from scripts.database import locks
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.replication.documents import Status
from scripts.schema import run as schema
from scripts.support.errors import DataDiffer, MigrationError, Refused
from scripts.support.settings import Settings
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.conftest import AWKWARD_PASSWORD, Pair
from tests.integration.conflict_log import told
from tests.integration.test_chain import MakePair, Writer, count, running

_COPY = """
import json, sys
from pathlib import Path
from pydantic import SecretStr
from components.config import MigrationConfig
from scripts.copy.run import run
from scripts.database import strangers
from scripts.support.settings import Settings
given = json.load(sys.stdin)
if given["blind"]:
    strangers.refuse_any = lambda side, found: None
config = MigrationConfig.model_validate(given["config"])
run(Settings(config, None, SecretStr(given["source"]), SecretStr(given["target"]), Path(given["state"])), jobs=2)
"""


def copy_process(settings: Settings, blind: bool = False) -> subprocess.Popen[bytes]:
    """`copy` in a process of its own, which can be killed; ``blind`` to triggers by which a test holds it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _COPY], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    given = {
        "config": settings.config.model_dump(by_alias=True),
        "source": settings.source(),
        "target": settings.target(),
        "state": str(settings.state_dir),
        "blind": blind,
    }
    assert process.stdin is not None
    process.stdin.write(json.dumps(given).encode())
    process.stdin.close()
    return process


def _begun(settings: Settings) -> int:
    return sum(entry["event"] == "started" for entry in settings.journal.events("copy"))


@pytest.mark.parametrize("seed", range(4))
def test_copy_killed_at_random_then_run_again(make_pair: MakePair, seed: int) -> None:
    """Prevents a hole, a double row or a forgotten slot after `kill -9` of the copy, whatever it was doing."""
    pair = make_pair(rows=4000)
    schema.apply(pair.settings)
    with Writer(pair.settings.source()) as writer:
        for attempt in range(2):
            process = copy_process(pair.settings)
            # Its imports take most of a second; what is worth a kill happens after it has begun.
            wait_until(
                lambda n=attempt, copying=process: _begun(pair.settings) > n or copying.poll() is not None,  # type: ignore[misc]
                bool,
                what="the copy to begin",
                timeout=60,
                interval=0.005,
            )
            # The time itself: whatever it does at that moment.
            time.sleep(random.Random(seed * 10 + attempt).uniform(0, 0.3))  # noqa: TID251
            process.kill()
            process.wait()
        done = copy.run(pair.settings, jobs=2)
        assert done.found != "nothing of an earlier copy"
        replicate.start(pair.settings)
    fence.forward(pair.settings)
    there = [row[0] for row in pair.target.execute("SELECT id FROM tasks")]
    assert len(there) == len(set(there))
    assert writer.lost(pair.target) == []
    assert verify.run(pair.settings).match
    slots = pair.source.execute(
        "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"
    ).fetchone()
    assert slots == (1,)


@pytest.mark.parametrize("which", ["source", "target"])
def test_server_killed_and_started_again(make_pair: MakePair, which: str) -> None:
    """Prevents loss when a server dies by `kill -9` while replication runs and both sides write."""
    pair = running(make_pair)
    other = "target" if which == "source" else "source"
    victim = pair.source_server if which == "source" else pair.target_server
    row = "INSERT INTO tasks (user_id, title) SELECT min(user_id), 'before' FROM tasks"
    (pair.source if which == "source" else pair.target).execute(row.encode())
    with Writer(pair.settings.source() if other == "source" else pair.settings.target()) as writer:
        writer.more(50)
        victim.kill()
        writer.more(50)
        victim.start()
        writer.more(50)
    survivor = pair.target if which == "source" else pair.source
    replicate.wait(pair.settings, timeout=30)
    with psycopg.connect(pair.settings.source() if which == "source" else pair.settings.target()) as again:
        assert writer.lost(again, survivor) == []
    assert count(survivor, "SELECT count(*) FROM tasks WHERE title = 'before'") == 1
    assert verify.run(pair.settings).match
    assert told(pair.settings) == []


def test_a_lost_slot_is_named_and_never_bridged(make_pair: MakePair) -> None:
    """Prevents going on without the changes that a dropped slot took along."""
    pair = make_pair()
    schema.apply(pair.settings)
    copy.run(pair.settings)
    pair.source.execute("SELECT pg_drop_replication_slot(%s)", (pair.settings.config.subscription,))
    with pytest.raises(Refused, match="does not exist"):
        replicate.start(pair.settings)
    # One made by hand under the name would leave out this write, and nobody would notice.
    pair.source.execute("UPDATE tasks SET title = 'between'")
    name = pair.settings.config.subscription
    pair.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
    with pytest.raises(Refused, match="what came between would be missing"):
        replicate.start(pair.settings)
    pair.source.execute("SELECT pg_drop_replication_slot(%s)", (name,))
    again = copy.run(pair.settings)
    assert "starts anew" in again.found
    assert again.status == "complete"
    replicate.start(pair.settings)
    assert verify.run(pair.settings).match


def _until(pair: Pair, what: str, done: Callable[[Status], bool], timeout: float = 40.0) -> Status:
    """The first status that is ``done``."""
    return wait_until(lambda: replicate.status(pair.settings, 0.5), done, what=what, timeout=timeout, interval=0.1)


def test_status_says_why_a_worker_is_down(make_pair: MakePair) -> None:
    """Prevents a stopped worker that looks like lag: the row, the error and where to go on are named, values are not."""
    pair = running(make_pair, slotStalledSeconds=1)
    secret = "geheim 山田太郎"
    pair.target.execute("ALTER TABLE tasks ADD CONSTRAINT no_more CHECK (title NOT LIKE 'geheim%') NOT VALID")
    row = pair.source.execute("SELECT min(id) + 3, count(*) FROM tasks").fetchone()
    assert row is not None
    pair.source.execute("UPDATE tasks SET description = repeat('x', 1000000) WHERE id = %s", (row[0] - 1,))
    # The row at fault stands within a transaction, behind one that can be applied.
    with pair.source.transaction():
        pair.source.execute("UPDATE tasks SET title = 'allowed' WHERE id = %s", (row[0] + 1,))
        pair.source.execute("UPDATE tasks SET title = %s WHERE id = %s", (secret, row[0]))
    state = _until(
        pair,
        "the row at fault to be named, and the slot found to stand still",
        lambda seen: seen.forward.error is not None and seen.forward.stalled_seconds >= 1,
    )
    forward = state.forward
    assert forward.error is not None
    assert forward.error.table == "tasks"
    assert forward.error.operation == "UPDATE"
    assert forward.error.key == {"id": str(row[0])}
    assert forward.error.sqlstate == "23514"
    assert forward.error.constraint == "no_more"
    assert "no_more" in str(forward.reason)
    assert forward.apply_errors > 0
    assert forward.lag_seconds is None
    assert secret not in str(state)
    assert {f.what for f in state.findings if f.status == "fail"} >= {
        "forward: not running",
        "forward: slot stalled",
        "schema drift",
    }
    assert any("no_more" in text for text in state.drift)
    # The look changed nothing: no slot stays, the row is as it was.
    assert (
        count(pair.source, "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'task_migration_why%'") == 0
    )
    assert count(pair.target, "SELECT count(*) FROM tasks WHERE title = 'allowed'") == 0
    # The way back does not suffer from it.
    pair.target.execute("UPDATE tasks SET title = 'from the target' WHERE id = %s", (row[0] + 2,))
    fence.reverse(pair.settings)
    pair.target.execute("ALTER TABLE tasks DROP CONSTRAINT no_more")
    replicate.wait(pair.settings, 40)
    assert count(pair.target, "SELECT count(*) FROM tasks") == row[1]
    found = verify.run(pair.settings)
    assert found.match, found
    # The test writes faster than any night: the runway may be short; and it wrote on the target at weight 0. Nothing else is found.
    left = replicate.status(pair.settings)
    known = {"forward: log runway", "reverse: log runway", "target: somebody else writes"}
    assert {finding.what for finding in left.findings} <= known, left


def test_the_worker_gives_way_to_the_application(make_pair: MakePair) -> None:
    """Prevents a request that fails as a deadlock's victim because replication takes the same rows in another order."""
    pair = running(make_pair)
    ids = [row[0] for row in pair.source.execute("SELECT id FROM tasks ORDER BY id LIMIT 120")]
    done = {"application": 0, "victim": 0}
    database = pair.target.info.dbname
    service = pair.target_server.url(database, "task_service_user", "secret-of-role")

    over = threading.Event()

    def application() -> None:
        with psycopg.connect(service, autocommit=True) as connection:
            while not over.is_set():
                try:
                    with connection.transaction():
                        connection.execute("UPDATE tasks SET priority = 1 WHERE id = %s", (ids[110],))
                        time.sleep(0.01)  # noqa: TID251  # as a request does other things between two statements
                        connection.execute("UPDATE tasks SET priority = 1 WHERE id = %s", (ids[10],))
                    done["application"] += 1
                except psycopg.errors.DeadlockDetected:
                    done["victim"] += 1

    bulk = threading.Thread(target=application)
    bulk.start()
    name = pair.settings.config.subscription
    deadlocks = f"SELECT apply_error_count FROM pg_stat_subscription_stats WHERE subname = '{name}'"

    def met() -> tuple[int, int]:
        """One more update of all of them; how often the application was served, and the worker the victim."""
        pair.source.execute("UPDATE tasks SET reward = 7 WHERE id BETWEEN %s AND %s", (ids[0], ids[-1]))
        return done["application"], count(pair.target, deadlocks)

    try:
        # Without a deadlock this test proves nothing.
        enough = wait_until(
            met, lambda seen: seen[0] > 150 and seen[1] > 1, what="deadlocks", timeout=60, interval=0.02
        )
    finally:
        over.set()
        bulk.join()
    assert done["victim"] == 0, (done, enough)
    # A long transaction of the application makes the worker late, and loses nothing.
    with psycopg.connect(service) as long:
        long.execute("UPDATE tasks SET span = 3 WHERE id = %s", (ids[50],))
        pair.source.execute("UPDATE tasks SET reward = 8 WHERE id BETWEEN %s AND %s", (ids[0], ids[-1]))
        seen = _until(pair, "the waiting row to be named", lambda state: bool(state.forward.reason))
        assert count(pair.target, "SELECT count(*) FROM tasks WHERE reward = 8") == 0, seen
        long.commit()
    state = replicate.status(pair.settings)
    replicate.wait(pair.settings, 60)
    assert state.forward.apply_errors > 0, state
    # What each side acknowledged last is on both, without a repair; each had columns of its own, so nothing was to be told.
    for connection in (pair.source, pair.target):
        assert (
            count(connection, f"SELECT count(*) FROM tasks WHERE reward = 8 AND id BETWEEN {ids[0]} AND {ids[-1]}")
            == 120
        )
        assert (
            count(connection, f"SELECT count(*) FROM tasks WHERE priority = 1 AND id IN ({ids[10]}, {ids[110]})") == 2
        )
        assert count(connection, f"SELECT span FROM tasks WHERE id = {ids[50]}") == 3
    assert verify.run(pair.settings).match
    assert told(pair.settings) == []


def test_a_second_copy_and_foreign_rows_are_refused(make_pair: MakePair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a copy over rows that are somebody's, and two copies at once."""
    pair = make_pair(rows=50)
    schema.apply(pair.settings)
    pair.target.execute("DROP SCHEMA task_migration CASCADE")
    pair.target.execute("INSERT INTO task_tag VALUES (1, 1)")
    with pytest.raises(Refused, match="hold rows"):
        copy.run(pair.settings)
    assert _untouched(pair)
    assert pair.target.execute("SELECT * FROM task_tag").fetchall() == [(1, 1)]
    pair.target.execute("TRUNCATE task_tag")
    assert locks.take(pair.target, locks.COPY, "another machine's") is None
    monkeypatch.setattr(copy_state, "LOCK_SECONDS", 0.3)
    with pytest.raises(Refused, match="another machine's"):
        copy.run(pair.settings)
    assert _untouched(pair)
    row = pair.target.execute("SELECT holder FROM task_migration.locks WHERE name = 'copy'").fetchone()
    assert row == ("another machine's",)


def _untouched(pair: Pair) -> bool:
    """No slot holds the source's log back, and no row came over."""
    slots = count(pair.source, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
    return (slots, count(pair.target, "SELECT count(*) FROM tasks")) == (0, 0)


def test_full_schema_made_by_others(make_pair: MakePair) -> None:
    """Prevents a copy that fails, or makes keys twice, on a target that Laravel's migrations made, with its foreign keys."""
    pair = make_pair(rows=100)
    from scripts.rehearsal.data.schema import create_source_schema

    create_source_schema(pair.target)
    for name in pair.settings.config.dropped_foreign_keys:
        table = next(t for t in sorted(pair.settings.config.tables, key=len, reverse=True) if name.startswith(t + "_"))
        pair.target.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    assert schema.apply(pair.settings).created == []
    found = schema.diff(pair.settings)
    assert found.match, found.text
    copy.run(pair.settings)
    replicate.start(pair.settings)
    assert verify.run(pair.settings).match
    # The Task Service's role was given what it needs on tables that it does not own.
    pair.target.execute("SET ROLE task_service_user")
    pair.target.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), 'x' FROM tasks")


def test_schema_drift_is_text_and_sql(make_pair: MakePair) -> None:
    """Prevents rows moved into a table of another shape."""
    pair = make_pair(rows=10)
    schema.apply(pair.settings)
    pair.target.execute(
        "ALTER TABLE tasks ALTER COLUMN title TYPE varchar(100), DROP COLUMN span, ADD COLUMN extra int"
    )
    with pytest.raises(Refused, match="differ"):
        copy.run(pair.settings)
    assert _untouched(pair)
    found = schema.diff(pair.settings)
    assert {item.name for item in found.differences} == {"title", "span", "extra"}
    for item in found.differences:
        pair.target.execute(item.sql.encode())
    # An added column stands last, which is no difference: columns are matched by name.
    assert schema.diff(pair.settings).match
    copy.run(pair.settings)
    assert verify.run(pair.settings).match


TYPES = {
    "a": ("smallint", "1"),
    "b": ("numeric", "'NaN'"),
    "c": ("double precision", "'-0'"),
    "d": ("real", "0.1"),
    "e": ("money", "12.5"),
    "f": ("bytea", "'\\x00ff'"),
    "g": ("timestamptz", "'infinity'"),
    "h": ("interval", "'1 mon 3 days 04:05:06.7'"),
    "i": ("time", "'24:00'"),
    "j": ("inet", "'::1/128'"),
    "k": ("macaddr", "'08:00:2b:01:02:03'"),
    "l": ("bit varying(9)", "B'101'"),
    "m": ("point", "'(1,2)'"),
    "n": ("polygon", "'((0,0),(1,1),(2,0))'"),
    "o": ("tsvector", "'a:1 b:2'"),
    "q": ("jsonb", '\'{"b": 1, "a": [null, "\u3042"]}\''),
    "r": ("json", '\'{"b":  1, "b": 2}\''),
    "s": ("int4range", "'[1,5)'"),
    "t": ("nummultirange", "'{[1.1,2.2)}'"),
    "u": ("text[]", "ARRAY['a,b', NULL, '\"']"),
    "v": ("uuid", "'00000000-0000-0000-0000-000000000001'"),
    "w": ("char(5)", "'ab'"),
    "x": ("pg_lsn", "'0/16B3748'"),
    "y": ("jsonpath", "'$.a[*]'"),
    "z": ("mood", "'so so'"),
    "aa": ("mood[]", "ARRAY['sad', 'so so']::mood[]"),
    "bb": ("date", "'0044-03-15 BC'"),
    "cc": ("boolean", "true"),
    "dd": ("bigint[]", "'[0:1]={1,2}'"),
}


def test_every_type_in_a_table_that_needs_quoting(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents code that knows the six tables: other types, names with quotes and spaces, an identity and a generated column."""
    pair = make_pair(rows=None)
    pair.source.execute("CREATE TYPE mood AS ENUM ('sad', 'so so')")
    columns = ", ".join(f'"{name} "" {name}" {kind}' for name, (kind, _) in TYPES.items())
    pair.source.execute(
        f'CREATE TABLE "Weird ""Table" ("the Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {columns}, '
        '"Up" text GENERATED ALWAYS AS (upper("u "" u"[1])) STORED, "Größe %s {}" text UNIQUE)'.encode()
    )
    pair.source.execute(
        'CREATE TABLE "Child of 100%" (a text, b int, PRIMARY KEY (b, a), p bigint REFERENCES "Weird ""Table" ON DELETE CASCADE)'
    )
    values = ", ".join(value for _, value in TYPES.values())
    names = ", ".join(f'"{name} "" {name}"' for name in TYPES)
    insert = f'INSERT INTO "Weird ""Table" ({names}, "Größe %s {{}}") VALUES ({values}, \'u1\')'
    pair.source.execute(insert.encode())
    pair.source.execute('INSERT INTO "Weird ""Table" DEFAULT VALUES')
    pair.source.execute("INSERT INTO \"Child of 100%\" VALUES ('x''y', 1, 1)")
    settings = pair.config(tables=['Weird "Table', "Child of 100%"], referencedTables=[], droppedForeignKeys=[])
    made = schema.apply(settings)
    assert made.match, made.text
    copy.run(settings)
    replicate.start(settings)
    pair.source.execute(insert.replace("'u1'", "'u2'").encode())
    pair.target.execute(insert.replace("'u1'", "'u3'").encode())
    pair.target.execute("INSERT INTO \"Child of 100%\" VALUES ('z', 2, 2)")
    pair.source.execute('UPDATE "Weird ""Table" SET "r "" r" = \'{"x":1}\'')
    pair.source.execute('INSERT INTO "Weird ""Table" ("f "" f") VALUES (decode(repeat(\'ab\', 1048576), \'hex\'))')
    fence.both(settings)
    pair.source.execute('DELETE FROM "Weird ""Table" WHERE "the Id" = 2')
    for algorithm in ("hash", "md5"):
        found = verify.run(settings, algorithm=algorithm)
        assert found.match, found.tables
    assert [table.source_rows for table in found.tables] == [4, 1]
    saved = backup.run(settings, str(tmp_path / "backup"))
    assert saved.restore_verified
    assert AWKWARD_PASSWORD not in str(list(settings.journal.events()))


def test_a_restore_that_differs_is_not_verified(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents comparing the backup with itself: the restored tables are what is compared."""
    pair = make_pair(rows=50)
    saved = backup.run(pair.settings, str(tmp_path), plain_inserts=True)
    manifest = json.loads(Path(saved.manifest).read_text())
    manifest["tables"][0]["rows"] += 1
    Path(saved.manifest).write_text(json.dumps(manifest))
    with pytest.raises(DataDiffer, match="differs"):
        backup.restore(pair.settings, saved.manifest, pair.settings.target())


def test_a_backup_to_nowhere_fails_whole(make_pair: MakePair, tmp_path: Path) -> None:
    """Prevents success on a disk that takes nothing."""
    pair = make_pair(rows=10)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(MigrationError, match="file is no directory of its own"):
        backup.run(pair.settings, str(blocked))
    with pytest.raises(MigrationError, match="failed: .*Not a directory; mend it, or name another place"):
        backup.run(pair.settings, str(blocked / "below"))


def test_settings_of_no_server_name_no_password(tmp_path: Path) -> None:
    """Prevents a password in the error of a server that is not there."""
    from scripts.preflight import run as preflight

    nowhere: Any = SecretStr("postgresql://u:very-secret-word@127.0.0.1:1/nowhere")
    settings = Settings(MigrationConfig(), None, nowhere, nowhere, tmp_path)
    found = preflight.run(settings)
    assert [check.name for check in found.checks if check.status == "fail"] == [
        "source: connection",
        "target: connection",
    ]
    assert "very-secret-word" not in found.json_text()
