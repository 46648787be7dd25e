"""The order of a copy's steps: decided without a database."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scripts.copy.plan import Kind, Name, Part, Queue, Size, Step, cut, steps

NAMES = st.sampled_from(["a", "a b", "b", "tasks", 'Weird "Table', "Größe %s"])
SIZES = st.dictionaries(NAMES, st.integers(0, 200_000), min_size=1).map(
    lambda found: {name: Size(pages, pages * 8192 + 4096) for name, pages in found.items()}
)


@given(SIZES, st.integers(1, 64))
def test_parts_hold_each_page_once(sizes: Mapping[str, Size], jobs: int) -> None:
    """Prevents a page that no part reads, or that two read, and a last part that misses pages added since."""
    parts = cut(sizes, jobs)
    for table, size in sizes.items():
        mine = sorted((part for part in parts if part.table == table), key=lambda part: part.first)
        assert mine[0].first == 0
        assert mine[-1].last is None
        pages = max(size.pages, 1)
        for one, other in itertools.pairwise([*mine, Part(table, pages, None, 0, False)]):
            assert one.last == (None if one is mine[-1] else other.first)
            assert one.first < other.first
            # What is shown as progress, and orders the work: bytes as the pages have them.
            assert abs(one.bytes * pages - (other.first - one.first) * size.bytes) <= pages
        assert [part.whole for part in mine] == [len(mine) == 1] * len(mine)
    assert [part.bytes for part in parts] == sorted((part.bytes for part in parts), reverse=True)


@pytest.mark.parametrize(
    ("pages", "jobs", "expected"),
    [
        # The six tables as measured: the largest is 1.2 of a fair share, so one session loads it frozen.
        ({"tasks": 33_700, "task_tag": 8_700, "task_images": 7_400, "others": 6_300}, 2, {"tasks": 1, "task_tag": 1}),
        # With more jobs it would be the one that all wait for.
        ({"tasks": 33_700, "task_tag": 8_700, "task_images": 7_400, "others": 6_300}, 4, {"tasks": 8, "task_tag": 1}),
        ({"tasks": 33_700}, 2, {"tasks": 4}),
        ({"tasks": 33_700}, 1, {"tasks": 1}),
        # Not worth cutting: one part is the least there is.
        ({"tasks": 900, "small": 1}, 8, {"tasks": 1, "small": 1}),
        ({"empty": 0}, 4, {"empty": 1}),
        # One and a half of what a job has to move is whole yet; a page more goes in two parts a job.
        ({"big": 6000, "other": 2000}, 2, {"big": 1, "other": 1}),
        ({"big": 6001, "other": 2000}, 2, {"big": 4, "other": 1}),
        ({"big": 2048}, 8, {"big": 2}),
        ({"big": 2049}, 8, {"big": 3}),
    ],
)
def test_what_is_cut(pages: dict[str, int], jobs: int, expected: dict[str, int]) -> None:
    """Prevents a load without FREEZE where one session keeps pace, and one session for a table that dwarfs the rest."""
    parts = cut({name: Size(count, count * 8192) for name, count in pages.items()}, jobs)
    for table, count in expected.items():
        assert sum(part.table == table for part in parts) == count


@dataclass(frozen=True)
class Plan:
    """What a plan is made of, and its steps."""

    sizes: dict[str, Size]
    indexes: dict[str, dict[str, int]]
    keyed: set[str]
    links: dict[str, set[str]]
    jobs: int

    @cached_property
    def steps(self) -> list[Step]:
        return steps(cut(self.sizes, self.jobs), self.indexes, self.keyed, self.links)

    def before(self, name: Name) -> set[Name]:
        """What has to be done before a step, as PostgreSQL wants it: rows are loaded without indexes, ADD CONSTRAINT takes an index that is
        there and the table for itself, ANALYZE and CREATE INDEX wait for each other, and a foreign key needs the unique constraint that it
        refers to (PostgreSQL, 'Explicit Locking', 'ALTER TABLE')."""
        kind, table, _ = name
        names = [step.name for step in self.steps]

        def of(which: str, *kinds: Kind) -> set[Name]:
            return {one for one in names if one[1] == which and one[0] in kinds}

        wanted: dict[Kind, set[Name]] = {
            "rows": set(),
            "index": of(table, "rows"),
            "key": of(table, "rows", "index"),
            "statistics": of(table, "rows", "index", "key"),
            "links": of(table, "rows", "index", "key", "statistics", "bind"),
        }
        for other in self.links.get(table, ()):
            wanted["links"] |= of(other, "rows", "index", "key")
        wanted["bind"] = wanted["links"] - of(table, "bind")
        return wanted[kind]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    sizes = draw(SIZES)
    tables = list(sizes)
    some = st.dictionaries(st.sampled_from(["x", "y z", "b x"]), st.integers(0, 10**6), max_size=3)
    return Plan(
        sizes,
        {table: draw(some) for table in tables},
        draw(st.sets(st.sampled_from(tables))),
        {table: draw(st.sets(st.sampled_from([*tables, "stays behind"]))) for table in [*tables, "stays behind"]},
        draw(st.integers(1, 8)),
    )


@given(plans())
@example(
    Plan({"tasks": Size(9, 9), "tags": Size(5, 5)}, {"tags": {"tags_pkey": 1}}, {"tags"}, {"tasks": {"tags"}}, jobs=2)
)
def test_a_step_waits_for_what_postgresql_wants_before_it_and_for_nothing_else(plan: Plan) -> None:
    """Prevents a foreign key that is bound before the key it refers to (SQLSTATE 42830), an index of half the rows, and an idle job."""
    needs = {step.name: step.needs for step in plan.steps}
    wanted = {table for table, others in plan.links.items() if others and table in plan.sizes}
    assert sorted(name for name in needs if name[0] in ("bind", "links")) == sorted(
        (kind, table, "") for kind in ("bind", "links") for table in wanted
    )
    for name in needs:
        found, waiting = set[Name](), [name]
        while waiting:
            more = needs[waiting.pop()] - found
            found |= more
            waiting += more
        assert found == plan.before(name), name


#: Of one table, what PostgreSQL lets run at once (PostgreSQL, 'Explicit Locking'): COPY's lock, and CREATE INDEX's, go with themselves
#: alone; of those of ANALYZE, VALIDATE CONSTRAINT and ADD CONSTRAINT there is one at a time.
TOGETHER = {("rows", "rows"), ("index", "index")}


@given(plans(), st.integers(0, 10**6))
def test_every_order_ends_and_no_two_steps_shut_each_other_out(plan: Plan, seed: int) -> None:
    """Prevents steps that wait for each other for ever, also with foreign keys in a circle, and a job that stands in another's way."""
    todo = plan.steps
    names = [step.name for step in todo]
    before = {name: plan.before(name) for name in names}
    assert len(set(names)) == len(names)
    queue, running, choose = Queue(list(todo)), list[Step](), random.Random(seed)
    done = list[Name]()
    while not queue.finished:
        while len(running) < plan.jobs and (step := queue.take()) is not None:
            assert before[step.name] <= set(done)
            running.append(step)
        assert running, f"{[step.name for step in queue.todo]} wait for each other"
        for one, other in itertools.combinations(running, 2):
            assert one.table != other.table or (one.kind, other.kind) in TOGETHER, (one.name, other.name)
        kind, table, _ = choose.choice(names)
        assert queue.open(kind, table) == any(name[:2] == (kind, table) for name in set(names) - set(done))
        step = choose.choice(running)
        running.remove(step)
        queue.finish(step)
        done.append(step.name)
    assert sorted(done) == sorted(names)
    assert queue.spare(plan.jobs) == plan.jobs


def test_the_most_urgent_and_then_the_largest_comes_next() -> None:
    """Prevents a snapshot that is held open on the live source while indexes are built, and the longest step left for the end."""
    kinds: tuple[tuple[Kind, int], ...] = (
        ("statistics", 9), ("statistics", 8), ("links", 5), ("index", 6), ("index", 4), ("key", 1), ("bind", 2), ("rows", 3), ("rows", 0),
    )  # fmt: skip
    queue = Queue([Step((kind, f"t{cost}", ""), cost) for kind, cost in reversed(kinds)])
    assert [queue.spare(jobs) for jobs in (8, 9, 10, 12)] == [0, 0, 1, 3]
    taken = []
    while (step := queue.take()) is not None:
        taken.append((step.kind, step.cost))
        assert queue.spare(12) == 3
    assert taken == [
        ("rows", 3), ("rows", 0), ("bind", 2), ("key", 1), ("index", 6), ("links", 5), ("index", 4), ("statistics", 9), ("statistics", 8),
    ]  # fmt: skip
    assert not queue.finished


def test_what_a_step_moves_is_what_it_costs() -> None:
    """Prevents a small table's key that is checked while the largest one's waits."""
    sizes = {"big": Size(4096, 4_000_001), "small": Size(10, 100)}
    indexes = {"big": {"i": 7}, "small": {"j": 9}}
    found = {
        step.name: step.cost for step in steps(cut(sizes, 1), indexes, {"big"}, {"big": {"small"}, "small": {"big"}})
    }
    assert found == {
        ("rows", "big", "0"): 4_000_001, ("rows", "small", "0"): 100, ("index", "big", "i"): 7, ("index", "small", "j"): 9,
        ("key", "big", ""): 0, ("statistics", "big", ""): 4_000_001, ("statistics", "small", ""): 100, ("bind", "big", ""): 0,
        ("links", "big", ""): 4_000_001, ("bind", "small", ""): 0, ("links", "small", ""): 100,
    }  # fmt: skip
    several = steps(cut(sizes, 4), {}, (), {})
    parts = [step for step in several if step.name[:2] == ("rows", "big")]
    assert [step.part.first for step in parts if step.part] == [0, 1024, 2048, 3072]
    (statistics,) = [step for step in several if step.name[:2] == ("statistics", "big")]
    assert 0 <= 4_000_001 - statistics.cost < 4


def test_rows_first_then_what_others_wait_for() -> None:
    """Prevents a snapshot held open on the live source while indexes are built, and an idle job at the end."""
    sizes = {"big": Size(100, 1000), "small": Size(10, 100)}
    queue = Queue(steps(cut(sizes, 8), {"big": {"i": 5, "j": 9}, "small": {"k": 1}}, {"big"}, {"small": {"big"}}))
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    assert [first.name, second.name] == [("rows", "big", "0"), ("rows", "small", "0")]
    assert queue.take() is None
    queue.finish(first)
    assert not queue.open("rows", "big")
    assert queue.open("rows")
    ready = [queue.take() for _ in range(2)]
    assert [step.name[2] for step in ready if step] == ["j", "i"]
    # Nothing else may start, so five of eight jobs could help with an index.
    assert queue.spare(8) == 5
