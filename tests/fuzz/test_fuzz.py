"""The corpus, a fixed seed, and the judge, who sees what is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.writes import record
from tests.conftest import Pair, pairs
from tests.fuzz import case as cases
from tests.fuzz import chain
from tests.fuzz.case import Case, Island, Transaction
from tests.fuzz.writing import drawn

#: Chains of the fixed seed: about 40 s on an idle machine.
EXAMPLES = 8
#: Two tables, and edits of one row that do not know of each other.
SMALL = Case(
    "public",
    (
        Island(
            (),
            (
                'CREATE TABLE "t0_1" (id int PRIMARY KEY, a text, b text, c text)',
                'CREATE TABLE "t0_2" (id int PRIMARY KEY, r int REFERENCES "t0_1")',
                """INSERT INTO "t0_1" VALUES (1, 'old', 'old', 'old'), (2, 'old', 'old', 'old')""",
                'INSERT INTO "t0_2" VALUES (1, 1)',
            ),
            (
                (
                    Transaction("source", "READ COMMITTED", ("""UPDATE "t0_1" SET a = 'monolith' WHERE id = 1""",)),
                    Transaction("target", "READ COMMITTED", ("""UPDATE "t0_1" SET a = 'service', b = 'service'""",)),
                ),
                (Transaction("source", "SERIALIZABLE", ("""UPDATE "t0_1" SET b = 'monolith' WHERE id = 2""",)),),
            ),
        ),
    ),
)


def capture_off(pair: Pair) -> None:
    """The monolith's writes of a table are not recorded."""
    pair.source.execute(f'ALTER TABLE "t0_1" DISABLE TRIGGER "{record.CAPTURE}"'.encode())


def rules_off(pair: Pair) -> None:
    """What arrives at the target for a table is not applied."""
    table = pair.target.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'task_migration'::regnamespace AND proname ~ '^apply_' "
        "AND prosrc LIKE '%\"t0_1\"%'"
    ).fetchone()
    assert table is not None
    _emptied(pair.target, table[0], "LANGUAGE plpgsql AS 'BEGIN RETURN; END'")


def untold(pair: Pair) -> None:
    """What loses is told nowhere."""
    for connection in (pair.source, pair.target):
        _emptied(connection, "tell", "LANGUAGE sql AS 'SELECT'")


def _emptied(connection: Any, function: str, body: str) -> None:
    arguments = connection.execute(
        "SELECT pg_get_function_arguments(oid) FROM pg_proc WHERE proname = %s "
        "AND pronamespace = 'task_migration'::regnamespace",
        (function,),
    ).fetchone()
    assert arguments is not None
    connection.execute(
        f'CREATE OR REPLACE FUNCTION task_migration."{function}"({arguments[0]}) RETURNS void {body}'.encode()
    )


def unrecorded(pair: Pair, side: str, statement: str) -> None:
    """Something changes past every trigger."""
    connection = pair.source if side == "source" else pair.target
    for what in ("DISABLE TRIGGER ALL", statement, "ENABLE TRIGGER ALL", f'ENABLE ALWAYS TRIGGER "{record.CAPTURE}"'):
        text = what if what == statement else f'ALTER TABLE "t0_1" {what}'
        connection.execute(text.encode())


def column_left_out(pair: Pair) -> None:
    """The copy had no values of a column."""
    unrecorded(pair, "target", 'UPDATE "t0_1" SET c = NULL')


def parent_gone(pair: Pair) -> None:
    """A row goes on both sides, and leaves what refers to it."""
    for side in ("source", "target"):
        unrecorded(pair, side, 'DELETE FROM "t0_1" WHERE id = 1')


def test_a_case_is_read_as_it_was_written() -> None:
    for path in cases.corpus():
        written = path.read_text()
        title = "\n".join(line.removeprefix("-- ") for line in written.partition("\n-- case: ")[0].splitlines())
        assert cases.text(cases.parse(written), title) == written, path


def test_the_judge_finds_nothing_where_nothing_is(make_pair: Callable[..., Pair]) -> None:
    outcome = chain.run(SMALL, make_pair)
    assert outcome.problems == []
    assert (outcome.carried, outcome.written) == (1, 3)
    assert outcome.told == 1


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (capture_off, "unequal"),
        (rules_off, "unequal"),
        (untold, "lost"),
        (column_left_out, "unequal"),
        (parent_gone, "unsound"),
    ],
)
def test_the_judge_sees_it(make_pair: Callable[..., Pair], broken: Callable[[Pair], object], kind: str) -> None:
    assert kind in chain.run(SMALL, make_pair, broken).kinds


@pytest.mark.parametrize("schema", sorted(cases.together(cases.parse(path.read_text()) for path in cases.corpus())))
def test_the_corpus(make_pair: Callable[..., Pair], schema: str) -> None:
    """What `make fuzz` found, in one chain for each schema."""
    whole = cases.together(cases.parse(path.read_text()) for path in cases.corpus())[schema]
    outcome = chain.run(whole, make_pair)
    assert outcome.problems == []
    assert outcome.carried + len(outcome.refused) == len(whole.islands)


@pytest.mark.timeout(600)
def test_drawn(source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """A fixed seed. `python -m tests.fuzz` makes a failure smaller."""
    carried = 0

    @settings(derandomize=True, max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(drawn())
    def play(case: Case) -> None:
        nonlocal carried
        with pairs(source_server, target_server, tmp_path) as make:
            outcome = chain.run(case, make)
        carried += outcome.carried
        assert outcome.problems == [], cases.text(case, "\n".join(map(str, outcome.problems)))

    play()
    # Nothing is shown by what preflight refuses.
    assert carried >= EXAMPLES
