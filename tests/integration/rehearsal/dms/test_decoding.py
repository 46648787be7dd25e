"""What the real test_decoding writes for awkward rows, read back and compared with the rows themselves."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from scripts.embedded import decoding
from scripts.rehearsal.dms.decoding import Unchanged, transactions
from tests.integration.test_chain import MakePair

TABLE = """
CREATE SCHEMA "Odd ""x"" y";
CREATE TYPE "Odd ""x"" y"."mood [x]" AS ENUM ('so so', 'fine');
CREATE TABLE "Odd ""x"" y"."T: INSERT: x" (
    id bigint PRIMARY KEY, "select" text, "a [b]" varchar(20), n numeric, r real, f boolean, j json, b bytea, a text[],
    u uuid, d date, t timestamp, z timestamptz, i interval, v varbit, m "Odd ""x"" y"."mood [x]", aa int[][], long text
)
"""
ROWS = """
INSERT INTO "Odd ""x"" y"."T: INSERT: x" VALUES
(1, E'it''s\\n"quoted" \\\\ back', '日本語 🎌', 1.50, 'NaN', true, '{"a":  "b''c"}', '\\x00ff27', ARRAY['a b', NULL, 'c,"d"', 'null'],
 '11111111-2222-3333-4444-555555555555', '0044-03-15 BC', 'infinity', '2026-01-01 00:00:00.123456+09', '1 year 2 mons -03:00', B'0101',
 'so so', '{{1,2},{3,4}}', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 4000) n)),
(2, '', '', 'Infinity', -0.0, false, 'null', '', '{}', NULL, NULL, '-infinity', NULL, NULL, B'', 'fine', '{}', NULL),
(3, ' new-tuple: id[bigint]:4', 'null', -1e-30, 1e30, NULL, '"x"', NULL, '{NULL}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '')
"""


def test_awkward_rows_of_a_real_server(make_pair: MakePair) -> None:
    """Prevents a parser that knows only the rows its author thought of."""
    connection = make_pair(rows=None).source
    connection.execute(sql.SQL("SET dynamic_library_path = {}").format(sql.Literal(decoding.search_path())))
    connection.execute(TABLE.encode())
    connection.execute("SELECT pg_create_logical_replication_slot('awkward', 'test_decoding')")
    table = sql.Identifier('Odd "x" y', "T: INSERT: x")
    connection.execute(ROWS.encode())
    connection.execute(sql.SQL("UPDATE {} SET id = 10, f = false WHERE id = 1").format(table))
    connection.execute(sql.SQL("DELETE FROM {} WHERE id = 2").format(table))
    rows: list[Any] = connection.execute(
        "SELECT lsn::text, xid::text, data FROM pg_logical_slot_peek_changes('awkward', NULL, NULL, 'include-timestamp', '1')"
    ).fetchall()
    inserted, updated, deleted = [entry.changes for entry in transactions(rows) if entry.changes]
    columns = [entry.name for entry in inserted[0].new]
    stored = {
        row[0]: row[1]
        for row in connection.execute(
            sql.SQL("SELECT id, ARRAY[{}] FROM {} t").format(
                sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(name)) for name in columns), table
            )
        )
    }
    first, _, third = ([entry.value for entry in change.new] for change in inserted)
    assert third == stored[3]
    # booleans are cast to text in full, and written so.
    assert [*first[1:5], *first[6:]] == [*stored[10][1:5], *stored[10][6:]]
    (change,) = updated
    assert [(entry.name, entry.value) for entry in change.old] == [("id", "1")]
    given = {entry.name: entry.value for entry in change.new}
    assert (given["id"], given["f"], given["long"]) == ("10", "false", Unchanged.TOAST)
    assert [entry.value for entry in deleted[0].old] == ["2"]
    connection.execute("SELECT pg_drop_replication_slot('awkward')")
