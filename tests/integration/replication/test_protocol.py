"""What the model (tests/model) says happens is what two real servers do: the same steps, drawn at random, row by row compared.

No replication worker takes part: a record is put into the other side's table of writes in a transaction, which is all that a worker
does, so that each step happens when it is drawn and an example takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.embedded.postgres_server import EmbeddedPostgres
from scripts.replication import fence, writes
from scripts.support.sides import BOTH
from scripts.writes import install
from tests.conftest import Pair, pairs
from tests.integration.replication.servers import CASES, PLACES, TABLES, Servers, Table
from tests.model.judge import lost, values
from tests.model.recorded import Recorded
from tests.model.scenarios import SCENARIOS, SEEN, Scenario
from tests.model.search import Limits, State, Step, begin, search, steps
from tests.model.world import ROW, SIDES, Row, Shape, Told, Write


@pytest.fixture(scope="module")
def servers(
    source_server: EmbeddedPostgres, target_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """Two databases with a table a case, recorded and ruled, and nothing that carries records."""
    directory: Path = tmp_path_factory.mktemp("protocol")
    with pairs(source_server, target_server, directory) as make:
        pair = make(rows=None, tables=[table.name for table in TABLES], columnGroups=[["g", "h"]], referencedTables=[])
        world = Servers(pair, pair.settings.config)
        yield world
        world.close()


def model_told(state: State, told: Sequence[Told]) -> list[tuple[str, int, str]]:
    """The model's log as :meth:`Servers.told` has the real one."""
    keys = {write.number: write.key for history in state.history for write in history}
    return sorted((one.kind, keys[one.write], one.item) for one in told)


def compare(servers: Servers, rules: Recorded, shape: Shape, state: State) -> None:
    """Row by row, and where nothing is undone by the rules the log too."""
    for side in SIDES:
        rows: tuple[Row, ...] = rules.rows(state.dbs[side])
        assert servers.rows(side) == [values(row) for row in rows], BOTH[side]
        if shape.unique is None and shape.parent is None:
            assert servers.told(side) == model_told(state, rules.told(state.dbs[side])), BOTH[side]


#: The same rows and writes under other limits are drawn once.
DRAWN = [
    case
    for case in CASES
    if case[1]
    not in (
        "four writes, the target's clock ahead",
        "kills that repeat",
        "transactions that stay open or roll back",
        "open, the target's clock ahead",
    )
]


@pytest.mark.parametrize(("table", "name"), DRAWN, ids=[name for _, name in DRAWN])
@settings(
    max_examples=40,
    derandomize=True,
    database=None,
)
@given(data=st.data())
def test_two_servers_do_what_the_model_does(servers: Servers, table: Table, name: str, data: st.DataObject) -> None:
    ahead = data.draw(st.sampled_from([(0, 0), (4, 0), (0, 4)]))
    scenario = SCENARIOS[name]._replace(ahead=ahead)
    shape = scenario.shape
    rules = Recorded(shape, ahead=ahead)
    state = begin(rules, Limits(6, repeats=1, opens=table.opens))
    servers.begin(table, scenario)
    taken: list[str] = []
    for _ in range(data.draw(st.integers(4, 16))):
        state = _next(servers, rules, scenario, state, data, taken)
    _finish(servers, rules, scenario, state, taken)


@pytest.mark.parametrize("fault", [fault for fault in SEEN if SEEN[fault][0] in PLACES])
def test_two_servers_pass_where_a_fault_of_the_rules_shows(servers: Servers, fault: str) -> None:
    """The shortest history in which rules with this fault break a promise, on servers that have not got it."""
    _replay(servers, fault)


def test_the_comparison_sees_a_fault_of_the_servers(servers: Servers) -> None:
    """Without its clock's advance a server decides otherwise, and that shows."""
    for worker in servers.workers.values():
        (definition,) = worker.execute("SELECT pg_get_functiondef('task_migration.arrive'::regproc)").fetchone() or (
            "",
        )
        advances = "WHILE _tm_clock < NEW.v LOOP"
        assert advances in definition
        worker.execute(definition.replace(advances, "WHILE false LOOP").encode())
    try:
        with pytest.raises(AssertionError):
            _replay(servers, "clock stands still on apply")
    finally:
        for side, admin in zip(BOTH, (servers.pair.source, servers.pair.target), strict=True):
            install.rules_on(admin, servers.pair.settings.config, side)
    _replay(servers, "clock stands still on apply")


def test_what_is_delivered_again_after_a_prune_changes_nothing(servers: Servers) -> None:
    """The records that showed it to be a repeat are gone; DMS can go back that far after a kill."""
    scenario = SCENARIOS["four writes"]
    rules = Recorded(scenario.shape)
    state = begin(rules, Limits(4))
    servers.forget()
    servers.begin(PLACES["four writes"], scenario)
    for wanted in ("source update 0 a=10", "target update 0 a=11", "source delete 0", "source insert 0 a=14, b=14"):
        state = _taken(servers, rules, scenario, state, wanted)
    _finish(servers, rules, scenario, state, [])
    assert servers.kept() == 2 * len(servers.sent[0]) + 2 * len(servers.sent[1])
    for _ in range(2):
        writes.prune(servers.pair.settings)
        for side, name in zip(SIDES, BOTH, strict=True):
            fence.post(servers.workers[side], name)
            servers.collect(side)
            servers.apply(1 - side, servers.sent[side][-1])
    before = [(servers.rows(side), servers.told(side)) for side in SIDES]
    writes.prune(servers.pair.settings)
    # The fences, on both sides.
    assert servers.kept() == 8
    for side in SIDES:
        for message in servers.sent[1 - side]:
            servers.apply(side, message)
    assert [(servers.rows(side), servers.told(side)) for side in SIDES] == before
    # A repeat takes its place again, until the next prune.
    writes.prune(servers.pair.settings)
    assert servers.kept() == 8


def _taken(servers: Servers, rules: Recorded, scenario: Scenario, state: State, wanted: str) -> State:
    step, after = next((step, after) for step, after in steps(rules, scenario.choices, state) if str(step) == wanted)
    servers.take(step)
    compare(servers, rules, scenario.shape, after)
    return after


def _replay(servers: Servers, fault: str) -> None:
    name, promise = SEEN[fault]
    scenario = SCENARIOS[name]
    shape, choices, limits, ahead = scenario
    history = search(Recorded(shape, fault, ahead), shape, choices, limits, promise).found[promise].steps
    rules = Recorded(shape, ahead=ahead)
    state = begin(rules, limits)
    servers.begin(PLACES[name], scenario)
    taken: list[str] = []
    for wanted in history:
        options = {str(step): (step, after) for step, after in steps(rules, choices, state)}
        if wanted in options:
            step, state = options[wanted]
            taken.append(wanted)
            servers.take(step)
            compare(servers, rules, shape, state)
        elif wanted.endswith(" looks"):
            assert fault == "looks before it locks"
        elif " applies " not in wanted:
            # Without the fault the rows are others by now.
            break
        else:
            # What applies waits for the local transaction.
            side = int(wanted.startswith("target"))
            assert state.opened[side] is not None, (wanted, taken)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                servers.take(Step("applies", side, at=state.applied[side]))
    assert taken
    _finish(servers, rules, scenario, state, taken)


def _finish(servers: Servers, rules: Recorded, scenario: Scenario, state: State, taken: list[str]) -> None:
    """Then everything arrives."""
    while not state.quiet:
        step, state = next(
            (step, after)
            for step, after in steps(rules, scenario.choices, state)
            if step.what in ("commits", "applies")
        )
        taken.append(str(step))
        servers.take(step)
        compare(servers, rules, scenario.shape, state)
    assert servers.rows(0) == servers.rows(1), taken
    # Where rules undo rows the model says too what is lost, but not on which side that is told.
    written = (*state.history[0], *state.history[1])
    told = {(key, item) for side in SIDES for _, key, item in servers.told(side)}
    for write, item in lost(scenario.shape, rules.rows(state.dbs[0]), written, written):
        assert (write.key, item) in told or (item == ROW and write.key in {key for key, _ in told}), "\n".join(
            [item, str(write), *taken]
        )


def _next(
    servers: Servers, rules: Recorded, scenario: Scenario, state: State, data: st.DataObject, taken: list[str]
) -> State:
    options = list(steps(rules, scenario.choices, state))
    if not options:
        return state
    step, after = options[data.draw(st.integers(0, len(options) - 1), label="step")]
    taken.append(str(step))
    servers.take(step)
    compare(servers, rules, scenario.shape, after)
    return after


def test_an_insert_whose_snapshot_is_old_takes_the_lock_of_its_key(servers: Servers) -> None:
    """Prevents a row that is on one side only: the record that the key was here before is younger than the transaction's snapshot."""
    scenario = SCENARIOS["four writes"]
    servers.begin(PLACES["four writes"], scenario)
    late = servers.apps[0]
    late.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    late.execute("SELECT FROM task_migration.source_writes LIMIT 1")
    servers.workers[0].execute("DELETE FROM single WHERE id = %s", (servers.first,))
    servers.insert(late, 0, {"a": 1, "b": 1})
    servers.take(Step("writes", 1, (Write(1, 0, "delete", (), 0),)))
    with pytest.raises(psycopg.errors.LockNotAvailable):
        servers.take(Step("applies", 0))
    late.execute("COMMIT")
    servers.collect(0)
    servers.take(Step("applies", 0))
    for at in range(len(servers.sent[0])):
        servers.take(Step("applies", 1, at=at))
    assert servers.rows(0) == servers.rows(1)


#: As no session should be, and as another one should not be either.
ODD = "-c datestyle=SQL,DMY -c intervalstyle=sql_standard -c extra_float_digits=-15 -c timezone=Asia/Tokyo -c bytea_output=escape"
OTHER = "-c datestyle=German -c intervalstyle=iso_8601 -c timezone=America/Caracas"


def test_values_arrive_as_they_are_whatever_the_sessions_are_set_to(make_pair: Callable[..., Pair]) -> None:
    """Prevents digits lost, days and months exchanged and signs of intervals turned: values travel as text."""
    pair = make_pair(rows=None, tables=["oddity"], referencedTables=[])
    for side, admin in zip(BOTH, (pair.source, pair.target), strict=True):
        admin.execute(
            "CREATE TABLE oddity (id int PRIMARY KEY, r real, d double precision, i interval, on_day date, at timestamp, "
            "at_tz timestamptz, m money, b bytea, n numeric, j json, a text[], p point)"
        )
        admin.execute("SET lock_timeout = '300ms'")
        install.capture_on(admin, pair.settings.config, side)
        install.rules_on(admin, pair.settings.config, side)
    with psycopg.connect(pair.settings.source(), autocommit=True, options=ODD) as odd:
        odd.execute(
            "INSERT INTO oddity SELECT 1, 1::real / 3, pi(), '-1 day +2 hours', '2026-02-01', '2026-02-01 03:04:05.000006', "
            "'2026-02-01 03:04:05+09', 1234.5::money, '\\x00ff5c', 1.100, '{\"b\": 1, \"a\":  2}', ARRAY['a,b', NULL, '\"'], '(0.1,1e300)'"
        )
        odd.execute("INSERT INTO oddity (id) VALUES (2)")
        odd.execute(
            "UPDATE oddity SET d = pi() / 7, i = '1 mon -3 days -00:00:01', at = 'infinity', r = 'NaN' WHERE id = 2"
        )
    records = pair.source.execute("SELECT * FROM task_migration.source_writes ORDER BY v").fetchall()
    assert len(records) == 3
    with psycopg.connect(pair.settings.target(), options=OTHER) as worker:
        values = ", ".join(["%s"] * len(records[0]))
        for row in records:
            worker.execute(f"INSERT INTO task_migration.source_writes VALUES ({values})", row)
    rows = [
        admin.execute("SELECT t::text FROM oddity t ORDER BY id").fetchall() for admin in (pair.source, pair.target)
    ]
    assert rows[0] == rows[1]


def test_a_child_whose_parent_was_made_anew_and_lost_is_told(servers: Servers) -> None:
    """Prevents a row that goes unsaid: the parent's first delete comes again, or in one transaction, with the child of the next one."""
    name = "a parent and a child"
    scenario = SCENARIOS[name]
    rules = Recorded(scenario.shape)
    state, taken = begin(rules, Limits(9)), list[str]()
    servers.begin(PLACES[name], scenario)
    for wanted in (
        "source delete 0; source delete 1",
        "target delete 0; target delete 1",
        "source insert 0 parent=0, a=104",
        "target insert 0 parent=0, a=105",
        "target insert 1 parent=1, a=107",
        "source delete 0",
        "source applies 1 to 3",
        "target applies 1",
        "target applies 2",
    ):
        state = _taken(servers, rules, scenario, state, wanted)
        taken.append(wanted)
    _finish(servers, rules, scenario, state, taken)
