"""Why a write cannot be applied is named by its true cause, also what shows at its transaction's end alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from psycopg import sql

from scripts.database.sides import open_side
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import diagnosis, fence
from scripts.replication import run as replicate
from scripts.support.wait import wait_until
from scripts.verify import run as verify
from tests.conftest import Pair, pairs
from tests.integration.test_chain import count
from tests.integration.verify.test_verify import bare, flow

RAISES = (
    "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''55000'', MESSAGE = ''not today''; END';"
    "CREATE {} ON item FOR EACH ROW EXECUTE FUNCTION no(); ALTER TABLE item ENABLE ALWAYS TRIGGER t"
)
#: Of a row that lets go of its parent.
HELD = RAISES.format("TRIGGER t BEFORE INSERT OR UPDATE").replace("ROW EXECUTE", "ROW WHEN (NEW.k IS NULL) EXECUTE")
UNSEEN = "BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL task_migration.applying = 'on'; {}; COMMIT"
UNRAISED = "DROP TRIGGER t ON item; DROP FUNCTION no()"
WRITE = "UPDATE item SET n = n + 1, t = t || 'x' WHERE id = 1"


class Cause(NamedTuple):
    """What is done on the target, how it is undone, what the source writes, and what is told of it."""

    done: str
    undone: str
    told: str
    write: str = WRITE


CAUSES = {
    "check": Cause("ALTER TABLE item ADD CONSTRAINT few CHECK (n < 5) NOT VALID", "ALTER TABLE item DROP CONSTRAINT few",
        r'UPDATE of item \(id=1\): new row for relation "item" violates check constraint "few" \(SQLSTATE 23514'),
    "column": Cause("ALTER TABLE item RENAME t TO u", "ALTER TABLE item RENAME u TO t",
        r"UPDATE of item \(id=1\): column .*\bt\b.* does not exist \(SQLSTATE 42703"),
    "type": Cause("ALTER TABLE item ALTER w TYPE int USING NULL", "ALTER TABLE item ALTER w TYPE text",
        r"UPDATE of item \(id=1\): CASE types integer and text cannot be matched \(SQLSTATE 42804", "UPDATE item SET w = 'x' WHERE id = 1"),
    "not null": Cause("ALTER TABLE item ALTER r SET NOT NULL", "ALTER TABLE item ALTER r DROP NOT NULL",
        r'UPDATE of item \(id=2\): null value in column "r" of relation "item" violates not-null constraint \(SQLSTATE 23502',
        "UPDATE item SET r = NULL WHERE id = 2"),
    "function": Cause("ALTER FUNCTION other(text) RENAME TO gone", "ALTER FUNCTION gone(text) RENAME TO other",
        r"UPDATE of item \(id=1\): function public.other\(text\) does not exist \(SQLSTATE 42883"),
    "too large": Cause("CREATE INDEX wide ON item (w)", "DROP INDEX wide",
        r'UPDATE of item \(id=1\): index row requires 16016 bytes, maximum size is 8191 \(SQLSTATE 54000',
        "UPDATE item SET w = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i) WHERE id = 1"),
    # An apply worker works as the owner of the table that it writes to, whoever asks.
    "permission": Cause("ALTER TABLE task_migration.source_writes OWNER TO task_service_user", "ALTER TABLE task_migration.source_writes OWNER TO CURRENT_USER",
        r"UPDATE of item \(id=1\): permission denied for schema task_migration \(SQLSTATE 42501"),
    "trigger": Cause(RAISES.format("TRIGGER t BEFORE UPDATE"), UNRAISED,
        r"UPDATE of item \(id=1\): ObjectNotInPrerequisiteState: raised by public.no\(\) "),
    "trigger at the end": Cause(RAISES.format("CONSTRAINT TRIGGER t AFTER UPDATE").replace("ON item FOR", "ON item DEFERRABLE INITIALLY DEFERRED FOR"), UNRAISED,
        r"UPDATE of item \(id=1\): at its transaction's end: ObjectNotInPrerequisiteState: raised by public.no\(\)"),
    # The rules let go of a parent that is not there, when the transaction ends and not with a part of it.
    "key at the end": Cause(f"{HELD}; {UNSEEN.format('DELETE FROM kind WHERE id = 9')}", f"{UNRAISED}; {UNSEEN.format('INSERT INTO kind VALUES (9)')}",
        r"UPDATE of item \(id=3\): at its transaction's end: ObjectNotInPrerequisiteState: raised by public.no\(\)",
        "BEGIN; UPDATE plain SET n = 5; SAVEPOINT one; UPDATE item SET k = 9 WHERE id = 3; RELEASE one; UPDATE plain SET n = 6; COMMIT"),
}  # fmt: skip


@pytest.fixture(scope="module")
def replicated(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Replicated both ways."""
    with pairs(source_server, target_server, tmp_path_factory.mktemp("causes")) as make:
        made = bare(
            make,
            ["item", "kind", "plain"],
            "CREATE FUNCTION other(t text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT t'",
            "CREATE FUNCTION folded(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN public.other(t); END'",
            "CREATE TABLE kind (id int PRIMARY KEY)",
            "CREATE TABLE plain (id int PRIMARY KEY, n int)",
            "CREATE TABLE item (id int PRIMARY KEY, n int DEFAULT 0, t text, r text DEFAULT '', w text, k int DEFAULT 1 REFERENCES kind ON DELETE SET NULL)",
            "CREATE INDEX ON item (folded(t))",
            "INSERT INTO kind VALUES (1), (9)",
            "INSERT INTO plain VALUES (1, 0)",
            "INSERT INTO item (id, n, t) SELECT i, i * 10, '5' FROM generate_series(1, 3) i",
        )
        flow(made)
        yield made


@pytest.fixture
def pair(replicated: Pair) -> Pair:
    """The forward worker is switched off, and nothing waits that another test wrote."""
    switched(replicated, "ENABLE")
    fence.forward(replicated.settings, 40)
    switched(replicated, "DISABLE")
    return replicated


def switched(pair: Pair, how: str) -> None:
    """The forward subscription, and its worker gone when it is off."""
    name = sql.Identifier(pair.settings.config.subscription)
    pair.target.execute(sql.SQL("ALTER SUBSCRIPTION {} {}").format(name, sql.SQL(how)))
    if how == "DISABLE":
        worker = "SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL"
        wait_until(lambda: count(pair.target, worker), lambda left: left == 0, what="the worker to end", timeout=20)


def explained(pair: Pair) -> str:
    """What is told of why the forward worker is down."""
    with open_side(pair.settings, "target", "status") as subscriber:
        why, failing = diagnosis.explain(pair.source, subscriber, "source", schema="public", unreachable=lambda: None)
    assert (failing is None) == ("tried on the subscriber" not in why)
    return why


@pytest.mark.parametrize("cause", CAUSES.values(), ids=CAUSES)
def test_the_cause_of_a_failing_write_is_named(pair: Pair, cause: Cause) -> None:
    """Prevents a night's search in the wrong place: what fails is tried as the worker would, to the end of its transaction."""
    pair.source.execute(cause.write.encode())
    assert "can be applied" in explained(pair)
    pair.target.execute(cause.done.encode())
    told = explained(pair)
    pair.target.execute(cause.undone.encode())
    assert re.match(cause.told, told)
    assert "can be applied" in explained(pair)


def test_a_part_of_a_transaction_is_not_judged_alone(pair: Pair) -> None:
    """Prevents a cause that is none: a child written before its parent, under a savepoint of its own."""
    pair.target.execute(HELD.encode())
    pair.source.execute(
        "BEGIN; ALTER TABLE item ALTER CONSTRAINT item_k_fkey DEFERRABLE INITIALLY DEFERRED; SAVEPOINT one; "
        "INSERT INTO item (id, k) VALUES (20, 30); RELEASE one; INSERT INTO kind VALUES (30); COMMIT"
    )
    assert "can be applied" in explained(pair)
    pair.target.execute(UNRAISED.encode())


@pytest.mark.last
def test_status_names_what_the_worker_fails_at_when_its_transaction_ends(pair: Pair) -> None:
    """Prevents `the cause has passed` while the worker fails again and again; once mended, the worker goes on by itself."""
    cause = CAUSES["trigger at the end"]
    pair.source.execute(cause.write.encode())
    pair.target.execute(cause.done.encode())
    switched(pair, "ENABLE")
    wait_until(
        lambda: replicate.status(pair.settings, fence_timeout=0.2).forward.reason or "",
        lambda reason: "at its transaction's end: ObjectNotInPrerequisiteState: raised by public.no()" in reason,
        what="the cause",
        timeout=20,
    )
    pair.target.execute(cause.undone.encode())
    pair.source.execute("ALTER TABLE item ALTER CONSTRAINT item_k_fkey NOT DEFERRABLE")
    fence.both(pair.settings, 20)
    assert verify.run(pair.settings).match
