"""Tables and keys that share a name are told apart by schema and table, from preflight to the audit: one chain on two real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.copy import run as copy
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.preflight import run as preflight
from scripts.preflight.documents import Check
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.schema.operator import rights
from scripts.verify import run as verify
from tests.conftest import Pair, pairs
from tests.integration.conflict_log import told

DDL = """
CREATE SCHEMA auth;
CREATE TABLE auth.users (id bigint PRIMARY KEY);
CREATE TABLE users (id bigint PRIMARY KEY REFERENCES auth.users ON DELETE CASCADE, name text);
CREATE TABLE note (id bigint PRIMARY KEY, user_id bigint, CONSTRAINT owner FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE);
CREATE TABLE label (id bigint PRIMARY KEY, user_id bigint, CONSTRAINT owner FOREIGN KEY (user_id) REFERENCES auth.users ON DELETE SET NULL);
CREATE TABLE auth.note (id bigint PRIMARY KEY, user_id bigint, CONSTRAINT owner FOREIGN KEY (user_id) REFERENCES public.users);
INSERT INTO auth.users SELECT generate_series(1, 4);
INSERT INTO users SELECT id, 'user ' || id FROM auth.users;
INSERT INTO note SELECT id, id FROM users;
INSERT INTO label SELECT id, id FROM users;
"""
TABLES = ["users", "note", "label"]
RIGHT = ["users_id_fkey", "label.owner"]


@pytest.fixture(scope="module")
def pair(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    directory: Path = tmp_path_factory.mktemp("schemas")
    with pairs(source_server, target_server, directory) as make:
        made = make(rows=None, tables=TABLES, referencedTables=["auth.users"], droppedForeignKeys=RIGHT)
        made.source.execute(DDL)
        yield made


def border(pair: Pair, **config: list[str]) -> list[Check]:
    """What preflight says of the border, but for what passes."""
    pair.config(tables=TABLES, **config)
    found = [
        check
        for check in preflight.run(pair.settings, wal_seconds=0).checks
        if "foreign" in check.name or "referenced" in check.name
    ]
    return [check for check in found if check.status != "pass"]


@pytest.mark.parametrize(
    ("dropped", "detail"),
    [
        (["users_id_fkey", "note.owner"], "not listed: owner of label, listed, not found: note.owner"),
        (["users_id_fkey"], "not listed: owner of label"),
        (["owner", "users.users_id_fkey"], None),
        (RIGHT, None),
    ],
)
def test_a_dropped_key_is_one_of_its_table(pair: Pair, dropped: list[str], detail: str | None) -> None:
    """Prevents a key inside the moved tables from standing for the one of the same name that leaves them."""
    said = [
        check.detail
        for check in border(pair, referencedTables=["auth.users"], droppedForeignKeys=dropped)
        if "across" in check.name
    ]
    assert said == ([detail] if detail else [])


def test_a_table_that_stays_is_one_of_its_schema(pair: Pair) -> None:
    """Prevents `users`, which moves, from standing for `auth.users`, which stays; the remedy leads on."""
    there = {check.name: check for check in border(pair, referencedTables=[], droppedForeignKeys=RIGHT)}
    assert there["source: referenced tables"].detail == "auth.users"
    outside = there["source: foreign keys from outside"]
    assert outside.detail == "owner of auth.note"
    pair.source.execute(outside.remedy[outside.remedy.index("ALTER TABLE") :].encode())
    assert border(pair, referencedTables=["auth.users"], droppedForeignKeys=RIGHT) == []


def test_the_operator_may_hold_rows_of_another_schema(pair: Pair) -> None:
    """Prevents a right that is given to a table of the moved ones' schema, by the name of one that stays in another."""
    config = pair.config(tables=TABLES, referencedTables=["auth.users"], droppedForeignKeys=RIGHT).config
    for statement in rights("stays", pair.source, config, "task_service_user", *config.referenced_tables):
        pair.source.execute(statement)
    asked = "SELECT has_schema_privilege('task_service_user', 'auth', 'USAGE'), has_column_privilege('task_service_user', {}, 'id', 'UPDATE')"
    assert pair.source.execute(asked.format("'auth.users'").encode()).fetchone() == (True, True)
    assert pair.source.execute(asked.format("'public.users'").encode()).fetchone() == (True, False)


@pytest.mark.last
def test_the_whole_chain_by_schema(pair: Pair) -> None:
    """Prevents a parent that is looked up by its table's name alone, and so is the row itself: rows without a parent stayed unsaid."""
    pair.config(tables=TABLES, referencedTables=["auth.users"], droppedForeignKeys=RIGHT)
    pair.source.execute("ALTER TABLE auth.note DROP CONSTRAINT IF EXISTS owner")
    assert [check for check in preflight.run(pair.settings, wal_seconds=0).checks if check.status == "fail"] == []
    assert schema.apply(pair.settings).match
    copy.run(pair.settings)
    replicate.start(pair.settings)
    pair.target.execute("INSERT INTO users VALUES (9, 'nobody'); INSERT INTO label VALUES (9, 9), (8, 4)")
    pair.source.execute("DELETE FROM auth.users WHERE id = 1")
    fence.both(pair.settings, 30)
    lost = {(entry["table"], entry["key"], entry["kind"]) for entry in told(pair.settings)}
    assert lost == {("users", '["9"]', "parent gone"), ("label", '["9"]', "parent gone")}
    assert pair.target.execute("SELECT id FROM users ORDER BY id").fetchall() == [(2,), (3,), (4,)]
    assert pair.target.execute("SELECT id, user_id FROM label ORDER BY id").fetchall() == [
        (1, None), (2, 2), (3, 3), (4, 4), (8, 4), (9, None)
    ]  # fmt: skip
    found = verify.run(pair.settings)
    assert (found.match, found.orphans) == (True, [])
    # Nobody's keys see this.
    pair.source.execute(
        "SET session_replication_role = replica; DELETE FROM auth.users WHERE id = 3; RESET session_replication_role"
    )
    found = verify.run(pair.settings)
    assert {(one.table, one.constraint, one.references, one.count, str(one.samples)) for one in found.orphans} == {
        ("users", "users_id_fkey", "auth.users(id)", 1, "[{'id': '3'}]"),
        ("label", "owner", "auth.users(id)", 1, "[{'user_id': '3'}]"),
    }
