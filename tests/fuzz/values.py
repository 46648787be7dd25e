"""Types of PostgreSQL, each with values that other programs tripped over: few, so that rows meet."""

from __future__ import annotations

from collections.abc import Mapping

#: Types of pg_catalog that have a btree (PostgreSQL, 'Index Types'), with values as text.
KEYS: Mapping[str, tuple[str, ...]] = {
    "integer": ("1", "2", "3", "-7"),
    "bigint": ("1", "2", "9007199254740993", "-5"),
    "smallint": ("1", "2", "3"),
    "text": ("a", "A", "", " ", "é", "it's", "a\\b", "日本", '"', "{}", "NULL", "\\N", "%s"),
    "character varying(9)": ("a", "b ", "", "x%"),
    "character(4)": ("ab", "ab ", "x", ""),
    '"char"': ("a", "b"),
    "name": ("a", "b", ""),
    "uuid": ("00000000-0000-0000-0000-000000000001", "c0ffee00-0000-4000-8000-000000000002"),
    "boolean": ("true", "false"),
    "numeric": ("1", "1.0", "1.00", "NaN", "-0.5", "1e30", "Infinity"),
    "numeric(6,2)": ("1.5", "2", "-3.25"),
    "real": ("1.1", "-0", "0", "NaN", "1e-40"),
    "double precision": ("0.1", "-0", "0", "NaN", "Infinity", "5e-324"),
    "money": ("12.5", "-3", "0"),
    "bytea": ("\\x", "\\x00ff", "abc"),
    "date": ("2024-02-29", "infinity", "0044-03-15 BC"),
    "time without time zone": ("10:00", "24:00", "00:00:00.000001"),
    "time with time zone": ("10:00+09", "01:00+00", "01:00-03:30"),
    "timestamp without time zone": ("2024-02-29 10:00:00.123456", "-infinity", "0001-01-01 BC"),
    "timestamp(2) with time zone": ("2024-02-29 10:00:00.126+09", "infinity"),
    "timestamp with time zone": ("2024-02-29 10:00:00+09", "2024-02-29 01:00:00+00", "1883-01-01 00:00:00+00"),
    "interval": ("1 mon", "30 days", "24:00:00", "1 day", "-1 year 3 mons 00:00:00.5"),
    "interval day to second(2)": ("1 day 00:00:01.25", "30 days"),
    "jsonb": ('{"a": 1}', '{"a":1.0}', "[]", "null", '"x"'),
    "inet": ("10.0.0.1/8", "::1", "10.0.0.1"),
    "cidr": ("10.0.0.0/8", "::/0"),
    "macaddr": ("08:00:2b:01:02:03", "00:00:00:00:00:01"),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit(3)": ("101", "000"),
    "bit varying": ("", "1", "0110"),
    "pg_lsn": ("0/1", "FF/0"),
    "xid8": ("1", "18446744073709551615"),
    "tid": ("(0,1)", "(7,2)"),
    "oid": ("1", "4294967295"),
    "oidvector": ("", "1 2"),
    "tsvector": ("", "'a':1A 'b'", "a b"),
    "tsquery": ("a & b", "!'x y'"),
    "int4range": ("[1,3)", "empty", "(,5]", "[7,9)"),
    "numrange": ("[1.0,2.50]", "empty"),
    "tstzrange": ("[2024-01-01 00:00+00,)", "empty"),
    "daterange": ("[2024-01-01,2024-01-03]", "(,)"),
    "int4multirange": ("{}", "{[1,3),[5,7)}"),
    "integer[]": ("{1,2}", "{}", "{NULL}", "[2:3]={1,2}", "{{1},{2}}"),
    "text[]": ("{a,NULL,\"N\",\"a,b\"}", "{}", '{"\\"\\\\"}'),
}  # fmt: skip
#: Types without one.
OTHERS: Mapping[str, tuple[str, ...]] = {
    "json": ('{"b": 1,  "a":2}', "null", '{"a":1,"a":2}', "[1, 2]"),
    "jsonpath": ("$.a[*]", 'strict $."b"'),
    "point": ("(1,2)", "(0.1,-0)"),
    "line": ("{1,2,3}",),
    "lseg": ("[(1,2),(3,4)]",),
    "box": ("(3,4),(1,2)",),
    "path": ("[(1,2),(3,4)]", "((1,2),(3,4))"),
    "polygon": ("((1,2),(3,4),(5,0))",),
    "circle": ("<(1,2),3>",),
    "pg_snapshot": ("10:20:10,14",),
    "txid_snapshot": ("10:20:",),
    "xid": ("1", "4294967295"),
    "cid": ("1",),
    "int2vector": ("1 2", ""),
    "aclitem": ("postgres=r/postgres", "=arw/postgres"),
    "refcursor": ("c",),
    "regclass": ("pg_catalog.pg_class", "-"),
    "regproc": ("now", "-"),
    "regprocedure": ("pg_catalog.lower(text)", "-"),
    "regtype": ("integer", "-"),
    "regrole": ("postgres", "-"),
    "regnamespace": ("pg_catalog",),
    "regoper": ("||/",),
    "regoperator": ("+(integer,integer)",),
    "regconfig": ("simple",),
    "regdictionary": ("simple",),
    "regcollation": ('"C"',),
    "regclass[]": ("{pg_class,pg_type}",),
    "aclitem[]": ("{postgres=r/postgres}",),
    "box[]": ("{(3,4),(1,2);(1,1),(0,0)}",),
    "json[]": ('{"{\\"a\\": 1}",NULL}',),
    "interval[]": ('{"1 mon","30 days"}',),
    "timestamp with time zone[]": ('{"2024-02-29 10:00:00+09"}',),
    "bytea[]": ('{"\\\\x00ff"}',),
}
BUILTIN: Mapping[str, tuple[str, ...]] = {**KEYS, **OTHERS}
#: Kinds of types that a schema makes: how, and values. `{}` is the type's name, `{of}` another type's.
MADE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "enum": ("CREATE TYPE {} AS ENUM ('sad', 'it''s ok', 'Ok')", ("sad", "it's ok", "Ok")),
    "domain": ("CREATE DOMAIN {} AS integer DEFAULT 2 CHECK (VALUE > 0)", ("1", "2", "3")),
    "domain of text": ("CREATE DOMAIN {} AS text NOT NULL CHECK (VALUE <> 'x')", ("a", "b", "")),
    "domain of array": ("CREATE DOMAIN {} AS integer[] CHECK (array_length(VALUE, 1) < 4)", ("{1}", "{1,2,NULL}")),
    "composite": ("CREATE TYPE {} AS (x integer, \"Y z\" text)", ("(1,a)", "(,)", '(2,"a,b")', '(3,"")')),
    "composite of regclass": ("CREATE TYPE {} AS (r regclass, j jsonb)", ("(pg_class,{})", "(,)")),
    "range": ("CREATE TYPE {} AS RANGE (subtype = text)", ("[a,b)", "empty", "[c,)")),
}  # fmt: skip
#: What a table or column may be called: names that need quoting, or that functions of ours use for themselves.
NAMES = (
    "item", "Item", "it's", 'quo"te', "100%", "%s", "a b", "a.b", "select", "日本語", "{}", "$1", "user", "\\n", "key",
    "t", "c", "x", "w", "n", "g", "_key", "_vals", "_row", "_take", "_newer", "_there", "_kind", "_names", "_now", "_made", "_rival_key", "_e0",
    "new", "old", "v", "name", "kind", "row", "lost", "found", "task_migration", "pg_temp",
)  # fmt: skip


def literal(value: str) -> str:
    """A value as SQL."""
    return "'" + value.replace("'", "''") + "'"


def quoted(*names: str) -> str:
    """A name with its qualifiers, as SQL."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
