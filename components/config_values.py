"""A stack's values: read from its file, validated into the model, each fault named with its value, limit and remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from components.config import PROJECT, SECRET_KEYS, ConfigError, MigrationConfig
from components.config_stack import StackConfig


def known_keys(model: type[BaseModel]) -> dict[str, str]:
    """The camelCase keys of a model and what each one means."""
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


#: So much of a wrong value is shown, characters.
_LONGEST = 200
#: Stands below a map's key where that is what is wrong (Pydantic, 'Error handling').
_KEY = "[key]"


def typed(key: str, value: Any) -> Any:
    """A configuration value as its key's type has it: Pulumi keeps lists, maps, numbers and booleans as JSON texts."""
    field = next((one for name, one in StackConfig.model_fields.items() if key == (one.alias or name)), None)
    if field is None or not isinstance(value, str) or field.annotation in (str, str | None):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):  # also of more digits, or more brackets, than Python reads
        return value
    # As nothing at all it would count as not set, and the default would be taken.
    return value if found is None else found


def _explain(error: ValidationError, model: type[BaseModel], origin: str) -> ConfigError:
    lines = []
    meanings = known_keys(model)
    aliases = {name: field.alias or name for name, field in model.model_fields.items()}
    fields = {aliases[name]: field for name, field in model.model_fields.items()}
    for item in error.errors():
        first, *below = (str(part) for part in item["loc"] if part != _KEY)
        # A default that is not valid goes by its field's name.
        top = aliases.get(first, first)
        key = ".".join([top, *below])
        meaning = meanings[top]
        field = fields[top]
        if not below and (item["type"] == "missing" or (item["input"] == [] and field.is_required())):
            place = "[0]" if get_origin(field.annotation) is tuple else ""
            text = f"{key}: no value; {meaning} Set it: pulumi config set {_path(top, place)} VALUE"
        elif item["type"] == "too_short" and item["input"] == []:
            text = (
                f"{key}: an empty list, which means none; limit: at least {item['ctx']['min_length']}. {meaning} Correct it in {origin}; "
                "without the key its default counts"
            )
        elif item["type"] == "extra_forbidden":
            # Within a value: refuse_unknown has named those of the model itself.
            text = _unknown(key, field.annotation)
        elif isinstance(item["input"], dict) and "secure" in item["input"]:
            # Left out it would count as not set, and the default would be taken.
            text = f"{key}: encrypted; limit: plain text, as the commands have no key. Correct it: pulumi config set --plaintext {PROJECT}:{key} VALUE"
        else:
            value = "no value" if item["input"] is None else f"value {_shown(item['input'])}"
            limit = item["msg"].removeprefix("Value error, ")
            text = f"{key}: {value}; limit: {limit}. {meaning} Correct it{_how(top, item['loc'][1:], item['input'], origin)}"
        lines.append(text)
    return ConfigError(f"{origin} is not usable:\n  " + "\n  ".join(lines))


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "of thousands of digits"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def _unknown(key: str, model: Any) -> str:
    *above, last = key.split(".")
    known = known_keys(model)
    near = {one.lower(): one for one in known}
    close = get_close_matches(last.lower(), near, cutoff=0.75)
    like = (
        f"is {' or '.join('.'.join([*above, near[one]]) for one in close)} meant?"
        if close
        else f"known are {', '.join(sorted(known))}."
    )
    return f"{key}: unknown key; {like} Remove it or correct its spelling"


def _how(top: str, below: tuple[int | str, ...], value: object, origin: str) -> str:
    # Pulumi, 'pulumi config set': what lies within a value is named by a path.
    if isinstance(value, list | dict) or _KEY in below:
        return f" in {origin}"
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in below)
    return f": pulumi config set {_path(top, path)} VALUE"


def _path(top: str, below: str) -> str:
    return f"--path '{PROJECT}:{top}{below}'" if below else f"{PROJECT}:{top}"


def refuse_unknown(values: Iterable[str], model: type[BaseModel], origin: str = "the configuration") -> None:
    """Raises ConfigError for each of these keys that ``model`` does not have, with those that it is near to."""
    if unknown := sorted(set(values) - set(known_keys(model))):
        raise ConfigError("\n  ".join([f"{origin} is not usable:", *(_unknown(key, model) for key in unknown)]))


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], values: Mapping[str, Any], origin: str = "the configuration") -> M:
    """Validate camelCase ``values`` into ``model``.

    An empty string counts as not set, as the stack files list every key that a team has to fill in; an empty list means none.

    Raises:
        ConfigError: naming each wrong key, its value, the limit and the remedy.
    """
    # By its alias alone: a model takes a field's name too, and one of two spellings would be passed by.
    refuse_unknown(values, model, origin)
    try:
        return model.model_validate({key: value for key, value in values.items() if value not in ("", None)})
    except ValidationError as error:
        raise _explain(error, model, origin) from None


#: A listener rule's header condition reads ``*`` and ``?`` as wildcards and takes 128 characters at most (Elastic Load
#: Balancing, 'HTTP header conditions'); with ``*`` every request that has the header would match.
_SMOKE_VALUE = re.compile(r"[A-Za-z0-9_-]{24,128}")
_SMOKE_REMEDY = f'Set a new one: pulumi config set --secret {PROJECT}:smokeHeaderValue "$(openssl rand -hex 24)"'


def check_smoke_value(value: str, *, secret: bool) -> None:
    """Refuse a smoke header value that somebody could read or guess: who has it passes by the canary's weight.

    Args:
        secret: whether the stack's configuration keeps it encrypted.

    Raises:
        ConfigError: with the limit and the remedy; the value is not in the text.
    """
    if not secret:
        raise ConfigError(f"smokeHeaderValue: stands in the file as plain text; limit: encrypted. {_SMOKE_REMEDY}")
    if not _SMOKE_VALUE.fullmatch(value):
        raise ConfigError(
            f"smokeHeaderValue: {len(value)} characters; limit: 24 to 128 of A-Z, a-z, 0-9, - and _ (the load balancer "
            f"reads * and ? as wildcards). {_SMOKE_REMEDY}"
        )
    if len(set(value.lower())) < 8:
        raise ConfigError(f"smokeHeaderValue: too few different characters; limit: 8. {_SMOKE_REMEDY}")


#: Kinds that JSON has not; the items of a set would come in any order.
_NO_VALUE = frozenset(f"tag:yaml.org,2002:{name}" for name in ("binary", "omap", "pairs", "set"))


class _Once(yaml.SafeLoader):
    """A key that stands twice in a map is an error, as YAML says; PyYAML takes the last one. So is what stands in itself, what is of
    a kind that no value has, and what is none of its kind (`2026-13-01`, `!!int x`), for which PyYAML raises whatever comes up.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        node: Any = super().compose_node(parent, index)
        if node.end_mark is None:  # of a list or map whose end has not come yet
            raise yaml.MarkedYAMLError(problem="it stands in itself", problem_mark=node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        names = [name.value for name, _ in node.value]
        for at, (name, _) in enumerate(node.value):
            if name.value in names[:at]:
                raise yaml.MarkedYAMLError(problem=f"{name.value} stands in it twice", problem_mark=name.start_mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag in _NO_VALUE:
            raise yaml.MarkedYAMLError(problem=f"{node.tag} is no kind of a value here", problem_mark=node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            problem = f"{_shown(node.value)} is no {node.tag.rpartition(':')[2]}; a text like that stands in quotes"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


def stack_text(path: Path) -> str:
    """The text of a stack's file, its line ends as they are. Raises ConfigError when it cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; name another stack with --stack, or make it: task-migration init"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no text in UTF-8: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}; it has to be a file that this user may read"
        ) from None


def read_stack_file(path: Path) -> dict[str, Any]:
    """The ``task-migration:`` keys of a ``Pulumi.<stack>.yaml``, without their prefix, as their types have them; the secret ones are
    left out.

    Raises:
        ConfigError: the file is missing or is not YAML of the expected shape.
    """
    try:
        document = yaml.load(stack_text(path), _Once)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}; correct it") from None
    except RecursionError:
        raise ConfigError(f"{path} has lists or maps in each other, too many to be read; correct it") from None
    if document is None:  # nothing but comments
        return {}
    config = document.get("config", {}) if isinstance(document, dict) else None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} has no `config:` map; compare it with Pulumi.staging.yaml")
    prefix = f"{PROJECT}:"
    values = {str(key).removeprefix(prefix): value for key, value in config.items() if str(key).startswith(prefix)}
    return {key: typed(key, value) for key, value in values.items() if key not in SECRET_KEYS}


def migration_config(values: Mapping[str, Any], origin: str = "the configuration") -> MigrationConfig:
    """The part of a stack's values that the database commands need; the rest may still be unset, but not unknown.

    Raises:
        ConfigError: a key is unknown, or one of this part's values is not usable.
    """
    refuse_unknown(values, StackConfig, origin)
    return part(MigrationConfig, values, origin)


def part(model: type[M], values: Mapping[str, Any], origin: str = "the configuration") -> M:
    """As :func:`parse`, of the keys that ``model`` has; the others are not looked at."""
    own = known_keys(model)
    return parse(model, {key: value for key, value in values.items() if key in own}, origin)
