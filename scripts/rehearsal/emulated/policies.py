"""Policies as AWS hands them back, and when AWS's provider takes two of them for the same.

What is modelled: AWS writes a list of one as its element, a value of a condition as text and, but for S3, ``*`` as a map (IAM,
'AWS JSON policy elements: Principal'). The provider compares by the library awspolicyequivalence: the order of statements and of
lists is nothing to it, and a list of one is its element; but a value of a condition that is no text is equal to nothing, so such
a policy differs from itself at every preview.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LISTS = ("Action", "NotAction", "Resource", "NotResource")
_PRINCIPALS = ("Principal", "NotPrincipal")


def stored(text: str, *, star: bool = False) -> str:
    """The policy ``text`` as AWS hands it back; with ``star`` a principal ``*`` stays one, as S3 does it."""
    document = {"Version": "2008-10-17", **json.loads(text)}
    document["Statement"] = [_stored(one, star=star) for one in _list(document.get("Statement", []))]
    return json.dumps(document)


def _stored(statement: Mapping[str, Any], *, star: bool) -> dict[str, Any]:
    made = {key: _single(value) if key in _LISTS else value for key, value in statement.items()}
    for key in _PRINCIPALS:
        if made.get(key) == "*" and not star:
            made[key] = {"AWS": "*"}
        elif isinstance(made.get(key), Mapping):
            made[key] = {kind: _single(who) for kind, who in made[key].items()}
    if made.get("Condition"):
        made["Condition"] = {
            operator: {key: _single([_text(one) for one in _list(value)]) for key, value in block.items()}
            for operator, block in made["Condition"].items()
        }
    return made


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def same_policy(left: Any, right: Any) -> bool:
    """Whether the provider takes two policies for the same; a text that is no policy is the same as its equal alone."""
    try:
        first, second = json.loads(left), json.loads(right)
        heads = [{key: document.get(key, "") for key in ("Version", "Id")} for document in (first, second)]
        statements = [sorted(map(_compared, _list(document["Statement"]))) for document in (first, second)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return bool(left == right)
    return heads[0] == heads[1] and statements[0] == statements[1] and not any('"#' in one for one in statements[0])


def _compared(statement: Mapping[str, Any]) -> str:
    """A statement in the form that the library compares; ``#`` stands for a value that it finds equal to nothing."""

    def elements(value: Any) -> list[str]:
        return sorted(one if isinstance(one, str) else "#" for one in _list(value))

    def principals(value: Any) -> Any:
        return {key: elements(who) for key, who in value.items()} if isinstance(value, Mapping) else value

    made: dict[str, Any] = {key: elements(value) for key, value in statement.items() if key in _LISTS}
    made |= {key: principals(statement[key]) for key in _PRINCIPALS if key in statement}
    made["Condition"] = {
        operator: {key: elements(value) for key, value in block.items()}
        for operator, block in (statement.get("Condition") or {}).items()
    }
    return json.dumps([str(statement.get("Sid", "")), str(statement.get("Effect", "")).lower(), made], sort_keys=True)
