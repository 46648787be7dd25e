"""The end of a migration, written on the source's tables themselves: by then the helper schema is gone, and a journal decides nothing."""

from __future__ import annotations

from functools import partial

from psycopg import sql

from components.config import MigrationConfig
from scripts.database import helper_schema
from scripts.database.connections import Connection
from scripts.database.queries import QUERIES
from scripts.support.errors import Refused

#: How the line of a table's comment begins that says so; only a table's owner can write it.
MARK = "task-migration finalized: "


def put(source: Connection, config: MigrationConfig, text: str | None) -> None:
    """Have each table's comment say, beside what it says already, that the current rows are elsewhere since ``text``; None: no more.

    Raises:
        TimedOut: a table's lock was not to be had.
    """
    for name, before in _comments(source, config):
        others = "\n".join(line for line in before.split("\n") if not line.startswith(MARK))
        after = "\n".join(filter(None, (others, text and f"{MARK}{text}")))
        if text or MARK in before:
            comment = sql.SQL("COMMENT ON TABLE {} IS {}").format(
                sql.Identifier(config.db_schema, name), sql.Literal(after or None)
            )
            helper_schema.with_lock_retries(partial(source.execute, comment), f"the comment of {name}")


def found(source: Connection, config: MigrationConfig) -> str | None:
    """Since when the current rows are elsewhere, as a table's comment has it; None: they are here, or a migration is under way."""
    if helper_schema.installed(source):
        return None
    lines = (line for _, comment in _comments(source, config) for line in comment.split("\n"))
    return next((line.removeprefix(MARK) for line in lines if line.startswith(MARK)), None)


def refuse(source: Connection, config: MigrationConfig, text: str) -> None:
    """Raises Refused where `finalize` came to its end and no copy began anew since; ``text`` says what that means for who asks."""
    since = found(source, config)
    if since is not None:
        raise Refused(f"`finalize` ended on {since}: {text}")


def _comments(source: Connection, config: MigrationConfig) -> list[tuple[str, str]]:
    rows = source.execute(QUERIES["comments"], (config.db_schema, list(config.tables))).fetchall()
    return [(str(name), str(comment or "")) for name, comment in rows]
