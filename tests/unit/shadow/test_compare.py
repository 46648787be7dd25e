"""What counts as a difference between two sides' answers, and what does not."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scripts.shadow.compare import Answer, Compared, Difference, compare

TASK: dict[str, Any] = {
    "id": 7, "title": "宿題📚", "span": 3, "reward": None, "is_completed": False, "approved_at": None, "tags": [1, 2],
    "created_at": "2026-11-26T00:00:00Z", "due_date": "2025年度末",
}  # fmt: skip


def listing(*tasks: dict[str, Any], following: int | None = None) -> dict[str, Any]:
    return {"tasks": list(tasks), "next_before_id": following}


def task(number: int = 7, **changes: Any) -> dict[str, Any]:
    return {**TASK, "id": number, **changes}


def found(first: Any, other: Any, *again: Any) -> Compared:
    """The comparison of two documents of status 200; the monolith's second answer is its first one without ``again``."""
    compared = compare(Answer(200, first), Answer(200, other), Answer(200, again[0] if again else first))
    assert compared is not None
    return compared


def told(first: Any, other: Any, *again: Any) -> set[tuple[str, str, str, str]]:
    """Field, kind, row and detail of each difference."""
    return {(one.name, one.kind, one.row, one.detail) for one in found(first, other, *again).differences}


PAGE = listing(task(9), task(8), task(7), following=7)
DIFFERENT: list[tuple[str, Any, Any, set[tuple[str, str, str, str]]]] = [
    ("a wrong time zone", PAGE, listing(task(9, created_at="2026-11-26T09:00:00Z"), task(8), task(7), following=7),
     {("tasks[].created_at", "time", "9", "9:00:00 later")}),
    ("an earlier time", {"task": TASK}, {"task": task(created_at="2026-11-25T23:59:00Z")},
     {("task.created_at", "time", "", "0:01:00 earlier")}),
    ("no time zone", {"task": TASK}, {"task": task(created_at="2026-11-26T00:00:00")},
     {("task.created_at", "time", "", "only one side names a time zone")}),
    ("a soft-deleted row", PAGE, listing(task(9), task(8), task(77), task(7), following=7),
     {("tasks[]", "extra", "77", "an object that the monolith does not have")}),
    ("a row that is gone", PAGE, listing(task(9), task(7), following=7),
     {("tasks[]", "missing", "8", "an object is missing, the monolith has it")}),
    ("another page size", PAGE, listing(task(9), task(8), following=8),
     {("tasks[]", "length", "", "2 entries where the monolith has 3"),
      ("next_before_id", "value", "", "another value, a number as well")}),
    ("a longer page", PAGE, listing(task(9), task(8), task(7), task(6), following=6),
     {("tasks[]", "length", "", "4 entries where the monolith has 3"), ("next_before_id", "value", "", "another value, a number as well")}),
    ("an empty page", PAGE, listing(following=7), {("tasks[]", "length", "", "0 entries where the monolith has 3")}),
    ("a number as text", PAGE, listing(task(9), task(8, span="3"), task(7), following=7),
     {("tasks[].span", "type", "8", "a text where the monolith has a number")}),
    ("an id as text", {"task": TASK}, {"task": task(id="7")}, {("task.id", "type", "", "a text where the monolith has a number")}),
    ("ids of a list as text", listing(task(9)), listing(task("9")),  # type: ignore[arg-type]
     {("tasks[].id", "type", "9", "a text where the monolith has a number")}),
    ("a missing tag", PAGE, listing(task(9), task(8), task(7, tags=[1]), following=7),
     {("tasks[].tags[]", "missing", "7", "a number is missing, the monolith has it")}),
    ("a tag twice", {"task": TASK}, {"task": task(tags=[1, 2, 2])},
     {("task.tags[]", "extra", "", "a number that the monolith does not have")}),
    ("another order", PAGE, listing(task(7), task(8), task(9), following=7), {("tasks[]", "order", "", "in another order")}),
    ("null for a value", {"task": TASK}, {"task": task(span=None)}, {("task.span", "type", "", "null where the monolith has a number")}),
    ("0 for false", {"task": TASK}, {"task": task(is_completed=0)}, {("task.is_completed", "type", "", "a number where the monolith has a boolean")}),
    ("another text", {"task": TASK}, {"task": task(title="宿題?")}, {("task.title", "value", "", "another value, a text as well")}),
    ("free text that looks like a time", {"task": task(due_date="2026-11-26T00:00:00Z")}, {"task": task(due_date="2026-11-26T00:00:00.000Z")},
     {("task.due_date", "value", "", "another value, a text as well")}),
    ("a field more", {"task": TASK}, {"task": task(deleted_at=None)}, {("task.deleted_at", "extra", "", "the monolith has no such field")}),
    ("a field less", {"task": TASK}, {"task": {k: v for k, v in TASK.items() if k != "reward"}},
     {("task.reward", "missing", "", "missing, the monolith has it")}),
    ("no object", {"task": TASK}, {"task": None}, {("task", "type", "", "null where the monolith has an object")}),
    ("no list", PAGE, {**PAGE, "tasks": {}}, {("tasks", "type", "", "an object where the monolith has a list")}),
    ("no JSON", {"task": TASK}, "<html>", {("body", "type", "", "a text where the monolith has an object")}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "other", "differences"), [case[1:] for case in DIFFERENT], ids=[case[0] for case in DIFFERENT]
)
def test_each_difference_is_named_by_its_field_and_no_other_is(
    first: Any, other: Any, differences: set[tuple[str, str, str, str]]
) -> None:
    """Prevents a service whose users read other times, rows, pages, types or tags than before; and an alarm about ten fields for one."""
    assert told(first, other) == differences


ALIKE: list[tuple[str, Any, Any]] = [
    ("times written otherwise", {"task": TASK}, {"task": task(created_at="2026-11-26T09:00:00.000000+09:00")}),
    ("tags in another order", {"task": TASK}, {"task": task(tags=[2, 1])}),
    ("fields in another order", {"task": TASK}, {"task": dict(reversed(TASK.items()))}),
    ("a number with a point", {"task": TASK}, {"task": task(span=3.0)}),
]


@pytest.mark.parametrize(("first", "other"), [case[1:] for case in ALIKE], ids=[case[0] for case in ALIKE])
def test_what_a_client_reads_as_the_same_is_no_difference(first: Any, other: Any) -> None:
    assert told(first, other) == set()


def test_a_time_written_otherwise_is_named_beside() -> None:
    """Prevents a client that reads times as text, and breaks on what nobody was told of."""
    assert found({"task": TASK}, {"task": task(created_at="2026-11-26T00:00:00.000Z")}).respelled == {"task.created_at"}
    assert found({"task": TASK}, {"task": TASK}).respelled == set()


MOVED: list[tuple[str, Any, Any, Any]] = [
    ("changed before the service was asked", {"task": TASK}, {"task": task(span=4)}, {"task": task(span=4)}),
    ("changed by itself", {"at": 1, **PAGE}, {"at": 2, **PAGE}, {"at": 3, **PAGE}),
    ("a row came", PAGE, listing(task(10), task(9), task(8), following=8), listing(task(10), task(9), task(8), following=8)),
    ("a row came, the service was asked before it", PAGE, PAGE, listing(task(10), task(9), task(8), following=8)),
    ("a row went", PAGE, PAGE, listing(task(9), task(8), task(6), following=6)),
    ("one row came, then another went", listing(task(9), task(8), task(7)), listing(task(10), task(9), task(8), task(7)),
     listing(task(10), task(9), task(8))),
    ("a tag came", {"task": TASK}, {"task": task(tags=[1, 2, 3])}, {"task": task(tags=[1, 2, 3])}),
    ("completed meanwhile", {"task": TASK}, {"task": task(completed_at="x")}, {"task": task(completed_at="x")}),
]  # fmt: skip


@pytest.mark.parametrize(("first", "other", "again"), [case[1:] for case in MOVED], ids=[case[0] for case in MOVED])
def test_what_the_monolith_answers_otherwise_the_second_time_is_not_judged(first: Any, other: Any, again: Any) -> None:
    """Prevents an alarm about what users wrote in between, and about what changes by itself."""
    assert told(first, other, again) == set()


def test_another_page_size_is_the_same_difference_while_rows_come() -> None:
    """Prevents a difference that looks otherwise each time it is asked for, and so never counts."""
    before, after = listing(task(9), task(8)), listing(task(10), task(9), task(8))
    one = found(PAGE, listing(task(9), task(8), following=8)).differences
    two = found(before, listing(task(9)), after).differences
    assert {each.kind for each in one if each.name == "tasks[]"} != {each.kind for each in two}
    assert {("tasks[]", "rows")} == {each.about for each in one} & {each.about for each in two}


def test_beside_what_moves_the_rest_is_judged() -> None:
    first, again = listing(task(9), task(8)), listing(task(10), task(9, span=5), task(8))
    other = listing(task(9, span="?", title="x"), task(8), task(7))
    assert {(name, row) for name, _, row, _ in told(first, other, again)} == {("tasks[].title", "9"), ("tasks[]", "7")}
    assert "tasks[].span" not in found(listing(task(9)), listing(task(9)), listing(task(9, span=5))).seen


@pytest.mark.parametrize("first", [None, 429, 500, 503])
def test_a_monolith_that_says_nothing_is_no_measure(first: int | None) -> None:
    assert compare(Answer(first), Answer(200, PAGE), Answer(first)) is None
    assert compare(Answer(200, PAGE), Answer(200, PAGE), Answer(first)) is None


@pytest.mark.parametrize("other", [None, 404, 500])
def test_another_status_is_one_difference(other: int | None) -> None:
    compared = compare(Answer(200, PAGE), Answer(other, {"message": "?"}), Answer(200, PAGE))
    assert compared is not None
    detail = f"{other or 'no answer'} where the monolith answers 200"
    assert compared.differences == {Difference("status", "status", "", detail)}


def test_texts_of_refusals_are_each_sides_own() -> None:
    """Laravel's 404 names the model, the Task Service's the task: the contract asks for a message, no more."""
    compared = compare(Answer(404, {"message": "a"}), Answer(404, {"error": "b"}), Answer(404, {"message": "a"}))
    assert compared == Compared()


def test_what_was_never_there_is_told_from_what_was_compared() -> None:
    """Prevents a clean run that no approved task took part in, taken for one that compared when tasks were approved."""
    compared = found(listing(task(9), task(8, reward=1)), listing(task(9), task(8, reward=1)))
    assert compared.named - compared.seen == {"tasks[].approved_at", "next_before_id"}


MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat())
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(-1e9, 1e9, allow_nan=False)
    | st.text(max_size=6)
)
NAMES = st.sampled_from(["a", "b", "tags", "tasks", "c_at", "id"])


def _objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(NAMES, values, max_size=4) | st.lists(
        st.fixed_dictionaries({"id": st.integers(0, 9)}, optional={"a": values, "c_at": MOMENTS}), max_size=4
    )


DOCUMENTS = st.recursive(
    SCALARS | MOMENTS, lambda values: _objects(values) | st.lists(values, max_size=3), max_leaves=12
)
TASKS = st.fixed_dictionaries(
    {
        "tasks": st.lists(
            st.fixed_dictionaries(
                {"id": st.integers(0, 9), "c_at": MOMENTS, "tags": st.lists(st.integers(0, 3), max_size=3)}
            ),
            max_size=5,
        )
    }
)
ANSWERS = DOCUMENTS | TASKS


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value that holds no other."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from _leaves(one, (*path, key))
    if not isinstance(value, dict | list):
        yield path


def _changed(document: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(document)
    made = copy.copy(document)
    made[path[0]] = _changed(document[path[0]], path[1:], change)
    return made


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    return _at(document[path[0]], path[1:]) if path else document


@given(ANSWERS, ANSWERS)
def test_the_monoliths_own_answers_never_differ(first: Any, again: Any) -> None:
    """Prevents an alarm where the Task Service says exactly what one of the monolith's answers said."""
    assert told(first, first, again) == set()
    assert told(first, again, again) == set()


@given(ANSWERS, st.data())
def test_whatever_one_value_is_changed_to_is_found(document: Any, data: st.DataObject) -> None:
    """Prevents a place in an answer where nobody looks."""
    ways = list(_leaves(document))
    assume(ways)
    path = data.draw(st.sampled_from(ways))
    value = data.draw(SCALARS | MOMENTS)
    assume(_plain(_at(document, path)) != _plain(value))
    made = _changed(document, path, lambda _: value)
    # There, or of the outermost list that it stands in, and nowhere else.
    name = re.sub(r"(^|\.)\[", "[", ".".join("[]" if isinstance(step, int) else step for step in path))
    fields = {field for field, *_ in told(document, made)}
    assert fields
    assert all(field == "body" or field.startswith(name.partition("[]")[0]) for field in fields)


@given(ANSWERS, ANSWERS, ANSWERS)
def test_which_of_the_monoliths_answers_came_first_does_not_matter(first: Any, other: Any, again: Any) -> None:
    one, two = found(first, other, again), found(again, other, first)
    assert {(each.name, each.kind) for each in one.differences} == {(each.name, each.kind) for each in two.differences}
    assert one.seen == two.seen


@given(ANSWERS, ANSWERS)
def test_no_value_is_told(first: Any, other: Any) -> None:
    """Prevents rows of users in a journal."""
    secret = "a-value-of-a-user"
    hidden = _changed_all(first, secret), _changed_all(other, secret + "!")
    for one in found(*hidden).differences:
        assert secret not in json.dumps([one.name, one.kind, one.row, one.detail])


def _changed_all(document: Any, text: str) -> Any:
    if isinstance(document, dict):
        return {name: _changed_all(value, text) for name, value in document.items()}
    return [_changed_all(one, text) for one in document] if isinstance(document, list) else text


def _plain(value: Any) -> Any:
    """What a client reads: numbers apart from booleans, moments as moments."""
    if isinstance(value, bool) or value is None:
        return str(value)
    return ("number", value) if isinstance(value, int | float) else ("text", value)
