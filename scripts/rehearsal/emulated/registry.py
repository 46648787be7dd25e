"""The one table of resource types, and the operations that both engines ask of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from scripts.rehearsal.emulated import (
    containers,
    database,
    gateway,
    identity,
    monitoring,
    network,
    properties,
    replication,
    routes,
    scaling,
    storage,
    topics,
)
from scripts.rehearsal.emulated.core import Aws, Inputs, Kind, Made, ProviderError, explain, is_missing

_MODULES = (containers, database, gateway, identity, monitoring, network, replication, routes, scaling, storage, topics)
KINDS: Mapping[str, Kind] = {kind.resource_type: kind for module in _MODULES for kind in module.KINDS}

#: What a call may raise when the API or the declared inputs are at fault; anything else is a defect of this program.
CALL_ERRORS = (
    ClientError,
    BotoCoreError,
    ResponseParserError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Difference:
    """What differs between old and new inputs: all properties, and those that make a replacement necessary."""

    changed: tuple[str, ...]
    replaces: tuple[str, ...]
    delete_first: bool


def kind_of(token: str) -> Kind:
    """The kind of a type token. Raises ProviderError for a type that the emulation does not know."""
    try:
        return KINDS[token]
    except KeyError:
        raise ProviderError(
            f"the emulated provider does not know {token}; add it to scripts/rehearsal/emulated (it knows {len(KINDS)} types)"
        ) from None


def difference(token: str, old: Inputs, new: Inputs, ignored: Iterable[str] = ()) -> Difference:
    """What a preview shows: ``new`` inputs against those that come back for the ``old`` ones, but for ``ignored`` paths."""
    kind = kind_of(token)
    now = {**old, **kind.answered(old)}
    changed = _changed(kind, now, properties.ignore_changes(new, now, ignored))
    replaces = tuple(key for key in changed if key in kind.force_new)
    named = bool(kind.unique) and all(old.get(key) == new.get(key) for key in kind.unique)
    return Difference(tuple(changed), replaces, bool(replaces) and named)


def _changed(kind: Kind, old: Inputs, new: Inputs) -> list[str]:
    """Properties that differ; unset and null are the same, documents are compared as the provider compares them."""
    changed = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if before == after or (before in (None, {}, []) and after in (None, {}, [])):
            continue
        if not kind.same(key, before, after):
            changed.append(key)
    return changed


def check(token: str, inputs: Inputs) -> list[tuple[str, str]]:
    """(property, reason) of every input that can be judged without a call."""
    return kind_of(token).check(inputs)


@contextmanager
def _explained(what: str, *, gone: bool = False) -> Iterator[None]:
    """Errors inside are ProviderErrors; that there is no such thing is none where it may be ``gone``."""
    try:
        yield
    except CALL_ERRORS as error:
        if not (gone and isinstance(error, ClientError) and is_missing(error)):
            raise explain(error, what) from error


def create(aws: Aws, token: str, inputs: Inputs) -> Made:
    """Make it. Raises ProviderError."""
    kind = kind_of(token)
    with _explained(f"cannot create {token}"):
        id_ = kind.create(aws, inputs)
        return Made(id_, {**inputs, **kind.read(aws, id_, inputs)})


def update(aws: Aws, token: str, id_: str, old: Inputs, new: Inputs) -> dict[str, Any]:
    """Change it in place; the new outputs. Raises ProviderError."""
    kind = kind_of(token)
    changed = frozenset(_changed(kind, old, new))
    with _explained(f"cannot update {token}"):
        if settings := changed - {"tags"}:
            kind.update(aws, id_, old, new, settings)
        outputs = kind.read(aws, id_, new)
        if "tags" in changed:
            kind.retag(aws, {"id": id_, **outputs}[kind.tagged_as], old, new)
        return {**new, **outputs}


@dataclass(frozen=True)
class Found:
    """A resource as it is now: the inputs that would declare it so, and its outputs."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]


def read(aws: Aws, token: str, id_: str, inputs: Inputs) -> Found | None:
    """What the API holds, None when it is gone; without ``inputs`` it is an import. Raises ProviderError."""
    kind = kind_of(token)
    with _explained(f"cannot read {token}", gone=True):
        inputs = inputs or kind.standing(aws, id_)
        found = kind.read(aws, id_, inputs)
        now = {**inputs, **kind.drift(aws, id_, inputs)}
        return Found(now, {**now, **found})
    return None


def delete(aws: Aws, token: str, id_: str, state: Inputs) -> None:
    """Unmake it; that it is gone already is no error. Raises ProviderError."""
    kind = kind_of(token)
    with _explained(f"cannot delete {token}", gone=True):
        kind.delete(aws, id_, state)
