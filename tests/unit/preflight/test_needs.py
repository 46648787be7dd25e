"""What the target lacks, put in the order in which it can be made."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scripts.preflight import needs
from scripts.preflight.needs import Need


def need(
    key: str,
    uses: tuple[str, ...] = (),
    *,
    names: tuple[str, ...] = (),
    users: tuple[str, ...] = (),
    kind: str = "function",
) -> Need:
    return Need(
        key, kind, key, ("s", key), (), None, users, tuple(f"t.{user}" for user in users), uses, names, f"MAKE {key}"
    )


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Need]:
    """Objects that need objects before them, and whose texts name any."""
    count = draw(st.integers(1, 7))
    keys = [str(number) for number in range(count)]
    return {
        key: need(
            key,
            tuple(draw(st.sets(st.sampled_from(keys[:place])))) if place else (),
            names=tuple(draw(st.sets(st.sampled_from(keys)))),
            users=("column",) if draw(st.booleans()) else (),
        )
        for place, key in enumerate(keys)
    }


@given(graphs(), st.data())
def test_each_comes_after_what_it_needs_and_all_that_is_called_comes_too(
    found: dict[str, Need], data: st.DataObject
) -> None:
    absent = data.draw(st.sets(st.sampled_from(sorted(found))))
    missing = needs.hard(found) & absent
    order = [one.key for one in needs.ordered(found, absent, missing)]
    assert len(order) == len(set(order))
    assert missing <= set(order) <= absent
    for key in order:
        wanted = {other for other in (*found[key].needs, *found[key].names) if other in absent}
        assert wanted <= set(order)
        assert all(order.index(other) < order.index(key) for other in found[key].needs if other in absent)


def test_a_circle_and_a_cast_end_in_an_order() -> None:
    circle = {"a": need("a", ("b",)), "b": need("b", ("a",))}
    assert {one.key for one in needs.ordered(circle, {"a", "b"}, ["a"])} == {"a", "b"}
    cast = {"f": need("f", ("c",)), "c": need("c", ("f",), kind="cast")}
    assert [one.key for one in needs.ordered(cast, {"f", "c"}, ["f"])] == ["f", "c"]


def test_a_search_path_has_the_schemas_of_all_that_is_called() -> None:
    found = {
        "f": Need("f", "function", "a.f()", ("a", "f"), (), None, ("index a.i",), ("t.i",), (), ("g", "h"), ""),
        "g": Need("g", "function", "b.g()", ("b", "g"), (), None, (), (), (), (), ""),
        "h": Need("h", "function", "a.h()", ("a", "h"), (), None, (), (), (), (), ""),
    }
    assert needs.with_path(found, {"t.i"}) == ['ALTER FUNCTION a.f() SET search_path = pg_catalog, "a", "b", pg_temp']
    assert needs.with_path(found, {"t.other"}) == []
