"""Every value comes over as itself: names of what a database holds, tables as wide as they get, text of any encoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from scripts.copy import run as copy
from scripts.preflight import run as preflight
from scripts.preflight.documents import Check
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.errors import Refused
from scripts.verify import run as verify
from scripts.verify.hash import Algorithm
from tests.conftest import Pair, unseen

MakePair = Callable[..., Pair]
NAMES = "both: names in columns"
#: By table: its columns, and a value of each. All that PostgreSQL writes as a name, alone, in arrays, domains, composites and ranges.
NAMED = {
    "alone": {
        "a": ("regclass", "public.stays"),
        "b": ("regclass", "public.alone"),
        "c": ("regproc", "public.single"),
        "d": ("regprocedure", "public.twice(integer,text)"),
        "e": ("regoper", "public.###"),
        "f": ("regoperator", "*(bigint,bigint)"),
        "g": ("regtype", "public.relation"),
        "h": ("regtype", "public.alone[]"),
        "i": ("regrole", "myteacher_app_user"),
        "j": ("regnamespace", "public"),
        "k": ("regconfig", "public.words"),
        "l": ("regdictionary", "simple"),
        "m": ("regcollation", '"C"'),
        "n": ("aclitem", "myteacher_app_user=r/postgres"),
        "o": ("regclass", "-"),
        "p": ("oid", "4711"),
        "r": ("bpchar", "blanks  "),
        "s": ("oidvector", ""),
        "t": ("int2vector", ""),
    },
    "inside": {
        "a": ("regclass[]", "{public.stays,NULL,pg_class}"),
        "b": ("public.relation", "public.stays"),
        "c": ("public.found", "(public.stays,7)"),
        "d": ("public.found[]", '{"(public.inside,7)"}'),
        "e": ("public.kinds", "[integer,integer]"),
        "f": ("public.relations", "{public.stays}"),
        "g": ("aclitem[]", "{=r/postgres}"),
    },
}
TYPES = (
    "CREATE DOMAIN relation AS regclass; CREATE DOMAIN relations AS regclass[];"
    "CREATE TYPE found AS (r regclass, n int); CREATE TYPE kinds AS RANGE (subtype = regtype, subtype_opclass = oid_ops)"
)
THINGS = (
    "CREATE TABLE stays (); CREATE FUNCTION single() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    "CREATE FUNCTION twice(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
    "CREATE OPERATOR ### (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int); CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)"
)
WIDE = 1600
ALGORITHMS: tuple[Algorithm, ...] = ("hash", "md5")


def _found(pair: Pair) -> dict[str, Check]:
    return {check.name: check for check in preflight.run(pair.settings, wal_seconds=0).checks}


def _failed(pair: Pair) -> dict[str, str]:
    return {name: check.detail for name, check in _found(pair).items() if check.status == "fail"}


def _copied(pair: Pair) -> None:
    """Up to both directions running, and no difference between the schemas on the way."""
    assert _failed(pair) == {}
    schema.apply(pair.settings)
    copy.run(pair.settings, jobs=2)
    assert schema.diff(pair.settings).text == ""
    replicate.start(pair.settings)


def _same(pair: Pair) -> None:
    fence.both(pair.settings, 30)
    found = verify.run(pair.settings)
    assert (found.match, [table.differences for table in found.tables if not table.match]) == (True, [])


def _tables(pair: Pair, *names: str) -> None:
    pair.config(tables=list(names), referencedTables=[], droppedForeignKeys=[])


def _texts(connection: psycopg.Connection[Any], table: str) -> dict[int, tuple[Any, ...]]:
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = pg_catalog")
        columns = ", ".join(f"concat({name})" for name in NAMED[table])
        return {row[0]: row[1:] for row in connection.execute(f"SELECT id, {columns} FROM public.{table}")}


def test_what_is_written_as_a_name_means_the_same_on_the_target(make_pair: MakePair) -> None:
    """Prevents a column of regclass that names another table there, and rows that cannot be copied as binary."""
    pair = make_pair(rows=None)
    for connection in (pair.source, pair.target):
        connection.execute(TYPES)
    # Things of other numbers than on the source.
    pair.source.execute(THINGS)
    for table, columns in NAMED.items():
        made = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
        pair.source.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, {made})")
    pair.source.execute("CREATE ROLE only_here; ALTER TABLE alone ADD q regrole")
    _tables(pair, *NAMED)
    for table, columns in NAMED.items():
        values = ", ".join(f"'{value}'" for kind, value in columns.values())
        pair.source.execute(f"INSERT INTO {table} SELECT n, {values} FROM generate_series(1, 2) n")
    pair.source.execute("UPDATE alone SET q = 'only_here', a = 999999 WHERE id = 2")
    try:
        check = _found(pair)[NAMES]
        assert (check.status, check.detail) == (
            "fail",
            "alone.a: 999999, public.stays, alone.c: public.single, alone.d: public.twice(integer,text), alone.e: public.###, "
            "alone.k: public.words, alone.q: only_here, inside.a: public.stays, inside.b: public.stays, inside.c: public.stays, "
            "inside.f: public.stays",
        )
        mend = 'ALTER TABLE "public"."alone" ALTER COLUMN "q" TYPE text USING "q"::text'
        assert mend in check.remedy
        pair.source.execute(mend)
    finally:
        pair.source.execute("DROP ROLE only_here")
    pair.source.execute("UPDATE alone SET a = 'stays' WHERE id = 2")
    pair.target.execute(THINGS)
    _copied(pair)
    for table, columns in NAMED.items():
        wanted = tuple(value for _, value in columns.values())
        assert _texts(pair.target, table) == {1: wanted, 2: wanted}
        names = ", ".join(columns)
        pair.source.execute(f"INSERT INTO {table} (id, {names}) SELECT 3, {names} FROM {table} WHERE id = 1")
        pair.target.execute(f"INSERT INTO {table} (id, {names}) SELECT 4, {names} FROM {table} WHERE id = 1")
        pair.target.execute(f"UPDATE {table} SET a = NULL WHERE id = 2")
    _same(pair)
    for table, columns in NAMED.items():
        wanted = tuple(value for _, value in columns.values())
        assert _texts(pair.source, table) == dict.fromkeys((1, 3, 4), wanted) | {2: ("", *wanted[1:])}


def test_large_objects_are_moved_into_the_rows_first(make_pair: MakePair) -> None:
    """Prevents a target whose rows name contents that stayed behind; carries the remedy out."""
    pair = make_pair(rows=None)
    pair.source.execute(
        "CREATE DOMAIN lo AS oid; CREATE TABLE files (id int PRIMARY KEY, one lo, many oid[], number oid);"
        "INSERT INTO files VALUES (1, lo_from_bytea(1001, 'abc'), ARRAY[lo_from_bytea(1002, 'd'), 7, NULL], 7), (2, NULL, '{}', NULL), (3, 9, NULL, NULL);"
        "SELECT lo_from_bytea(1003, 'nobody''s')"
    )
    _tables(pair, "files")
    for engine in ("dms", "native"):
        pair.config(replicationEngine=engine)
        found = _found(pair)
        columns = found["source: columns of large objects"]
        assert (columns.status, columns.detail) == ("fail", "files.one (1), files.many (1)")
        assert [
            (found[name].status, found[name].detail) for name in ("source: oid columns", "source: other large objects")
        ] == [
            ("warn", "files.number"),
            ("warn", "1, which no oid column of the tables names"),
        ]
    pair.source.execute(columns.remedy.partition(": ")[2])
    content = "SELECT one_content, many_content FROM files ORDER BY id"
    held = [(b"abc", [b"d", None, None]), (None, []), (None, None)]
    assert pair.source.execute(content).fetchall() == held
    _copied(pair)
    assert pair.target.execute(content).fetchall() == held


def test_a_table_is_as_wide_as_postgresql_allows(make_pair: MakePair) -> None:
    """Prevents calls that stand in each other until the stack ends; a column of each part of them is told and mended."""
    pair = make_pair(rows=None)
    kinds = ("int", "bool", "timestamp", "text", "uuid", "bigint", "numeric(4,2)")
    columns = ", ".join(f"c{n} {kinds[n % len(kinds)]}" for n in range(1, WIDE))
    pair.source.execute(
        f"CREATE TABLE wide (id int PRIMARY KEY, {columns}); INSERT INTO wide (id) SELECT generate_series(1, 5)"
    )
    _tables(pair, "wide")
    _copied(pair)
    pair.source.execute("UPDATE wide SET c1 = true, c1598 = '2020-01-01' WHERE id = 1")
    pair.target.execute("UPDATE wide SET c3 = 'y' WHERE id = 1; INSERT INTO wide (id, c1599) VALUES (6, 'x')")
    fence.both(pair.settings, 30)
    _unrecorded(pair, "UPDATE wide SET c98 = 1, c101 = 's', c1599 = 't' WHERE id = 2")
    for algorithm in ALGORITHMS:
        (table,) = verify.run(pair.settings, algorithm=algorithm).tables
        assert [one.columns for one in table.differences] == [["c98", "c101", "c1599"]]
    assert verify.run(pair.settings, repair="source").match
    assert pair.target.execute("SELECT c98, c101, c1599 FROM wide WHERE id = 2").fetchone() == (None, None, None)


def _unrecorded(pair: Pair, statement: str) -> None:
    """A write on the target that does not travel."""
    with unseen(pair.target) as target:
        target.execute(statement)


@pytest.mark.parametrize(
    ("encoding", "key", "text", "shown"),
    [
        # Bytes that are no UTF8, as a former client of LATIN1 left them, beside some that are.
        ("SQL_ASCII", b"\xe9", b"\xff\x80 \xe3\x81\x82", "\xff\x80 \xe3\x81\x82"),
        ("EUC_JP", b"\xa4\xa2", b"\xa4\xa4\x8f\xb0\xa1", "い丂"),
    ],
)
def test_text_of_any_encoding(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, encoding: str, key: bytes, text: bytes, shown: str
) -> None:
    """Prevents `the snapshot b'...' is lost`, and a copy that ends at the first byte that is no UTF8; whatever the operator's own
    environment asks of libpq."""
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    pair = make_pair(rows=None, encoding=encoding)
    # Bytes that only the server reads as text.
    write = f"convert_from('\\x%s', '{encoding}')"
    name, value = write % key.hex(), write % text.hex()
    pair.source.execute(
        'CREATE TABLE words (id text PRIMARY KEY, word text, at timestamptz, "列 1" int, "列 2" int, CHECK ("列 1" < "列 2"))'
    )
    pair.source.execute(f"INSERT INTO words VALUES ({name}, {value}, '2020-01-01'), ('b', 'x', '2020-01-01')")
    _tables(pair, "words")
    _copied(pair)
    pair.source.execute(f"UPDATE words SET word = word || {value}; INSERT INTO words VALUES ({name} || 'c', 'd')")
    pair.target.execute(f"INSERT INTO words VALUES ({value}, {name})")
    _same(pair)
    held = f"SELECT convert_to(id, '{encoding}'), convert_to(word, '{encoding}') FROM words"
    wanted = {(key, text * 2), (b"b", b"x" + text), (key + b"c", b"d"), (text, key)}
    assert set(pair.source.execute(held).fetchall()) == set(pair.target.execute(held).fetchall()) == wanted
    _unrecorded(pair, f"UPDATE words SET word = {value} WHERE id = {name}")
    found = verify.run(pair.settings, show_values=True)
    (difference,) = found.tables[0].differences
    assert [row["word"] for row in difference.plain()["values"].values()] == [shown * 2, shown]
    assert verify.run(pair.settings, repair="source").match
    _same(pair)
    assert set(pair.target.execute(held).fetchall()) == wanted


def test_a_name_that_sql_ascii_cannot_be_told_is_refused(make_pair: MakePair) -> None:
    """Prevents a traceback of Python's for a name that the configuration has in UTF8."""
    pair = make_pair(rows=None, encoding="SQL_ASCII")
    pair.source.execute("CREATE TABLE 生徒 (id int PRIMARY KEY)")
    _tables(pair, "生徒")
    said = "'生徒' of a name of the configuration cannot be said to a database of SQL_ASCII"
    assert said in _failed(pair)["source: catalog"]
    with pytest.raises(Refused, match=said):
        schema.diff(pair.settings)


def test_text_that_utf8_cannot_say_is_told_before(make_pair: MakePair) -> None:
    """Prevents a copy that ends at such a character: EUC_JP has some that Unicode does not."""
    pair = make_pair(rows=None, encoding="EUC_JP")
    pair.source.execute("CREATE TABLE words (id int PRIMARY KEY, fine text, word text)")
    pair.source.execute(
        r"INSERT INTO words VALUES (1, convert_from('\xa4a2', 'EUC_JP'), convert_from('\xa9ba', 'EUC_JP'))"
    )
    _tables(pair, "words")
    assert _found(pair)["source: text that UTF8 can say"].detail == "words.word"
    pair.source.execute("UPDATE words SET word = ''")
    assert _failed(pair) == {}
