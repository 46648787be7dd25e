"""Property values as they travel between program, engine and provider: secrets and unknowns are marked in them.

A *raw* value is JSON in which a secret is a map with Pulumi's secret signature and an unknown is Pulumi's sentinel text
(pulumi/sdk/python, runtime/rpc.py). A *plain* value has neither mark; only plain values reach an API call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from pulumi.runtime import rpc

UNKNOWN = rpc.UNKNOWN
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - the mark of a secret, no secret itself
_REFERENCE = "5cf8f73096256a8f31e491e813e4eb8e"


def from_struct(message: struct_pb2.Struct) -> dict[str, Any]:
    """A protobuf struct as a raw value; whole numbers become integers, which the APIs want."""
    return dict(_whole(json_format.MessageToDict(message)))


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def to_struct(raw: Mapping[str, Any]) -> struct_pb2.Struct:
    """A raw value as a protobuf struct."""
    return json_format.ParseDict(dict(raw), struct_pb2.Struct())


def is_secret(value: Any) -> bool:
    """Whether the value itself carries the secret mark."""
    return isinstance(value, Mapping) and value.get(_SIGNATURE) == _SECRET


def secret(value: Any) -> dict[str, Any]:
    """The value, marked secret."""
    return dict(value) if is_secret(value) else {_SIGNATURE: _SECRET, "value": value}


def has_secret(value: Any) -> bool:
    """Whether anything in the value is secret."""
    if isinstance(value, Mapping):
        return is_secret(value) or any(has_secret(item) for item in value.values())
    return isinstance(value, list) and any(has_secret(item) for item in value)


def has_unknown(value: Any) -> bool:
    """Whether anything in the value is not known yet."""
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list):
        return any(has_unknown(item) for item in value)
    return bool(value == UNKNOWN)


def plain(value: Any) -> Any:
    """The value without marks; a reference to a resource is its id."""
    if isinstance(value, Mapping):
        if is_secret(value):
            return plain(value.get("value"))
        if value.get(_SIGNATURE) == _REFERENCE:
            return value.get("id")
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def with_secrets_of(outputs: Mapping[str, Any], inputs: Mapping[str, Any], more: Iterable[str] = ()) -> dict[str, Any]:
    """``outputs`` with those properties marked secret that hold a secret in the raw ``inputs``, and ``more``."""
    hidden = {key for key, value in inputs.items() if has_secret(value)} | set(more)
    return {key: secret(value) if key in hidden else value for key, value in outputs.items()}


def ignore_changes(new: Mapping[str, Any], old: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """``new`` with the values at ``paths`` (such as ``a.b[0]``) taken from ``old``, as Pulumi's ignoreChanges does."""
    result = dict(new)
    for path in paths:
        steps = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]\"]+", path)]
        if path == "*":
            return dict(old)
        _carry(result, old, steps)
    return result


def _carry(new: Any, old: Any, steps: list[str | int]) -> None:
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        if not (isinstance(new, list) and isinstance(old, list) and step < min(len(new), len(old))):
            return
        if rest:
            new[step] = _copied(new[step])
            _carry(new[step], old[step], rest)
        else:
            new[step] = old[step]
        return
    if not (isinstance(new, dict) and isinstance(old, Mapping)):
        return
    if rest:
        if step in new and step in old:
            new[step] = _copied(new[step])
            _carry(new[step], old[step], rest)
    elif step in old:
        new[step] = old[step]
    else:
        new.pop(step, None)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(value)
    return list(value) if isinstance(value, list) else value
