"""The order of a copy's steps: decided without a database."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.copy.plan import Name, Queue, Size, Step, cut, steps

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
        for one, other in itertools.pairwise(mine):
            assert one.last == other.first
            assert one.first < other.first
        assert mine[-1].first < max(size.pages, 1)
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
    ],
)
def test_what_is_cut(pages: dict[str, int], jobs: int, expected: dict[str, int]) -> None:
    """Prevents a load without FREEZE where one session keeps pace, and one session for a table that dwarfs the rest."""
    parts = cut({name: Size(count, count * 8192) for name, count in pages.items()}, jobs)
    for table, count in expected.items():
        assert sum(part.table == table for part in parts) == count


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Step], int]:
    sizes = draw(SIZES)
    jobs = draw(st.integers(1, 8))
    tables = list(sizes)
    some = st.dictionaries(st.sampled_from(["x", "y z", "b x"]), st.integers(0, 10**6), max_size=3)
    indexes = {table: draw(some) for table in tables}
    keyed = draw(st.sets(st.sampled_from(tables)))
    links = {table: draw(st.sets(st.sampled_from([*tables, "stays behind"]))) for table in tables}
    return steps(cut(sizes, jobs), indexes, keyed, links), jobs


@given(plans(), st.integers(0, 10**6))
def test_every_order_ends_and_no_two_steps_shut_each_other_out(plan: tuple[list[Step], int], seed: int) -> None:
    """Prevents steps that wait for each other for ever, also with foreign keys in a circle, and a key before its rows."""
    todo, jobs = plan
    names = [step.name for step in todo]
    assert len(set(names)) == len(names)
    queue, running, choose = Queue(list(todo)), list[Step](), random.Random(seed)
    done = list[Name]()
    while not queue.finished:
        while len(running) < jobs and (step := queue.take()) is not None:
            running.append(step)
        assert running, f"{[step.name for step in queue.todo]} wait for each other"
        for step in running:
            beside = [other for other in running if other is not step and other.table == step.table]
            if step.kind == "key":
                assert not beside, "ADD CONSTRAINT waits for everybody else"
            if step.kind in ("index", "statistics", "links"):
                assert all(other.kind in ("index",) for other in beside) or step.kind != "index"
            if step.kind == "index":
                assert not any(other.kind == "rows" for other in beside)
            if step.kind == "links":
                assert not any(other.kind == "statistics" for other in beside)
        step = choose.choice(running)
        running.remove(step)
        queue.finish(step)
        done.append(step.name)
    assert sorted(done) == sorted(names)
    place = {name: number for number, name in enumerate(done)}
    for step in todo:
        assert all(place[need] < place[step.name] for need in step.needs)
    assert queue.spare(jobs) == jobs


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
