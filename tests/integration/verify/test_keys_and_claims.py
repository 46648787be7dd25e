"""`verify` and `--repair` with keys and unique claims of every kind: nothing is written that breaks one, and nothing is lost for it.

One chain holds all tables. Each rule has a round: damage of all kinds at once, on rows of its own, one repair, and what is left to a person done
as the sentence says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import psycopg
import pytest

from scripts.copy import run as copy
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import fence
from scripts.replication import run as replicate
from scripts.schema import run as schema
from scripts.support.sides import Side
from scripts.verify import run as verify
from scripts.verify.documents import Verification
from tests.conftest import Pair, pairs, unseen
from tests.integration.conflict_log import told

CLAIMS = {
    "plain": "ALTER TABLE plain ADD UNIQUE (email)",
    "late": "ALTER TABLE late ADD UNIQUE (email) DEFERRABLE INITIALLY DEFERRED",
    "expr": "CREATE UNIQUE INDEX ON expr (lower(email))",
    "cond": "CREATE UNIQUE INDEX ON cond (email) WHERE kind = 0",
    "nulls": "ALTER TABLE nulls ADD UNIQUE NULLS NOT DISTINCT (kind, email)",
    "excl": "ALTER TABLE excl ADD EXCLUDE USING gist (int4range(n, n + 5) WITH &&)",
    "whole": "CREATE UNIQUE INDEX ON whole (said(whole))",
    "made": 'ALTER TABLE made ADD "g%" text GENERATED ALWAYS AS (email || kind) STORED UNIQUE',
}
#: The fourth's email is NULL, as NULLS NOT DISTINCT takes it for a value.
TABLE = (
    "CREATE TABLE {} (id int PRIMARY KEY, email text, kind int NOT NULL DEFAULT 0, n int NOT NULL, updated_at timestamp);"
    "INSERT INTO {} SELECT i, CASE WHEN i <> 4 THEN 'e' || i END, 0, i * 10, '2020-01-01' FROM generate_series(1, 9) i;"
)
SAID = "CREATE FUNCTION said(whole) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).email'"
KEYS = """
CREATE TABLE parent (id int PRIMARY KEY, code text UNIQUE);
CREATE TABLE goes (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE);
CREATE TABLE lets (id int PRIMARY KEY, p text REFERENCES parent (code) ON DELETE SET NULL);
CREATE TABLE needs (id int PRIMARY KEY, p int REFERENCES parent);
CREATE TABLE must (id int PRIMARY KEY, p int NOT NULL REFERENCES parent ON DELETE SET NULL);
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree ON DELETE CASCADE);
CREATE TABLE one (id int PRIMARY KEY, other int);
CREATE TABLE two (id int PRIMARY KEY, other int REFERENCES one);
ALTER TABLE one ADD FOREIGN KEY (other) REFERENCES two DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE placed (at ext.vector(2) PRIMARY KEY, note text);
CREATE TABLE visit (id int PRIMARY KEY, at ext.vector(2) REFERENCES placed);
CREATE TABLE thing (id int PRIMARY KEY, owner int REFERENCES o.owner, s int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE old (id int PRIMARY KEY, p int, CONSTRAINT old_p FOREIGN KEY (p) REFERENCES parent NOT VALID);
CREATE TABLE pair (a int, b int, PRIMARY KEY (a, b));
CREATE TABLE full_ (id int PRIMARY KEY, a int, b int, CONSTRAINT full_pair FOREIGN KEY (a, b) REFERENCES pair MATCH FULL);
"""
ROWS = """
INSERT INTO o.owner SELECT generate_series(1, 9);
INSERT INTO parent SELECT i, 'c' || i FROM generate_series(1, 19) i;
INSERT INTO goes SELECT i, i FROM generate_series(1, 9) i;
INSERT INTO lets SELECT i, 'c' || i FROM generate_series(1, 9) i;
INSERT INTO needs SELECT i, i FROM generate_series(1, 9) i;
INSERT INTO must SELECT i, i FROM generate_series(1, 9) i;
INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, 4), (5, NULL), (6, 5);
BEGIN; INSERT INTO one VALUES (1, 1), (2, 2), (3, 3); INSERT INTO two VALUES (1, 1), (2, 2), (3, 3); COMMIT;
INSERT INTO placed VALUES ('[1,2]', 'x'), ('[3,4]', 'y'), ('[5,6]', 'z');
INSERT INTO visit VALUES (1, '[1,2]'), (2, '[3,4]'), (3, '[5,6]');
INSERT INTO thing SELECT i, i FROM generate_series(1, 9) i;
INSERT INTO pair VALUES (1, 1);
INSERT INTO full_ VALUES (1, 1, 1), (2, NULL, NULL);
ALTER TABLE old DROP CONSTRAINT old_p; INSERT INTO old VALUES (1, 19), (2, 77);
ALTER TABLE old ADD CONSTRAINT old_p FOREIGN KEY (p) REFERENCES parent NOT VALID;
CREATE TABLE stay (id int PRIMARY KEY, thing int REFERENCES thing); INSERT INTO stay VALUES (1, 1);
"""
TABLES = [*CLAIMS, *re.findall(r"CREATE TABLE (\w+)", KEYS)]
#: Damage of the target that either side's word mends: two and three rows that changed values, a value that passed to another row while
#: its row went, another key for the same row; children that moved with and without their parents; self references and cycles of keys.
MENDED = [
    "UPDATE {t} SET email = 'x', n = 1000 WHERE id = 1; UPDATE {t} SET email = 'e1', n = 10 WHERE id = 2; "
    "UPDATE {t} SET email = NULL, n = 20 WHERE id = 3 AND false; UPDATE {t} SET email = 'e2', n = 20 WHERE id = 3; "
    "UPDATE {t} SET email = 'e3', n = 30 WHERE id = 1",
    "DELETE FROM {t} WHERE id = 4; UPDATE {t} SET email = NULL, n = 40 WHERE id = 5; UPDATE {t} SET id = 101 WHERE id = 6",
]  # fmt: skip
MOVED = """
DELETE FROM parent WHERE id = 1; DELETE FROM goes WHERE id = 1; DELETE FROM lets WHERE id = 1; DELETE FROM needs WHERE id = 1; DELETE FROM must WHERE id = 1;
INSERT INTO parent VALUES (20, 'c20'); UPDATE goes SET p = 20 WHERE id = 2; UPDATE lets SET p = 'c20' WHERE id = 2;
UPDATE needs SET p = 20 WHERE id = 2; UPDATE must SET p = 20 WHERE id = 2;
DELETE FROM tree WHERE id = 4; INSERT INTO tree VALUES (10, NULL); UPDATE tree SET up = 10 WHERE id IN (2, 6);
DELETE FROM one WHERE id = 1; DELETE FROM two WHERE id = 1; INSERT INTO two VALUES (7, 7); INSERT INTO one VALUES (7, 7);
DELETE FROM visit WHERE id = 1; DELETE FROM placed WHERE note = 'x'; UPDATE placed SET note = 'Y' WHERE note = 'y'; INSERT INTO placed VALUES ('[7,8]', 'w');
UPDATE visit SET at = '[7,8]' WHERE id = 3;
DELETE FROM thing WHERE id = 9; INSERT INTO thing OVERRIDING SYSTEM VALUE VALUES (9, 9, 1000);
"""


@pytest.fixture(scope="module")
def pair(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Replicated both ways."""
    with pairs(source_server, target_server, tmp_path_factory.mktemp("keys")) as make:
        made = make(rows=None)
        for connection in (made.source, made.target):
            connection.execute("CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext; CREATE SCHEMA o")
        made.source.execute("CREATE TABLE o.owner (id int PRIMARY KEY)")
        for name, claim in CLAIMS.items():
            own = f"{SAID};" if name == "whole" else ""
            made.source.execute(f"{TABLE.replace('{}', name)}{own}{claim}".encode())
        made.source.execute(f"{KEYS}{ROWS}".encode())
        made.config(tables=TABLES, referencedTables=["o.owner"], droppedForeignKeys=["thing_owner_fkey"])
        assert schema.apply(made.settings).match
        made.target.execute(SAID.encode())
        copy.run(made.settings)
        replicate.start(made.settings)
        yield made


def damage(pair: Pair, side: Side, *statements: str) -> None:
    """What happens outside of everything on one side."""
    with unseen(pair.source if side == "source" else pair.target) as one:
        for statement in statements:
            for name in CLAIMS if "{t}" in statement else [""]:
                one.execute(statement.replace("{t}", name).encode())


def rows(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """All rows as text."""
    return {
        name: [row[0] for row in connection.execute(f"SELECT t::text FROM {name} t ORDER BY 1".encode()).fetchall()]
        for name in TABLES
    }


def known(found: Verification) -> list[tuple[str, str, int]]:
    """The orphans that a key which is NOT VALID let pass; there are no others."""
    assert all(one.known for one in found.orphans), found.orphans
    return [(one.constraint, one.side, one.count) for one in found.orphans]


def test_what_dangles_alike_under_a_key_that_is_not_valid_is_told_and_spoils_nothing(pair: Pair) -> None:
    """Prevents an alarm about what a key never promised; and one side's own dangling row that hides behind it."""
    found = verify.run(pair.settings)
    assert found.match
    assert known(found) == [("old_p", "both", 1)]
    damage(pair, "target", "INSERT INTO old VALUES (3, 78)")
    found = verify.run(pair.settings)
    assert [(one.side, one.known, one.samples) for one in found.orphans] == [
        ("both", True, [{"p": "77"}]),
        ("target", False, [{"p": "78"}]),
    ]
    damage(pair, "target", "DELETE FROM old WHERE id = 3")


def test_a_part_of_a_key_is_judged_as_the_key_does_and_each_side_by_its_own_rows(pair: Pair) -> None:
    """Prevents a row under MATCH FULL that no INSERT could make, and a child without a parent on the source alone."""
    damage(pair, "source", "INSERT INTO full_ VALUES (3, 1, NULL), (4, 2, 2)")
    damage(pair, "target", "INSERT INTO full_ VALUES (3, 1, NULL)")
    found = verify.run(pair.settings)
    assert [(one.side, one.samples) for one in found.orphans if one.table == "full_"] == [
        ("both", [{"a": "1", "b": None}]),
        ("source", [{"a": "2", "b": "2"}]),
    ]
    for side in ("source", "target"):
        damage(pair, side, "DELETE FROM full_ WHERE id > 2")


def test_a_row_with_a_part_of_a_key_is_left_to_a_person(pair: Pair) -> None:
    """Prevents a repair that sends a row which the rules of the other side take away, on both sides."""
    damage(pair, "source", "INSERT INTO full_ VALUES (3, 1, NULL)")
    found = verify.run(pair.settings, repair="source")
    (said,) = found.undecided
    assert said.startswith("full_ 3 of the source refers to pair with a 1, b None, which the target has not")
    assert "(3,1,)" in rows(pair.source)["full_"]
    damage(pair, "source", "DELETE FROM full_ WHERE id = 3")
    assert verify.run(pair.settings).match


@pytest.mark.last
def test_rows_that_need_each_other_or_claim_the_same_are_repaired(pair: Pair) -> None:
    """Prevents rows that vanish on both sides, as the repair of one took away what another's key or claim needed."""
    before = told(pair.settings)
    rules: tuple[Literal["source", "target"], ...] = ("source", "target")  # the source's word leaves no damage
    for rule in rules:
        damage(pair, "target", *MENDED, MOVED)
        right = rows(pair.source if rule == "source" else pair.target)
        found = verify.run(pair.settings, repair=rule)
        assert (found.match, found.undecided, found.followed) == (True, [], []), rule
        assert verify.run(pair.settings).match
        assert rows(pair.source) == rows(pair.target) == right
    assert told(pair.settings) == before


def test_what_a_row_needs_decides_whether_it_goes(pair: Pair) -> None:
    """Prevents the deletion of rows that are equal on both sides, unsaid, and of those that their key keeps: a person decides."""
    damage(
        pair,
        "source",
        "DELETE FROM parent WHERE id IN (3, 4, 11); DELETE FROM goes WHERE id IN (3); DELETE FROM needs WHERE id IN (3, 4)",
    )
    damage(pair, "target", "DELETE FROM needs WHERE id IN (3, 4)")
    damage(pair, "target", "DELETE FROM must WHERE id = 3")
    damage(pair, "source", "DELETE FROM must WHERE id = 3")
    found = verify.run(pair.settings, repair="source")
    assert found.undecided == [
        "parent 4 is to go from the target, or to change, as the source has it, and must 4 there refers to parent with id 4: bring that back on "
        "the source, or change what refers to it, then verify again"
    ]
    assert sorted(found.followed) == ["lets 3 of both sides refers to parent 3, which goes, and lets go of it (p)"]
    assert not found.match
    assert rows(pair.source)["goes"] == rows(pair.target)["goes"]
    pair.source.execute("INSERT INTO parent VALUES (4, 'c4')")
    fence.both(pair.settings, 20)
    assert verify.run(pair.settings).match


def test_a_row_that_cannot_stand_on_the_other_side_is_not_sent(pair: Pair) -> None:
    """Prevents a row that the rules take away on both sides, as its parent in another schema is gone, or others refer to it."""
    damage(
        pair,
        "target",
        "INSERT INTO thing VALUES (50, 77); UPDATE parent SET code = 'z' WHERE id = 5; DELETE FROM thing WHERE id = 1",
    )
    held = rows(pair.source), rows(pair.target)
    found = verify.run(pair.settings, repair="target")
    assert sorted(found.undecided, reverse=True) == [
        "thing 50 of the target refers to o.owner with id 77, which the source has not and does not get: bring that row back, or change the one that "
        "refers to it, then verify again",
        "thing 1 is to go from the source, or to change, as the target has it, and a row of public.stay there refers to thing with id 1: bring that back "
        "on the target, or change what refers to it, then verify again",
        "parent 5 is to go from the source, or to change, as the target has it, and lets 5 there refers to parent with code c5: bring that back on the "
        "target, or change what refers to it, then verify again",
    ]
    assert (rows(pair.source), rows(pair.target)) == held
    damage(pair, "source", "INSERT INTO o.owner VALUES (77)")
    found = verify.run(pair.settings, repair="newest")
    assert (found.match, found.undecided) == (True, [])


def test_two_rows_that_both_claim_one_value_are_left_to_a_person(pair: Pair) -> None:
    """Prevents `--repair newest` from deleting a row on both sides: each side's newer one claims what the other's has."""
    damage(pair, "source", "UPDATE {t} SET email = 'y', n = 2000, updated_at = '2024-01-01' WHERE id = 7")
    damage(pair, "target", "UPDATE {t} SET email = 'y', n = 2000, updated_at = '2024-01-01' WHERE id = 8")
    held, before = (rows(pair.source), rows(pair.target)), told(pair.settings)
    found = verify.run(pair.settings, repair="newest")
    assert len(found.undecided) == len(CLAIMS)
    assert found.undecided[0] == (
        "plain 7 of the source and plain 8 of the target both claim plain_email_key (email), which one row may: change or delete the one that is "
        "wrong, then verify again"
    )
    assert (rows(pair.source), rows(pair.target)) == held
    for name in CLAIMS:
        pair.target.execute(f"UPDATE {name} SET email = 'e8', n = 80 WHERE id = 8".encode())
    found = verify.run(pair.settings, repair="newest")
    assert (found.match, found.undecided) == (True, [])
    assert told(pair.settings) == before
