"""What is read of the catalogs, of tables that have one of everything: each decision stands on these values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from scripts.database import catalog
from scripts.database.catalog import Element, Policy, Statistics, Table, Trigger, Type
from scripts.database.connections import Connection
from scripts.database.sides import open_side
from tests.conftest import Pair

DDL = """
CREATE SCHEMA auth;
CREATE TYPE mood AS ENUM ('so', 'la la');
CREATE DOMAIN small AS int DEFAULT 3 NOT NULL CHECK (VALUE < 100);
ALTER DOMAIN small ADD CONSTRAINT big CHECK (VALUE > 5) NOT VALID;
CREATE DOMAIN "Some Smalls" AS small[];
CREATE TYPE auth.point AS (x "Some Smalls", y varchar(9) COLLATE "C");
CREATE TYPE spans AS RANGE (SUBTYPE = mood, MULTIRANGE_TYPE_NAME = multi);
CREATE DOMAIN int4 AS text;
CREATE TYPE unused AS ENUM ('x');
CREATE SEQUENCE free MINVALUE -5;
CREATE TABLE auth.users (id bigint PRIMARY KEY);
CREATE TABLE users (
    id bigint PRIMARY KEY REFERENCES auth.users, number bigserial, ticket text DEFAULT 'T' || nextval('users_number_seq'),
    other int DEFAULT nextval('free'), tenant int NOT NULL, boss bigint, at timestamptz, moods mood[], p auth.point, s "Some Smalls",
    fake public.int4, word varchar(20) COLLATE "C", spans int4multirange, v int GENERATED ALWAYS AS (tenant + 1) STORED,
    gone int, UNIQUE (tenant, id), UNIQUE (boss) INCLUDE (word) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT apart EXCLUDE USING btree (number WITH =) WHERE (number > 7)
);
ALTER TABLE users ADD CHECK (word <> '') NOT VALID, ADD CONSTRAINT same FOREIGN KEY (tenant, boss) REFERENCES users (tenant, id)
    MATCH FULL ON DELETE SET NULL (boss) DEFERRABLE NOT VALID;
CREATE TABLE "off" (id int GENERATED ALWAYS AS IDENTITY (CYCLE MAXVALUE 9), who bigint REFERENCES users ON DELETE CASCADE, r spans, rows auth.users[]);
CREATE TABLE auth.stays (number int DEFAULT nextval('free'));
CREATE UNIQUE INDEX words ON users (lower(word), (tenant + 1)) NULLS NOT DISTINCT WHERE at IS NULL;
CREATE INDEX plain ON users USING brin (at);
ALTER TABLE users ALTER word SET STORAGE main, ALTER word SET STATISTICS 7, ALTER ticket SET COMPRESSION pglz,
    SET (fillfactor = 70, toast.autovacuum_enabled = off), REPLICA IDENTITY USING INDEX users_pkey, ENABLE ROW LEVEL SECURITY, DROP COLUMN gone;
CREATE POLICY mine ON users AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (id > 0) WITH CHECK (id < 9);
CREATE FUNCTION auth.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION auth.stamp();
CREATE TRIGGER "00_task_migration_capture" BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION auth.stamp();
ALTER TABLE users DISABLE TRIGGER stamp;
CREATE STATISTICS auth.together ON tenant, boss FROM users;
ALTER STATISTICS auth.together SET STATISTICS 5;
COMMENT ON TABLE users IS 'who'; COMMENT ON COLUMN users.word IS 'what'; COMMENT ON CONSTRAINT same ON users IS 'key';
COMMENT ON INDEX words IS 'index'; COMMENT ON POLICY mine ON users IS 'policy'; COMMENT ON TRIGGER stamp ON users IS 'trigger';
COMMENT ON STATISTICS auth.together IS 'statistics'; COMMENT ON TYPE mood IS 'mood';
"""


@pytest.fixture
def pair(make_pair: Callable[..., Pair]) -> Pair:
    pair = make_pair(
        rows=None, tables=["users", "off"], referencedTables=["auth.users"], droppedForeignKeys=["users_id_fkey"]
    )
    pair.source.execute(DDL)
    return pair


def read(connection: Connection) -> dict[str, Table]:
    return catalog.read(connection, "public", ["users", "off"], "source")


def test_everything_is_read_with_its_schema(pair: Pair) -> None:
    """Prevents what is looked up by a bare name, or decided by a list of columns, because the catalog was not read to its end."""
    with open_side(pair.settings, "source", "test") as source:
        tables = read(source)
    users, off = tables["users"], tables["off"]
    keys = {one.name: one for one in users.constraints}
    columns = {one.name: one for one in users.columns}
    indexes = {one.name: one for one in users.indexes}

    def fields(one: Any, *names: str) -> tuple[Any, ...]:
        return tuple(getattr(one, name) for name in names)

    assert users.shape == len(users.columns) + 1
    assert fields(users, "replica_identity", "identity_index", "row_security", "force_row_security", "comment", "options") == (
        "i", "users_pkey", True, False, "who", ("fillfactor=70", "toast.autovacuum_enabled=off"),
    )  # fmt: skip
    assert fields(columns["word"], "storage", "statistics", "comment", "compression", "collation", "cast", "exact") == (
        "main", 7, "what", None, 'pg_catalog."C"', "character varying", True,
    )  # fmt: skip
    assert columns["ticket"].compression == "pglz"
    assert fields(columns["fake"], "base_type", "is_integer", "exact", "root") == ("public.int4", False, False, "text")
    kinds = {
        name: fields(one, "category", "root", "root_builtin", "root_category", "many", "rows_of")
        for name, one in columns.items()
        if name in ("moods", "p", "s", "spans", "id")
    }
    assert kinds == {
        "id": ("base", "int8", True, "base", False, None),
        "moods": ("base", "public.mood", False, "enum", True, None),
        "p": ("composite", "auth.point", False, "composite", False, None),
        "s": ("domain", "int4", True, "base", True, None),
        "spans": ("multirange", "int4multirange", True, "multirange", False, None),
    }
    assert fields(off.column("rows"), "root", "root_category", "many", "rows_of") == (
        "auth.users", "composite", True, ("auth", "users"),
    )  # fmt: skip
    assert fields(keys["users_id_fkey"], "table", "references", "references_columns", "valid") == (
        ("public", "users"), ("auth", "users"), ("id",), True,
    )  # fmt: skip
    same = keys["same"]
    assert fields(same, "references", "sets", "on_delete", "match_full", "valid", "deferrable", "deferred", "comment") == (
        ("public", "users"), ("boss",), "n", True, False, True, False, "key",
    )  # fmt: skip
    assert same.operators == ("OPERATOR(pg_catalog.=)",) * 2
    assert keys["users_word_check"].valid is False
    assert [(one.table, one.name) for one in users.children] == [
        (("public", "users"), "same"), (("public", "off"), "off_who_fkey")
    ]  # fmt: skip
    assert [(table.name, key.name) for table, key in catalog.crossing(tables)] == [("users", "users_id_fkey")]
    equal = "OPERATOR(pg_catalog.=)"
    words = indexes["words"]
    assert words.elements == (
        Element("lower((word)::text)", equal, 'pg_catalog."C"'),
        Element("((tenant + 1))", equal, None),
    )
    assert fields(words, "columns", "condition", "nulls_equal", "late", "constraint", "comment") == (
        (), "(at IS NULL)", True, False, None, "index",
    )  # fmt: skip
    assert sorted(words.uses) == ["at", "tenant", "word"]
    assert fields(indexes["users_boss_word_key"], "include", "late", "constraint") == (
        ("word",),
        True,
        "users_boss_word_key",
    )
    assert fields(indexes["apart"], "exclusion", "unique", "condition") == (True, False, "(number > 7)")
    assert indexes["plain"].elements == (Element("at", None, None),)
    assert users.primary == indexes["users_pkey"]
    assert [one.name for one in users.claims] == ["apart", "users_boss_word_key", "users_tenant_id_key", "words"]
    assert users.policies == (Policy("mine", False, "UPDATE", ("public",), "(id > 0)", "(id < 9)", "policy"),)
    stamp = "CREATE TRIGGER stamp BEFORE UPDATE ON public.users FOR EACH ROW EXECUTE FUNCTION auth.stamp()"
    assert users.triggers == (Trigger("stamp", stamp, "D", "auth.stamp", "trigger"),)
    together = "CREATE STATISTICS auth.together ON tenant, boss FROM public.users"
    assert users.statistics == (Statistics("together", "auth", together, 5, "statistics"),)
    here = ("public", "users")
    assert [
        fields(one, "name", "column", "owner", "shared", "identity") for one in (*users.sequences, *off.sequences)
    ] == [
        ("users_number_seq", "number", (here, "number"), ((here, "ticket"),), False),
        ("users_number_seq", "ticket", (here, "number"), ((here, "number"),), False),
        ("free", "other", None, ((("auth", "stays"), "number"),), False),
        ("off_id_seq", "id", (("public", "off"), "id"), (), True),
    ]


def test_an_index_that_was_not_built_claims_nothing(pair: Pair) -> None:
    """Prevents a unique index that CREATE INDEX CONCURRENTLY left half-made from being built anew, or taken for a claim."""
    pair.source.execute("INSERT INTO auth.users VALUES (1), (2)")
    pair.source.execute("INSERT INTO users (id, tenant, boss, moods) VALUES (1, 1, 1, '{so}'), (2, 2, 2, '{so}')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        pair.source.execute("CREATE UNIQUE INDEX CONCURRENTLY half ON users (moods)")
    with open_side(pair.settings, "source", "test") as source:
        users = read(source)["users"]
    assert [one.name for one in users.indexes if not one.valid] == ["half"]
    assert "half" not in [one.name for one in users.claims]


def test_types_come_in_the_order_in_which_they_can_be_made(pair: Pair) -> None:
    """Prevents a type that is made before what it is made of, or not at all, or not as it was."""
    with open_side(pair.settings, "source", "test") as source, open_side(pair.settings, "target", "test") as target:
        tables = read(source)
        found = catalog.types(source, tables.values())
        target.execute("CREATE SCHEMA auth")
        made = [one for one in found if one.definition]
        for one in made:
            target.execute(str(one.definition).encode())
        pair.target.execute("CREATE TABLE same (moods mood[], p auth.point, s multi, i public.int4)")
        again = catalog.types(target, catalog.read(target, "public", ["same"], "target").values())
    assert [(one.schema, one.name) for one in found if one not in made] == [("auth", "users")]
    assert [(one.schema, one.name, one.kind) for one in made] == [
        ("public", "int4", "domain"), ("public", "mood", "enum"), ("public", "small", "domain"), ("public", "spans", "range"),
        ("public", "Some Smalls", "domain"), ("auth", "point", "composite"),
    ]  # fmt: skip
    assert made[1] == Type(
        "public", "mood", "enum", None, "CREATE TYPE public.mood AS ENUM ('so', 'la la')", ("so", "la la"), "mood"
    )
    assert [replace(one, comment=None) for one in again] == [replace(one, comment=None) for one in made]
