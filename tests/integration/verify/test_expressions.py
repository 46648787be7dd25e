"""The SQL that verify is made of, by itself on one server: what a hash tells apart, which rows a bucket and a slice hold, a row by its key.

Two schemas of one database stand for the sides. What is right is told by the rows' own texts, not by a second hash.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql

from scripts.database import catalog
from scripts.database.catalog import Table
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.verify.buckets import INT8_MAX, INT8_MIN, Buckets
from scripts.verify.hash import Algorithm, as_text, hash_of, row_hash, shared
from scripts.verify.rows import BATCH, SHOWN, Reader, at_keys, differing
from scripts.verify.slices import about, slices
from scripts.writes import record

Connection = psycopg.Connection[Any]
SCHEMAS = ("ours", "theirs")
ALGORITHMS: tuple[Algorithm, ...] = ("hash", "md5")


@pytest.fixture(scope="module")
def database(source_server: EmbeddedPostgres) -> Iterator[Connection]:
    """A database with both schemas."""
    source_server.execute("CREATE DATABASE expressions")
    with psycopg.connect(source_server.url("expressions"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA ours; CREATE SCHEMA theirs")
        yield connection
    source_server.execute("DROP DATABASE expressions WITH (FORCE)")


def made(database: Connection, name: str, *bodies: str) -> tuple[Table, Table]:
    """A table of this name in both schemas, with one definition or two."""
    quoted = sql.Identifier(name).as_string(None)
    for schema, body in zip(SCHEMAS, itertools.cycle(bodies), strict=False):
        database.execute(f"CREATE TABLE {schema}.{quoted} ({body})".encode())
    ours, theirs = (catalog.read(database, schema, [name], "source")[name] for schema in SCHEMAS)
    return ours, theirs


def fill(database: Connection, statement: str) -> None:
    """`{}` is the schema."""
    for schema in SCHEMAS:
        database.execute(statement.replace("{}", schema).encode())


#: Definition on either side, and values of which each that can be seen is another one.
KINDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("int2", "int2", ("NULL", "0", "1", "-1")),
    ("int4 NOT NULL DEFAULT 7", "int8", ("0", "4294967296", "1", "-1", "NULL")),
    ("int8", "int8", ("NULL", "1", "4294967296", "-1", "4294967295", "9223372036854775807", "-9223372036854775808")),
    ("int8", "text", ("NULL", "1", "10", "01", "a")),
    ("int4", "numeric", ("NULL", "1", "1.0", "1.5")),
    ("bool", "bool", ("NULL", "true", "false")),
    ("bool NOT NULL DEFAULT true", "bool", ("true", "false", "NULL")),
    ("bool NOT NULL DEFAULT true", "bool NOT NULL DEFAULT true", ("true", "false")),
    ("bool", "text", ("NULL", "true", "false", "t", "a")),
    ("text", "varchar(20)", ("NULL", "", "a", "a ", "A", "ä")),
    ("text NOT NULL DEFAULT 'x'", "text", ("", "a", "NULL")),
    ("char(5)", "text", ("NULL", "a", "b")),
    ("bpchar", "bpchar", ("a", "a ", "NULL")),
    ("uuid", "uuid", ("NULL", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001")),
    ("uuid", "text", ("NULL", "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000A")),
    ("uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000009'", "uuid", ("NULL", "00000000-0000-0000-0000-000000000002")),
    ("timestamp", "timestamp", ("NULL", "2026-01-01", "2026-01-01 00:00:00.000001", "infinity", "-infinity", "2000-01-01")),
    ("timestamp", "text", ("NULL", "2026-01-01 00:00:00", "2026-01-01")),
    ("timestamp", "timestamptz", ("NULL", "2026-01-01 00:00:00")),
    ("numeric(8,2)", "numeric(8,2)", ("NULL", "1.50", "1.51", "NaN")),
    ("numeric(8,2)", "numeric(9,3)", ("NULL", "1.50", "0")),
    ("numeric", "numeric", ("1.0", "1.00", "NULL")),
    ("float8", "float8", ("0", "-0", "NaN", "NULL")),
    ("interval", "interval", ("1 mon", "30 days", "NULL")),
    ("json", "json", ('{"a":1}', '{"a": 1}', "null", "NULL")),
)  # fmt: skip
#: Of this type is a column that only one side has, which does not count.
ALONE = ", alone int DEFAULT floor(random() * 1e9), made int GENERATED ALWAYS AS (1) STORED"


def text(names: tuple[str, ...], table: Table) -> sql.Composed:
    """A row as the texts of its columns."""
    return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(as_text(table.column(name)) for name in names))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_rows_hash_alike_where_they_read_alike_and_nowhere_else(database: Connection, algorithm: Algorithm) -> None:
    """Prevents a difference that no sum shows, and an alarm about two types that hold the same."""
    names = tuple(f"c %s {number}" for number in range(len(KINDS)))
    bodies = [", ".join(f'"{name}" {kind[side]}' for name, kind in zip(names, KINDS, strict=True)) for side in (0, 1)]
    ours, theirs = made(database, algorithm, bodies[0] + ALONE, bodies[1])
    for name, (*_, values) in zip(names, KINDS, strict=True):
        for value, table in itertools.product(values, (ours, theirs)):
            given = sql.NULL if value == "NULL" else sql.Literal(value)
            # A row that only one side can hold is told from all of the other's.
            with suppress(psycopg.errors.NotNullViolation, psycopg.DataError):
                database.execute(
                    sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(table.identifier, sql.Identifier(name), given)
                )
    assert shared(ours, theirs) == names
    seen: dict[tuple[str | None, ...], set[int]] = {}
    for table, other in ((ours, theirs), (theirs, ours)):
        query = sql.SQL("SELECT {}, {} FROM {} t").format(
            text(names, table), row_hash(table, algorithm, other), table.identifier
        )
        for values, digest in database.execute(query).fetchall():
            assert isinstance(digest, int)
            seen.setdefault(tuple(values), set()).add(digest)
    assert [values for values, digests in seen.items() if len(digests) > 1] == []
    digests = Counter(itertools.chain.from_iterable(seen.values()))
    assert [values for values, found in seen.items() if any(digests[one] > 1 for one in found)] == []
    assert len(seen) > 60


def test_a_wide_row_is_hashed_to_its_last_column_and_each_in_its_place(database: Connection) -> None:
    """Prevents a column beyond the hundredth that cancels one before it: a wide table has a chain for each hundred."""
    kinds = (
        "int NOT NULL DEFAULT 0",
        "text NOT NULL DEFAULT ''",
        "bool NOT NULL DEFAULT false",
        "bool",
        "int8",
        "uuid",
    )
    wide, _ = made(database, "wide", ", ".join(f"c{number} {kinds[number % 6]}" for number in range(306)))
    one = {0: "1", 1: "'1'", 2: "true", 3: "true", 4: "1", 5: "'00000000-0000-0000-0000-000000000001'"}
    rows: list[tuple[int, ...]] = [(number,) for number in range(306)]
    # The same value in the same place of two chains, of one that changes and one that is NULL.
    rows += [(number, number + step) for step in (6, 102, 204) for number in range(0, 306 - step, 5)]
    database.execute("INSERT INTO ours.wide DEFAULT VALUES")
    for row in rows:
        columns, values = ", ".join(f"c{n}" for n in row), ", ".join(one[n % 6] for n in row)
        database.execute(f"INSERT INTO ours.wide ({columns}) VALUES ({values})".encode())
    for algorithm in ALGORITHMS:
        query = sql.SQL("SELECT {} FROM ours.wide t").format(row_hash(wide, algorithm))
        assert len({row[0] for row in database.execute(query)}) == 1 + len(rows)


@pytest.mark.parametrize("kind", ["int NOT NULL DEFAULT 0", "bool NOT NULL DEFAULT false", "text NOT NULL DEFAULT ''"])
def test_two_chains_of_one_kind_do_not_cancel(database: Connection, kind: str) -> None:
    """Prevents 200 columns of which the first hundred and the second are hashed to nothing wherever they are the same."""
    name = kind.split()[0]
    alike, _ = made(database, f"alike_{name}", ", ".join(f"c{number} {kind}" for number in range(200)))
    one = {"int": "1", "bool": "true", "text": "'1'"}[name]
    database.execute(f"INSERT INTO ours.alike_{name} DEFAULT VALUES".encode())
    for place in range(0, 100, 9):
        database.execute(f"INSERT INTO ours.alike_{name} (c{place}, c{place + 100}) VALUES ({one}, {one})".encode())
    query = sql.SQL("SELECT {} FROM {} t").format(row_hash(alike, "hash"), alike.identifier)
    assert len({row[0] for row in database.execute(query)}) == 13


def test_md5_is_the_digest_of_the_rows_text(database: Connection) -> None:
    """Prevents the fast hash where the one without its folds was asked for."""
    table, _ = made(database, "digested", "a int, b text")
    database.execute("INSERT INTO ours.digested VALUES (1, 'é, x')")
    query = sql.SQL("SELECT {} FROM ours.digested t").format(row_hash(table, "md5"))
    digest = hashlib.md5('(1,"é, x")'.encode(), usedforsecurity=False).digest()
    assert database.execute(query).fetchone() == (int.from_bytes(digest[:8], signed=True),)


def test_a_hash_is_of_the_columns_that_are_named_in_their_order(database: Connection) -> None:
    """Prevents two keys that are one bucket by what they are not told apart by, or two buckets for one key."""
    ours, theirs = made(
        database, "named", "a int4, b int8, c text, d bool, e bool", "e bool, d bool, c text, b int4, a int8"
    )
    for table in (ours, theirs):
        database.execute(
            sql.SQL("INSERT INTO {} (a, b, c, d, e) VALUES (1, 2, 'x', true, false)").format(table.identifier)
        )
    found: dict[tuple[str, ...], int] = {}
    for size in (1, 2, 3, 5):
        for names in itertools.permutations("abcde", size):
            query = [
                sql.SQL("SELECT {} FROM {} t").format(hash_of(table, names, other), table.identifier)
                for table, other in ((ours, theirs), (theirs, ours))
            ]
            ((left,),), ((right,),) = (database.execute(one).fetchall() for one in query)
            assert left == right
            found[names] = left
    # In the same kinds of columns another value is another hash; numbers, flags and the rest keep their places by kind.
    assert len({found[(name,)] for name in "abcde"}) == 5
    assert found["a", "b"] != found["b", "a"]
    assert found["a", "c"] != found["b", "c"]


def test_a_bucket_has_the_rows_that_its_expression_says(database: Connection) -> None:
    """Prevents a row that is summed in one bucket and looked for in another: a difference that is never found."""
    key = 'the "%s" key'
    ours, theirs = made(database, "dense %", '"the ""%s"" key" int8 PRIMARY KEY', '"the ""%s"" key" int4 PRIMARY KEY')
    far, _ = made(database, "far", "k int8 PRIMARY KEY")
    named, other_named = made(database, "named_key", "k text PRIMARY KEY", "k varchar(9) PRIMARY KEY")
    two, _ = made(database, "two", "k int, l int, PRIMARY KEY (k, l)")
    fill(database, 'INSERT INTO {}."dense %" SELECT generate_series(-3000, 9000, 7)')
    database.execute(f"INSERT INTO ours.far VALUES ({INT8_MIN}), ({INT8_MAX}), (0), (-1), (255), (256)".encode())
    fill(database, "INSERT INTO {}.named_key SELECT 'n%' || generate_series(1, 300)")
    database.execute("INSERT INTO ours.two SELECT i, i % 3 FROM generate_series(1, 300) i")
    cases = (
        (ours, theirs, (-3000, 9000), True),
        (far, far, (INT8_MIN, INT8_MAX), True),
        (named, other_named, None, False),
        (two, two, None, False),
    )
    for table, other, bounds, by_range in cases:
        buckets = Buckets.of(table, other, 0)
        assert buckets.by_range == by_range
        query = sql.SQL("SELECT {}, {} FROM {} t").format(buckets.expression, text(table.key, table), table.identifier)
        of = {tuple(values): bucket for bucket, values in database.execute(query).fetchall()}
        assert set(of.values()) <= set(range(16))
        assert len(set(of.values())) > (1 if table is far else 10)
        if by_range:
            assert all(bucket == int(value) // 256 % 16 for (value,), bucket in of.items())
        for chosen in ([0], [3, 15, 4], list(range(16)), None):
            query = sql.SQL("SELECT {} {}").format(text(table.key, table), buckets.rows(chosen, bounds))
            found = Counter(tuple(row[0]) for row in database.execute(query).fetchall())
            assert found == Counter(values for values, bucket in of.items() if chosen is None or bucket in chosen)
    # The other side's rows are in the same ones.
    for table, other in ((ours, theirs), (named, other_named)):
        here, there = (
            set(database.execute(sql.SQL("SELECT {}, {} FROM {} t").format(
                Buckets.of(one, two_, 0).expression, as_text(one.column(one.key[0])), one.identifier)).fetchall())
            for one, two_ in ((table, other), (other, table))
        )  # fmt: skip
        assert here == there
    assert ours.key == (key,)
    assert not Buckets.of(far, named, 0).by_range
    assert not Buckets.of(far, ours, 0).by_range


def test_slices_hold_each_row_once_and_about_so_many(database: Connection) -> None:
    """Prevents a pass that holds its rows for minutes, one that leaves rows out, or counts them twice, while both sides are written."""
    ours, theirs = made(database, "sliced", "a int8, b text, PRIMARY KEY (a, b)")
    database.execute("INSERT INTO ours.sliced SELECT i / 2, i FROM generate_series(1, 100) i")
    database.execute("INSERT INTO theirs.sliced SELECT i - 500, i FROM generate_series(1, 30) i")
    sides = [(database, replace(table, rows_estimate=100)) for table in (ours, theirs)]
    seen: dict[str, Counter[tuple[int, str]]] = {schema: Counter() for schema in SCHEMAS}
    pieces = []
    for piece in slices(sides, 20):
        pieces.append(piece)
        held = 0
        for schema, (_, table) in zip(SCHEMAS, sides, strict=True):
            rows = database.execute(
                sql.SQL("SELECT a, b FROM {} t WHERE {}").format(table.identifier, piece)
            ).fetchall()
            seen[schema].update(rows)
            held = max(held, len(rows))
        # The key's first column is not unique here: a slice ends with all rows of its last value.
        assert held <= 22
        # What is written into a slice that has passed, and beyond the last row.
        database.execute(
            f"INSERT INTO theirs.sliced VALUES (-600, 'late {len(pieces)}'), (10000, 'new {len(pieces)}')".encode()
        )
    assert len(pieces) > 5
    for schema in SCHEMAS:
        assert set(seen[schema].values()) == {1}
    assert len(seen["ours"]) == 100
    assert len([row for row in seen["theirs"] if -500 < row[0] < 10000]) == 30
    for tables in (
        (ours, replace(theirs, rows_estimate=20)),
        (replace(ours, rows_estimate=20), replace(theirs, rows_estimate=20)),
    ):
        whole = [one.as_string(None) for one in slices([(database, table) for table in tables], 20)]
        assert whole == ["true"]
    # One side alone, as an orphan is looked for; two whose keys have the first column in common.
    other, _ = made(database, "sliced_otherwise", "a int8, c int, PRIMARY KEY (a, c)")
    for some in ([sides[0]], [sides[0], (database, replace(other, rows_estimate=0))]):
        assert [piece.as_string(None) for piece in slices(some, 30)] == [
            'true AND t."a" <= 15', 't."a" > 15 AND t."a" <= 31', 't."a" > 31 AND t."a" <= 47', 't."a" > 47'
        ]  # fmt: skip
    named, _ = made(database, "sliced_by_name", "b text, a int8, PRIMARY KEY (b, a)")
    for one, other in ((named, named), (ours, named), (replace(ours, indexes=(), constraints=()),) * 2):
        large = [replace(table, rows_estimate=10**6) for table in (one, other)]
        assert [piece.as_string(None) for piece in slices([(database, table) for table in large], 20)] == ["true"]


def test_a_table_that_was_never_analysed_is_taken_for_what_its_pages_may_hold() -> None:
    bare = Table(
        schema="s", name="t", oid=1, kind="r", persistence="p", rows_estimate=-1, pages=0, columns=(), constraints=()
    )
    assert [
        about(replace(bare, rows_estimate=rows, pages=pages)) for rows, pages in ((-1, 0), (-1, 3), (239, 3), (241, 3))
    ] == [0, 240, 240, 241]


def test_rows_are_read_by_keys_whatever_these_look_like(database: Connection) -> None:
    """Prevents a row that is looked up by half of its key, by a key that is only equal, or not at all."""
    body = 'n numeric, "k %s" text, v text, PRIMARY KEY (n, "k %s")'
    ours, theirs = made(database, "keyed", body, body + ", extra int")
    long = "é" * (SHOWN + 1)
    fill(
        database,
        "INSERT INTO {}.keyed (n, \"k %s\", v) VALUES (1.0, 'a', 'x'), (1.0, 'b', NULL), (2, 'a', 'y'), (3, '%s', '')",
    )
    fill(database, f"INSERT INTO {{}}.keyed (n, \"k %s\", v) VALUES (4, 'l', '{long}'), (5, 'l', '{long[:-1]}')")
    fill(database, 'INSERT INTO {}.keyed (n, "k %s", v) SELECT 6, i::text, i::text FROM generate_series(1, 10) i')
    database.execute("UPDATE theirs.keyed SET v = 'changed' WHERE n = 2")
    database.execute("DELETE FROM theirs.keyed WHERE n = 3")
    keys = [("1.0", "a"), ("1.0", "b"), ("2", "a"), ("3", "%s"), ("1.00", "a"), ("9", "a"), ("6", "3")]
    left, right = (Reader(ours, theirs, "hash"), Reader(theirs, ours, "hash"))
    here, there = left.observations(database, keys), right.observations(database, keys)
    # 1.00 is equal to 1.0, and another key.
    assert list(here) == [key for key in keys if key not in (("1.00", "a"), ("9", "a"))]
    assert sorted(differing((here, there))) == [("2", "a"), ("3", "%s")]
    assert differing(({}, {})) == []
    versions = dict(database.execute('SELECT n::text || "k %s", xmin::text FROM ours.keyed').fetchall())
    assert {key: version for key, (version, _) in here.items()} == {key: versions["".join(key)] for key in here}
    found = left.texts(database, [("1.0", "b"), ("2", "a"), ("4", "l"), ("5", "l")], True)
    shown = {key: values for key, (_, values) in found.items()}
    ((hashed,),) = database.execute('SELECT hashtextextended(v COLLATE "C", 0) FROM ours.keyed WHERE n = 4').fetchall()
    assert shown == {
        ("1.0", "b"): ["1.0", "b", None],
        ("2", "a"): ["2", "a", "y"],
        ("4", "l"): ["4", "l", f"{long[:-1]}... [2001 characters, hash {hashed}]"],
        ("5", "l"): ["5", "l", long[:-1]],
    }
    assert {key: seen for key, (seen, _) in found.items()} == left.observations(database, list(found))
    # Without the values a change of one is seen all the same, and none of them is read.
    for key, columns in ((("1.0", "a"), []), (("2", "a"), [2])):
        ((_, mine),), ((_, other),) = (reader.texts(database, [key], False).values() for reader in (left, right))
        assert [place for place, (a, b) in enumerate(zip(mine, other, strict=True)) if a != b] == columns
        assert mine[2] not in ("x", "y")
    # More keys than one statement asks for, at either end of a batch.
    many = [(str(number), "z") for number in range(BATCH - 1)] + [("1.0", "a"), ("2", "a"), ("6", "1")]
    assert list(left.observations(database, many)) == many[-3:]
    assert len(list(left._by_key(database, left.head, many))) == 3, "a row is read once"
    # A table whose key is called as a part of the keys that are asked for.
    named, _ = made(database, "named_so", "k1 int, k0 text, PRIMARY KEY (k0, k1)")
    database.execute("INSERT INTO ours.named_so VALUES (1, 'a'), (2, 'a')")
    assert list(Reader(named, named, "hash").observations(database, [("a", "2")])) == [("a", "2")]
    query = sql.SQL("SELECT t.v {}").format(at_keys(ours, [("6", "4"), ("6", "7")]))
    assert sorted(database.execute(query).fetchall()) == [("4",), ("7",)]


def test_a_key_is_written_as_json_has_it(database: Connection) -> None:
    """Prevents a record whose key names no row: the short form for integers, and the long one, are what jsonb writes."""
    body = "a int, b int8, c text, d bpchar, e regclass, PRIMARY KEY ({})"
    for number, key in enumerate(("a", "a, b", "b, a", "c", "a, c", "d", "e", "c, d, e")):
        table, _ = made(database, f"json_{number}", body.replace("{}", key))
        names = [part.strip() for part in key.split(",")]
        database.execute(
            f"INSERT INTO ours.json_{number} VALUES (-1, 9, 'it''s \"x\" \\ é', 'blank  ', '-'), (5, -7, '', '', 'pg_class')".encode()
        )
        query = sql.SQL("SELECT {}, jsonb_build_array({})::text FROM {} t ORDER BY a").format(
            record.key_of(table, "t"),
            sql.SQL(", ").join(
                sql.SQL("concat(t.{})" if name == "d" else "t.{}::text").format(sql.Identifier(name)) for name in names
            ),
            table.identifier,
        )
        for written, wanted in database.execute(query).fetchall():
            assert written == wanted
            place = [
                sql.SQL("{}::jsonb ->> {}").format(sql.Literal(written), sql.Literal(n)) for n in range(len(names))
            ]
            found = database.execute(
                sql.SQL("SELECT {} FROM {} t WHERE {}").format(
                    record.key_of(table, "t"), table.identifier, record.at(table, place)
                )
            ).fetchall()
            assert found == [(written,)]
