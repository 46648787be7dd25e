"""Static SQL stands in a room's `queries.sql`, each statement named and described, and is read here once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

_HEAD = re.compile(r"^-- (?P<name>[a-z][a-z0-9_]*): \S.*$", re.MULTILINE)


def load(package: str, file: str = "queries.sql") -> Mapping[str, str]:
    """The statements of ``file`` in ``package`` by name. Each begins with a line ``-- name: what it answers``; further
    comment lines may follow; holes are those of psycopg (``%s``, ``%(name)s``) or of ``psycopg.sql`` (``{name}``).

    Raises:
        ValueError: a name stands twice, or a statement is empty.
    """
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    parts = list(_HEAD.finditer(text))
    found: dict[str, str] = {}
    for head, after in zip(parts, [*parts[1:], None], strict=True):
        name = head["name"]
        body = text[head.end() : after.start() if after else len(text)]
        statement = "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip()
        if not statement or name in found:
            raise ValueError(f"{package}/{file}: {name} is {'empty' if not statement else 'there twice'}")
        found[name] = statement
    return MappingProxyType(found)


#: The statements of this room.
QUERIES = load("scripts.database")
