"""Preflight on real servers: for each check a database where it passes and one where it fails, and remedies that mend."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from scripts.backup import run as backup
from scripts.copy import run as copy
from scripts.database import catalog
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.finish import finalize, removal
from scripts.preflight import dms
from scripts.preflight import rights as preflight_rights
from scripts.preflight import run as preflight
from scripts.preflight import server as preflight_server
from scripts.preflight import values as preflight_values
from scripts.preflight import wal as preflight_wal
from scripts.preflight.wal import Room
from scripts.rehearsal.data.schema import create_source_schema
from scripts.rehearsal.world import EmulatedAws
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import DatabaseError
from scripts.support.settings import Settings
from scripts.verify import run as verify
from tests.conftest import AWKWARD_PASSWORD, Pair

MakePair = Callable[..., Pair]
Connection = psycopg.Connection[Any]


def looked(settings: Settings) -> dict[str, dict[str, str]]:
    """The checks by name."""
    document = preflight.run(settings, wal_seconds=0.2)
    names = [check.name for check in document.checks]
    assert len(names) == len(set(names))
    assert document.passed == all(check.status != "fail" for check in document.checks)
    return {check.name: check.plain() for check in document.checks}


def statuses(found: dict[str, dict[str, str]], *, status: str) -> set[str]:
    return {name for name, check in found.items() if check["status"] == status}


#: What is done to the source, the check that must tell it, its status, and words of its detail.
BROKEN: tuple[tuple[str, str, str, str], ...] = (
    ("ALTER TABLE scheduled_task_tags DROP CONSTRAINT scheduled_task_tags_pkey", "primary keys", "fail", "scheduled_task_tags"),
    (
        "CREATE FUNCTION low(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT lower($1)'; "
        "CREATE FUNCTION low2(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN low($1); END'; "
        "CREATE INDEX by_low ON tasks (low2(title))",
        "functions without a search_path", "fail", "the index by_low of public.tasks",
    ),
    ("ALTER TABLE scheduled_task_tags SET UNLOGGED", "unlogged tables", "fail", "scheduled_task_tags"),
    ("CREATE PUBLICATION everything FOR ALL TABLES", "publications of all tables", "warn", "everything will send"),
    ("ALTER TABLE task_tag ADD _tm_key text", "names of columns", "fail", "task_tag._tm_key"),
    ("CREATE TABLE parts (id bigint PRIMARY KEY) PARTITION BY RANGE (id)", "kinds of tables", "fail", "parts (partitioned)"),
    (
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
        'CREATE TRIGGER "Note it" BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION noted(); '
        'ALTER TABLE tasks ENABLE ALWAYS TRIGGER "Note it"',
        "triggers that fire on apply", "fail", '"Note it" of public.tasks fires ALWAYS',
    ),
    ("CREATE TABLE kid () INHERITS (scheduled_group_tasks)", "inheritance", "fail", "kid"),
    ("GRANT TRUNCATE ON task_tag TO myteacher_app_user", "truncate", "warn", "task_tag: myteacher_app_user may"),
    ("ALTER TABLE tasks DROP CONSTRAINT tasks_user_id_foreign", "foreign keys across the border", "fail", "not found: tasks_user_id_foreign"),
    (
        "CREATE TABLE badges (id int PRIMARY KEY); ALTER TABLE task_tag ADD badge int REFERENCES badges",
        "referenced tables", "warn", "badges",
    ),
    ("CREATE TABLE notes (task_id bigint REFERENCES tasks)", "foreign keys from outside", "fail", "notes_task_id_fkey of public.notes"),
    ("SELECT setval('tasks_id_seq', 900000000)", "distance to the band", "warn", "tasks_id_seq (at 900000000)"),
    ("SELECT setval('task_images_id_seq', 2000000000)", "sequence band", "fail", "task_images_id_seq (at 2000000000"),
    ("ALTER SEQUENCE scheduled_group_tasks_id_seq CYCLE", "kinds of sequences", "fail", "increment 1, cycles"),
    (
        "CREATE UNIQUE INDEX half ON task_images (id); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half'::regclass",
        "indexes that are not valid", "warn", "task_images.half",
    ),
    ("CREATE TRIGGER heard AFTER INSERT ON tasks EXECUTE FUNCTION noted()", "triggers", "warn", "tasks.heard (calls public.noted)"),
    ("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')", "other slots", "warn", "'forgotten' keeps"),
)  # fmt: skip
#: Checks of BROKEN whose remedy is SQL from end to end, after an explanation.
MENDED_BY_SQL = (
    "unlogged tables", "triggers that fire on apply", "truncate", "foreign keys from outside",
    "indexes that are not valid", "other slots",
)  # fmt: skip


def statements(remedy: str) -> str:
    """The SQL of a remedy: from its first verb, without what is for RDS and without the second choice."""
    text = re.sub(r" \((RDS|PostgreSQL)[^)]*\)", "", remedy)
    start = re.search(r"\b(ALTER|GRANT|REVOKE|SELECT|CREATE|UPDATE|DROP)\b", text)
    assert start is not None, remedy
    return text[start.start() :].split(", or ")[0].split("; and ")[0].split(", and ")[0].split("; where ")[0]


def test_every_finding_of_the_tables_and_the_remedies_mend(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a fault of the source's tables that is found only when replication has stopped at it."""
    pair = make_pair(rows=60)
    with psycopg.connect(pair.settings.source()) as short:
        short.execute("SELECT 1")
        good = looked(pair.settings)
        seen = f"oldest: [0-9] s \\(pid {short.info.backend_pid}\\), the limit is 30 s"
    assert statuses(good, status="fail") == set()
    assert good["source: long transactions"]["status"] == "pass"
    assert re.fullmatch(seen, good["source: long transactions"]["detail"])
    # The other tests' writes on these servers are no finding of this one.
    logs = {"source: rows in the server's log", "target: rows in the server's log"}
    assert logs <= statuses(good, status="warn") <= {"source: hours of WAL", "target: hours of WAL"} | logs
    assert {f"source: {name}" for _, name, _, _ in BROKEN} <= set(good)
    assert "scheduled_group_tasks.schedules" in good["source: json columns"]["detail"]

    for statement, _, _, _ in BROKEN:
        pair.source.execute(statement.encode())
    pair.source.execute("CREATE EXTENSION vector; ALTER TABLE tasks ADD COLUMN spans vector(2)[]")
    pair.source.execute("ALTER TABLE tasks ADD COLUMN twice int GENERATED ALWAYS AS (span * 2) STORED")
    pair.source.execute("ALTER TABLE tasks ADD COLUMN scan oid")
    name = pair.settings.config.subscription
    pair.source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
    create_source_schema(pair.target)
    pair.target.execute("DROP TABLE scheduled_task_tags")
    pair.target.execute(
        "CREATE TRIGGER t BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    )
    pair.target.execute("ALTER TABLE tasks ENABLE REPLICA TRIGGER t")
    monkeypatch.setattr(preflight_server, "LONG_TRANSACTION_SECONDS", -1)
    monkeypatch.setattr(preflight_server, "least_version", lambda *_: 99)
    monkeypatch.setattr(preflight_values, "LARGE_ROW_BYTES", 100)
    monkeypatch.setattr(
        preflight_rights, "peer_conninfo", lambda *_: "host=127.0.0.1 port=1 dbname=x user=x password=x"
    )
    with psycopg.connect(pair.settings.source()) as long:
        long.execute("SELECT 1")
        settings = pair.config(tables=[*pair.settings.config.tables, "parts"], sequenceBandStart=10**9)
        bad = looked(settings)
    for _, check, status, words in BROKEN:
        found = bad[f"source: {check}"]
        assert (found["status"], words in found["detail"]) == (status, True), found
        assert found["remedy"], found
    others = {
        "source: version": ("fail", "the limit is 99"),
        "source: long transactions": ("warn", "pid"),
        "source: existing slot": ("warn", name),
        "source: largest rows": ("warn", "tasks ("),
        "source: oid columns": ("warn", "tasks.scan"),
        "source: create subscription": ("fail", "port 1 failed"),
        "target: create subscription": ("fail", "port 1 failed"),
        "both: what the tables use": ("fail", "vector"),
        "target: tables": ("fail", "scheduled_task_tags"),
        "target: triggers that fire on apply": ("fail", "the trigger t of public.tasks fires on REPLICA"),
    }
    for check, (status, words) in others.items():
        assert (bad[check]["status"], words in bad[check]["detail"]) == (status, True), bad[check]
        assert bad[check]["remedy"]
    note = bad["source: generated columns"]
    assert (note["status"], "tasks.twice" in note["detail"]) == ("pass", True), note
    # The target's keys come with the rows; the tables of another tool have them already.
    assert bad["target: primary keys"]["status"] == "pass"

    monkeypatch.undo()
    for check in MENDED_BY_SQL:
        pair.source.execute(statements(bad[f"source: {check}"]["remedy"]).encode())
    mended = looked(settings)
    assert {check: mended[f"source: {check}"]["status"] for check in MENDED_BY_SQL} == dict.fromkeys(
        MENDED_BY_SQL, "pass"
    )
    pair.source.execute("SET ROLE myteacher_app_user")
    pair.source.execute("INSERT INTO task_images (task_id, file_path) SELECT min(id), 'x' FROM tasks")


#: Settings of a server that nobody prepared; wal_level minimal would need more to be changed.
POOR = {
    "wal_level": "replica",
    # One short of what is needed beside nobody's, and one that is just enough.
    "max_replication_slots": "1",
    "max_wal_senders": "2",
    "max_connections": "15",
    "max_logical_replication_workers": "1",
    "max_worker_processes": "2",
    "max_prepared_transactions": "2",
    "max_slot_wal_keep_size": "1MB",
    "log_min_duration_statement": "500ms",
}


def test_a_server_that_nobody_prepared(make_pair: MakePair, server_directory: Path) -> None:
    """Prevents the earlier attempt's end: static parameters that need a reboot in the middle of the plan."""
    pair = make_pair(rows=None)
    with EmbeddedPostgres(server_directory, "poor", settings=POOR, password=AWKWARD_PASSWORD) as poor:
        with psycopg.connect(poor.url()) as any_database:
            # One of this machine's; `C.utf8` is there with any C library of these days.
            row = any_database.execute(
                "SELECT collcollate FROM pg_collation WHERE collprovider = 'c' AND collcollate NOT IN ('C', 'POSIX') LIMIT 1"
            ).fetchone()
        assert row is not None
        poor.execute(f"CREATE DATABASE old TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE '{row[0]}'")
        with psycopg.connect(poor.url("old"), autocommit=True) as source:
            create_source_schema(source)
            source.execute("BEGIN")
            source.execute("INSERT INTO groups (name) VALUES ('x')")
            source.execute("PREPARE TRANSACTION 'held'")
            pair.settings = Settings(
                pair.settings.config,
                None,
                SecretStr(poor.url("old")),
                pair.settings.target_url,
                pair.settings.state_dir,
            )
            found = looked(pair.config(sequenceBandStart=1000))
            source.execute("ROLLBACK PREPARED 'held'")
        for name in (
            *("wal_level", "max_replication_slots", "max_connections"),
            *("max_logical_replication_workers", "max_worker_processes"),
        ):
            check = found[f"source: {name}"]
            assert check["status"] == "fail", check
            assert f"ALTER SYSTEM SET {name} = " in check["remedy"]
            assert found[f"target: {name}"]["status"] == "pass"
        assert {
            name: found[f"source: {name}"]["detail"]
            for name in ("wal_level", "max_replication_slots", "max_logical_replication_workers")
        } == {
            "wal_level": "replica, it must be logical",
            "max_replication_slots": "1, of which 0 slots are taken; 2 must be free",
            "max_logical_replication_workers": "1, of which 0 apply workers are taken; 2 must be free",
        }
        assert found["source: max_replication_slots"]["remedy"].startswith(
            "ALTER SYSTEM SET max_replication_slots = 4;"
        )
        enough = found["source: max_wal_senders"]
        assert (enough["status"], enough["detail"]) == ("pass", "2, of which 0 senders are taken; 2 must be free")
        assert found["source: role myteacher_app_user"]["status"] == "fail"
        assert found["both: encoding"]["status"] == "fail"
        assert found["both: collation"]["status"] == "warn"
        assert found["both: sequence band"]["status"] == "warn"
        # An error's failing row is not logged there, but values of slow statements are.
        assert "log_parameter_max_length is -1" in found["source: rows in the server's log"]["detail"]
        assert "log_error_verbosity" not in found["source: rows in the server's log"]["detail"]
        prepared = found["source: prepared transactions"]
        assert (prepared["status"], prepared["detail"]) == ("warn", "1 prepared, the slot waits for them")
        runway = found["source: hours of WAL"]
        assert runway["status"] == "warn"
        assert "(max_slot_wal_keep_size;" in runway["detail"]
        # No slot can be made there, and the check says that it is not the right which is missing.
        assert "wal_level" in found["source: replication right"]["detail"]
        with psycopg.connect(poor.url("old")) as one, psycopg.connect(poor.url("old")) as other:
            twice = {check.name: check.status for check in preflight_server.both(pair.settings, one, other)}
        assert twice["both: two databases"] == "fail"


OPERATOR, OPERATOR_PASSWORD = "operator_of_test", "op'er@tor s%20pass"


@contextmanager
def operators(pair: Pair) -> Iterator[Settings]:
    """The pair as a role sees it that may log in on both sides, and nothing else; the role goes afterwards."""
    connections = (pair.source, pair.target)
    try:
        for connection in connections:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(OPERATOR), sql.Literal(OPERATOR_PASSWORD)
                )
            )
        urls = [
            SecretStr(server.url(connection.info.dbname, OPERATOR, OPERATOR_PASSWORD))
            for server, connection in zip((pair.source_server, pair.target_server), connections, strict=True)
        ]
        yield Settings(pair.settings.config, None, urls[0], urls[1], pair.settings.state_dir)
    finally:
        for connection in connections:
            connection.execute("RESET ROLE")
            connection.execute(f"REASSIGN OWNED BY {OPERATOR} TO postgres".encode())
            connection.execute(f"DROP OWNED BY {OPERATOR} CASCADE".encode())
            connection.execute(f"DROP ROLE {OPERATOR}".encode())


RIGHTS = (
    *("replication right", "replication connection", "create schema", "session_replication_role"),
    *("create subscription", "role of replication", "record and read tasks", "long transactions"),
)


def test_an_operator_who_is_no_superuser_gets_every_right_named_and_carries_the_plan_out(
    make_pair: MakePair, tmp_path: Path
) -> None:
    """Prevents a program that works for superusers alone, as RDS has none for us; and a right that is missed at night."""
    pair = make_pair(rows=80)
    # As on a real monolith: its own role made the tables.
    for (table,) in pair.source.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    ).fetchall():
        pair.source.execute(f"ALTER TABLE {table} OWNER TO myteacher_app_user".encode())
    with operators(pair) as settings:
        found = looked(settings)
        wanted = {
            f"source: {name}"
            for name in (*RIGHTS, "hold rows of public.users", "back everything up", "owner of the tables")
        }
        wanted |= {f"target: {name}" for name in (*RIGHTS, "create tables", "rights of the service's role")}
        wanted -= {"target: record and read tasks"}
        for name in wanted:
            assert found[name]["status"] != "pass", found[name]
        # Each remedy as it is printed, given by whoever may give it, is all that is needed.
        for _ in range(3):
            for name in sorted(wanted | {n for n in found if "record and read" in n or "hold rows" in n}):
                if found[name]["status"] == "pass":
                    continue
                connection = pair.source if name.startswith("source") else pair.target
                connection.execute(statements(found[name]["remedy"]).encode())
            found = looked(settings)
        assert statuses(found, status="fail") == set(), [c for c in found.values() if c["status"] == "fail"]
        for name in ("source: write tasks", "target: make the tables", "target: apply to tasks"):
            assert found[name]["status"] == "pass", found[name]
        # On the target the service's role may be given tables by the owner of the schema.
        assert backup.run(settings, str(tmp_path / "backup")).restore_verified
        assert schema.apply(settings).match
        copy.run(settings)
        replicate.start(settings)
        for connection, title in ((pair.source, "source"), (pair.target, "target")):
            connection.execute("UPDATE tasks SET title = %s WHERE id = (SELECT max(id) FROM tasks)", (title,))
            connection.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), %s FROM tasks", (title,))
        assert verify.run(settings).match
        # A difference that did not travel, and the mend of it.
        pair.target.execute("SET session_replication_role = replica")
        pair.target.execute("SET task_migration.applying = 'on'")
        pair.target.execute("ALTER SUBSCRIPTION " + settings.config.subscription + " DISABLE")
        pair.source.execute("DELETE FROM task_tag WHERE task_id = (SELECT min(task_id) FROM task_tag)")
        replicate.start(settings)
        assert verify.run(settings, repair="newest").match
        pair.target.execute("RESET ALL")
        pair.target.execute("INSERT INTO tasks (user_id, title) SELECT min(user_id), 'late' FROM tasks")
        assert finalize.run(settings).status == "finalized"
        assert removal.leftovers(settings) == []
        pair.source.execute("SET ROLE myteacher_app_user")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            pair.source.execute("DELETE FROM tasks")
        for server in (pair.source_server, pair.target_server):
            assert OPERATOR_PASSWORD not in server.log.read_text(errors="replace")


def test_what_ends_dms_is_found_in_settings_and_data_and_types_of_columns_do_not_matter(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a task that stops at the first large row, and sessions of it that a timeout ends; and a preflight that refuses
    what travels as text."""
    pair = make_pair(rows=40)
    pair.source.execute("UPDATE tasks SET description = left(description, 200)")
    settings = pair.config(replicationEngine="dms", dmsLobMaxSizeKb=64)
    # The wheel has no test_decoding, which the check must find out; another plugin stands in where it passes.
    assert looked(settings)["source: test_decoding"]["status"] == "fail"
    monkeypatch.setattr(dms, "PLUGIN", "pgoutput")
    pair.source.execute(
        "CREATE TABLE odd (id text PRIMARY KEY, a int GENERATED ALWAYS AS IDENTITY, b int GENERATED ALWAYS AS (1 + length(id)) STORED, "
        "d numeric(50, 2), e numeric, f date); INSERT INTO odd VALUES ('x', DEFAULT, DEFAULT, 1, 0.1234567, '-infinity')"
    )
    settings = pair.config(tables=[*settings.config.tables, "odd"])
    good = looked(settings)
    assert statuses(good, status="fail") == set()
    assert "source: create subscription" not in good

    # 1,100 bytes, of which JSON makes 2,100 and more.
    pair.source.execute("UPDATE tasks SET description = repeat('\"', 1100) WHERE id = (SELECT min(id) FROM tasks)")
    # The wheel has no pg_stat_statements: a function of its name and columns, in a schema that is said to be that extension's.
    pair.source.execute(
        "CREATE SCHEMA seen; CREATE TABLE seen.statements (dbid oid, query text); CREATE FUNCTION seen.pg_stat_statements(bool) "
        "RETURNS SETOF seen.statements LANGUAGE sql AS 'SELECT * FROM seen.statements'"
    )
    pair.source.execute(
        "INSERT INTO pg_extension SELECT 16999, 'pg_stat_statements', extowner, 'seen'::regnamespace, false, '1' FROM pg_extension"
    )
    pair.source.execute(
        "INSERT INTO seen.statements SELECT oid, 'truncate table task_images cascade' FROM pg_database "
        "WHERE datname = current_database()"
    )
    database = sql.Identifier(pair.source.info.dbname)
    for setting in (
        "wal_sender_timeout = '5s'",
        "idle_in_transaction_session_timeout = '1min'",
        "statement_timeout = 9",
    ):
        pair.source.execute(sql.SQL("ALTER DATABASE {} SET " + setting).format(database))
    bad = looked(pair.config(dmsLobMaxSizeKb=2))
    rows = bad["source: largest rows"]
    assert (rows["status"], "dmsLobMaxSizeKb 2" in rows["detail"]) == ("fail", True), rows
    assert "raise dmsLobMaxSizeKb" in rows["remedy"]
    assert looked(pair.config(dmsLobMaxSizeKb=4))["source: largest rows"]["status"] == "warn"
    assert "task_images: truncate table task_images cascade" in bad["source: truncate"]["detail"]
    assert bad["source: wal_sender_timeout"]["status"] == "fail"
    assert "5000 ms" in bad["source: wal_sender_timeout"]["detail"]
    timeouts = bad["source: timeouts that end sessions"]
    assert timeouts["status"] == "fail"
    assert "idle_in_transaction_session_timeout is 60000 ms" in timeouts["detail"]
    assert "statement_timeout is 9 ms" in timeouts["detail"]
    assert bad["target: timeouts that end sessions"]["status"] == "pass"


def test_the_largest_row_is_measured_as_its_record_is_written(make_pair: MakePair) -> None:
    """Prevents a limit that preflight finds wide enough and a record breaks: the measure is what capture writes."""
    pair = make_pair(rows=40)
    schema.apply(pair.settings)
    copy.run(pair.settings)
    pair.source.execute(
        "UPDATE scheduled_group_tasks SET description = E'a\\\\\\n\"あ' || repeat(E'\\x01\"', 5000), schedules = '{\"a\": [\"b\"]}' "
        "WHERE id = (SELECT min(id) FROM scheduled_group_tasks)"
    )
    pair.source.execute("DELETE FROM task_migration.source_writes")
    pair.source.execute(
        "INSERT INTO scheduled_group_tasks SELECT (jsonb_populate_record(t, '{\"id\": 900000}')).* FROM scheduled_group_tasks t "
        "ORDER BY length(description) DESC LIMIT 1"
    )
    row = pair.source.execute("SELECT octet_length(vals) FROM task_migration.source_writes WHERE kind = 'insert'")
    found = {row.table: row.bytes for row in preflight.run(pair.settings, wal_seconds=0).largest_rows}
    assert row.fetchone() == (found["scheduled_group_tasks"],)
    assert found["scheduled_group_tasks"] > 25000


def test_a_table_that_cannot_be_read_is_said_and_the_rest_goes_on(make_pair: MakePair) -> None:
    """Prevents a preflight that ends at the first lock, one that takes an unread table for a good one, and a watch on the
    schema that hangs behind DDL."""
    pair = make_pair(rows=10)
    tables = catalog.read(pair.source, "public", pair.settings.config.tables, "source")
    pair.source.execute("SET lock_timeout = '50ms'")
    with psycopg.connect(pair.settings.source()) as locker:
        locker.execute("LOCK TABLE task_images IN ACCESS EXCLUSIVE MODE")
        measured = preflight_values.measure(pair.source, tables)
        found = looked(pair.settings)
        with pytest.raises(DatabaseError, match="lock timeout"):
            schema.diff(pair.settings)
    unread = {check.name: check for check in preflight_values.judge(pair.settings, measured)}["source: tables read"]
    assert unread.status == "warn"
    assert "task_images: canceling statement due to lock timeout" in unread.detail
    assert found["source: catalog"]["status"] == "fail"
    assert "lock timeout" in found["source: catalog"]["detail"]
    for name in ("record and read task_images", "back everything up"):
        assert found[f"source: {name}"]["status"] == "warn"
    for name in ("source: record and read tasks", "source: replication right", "target: create tables"):
        assert found[name]["status"] == "pass", found[name]


@pytest.mark.parametrize(
    ("sampled", "mean", "rooms", "status", "words"),
    [
        (0.0, 0.0, [Room(2**30, "a")], "pass", "inf hours"),
        # 1 MiB a second into 10 GiB: 2.8 hours.
        (2.0**20, 0.0, [Room(10 * 2**30, "a")], "warn", "2.8 hours"),
        (2.0**20, 0.0, [Room(100 * 2**30, "a"), Room(10 * 2**30, "b")], "warn", "(b)"),
        # The statistics know of a busier time than the moment of the look.
        (0.0, 2.0**20, [Room(10 * 2**30, "a")], "warn", "2.8 hours"),
        (1000.0, 0.0, [Room(10 * 2**30, "a"), Room(None, "nobody knows the disk")], "pass", "nobody knows the disk"),
    ],
)
def test_hours_of_wal(sampled: float, mean: float, rooms: list[Room], status: str, words: str) -> None:
    check = preflight_wal.judge("source", sampled, mean, 2.0, rooms)
    assert check.status == status
    assert words in check.detail


def test_free_disk_as_cloudwatch_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_pair: MakePair) -> None:
    """Prevents a runway that rests on a guess while RDS knows the disk, or on nothing without saying so."""
    with EmulatedAws() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        assert "has no FreeStorageSpace of monolith" in preflight_wal.free_storage("monolith", aws.region).basis
        aws.client("cloudwatch").put_metric_data(
            Namespace="AWS/RDS",
            MetricData=[
                {
                    "MetricName": "FreeStorageSpace",
                    "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": "monolith"}],
                    "Timestamp": datetime.now(UTC) - timedelta(minutes=1),  # a request has whole seconds
                    "Value": size,
                }
                for size in (5e9, 4e9)
            ],
        )
        (tmp_path / "Pulumi.here.yaml").write_text(
            f"config:\n  task-migration:sourceInstanceIdentifier: monolith\n  task-migration:region: {aws.region}\n"
        )
        monkeypatch.chdir(tmp_path)
        pair = make_pair(rows=None)
        settings = Settings(pair.settings.config, "here", pair.settings.source_url, pair.settings.target_url, tmp_path)
        assert preflight_wal.disk(settings).bytes == 4_000_000_000
        create_source_schema(pair.source)
        runway = looked(settings)["source: hours of WAL"]
        assert "FreeStorageSpace of monolith" in runway["detail"]
    assert preflight_wal.free_storage("monolith", aws.region).bytes is None
