"""docs/commands.md, written from the commands and their documents: `make docs`, or `python -m scripts.cli.reference`."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from scripts.cli.app import app
from scripts.cli.group import PLAN
from scripts.support.document import Document

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
_COMMENT = re.compile(r"((?:^ +#: ?.*\n)+)^ +(\w+):", re.MULTILINE)
#: A piece of JSON up to so many characters stays on one line.
LINE = 110
_HEAD = """# Commands

Written by `make docs` from the commands themselves; not edited by hand.

`task-migration` and `python -m scripts` are the same. {root}

Every command ends with 0 when it is done, with 1 after a crash or when a database, AWS or a disk is away, full or refuses, and with 2 when
the command line, the configuration, a URL, credentials or a file's name cannot be used. What else a command can end with stands beside it: 10 refused (a precondition or a gate does not hold), 11 the
data differ, 12 timed out, 13 not judged ([why](decisions.md#exit-statuses)). `--json` prints one document on standard output; everything else goes to standard error. In the
tables of a document `list[]` stands for each entry of a list, `map.*` for each value of a map; a field that does not apply is null.
"""


@dataclass(frozen=True)
class Command:
    """One subcommand: ``path`` as it is typed, and what typer made of its function."""

    path: str
    made: Any

    @property
    def documents(self) -> tuple[str, ...]:
        """``module:Class`` of each document that it prints with `--json`."""
        return tuple(getattr(self.made.callback, "documents", ()))

    @property
    def exits(self) -> Mapping[int, str]:
        """Exit statuses of its own, and when they come."""
        return dict(getattr(self.made.callback, "exits", {}))


def load(document: str) -> type[Document]:
    """The class that ``module:Class`` names.

    Raises:
        TypeError: it is no document.
    """
    module, _, name = document.partition(":")
    found = getattr(import_module(module), name)
    if not issubclass(found, Document):
        raise TypeError(f"{document} is no Document")
    return found  # type: ignore[no-any-return]


def commands() -> Iterator[tuple[str, list[Command]]]:
    """The headings of the plan with their commands; a group's own command, where it has one, before its subcommands."""
    made: Any = typer.main.get_command(app)
    for heading, names in PLAN.items():
        yield heading, [one for name in names if name in made.commands for one in _below(name, made.commands[name])]


def _below(path: str, made: Any) -> Iterator[Command]:
    below: Any = getattr(made, "commands", None)
    if below is None or made.invoke_without_command:
        yield Command(path, made)
    for name in made.list_commands(typer.Context(made)) if below else ():
        if not below[name].hidden:
            yield from _below(f"{path} {name}", below[name])


def page() -> str:
    """The whole of docs/commands.md."""
    root: Any = typer.main.get_command(app)
    told: set[str] = set()
    parts = [_HEAD.format(root=root.help)]
    for heading, found in commands():
        parts.append(f"## {heading}")
        parts += [part for command in found for part in _command(command, told)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _command(command: Command, told: set[str]) -> Iterator[str]:
    context = typer.Context(command.made, info_name=f"task-migration {command.path}")
    yield f"### {command.path}"
    yield f"`{' '.join([context.info_name or '', *command.made.collect_usage_pieces(context)])}`"
    yield markdown(command.made.help or "")
    records = [record for one in command.made.get_params(context) if (record := one.get_help_record(context))]
    rows = [(f"`{name}`", markdown(text)) for name, text in records if "--help" not in name]
    if rows:
        yield table(("argument or option", "what it says"), rows)
    if command.exits:
        yield "\n".join(f"- {status}: {when}." for status, when in sorted(command.exits.items()))
    for document in command.documents:
        yield from _document(load(document), told)


def _document(model: type[Document], told: set[str]) -> Iterator[str]:
    if model.__name__ in told:
        yield f"Document: [{model.__name__}](#{model.__name__.lower()})."
        return
    told.add(model.__name__)
    schema = schema_of(model)
    yield f"#### {model.__name__}"
    if "description" in schema:
        yield markdown(schema["description"])
    yield table(("field", "type", "what it says"), fields(schema, schema))
    shape = compact(bare(schema, "description"))
    yield f"<details><summary>JSON Schema of {model.__name__}</summary>\n\n```json\n{shape}\n```\n\n</details>"


class _Described(GenerateJsonSchema):
    """Every field is there, as what is printed has all of them; one without a description has the comment (`#:`) above it."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: ARG002 - pydantic's own signature
        """Always."""
        return True

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        """The schema of one model."""
        names = {field.alias or name: name for name, field in schema["cls"].model_fields.items()}
        return _described(super().model_schema(schema), schema["cls"], names)

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> dict[str, Any]:
        """The schema of a dataclass in a model."""
        made = super().dataclass_schema(schema)
        return _described(made, schema["cls"], {name: name for name in made["properties"]})


def _described(made: dict[str, Any], model: type, names: Mapping[str, str]) -> dict[str, Any]:
    comments: dict[str, str] = {}
    for one in reversed([one for one in model.__mro__ if one.__module__.split(".")[0] in ("scripts", "tests")]):
        for block, name in _COMMENT.findall(inspect.getsource(one)):
            comments[name] = " ".join(line.strip().removeprefix("#:").strip() for line in block.splitlines())
    for name, given in made.get("properties", {}).items():
        if names[name] in comments:
            given.setdefault("description", comments[names[name]])
    return made


def schema_of(model: type[Document]) -> dict[str, Any]:
    """The JSON Schema of what `--json` prints, without the titles and defaults that say nothing of what is printed."""
    schema = model.model_json_schema(by_alias=True, mode="serialization", schema_generator=_Described)
    return bare(schema, "title", "default")  # type: ignore[no-any-return]


def bare(value: Any, *without: str) -> Any:
    """A schema without these keywords."""
    if isinstance(value, list):
        return [bare(item, *without) for item in value]
    if not isinstance(value, dict):
        return value
    # Below "properties" and "$defs" a key is a name, and may be "title".
    named = {
        key: {name: bare(one, *without) for name, one in value[key].items()}
        for key in ("properties", "$defs")
        if key in value
    }
    return {key: named.get(key, bare(item, *without)) for key, item in value.items() if key not in without}


def fields(
    schema: Any, whole: Any, prefix: str = "", told: dict[str, str] | None = None
) -> Iterator[tuple[str, str, str]]:
    """``(field, type, meaning)`` of each property and, set below it by its name, of what it holds; the same part only once."""
    told = {} if told is None else told
    for name, given in schema.get("properties", {}).items():
        field = f"{prefix}{name}"
        kind, parts = _kind(given, whole)
        known = [f"Its fields are those of `{told[part]}`." for part, _, _ in parts if part in told]
        described = [part["description"] for named, part, _ in parts if named not in told and "description" in part]
        yield f"`{field}`", kind, markdown(given.get("description") or " ".join(described + known))
        for named, part, path in parts:
            if told.setdefault(named, field) == field:
                yield from fields(part, whole, f"{field}{path}.", told)


def _kind(given: Any, whole: Any) -> tuple[str, list[tuple[str, Any, str]]]:
    """A type in words, and the models in it: name, schema, and how they are reached from the field."""
    if "$ref" in given:
        name = given["$ref"].rpartition("/")[2]
        found = whole["$defs"][name]
        return ("object", [(name, found, "")]) if "properties" in found else _kind(found, whole)
    if "anyOf" in given or "oneOf" in given:
        kinds = [_kind(one, whole) for one in given.get("anyOf", given.get("oneOf"))]
        return " or ".join(dict.fromkeys(kind for kind, _ in kinds)), [part for _, parts in kinds for part in parts]
    if "const" in given or "enum" in given:
        return ", ".join(f"`{json.dumps(one)}`" for one in given.get("enum", [given.get("const")])), []
    if given.get("type") == "array":
        kind, parts = _kind(given.get("items", {}), whole)
        return f"list of {_one(kind)}", [(name, part, f"[]{path}") for name, part, path in parts]
    if isinstance(given.get("additionalProperties"), dict):
        kind, parts = _kind(given["additionalProperties"], whole)
        return f"map of {_one(kind)}", [(name, part, f".*{path}") for name, part, path in parts]
    return str(given.get("type", "anything")), []


def _one(kind: str) -> str:
    return f"({kind})" if " or " in kind or "`, `" in kind else kind


def compact(value: Any, indent: str = "", key: str = "") -> str:
    """JSON, after its ``key``, that is broken into lines only where it does not fit on one."""
    line = key + json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) < LINE or not isinstance(value, dict | list) or not value:
        return line
    further = f"{indent}  "
    if isinstance(value, list):
        inner = [compact(item, further) for item in value]
    else:
        inner = [compact(item, further, f"{json.dumps(name)}: ") for name, item in value.items()]
    opens, closes = ("[", "]") if isinstance(value, list) else ("{", "}")
    return f"{key}{opens}\n{further}" + f",\n{further}".join(inner) + f"\n{indent}{closes}"


def markdown(text: str) -> str:
    """A docstring's text as Markdown: its paragraphs, its literals, no roles, no tags."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("\f", "")).replace("``", "`")
    text = re.sub(r"(`[^`]*`)|<", lambda found: found[1] or r"\<", text)
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def table(titles: tuple[str, ...], rows: Any) -> str:
    """A Markdown table."""
    lines = [titles, ("---",) * len(titles), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in row) + " |" for row in lines
    )


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
