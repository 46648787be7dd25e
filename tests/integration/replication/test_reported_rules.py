"""Conflict rules that saw a conflict where there was none, or the reverse: reports on other tools, each with tables of its own.

One chain holds the tables of all of them: preflight, schema apply, copy, replicate start; then each writes, and looks after a fence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scripts.copy import run as copy
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.preflight import run as preflight
from scripts.preflight.documents import Check
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.sides import BOTH, Side
from scripts.verify import run as verify
from tests.conftest import Pair, pairs

SIDES = pytest.mark.parametrize("side", BOTH)
ACTIONS = {"none": "NO ACTION", "restrict": "RESTRICT", "cascade": "CASCADE"}
#: One kind of claim each: its DDL, the values that two rows clash with, and those that stand side by side.
CLAIMS = {
    "expression": ("CREATE UNIQUE INDEX ON member{} (account_id, lower(email))", "7, 'A@x', 0", "7, 'b@x', 0"),
    "condition": ("CREATE UNIQUE INDEX ON member{} (email) WHERE kind = 0", "1, 'a', 0", "1, 'a', 1"),
    "generated": (
        "ALTER TABLE member{} ADD g text GENERATED ALWAYS AS (email || kind) STORED UNIQUE",
        "1, 'a', 0",
        "1, 'a', 1",
    ),
    "nulls": ("ALTER TABLE member{} ADD UNIQUE NULLS NOT DISTINCT (email, kind)", "1, NULL, 0", "1, NULL, 1"),
    "exclusion": (
        "ALTER TABLE member{} ADD EXCLUDE USING gist (int4range(account_id, account_id + 5) WITH &&)",
        "3, 'a', 0",
        "9, 'a', 0",
    ),
    "deferrable": (
        "ALTER TABLE member{} ADD UNIQUE (account_id, kind) DEFERRABLE INITIALLY DEFERRED",
        "3, 'a', 0",
        "3, 'a', 1",
    ),
}
#: The tables of each test by its name; `{}` stands for the variant.
SCHEMAS = {
    "item": "CREATE TABLE item{} (id int PRIMARY KEY, list_id int, pos int, title text, UNIQUE (list_id, pos) "
    "DEFERRABLE INITIALLY DEFERRED); INSERT INTO item{} SELECT n, 1, n FROM generate_series(1, 6) n",
    "booking": "CREATE TABLE booking{} (id int PRIMARY KEY, day int, note text, "
    "EXCLUDE USING gist (int4range(day, day + 5) WITH &&) DEFERRABLE INITIALLY DEFERRED)",
    "folder": "CREATE TABLE folder{} (id int PRIMARY KEY, parent_id int REFERENCES folder{} ON DELETE CASCADE);"
    "INSERT INTO folder{} VALUES (1, NULL)",
    "message": "CREATE TABLE message{} (id int PRIMARY KEY, thread_id int NOT NULL REFERENCES message{} ON DELETE CASCADE);"
    "INSERT INTO message{} VALUES (1, 1), (2, 1), (3, 2), (4, 4)",
    "author": "CREATE TABLE author{} (tenant int, id int, PRIMARY KEY (tenant, id));"
    "CREATE TABLE article{} (id int PRIMARY KEY, tenant int NOT NULL, author_id int, "
    "FOREIGN KEY (tenant, author_id) REFERENCES author{} ON DELETE SET NULL (author_id));"
    "INSERT INTO author{} VALUES (1, 1), (1, 2); INSERT INTO article{} VALUES (1, 1, 1), (2, 1, 2)",
    "project": "CREATE TABLE project{} (id int PRIMARY KEY);"
    "CREATE TABLE board{} (id int PRIMARY KEY, project_id int NOT NULL REFERENCES project{} ON DELETE CASCADE);"
    "CREATE TABLE card{} (id int PRIMARY KEY, title text, board_id int NOT NULL REFERENCES board{} ON DELETE CASCADE);"
    "INSERT INTO project{} VALUES (1), (2); INSERT INTO board{} VALUES (1, 1), (2, 2);"
    "INSERT INTO card{} VALUES (1, 'old', 1), (2, 'old', 2)",
    "person": "CREATE TABLE person{} (id int PRIMARY KEY, email text, deleted_at timestamp, name text);"
    "CREATE UNIQUE INDEX ON person{} (email) WHERE deleted_at IS NULL;"
    "INSERT INTO person{} VALUES (1, 'a@x', '2020-01-01'), (2, 'b@x', NULL)",
    "device": "CREATE TABLE device{} (id int PRIMARY KEY, serial text NOT NULL, note text);"
    "CREATE UNIQUE INDEX device_serial ON device{} (serial); ALTER TABLE device{} REPLICA IDENTITY USING INDEX device_serial;"
    "INSERT INTO device{} VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    "place": "CREATE TABLE place{} (at ext.vector(2) PRIMARY KEY, name text, note text); CREATE TABLE visit{} "
    "(id int PRIMARY KEY, at ext.vector(2) REFERENCES place{} ON DELETE CASCADE);"
    "INSERT INTO place{} VALUES ('[1,2]', 'home'), ('[3,4]', 'work'); INSERT INTO visit{} VALUES (1, '[1,2]')",
    "seat": "CREATE TABLE seat{} (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text, w text);"
    "INSERT INTO seat{} VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')",
    "twice": "CREATE TABLE twice{} (x int, id int GENERATED ALWAYS AS (x * 2) STORED PRIMARY KEY, v text);"
    "CREATE TABLE half{} (id int PRIMARY KEY, twice int REFERENCES twice{} ON DELETE CASCADE);"
    "INSERT INTO twice{} VALUES (1), (2); INSERT INTO half{} VALUES (2, 4)",
    "named": "CREATE TABLE named{} (id int PRIMARY KEY, _key text, _vals jsonb, _take text, _row text, t text, n text, c text, w text, key text);"
    "CREATE UNIQUE INDEX ON named{} (_key, lower(t)) WHERE _take IS NULL;"
    "CREATE TABLE part{} (_key int PRIMARY KEY, _vals int REFERENCES named{} ON DELETE CASCADE);"
    "INSERT INTO named{} VALUES (1, 'a', '[1]'), (2, 'b', '[]'); INSERT INTO part{} VALUES (7, 1), (8, 2)",
    "word": "CREATE TABLE word{} (id int PRIMARY KEY, t text); CREATE UNIQUE INDEX ON word{} (folded(t));"
    "INSERT INTO word{} VALUES (1, 'A')",
}
for _name, (_ddl, _, _) in CLAIMS.items():
    SCHEMAS[f"member_{_name}"] = (
        "CREATE TABLE member{} (id int PRIMARY KEY, account_id int NOT NULL, email text, kind int NOT NULL DEFAULT 0, note text);"
        "INSERT INTO member{} SELECT n, n * 100, 'e' || n, 0 FROM generate_series(1, 11) n;" + _ddl
    ).replace("{}", f"_{_name}{{}}")
for _name, _action in ACTIONS.items():
    SCHEMAS[f"customer_{_name}"] = (
        "CREATE TABLE customer{} (id int PRIMARY KEY); CREATE TABLE purchase{} (id int PRIMARY KEY, sum int, "
        f"customer_id int NOT NULL REFERENCES customer{{}} ON DELETE {_action}); INSERT INTO customer{{}} VALUES (5), (6)"
    ).replace("{}", f"_{_name}{{}}")
#: Tried with either side as the first.
TWICE = ("seat", "folder", "message", "author", "project", *(f"customer_{name}" for name in ACTIONS))
PLAIN = "CREATE FUNCTION plain(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower(t)'"
FOLDED = "CREATE FUNCTION folded(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN plain(t); END'"
REMEDY = "ALTER FUNCTION folded(text) SET search_path = public"


def failed_checks(pair: Pair) -> list[Check]:
    """What preflight refuses."""
    return [check for check in preflight.run(pair.settings).checks if check.status == "fail"]


@pytest.fixture(scope="module")
def refused(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pair, list[Check]]]:
    """All tables on the source, one with an index on a function that cannot be applied, and what preflight said to that."""
    directory: Path = tmp_path_factory.mktemp("reported")
    with pairs(source_server, target_server, directory) as make:
        made = make(rows=None)
        for connection in (made.source, made.target):
            # What the tables need and do not bring along.
            connection.execute(
                "CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext; GRANT USAGE ON SCHEMA ext TO PUBLIC"
            )
            connection.execute(f"{PLAIN}; {FOLDED}".encode())
        statements = [
            ddl.replace("{}", f"_{side}" if name in TWICE else "")
            for name, ddl in SCHEMAS.items()
            for side in (BOTH if name in TWICE else BOTH[:1])
        ]
        for statement in statements:
            made.source.execute(statement.encode())
        made.config(
            tables=re.findall(r"CREATE TABLE (\w+)", " ".join(statements)), referencedTables=[], droppedForeignKeys=[]
        )
        yield made, failed_checks(made)


@pytest.fixture(scope="module")
def pair(refused: tuple[Pair, list[Check]]) -> Pair:
    """One pair for the whole module, replicated both ways after what preflight asked for."""
    made, _ = refused
    for connection in (made.source, made.target):
        connection.execute(REMEDY.encode())
    assert failed_checks(made) == []
    assert schema.apply(made.settings).match
    copy.run(made.settings)
    replicate.start(made.settings)
    return made


class Writing:
    """What one test writes into its tables, `{}` in a statement being its variant."""

    def __init__(self, pair: Pair, variant: str = "") -> None:
        self.pair, self.variant = pair, variant

    def source(self, statement: str) -> None:
        """A write of the monolith."""
        self.pair.source.execute(statement.replace("{}", self.variant).encode())

    def target(self, statement: str) -> None:
        """A write of the Task Service."""
        self.pair.target.execute(statement.replace("{}", self.variant).encode())

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A transaction a side, both written before either commits: neither knows of the other."""
        with self.pair.source.transaction(), self.pair.target.transaction():
            yield

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows that a query answers on both sides, which are the same, in order."""
        found = query.replace("{}", self.variant).encode()
        here, there = (
            sorted(connection.execute(found).fetchall()) for connection in (self.pair.source, self.pair.target)
        )
        assert here == there
        return here

    def told(self, *tables: str) -> list[tuple[str, tuple[str, ...], str, dict[str, str | None]]]:
        """After a fence: each lost write of these tables, without the variant: table, key, kind, values."""
        fence.both(self.pair.settings, 60)
        lost = []
        for connection in (self.pair.source, self.pair.target):
            for table, key, kind, values in connection.execute(
                "SELECT table_name, key, kind, lost FROM task_migration.conflicts WHERE table_name = ANY(%s) ORDER BY id",
                ([f"{table}{self.variant}" for table in tables],),
            ):
                lost.append(
                    (table.removesuffix(self.variant), tuple(json.loads(key)), kind, json.loads(values or "{}"))
                )
        return lost


def by_side(pair: Pair, side: Side) -> tuple[Writing, Any, Any]:
    """The tables of the side's variant, how the side writes, and how the other one does."""
    mine = Writing(pair, f"_{side}")
    return (mine, mine.source, mine.target) if side == "source" else (mine, mine.target, mine.source)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_judged_as_postgresql_judges_it(pair: Pair, claim: str) -> None:
    """A unique index on (account_id, lower(email)) was read as one on account_id: ten rows of the target went."""
    _, clashing, free = CLAIMS[claim]
    it = Writing(pair, f"_{claim}")
    insert = "INSERT INTO member{} (id, account_id, email, kind) VALUES "
    it.source("UPDATE member{} SET account_id = 2000 WHERE id = 3")
    it.source(f"{insert} (20, {clashing})")
    assert it.told("member") == []
    assert len(it.rows("SELECT id FROM member{}")) == 12
    # What PostgreSQL allows to stand side by side is no conflict.
    it.target(f"{insert} (21, {free})")
    assert it.told("member") == []
    assert len(it.rows("SELECT id FROM member{}")) == 13
    # What it does not: one of two that did not know of each other stays, the other is told whole.
    it.source("DELETE FROM member{} WHERE id = 20")
    assert it.told("member") == []
    with it.at_once():
        it.source(f"{insert} (30, {clashing})")
        it.target(f"{insert} (31, {clashing})")
        it.target("UPDATE member{} SET note = 'kept' WHERE id = 5")
    ((_, key, kind, lost),) = it.told("member")
    (stays,) = it.rows("SELECT id FROM member{} WHERE id IN (30, 31)")
    assert kind == "unique claim"
    # The smaller key stays, on whichever side it was written (docs/architecture.md, 'Two writers of one row').
    assert (key, stays) == (("31",), (30,))
    assert str(lost["account_id"]) == clashing.partition(",")[0]
    assert it.rows("SELECT note FROM member{} WHERE id = 5") == [("kept",)]


def test_a_deferrable_claim_and_two_rows_that_swap(pair: Pair) -> None:
    """The worker stopped at ON CONFLICT, which cannot use it, or a swap in one transaction deleted one of the two rows."""
    it = Writing(pair)
    it.source("INSERT INTO item VALUES (7, 1, 7)")
    with it.at_once():
        it.source("UPDATE item SET pos = 2 WHERE id = 1")
        it.source("UPDATE item SET pos = 1 WHERE id = 2")
        it.target("UPDATE item SET title = 'beside' WHERE id = 1")
        # All of another part at once, as a drag and drop does.
        it.target("UPDATE item SET pos = 9 - pos WHERE id BETWEEN 3 AND 6")
    assert it.told("item") == []
    assert it.rows("SELECT id, pos, title FROM item ORDER BY id") == [
        (1, 2, "beside"),
        (2, 1, None),
        (3, 6, None),
        (4, 5, None),
        (5, 4, None),
        (6, 3, None),
        (7, 7, None),
    ]


def test_a_late_claim_that_two_rows_hold(pair: Pair) -> None:
    """Prevents a second rival that stays beside the row which won: what is checked late is checked by nobody where records are applied."""
    it = Writing(pair)
    with it.at_once():
        it.source("INSERT INTO booking VALUES (1, 3, 'stays')")
        it.target("INSERT INTO booking VALUES (2, 0, 'before'), (3, 6, 'after'), (4, 20, 'free')")
    assert sorted((key, kind, lost["note"]) for _, key, kind, lost in it.told("booking")) == [
        (("2",), "unique claim", "before"),
        (("3",), "unique claim", "after"),
    ]
    assert it.rows("SELECT id FROM booking") == [(1,), (4,)]


@SIDES
def test_a_leaf_before_its_node(pair: Pair, side: Side) -> None:
    """A row that refers to one that comes later in the same INSERT was skipped as a child of a parent that is gone."""
    it, write, _ = by_side(pair, side)
    write("INSERT INTO folder{} VALUES (30, 20), (20, 10), (10, 1)")
    assert it.told("folder") == []
    assert it.rows("SELECT id, parent_id FROM folder{} ORDER BY id") == [(1, None), (10, 1), (20, 10), (30, 20)]
    write("DELETE FROM folder{} WHERE id = 10")
    assert it.told("folder") == []
    assert it.rows("SELECT id FROM folder{}") == [(1,)]


@SIDES
def test_a_row_that_refers_to_itself(pair: Pair, side: Side) -> None:
    """The worker stopped with SQLSTATE 27000 at the deletion of a thread's first message."""
    it, write, _ = by_side(pair, side)
    write("DELETE FROM message{} WHERE id = 1")
    assert it.told("message") == []
    assert it.rows("SELECT id FROM message{}") == [(4,)]


@SIDES
def test_set_null_of_some_columns(pair: Pair, side: Side) -> None:
    """ON DELETE SET NULL (author_id) emptied the tenant too, which is NOT NULL: the worker stopped."""
    it, delete, add = by_side(pair, side)
    with it.at_once():
        delete("DELETE FROM author{} WHERE id = 1")
        # Not known to the deletion: its author is let go of as well, and that is told.
        add("INSERT INTO article{} VALUES (3, 1, 1)")
    ((table, key, kind, lost),) = it.told("author", "article")
    assert (table, key, kind, lost["author_id"]) == ("article", ("3",), "parent gone", "1")
    assert it.rows("SELECT id, tenant, author_id FROM article{} ORDER BY id") == [(1, 1, None), (2, 1, 2), (3, 1, None)]


@SIDES
@pytest.mark.parametrize("action", ACTIONS)
def test_a_child_of_a_parent_that_goes(pair: Pair, side: Side, action: str) -> None:
    """A purchase of a customer whom the other side deletes stayed without him, and verify said match."""
    it, delete, buy = by_side(pair, side)
    with it.at_once():
        delete(f"DELETE FROM customer_{action}{{}} WHERE id = 5")
        buy(f"INSERT INTO purchase_{action}{{}} VALUES (1, 99, 5), (2, 98, 6)")
    ((table, key, kind, lost),) = it.told(f"customer_{action}", f"purchase_{action}")
    assert (table, key, kind) == (f"purchase_{action}", ("1",), "parent gone")
    assert (lost["sum"], lost["customer_id"]) == ("99", "5")
    assert it.rows(f"SELECT id, customer_id FROM purchase_{action}{{}}") == [(2, 6)]
    assert it.rows(f"SELECT id FROM customer_{action}{{}}") == [(6,)]


@SIDES
def test_a_chain_of_cascades(pair: Pair, side: Side) -> None:
    """A card added to a board of a project that the other side deletes stayed, and the repair wrote the orphan back."""
    it, delete, add = by_side(pair, side)
    with it.at_once():
        delete("DELETE FROM project{} WHERE id = 1")
        add("INSERT INTO board{} VALUES (3, 1)")
        add("INSERT INTO card{} VALUES (3, 'on the old board', 1), (4, 'on the new one', 3), (5, 'free', 2)")
        add("UPDATE card{} SET title = 'edited' WHERE id = 1")
    lost = it.told("project", "board", "card")
    assert it.rows("SELECT id FROM project{}") == [(2,)]
    assert it.rows("SELECT id FROM board{}") == [(2,)]
    assert it.rows("SELECT id FROM card{} ORDER BY id") == [(2,), (5,)]
    # Each once: the new board, the two cards, the edit of one that went with its board.
    assert sorted((table, key[0]) for table, key, _, _ in lost) == [
        ("board", "3"),
        ("card", "1"),
        ("card", "3"),
        ("card", "4"),
    ]


def test_a_claim_of_those_that_are_not_deleted(pair: Pair) -> None:
    """The same email on both sides, unique where deleted_at is NULL: both were dropped, or the mend failed with 23505."""
    it = Writing(pair)
    with it.at_once():
        it.source("INSERT INTO person VALUES (10, 'a@x', NULL, 'source')")
        it.target("INSERT INTO person VALUES (11, 'a@x', NULL, 'target'), (12, 'b@x', '2021-01-01', NULL)")
    ((_, key, kind, lost),) = it.told("person")
    (stays,) = it.rows("SELECT id FROM person WHERE email = 'a@x' AND deleted_at IS NULL")
    assert kind == "unique claim"
    assert {stays[0], int(key[0])} == {10, 11}
    assert lost["name"] == {10: "source", 11: "target"}[int(key[0])]
    # Restored on one side while the other gives the address to somebody else.
    it.source("UPDATE person SET deleted_at = now() WHERE id = 2")
    assert len(it.told("person")) == 1
    with it.at_once():
        it.source("UPDATE person SET deleted_at = NULL WHERE id = 2")
        it.target("INSERT INTO person VALUES (13, 'b@x', NULL, 'new')")
    assert len(it.told("person")) == 2
    assert len(it.rows("SELECT id FROM person WHERE email = 'b@x' AND deleted_at IS NULL")) == 1


def test_a_replica_identity_of_another_index(pair: Pair) -> None:
    """REPLICA IDENTITY USING INDEX on the source stopped the worker, and `status` named a wrong cause."""
    it = Writing(pair)
    with it.at_once():
        it.source("UPDATE device SET serial = 'a2' WHERE id = 1")
        it.target("UPDATE device SET note = 'beside' WHERE id = 1")
        it.source("DELETE FROM device WHERE id = 2")
        it.target("INSERT INTO device VALUES (4, 'd')")
    assert it.told("device") == []
    assert it.rows("SELECT id, serial, note FROM device ORDER BY id") == [
        (1, "a2", "beside"),
        (3, "c", None),
        (4, "d", None),
    ]


@SIDES
def test_a_key_that_is_checked_late(pair: Pair, side: Side) -> None:
    """Rows that swap their keys, or have the same one for a while: the deletion of the old one was the newest of the key's records."""
    it, write, other = by_side(pair, side)
    write("UPDATE seat{} SET id = 4 - id WHERE id < 4")
    other("UPDATE seat{} SET w = 'edited' WHERE id = 4")
    assert it.told("seat") == []
    assert it.rows("SELECT id, v FROM seat{} ORDER BY id") == [(1, "c"), (2, "b"), (3, "a"), (4, "d")]
    write(
        "BEGIN; INSERT INTO seat{} VALUES (1, 'new'); UPDATE seat{} SET w = 'kept' WHERE v = 'c'; DELETE FROM seat{} WHERE v = 'new'; COMMIT"
    )
    write(
        "BEGIN; INSERT INTO seat{} VALUES (2, 'new'); UPDATE seat{} SET w = 'gone' WHERE v = 'b'; DELETE FROM seat{} WHERE v = 'b'; COMMIT"
    )
    write("BEGIN; INSERT INTO seat{} VALUES (3, 'late'); UPDATE seat{} SET id = 9 WHERE v = 'late'; COMMIT")
    assert it.told("seat") == []
    assert it.rows("SELECT id, v, w FROM seat{} ORDER BY id") == [
        (1, "c", "kept"),
        (2, "new", None),
        (3, "a", None),
        (4, "d", "edited"),
        (9, "late", None),
    ]


def test_a_key_that_is_computed(pair: Pair) -> None:
    """A generated column as the key: all rows were copied, and verify refused them."""
    it = Writing(pair)
    with it.at_once():
        it.source("UPDATE twice SET v = 'edited' WHERE id = 2")
        it.source("DELETE FROM twice WHERE id = 4")
        it.target("UPDATE twice SET x = 3 WHERE id = 2")
        it.target("INSERT INTO half VALUES (3, 4)")
    assert {(table, kind) for table, _, kind, _ in it.told("twice", "half")} == {
        ("twice", "update of deleted"),
        ("half", "parent gone"),
    }
    assert it.rows("SELECT id, x FROM twice") == [(6, 3)]
    assert it.rows("SELECT id FROM half") == []


def test_columns_named_as_the_rules_name_things(pair: Pair) -> None:
    """A column `_key` was read in the place of the rules' own `_key`: the worker stopped with 42846."""
    it = Writing(pair)
    with it.at_once():
        it.source("UPDATE named SET _key = 'c', _vals = '{\"_key\": 1}', t = 'T' WHERE id = 1")
        it.target("UPDATE named SET _row = 'r', n = 'N', key = 'k' WHERE id = 1")
        it.target("INSERT INTO part VALUES (9, 2)")
    assert it.told("named", "part") == []
    assert it.rows("SELECT id, _key, _vals, _row, t, n, key FROM named ORDER BY id")[0] == (
        1,
        "c",
        {"_key": 1},
        "r",
        "T",
        "N",
        "k",
    )
    with it.at_once():
        it.source("INSERT INTO named (id, _key, t) VALUES (3, 'd', 'X')")
        it.target("INSERT INTO named (id, _key, t) VALUES (4, 'd', 'x')")
        it.source("DELETE FROM named WHERE id = 2")
    ((table, _, kind, _),) = it.told("named", "part")
    assert (table, kind) == ("named", "unique claim")
    assert it.rows("SELECT _key, _vals FROM part") == [(7, 1)]


def test_a_function_without_a_search_path_is_refused(refused: tuple[Pair, list[Check]]) -> None:
    """An index on a function that calls another without its schema stopped the worker: preflight names it, and what to do."""
    found, tried = refused[1]
    assert (found.name, tried.name) == ("source: functions without a search_path", "source: write word")
    assert "folded" in found.detail
    assert "SET search_path" in str(found.remedy)


def test_an_index_on_a_function_with_its_search_path(pair: Pair) -> None:
    """The remedy of preflight leads on: the claim is judged by the function."""
    it = Writing(pair)
    with it.at_once():
        it.source("INSERT INTO word VALUES (2, 'B')")
        it.target("INSERT INTO word VALUES (3, 'b'), (4, 'C')")
    ((_, key, kind, lost),) = it.told("word")
    assert kind == "unique claim"
    assert (key[0], lost["t"]) in (("2", "B"), ("3", "b"))
    assert len(it.rows("SELECT id FROM word")) == 3


def test_a_key_of_an_extensions_type(pair: Pair) -> None:
    """Its `=` stands outside pg_catalog: the worker had no such operator, and stopped."""
    it = Writing(pair)
    with it.at_once():
        it.source("UPDATE place SET name = 'house' WHERE name = 'home'")
        it.target("UPDATE place SET note = 'beside' WHERE name = 'home'")
        it.target("INSERT INTO place VALUES ('[5,6]', 'school')")
    it.source("DELETE FROM place WHERE name = 'work'")
    assert it.told("place", "visit") == []
    assert it.rows("SELECT at::text, name, note FROM place ORDER BY 1") == [
        ("[1,2]", "house", "beside"),
        ("[5,6]", "school", None),
    ]
    it.target("DELETE FROM place WHERE name = 'house'")
    assert it.told("place", "visit") == []
    assert it.rows("SELECT id FROM visit") == []


def test_all_of_it_is_equal_in_the_end(pair: Pair) -> None:
    """No worker stopped, and verify, which looks at the keys inside the tables too, finds nothing."""
    found = verify.run(pair.settings)
    assert found.match, [table for table in found.tables if not table.match]
    state = replicate.status(pair.settings)
    assert state.forward.running, state
    assert state.reverse.running, state
