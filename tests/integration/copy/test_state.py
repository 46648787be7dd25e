"""What a copy finds of an earlier one, and what keeps it from beginning: two databases, no row moved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from scripts.copy import slot as slots
from scripts.copy import state
from scripts.copy.documents import Copied
from scripts.database import catalog, helper_schema
from scripts.database.helper_schema import COPY
from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.schema import run as schema
from scripts.schema.documents import Difference
from scripts.support.errors import Refused
from tests.conftest import Pair, pairs, slot_lost

MADE = [["key", "one", "one_pkey"]]
COMPLETE = {
    "status": "complete",
    "run": "r",
    "at": "2026-01-01",
    "made": MADE,
    "tables": [{"table": "one"}, {"table": "two"}],
}


@pytest.fixture(scope="module")
def module_pair(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    with pairs(source_server, target_server, tmp_path_factory.mktemp("state")) as make:
        made = make(rows=None, tables=["one", "two"], referencedTables=[], sequenceBandStart=1000)
        made.source.execute("CREATE TABLE one (id serial PRIMARY KEY, t text); CREATE TABLE two (id int PRIMARY KEY)")
        assert schema.apply(made.settings).match
        helper_schema.install(made.target)
        yield made


@pytest.fixture
def pair(module_pair: Pair) -> Iterator[Pair]:
    """Nothing of an earlier copy, and nothing left behind."""
    yield module_pair
    config = module_pair.settings.config
    module_pair.config(tables=["one", "two"])
    slots.drop_leftover(module_pair.source, config.subscription)
    for side in (module_pair.source, module_pair.target):
        side.execute("TRUNCATE one, two")
        side.execute("SELECT setval('one_id_seq', 1, false)")
    module_pair.target.execute("DELETE FROM task_migration.settings")


def found(pair: Pair) -> state.Earlier:
    tables = catalog.read(pair.source, "public", ["one", "two"], "source")
    return state.find(pair.settings, pair.source, pair.target, tables)


def slot(pair: Pair) -> None:
    pair.source.execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (pair.settings.config.subscription,)
    )


def subscribed(pair: Pair) -> None:
    name = pair.settings.config.subscription
    pair.target.execute(
        f"CREATE SUBSCRIPTION {name} CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)".encode()
    )


def put(pair: Pair, value: Any) -> None:
    helper_schema.put(pair.target, COPY, value)


def test_what_is_left_of_an_earlier_copy_is_told(pair: Pair) -> None:
    """Prevents a copy that begins anew beside a good one, and keys of an unfinished one that nobody takes away."""
    name = pair.settings.config.subscription
    assert found(pair) == state.Earlier("nothing of an earlier copy", None, [])
    put(pair, {"status": "rows", "made": MADE})
    assert found(pair) == state.Earlier(
        "an unfinished copy (slot not there, rows in no table): its snapshot is lost with it, so the copy starts anew",
        None,
        MADE,
    )
    put(pair, COMPLETE)
    gone = found(pair)
    assert (gone.complete, gone.made) == (None, MADE)
    assert (
        gone.found == "a complete copy whose slot is gone (slot: none): its snapshot is lost, so the copy starts anew"
    )
    slot(pair)
    put(pair, {"status": "rows", "made": MADE})
    pair.target.execute("INSERT INTO two VALUES (1)")
    assert found(pair).found.startswith("an unfinished copy (slot left over, rows in two): its")
    pair.target.execute("TRUNCATE two")
    put(pair, None)
    assert found(pair).found == f"nothing of an earlier copy; a leftover slot {name} is dropped"


def test_a_complete_copy_whose_slot_was_given_up_is_none(pair: Pair) -> None:
    """Prevents a replication that is started on a copy whose later changes the source has thrown away (max_slot_wal_keep_size)."""
    slot(pair)
    put(pair, COMPLETE)
    with slot_lost(pair.source, pair.settings.config.subscription):
        pass
    anew = found(pair)
    assert (anew.complete, anew.made) == (None, MADE)
    assert anew.found.startswith("a complete copy whose slot is gone (slot: ")
    assert anew.found.endswith("its snapshot is lost, so the copy starts anew")


def test_a_good_copy_is_left_as_it_is(pair: Pair) -> None:
    """Prevents a second `copy` that drops the slot which replication reads, and facts that are not those of the first."""
    slot(pair)
    copied = Copied(slot="s", lsn="0/1", snapshot="x", tables=[], sequences=[], seconds=3.0)
    facts = {**copied.model_dump(mode="json"), "status": "complete", "run": "r", "at": "2026-01-01", "made": MADE}
    put(pair, facts)
    kept = found(pair)
    assert (
        kept.found
        == "a copy complete since 2026-01-01; its slot waits for `task-migration replicate start`; nothing was changed"
    )
    assert kept.complete == copied
    assert kept.made == MADE
    subscribed(pair)
    try:
        assert (
            found(pair).found == "a copy complete since 2026-01-01; replication runs from its slot; nothing was changed"
        )
        for left in ({"status": "rows", "made": MADE}, None):
            put(pair, left)
            with pytest.raises(
                Refused, match=r"was started but no good copy with its slot is there \(slot: .*rollback --abandon"
            ):
                found(pair)
        slots.drop_leftover(pair.source, pair.settings.config.subscription)
        put(pair, COMPLETE)
        with pytest.raises(Refused, match=r"no good copy with its slot is there \(slot: none\)"):
            found(pair)
    finally:
        name = pair.settings.config.subscription
        pair.target.execute(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)".encode())
        pair.target.execute(f"DROP SUBSCRIPTION {name}".encode())


def test_rows_that_are_nobodys_are_not_taken_for_a_copys(pair: Pair) -> None:
    """Prevents a copy that empties tables of the target which somebody else filled."""
    pair.target.execute("INSERT INTO two VALUES (1)")
    with pytest.raises(
        Refused, match=r"^the target's two hold rows that no copy.*TRUNCATE one, two on the target yourself$"
    ):
        found(pair)
    assert pair.target.execute("SELECT * FROM two").fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("copied", "tables", "differs"),
    [
        (["one", "two"], ["two", "one"], False),
        (["one"], ["one", "two"], True),
        (["one", "two"], ["two"], True),
        ([], ["two"], False),
    ],
)
def test_a_copy_of_other_tables_is_none_of_these(
    pair: Pair, copied: list[str], tables: list[str], differs: bool
) -> None:
    """Prevents a table whose rows were never copied, and one that is taken out while its writes go on travelling."""
    pair.config(tables=tables)
    kept = {**COMPLETE, "tables": [{"table": name} for name in copied]}
    said = state.other_tables(kept, pair.settings.config)
    assert said == (
        f"the copy took {', '.join(copied)}; `tables` names {', '.join(tables)}: put it back as it was, or give this attempt up "
        "(`task-migration rollback --abandon`) and copy again"
        if differs
        else None
    )
    assert state.other_tables(None, pair.settings.config) is None
    if differs:
        put(pair, kept)
        with pytest.raises(Refused, match="^the copy took"):
            found(pair)


def refusal(pair: Pair, made: state.Made | None = None) -> str | None:
    tables = catalog.read(pair.source, "public", pair.settings.config.tables, "source")
    try:
        state.check(pair.settings, pair.source, pair.target, tables, made or [])
    except Refused as error:
        return str(error)
    return None


def test_ids_of_the_two_sides_never_meet(pair: Pair) -> None:
    """Prevents a source whose next id is one of the target's, at the limit itself, and a target whose band has no room."""
    assert refusal(pair) is None
    for value, begins in (
        (999, None),
        (1000, "sequence one_id_seq stands at 1000"),
        (1001, "sequence one_id_seq stands at 1001"),
    ):
        pair.source.execute("SELECT setval('one_id_seq', %s)", (value,))
        said = refusal(pair)
        assert (said is None) if begins is None else (said or "").startswith(begins)
    pair.source.execute("SELECT setval('one_id_seq', 1, false)")
    for maximum, refused in ((1001, False), (1000, True)):
        for side in (pair.source, pair.target):
            side.execute(f"ALTER SEQUENCE one_id_seq MAXVALUE {maximum}".encode())
        said = refusal(pair)
        assert (said or "").startswith("sequence one_id_seq ends at 1000") == refused, said
    for side in (pair.source, pair.target):
        side.execute("ALTER SEQUENCE one_id_seq MAXVALUE 2147483647")


def test_what_a_copy_cannot_mend_itself_keeps_it_from_beginning(pair: Pair) -> None:
    """Prevents rows that are moved into tables of another shape, lost at a crash, or that no update finds."""
    drop: Callable[[str], object] = lambda statement: pair.target.execute(statement.encode())  # noqa: E731
    # The keys come after the rows. A check that only the target has is a copy's own, or somebody else's.
    assert refusal(pair) is None
    drop("ALTER TABLE two ADD CONSTRAINT mine CHECK (id > 0)")
    assert (refusal(pair) or "").startswith("the two schemas differ, no row was moved; mend them, then copy again:\n")
    assert refusal(pair, [["check", "two", "mine"]]) is None
    drop("ALTER TABLE two DROP CONSTRAINT mine; ALTER TABLE two ADD COLUMN more int")
    assert "mend them" in (refusal(pair, [["column", "two", "more"]]) or "")
    drop("ALTER TABLE two DROP COLUMN more; ALTER TABLE two SET UNLOGGED")
    said = refusal(pair) or ""
    assert "two" in said
    drop("ALTER TABLE two SET LOGGED; ALTER TABLE two RENAME TO three")
    assert (refusal(pair) or "").startswith(
        "the two schemas differ, no row was moved; the target has no table two: run `task-migration schema apply`, then copy again:\n"
    )
    drop("ALTER TABLE three RENAME TO two")
    for side in (pair.source, pair.target):
        side.execute("ALTER TABLE two SET UNLOGGED")
    assert (refusal(pair) or "").startswith("two on the source, two on the target: unlogged, so")
    for side in (pair.source, pair.target):
        side.execute("ALTER TABLE two SET LOGGED")
        side.execute("CREATE TABLE keyless (id int)")
    pair.config(tables=["one", "two", "keyless"])
    assert (refusal(pair) or "").startswith("keyless: no primary key")


@pytest.mark.parametrize(
    ("kind", "there", "name", "own"),
    [
        ("constraint", None, "c", True), ("index", None, "i", True), ("trigger", None, "t", True), ("column", None, "c", False),
        ("constraint", "CHECK", "ours", True), ("index", "INDEX", "theirs", False), ("table", "x", "ours", False),
    ],
)  # fmt: skip
def test_a_copy_mends_what_it_adds_or_has_added(kind: Any, there: str | None, name: str, own: bool) -> None:
    """Prevents a refusal for a key that the copy itself makes last, and rows behind a constraint that only the target has."""
    difference = Difference(kind=kind, table="t", name=name, source="x", target=there, sql="")
    assert state._made_here(difference, [["key", "t", "ours"]]) is own
