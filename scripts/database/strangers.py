"""Code of others that would run with the operator's rights when he writes: looked for before he does, and refused by name.

A trigger, a rule, a check, a default, an index's expression, a cast of a column's type: PostgreSQL runs each with the rights of whoever
writes the row (PostgreSQL, 'Rules and Privileges', 'CREATE TRIGGER', 'CREATE CAST'). So nobody but the operator may own what they hang on.
Policies of rows are never asked, as every session of ours has `row_security = off`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from components.config import MigrationConfig
from scripts.database import queries
from scripts.database.connections import Connection
from scripts.database.sides import both
from scripts.support.errors import Refused
from scripts.support.settings import Settings
from scripts.support.sides import BOTH, Side

QUERIES = queries.load("scripts.database", "strangers.sql")
Kind = Literal["owner", "schema", "trigger", "rule", "event trigger", "function", "type"]
#: What an owner keeps that hands his tables over: the monolith goes on writing, the Task Service gets its rights by `replicate start`.
KEPT: dict[Side, str] = {"source": "SELECT, INSERT, UPDATE, DELETE", "target": "SELECT"}


@dataclass(frozen=True)
class Stranger:
    """One thing of others: of what kind, what in words, and the SQL that mends it."""

    kind: Kind
    what: str
    remedy: str


def find(connection: Connection, config: MigrationConfig, side: Side) -> list[Stranger]:
    """Everything of others that writes of this session to the moved tables and to the helper schema would run, or could be made to."""
    names = {"schema": config.db_schema, "tables": list(config.tables), "given": KEPT[side]}
    return [Stranger(*row) for row in connection.execute(QUERIES["strangers"], names)]


def find_called(source: Connection, target: Connection, config: MigrationConfig) -> list[Stranger]:
    """Functions of others on the target that the source's indexes and keys name: `copy` makes those there, which calls them."""
    named = source.execute(QUERIES["named"], {"schema": config.db_schema, "tables": list(config.tables)}).fetchall()
    given = {"operators": [row[0] for row in named], "names": [row[1] for row in named]}
    return [Stranger("function", *row) for row in target.execute(QUERIES["theirs"], given)]


def refuse(connection: Connection, config: MigrationConfig, side: Side, but: Collection[Kind] = ()) -> None:
    """Before a command's first write.

    Args:
        but: kinds that the command itself mends.

    Raises:
        Refused: something of others is there; the text names all of it, each with the SQL that mends it.
    """
    refuse_any(side, [one for one in find(connection, config, side) if one.kind not in but])


def refuse_both(settings: Settings, step: str) -> None:
    """:func:`refuse` on both sides, with sessions of its own named for ``step``."""
    with both(settings, step, "looking for code of others") as connections:
        for side, connection in zip(BOTH, connections, strict=True):
            refuse(connection, settings.config, side)


def refuse_any(side: Side, found: Sequence[Stranger]) -> None:
    """Raises Refused when something was ``found``."""
    if found:
        listed = "; ".join(f"{one.what} ({one.remedy})" for one in found)
        raise Refused(
            f"code of others on the {side} would run with the operator's rights, the limit is none, and nothing was written: {listed}. "
            "Read what it does, then mend it as a role that may, and run the command again"
        )
