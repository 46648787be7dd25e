"""Verify against damage made on purpose: every difference found, nothing else reported, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from scripts.copy import slot
from scripts.database import helper_schema
from scripts.database.connections import connect
from scripts.replication import run as replicate
from scripts.verify import run as verify
from scripts.verify.documents import Verification
from scripts.verify.hash import Algorithm
from scripts.writes import install, record
from tests.conftest import Pair
from tests.integration.test_breaking import TYPES
from tests.integration.test_chain import MakePair

ALGORITHMS: tuple[Algorithm, ...] = ("hash", "md5")
Seen = dict[tuple[str, ...], tuple[str, tuple[str, ...]]]


def bare(make_pair: MakePair, tables: list[str], *statements: LiteralString) -> Pair:
    """Two databases without replication, with ``statements`` run on both; ``tables`` are what moves."""
    pair = make_pair(rows=None)
    for statement in statements:
        for connection in (pair.source, pair.target):
            connection.execute(statement)
    pair.config(tables=tables, referencedTables=[], droppedForeignKeys=[])
    return pair


def flow(pair: Pair) -> None:
    """Replication over tables that both sides have already, as after a copy, whether they are equal or not."""
    config = pair.settings.config
    with (
        connect(pair.settings.source(), step="test", lock_timeout_ms=install.LOCK_MS) as source,
        connect(pair.settings.target(), step="test") as target,
    ):
        install.capture_on(source, config, "source")
        source.execute(slot.publication(config.publication, record.table("source")))
        query = "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, 'pgoutput')"
        row = source.execute(query, (config.subscription,)).fetchone()
        assert row is not None
        helper_schema.install(target)
        helper_schema.put(target, helper_schema.COPY, {"status": "complete", "lsn": row[0]})
    replicate.start(pair.settings)


def seen(document: Verification, table: int = 0) -> Seen:
    """Key values as text -> kind and columns, of one table of the document."""
    entry = document.tables[table]
    assert len(entry.differences) == entry.differences_total
    assert entry.match == (entry.differences_total == 0)
    return {
        tuple(str(value) for value in difference.key.values()): (difference.kind, tuple(difference.columns))
        for difference in entry.differences
    }


@contextmanager
def unseen(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Damage that leaves no record, so that replication does not carry it over."""
    connection.execute("SET session_replication_role = replica")
    connection.execute("SET task_migration.applying = 'on'")
    yield
    connection.execute("RESET session_replication_role")
    connection.execute("RESET task_migration.applying")


#: Column, its type, the source's value, the target's, whether the two can be told apart by looking at them.
VALUES: tuple[tuple[LiteralString, LiteralString, LiteralString, bool], ...] = (
    ("text", "NULL", "''", True),
    ("text", "'a'", "'a '", True),
    ("text", "'が'", "'か' || U&'\\3099'", True),
    ("text", "'Title'", "'title'", True),
    ('varchar COLLATE "POSIX"', "'é'", "'e'", True),
    ("varchar(5)", "'a'", "NULL", True),
    ("char(5)", "'a'", "'a  '", False),
    ("bpchar", "'a'", "'a  '", True),
    ("bigint", "1", "4294967296", True),
    ("bigint", "-1", "4294967295", True),
    ("bigint", "NULL", "0", True),
    ("smallint", "NULL", "0", True),
    ("boolean", "NULL", "false", True),
    ("boolean", "true", "false", True),
    ("numeric", "1.0", "1.00", True),
    ("numeric", "'NaN'", "'NaN'", False),
    ("numeric", "'Infinity'", "'-Infinity'", True),
    ("numeric(8,2)", "1.5", "1.50", False),
    ("numeric(8,2)", "1.5", "1.51", True),
    ("double precision", "0", "'-0'", True),
    ("double precision", "'NaN'", "'NaN'", False),
    ("double precision", "0.1", "0.1 + 1e-17", False),
    ("double precision", "0.1", "0.1 + 2e-17", True),
    ("real", "'Infinity'", "'Infinity'", False),
    ("double precision[]", "'{0}'", "'{-0}'", True),
    ("interval", "'1 month'", "'30 days'", True),
    ("timestamp", "'infinity'", "'-infinity'", True),
    ("timestamp", "'2026-01-01 00:00:00'", "'2026-01-01 00:00:00.000001'", True),
    ("timestamp(0)", "NULL", "'2000-01-01'", True),
    ("timestamptz", "'2026-01-01 00:00+09'", "'2025-12-31 15:00+00'", False),
    ("timetz", "'00:00+09'", "'15:00+00'", True),
    ("date", "'infinity'", "'infinity'", False),
    ("date", "'infinity'", "NULL", True),
    ("json", "'{\"a\":1}'", "'{\"a\": 1}'", True),
    ("json", "'null'", "NULL", True),
    ("jsonb", "'1.0'", "'1.00'", True),
    ("jsonb", '\'{"b":1,"a":2}\'', '\'{"a":2,"b":1}\'', False),
    ("bytea", "'\\x00'", "'\\x'", True),
    ("money", "1234.5", "1234.51", True),
    ("uuid", "NULL", "'00000000-0000-0000-0000-000000000000'", True),
    ("int4range", "'[1,5)'", "'(0,4]'", False),
    ("text[]", "'{NULL}'", "'{\"NULL\"}'", True),
    ("regclass", "'kept'", "'kept'", False),
)


def test_what_can_be_seen_is_found_and_what_cannot_is_not(make_pair: MakePair) -> None:
    """Prevents a fast hash that calls different rows equal, as PostgreSQL's own do wherever a type's equality is loose, and
    an alarm about values that only are stored or written down differently."""
    pair = bare(
        make_pair,
        ["kept"],
        "CREATE TABLE kept (id int PRIMARY KEY)",
    )
    expected: Seen = {}
    for number, (kind, ours, theirs, differ) in enumerate(VALUES):
        for connection, value in ((pair.source, ours), (pair.target, theirs)):
            connection.execute(f"ALTER TABLE kept ADD COLUMN c{number} {kind}".encode())
            connection.execute(f"INSERT INTO kept (id, c{number}) VALUES ({number}, {value})".encode())
        if differ:
            expected[(str(number),)] = ("different", (f"c{number}",))
    for algorithm in ALGORITHMS:
        found = verify.run(pair.settings, algorithm=algorithm)
        assert seen(found) == expected
        assert found.schema_match
        assert found.algorithm == algorithm
        assert not found.match


def test_values_that_change_places_do_not_cancel(make_pair: MakePair) -> None:
    """Prevents a sum of hashes in which a value that moved to another row or column cancels out."""
    pair = bare(
        make_pair,
        ["moved"],
        "CREATE TABLE moved (id bigint PRIMARY KEY, a text, b text, n bigint, m bigint, d bool, e bool, at timestamp, too timestamp)",
        "INSERT INTO moved SELECT i, 'a' || i, 'b' || i, i, -i, i % 2 = 0, i % 3 = 0, timestamp '2026-01-01' + i * interval '1 s', "
        "timestamp '2026-01-01' + i * interval '1 s' FROM generate_series(1, 40) i",
    )
    changes: tuple[tuple[LiteralString, Seen], ...] = (
        # Titles of two rows; two columns of one row; equal times that both change; whole rows under each other's key.
        (
            "UPDATE moved SET a = 'a' || (3 - id) WHERE id IN (1, 2)",
            {("1",): ("different", ("a",)), ("2",): ("different", ("a",))},
        ),
        ("UPDATE moved SET a = b, b = a WHERE id = 5", {("5",): ("different", ("a", "b"))}),
        ("UPDATE moved SET n = m, m = n WHERE id = 6", {("6",): ("different", ("n", "m"))}),
        ("UPDATE moved SET d = e, e = d WHERE id = 8", {("8",): ("different", ("d", "e"))}),
        ("UPDATE moved SET at = '2027-01-01', too = '2027-01-01' WHERE id = 9", {("9",): ("different", ("at", "too"))}),
        ("UPDATE moved SET a = NULL, b = NULL WHERE id = 10", {("10",): ("different", ("a", "b"))}),
    )
    expected: Seen = {}
    for statement, differences in changes:
        pair.target.execute(statement)
        expected |= differences
    for algorithm in ALGORITHMS:
        assert seen(verify.run(pair.settings, algorithm=algorithm)) == expected


def test_every_type_and_awkward_names(make_pair: MakePair) -> None:
    """Prevents a type that is hashed as if it were always equal, and names that break the SQL: quotes, blanks, percent signs."""
    columns = {f'{name} %s "{{}}"': kind for name, (kind, _) in TYPES.items()}
    made = ", ".join('"' + name.replace('"', '""') + '" ' + kind for name, kind in columns.items())
    pair = bare(
        make_pair,
        ['Weird %s "Table'],
        "CREATE TYPE mood AS ENUM ('sad', 'so so')",
    )
    # Enumerations are numbered by the server: the same labels have other numbers there.
    pair.target.execute("ALTER TYPE mood RENAME TO gone; CREATE TYPE mood AS ENUM ('sad', 'so so')")
    values = ", ".join(value for _, value in TYPES.values())
    expected: Seen = {}
    for connection in (pair.source, pair.target):
        connection.execute(f'CREATE TABLE "Weird %s ""Table" ("the %d key" text PRIMARY KEY, {made})'.encode())
        connection.execute(
            f'INSERT INTO "Weird %s ""Table" SELECT \'k%\' || i, {values} FROM generate_series(1, {len(columns) + 3}) i'.encode()
        )
    for number, name in enumerate(columns, 1):
        pair.target.execute(
            sql.SQL("UPDATE {} SET {} = NULL WHERE {} = {}").format(
                sql.Identifier('Weird %s "Table'),
                sql.Identifier(name),
                sql.Identifier("the %d key"),
                sql.Literal(f"k%{number}"),
            )
        )
        expected[(f"k%{number}",)] = ("different", (name,))
    for algorithm in ALGORITHMS:
        assert seen(verify.run(pair.settings, algorithm=algorithm)) == expected
    flow(pair)
    assert verify.run(pair.settings, repair="source").match
    assert seen(verify.run(pair.settings)) == {}


def test_order_of_columns_and_settings_make_no_difference(make_pair: MakePair) -> None:
    """Prevents false alarms from what a role, a database or a migration tool set up otherwise on one side."""
    pair = bare(make_pair, ["tasks"], "CREATE SCHEMA other", "CREATE TYPE other.mood AS ENUM ('good')")
    pair.source.execute(
        "CREATE TABLE tasks (id bigint PRIMARY KEY, gone int, at timestamptz, span interval, share float8, raw bytea, price money, m other.mood, "
        "r regclass, t text NOT NULL)"
    )
    # Dropped and added columns, another order, and a column that may be NULL on one side only.
    pair.target.execute(
        "CREATE TABLE tasks (t text, r regclass, m other.mood, extra int, price money, raw bytea, share float8, span interval, at timestamptz, "
        "id bigint PRIMARY KEY)"
    )
    pair.source.execute("ALTER TABLE tasks DROP COLUMN gone")
    pair.target.execute("ALTER TABLE tasks DROP COLUMN extra")
    for connection in (pair.source, pair.target):
        connection.execute(
            "INSERT INTO tasks (id, at, span, share, raw, price, m, r, t) SELECT i, timestamptz '2026-11-01 12:00+00' + i * interval '1 d', "
            "i * interval '1.5 s', i / 3.0, '\\x00ff', i, 'good', 'public.tasks', i FROM generate_series(1, 300) i"
        )
    for name, value in {
        "timezone": "America/New_York",
        "datestyle": "SQL, DMY",
        "intervalstyle": "sql_standard",
        "extra_float_digits": "-15",
        "bytea_output": "escape",
        "search_path": "other, public",
        "default_transaction_isolation": "serializable",
        "default_transaction_read_only": "on",
        "enable_hashagg": "off",
    }.items():
        for whose in (sql.SQL("DATABASE {0}"), sql.SQL("ROLE postgres IN DATABASE {0}")):
            pair.target.execute(
                sql.SQL("ALTER {} SET {} = {}").format(
                    whose.format(sql.Identifier(pair.target.info.dbname)), sql.Identifier(name), sql.Literal(value)
                )
            )
    with psycopg.connect(pair.settings.target()) as check:
        assert check.execute("SHOW timezone").fetchone() == ("America/New_York",)
    for algorithm in ALGORITHMS:
        found = verify.run(pair.settings, algorithm=algorithm)
        assert seen(found) == {}
        # The one thing that does differ, t's NOT NULL, is the schema's.
        assert [(item.kind, item.name) for item in found.schema_differences] == [("column", "t")]
    pair.target.execute("UPDATE tasks SET at = at + interval '1 us' WHERE id = 7")
    pair.target.execute("UPDATE tasks SET t = NULL WHERE id = 8")
    for algorithm in ALGORITHMS:
        assert seen(verify.run(pair.settings, algorithm=algorithm)) == {
            ("7",): ("different", ("at",)),
            ("8",): ("different", ("t",)),
        }


def test_keys_of_other_kinds(make_pair: MakePair) -> None:
    """Prevents code that knows one bigint as a key: composite ones, texts under any collation, uuids, far and negative ids."""
    pair = bare(
        make_pair,
        ["two", "named", "by_uuid", "far", "timed"],
        "CREATE TABLE two (b text, a int, PRIMARY KEY (a, b))",
        'CREATE TABLE named (k text COLLATE "C.utf8" PRIMARY KEY, v int)',
        "CREATE TABLE by_uuid (k uuid PRIMARY KEY, v int)",
        "CREATE TABLE far (k bigint PRIMARY KEY, v int)",
        "CREATE TABLE timed (k timestamptz, n numeric(6,2), v int, PRIMARY KEY (k, n))",
        "INSERT INTO two SELECT 'x%' || i, i % 7 FROM generate_series(1, 2000) i",
        "INSERT INTO named SELECT 'Name ''' || i, i FROM generate_series(1, 2000) i",
        "INSERT INTO by_uuid SELECT md5(i::text)::uuid, i FROM generate_series(1, 2000) i",
        "INSERT INTO far SELECT i * 4611686018427 * (CASE WHEN i % 2 = 0 THEN 1 ELSE -1 END), i FROM generate_series(1, 2000) i",
        "INSERT INTO far VALUES (9223372036854775807, 1), (-9223372036854775808, 1), (0, 1), (-1, 1), (255, 1), (256, 1)",
        "INSERT INTO timed SELECT timestamptz '2026-01-01' + i * interval '1 us', i / 100.0, i FROM generate_series(1, 2000) i",
    )
    target = pair.target
    target.execute("DELETE FROM two WHERE b = 'x%70'")
    target.execute("INSERT INTO two VALUES ('--5', -3)")
    target.execute("UPDATE named SET v = 0 WHERE k = 'Name ''5'")
    target.execute("UPDATE named SET k = upper(k) WHERE k = 'Name ''6'")
    target.execute("UPDATE by_uuid SET v = 0 WHERE k = md5('9')::uuid")
    target.execute("UPDATE far SET v = 0 WHERE k IN (9223372036854775807, -9223372036854775808, -1, 255)")
    target.execute("DELETE FROM far WHERE v = 1000")
    target.execute("UPDATE timed SET v = 0 WHERE v = 1500")
    for algorithm in ALGORITHMS:
        found = verify.run(pair.settings, algorithm=algorithm)
        assert seen(found, 0) == {("0", "x%70"): ("missing_on_target", ()), ("-3", "--5"): ("missing_on_source", ())}
        assert seen(found, 1) == {
            ("Name '5",): ("different", ("v",)),
            ("Name '6",): ("missing_on_target", ()),
            ("NAME '6",): ("missing_on_source", ()),
        }
        assert seen(found, 2) == {("45c48cce-2e2d-7fbd-ea1a-fc51c7c6ad26",): ("different", ("v",))}
        assert seen(found, 3) == {
            ("9223372036854775807",): ("different", ("v",)),
            ("-9223372036854775808",): ("different", ("v",)),
            ("-1",): ("different", ("v",)),
            ("255",): ("different", ("v",)),
            (str(1000 * 4611686018427),): ("missing_on_target", ()),
        }
        assert list(seen(found, 4).values()) == [("different", ("v",))]
    flow(pair)
    assert verify.run(pair.settings, repair="source").match


#: What a random edit does to a row of the target.
EDITS = st.lists(
    st.tuples(
        st.integers(-300, 1200),
        st.sampled_from(("delete", "insert", "swap", "a", "b", "c", "d", "e")),
        st.sampled_from(("NULL", "''", "'0'", "'1.0'", "'1.00'", "'x'")),
    ),
    max_size=12,
)
COLUMNS = {"a": "text", "b": "numeric", "c": "json", "d": "bigint", "e": "timestamptz"}


def test_random_edits_are_reported_exactly(make_pair: MakePair) -> None:
    """Prevents a difference that no example above thought of: whatever is edited, these keys and no others come out."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    pair = bare(
        make_pair,
        ["edited", "by_name"],
        f"CREATE TABLE edited (id bigint PRIMARY KEY, {columns})".replace("'", "''"),
        f"CREATE TABLE by_name (id text, {columns}, PRIMARY KEY (id, b))".replace("b numeric", "b int"),
        "INSERT INTO edited SELECT i, 'x', i, '[1]', i, 'epoch' FROM generate_series(-300, 900, 3) i",
        "INSERT INTO by_name SELECT i, 'x', i, '[1]', i, 'epoch' FROM generate_series(-300, 900, 3) i",
    )
    values = {
        "c": {"''": "'\"\"'", "'x'": "'{}'"},
        "e": {"'0'": "'infinity'", "'1.0'": "'2026-01-01'", "'1.00'": "'2026-01-01'"},
    }
    for table in ("edited", "by_name"):
        for connection in (pair.source, pair.target):
            connection.execute(f"CREATE TABLE {table}_kept AS TABLE {table}".encode())

    def edit(table: str, number: int, what: str, value: str) -> None:
        where = f"id = '{number}'"
        if what == "delete":
            text = f"DELETE FROM {table} WHERE {where}"
        elif what == "insert":
            text = f"INSERT INTO {table} (id, b) VALUES ('{number}', 1) ON CONFLICT DO NOTHING"
        elif what == "swap":
            text = f"UPDATE {table} SET a = d::text, d = length(a) WHERE {where}"
        else:
            given = values.get(what, {}).get(value, value)
            if what in ("b", "d", "e") and given in ("''", "'x'"):
                given = "'7'" if what != "e" else "'1999-12-31 23:59:59.999999'"
            if (table == "by_name" and what == "b") or what == "d":
                given = "'12345'" if "." in given or given == "NULL" else given
            text = f"UPDATE {table} SET {what} = {given} WHERE {where}"
        # Two rows may be drawn to one key, which the table itself refuses.
        with suppress(psycopg.errors.UniqueViolation):
            pair.target.execute(text.encode())

    def rows(connection: psycopg.Connection[Any], table: str, key: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
        cast = ", ".join(f"{name}::text" for name in COLUMNS)
        found = connection.execute(f"SELECT ARRAY[{key}], {cast} FROM {table}".encode()).fetchall()
        return {tuple(row[0]): row[1:] for row in found}

    @settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(EDITS)
    def holds(edits: list[tuple[int, str, str]]) -> None:
        for table in ("edited", "by_name"):
            pair.target.execute(f"TRUNCATE {table}; INSERT INTO {table} TABLE {table}_kept".encode())
            for number, what, value in edits:
                edit(table, number, what, value)
        documents = [verify.run(pair.settings, algorithm=algorithm) for algorithm in ALGORITHMS]
        for place, (table, key) in enumerate((("edited", "id::text"), ("by_name", "id, b::text"))):
            ours, theirs = (rows(connection, table, key) for connection in (pair.source, pair.target))
            expected: Seen = {}
            for row in ours.keys() | theirs.keys():
                if row not in theirs:
                    expected[row] = ("missing_on_target", ())
                elif row not in ours:
                    expected[row] = ("missing_on_source", ())
                elif ours[row] != theirs[row]:
                    names = tuple(n for n, a, b in zip(COLUMNS, ours[row], theirs[row], strict=True) if a != b)
                    expected[row] = ("different", names)
            for document in documents:
                assert seen(document, place) == expected

    holds()
