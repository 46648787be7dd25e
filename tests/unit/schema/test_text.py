"""Catalog texts in one form, and changes of type that cut nothing off: pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.database.catalog import Column, Index
from scripts.schema.statements import index_shape, normal, using


def column(name: str, kind: str, base: str) -> Column:
    return Column(name, kind, base, False, None, False, "", True, None)


@pytest.mark.parametrize(
    ("printed", "again"),
    [
        (
            "CHECK (((s)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
            "CHECK (((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
        ),
        ("ANY ((ARRAY['it''s, ]'::character varying(9)])::text[])", "ANY (ARRAY[('it''s, ]'::character varying(9))::text])"),
        ("ANY (ARRAY[1, 2])", "ANY (ARRAY[1, 2])"),
    ],
)  # fmt: skip
def test_an_in_list_has_one_form(printed: str, again: str) -> None:
    """Prevents a check or an index that differs for ever from the one that was made of its own text."""
    assert normal(printed) == again
    assert normal(again) == again


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=4))
def test_whatever_stands_in_the_list_is_kept(values: list[str]) -> None:
    """Prevents two different lists that come out as one."""
    literals = ["'" + value.replace("'", "''") + "'::character varying" for value in values]
    text = normal(f"(ARRAY[{', '.join(literals)}])::text[]")
    assert text == "ARRAY[" + ", ".join(f"({literal})::text" for literal in literals) + "]"


@pytest.mark.parametrize(
    ("definition", "shape"),
    [
        ("CREATE INDEX a_b ON public.t USING btree (x)", "CREATE INDEX  ON public.t USING btree (x)"),
        ('CREATE UNIQUE INDEX "a ON ""b" ON public.t USING btree (x)', "CREATE UNIQUE INDEX  ON public.t USING btree (x)"),
    ],
)  # fmt: skip
def test_an_index_without_its_name(definition: str, shape: str) -> None:
    assert index_shape(Index("a", definition, False, ("x",))) == shape


@pytest.mark.parametrize(
    ("wanted", "found", "clause"),
    [
        (("varchar(40)", "varchar"), ("varchar(255)", "varchar"), ""),
        (("text", "text"), ("integer", "int4"), ""),
        (("integer", "int4"), ("bigint", "int8"), ""),
        (("timestamp", "timestamp"), ("timestamptz", "timestamptz"), ""),
        (("integer", "int4"), ("text", "text"), ' USING "c"::text::integer'),
        (("integer", "int4"), ("timestamptz", "timestamptz"), ' USING "c"::text::integer'),
    ],
)
def test_a_change_of_type_refuses_rather_than_cuts(
    wanted: tuple[str, str], found: tuple[str, str], clause: str
) -> None:
    """Prevents `USING title::varchar(40)`, which shortens titles without a word."""
    assert using(column("c", *wanted), column("c", *found)) == clause
