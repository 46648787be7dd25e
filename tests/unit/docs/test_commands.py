"""docs/commands.md is what the commands are today, and every document survives its way through JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from datetime import datetime
from functools import cache
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import Field

from scripts.cli import reference
from scripts.support.document import Document

COMMANDS = [command for _, found in reference.commands() for command in found]
DOCUMENTS = sorted({document for command in COMMANDS for document in command.documents})


@cache
def page() -> str:
    """What the page should be."""
    return reference.page()


def test_the_page_is_not_stale() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == page(), "stale; run `make docs` and commit docs/commands.md"


def test_every_command_that_has_json_says_what_it_prints() -> None:
    assert [
        one.path for one in COMMANDS if any("--json" in part.opts for part in one.made.params) and not one.documents
    ] == []


def test_every_command_is_on_the_page_with_its_options_and_statuses() -> None:
    for command in COMMANDS:
        _, _, after = page().partition(f"\n### {command.path}\n")
        section = after.partition("\n### ")[0]
        assert f"task-migration {command.path}" in section
        for parameter in command.made.params:
            assert parameter.hidden or all(f"{name}" in section for name in parameter.opts if name.startswith("--"))
        for status, when in command.exits.items():
            assert f"- {status}: {when}." in section


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_field_of_a_document_is_told(document: str) -> None:
    model = reference.load(document)
    _, _, after = page().partition(f"\n#### {model.__name__}\n")
    section = after.partition("\n#### ")[0]
    for name, field in model.model_fields.items():
        assert f"| `{field.serialization_alias or field.alias or name}` |" in section


def test_documents_have_names_of_their_own() -> None:
    names = [document.partition(":")[2] for document in DOCUMENTS]
    assert sorted(set(names)) == sorted(names)


TEXT = st.text(max_size=8)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
PLAIN: dict[Any, SearchStrategy[Any]] = {
    Any: JSON_VALUES,
    object: JSON_VALUES,
    str: TEXT,
    bool: st.booleans(),
    int: st.integers(),
    # Not finite: JSON has no name for it.
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(),
    types.NoneType: st.none(),
    None: st.none(),
}


def strategy(annotation: Any) -> SearchStrategy[Any]:
    """Values of a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, Document):
        return documents(annotation)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        hints = typing.get_type_hints(annotation)
        return st.fixed_dictionaries({name: strategy(hint) for name, hint in hints.items()}).map(
            lambda values: annotation(**values)
        )
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(strategy, arguments))
    if origin is typing.Annotated:
        return strategy(arguments[0])
    if origin is tuple and arguments[-1] is not Ellipsis:
        return st.tuples(*map(strategy, arguments))
    if origin is not None and len(arguments) == 2 and issubclass(origin, typing.Mapping):
        return st.dictionaries(strategy(arguments[0]), strategy(arguments[1]), max_size=2)
    if origin is not None and issubclass(origin, typing.Sequence):
        values = st.lists(strategy(arguments[0]), max_size=2)
        return values.map(tuple) if origin is tuple else values
    return PLAIN[annotation]


def documents(model: type[Document]) -> SearchStrategy[Document]:
    """Documents of a model, whatever its fields may hold."""
    fields = {field.alias or name: strategy(field.annotation) for name, field in model.model_fields.items()}
    return st.fixed_dictionaries(fields).map(model.model_validate)


@pytest.mark.parametrize("document", DOCUMENTS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_document_comes_back_from_its_json(document: str, data: st.DataObject) -> None:
    model = reference.load(document)
    written = data.draw(documents(model))
    assert model.model_validate_json(json.dumps(written.plain())) == written


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_is_frozen_and_takes_no_unknown_field(document: str) -> None:
    config = reference.load(document).model_config
    assert (config.get("frozen"), config.get("extra")) == (True, "forbid")


class Part(Document):
    """One thing that was counted, by its ``name``."""

    #: As the catalog
    #: has it.
    name: str
    state: Literal["here", "gone"]


class Whole(Document):
    """What :func:`scripts.cli.reference.page` is shown with."""

    start: str | None = Field(None, alias="from")
    parts: list[Part]
    by_side: dict[str, Part] | None
    title: float


def test_the_parts_of_a_document_stand_below_their_fields() -> None:
    schema = reference.schema_of(Whole)
    assert list(reference.fields(schema, schema)) == [
        ("`from`", "string or null", ""),
        ("`parts`", "list of object", "One thing that was counted, by its `name`."),
        ("`parts[].name`", "string", "As the catalog has it."),
        ("`parts[].state`", '`"here"`, `"gone"`', ""),
        ("`by_side`", "map of object or null", "Its fields are those of `parts`."),
        ("`title`", "number", ""),
    ]


def test_a_schema_loses_made_up_titles_and_no_field() -> None:
    schema = reference.schema_of(Whole)
    assert "title" not in schema
    assert "default" not in schema["properties"]["from"]
    assert schema["required"] == ["from", "parts", "by_side", "title"]
    assert schema["properties"]["title"] == {"type": "number"}
    assert json.loads(reference.compact(schema)) == schema
    assert max(map(len, reference.compact(schema).splitlines())) <= reference.LINE


def test_prose_is_no_markup() -> None:
    text = "Of ``Pulumi.<stack>.yaml``,\n    else of <stack>; see :func:`scripts.cli.reference.page`.\n\n    More."
    assert (
        reference.markdown(text)
        == "Of `Pulumi.<stack>.yaml`, else of \\<stack>; see `scripts.cli.reference.page`.\n\nMore."
    )


GROUPS = {one.path.split()[0] for one in COMMANDS}
#: What people are told to type: the program with a command, or a literal that begins with a command's name and a blank.
TYPED = re.compile(rf"(?:(?<![\w-])task-migration |`(?=(?:{'|'.join(GROUPS)}) ))(?P<words>[a-z][^`\n#|&]*)")


PAGES = "README architecture bootstrap cost decisions plan runbook security"


@pytest.mark.parametrize("name", [f"{page}.md" for page in PAGES.split()])
def test_what_a_document_says_to_type_is_there(name: str) -> None:
    known = {one.path: {"--help", *(option for part in one.made.params for option in part.opts)} for one in COMMANDS}
    page = reference.PAGE.parents[1] / name if name == "README.md" else reference.PAGE.with_name(name)
    wrong = []
    for found in TYPED.finditer(page.read_text(encoding="utf-8").replace("\\\n", " ")):
        words = [word.strip("[](),.;:") for word in found["words"].split()]
        options = {word for word in words if word.startswith("--")}
        path = next((" ".join(words[:count]) for count in (2, 1) if " ".join(words[:count]) in known), None)
        if path is None or not options <= known[path]:
            wrong.append(found[0])
    assert wrong == []
